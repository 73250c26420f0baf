"""What a long video of the small world is worth, in numbers: pure functions on its pixels and on what the reader sees.

A video is [T, H, W, 3] in 0..1, T pixel frames; lengths on the picture are fractions of its side ("side"), times pixel
frames. Frames that show no subject have no place, size or colour (NaN) and are left out of a mean; a mean over nothing
is NaN. These are the pack's own definitions, but for flicker (VBench, arXiv 2311.17982).
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from ...backbone.demo import reader, world
from ...backbone.demo.reader import Reading
from ...samplers.metrics.frames import change
from ...samplers.metrics.seams import boundary_ratios

CLIP = world.FRAMES  # the model's clip: the first of them is what later frames are compared with
FASTEST = 0.5  # radians per frame: nothing here turns half as fast, so a larger step is a misread angle
NAMES = ("colour", "shape", "motion", "background")  # order of a prompt's attributes


@dataclass(frozen=True)
class Metric:
    """How a metric is shown: a heading, which way is better (1 higher, -1 lower, 0 neither), factor and decimals."""

    heading: str
    better: int
    factor: float = 100
    decimals: int = 2
    main: bool = True

    def text(self, value: float) -> str:
        return "-" if math.isnan(value) else f"{self.factor * value:.{self.decimals}f}"


METRICS = {
    "colour_drift": Metric("colour drift", -1),
    "size_drift": Metric("size drift", -1),
    "shape_drift": Metric("shape drift", -1, decimals=1),
    "mark_drift": Metric("mark drift", -1, decimals=1),
    "background_drift": Metric("background drift", -1),
    "seam_mae": Metric("seam MAE", -1, 1),
    "seam_track": Metric("seam track", -1, 1),
    "seam_mae_max": Metric("worst seam MAE", -1, 1, main=False),
    "seam_track_max": Metric("worst seam track", -1, 1, main=False),
    "jerk": Metric("jerk", -1),
    "size_jerk": Metric("size jerk", -1, decimals=3, main=False),
    "flicker": Metric("flicker", 1),
    "sharpness": Metric("sharpness", 1, 1, 0),
    "sharpness_ratio": Metric("sharpness last / first", 0, 1, main=False),
    "duplicates": Metric("not one subject", -1, decimals=1),
    "speed": Metric("speed", 0),
    "prompt": Metric("prompt right", 1, decimals=1),
    **{f"prompt_{name}": Metric(f"{name} right", 1, decimals=1, main=False) for name in NAMES},
}


def measure(video: torch.Tensor, reading: Reading, spec: tuple, boundaries: list[int]) -> dict[str, float]:
    """Every metric of METRICS. `spec` names the prompt's attributes (None: open); boundaries as in boundary_ratios."""
    track_seams = boundary_ratios(track_acceleration(reading), boundaries)
    mae_seams = boundary_ratios(frame_differences(video), boundaries)
    sharp = laplacian_variance(video)
    return {
        "colour_drift": vector_drift(reading.colour_rgb),
        "size_drift": size_drift(reading),
        "shape_drift": class_drift(reading.shape_index),
        "mark_drift": class_drift(reading.mark_index),
        "background_drift": vector_drift(reading.background_rgb),
        "seam_mae": _mean(mae_seams), "seam_mae_max": _max(mae_seams),
        "seam_track": _mean(track_seams), "seam_track_max": _max(track_seams),
        "jerk": jerk(torch.stack((reading.x, reading.y), 1)),
        "size_jerk": jerk(reading.size[:, None]),
        "flicker": 1 - _mean(frame_differences(video)),
        "sharpness": _mean(sharp),
        "sharpness_ratio": _mean(sharp[-CLIP:]) / max(_mean(sharp[:CLIP]), 1e-6),
        "duplicates": _mean(reading.count != 1),
        "speed": speed(reading),
        **prompt_following(reading, spec),
    }  # fmt: skip


def _mean(values: torch.Tensor) -> float:
    return values.double().nanmean().item()


def _max(values: torch.Tensor) -> float:
    values = values[~values.isnan()]
    return values.max().item() if len(values) else math.nan


def spans(frames: int) -> list[tuple[int, int]]:
    """The video in pieces of one clip [start, end); a rest shorter than half a clip belongs to the last piece."""
    count = max(1, round(frames / CLIP))
    return [(i * CLIP, (i + 1) * CLIP if i + 1 < count else frames) for i in range(count)]


