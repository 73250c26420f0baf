"""The two paths of GLC-Diffusion (arXiv 2501.05484): shifted local windows, and dilated windows over the whole video.

Section 3.2, Eq. 4-9. The local path is windows.py with schedule random_shift or random_shift_each (Eq. 6-7); here is
the global one and its weight. The paper leaves the dilation, the starts and the padding open: by default
d = ceil(F / L), starts 0..d-1, the end padded by reflection and cropped again, so that each real frame is predicted
exactly once. Eq. 9 is taken as printed (gamma weighs predictions), although it minimises Eq. 8 only where both paths
visit a frame equally often; `pooled` is the minimiser: the average of all predictions of a frame, each weighed by its
path's share, those of local windows by their fuse weights too, whose mean is 1. The paper fuses x_{t-1}; fusing
predictions of the clean video is the same for deterministic first-order steps.
"""

import math
from dataclasses import dataclass

from ..checks import number, option
from ..windows import LONGEST, Window, starts_count, static_starts

PADDINGS = ("end", "both_ends", "repeat")
ROUNDING = 1.5e-3  # of places: core's schedules round them to one of 1,000 timesteps


def dilation(frames: int, length: int) -> int:
    """d = ceil(F / L): the dilation, and the number of dilated windows."""
    return -(-frames // length)


def checked_rate(rate: int, frames: int, length: int) -> int:
    """The dilation d that `rate` (0: ceil(F / L)) means for a video. Raises ValueError for one that is as long."""
    if rate >= frames > 1:
        raise ValueError(
            f"dilation ({rate}) must be smaller than the video's {frames} latent frames; 0 takes "
            f"{dilation(frames, length)}, so that every frame is seen once"
        )
    return rate or dilation(frames, length)


def reflected(position: int, frames: int) -> int:
    """The frame that lies at a position before or behind the video, there and back again."""
    turn = max(2 * (frames - 1), 1)
    position %= turn
    return min(position, turn - position) if frames > 1 else 0


def dilated_windows(frames: int, length: int, rate: int = 0, padding: str = "end") -> list[Window]:
    """GLC Eq. 4-5: windows of every d-th frame, that begin with i, i+d, i+2d, ... for i = 0..d-1; rate: d, or 0 for
    ceil(F / L), where these d windows show every frame once.

    Frames i, i+d, ... that are fewer than L are padded (see PADDINGS): behind, or half of it before, by reflection; or
    behind by the last frame. Where they are more, as many windows as they need lie one after the other, the last one
    moved back, and what two of them predict is averaged.
    """
    d, length = checked_rate(rate, frames, length), min(length, frames)
    windows = []
    for i in range(d):
        count = len(range(i, frames, d))
        missing = max(length - count, 0)
        lead = (missing + 1) // 2 if padding == "both_ends" else 0
        for start in static_starts(count, length, length):
            positions = range(i + (start - lead) * d, i + (start - lead + length) * d, d)
            if missing == 0:
                indices: tuple[int, ...] = tuple(positions)
            elif padding == "repeat":
                indices = tuple(min(p, frames - 1) for p in positions)
            else:
                indices = tuple(reflected(p, frames) for p in positions)
            windows.append(Window(indices, length - missing, lead))
    return windows


def dilated_count(frames: int, length: int, rate: int = 0) -> int:
    """How many windows dilated_windows makes, without making them."""
    d, length = checked_rate(rate, frames, length), min(length, frames)
    longer = frames % d  # of the d starts: those with one frame more
    return longer * starts_count(frames // d + 1, length, length, 0) + (d - longer) * starts_count(
        frames // d, length, length, 0
    )


def gamma(t: float, gamma0: float, beta: float) -> float:
    """gamma(t) = gamma0 * exp(beta * t), clamped to [0, 1]; t the training timestep, 0..1000 (1000 * sigma for flow).

    The paper's prose is loose about the direction; its formula, followed here, gives the global path more weight at
    high noise. Per step it is small (0.0082 .. 0.005 with the defaults), over 50 steps it adds up to about 28 %.
    """
    return min(max(gamma0 * math.exp(beta * t), 0.0), 1.0)


@dataclass(frozen=True)
class GlobalPath:
    """The global path as a windows.ExtraPath: weight gamma(t) of gamma0 and beta, at every k-th step (`every`) of the
    whole noise schedule, within its first `until` (fraction); rate, padding: see dilated_windows; pooled: Eq. 8, see
    above. Raises ValueError for values out of bounds."""

    gamma0: float = 0.005
    beta: float = 5e-4
    every: int = 1
    until: float = 1.0
    rate: int = 0
    padding: str = "end"
    pooled: bool = False
    name = "global"
    joins = False

    def __post_init__(self):
        number("gamma0", self.gamma0, 0.0, 1.0)
        number("beta", self.beta, -0.01, 0.01)
        number("global_every", self.every, 1, 1000, True)
        number("global_until", self.until, 0.0, 1.0)
        number("dilation", self.rate, 0, LONGEST, True)
        option("global_padding", self.padding, PADDINGS)

    @property
    def counts(self) -> bool:
        return self.every > 1

    def active(self, index: int, place: float) -> bool:
        """Whether it runs at a step, by its index and place in the whole schedule."""
        return self.gamma0 > 0 and index % self.every == 0 and (self.until >= 1 or place < self.until - ROUNDING)

    def share(self, t: float) -> float:
        """Its weight in Eq. 9 at training timestep t."""
        return gamma(t, self.gamma0, self.beta)

    def windows(self, frames: int, length: int) -> dict[str, list[Window]]:
        return {self.name: dilated_windows(frames, length, self.rate, self.padding)}

    def count(self, frames: int, length: int) -> dict[str, int]:
        return {self.name: dilated_count(frames, length, self.rate)}
