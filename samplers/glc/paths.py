"""The two paths of GLC-Diffusion (arXiv 2501.05484): shifted local windows, and dilated windows over the whole video.

Section 3.2, Eq. 4-9. The local path is windows.py with schedule random_shift (Eq. 6-7); here is the global one and its
weight. Differs from the paper: the paper leaves the dilation, the starts and the padding open; here d = ceil(F / L),
starts 0..d-1, the end padded by reflection and cropped again, so that each real frame is predicted exactly once. Eq. 9
is taken as printed (gamma weighs predictions), although it minimises Eq. 8 only where both paths visit a frame equally
often. The paper fuses x_{t-1}; fusing predictions of the clean video is the same for deterministic first-order steps.
"""

import math
from dataclasses import dataclass

from ..checks import number
from ..windows import Window

ROUNDING = 1.5e-3  # of places: core's schedules round them to one of 1,000 timesteps


def dilation(frames: int, length: int) -> int:
    """d = ceil(F / L): the dilation, and the number of dilated windows."""
    return -(-frames // length)


def dilated_windows(frames: int, length: int) -> list[Window]:
    """GLC Eq. 4-5: d = ceil(F / L) windows i, i+d, i+2d, ..., i = 0..d-1; every real frame is in exactly one.

    Positions past the end (up to d*L - 1) are padding by reflection, 2(F-1) - p, and lie behind the `real` ones.
    """
    d = dilation(frames, length)
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


@dataclass(frozen=True)
class GlobalPath:
    """The global path as a windows.ExtraPath: weight gamma(t) of gamma0 and beta, at every k-th step (`every`) of the
    whole noise schedule, within its first `until` (fraction). Raises ValueError for values out of bounds."""

    gamma0: float = 0.005
    beta: float = 5e-4
    every: int = 1
    until: float = 1.0
    name = "global"
    joins = False

    def __post_init__(self):
        number("gamma0", self.gamma0, 0.0, 1.0)
        number("beta", self.beta, -0.01, 0.01)
        number("global_every", self.every, 1, 1000, True)
        number("global_until", self.until, 0.0, 1.0)

    @property
    def counts(self) -> bool:
        return self.every > 1

    def active(self, index: int, place: float) -> bool:
        """Whether it runs at a step, by its index and place in the whole schedule."""
        return self.gamma0 > 0 and index % self.every == 0 and (self.until >= 1 or place < self.until - ROUNDING)

    def share(self, t: float) -> float:
        """Its weight in Eq. 9 at training timestep t."""
        return gamma(t, self.gamma0, self.beta)

    def windows(self, frames: int, length: int) -> list[Window]:
        return dilated_windows(frames, length)

    def count(self, frames: int, length: int) -> int:
        """How many windows that are, without making them."""
        return dilation(frames, length)
