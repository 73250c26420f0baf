"""Index windows over the frames of one long latent: the local windows, and what a step evaluates.

The one idea that every method here shares: overlapping windows of a long video, each predicted by a model that knows
short clips only, fused by weights (fusion.py). Gen-L-Video (arXiv 2305.18264) for the overlapping windows; the shift of
all windows by one random offset per step is GLC-Diffusion's (arXiv 2501.05484, Eq. 6-7). A further path over the video,
as the dilated one of that paper (glc/paths.py), is an ExtraPath.

Lengths are in latent frames unless a name says pixel. All functions are pure; nothing here knows ComfyUI.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from .checks import held
from .seeds import generator, step_seed

SCHEDULES = ("static", "random_shift", "rolling", "random_shift_each", "rolling_cut")
RANDOM, ROLLING = ("random_shift", "random_shift_each"), ("rolling", "rolling_cut")
FIRST_LATENT = ("as_is", "anchor")
FUSE = ("pyramid", "flat", "triangular", "sine", "overlap-linear")
GOLDEN = 2654435769  # 2^32 / golden ratio
LONGEST = 16384  # window, in pixel frames, and so in latent ones


@dataclass(frozen=True)
class Window:
    """One window: `indices` into the F frames; `real` of them, from place `lead` on, are predictions, the rest is
    padding."""

    indices: Sequence[int]
    real: int
    lead: int = 0

    @property
    def own(self) -> Sequence[int]:
        """The frames that it predicts."""
        return self.indices[self.lead : self.lead + self.real]


class ExtraPath(Protocol):
    """A second path over the video, mixed in with the local windows at some of the steps: glc.paths.GlobalPath."""

    name: str
    counts: bool
    """Whether active() looks at the index."""

    def active(self, index: int, place: float) -> bool:
        """Whether it runs at a step: its index in the whole schedule, and its place there (0 all noise, 1 clean)."""

    def share(self, t: float) -> float:
        """Its weight in the fused prediction at training timestep t (0..1000)."""

    pooled: bool
    """Whether its windows and the local ones are averaged together, each weighed by its path's share (GLC Eq. 8), in
    place of each path by itself (Eq. 9)."""

    joins: bool
    """Whether join() makes one prediction of the local windows' and its own, each whole, in place of the weight."""

    def response(self, shape: tuple[int, int, int], length: int) -> torch.Tensor:
        """What join() needs to know of a video's (T, H, W) and the windows' length, made once per run."""

    def join(self, local: torch.Tensor, looks: list[torch.Tensor], h: torch.Tensor) -> torch.Tensor:
        """The fused prediction of the local windows' and its looks' [B, C, T, H, W]; it may overwrite those."""

    def windows(self, frames: int, length: int) -> dict[str, list[Window]]:
        """Its windows of `length` over `frames` latent frames: of each look that it takes at the video, by its name."""

    def count(self, frames: int, length: int) -> dict[str, int]:
        """How many windows that are."""


