"""The window chart as a picture: samplers/chart.py's data, drawn with PIL."""

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

SIZE = (960, 540)
PAGE, PANEL, LINE, TEXT, FAINT = "#1b1d22", "#24272e", "#4a4f5a", "#e6e8ec", "#9aa1ad"
LOCAL = ("#5b9bd5", "#d99a4e")  # neighbouring windows
DILATED = "#7ed985"
LEFT, RIGHT, TOP, GAP = 60, 24, 76, 34


def picture(width: int = SIZE[0], height: int = SIZE[1]) -> Image.Image:
    return Image.new("RGB", (width, height), PAGE)


def to_image(page: Image.Image) -> torch.Tensor:
    """[1, H, W, 3] in 0..1, ComfyUI's IMAGE."""
    return torch.from_numpy(np.asarray(page, dtype=np.float32) / 255.0)[None]


def draw_message(lines: list[str]) -> torch.Tensor:
    page = picture()
    ImageDraw.Draw(page).multiline_text((LEFT, TOP), "\n".join(lines), TEXT, ImageFont.load_default(17), spacing=10)
    return to_image(page)


def _spans(data: dict, row: dict) -> list[tuple[int, int]]:
    """Where the local windows of a step begin and end."""
    layout = row["layout"]
    return [] if layout is None else list(zip(data["layouts"][layout], data["ends"][layout], strict=True))



def draw_chart(data: dict, title: str, notes: list[str]) -> torch.Tensor:
    """The chart of chart.chart_data's result as an IMAGE: fuse weights above, frames x step below."""
    page = picture()
    draw = ImageDraw.Draw(page)
    small, large = ImageFont.load_default(14), ImageFont.load_default(18)
    draw.text((LEFT, 16), title, TEXT, large)
    draw.text((LEFT, 44), "; ".join(notes), FAINT, small)
    width = SIZE[0] - LEFT - RIGHT
    frames = data["frames"]

    def x(frame: float) -> float:
        return LEFT + width * frame / frames

    top, bottom = TOP, TOP + 120
    draw.rectangle((LEFT, top, LEFT + width, bottom), PANEL)
    row = data["steps"][data["step"]]
    spans = _spans(data, row)
    for k, ((start, end), weights) in enumerate(zip(spans, data["weights"], strict=False)):
        points = [(x(start + i + 0.5), bottom - (bottom - top - 8) * w) for i, w in enumerate(weights)]
        points = [(x(start), points[0][1]), *points, (x(end), points[-1][1])]
        draw.line([(min(max(a, LEFT), LEFT + width), b) for a, b in points], LOCAL[k % 2], 2)
    draw.text((8, top), "weight\nof each\nwindow", FAINT, small)
    for k, look in enumerate(data["dilated"]):  # one above the other, in the height of one
        high = 8 / len(data["dilated"])
        y = bottom + 8 + k * high
        for frame in look["first"]:
            draw.rectangle((x(frame), y, max(x(frame + 1) - 1, x(frame) + 1), y + max(high - 1, 1)), DILATED)
    if data["dilated"]:
        draw.text((8, bottom + 3), "global", DILATED, small)

    top, bottom = bottom + GAP, SIZE[1] - 44
    height = (bottom - top) / len(data["steps"])
    draw.rectangle((LEFT, top, LEFT + width, bottom), PANEL)
    for i, row in enumerate(data["steps"]):
        y0, y1 = top + i * height, top + (i + 1) * height - (2 if height > 6 else 1)
        spans = _spans(data, row)
        middle = (y0 + y1) / 2 if len(spans) > 1 else y1
        for k, (start, end) in enumerate(spans):  # by turns in the upper and the lower half of the row: overlaps show
            half = (y0, middle) if k % 2 == 0 else (middle, y1)
            end = min([end, *(span[0] for span in spans[k + 2 : k + 3])])  # where the next one in the same half begins
            if end > 0:  # what lies in the video of one that goes around a loop; at least a pixel of each
                first = x(max(start, 0))
                draw.rectangle((first, half[0], max(x(min(end, frames)) - 2, first), half[1]), LOCAL[k % 2])
        if row["gamma"] > 0:
            draw.rectangle((LEFT - 8, y0, LEFT - 3, y1), DILATED)
    draw.text((8, top), "step 1", FAINT, small)
    draw.text((8, bottom - 18), str(len(data["steps"])), FAINT, small)
    for part in range(5):
        frame = round((data["pixel_frames"] - 1) * part / 4)
        text = f"frame {frame}" if part == 0 else str(frame)
        anchor = "la" if part == 0 else "ra" if part == 4 else "ma"
        draw.text((LEFT + width * part / 4, bottom + 8), text, FAINT, small, anchor=anchor)
    return to_image(page)
