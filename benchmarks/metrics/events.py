"""What a video of several events is worth, in numbers: pure functions, built on video.py, whose units hold.

A window of one clip reaches half a clip past a border, so the frames closer to one may be fused from two events. They
are the zone of that border; what is left of an event is its inside, where the event, the subject and the background are
judged. The subject of the first event is what later ones are compared with.
"""

import math

import torch

from ...backbone.demo import reader, world
from ...backbone.demo.reader import Reading
from ..scenarios import Scenario
from . import video as of_video
from .video import Metric

ZONE = of_video.CLIP // 2  # pixel frames to each side of a border
SAME_COLOUR, SAME_SIZE = 0.1, 0.1  # RGB distance, share of the size: up to here it may be the same subject
PULSE = 0.95  # middle of a pulsing subject's sizes, of its size: see world.pose
PERIODS = range(24, 43)  # pixel frames, of world's motions and a bit more

METRICS = {
    "local": Metric("event right", 1, decimals=1),
    "local_motion": Metric("motion right", 1, decimals=1),
    "local_background": Metric("background right", 1, decimals=1),
    "subject_right": Metric("subject right", 1, decimals=1),
    "same_hue": Metric("same hue", 1, decimals=1),
    "same_subject": Metric("same subject", 1, decimals=1),
    "subject_colour": Metric("subject's colour", -1),
    "subject_shape": Metric("subject's shape", -1, decimals=1),
    "subject_size": Metric("subject's size", -1),
    "subject_mark": Metric("subject's mark", -1, decimals=1, main=False),
    "colour_drift": of_video.METRICS["colour_drift"],
    "background_within": Metric("background within", -1),
    "background_between": Metric("background between", -1, main=False),
    "jump_track": Metric("border jump", -1),
    "jump_pixels": Metric("border flash", -1),
    "seam_mae": of_video.METRICS["seam_mae"],
    "seam_track": of_video.METRICS["seam_track"],
    "duplicates": of_video.METRICS["duplicates"],
    "sharpness": Metric("sharpness", 1, 1, 0, main=False),
    "speed": Metric("speed", 0, main=False),
}


def measure(
    video: torch.Tensor, reading: Reading, scenario: Scenario, boundaries: list[int]
) -> dict[str, float]:
    """Every metric of METRICS. `boundaries`: first frames of the windows, as in seams.boundary_ratios."""
    spans = [(event.start, event.end) for event in scenario.timeline(len(reading))]
    inner = insides(spans)
    changes = of_video.frame_differences(video)
    track = torch.stack((reading.x, reading.y, reading.size), 1)
    apart = [b for b in boundaries if all(abs(b - start) > ZONE for start, _ in spans[1:])]
    return {
        **local_accuracy(reading, inner, scenario),
        "subject_right": subject_accuracy(reading, inner, scenario),
        **subject_consistency(reading, inner),
        "colour_drift": of_video.vector_drift(reading.colour_rgb),
        **background_consistency(reading, inner, [background for _, background in scenario.events]),
        "jump_track": border_excess(steady(track).diff(dim=0).norm(dim=1), inner),
        "jump_pixels": border_excess(changes, inner),
        "seam_mae": mean(of_video.boundary_ratios(changes, apart)),
        "seam_track": mean(of_video.boundary_ratios(of_video.track_acceleration(reading), apart)),
        "duplicates": mean(reading.count != 1),
        "sharpness": mean(of_video.laplacian_variance(video)),
        "speed": of_video.speed(reading),
    }  # fmt: skip


def mean(values) -> float:
    return torch.as_tensor(values).double().nanmean().item()


