"""Initial noise of a long video, made from the noise of one window.

GLC-Diffusion's noise reinitialisation (arXiv 2501.05484, Eq. 11): the frames of a local noise unit, repeated and
shuffled by FreeNoise's rule (arXiv 2310.15169), give the low frequencies; fresh Gaussian noise gives the high ones,
split by FreeInit's filters (arXiv 2312.07537) over time, height and width. FreeLong++'s SpecMix (arXiv 2507.00162)
mixes the same shuffled frames with fresh ones by their place in the video (see spec_mix_).

Differs from the papers: the printed mix lowers the variance where H is neither 0 nor 1 (std 0.996 for butterworth,
0.980 for gaussian at d_s = d_t = 0.25), so `variance` offers two corrections ("none" is the print).

Frequencies are fractions of the Nyquist frequency, lengths latent frames. Videos are [B, C, T, H, W].
"""

import itertools
import math
from dataclasses import dataclass

import torch

from .. import frequencies
from ..checks import held
from ..frequencies import FILTERS

MODES = ("shuffle_and_mix", "shuffle", "mix", "random", "spec_mix")
VARIANCES = ("per_frequency", "renormalise", "none")


@dataclass(frozen=True)
class NoiseSettings:
    """How the noise is made; see MODES, FILTERS and VARIANCES.

    mode: what is done with the unit; filter with its stop frequencies d_s (height and width) and d_t (time), fractions
    of Nyquist, and order (butterworth only); variance: see frequency_mix_. Raises ValueError for values that make no
    filter.
    """

    mode: str = "shuffle_and_mix"
    filter: str = "butterworth"
    d_s: float = 0.25
    d_t: float = 0.25
    order: int = 4
    variance: str = "per_frequency"

    def __post_init__(self):
        bounds = {"d_s": (0.01, 2.0), "d_t": (0.01, 2.0), "order": (1, 16, True)}
        held(self, bounds, {"mode": MODES, "filter": FILTERS, "variance": VARIANCES})

    @property
    def shuffles(self) -> bool:
        return self.mode in ("shuffle", "shuffle_and_mix", "spec_mix")

    @property
    def mixes(self) -> bool:
        return self.mode in ("mix", "shuffle_and_mix")

    @property
    def fresh(self) -> bool:
        """Whether fresh noise is needed."""
        return self.mixes or self.mode == "spec_mix"


def repeated(frames: int, length: int) -> list[int]:
    """Which frame of the unit, the first L = `length` frames, each of `frames` is: the unit again and again."""
    return [f % length for f in range(frames)]


def shuffled(frames: int, length: int, stride: int, generator: torch.Generator) -> list[int]:
    """Which frame of the unit each of `frames` is, by FreeNoise: frames [f, f+S) become a random permutation of frames
    [f-L, f-L+S), for f = L, L+S, ...

    The source is read as already rewritten: every frame is one of the unit, the first L = `length` frames, and L frames
    in a row from a multiple of S = `stride` on, like the last L, are all of them. A last block of n < S frames permutes
    its first n source frames. The generator lies on the CPU. Raises ValueError unless 1 <= S <= L.
    """
    if not 1 <= stride <= length:
        raise ValueError(f"stride ({stride}) must be between 1 and the window length ({length})")
    order = list(range(min(length, frames)))
    for f in range(length, frames, stride):
        block = torch.randperm(min(stride, frames - f), generator=generator).tolist()
        order += [order[f - length + i] for i in block]
    return order


def low_pass(shape: tuple[int, int, int], settings: NoiseSettings) -> torch.Tensor:
    """H of Eq. 11 for videos of `shape` (T, H, W): see frequencies.low_pass."""
    return frequencies.low_pass(shape, settings.filter, settings.d_s, settings.d_t, settings.order)