@dataclass(frozen=True)
class WindowSettings:
    """What the window scheduler decided; lengths in latent frames.

    length L and overlap o of the local windows (0 <= o < L); schedule one of SCHEDULES; shift_seed of RANDOM ones;
    fuse the name of the fuse weights; extra_path a second path over the video; first_latent one of FIRST_LATENT;
    window_batch windows per model call (0 = automatic); compression = pixel frames per latent frame after the first;
    retain: places i that show the video's frame i of the conditioning in every window (-1: the last in both), core's
    cond_retain_index_list; overlap_end: the overlap that o has become at the end of the noise schedule (None: o
    throughout), linear in between; closed_loop: the video's last frame is followed by its first, windows go around;
    cfg_until: the fraction of the noise schedule with guidance; after it, of a positive and a negative branch, the
    first alone is asked.
    Raises ValueError for values that make no windows.
    """

    length: int
    overlap: int
    schedule: str = "static"
    shift_seed: int = 0
    fuse: str = "pyramid"
    extra_path: ExtraPath | None = None
    first_latent: str = "as_is"
    window_batch: int = 0
    compression: int = 4
    retain: tuple[int, ...] = ()
    overlap_end: int | None = None
    closed_loop: bool = False
    cfg_until: float = 1.0

    def __post_init__(self):
        end = {} if self.overlap_end is None else {"overlap_end": (0, LONGEST - 1, True)}
        held(
            self,
            {"length": (1, LONGEST, True), "overlap": (0, LONGEST - 1, True), **end,
             "shift_seed": (0, 2**64 - 1, True), "window_batch": (0, 64, True), "compression": (1, 64, True),
             "cfg_until": (0.01, 1, False)},
            {"schedule": SCHEDULES, "fuse": FUSE, "first_latent": FIRST_LATENT},
        )  # fmt: skip
        for name in ("overlap", *end):
            if getattr(self, name) >= self.length:
                raise ValueError(f"{name} ({getattr(self, name)}) must be smaller than the window ({self.length})")
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

    @property
    def moves(self) -> bool:
        """Whether the windows of two steps differ."""
        return self.schedule != "static" or self.overlap_end not in (None, self.overlap)

    @property
    def uneven(self) -> bool:
        """Whether a step may have more windows than another."""
        return self.schedule in ("random_shift", *ROLLING) or self.overlap_end not in (None, self.overlap)

    def at(self, place: float) -> "WindowSettings":
        """The settings at a place in the noise schedule (0 all noise, 1 clean), whose overlap holds for a step."""
        if self.overlap_end is None:
            return self
        overlap = round(self.overlap + (self.overlap_end - self.overlap) * min(max(place, 0.0), 1.0))
        return replace(self, overlap=overlap, overlap_end=None)

    def branches(self, count: int, place: float) -> int:
        """How many of `count` CFG branches are asked at a place in the noise schedule. More than two are no pair."""
        return 1 if count == 2 and self.cfg_until < 1 and place >= self.cfg_until else count

    def whole(self, frames: int) -> bool:
        """Whether a video of so many latent frames is one window, sampled as without windows."""
        return frames <= self.length and not self.closed_loop

    def cuts(self, frames: int) -> bool:
        """Whether windows over a video of so many latent frames are cut off at its ends, and so differ in length."""
        return self.schedule == "rolling_cut" and not self.closed_loop and frames > self.length


def latent_length(pixel_frames: int, compression: int) -> int:
    """Latent frames of a causal video latent of `pixel_frames` pixel frames."""
    return (pixel_frames - 1) // compression + 1


def pixel_length(latent_frames: int, compression: int) -> int:
    """Pixel frames that `latent_frames` latent frames decode to."""
    return (latent_frames - 1) * compression + 1


