"""How sharply a video follows a timeline of short events, in numbers: pure functions on what the reader sees.

Events differ in one attribute (the background), read in every frame; times are pixel frames.
"""

import math

import torch

from ...backbone.demo import reader, world
from ...backbone.demo.reader import Reading
from .events import mean
from .video import CLIP, Metric

METRICS = {
    "right": Metric("frames right", 1, decimals=1),
    "seen": Metric("events seen", 1, decimals=1),
    "switched": Metric("switches seen", 1, decimals=1),
    "delay": Metric("off by, frames", -1, 1, 1),
    "late": Metric("late by, frames", 0, 1, 1),
    "motion": Metric("motion right", 1, decimals=1),
    "subject": Metric("subject right", 1, decimals=1),
}


def measure(reading: Reading, spans: list[tuple[int, int]], backgrounds: list[str], motion: str, colour: str,
            shape: str) -> dict[str, float]:  # fmt: skip
    """Every metric of METRICS. spans: [start, end) of each event; backgrounds: what they show; the rest is what all of
    them share.

    right: share of all frames that show their own event's background; seen: share of the events of whose frames at
    least half do; switched, delay, late: see `switches`; motion: share of the clips (CLIP frames, side by side) with
    the motion asked for; subject: share of the colour's and shape's frames that are as asked.
    """
    wanted = [reader.BACKGROUNDS.index(name) for name in backgrounds]
    shown = reading.background_index
    own = torch.cat([shown[a:b] == w for (a, b), w in zip(spans, wanted, strict=True)])
    found = switches(shown, spans, wanted)
    clips = [(a, a + CLIP) for a in range(0, len(shown) - CLIP + 1, CLIP)]
    colours, shapes = reader.COLOURS.index(colour), world.SHAPES.index(shape)
    return {
        "right": mean(own),
        "seen": mean([mean(own[a:b]) >= 0.5 for a, b in spans]),
        "switched": mean([not math.isnan(d) for d in found]) if found else math.nan,
        "delay": mean([abs(d) for d in found]) if found else math.nan,
        "late": mean(found) if found else math.nan,
        "motion": mean([reader.motion(reading, a, b) == motion for a, b in clips]) if clips else math.nan,
        "subject": mean(torch.cat([reading.colour_index == colours, reading.shape_index == shapes])),
    }  # fmt: skip


def switches(shown: torch.Tensor, spans: list[tuple[int, int]], wanted: list[int]) -> list[float]:
    """Of each border, how many frames after it the video switches (negative: before); NaN: it does not.

    Looked at are the frames of the two events. The switch is where a step from the first one's background to the second
    one's fits what they show with the fewest other frames, of equally good places the one nearest to the border; it is
    none where one side has no frame of its event.
    """
    found = []
    for (start, border), (_, end), before, after in zip(spans, spans[1:], wanted, wanted[1:]):  # noqa: B905
        frames = shown[start:end]
        first, second = (frames == before).int(), (frames == after).int()
        right = torch.cat((first.new_zeros(1), first.cumsum(0))) + second.sum() - torch.cat(
            (second.new_zeros(1), second.cumsum(0))
        )  # fmt: skip
        places = (right == right.max()).nonzero().flatten() - (border - start)
        place = int(places[places.abs().argmin()])
        at = place + border - start
        found.append(float(place) if first[:at].any() and second[at:].any() else math.nan)
    return found


