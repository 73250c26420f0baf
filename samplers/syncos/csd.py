"""Collaborative score distillation: the direction in which chunks of one video move together.

CSD (arXiv 2307.04787) as used by SynCoS (arXiv 2503.08605, Eq. 3): Stein variational gradient descent over the chunks.

Differs from SynCoS' Eq. 3 as printed, which gives every term the score of chunk i (so that chunks would exchange
nothing) and a kernel gradient that attracts: here, as in CSD's own code, the scores of all chunks j are exchanged and
the kernel repels. Differs from both:
- the score is taken in x0, r = x0 - x0_hat: the score of noise, v and flow models is a positive multiple of it, so one
  form serves all. The paper's weight w_t is left out: AdamW does not see it and for SGD it belongs into the rate;
- the bandwidth is of the distances between different chunks; CSD's median counts the zero distances of chunks to
  themselves, which makes it infinite for two chunks.

Adds `exchange`. Noisy chunks lie nearly equally far from each other, so the papers' bandwidth makes K_ij = 1 / (n + 1)
between any two: a chunk follows itself five times as much as another one of four, and what sets the chunks apart keeps
half the drive of what they share. A wider kernel has them follow each other; at 1 they move by one common direction.
And chunks without a prediction of their own may move along, as the sum has a term for them, too: `scored`.
"""

import math

import torch

from ..fusion import accumulate
from ..windows import Window

LEAST_SNR = 1e-3  # below, at the end of a zero-terminal-SNR schedule, x_t says nothing about x0: no repulsion


def kernel(y: torch.Tensor, exchange: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """K_ij = exp(-gamma |y_i - y_j|^2) [B, n, n] and gamma = ln(1 / exchange) / median of the distances, [B]; in
    float32 at least.

    y: n noisy chunks of each of B videos, [n, B, ...]. exchange: K of two chunks at the median distance, above 0 to 1;
    0: the papers' 1 / (n + 1). One chunk, or chunks that are all alike, give K = 1, gamma 0.
    """
    n, batch = y.shape[:2]
    y = y if y.dtype == torch.float64 else y.float()
    distances = torch.zeros(batch, n, n, dtype=y.dtype, device=y.device)
    for i in range(n):
        for j in range(i):
            d = (y[i] - y[j]).flatten(1).square().sum(1)
            distances[:, i, j] = distances[:, j, i] = d
    if n == 1:
        return torch.ones_like(distances), torch.zeros_like(distances[:, 0, 0])
    i, j = torch.tril_indices(n, n, -1)
    median = distances[:, i, j].median(dim=1).values
    gamma = torch.where(median > 0, math.log(1 / exchange if exchange else n + 1) / median, 0)
    return (-gamma.view(-1, 1, 1) * distances).exp(), gamma


def csd_direction(
    y: torch.Tensor, r: torch.Tensor, snr: float, exchange: float = 0.0, scored: list[int] | None = None
) -> torch.Tensor:
    """Gradient g [n, B, ...] that descent follows, per chunk i (Eq. 3, corrected as above):

        g_i = 1/m * sum_j ( K_ij r_j - 2 gamma / snr * K_ij (y_i - y_j) )

    y: noisy chunks [n, B, ...] in units of their noise, y = snr * x0 + eps. r: residuals x0 - x0_hat(y) of the m chunks
    j that were predicted, [m, B, ...]; scored: which of the n those are, ascending (None: all). snr: signal over noise
    amplitude of this step (sqrt(abar / (1 - abar)), or (1 - sigma) / sigma for flow models). exchange: see kernel.
    """
    batch, chosen = y.shape[1], slice(None) if scored is None else scored
    K, gamma = kernel(y, exchange)
    K = K[:, :, chosen].to(r)
    g = torch.einsum("bij,jb...->ib...", K, r)
    if snr > LEAST_SNR:
        weight = (2 * gamma.to(r) / snr).view(1, batch, *[1] * (y.ndim - 2))
        y = y.to(r)
        rows = K.sum(2).t().reshape(-1, batch, *[1] * (y.ndim - 2))
        g -= weight * (rows * y - torch.einsum("bij,jb...->ib...", K, y[chosen]))
    return g / len(r)


def average(parts: torch.Tensor, windows: list[Window], like: torch.Tensor) -> torch.Tensor:
    """Chunk gradients [n, B, C, L, H, W] put back on the long video `like` [B, C, F, H, W]: the mean where chunks
    overlap, 0 where there is none (SynCoS, Fig. 15)."""
    total, count = torch.zeros_like(like), torch.zeros(like.shape[2])
    for window in windows:
        count[list(window.indices)] += 1
    for part, window in zip(parts, windows, strict=True):
        accumulate(total, part, window, 1 / count[list(window.indices)], 2)
    return total