def latent_overlap(pixel_frames: int, length: int, compression: int) -> int:
    """Overlap in latent frames nearest to `pixel_frames` pixel frames, within 0..length-1."""
    return min(max((2 * pixel_frames + compression) // (2 * compression), 0), length - 1)


def window_centre(indices: Sequence[int], compression: int, frames: int | None = None) -> float:
    """Centre of a window in pixel frames: midway between its first frame's first and its last frame's last pixel frame.

    Latent frame 0 covers pixel frame 0, latent frame i > 0 covers c*(i-1)+1 .. c*i. frames: latent frames of a closed
    loop, in which a window may go on behind the last frame with the first.
    """
    first, last = min(indices), max(indices)
    around = frames is not None and indices[-1] < indices[0]
    if around:
        first, last = indices[0], indices[-1] + frames
    start = compression * (first - 1) + 1 if first > 0 else 0
    centre = (start + compression * last) / 2
    return centre % pixel_length(frames, compression) if around else centre


def static_starts(frames: int, length: int, stride: int) -> list[int]:
    """Starts 0, stride, 2*stride, ...; the last one is moved back to end with the video, never shortened."""
    return shifted_starts(frames, length, stride, 0)


def boundaries(settings: WindowSettings, pixel_frames: int) -> list[int]:
    """The pixel frames that static windows begin with, after the first one, where a video of so many has windows.

    Windows that move are told by the same places, where they would meet if they did not.
    """
    frames = latent_length(pixel_frames, settings.compression)
    starts = static_starts(frames, settings.length, settings.stride) if frames > settings.length else [0]
    return [(start - 1) * settings.compression + 1 for start in starts[1:]]


def shifted_starts(frames: int, length: int, stride: int, offset: int) -> list[int]:
    """Starts moved towards the front by one shared offset (0 <= offset < stride), clamped to [0, F-L], each one once.

    The first start is always 0 and the last always F-L, and neighbours are never more than `stride` <= L apart, so
    every frame is covered. Frames no longer than one window give the single start 0.
    """
    last = max(frames - length, 0)
    count = -(-(last + offset) // stride)
    return sorted({min(max(i * stride - offset, 0), last) for i in range(count + 1)})


def starts_count(frames: int, length: int, stride: int, offset: int) -> int:
    """len(shifted_starts(...)): 0, F-L and what the offset leaves between them."""
    last = frames - length
    return -(-(last + offset) // stride) + 1 if last > 0 else 1


def shift_offset(seed: int, key: int, stride: int) -> int:
    """r ~ U{0..stride-1}, a function of (seed, key) alone: a resumed or repeated step draws the same.

    `key` names the step: an integer that stays the same however the run reached that step.
    """
    return int(torch.randint(stride, (1,), generator=generator(step_seed(seed, key))))


def each_shifted(starts: Sequence[int], reach: int, seed: int, key: int) -> list[int]:
    """The starts, each moved by an offset of its own ~ U{-reach..reach}; (seed, key): see shift_offset."""
    drawn = torch.randint(-reach, reach + 1, (len(starts),), generator=generator(step_seed(seed, key)))
    return [start + moved for start, moved in zip(starts, drawn.tolist(), strict=True)]


def reach(length: int, stride: int) -> int:
    """J = (L - s) // 4, DemoFusion's jitter (arXiv 2311.16973): two neighbours moved apart still overlap."""
    return (length - stride) // 4


def rolling_offset(index: int, stride: int) -> int:
    """floor(stride * frac(index / golden ratio)), so that the seams of a few steps in a row lie far apart, for any
    number of them. index: of the step in the whole schedule."""
    return stride * (index * GOLDEN % 2**32) >> 32


def loop_starts(frames: int, stride: int, offset: int) -> list[int]:
    """Starts on a closed loop of F frames: the fewest, two at least, that are evenly spaced by at most `stride`."""
    count = loop_count(frames, stride)
    return [(i * frames // count + offset) % frames for i in range(count)]


def loop_count(frames: int, stride: int) -> int:
    return max(-(-frames // stride), 2)


def _offset(settings: WindowSettings, frames: int, key: int, index: int) -> int:
    """Within a stride; of a loop's windows that have nothing to cut, all around it, so that they begin on every frame
    as often: evenly spaced, they lie nearer together than a stride."""
    if settings.schedule == "random_shift":
        return shift_offset(settings.shift_seed, key, settings.stride)
    around = settings.closed_loop and settings.schedule == "rolling_cut"
    return rolling_offset(index, frames if around else settings.stride) if settings.schedule in ROLLING else 0


def local_windows(settings: WindowSettings, frames: int, key: int, index: int = 0, place: float = 0.0) -> list[Window]:
    """The local windows of one step over F = `frames` latent frames, all of the same length min(L, F), or, cut, up to
    L (see cut_windows).

    key: see shift_offset; index, place: see ExtraPath.active.
    """
    settings, length = settings.at(place), min(settings.length, frames)
    offset = _offset(settings, frames, key, index)
    if settings.closed_loop:
        starts = loop_starts(frames, settings.stride, offset)
        if settings.schedule == "random_shift_each":
            starts = each_shifted(starts, reach(length, settings.stride), settings.shift_seed, key)
            starts = sorted(start % frames for start in starts)
        return [Window(_around(s, length, frames), length) for s in starts]
    if settings.cuts(frames):
        return [Window(own, len(own)) for own in cut_windows(frames, length, settings.stride, offset)]
    starts = shifted_starts(frames, length, settings.stride, offset)
    if settings.schedule == "random_shift_each":  # the first and the last window stay, or frames would be left out
        moved = each_shifted(starts[1:-1], reach(length, settings.stride), settings.shift_seed, key)
        starts[1:-1] = sorted(min(max(start, 0), frames - length) for start in moved)
    return [Window(range(s, s + length), length) for s in starts]


def cut_windows(frames: int, length: int, stride: int, offset: int) -> list[range]:
    """Windows moved towards the front by one offset as in shifted_starts, of which F > L frames cut off what lies
    outside, in place of moving it inside: without overlap each frame is in one window, as in KJNodes' batched_shifted.
    A piece may be one frame and the overlap long. To share a short one's frames with its neighbour, so that both are
    half a window or more, was measured: backgrounds changed more (within an event by 1.65 for 1.36 %)."""
    starts = [i * stride - offset for i in range(starts_count(frames, length, stride, offset))]
    return [range(max(start, 0), min(start + length, frames)) for start in starts]


def _around(start: int, length: int, frames: int) -> Sequence[int]:
    """`length` frames from `start` on, the first after the last."""
    indices = range(start, start + length)
    return indices if start + length <= frames else [i % frames for i in indices]


def stretches(indices: Sequence[int]) -> list[tuple[int, int]]:
    """(first, last) of a window's frames: two where it goes around a closed loop."""
    turn = next((i for i, (a, b) in enumerate(zip(indices, indices[1:], strict=False), 1) if b < a), len(indices))
    return [(part[0], part[-1]) for part in (indices[:turn], indices[turn:]) if part]


def local_count(settings: WindowSettings, frames: int, key: int, index: int = 0, place: float = 0.0) -> int:
    """How many windows local_windows makes, without making them."""
    settings = settings.at(place)
    if settings.closed_loop:
        return loop_count(frames, settings.stride)
    return starts_count(frames, settings.length, settings.stride, _offset(settings, frames, key, index))


def local_work(settings: WindowSettings, frames: int, key: int, index: int = 0, place: float = 0.0) -> float:
    """How many windows of min(L, F) frames those of local_windows come to."""
    count = local_count(settings, frames, key, index, place)
    settings = settings.at(place)
    if not settings.cuts(frames):
        return count
    return (frames + (count - 1) * settings.overlap) / settings.length


def most_windows(settings: WindowSettings, frames: int) -> int:
    """The most local windows that any step has."""
    settings = max((settings.at(0.0), settings.at(1.0)), key=lambda s: s.overlap)
    if settings.closed_loop:
        return loop_count(frames, settings.stride)
    return starts_count(frames, settings.length, settings.stride, settings.stride - 1 if settings.uneven else 0)


@dataclass(frozen=True)
class Path:
    """Windows whose fused prediction enters the result with weight `share`: the shares of a step sum to 1, or, where
    an extra path joins, are 1 each."""

    name: str
    windows: list[Window]
    share: float


def step_paths(settings: WindowSettings, frames: int, *, index: int, place: float, t: float, key: int) -> list[Path]:
    """What one step evaluates: x0 = share * T_extra + (1 - share) * T_local (GLC Eq. 9), or, of a path that joins, both
    with weight 1. A path of weight 0 is left out. index, place: of the step in the whole schedule, see ExtraPath; t:
    training timestep; key: see shift_offset."""
    extra = settings.extra_path
    share = extra.share(t) if extra is not None and extra.active(index, place) else 0.0
    paths = []
    joined = share > 0 and extra.joins
    if share < 1 or joined:
        windows = local_windows(settings, frames, key, index, place)
        paths.append(Path("local", windows, 1.0 if joined else 1 - share))
    if share > 0:
        paths += [Path(name, windows, share) for name, windows in extra.windows(frames, settings.length).items()]
    return paths


def group(count: int, limit: int) -> list[range]:
    """Split 0..count-1 into the fewest runs of at most `limit`, of nearly equal size."""
    parts = -(-count // max(limit, 1))
    bounds = [count * i // parts for i in range(parts + 1)] if parts else [0]
    return [range(a, b) for a, b in zip(bounds, bounds[1:], strict=False)]


def planned_calls(lengths: Sequence[int], limit: int, companion: int | None = None) -> list[list[int]]:
    """The numbers of the windows of each model call, at most `limit` to a call; lengths: frames of each window, all
    the same within a call, the shortest first. companion: a window that stands first in every call; then a call holds
    two windows at least."""
    calls = []
    for length in sorted(set(lengths)):
        members = [i for i, own in enumerate(lengths) if own == length and i != companion]
        if companion is not None:
            limit = max(limit, 2)
            if lengths[companion] == length:
                calls.append([companion, *members[: limit - 1]])
                del members[: limit - 1]
            calls += [[companion, *(members[i] for i in part)] for part in group(len(members), limit - 1)]
        else:
            calls += [[members[i] for i in part] for part in group(len(members), limit)]
    return calls


def calls_count(windows: int, limit: int) -> int:
    """How many calls planned_calls makes of so many windows with a companion, none with an anchor frame."""
    limit = max(limit, 2)
    return 1 + max(-(-(windows - limit) // (limit - 1)), 0)
