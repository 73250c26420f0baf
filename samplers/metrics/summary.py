"""The metrics of a video from its Series: names, units, and which way is better."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import torch

from .features import consistency, fidelity, global_fidelity
from .frames import histogram_drift
from .scenes import cuts
from .seams import EPS, boundary_ratios
from .series import Series

MOTION_EPS = 0.05  # of seams in motion: pixels of the flow
FEATURE_EPS = 1e-3  # of seams in features: 1 - cosine
FLAT = 1e-3  # variance of a Laplacian that is nothing to see
MOVES = 6.0 / 256  # of the shorter side, from one sampled frame to the next
PARTS = 16, 4  # moving pairs per 16 sampled frames that make a video a moving one
SPAN = 16  # frames at the start that the rest is compared with, where no window is known


@dataclass(frozen=True)
class Result:
    """One number: metric, value (NaN: cannot be said), unit, what it was made with, whether it is VBench's own value.

    better: 1 higher, -1 lower, 0 neither. about: what it says, in a line.
    """

    metric: str
    value: float
    unit: str
    better: int
    backend: str = "pixels"
    vbench_exact: bool = False
    about: str = ""

    def as_json(self) -> dict:
        return {**asdict(self), "value": None if math.isnan(self.value) else self.value}


def mean(values: torch.Tensor) -> float:
    values = values[~values.isnan()].double()
    return values.mean().item() if len(values) else math.nan


def most(values: torch.Tensor) -> float:
    values = values[~values.isnan()].double()
    return values.max().item() if len(values) else math.nan


def dynamic(series: Series) -> tuple[float, float]:
    """(share of the sampled steps that move, 1 or 0 whether VBench would call the video moving). NaN for less than two
    sampled frames. Where it samples two frames, VBench calls a still video moving; we do not."""
    pairs = series.sampled[~series.sampled.isnan()]
    if not len(pairs):
        return math.nan, math.nan
    moving = pairs > MOVES * max(series.side, 1)
    wanted = max(1, round(PARTS[1] * (len(pairs) + 1) / PARTS[0]))
    return moving.double().mean().item(), float(moving.sum() >= wanted)


def colour_curve(series: Series, span: int) -> torch.Tensor:
    """[N]: how far each frame's colours are from those of the first `span` frames, 0 the same to 1 none shared."""
    return histogram_drift(series.histogram[:span].mean(0), series.histogram)


def cosines(features: torch.Tensor) -> float:
    """Mean over all pairs of max(0, cos); NaN for less than two."""
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    pairs = (unit @ unit.T).clamp(min=0)
    n = len(features)
    return ((pairs.sum() - pairs.diagonal().sum()) / (n * n - n)).item() if n > 1 else math.nan


def offset(grid: torch.Tensor) -> torch.Tensor:
    """Colours [N, D] about grey, and a trace of a feature that all share, so that two grey pictures are alike."""
    return torch.nn.functional.pad(grid - 0.5, (0, 1), value=1e-4)


def ratio(last: float, first: float) -> float:
    """last / first; NaN where the first is nothing, a picture without structure."""
    return last / first if first > FLAT else math.nan


def slope(values: torch.Tensor) -> float:
    """Of a line through values [N], per N: how much they rise over the video."""
    if len(values) < 2:
        return math.nan
    at = torch.linspace(-0.5, 0.5, len(values), dtype=torch.float64)
    return ((values.double() - values.double().mean()) * at).sum().item() / (at**2).sum().item()


def seam_results(series: Series, boundaries: Sequence[int], backend: str) -> list[Result]:
    signals = (
        ("seam_change", series.change, EPS, "pixels", "change of the picture"),
        ("seam_warp", series.warp, EPS, backend, "what motion does not explain"),
        ("seam_motion", series.acceleration, MOTION_EPS, backend, "change of the motion"),
    )
    found = []
    for name, signal, eps, by, what in signals:
        ratios = boundary_ratios(signal, boundaries, eps=eps)
        text = f"At the windows' boundaries over around them, {what}: 1 where no seam is"
        found += [
            Result(name, mean(ratios), "ratio", -1, by, about=text),
            Result(f"{name}_worst", most(ratios), "ratio", -1, by, about=f"{text}; the worst boundary"),
        ]
    return found


def span_of(boundaries: Sequence[int], frames: int) -> int:
    """The frames at the start that the rest is compared with: up to the first boundary, or SPAN."""
    return max(1, min(boundaries[0] if boundaries else SPAN, frames))


