"""Index windows over the frames of one long latent: local windows, the global dilated path, their schedule and cost.

Gen-L-Video (arXiv 2305.18264) for overlapping local windows; GLC-Diffusion (arXiv 2501.05484) for the dilated path
(Eq. 4-5), the shifted local windows and the weight gamma(t) (Eq. 8-9).

Differs from the GLC paper: the paper leaves the dilation, the starts and the padding open; here d = ceil(F / L),
starts 0..d-1, the end padded by reflection and cropped again, so that each real frame is predicted exactly once. Eq. 9
is taken as printed (gamma weighs predictions), although it minimises Eq. 8 only where both paths visit a frame equally
often. The paper fuses x_{t-1}; fusing predictions of the clean video is the same for deterministic first-order steps.

Lengths are in latent frames unless a name says pixel. All functions are pure; nothing here knows ComfyUI.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

SCHEDULES = ("static", "random_shift")
FIRST_LATENT = ("as_is", "anchor")
FUSE = ("pyramid", "flat", "triangular", "sine", "overlap-linear")


@dataclass(frozen=True)
class WindowSettings:
    """What the window scheduler decided; lengths in latent frames.

    length L and overlap o of the local windows (0 <= o < L); schedule one of SCHEDULES; shift_seed of random_shift;
    fuse the name of the fuse weights; global_path with gamma0, beta (Eq. 9), global_every (steps) and global_until
    (fraction of the schedule's steps); first_latent one of FIRST_LATENT; window_batch windows per model call (0 =
    automatic); compression = pixel frames per latent frame after the first; retain: places i that show the video's
    frame i of the conditioning in every window (-1: the last in both), core's cond_retain_index_list. Raises
    ValueError for values that make no windows.
    """

    length: int
    overlap: int
    schedule: str = "static"
    shift_seed: int = 0
    fuse: str = "pyramid"
    global_path: bool = False
    gamma0: float = 0.005
    beta: float = 5e-4
    global_every: int = 1
    global_until: float = 1.0
    first_latent: str = "as_is"
    window_batch: int = 0
    compression: int = 4
    retain: tuple[int, ...] = ()

    def __post_init__(self):
        if self.length < 1:
            raise ValueError(f"window length ({self.length}) must be at least 1 latent frame")
        if not 0 <= self.overlap < self.length:
            raise ValueError(f"overlap ({self.overlap}) must be at least 0 and smaller than the window ({self.length})")
        for name, options in (("schedule", SCHEDULES), ("fuse", FUSE), ("first_latent", FIRST_LATENT)):
            if getattr(self, name) not in options:
                raise ValueError(f"{name} ({getattr(self, name)}) must be one of {', '.join(options)}")
        if self.global_every < 1:
            raise ValueError(f"global_every ({self.global_every}) must be at least 1 step")
        for i in self.retain:
            if not -self.length <= i < self.length:
                raise ValueError(
                    f"retain ({i}) must be a place in the window of {self.length} latent frames: 0 to "
                    f"{self.length - 1} from its start, -1 to -{self.length} from its end"
                )

    @property
    def stride(self) -> int:
        """Latent frames between the starts of neighbouring local windows."""
        return self.length - self.overlap


@dataclass(frozen=True)
class Window:
    """One window: `indices` into the F frames; only the first `real` of them are predictions, the rest is padding."""

    indices: tuple[int, ...]
    real: int


def latent_length(pixel_frames: int, compression: int) -> int:
    """Latent frames of a causal video latent of `pixel_frames` pixel frames."""
    return (pixel_frames - 1) // compression + 1


def pixel_length(latent_frames: int, compression: int) -> int:
    """Pixel frames that `latent_frames` latent frames decode to."""
    return (latent_frames - 1) * compression + 1


def latent_overlap(pixel_frames: int, length: int, compression: int) -> int:
    """Overlap in latent frames nearest to `pixel_frames` pixel frames, within 0..length-1."""
    return min(max((2 * pixel_frames + compression) // (2 * compression), 0), length - 1)


def window_centre(indices: Sequence[int], compression: int) -> float:
    """Centre of a window in pixel frames: midway between its first frame's first and its last frame's last pixel frame.

    Latent frame 0 covers pixel frame 0, latent frame i > 0 covers c*(i-1)+1 .. c*i.
    """
    first, last = min(indices), max(indices)
    start = compression * (first - 1) + 1 if first > 0 else 0
    return (start + compression * last) / 2


def static_starts(frames: int, length: int, stride: int) -> list[int]:
    """Starts 0, stride, 2*stride, ...; the last one is moved back to end with the video, never shortened."""
    return shifted_starts(frames, length, stride, 0)


def shifted_starts(frames: int, length: int, stride: int, offset: int) -> list[int]:
    """Starts moved towards the front by one shared offset (0 <= offset < stride), clamped to [0, F-L], each one once.

    The first start is always 0 and the last always F-L, and neighbours are never more than `stride` <= L apart, so
    every frame is covered. Frames no longer than one window give the single start 0.
    """
    last = max(frames - length, 0)
    count = -(-(last + offset) // stride)
    return sorted({min(max(i * stride - offset, 0), last) for i in range(count + 1)})


def shift_offset(seed: int, key: int, stride: int) -> int:
    """r ~ U{0..stride-1}, a function of (seed, key) alone: a resumed or repeated step draws the same.

    `key` names the step: an integer that stays the same however the run reached that step.
    """
    mixed = (seed + 1) * 0x9E3779B97F4A7C15 ^ key * 0xBF58476D1CE4E5B9
    generator = torch.Generator(device="cpu").manual_seed(mixed % 2**63)
    return int(torch.randint(stride, (1,), generator=generator))


def local_windows(settings: WindowSettings, frames: int, key: int) -> list[Window]:
    """The local windows of one step over F = `frames` latent frames, all of the same length min(L, F)."""
    offset = shift_offset(settings.shift_seed, key, settings.stride) if settings.schedule == "random_shift" else 0
    length = min(settings.length, frames)
    starts = shifted_starts(frames, length, settings.stride, offset)
    return [Window(tuple(range(s, s + length)), length) for s in starts]


def dilated_windows(frames: int, length: int) -> list[Window]:
    """GLC Eq. 4-5: d = ceil(F / L) windows i, i+d, i+2d, ..., i = 0..d-1; every real frame is in exactly one.

    Positions past the end (up to d*L - 1) are padding by reflection, 2(F-1) - p, and lie behind the `real` ones.
    """
    d = -(-frames // length)
    windows = []
    for i in range(d):
        positions = range(i, i + d * min(length, frames), d)
        indices = tuple(p if p < frames else max(2 * (frames - 1) - p, 0) for p in positions)
        windows.append(Window(indices, sum(p < frames for p in positions)))
    return windows


def gamma(t: float, gamma0: float, beta: float) -> float:
    """gamma(t) = gamma0 * exp(beta * t), clamped to [0, 1]; t the training timestep, 0..1000 (1000 * sigma for flow).

    The paper's prose is loose about the direction; its formula, followed here, gives the global path more weight at
    high noise. Per step it is small (0.0082 .. 0.005 with the defaults), over 50 steps it adds up to about 28 %.
    """
    return min(max(gamma0 * math.exp(beta * t), 0.0), 1.0)


def global_active(settings: WindowSettings, step: int, steps: int) -> bool:
    """Whether the global path runs at `step` of `steps`: every k-th step, within the first `global_until` of them."""
    return (
        settings.global_path
        and settings.gamma0 > 0
        and step % settings.global_every == 0
        and step < settings.global_until * steps
    )


@dataclass(frozen=True)
class Path:
    """Windows whose fused prediction enters the result with weight `share` (the shares of a step sum to 1)."""

    name: str
    windows: list[Window]
    share: float


def step_paths(settings: WindowSettings, frames: int, *, step: int, steps: int, t: float, key: int) -> list[Path]:
    """What one step evaluates, Eq. 9: x0 = gamma * T_global + (1 - gamma) * T_local. A path of weight 0 is left out."""
    g = gamma(t, settings.gamma0, settings.beta) if global_active(settings, step, steps) else 0.0
    paths = []
    if g < 1:
        paths.append(Path("local", local_windows(settings, frames, key), 1 - g))
    if g > 0:
        paths.append(Path("global", dilated_windows(frames, settings.length), g))
    return paths


@dataclass(frozen=True)
class Cost:
    """Window evaluations of a run, one per window, step and CFG branch; `plain` is what static windows alone take."""

    local: int
    dilated: int
    global_steps: int
    steps: int
    evaluations: int
    plain: int


def run_cost(settings: WindowSettings, frames: int, keys: Sequence[int], branches: int) -> Cost:
    """Cost of one run: `keys` has one step key (see shift_offset) per step. local: the most local windows of a step."""
    if frames <= settings.length:
        return Cost(1, 0, 0, len(keys), len(keys) * branches, len(keys) * branches)
    steps = len(keys)
    local = [len(local_windows(settings, frames, key)) for key in keys]
    active = sum(global_active(settings, step, steps) for step in range(steps))
    d = -(-frames // settings.length)
    plain = len(static_starts(frames, settings.length, settings.stride)) * steps * branches
    return Cost(max(local), d if active else 0, active, steps, (sum(local) + d * active) * branches, plain)


def group(count: int, limit: int) -> list[range]:
    """Split 0..count-1 into the fewest runs of at most `limit`, of nearly equal size."""
    parts = -(-count // max(limit, 1))
    bounds = [count * i // parts for i in range(parts + 1)] if parts else [0]
    return [range(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]
