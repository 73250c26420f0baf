"""Videos beside each other: which frame of each is seen at what time, and where. No pixels here."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDEST = 4096  # pixels of a row: as wide as the decoders of browsers and graphics cards go
BLOCK = 16  # pixels of a codec's block: what begins at its border does not bleed into what is beside it
GAP = 8  # least pixels between two videos
BAND = 32  # pixels over a row of videos, for their names


@dataclass(frozen=True)
class Clip:
    """A video: frames, frames per second, pixels."""

    count: int
    rate: float
    width: int
    height: int


@dataclass(frozen=True)
class Layout:
    """A page and the videos' boxes (x, y, width, height) in it, in pixels; all numbers are even."""

    width: int
    height: int
    boxes: tuple[tuple[int, int, int, int], ...]


def shared_rate(clips: Sequence[Clip]) -> float:
    """The rate of all together: that of the fastest, so that no frame is left out."""
    return max(clip.rate for clip in clips)


def shared_frames(clips: Sequence[Clip]) -> list[int]:
    """How long each of them is, in frames of the shared rate; all together are as long as the longest."""
    rate = shared_rate(clips)
    return [max(1, math.ceil(clip.count * rate / clip.rate - 1e-6)) for clip in clips]


def frame_of(clip: Clip, at: int, rate: float) -> int:
    """The frame of a video at frame `at` of all together; the last one where it is over."""
    return min(int(at * clip.rate / rate + 1e-6), clip.count - 1)


def even(pixels: float) -> int:
    return max(2, 2 * round(pixels / 2))


def next_block(pixels: float) -> int:
    return math.ceil(pixels / BLOCK) * BLOCK


def arranged(clips: Sequence[Clip], height: int) -> Layout:
    """All videos at one height, in as many rows as WIDEST asks for; lower where a single one would be wider."""
    height = min(height, *(int(WIDEST * clip.height / clip.width) for clip in clips))
    height = max(2, height // 2 * 2)
    boxes, x, y, right = [], 0, BAND, 0
    for clip in clips:
        width = min(even(height * clip.width / clip.height), WIDEST)
        if boxes and x + width > WIDEST:
            x, y = 0, next_block(y + height + BAND)
        boxes.append((x, y, width, height))
        right = max(right, x + width)
        x = next_block(x + width + GAP)
    return Layout(right, y + height, tuple(boxes))


def moments(frames: int, columns: int) -> list[int]:
    """Up to `columns` frames, evenly spread, the first and the last among them."""
    count = min(frames, columns)
    return [round(i * (frames - 1) / max(count - 1, 1)) for i in range(count)]