def insides(spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """The events [start, end) without the zones of their borders. Raises ValueError where nothing much is left."""
    last = len(spans) - 1
    inner = [(a + ZONE * (i > 0), b - ZONE * (i < last)) for i, (a, b) in enumerate(spans)]
    if min(b - a for a, b in inner) < ZONE:
        raise ValueError(f"events {spans}: each needs {3 * ZONE} frames, of which {ZONE} are no other event's as well")
    return inner


def vote(indices: torch.Tensor) -> int:
    """The commonest index; -1 where no frame shows a subject."""
    indices = indices[indices >= 0]
    return int(indices.bincount().argmax()) if len(indices) else -1


def named(indices: torch.Tensor, names: tuple[str, ...]) -> str | None:
    index = vote(indices)
    return names[index] if index >= 0 else None


def local_accuracy(reading: Reading, inner: list[tuple[int, int]], scenario: Scenario) -> dict[str, float]:
    """Share of the events whose inside shows their motion, their background, and ("local") both."""
    seen = [(reader.motion(reading, a, b), named(reading.background_index[a:b], reader.BACKGROUNDS)) for a, b in inner]
    right = torch.tensor([[s == asked for s, asked in zip(*pair, strict=True)]
                          for pair in zip(seen, scenario.events, strict=True)])  # fmt: skip
    motion, background = right.double().mean(0).tolist()
    return {"local": mean(right.all(1)), "local_motion": motion, "local_background": background}


def subject_accuracy(reading: Reading, inner: list[tuple[int, int]], scenario: Scenario) -> float:
    """Share of the global prompt's attributes, colour (where it names one) and shape, that the events' insides show."""
    return mean([
        named(indices[a:b], names) == asked
        for a, b in inner
        for indices, names, asked in (
            (reading.colour_index, reader.COLOURS, scenario.colour), (reading.shape_index, world.SHAPES, scenario.shape)
        )
        if asked
    ])  # fmt: skip


def subject_consistency(reading: Reading, inner: list[tuple[int, int]]) -> dict[str, float]:
    """How the subject of later events' insides differs from the first one's.

    same_hue: share of the later events whose commonest colour name is the first event's. subject_colour: mean over
    events k > 0 of ||c_k - c_0||, c = the inside's mean colour in RGB. subject_size: of |s_k / s_0 - 1|. subject_shape,
    subject_mark: share of the later frames whose class is not the first event's vote. same_subject: share of the later
    frames that show a subject with the first one's shape, mark, colour (within SAME_COLOUR) and size (the event's,
    within SAME_SIZE). Without a subject in the first event all are NaN.
    """
    frames = [torch.arange(a, b) for a, b in inner]
    first, later = frames[0], torch.cat(frames[1:])
    if vote(reading.shape_index[first]) < 0:
        return dict.fromkeys(
            ("same_hue", "same_subject", "subject_colour", "subject_shape", "subject_size", "subject_mark"), math.nan
        )
    colours = torch.stack([reading.colour_rgb[f].nanmean(0) for f in frames])
    sizes = torch.tensor([middle_size(reading, a, b) for a, b in inner])
    growth = (sizes / sizes[0] - 1).abs()
    shape, mark = (index[later] == vote(index[first]) for index in (reading.shape_index, reading.mark_index))
    colour = (reading.colour_rgb[later] - colours[0]).norm(dim=1) <= SAME_COLOUR
    size = torch.cat([(g <= SAME_SIZE).expand(len(f)) for g, f in zip(growth[1:], frames[1:], strict=True)])
    hues = [vote(reading.colour_index[f]) for f in frames]
    there = reading.shape_index[later] >= 0
    return {
        "same_hue": mean([hue == hues[0] for hue in hues[1:]]),
        "same_subject": mean(shape & mark & colour & size),
        "subject_colour": mean((colours[1:] - colours[0]).norm(dim=1)),
        "subject_shape": mean(~shape[there]),
        "subject_size": mean(growth[1:]),
        "subject_mark": mean(~mark[there]),
    }


def middle_size(reading: Reading, start: int, end: int) -> float:
    """The subject's size in [start, end); where it pulses, of the sine that fits best, for a whole period may not."""
    size = reading.size[start:end]
    t, size = torch.arange(len(size))[~size.isnan()], size[~size.isnan()]
    if reader.motion(reading, start, end) != "pulsing":
        return size.median().item() if len(size) else math.nan
    fits = []
    for period in PERIODS:
        w = 2 * math.pi * t / period
        waves = torch.stack((torch.ones_like(w), torch.sin(w), torch.cos(w)), 1)
        terms = torch.linalg.lstsq(waves, size[:, None]).solution
        fits.append(((waves @ terms - size[:, None]).square().sum().item(), terms[0].item()))
    return min(fits)[1] / PULSE


def background_consistency(
    reading: Reading, inner: list[tuple[int, int]], asked: list[str]
) -> dict[str, float]:
    """Of the background's colour b_t, in RGB: mean over events and frames of ||b_t - the inside's mean|| (within), and
    between events that follow each other with the same background asked, the distance of their means (NaN: none)."""
    means = [reading.background_rgb[a:b].mean(0) for a, b in inner]
    within = [(reading.background_rgb[a:b] - m).norm(dim=1).mean() for (a, b), m in zip(inner, means, strict=True)]
    pairs = [(means[k] - means[k - 1]).norm() for k in range(1, len(means)) if asked[k] == asked[k - 1]]
    return {"background_within": mean(within), "background_between": mean(pairs) if pairs else math.nan}


def steady(track: torch.Tensor) -> torch.Tensor:
    """Each column of [T, n] through a median of three frames: one misread frame is no jump, a step stays one."""
    padded = torch.cat((track[:1], track, track[-1:]))
    return torch.stack((padded[:-2], padded[1:-1], padded[2:])).median(0).values


def border_excess(signal: torch.Tensor, inner: list[tuple[int, int]]) -> float:
    """mean over the borders of max(0, largest change in the border's zone - largest inside the events beside it).

    signal [T - 1]: the change from frame t to t + 1. 0 where the events' own motion hides the transition.
    """
    def most(values: torch.Tensor) -> float:
        values = values[~values.isnan()]
        return values.max().item() if len(values) else math.nan

    excess = []
    for (a, b), (c, d) in zip(inner, inner[1:]):  # noqa: B905
        excess.append(most(signal[b - 1 : c]) - most(torch.cat((signal[a : b - 1], signal[c : d - 1]))))
    return mean(torch.tensor(excess).clamp_min(0))
