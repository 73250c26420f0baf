"""FreeLong's spectral blend (arXiv 2407.19918): what the whole video is like from far apart, how it looks from near.

SpectralBlend joins two predictions of the clean long latent: the low frequencies of one that has seen the whole video,
the high ones of local windows (Gaussian, 0.25 of Nyquist over time, height and width, at every step). FreeLong
does so with the outputs of temporal attention, which models of full attention over space and time do not have. Here it
is done with the predictions instead, and the whole video is seen by dilated windows, each of every d-th frame (an
ExtraPath): any video model and length, at most about twice the cost. The FFT goes around the video's ends.
"""

import itertools
from dataclasses import dataclass

import torch

from .checks import number
from .frequencies import low_pass, mixed
from .windows import ExtraPath, Window

CUT = 0.25  # of Nyquist (the paper's)


@dataclass(frozen=True)
class SpectralBlend:
    """A windows.ExtraPath that sees the video as `path` does, when that does, and is joined by frequency at `cut`, a
    fraction of Nyquist: 0 local windows alone, 1 `path` alone. Raises ValueError."""

    path: ExtraPath
    cut: float = CUT

    def __post_init__(self):
        number("global_cut", self.cut, 0.0, 1.0)

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def counts(self) -> bool:
        return self.path.counts

    pooled = False

    @property
    def joins(self) -> bool:
        return self.cut < 1

    def active(self, index: int, place: float) -> bool:
        return self.cut > 0 and self.path.active(index, place)

    def share(self, t: float) -> float:
        return 1.0

    def windows(self, frames: int, length: int) -> list[Window]:
        return self.path.windows(frames, length)

    def count(self, frames: int, length: int) -> int:
        return self.path.count(frames, length)

    def response(self, shape: tuple[int, int, int]) -> torch.Tensor:
        """H of the low frequencies for videos of `shape` (T, H, W): float32 [T, H, W // 2 + 1], on the CPU."""
        return low_pass(shape, "gaussian", self.cut, self.cut).float()

    def join(self, local: torch.Tensor, whole: torch.Tensor, h: torch.Tensor) -> torch.Tensor:
        """whole [B, C, T, H, W] in place: its low frequencies, by h, with local's high ones. Memory: a few channels."""
        for b, c in itertools.product(*map(range, local.shape[:2])):
            whole[b, c] = mixed(whole[b, c], local[b, c], h, 1 - h)
        return whole
