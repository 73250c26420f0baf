"""A template's square picture: frames of its video in reading order, or where its model is not at hand, what its graph
does: the events in time and the windows under them.

    python -m tools.thumbnail timeline video.mp4   # of a run (start.py demo --method timeline)
    python -m tools.thumbnail measure plot.png     # the upper part of a picture that a run made
    python -m tools.thumbnail wan_1_3b_timeline    # drawn from workflows/api/wan_1_3b_timeline.json

From the repository's root. Needs PyAV and Pillow, which ComfyUI brings.
"""

import json
import re
import sys
import textwrap

from PIL import Image, ImageDraw, ImageFont

from .contact_sheet import read_video
from .make_workflows import INDEX, WORKFLOWS, file_name

SIDE, GAP = 400, 4  # pixels
PAGE, TEXT, FAINT = "#17191e", "#f2f3f5", "#9aa1ad"
EVENTS = ("#3f7fc4", "#c98338", "#4f9d5d", "#9a63b8")
LENGTHS = {"EmptyHunyuanLatentVideo", "EmptyHunyuanVideo15Latent", "EmptyLTXVLatentVideo", "WanImageToVideo"}


def of_frames(frames):
    """Rows of frames that fill the square, from the first frame to the last."""
    aspect = frames[0].width / frames[0].height
    columns = 3 if aspect < 1.5 else 2
    width = (SIDE - GAP * (columns + 1)) // columns
    height = round(width / aspect)
    rows = max((SIDE - GAP) // (height + GAP), 1)
    page = Image.new("RGB", (SIDE, SIDE), PAGE)
    top = (SIDE - rows * (height + GAP) + GAP) // 2
    for i in range(rows * columns):
        frame = frames[round(i * (len(frames) - 1) / (rows * columns - 1))].resize((width, height))
        page.paste(frame, (GAP + i % columns * (width + GAP), top + i // columns * (height + GAP)))
    return page


def read_graph(name):
    """Of an API graph: events [(start as a part of the video, text)], frames, fps, window and stride in frames."""
    nodes = json.loads((WORKFLOWS / "api" / f"{name}.json").read_text(encoding="utf-8")).values()
    by_kind = {node["class_type"]: node["inputs"] for node in reversed(list(nodes))}
    length = max(node["inputs"]["length"] for node in nodes if node["class_type"] in LENGTHS)
    fps = (by_kind.get("CreateVideo") or by_kind["LongTakeDecodeToVideo"])["fps"]
    windows = by_kind.get("LongTakeWindowScheduler")
    sampler = by_kind.get("LongTakeSynCoSKSampler") or by_kind.get("LongTakeSynCoSSampler")
    c = 8 if "EmptyLTXVLatentVideo" in by_kind else 4  # pixel frames per latent frame
    window, stride = (
        (windows["window_length"], c * ((windows["window_length"] - 1) // c + 1 - windows["overlap"] // c)) if windows
        else (sampler["window_length"], sampler["stride"])
    )  # fmt: skip
    if "LongTakePromptTimeline" in by_kind:
        lines = by_kind["LongTakePromptTimeline"]["events"].splitlines()
        events = [(float(re.match(r"([\d.]+)s: ", line)[1]) * fps / length, line.split(": ", 1)[1]) for line in lines]
    else:
        events = [(0.0, by_kind["CLIPTextEncode"]["text"])]
    return events, length, fps, window, stride


def of_graph(name):
    events, length, fps, window, stride = read_graph(name)
    title = next(entry["title"] for entry in INDEX["templates"] if entry["name"] == name)
    page = Image.new("RGB", (SIDE, SIDE), PAGE)
    draw = ImageDraw.Draw(page)
    model, what = title.split(" - ", 1)
    draw.text((18, 14), model, TEXT, ImageFont.load_default(40))
    draw.multiline_text((20, 66), "\n".join(textwrap.wrap(what, 32)), FAINT, ImageFont.load_default(22))
    left, width, top, bottom = 16, SIDE - 32, 128, 262
    ends = [start for start, _ in events[1:]] + [1.0]
    for i, ((start, text), end) in enumerate(zip(events, ends, strict=True)):
        x0, x1 = left + width * start + 1, left + width * end - 1
        draw.rounded_rectangle((x0, top, x1, bottom), 7, EVENTS[i % len(EVENTS)])
        font = ImageFont.load_default(15)
        lines = textwrap.wrap(text, max(int((x1 - x0 - 14) / 8), 6), max_lines=6, placeholder=" ...")
        draw.multiline_text((x0 + 8, top + 8), "\n".join(lines), TEXT, font)
    starts = [*range(0, max(length - window, 0), stride), max(length - window, 0)]
    pitch = min((SIDE - 40 - bottom - 12) / len(starts), 15)
    for i, start in enumerate(starts):
        middle = (start + window / 2) / length
        colour = max(k for k, (begin, _) in enumerate(events) if begin <= middle)
        y = bottom + 12 + i * pitch
        box = (left + width * start / length, y, left + width * min((start + window) / length, 1), y + pitch - 3)
        draw.rounded_rectangle(box, 2, EVENTS[colour % len(EVENTS)])
    seconds = f"{length} frames, {length / fps:.0f} s; windows of {window}"
    draw.text((18, SIDE - 32), seconds, FAINT, ImageFont.load_default(18))
    return page


def of_picture(path):
    """The upper part of a picture, as wide as the square."""
    picture = Image.open(path).convert("RGB")
    side = min(picture.size)
    return picture.crop((0, 0, side, side)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main(name, made=None):
    page = of_graph(name) if not made else of_picture(made) if made.endswith(".png") else of_frames(read_video(made)[0])
    page.save(WORKFLOWS / f"{file_name(name)}.jpg", quality=90)


if __name__ == "__main__":
    main(*sys.argv[1:])