def results(
    series: Series, boundaries: Sequence[int], backend: str = "Lucas-Kanade", between: str = ""
) -> list[Result]:
    """Every metric that needs no encoder.

    boundaries: the pixel frames > 0 that windows begin with; the first of them says how long the part is that drift is
    measured against. backend: what motion was found with, between:
    what made the frames between frames ("": the same).
    """
    frames = len(series)
    span = span_of(boundaries, frames)
    colour = colour_curve(series, span)
    sharp = series.sharpness.double()
    share, moving = dynamic(series)
    starts = [0, *(b for b in boundaries if b < frames)]
    side = f"px of {series.side}"
    return [
        Result("temporal_flicker", 1 - mean(series.change), "0..1", 1, vbench_exact=True,
               about="1 - mean change from frame to frame (VBench's temporal flickering); a still video has 1"),
        Result("motion_smoothness", 1 - mean(series.middle), "0..1", 1, f"{between or backend} in place of AMT-S",
               about="1 - error of every second frame made of its neighbours (VBench's protocol, another network)"),
        Result("warping_error", mean(series.warp), "0..1", -1, backend,
               about="Change that motion does not explain, where both frames see the place"),
        Result("dynamic_degree", mean(series.motion), side, 0, f"{backend} in place of RAFT",
               about="Mean length of the largest 5 % of motions per frame; say it beside smoothness and flicker"),
        Result("moving_share", share, "share", 0, f"{backend} in place of RAFT",
               about="Steps of 1/8 s with motions over 6/256 of the side (VBench's threshold)"),
        Result("moving", moving, "0 or 1", 0, f"{backend} in place of RAFT",
               about="Whether enough of them move for VBench to call the video moving"),
        *(seam_results(series, boundaries, backend) if boundaries else []),
        Result("colour_drift", mean(colour[span:]), "0..1", -1,
               about=f"Distance of the L*a*b* histograms after the first {span} frames from those of them"),
        Result("colour_drift_end", mean(colour[-span:]), "0..1", -1, about=f"The same, of the last {span} frames"),
        Result("saturation_slope", slope(series.saturation), "0..1", 0,
               about="Rise of the mean saturation over the video; long videos that burn in rise"),
        Result("sharpness", sharp.mean().item(), "variance", 0, about="Variance of the Laplacian; not MUSIQ"),
        Result("sharpness_ratio", ratio(sharp[-span:].mean().item(), sharp[:span].mean().item()), "ratio", 0,
               about=f"Sharpness of the last {span} frames over the first {span}: less than 1 where it blurs"),
        Result("ssim_adjacent", mean(series.ssim), "-1..1", 1, about="Structure kept from frame to frame"),
        Result("ssim_first", mean(series.ssim_first[1:]), "-1..1", 0, about="Structure of the first frame kept"),
        Result("scenes", float(len(cuts(series.scene.tolist())) + 1), "scenes", 0,
               about="Cuts + 1, by PySceneDetect's AdaptiveDetector"),
        *([Result("window_consistency", cosines(offset(series.grid[starts])), "0..1", 1,
                  about="Likeness of the windows' first frames, in a colour grid, mean of all pairs")]
          if len(starts) > 1 else []),
    ]  # fmt: skip


def feature_results(features: torch.Tensor, boundaries: Sequence[int], backend: str, exact: str = "") -> list[Result]:
    """What an encoder's features [N, D] of the frames say; exact: the VBench metric that they make, if any."""
    name = exact or "consistency"
    starts = [0, *(b for b in boundaries if b < len(features))]
    unit = torch.nn.functional.normalize(features.double(), dim=1)
    found = [Result(name, mean(consistency(features)), "0..1", 1, backend, bool(exact),
                    "Likeness of each frame to the one before and to the first (VBench's consistency)")]  # fmt: skip
    if boundaries:
        ratios = boundary_ratios(1 - (unit[1:] * unit[:-1]).sum(1), boundaries, eps=FEATURE_EPS)
        text = "At the windows' boundaries over around them, change of what the encoder sees: 1 where no seam is"
        found += [
            Result("seam_feature", mean(ratios), "ratio", -1, backend, about=text),
            Result("window_likeness", cosines(features[starts]), "0..1", 1, backend,
                   about="Likeness of the windows' first frames as the encoder sees them, mean of all pairs"),
        ]  # fmt: skip
    return found


def prompt_results(
    features: torch.Tensor, whole: torch.Tensor | None, texts: torch.Tensor | None, own: torch.Tensor | None,
    backend: str,
) -> list[Result]:  # fmt: skip
    """How near frames [N, D] are to a prompt `whole` [1, D], and to their own of events' `texts` [E, D] by own [N]."""
    found = []
    if whole is not None:
        found.append(Result("prompt_global", global_fidelity(features, whole)[0], "cosine", 1, backend,
                            about="Likeness of the frames to the global prompt (CLIP score, all frames)"))  # fmt: skip
    if texts is not None:
        local, accuracy, _ = fidelity(features, texts, own)
        found += [
            Result("prompt_local", local, "cosine", 1, backend, about="Likeness of frames to their own event's prompt"),
            Result("prompt_accuracy", accuracy, "share", 1, backend,
                   about="Frames that are nearer to their own event's prompt than to every other"),
        ]  # fmt: skip
    return found
