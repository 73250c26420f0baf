"""Pictures of measured videos: curves over the frames, and groups beside each other."""

import math
from collections.abc import Mapping, Sequence

import torch
from PIL import ImageDraw, ImageFont

from ..samplers.adapters.side_by_side import fitted
from ..samplers.metrics.compare import ALIKE, BETTER, OTHER, UNKNOWN, WORSE, Cell
from ..samplers.metrics.scenes import cuts
from ..samplers.metrics.series import Series
from ..samplers.metrics.summary import colour_curve
from .chart import FAINT, PANEL, TEXT, picture, to_image

WIDTH, LEFT, RIGHT, TOP, BOTTOM = 1024, 84, 24, 64, 40
ROW, GAP = 116, 46  # pixels of a panel, and between two
CURVES = ("#5b9bd5", "#d99a4e")
SEAM, CUT = "#8a6fd1", "#e05c5c"
JUDGED = {BETTER: "#7ed985", WORSE: "#e05c5c", OTHER: "#d9c54e", ALIKE: FAINT, UNKNOWN: FAINT}
DOTS = ("#5b9bd5", "#d99a4e", "#7ed985", "#c77dba", "#d9c54e", "#62c4c3", "#e05c5c", "#9aa1ad")


def figure(value: float) -> str:
    """A number in few signs."""
    if math.isnan(value):
        return "-"
    digits = 4 if abs(value) < 1 else 3 if abs(value) < 10 else 1
    return f"{value:.{digits}f}"


def panel(draw, top: int, title: str, curves: Sequence[tuple[str, torch.Tensor, int]], frames: int, marks) -> None:
    """Curves (name, values, frame of the first value) over the frames, in one scale."""
    small = ImageFont.load_default(14)
    width, bottom = WIDTH - LEFT - RIGHT, top + ROW
    draw.rectangle((LEFT, top, LEFT + width, bottom), PANEL)
    draw.text((LEFT, top - 22), title, TEXT, small)
    x = LEFT + small.getlength(title) + 24
    for colour, (name, _, _) in zip(CURVES, curves, strict=False):
        if len(curves) > 1:
            draw.line((x, top - 12, x + 18, top - 12), colour, 3)
            draw.text((x + 24, top - 22), name, FAINT, small)
            x += small.getlength(name) + 60

    def place(frame: float) -> float:
        return LEFT + width * (frame + 0.5) / frames

    for frame, colour in marks:
        draw.line((place(frame - 0.5), top, place(frame - 0.5), bottom), colour, 1)
    known = [value for _, values, _ in curves for value in values.tolist() if not math.isnan(value)]
    if not known:
        draw.text((LEFT + 8, top + 8), "too few frames", FAINT, small)
        return
    low, high = min(0.0, min(known)), max(known)
    high = high if high > low else low + 1
    for value, y, anchor in ((high, top, "rt"), (low, bottom, "rb")):
        draw.text((LEFT - 8, y), figure(value), FAINT, small, anchor=anchor)
    for colour, (_, values, first) in zip(CURVES, curves, strict=False):
        points = [
            (place(first + i), bottom - (bottom - top - 4) * (value - low) / (high - low))
            for i, value in enumerate(values.tolist()) if not math.isnan(value)
        ]  # fmt: skip
        if len(points) > 1:
            draw.line(points, colour, 2)
        elif points:
            draw.ellipse((points[0][0] - 3, points[0][1] - 3, points[0][0] + 3, points[0][1] + 3), colour)


