"""One frame, or two, at a time: change, likeness, sharpness and colour. Frames [n, H, W, 3] in 0..1."""

import functools
from collections.abc import Sequence

import torch
import torch.nn.functional as F

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
BINS = 32  # of a histogram per channel
SIDE, SIGMA = 11, 1.5  # of SSIM's Gaussian, in pixels (Wang et al. 2004)
K1, K2 = 0.01, 0.03
LAPLACIAN = ((0, 1, 0), (1, -4, 1), (0, 1, 0))
TO_XYZ = ((0.412453, 0.357580, 0.180423), (0.212671, 0.715160, 0.072169), (0.019334, 0.119193, 0.950227))  # sRGB
WHITE = (0.95047, 1.0, 1.08883)  # D65, 2 degrees
LAB_RANGE = ((0.0, 100.0), (-128.0, 128.0), (-128.0, 128.0))


def luma(frames: torch.Tensor) -> torch.Tensor:
    """[n, H, W] in 0..1."""
    return frames @ frames.new_tensor(LUMA)


def change(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean absolute difference [n] in 0..1. VBench's temporal flickering is 1 - its mean."""
    return (a - b).abs().mean((1, 2, 3))


@functools.lru_cache(1)
def gaussian() -> torch.Tensor:
    at = torch.arange(SIDE, dtype=torch.float32) - SIDE // 2
    weights = torch.exp(-(at**2) / (2 * SIGMA**2))
    return weights / weights.sum()


def blurred(images: torch.Tensor) -> torch.Tensor:
    """[n, H, W] -> where the Gaussian fits in; where the picture is smaller than it, the one mean of all."""
    weights = gaussian().to(images)
    rows = images[:, None]
    if min(images.shape[1:]) < SIDE:
        return rows.mean((2, 3), keepdim=True)[:, 0]
    rows = F.conv2d(rows, weights.view(1, 1, -1, 1))
    return F.conv2d(rows, weights.view(1, 1, 1, -1))[:, 0]


Structure = Sequence[torch.Tensor]


def structure(frames: torch.Tensor) -> Structure:
    """What `ssim_of` compares: luma [n, H, W], and its mean and variance around each pixel [n, H - 10, W - 10]."""
    grey = luma(frames)
    mean = blurred(grey)
    return grey, mean, blurred(grey * grey) - mean**2


def ssim_of(a: Structure, b: Structure) -> torch.Tensor:
    """Structural similarity [n], 1 = the same (Wang et al. 2004, Eq. 13)."""
    (grey_a, mean_a, var_a), (grey_b, mean_b, var_b) = a, b
    product = mean_a * mean_b
    both = blurred(grey_a * grey_b) - product
    c1, c2 = K1**2, K2**2
    found = (2 * product + c1) * (2 * both + c2) / ((mean_a**2 + mean_b**2 + c1) * (var_a + var_b + c2))
    return found.mean((1, 2))


def ssim(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Structural similarity of the lumas of frames [n], 1 = the same."""
    return ssim_of(structure(a), structure(b))


def laplacian_variance(frames: torch.Tensor) -> torch.Tensor:
    """Variance [n] of the Laplacian of the luma in 0..255, interior pixels; 0 where there are none."""
    images = 255 * luma(frames)
    if min(images.shape[1:]) < 3:
        return images.new_zeros(len(images))
    kernel = images.new_tensor(LAPLACIAN)[None, None]
    return F.conv2d(images[:, None], kernel).flatten(1).var(1, correction=0)


def lab(frames: torch.Tensor) -> torch.Tensor:
    """CIE L*a*b* [n, H, W, 3] of sRGB under D65: L in 0..100."""
    linear = torch.where(frames > 0.04045, ((frames + 0.055) / 1.055).clamp(min=0) ** 2.4, frames / 12.92)
    xyz = linear @ frames.new_tensor(TO_XYZ).T / frames.new_tensor(WHITE)
    f = torch.where(xyz > 0.008856, xyz.clamp(min=0) ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(-1)
    return torch.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


def histograms(frames: torch.Tensor) -> torch.Tensor:
    """Shares [n, 3, BINS] of the pixels by L*, a* and b*; each row sums to 1.

    A pixel counts by its distance for the two bins that it lies between, so that what cannot be seen counts little.
    """
    colours = lab(frames).flatten(1, 2)
    low, high = (frames.new_tensor(ends) for ends in zip(*LAB_RANGE, strict=True))
    places = ((colours - low) / (high - low) * (BINS - 1)).clamp(0, BINS - 1).movedim(-1, 1)
    below = places.floor().clamp(max=BINS - 2)
    upper = places - below
    counts = frames.new_zeros(len(frames), 3, BINS)
    counts.scatter_add_(2, below.long(), 1 - upper).scatter_add_(2, below.long() + 1, upper)
    return counts / places.shape[2]


def histogram_drift(first: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    """1 - Bhattacharyya coefficient [...] of histograms [..., 3, BINS], mean of the channels: 0 same, 1 disjoint."""
    return (1 - (first * other).sqrt().sum(-1).mean(-1)).clamp(min=0)


def saturation(frames: torch.Tensor) -> torch.Tensor:
    """Mean saturation [n] (HSV), 0 grey to 1."""
    most, least = frames.amax(-1), frames.amin(-1)
    return ((most - least) / most.clamp(min=1e-6)).mean((1, 2))