def frequency_mix_(low: torch.Tensor, high: torch.Tensor, h: torch.Tensor, variance: str) -> torch.Tensor:
    """Eq. 11 in place: `low` becomes the inverse FFT of FFT(low) * H + FFT(high) * (1 - H), over (T, H, W) in float32.

    low, high [B, C, T, H, W]; h from low_pass. Returns `low`, in its own type. Memory beyond the two: a few channels,
    for "renormalise" one float32 video too. variance:
    "none": as printed.
    "per_frequency": both weights are divided by sqrt(H^2 + (1-H)^2), which keeps each frequency of independent white
    noises at power 1. Repeated frames are white over one window, not over the video: the variance of single frames
    strays from 1 by less than 1 % at d = 0.25 (box on 8 x 8 latents 2 %), more above.
    "renormalise": the printed mix, each frame [C, H, W] of each video divided by its root mean square.
    """
    low_gain, high_gain = h, 1 - h
    if variance == "per_frequency":
        norm = (low_gain**2 + high_gain**2).sqrt()
        low_gain, high_gain = low_gain / norm, high_gain / norm
    low_gain, high_gain = low_gain.float(), high_gain.float()

    def mixed(b: int, c: int) -> torch.Tensor:
        return frequencies.mixed(low[b, c], high[b, c], low_gain, high_gain)

    channels = list(itertools.product(*map(range, low.shape[:2])))
    rms = None
    if variance == "renormalise":  # of all channels together: mixed once for it, and once more to be kept
        squares = torch.empty(low.shape, device=low.device)
        for b, c in channels:
            squares[b, c] = mixed(b, c).square_()
        rms = squares.mean(dim=(1, 3, 4), keepdim=True).sqrt()
        del squares
    for b, c in channels:
        channel = mixed(b, c)
        low[b, c] = channel if rms is None else channel.div_(rms[b, 0])
    return low


def spec_mix_(base: torch.Tensor, residual: torch.Tensor) -> torch.Tensor:
    """SpecMix in place: frame t of T becomes cos(theta) * base + sin(theta) * residual, with theta = pi / 2 *
    |t - (T-1)/2| / ((T-1)/2), 0 for the one frame of T = 1. [B, C, T, H, W] each; returns `base`.

    So the middle of the video is the base alone, both of its ends are the residual alone, and the variance of two
    independent noises is kept. The paper mixes the spectra of frames; a frame's weight is the same at all of its
    frequencies, so that mixing the frames is the same, and no FFT is needed.
    """
    last = base.shape[2] - 1
    places = torch.arange(last + 1, dtype=torch.float64)
    theta = math.pi / 2 * (2 * places - last).abs() / max(last, 1)
    kept, added = (weights.to(base).view(-1, 1, 1) for weights in (theta.cos(), theta.sin()))
    return base.mul_(kept).addcmul_(residual, added)


def reinitialise_(
    base: torch.Tensor,
    fresh: torch.Tensor | None,
    settings: NoiseSettings,
    length: int,
    stride: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """Makes `base` the noise of a long video [B, C, T, H, W] by `settings.mode`, in place; the unit is its first
    `length` frames. Returns `base`.

    shuffle_and_mix: Eq. 11. shuffle: FreeNoise. mix: Eq. 11 with the unit repeated in order. random: `base`. spec_mix:
    FreeNoise's, then SpecMix. All videos of a batch share the permutations. `fresh`, noise of the same shape, is needed
    only where settings.fresh. A video no longer than the unit is its own unit, and SpecMix leaves it alone: it repeats
    nothing that fresh noise should vary.
    """
    if settings.mode == "random":
        return base
    frames = base.shape[2]
    order = shuffled(frames, length, stride, generator) if settings.shuffles else repeated(frames, length)
    for f in range(length, frames, length):  # reads the unit, writes behind it
        base[:, :, f : f + length] = base[:, :, order[f : f + length]]
    if settings.mixes:
        frequency_mix_(base, fresh, low_pass(tuple(base.shape[2:]), settings), settings.variance)
    elif settings.mode == "spec_mix" and frames > length:
        spec_mix_(base, fresh)
    return base