def vector_drift(values: torch.Tensor) -> float:
    """mean over t >= L of ||v_t - mean of v over the first L frames||, L = CLIP; values [T, 3] in RGB.

    Of colour_rgb: identity drift, of background_rgb: background drift. 1 = one channel's full range.
    """
    return _mean((values[CLIP:] - values[:CLIP].nanmean(0)).norm(dim=1))


def size_drift(reading: Reading) -> float:
    """mean over later spans k of |s_k / s_0 - 1|; s = middle of the sizes' range (their 4 % and 96 % quantiles).

    A pulsing subject goes through its whole range in every span, so that its middle stays put.
    """
    ends = torch.tensor([0.04, 0.96])
    middles = torch.stack([reading.size[a:b].nanquantile(ends).mean() for a, b in spans(len(reading))])
    return _mean((middles[1:] / middles[0] - 1).abs())


def class_drift(indices: torch.Tensor) -> float:
    """Share of frames t >= L whose class is not the first L frames' vote, of those that show a subject (index >= 0)."""
    first, later = indices[:CLIP], indices[CLIP:]
    first, later = first[first >= 0], later[later >= 0]
    return _mean(later != first.bincount().argmax()) if len(first) else math.nan


def frame_differences(video: torch.Tensor) -> torch.Tensor:
    """d_t = mean |x_{t+1} - x_t| [T - 1]. Flicker is 1 - mean d_t, VBench's temporal_flickering."""
    return change(video[:-1], video[1:])


def track_acceleration(reading: Reading) -> torch.Tensor:
    """a_t = ||v_t - v_{t-1}|| [T - 1] with v_t = p_{t+1} - p_t, p = (x, y, size), in side per frame^2; a_0 = NaN.

    The seam score's flow acceleration ||F_t - F_{t-1}||, read from the subject's track.
    """
    track = torch.stack((reading.x, reading.y, reading.size), 1)
    return F.pad(track.diff(dim=0).diff(dim=0).norm(dim=1), (1, 0), value=math.nan)


def jerk(track: torch.Tensor) -> float:
    """Motion smoothness: mean ||p_{t+3} - 3 p_{t+2} + 3 p_{t+1} - p_t||, side per frame^3; track [T, n]."""
    return _mean(track.diff(n=3, dim=0).norm(dim=1))


def speed(reading: Reading) -> float:
    """Dynamic degree: mean ||(dx, dy, d size, size * d angle)|| per frame, so that turning and growing count as motion.

    A still video has perfect smoothness and flicker; this tells it from a smooth one.
    """
    turn = torch.remainder(reading.angle.diff() + math.pi, 2 * math.pi) - math.pi
    turn = torch.where(turn.abs() > FASTEST, 0.0, turn)
    steps = torch.stack((reading.x.diff(), reading.y.diff(), reading.size.diff(), reading.size[1:] * turn), 1)
    return _mean(steps.norm(dim=1))


def laplacian_variance(video: torch.Tensor) -> torch.Tensor:
    """Sharpness [T]: variance over a frame's pixels of the 4-neighbour Laplacian in 0..255, mean of the channels.

    By channel, not of the luma: green on gray has nearly no edge in brightness.
    """
    video = 255 * video
    inner = video[:, 1:-1, 1:-1]
    around = video[:, :-2, 1:-1] + video[:, 2:, 1:-1] + video[:, 1:-1, :-2] + video[:, 1:-1, 2:]
    return (around - 4 * inner).var((1, 2), correction=0).mean(1)


def prompt_following(reading: Reading, spec: tuple) -> dict[str, float]:
    """Share of spans that show each named attribute as asked, "prompt" = mean over those that are named; NaN if open.

    A span's colour, shape and background are votes over its frames, its motion is reader.motion; a span without a
    subject shows none.
    """
    tables = {
        "colour": (reading.colour_index, reader.COLOURS),
        "shape": (reading.shape_index, world.SHAPES),
        "background": (reading.background_index, reader.BACKGROUNDS),
    }

    def seen(name: str, start: int, end: int) -> str | None:
        if name == "motion":
            return reader.motion(reading, start, end)
        indices, names = tables[name]
        indices = indices[start:end]
        indices = indices[indices >= 0]
        return names[int(indices.bincount().argmax())] if len(indices) else None

    pieces = spans(len(reading))
    right = {
        name: sum(seen(name, *p) == asked for p in pieces) / len(pieces) if asked else math.nan
        for name, asked in zip(NAMES, spec, strict=True)
    }
    return {"prompt": _mean(torch.tensor(list(right.values()))), **{f"prompt_{n}": v for n, v in right.items()}}
