"""FreeLong's spectral blend (arXiv 2407.19918): what the whole video is like from far apart, how it looks from near.
And FreeLong++'s bands (arXiv 2507.00162): the same from several distances.

SpectralBlend joins two predictions of the clean long latent: the low frequencies of one that has seen the whole video,
the high ones of local windows (Gaussian, 0.25 of Nyquist over time, height and width, at every step). FreeLong
does so with the outputs of temporal attention, which models of full attention over space and time do not have. Here it
is done with the predictions instead, and the whole video is seen by dilated windows, each of every d-th frame (an
ExtraPath): any video model and length, at most about twice the cost. The FFT goes around the video's ends.

BandBlend joins more of them: a look of span a at the video lets frames attend within a * L frames (L: the window), and
gives its band of temporal frequencies, up to pi / 2a, from where the next longer span ends; the local windows, span 1,
give all above. In the paper spans are 1, 2, 4 for four times the clip and 1, 2, 4, 8 for eight, masks in the attention
of all frames at once, the longest with half of them as keys. Its authors have published FreeLong's code alone; what is
open, or cannot be had here:

- A model that has learnt clips takes L frames, so that a look of span a is windows of every a-th frame, of L frames
  each, one after the other, without overlap: what changes from one to the next is above the look's band. It sees more
  sparsely than the paper's, and costs about F / L windows, whatever its span.
- Lengths that are no power of two: the longest span is d = ceil(F / L), which sees the whole video, the others d // 2,
  d // 4, ... 1, so that each is about twice the next (x3: 3, 1; x6: 6, 3, 1; x4 and x8: the paper's). `rate` of the
  path sets d, down to 1, the local windows alone; what is longer than the video is left out.
- The bands are cut sharply, over time alone, as their intervals are printed. The Gaussian of 0.25 that the paper names
  too is taken to be FreeLong's.
"""

import itertools
from dataclasses import dataclass

import torch

from .checks import number
from .frequencies import low_pass, mixed
from .glc.paths import GlobalPath, checked_rate, dilated_count, dilated_windows, dilation
from .windows import Window

CUT = 0.25  # of Nyquist (the paper's)


@dataclass(frozen=True)
class _Blend:
    """A windows.ExtraPath that runs when `path` does and is joined by frequency, in place of its weight."""

    path: GlobalPath
    name = GlobalPath.name
    pooled = False
    joins = True

    @property
    def counts(self) -> bool:
        return self.path.counts

    def active(self, index: int, place: float) -> bool:
        return self.path.active(index, place)

    def share(self, t: float) -> float:
        return 1.0


@dataclass(frozen=True)
class SpectralBlend(_Blend):
    """Sees the video as `path` does, and is joined at `cut`, a fraction of Nyquist: 0 local windows alone, 1 `path`
    alone. Raises ValueError."""

    cut: float = CUT

    def __post_init__(self):
        number("global_cut", self.cut, 0.0, 1.0)

    @property
    def joins(self) -> bool:
        return self.cut < 1

    def active(self, index: int, place: float) -> bool:
        return self.cut > 0 and super().active(index, place)

    def windows(self, frames: int, length: int) -> dict[str, list[Window]]:
        return self.path.windows(frames, length)

    def count(self, frames: int, length: int) -> dict[str, int]:
        return self.path.count(frames, length)

    def response(self, shape: tuple[int, int, int], length: int) -> torch.Tensor:
        """H of the low frequencies for videos of `shape` (T, H, W): float32 [T, H, W // 2 + 1], on the CPU."""
        return low_pass(shape, "gaussian", self.cut, self.cut).float()

    def join(self, local: torch.Tensor, looks: list[torch.Tensor], h: torch.Tensor) -> torch.Tensor:
        """looks: one [B, C, T, H, W], in place: its low frequencies, by h, with local's high ones. Memory: a few
        channels."""
        (whole,) = looks
        for b, c in itertools.product(*map(range, local.shape[:2])):
            whole[b, c] = mixed(whole[b, c], local[b, c], h, 1 - h)
        return whole


@dataclass(frozen=True)
class BandBlend(_Blend):
    """Looks of several spans, each joined in its band of temporal frequencies; of `path` its steps, padding and rate
    (the longest span) count."""

    def spans(self, frames: int, length: int) -> list[int]:
        """Of the looks beside the local windows, the shortest first. Raises ValueError."""
        span, spans = checked_rate(self.path.rate, frames, length), []
        span = min(span, dilation(frames, length), frames - 1)  # the last: windows of one frame
        while span > 1:
            spans.insert(0, span)
            span //= 2
        return spans

    def windows(self, frames: int, length: int) -> dict[str, list[Window]]:
        padding = self.path.padding
        return {f"span{a}": dilated_windows(frames, length, a, padding) for a in self.spans(frames, length)}

    def count(self, frames: int, length: int) -> dict[str, int]:
        return {f"span{a}": dilated_count(frames, length, a) for a in self.spans(frames, length)}

    def response(self, shape: tuple[int, int, int], length: int) -> torch.Tensor:
        """Each look's band for videos of `shape` (T, H, W): 0 or 1, float32 [looks, T // 2 + 1], as rfft lays it out,
        on the CPU. No two share a frequency; what is left is the local windows'."""
        frequencies = torch.fft.rfftfreq(shape[0], 0.5, dtype=torch.float64)  # of Nyquist
        edges = [0.5 / span for span in self.spans(shape[0], length)]
        below = torch.stack([frequencies <= edge * (1 + 1e-9) for edge in edges]).float()  # an edge is inside
        return below - torch.cat([below[1:], torch.zeros_like(below[:1])])

    def join(self, local: torch.Tensor, looks: list[torch.Tensor], h: torch.Tensor) -> torch.Tensor:
        """looks [B, C, T, H, W] each; the first one in place: local, with what each look differs from it by in its
        band. Equal predictions so stay as they are, bit for bit. Memory: a few channels."""
        for b, c in itertools.product(*map(range, local.shape[:2])):
            own, change = local[b, c].float(), 0
            for look, band in zip(looks, h, strict=True):
                change = change + torch.fft.rfft(look[b, c].float() - own, dim=0) * band.view(-1, 1, 1)
            looks[0][b, c] = own + torch.fft.irfft(change, n=len(own), dim=0)
        return looks[0]