def draw_series(series: Series, boundaries: Sequence[int], span: int, rate: float, title: str) -> torch.Tensor:
    """The curves of a video as an IMAGE [1, H, W, 3], with its windows' boundaries and its cuts."""
    frames = len(series)
    scenes = cuts(series.scene.tolist())
    panels = [
        ("Change from frame to frame, 0..1", [("all", series.change, 1), ("not explained by motion", series.warp, 1)]),
        (f"Motion, px of {series.side}", [("largest 5 %", series.motion, 1), ("its change", series.acceleration, 1)]),
        (f"Distance of the colours from the first {span} frames, 0..1", [("", colour_curve(series, span), 0)]),
        ("Sharpness (variance of the Laplacian)", [("", series.sharpness, 0)]),
        ("Structure kept (SSIM)", [("of the frame before", series.ssim, 1), ("of the first", series.ssim_first, 0)]),
    ]
    page = picture(WIDTH, TOP + 30 + len(panels) * (ROW + GAP) + BOTTOM - GAP)
    draw = ImageDraw.Draw(page)
    small, large = ImageFont.load_default(14), ImageFont.load_default(18)
    draw.text((LEFT, 14), fitted(title, large, WIDTH - LEFT - RIGHT), TEXT, large)
    x = LEFT
    for text, colour, some in (("windows' boundaries", SEAM, boundaries), ("cuts", CUT, scenes)):
        if some:
            draw.line((x, 50, x + 18, 50), colour, 3)
            draw.text((x + 24, 42), text, FAINT, small)
            x += small.getlength(text) + 60
    marks = [*((b, SEAM) for b in boundaries), *((c, CUT) for c in scenes)]
    for i, (name, curves) in enumerate(panels):
        panel(draw, TOP + 30 + i * (ROW + GAP), name, curves, frames, marks)
    bottom = page.height - BOTTOM
    for part in range(5):
        frame = round((frames - 1) * part / 4)
        if part and frame == round((frames - 1) * (part - 1) / 4):
            continue
        anchor = "la" if part == 0 else "ra" if part == 4 else "ma"
        at = LEFT + (WIDTH - LEFT - RIGHT) * part / 4
        draw.text((at, bottom + 8), f"{frame} ({frame / rate:.1f} s)", FAINT, small, anchor=anchor)
    return to_image(page)


def draw_groups(names: Sequence[str], found: Mapping[str, list[Cell]], notes: Mapping[str, str]) -> torch.Tensor:
    """Each metric's groups as an IMAGE [1, H, W, 3]: means, their 95 % intervals, and the verdicts."""
    small, large = ImageFont.load_default(14), ImageFont.load_default(18)
    row, left, track, width = 20, 24, 230, WIDTH - 230 - 330
    legend = 58 + 24 * len(names)
    tall = max(row * len(names), 2 * row)
    page = picture(WIDTH, legend + len(found) * (tall + 12) + 12)
    draw = ImageDraw.Draw(page)
    draw.text((left, 14), "Mean, and its 95 % interval where a group has several videos", TEXT, large)
    for i, name in enumerate(names):
        draw.ellipse((left + 2, 52 + 24 * i, left + 14, 64 + 24 * i), DOTS[i % len(DOTS)])
        draw.text((left + 28, 48 + 24 * i), fitted(name, small, WIDTH - 80), TEXT, small)
    for y, (metric, cells) in zip(range(legend, page.height, tall + 12), found.items(), strict=False):
        draw.text((left, y + 1), fitted(metric, small, track - left - 8), TEXT, small)
        draw.text((left, y + 1 + row), notes.get(metric, ""), FAINT, small)
        ends = [c.mean + by * (0 if math.isnan(c.reach) else c.reach) for c in cells if c.count for by in (-1, 1)]
        low, high = min(ends), max(ends)
        by = (width - 40) / (high - low) if high > low else 0.0
        draw.rectangle((track, y, track + width, y + tall), PANEL)
        for i, one in enumerate(cells):
            middle = y + tall * (2 * i + 1) // (2 * len(names))
            if one.count:
                x = track + 20 + (one.mean - low) * by if by else track + width / 2
                if not math.isnan(one.reach):
                    draw.line((x - one.reach * by, middle, x + one.reach * by, middle), DOTS[i % len(DOTS)], 2)
                draw.ellipse((x - 5, middle - 5, x + 5, middle + 5), DOTS[i % len(DOTS)])
            reach = "" if math.isnan(one.reach) else f" +- {figure(one.reach)}"
            draw.text((track + width + 12, middle - 9), f"{figure(one.mean)}{reach} (n {one.count})", TEXT, small)
            draw.text((WIDTH - 24, middle - 9), one.verdict, JUDGED[one.verdict], small, anchor="ra")
    return to_image(page)
