"""Low and high frequencies of a video over time, height and width: FreeInit's filters (arXiv 2312.07537).

Frequencies are fractions of the Nyquist frequency. FreeInit's published code places odd-sized grids half a bin off,
compares d^2 with 2 d_s in the ideal filter and rounds the box to bins; here axes are centred, the ideal filter compares
with d_s^2 and the box is |f| <= d.
"""

import torch

FILTERS = ("butterworth", "gaussian", "ideal", "box")


def low_pass(
    shape: tuple[int, int, int], filter: str = "gaussian", d_s: float = 0.25, d_t: float = 0.25, order: int = 4
) -> torch.Tensor:  # fmt: skip
    """H for videos of `shape` (T, H, W): float64 [T, H, W // 2 + 1], laid out as torch.fft.rfftn's result.

    With d^2 = (f_t d_s / d_t)^2 + f_h^2 + f_w^2, f in -1..1 (1 = Nyquist): butterworth 1 / (1 + (d^2 / d_s^2)^order),
    gaussian exp(-d^2 / (2 d_s^2)), ideal d^2 <= d_s^2, box |f_t| <= d_t and |f_h|, |f_w| <= d_s. H is 1 at f = 0.
    """
    t, h, w = shape
    f_t = 2 * torch.fft.fftfreq(t, dtype=torch.float64).view(t, 1, 1)
    f_h = 2 * torch.fft.fftfreq(h, dtype=torch.float64).view(1, h, 1)
    f_w = 2 * torch.fft.rfftfreq(w, dtype=torch.float64).view(1, 1, -1)
    edge = 1 + 1e-9  # a bin on the border is inside, whatever its rounding
    if filter == "box":
        inside = (f_t.abs() <= d_t * edge) & (f_h.abs() <= d_s * edge) & (f_w.abs() <= d_s * edge)
        return inside.double()
    d2 = (f_t * d_s / d_t) ** 2 + f_h**2 + f_w**2
    if filter == "ideal":
        return (d2 <= d_s**2 * edge).double()
    if filter == "gaussian":
        return torch.exp(-d2 / (2 * d_s**2))
    return 1 / (1 + (d2 / d_s**2) ** order)


def mixed(
    low: torch.Tensor, high: torch.Tensor, low_gain: torch.Tensor, high_gain: torch.Tensor
) -> torch.Tensor:  # fmt: skip
    """Inverse FFT of FFT(low) * low_gain + FFT(high) * high_gain: float32 [T, H, W] of two such; gains of low_pass's
    shape, on their device."""
    spectrum = torch.fft.rfftn(low.float()).mul_(low_gain)
    spectrum += torch.fft.rfftn(high.float()).mul_(high_gain)
    return torch.fft.irfftn(spectrum, s=low.shape)
