"""Make one picture of a video: frames in reading order, with the time of each row.

    python -m tools.contact_sheet video.mp4 sheet.png [--columns 8] [--seconds-per-row 1]

From the repository's root. Needs PyAV and Pillow, which ComfyUI brings.
"""

import argparse
import math

import av
from PIL import Image, ImageDraw, ImageFont

GAP, MARGIN = 4, 88  # pixels between frames; left of a row, for its time
BACKGROUND, TEXT = (24, 24, 24), (210, 210, 210)


def read_video(path):
    """All frames as PIL images, and the frame rate."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        return [frame.to_image() for frame in container.decode(stream)], float(stream.average_rate)


def contact_sheet(frames, fps, columns=8, seconds_per_row=None, width=128):
    """One row per `seconds_per_row` (default: a second, or what keeps 20 rows at most); frames are `width` wide."""
    seconds = len(frames) / fps
    seconds_per_row = seconds_per_row or max(1, math.ceil(seconds / 20))
    rows = math.ceil(seconds / seconds_per_row)
    height = round(width * frames[0].height / frames[0].width)
    resampling = Image.Resampling.NEAREST if width > frames[0].width else Image.Resampling.LANCZOS
    sheet = Image.new("RGB", (MARGIN + columns * (width + GAP), GAP + rows * (height + GAP)), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default(14)
    for row in range(rows):
        y = GAP + row * (height + GAP)
        start = row * seconds_per_row
        draw.text((8, y + 6), f"{start:g} s\nframe {round(start * fps)}", TEXT, font)
        for column in range(columns):
            index = round((start + column * seconds_per_row / columns) * fps)
            if index < len(frames):
                frame = frames[index].resize((width, height), resampling)
                sheet.paste(frame, (MARGIN + column * (width + GAP), y))
    return sheet


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video")
    parser.add_argument("sheet")
    parser.add_argument("--columns", type=int, default=8)
    parser.add_argument("--seconds-per-row", type=float)
    options = parser.parse_args()
    frames, fps = read_video(options.video)
    contact_sheet(frames, fps, options.columns, options.seconds_per_row).save(options.sheet)


if __name__ == "__main__":
    main()
