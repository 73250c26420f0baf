"""Initial noise of a long video, made from the noise of one window.

GLC-Diffusion's noise reinitialisation (arXiv 2501.05484, Eq. 11): the frames of a local noise unit, repeated and
shuffled by FreeNoise's rule (arXiv 2310.15169), give the low frequencies; fresh Gaussian noise gives the high ones,
split by FreeInit's filters (arXiv 2312.07537) over time, height and width.

Differs from the papers: the printed mix lowers the variance where H is neither 0 nor 1 (std 0.996 for butterworth,
0.980 for gaussian at d_s = d_t = 0.25), so `variance` offers two corrections ("none" is the print). FreeInit's
published code places odd-sized grids half a bin off, compares d^2 with 2 d_s in the ideal filter and rounds the box to
bins; here axes are centred, the ideal filter compares with d_s^2 and the box is |f| <= d.

Frequencies are fractions of the Nyquist frequency, lengths latent frames. Videos are [B, C, T, H, W].
"""

import itertools
from dataclasses import dataclass

import torch

MODES = ("shuffle_and_mix", "shuffle", "mix", "random")
FILTERS = ("butterworth", "gaussian", "ideal", "box")
VARIANCES = ("per_frequency", "renormalise", "none")


@dataclass(frozen=True)
class NoiseSettings:
    """How the noise is made; see MODES, FILTERS and VARIANCES.

    mode: what is done with the unit; filter with its stop frequencies d_s (height and width) and d_t (time), fractions
    of Nyquist, and order (butterworth only); variance: see frequency_mix. Raises ValueError for values that make no
    filter.
    """

    mode: str = "shuffle_and_mix"
    filter: str = "butterworth"
    d_s: float = 0.25
    d_t: float = 0.25
    order: int = 4
    variance: str = "per_frequency"

    def __post_init__(self):
        for name, options in (("mode", MODES), ("filter", FILTERS), ("variance", VARIANCES)):
            if getattr(self, name) not in options:
                raise ValueError(f"{name} ({getattr(self, name)}) must be one of {', '.join(options)}")
        for name in ("d_s", "d_t"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} ({getattr(self, name)}) must be greater than 0, e.g. 0.25")
        if self.order < 1:
            raise ValueError(f"order ({self.order}) must be at least 1, e.g. 4")

    @property
    def shuffles(self) -> bool:
        return self.mode in ("shuffle", "shuffle_and_mix")

    @property
    def mixes(self) -> bool:
        return self.mode in ("mix", "shuffle_and_mix")


def repeated(noise: torch.Tensor, length: int, dim: int) -> torch.Tensor:
    """The unit, the first `length` frames along `dim`, again and again in its own order; same shape as `noise`."""
    frames = torch.arange(noise.shape[dim], device=noise.device)
    return noise.index_select(dim, frames % length)


def shuffled(noise: torch.Tensor, length: int, stride: int, generator: torch.Generator, dim: int) -> torch.Tensor:
    """FreeNoise: frames [f, f+S) become a random permutation of frames [f-L, f-L+S), for f = L, L+S, ...

    The source is read as already rewritten: every frame is one of the unit, the first L = `length` frames, and L frames
    in a row from a multiple of S = `stride` on, like the last L, are all of them. A last block of n < S frames permutes
    its first n source frames. The generator lies on the CPU. Returns a new tensor. Raises ValueError unless
    1 <= S <= L.
    """
    if not 1 <= stride <= length:
        raise ValueError(f"stride ({stride}) must be between 1 and the window length ({length})")
    source = list(range(min(length, noise.shape[dim])))
    for f in range(length, noise.shape[dim], stride):
        order = torch.randperm(min(stride, noise.shape[dim] - f), generator=generator).tolist()
        source += [source[f - length + i] for i in order]
    return noise.index_select(dim, torch.tensor(source, device=noise.device))


def low_pass(shape: tuple[int, int, int], settings: NoiseSettings) -> torch.Tensor:
    """H of Eq. 11 for videos of `shape` (T, H, W): float64 [T, H, W // 2 + 1], laid out as torch.fft.rfftn's result.

    With d^2 = (f_t d_s / d_t)^2 + f_h^2 + f_w^2, f in -1..1 (1 = Nyquist): butterworth 1 / (1 + (d^2 / d_s^2)^order),
    gaussian exp(-d^2 / (2 d_s^2)), ideal d^2 <= d_s^2, box |f_t| <= d_t and |f_h|, |f_w| <= d_s. H is 1 at f = 0.
    """
    t, h, w = shape
    f_t = 2 * torch.fft.fftfreq(t, dtype=torch.float64).view(t, 1, 1)
    f_h = 2 * torch.fft.fftfreq(h, dtype=torch.float64).view(1, h, 1)
    f_w = 2 * torch.fft.rfftfreq(w, dtype=torch.float64).view(1, 1, -1)
    d_s, d_t = settings.d_s, settings.d_t
    edge = 1 + 1e-9  # a bin on the border is inside, whatever its rounding
    if settings.filter == "box":
        inside = (f_t.abs() <= d_t * edge) & (f_h.abs() <= d_s * edge) & (f_w.abs() <= d_s * edge)
        return inside.double()
    d2 = (f_t * d_s / d_t) ** 2 + f_h**2 + f_w**2
    if settings.filter == "ideal":
        return (d2 <= d_s**2 * edge).double()
    if settings.filter == "gaussian":
        return torch.exp(-d2 / (2 * d_s**2))
    return 1 / (1 + (d2 / d_s**2) ** settings.order)


def frequency_mix(low: torch.Tensor, high: torch.Tensor, h: torch.Tensor, variance: str) -> torch.Tensor:
    """Eq. 11: the inverse FFT of FFT(low) * H + FFT(high) * (1 - H), over (T, H, W) in float32.

    low, high [B, C, T, H, W]; h from low_pass. Returns float32. variance:
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
    mixed = torch.empty_like(low, dtype=torch.float32)
    for b, c in itertools.product(*map(range, low.shape[:2])):  # one channel's spectrum in memory at a time
        spectrum = torch.fft.rfftn(low[b, c].float()) * low_gain + torch.fft.rfftn(high[b, c].float()) * high_gain
        mixed[b, c] = torch.fft.irfftn(spectrum, s=low.shape[2:])
    if variance == "renormalise":
        mixed /= mixed.square().mean(dim=(1, 3, 4), keepdim=True).sqrt()
    return mixed


def reinitialised(
    base: torch.Tensor,
    fresh: torch.Tensor | None,
    settings: NoiseSettings,
    length: int,
    stride: int,
    generator: torch.Generator,
) -> torch.Tensor:
    """The noise of a long video [B, C, T, H, W] by `settings.mode`; the unit is the first `length` frames of `base`.

    shuffle_and_mix: Eq. 11. shuffle: FreeNoise. mix: Eq. 11 with the unit repeated in order. random: `base`. All videos
    of a batch share the permutations. `fresh`, noise of the same shape, is needed only where settings.mixes. A video no
    longer than the unit is its own unit.
    """
    if settings.mode == "random":
        return base
    noise = shuffled(base, length, stride, generator, dim=2) if settings.shuffles else repeated(base, length, dim=2)
    if settings.mixes:
        noise = frequency_mix(noise, fresh, low_pass(tuple(noise.shape[2:]), settings), settings.variance)
    return noise.to(base)
