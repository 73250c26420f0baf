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

Memory: chunks are read where they lie in the long video, and the gradients of a few frames of each are made and fused
at a time. Nothing holds all chunks but the predictions that go in.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ..fusion import accumulate
from ..windows import Window, group

LEAST_SNR = 1e-3  # below, at the end of a zero-terminal-SNR schedule, x_t says nothing about x0: no repulsion
AT_ONCE = 8  # frames, of all chunks together, whose gradients are made at a time


def kernel(y: Sequence[torch.Tensor], exchange: float = 0.0) -> tuple[torch.Tensor, torch.Tensor]:
    """K_ij = exp(-gamma |y_i - y_j|^2) [B, n, n] and gamma = ln(1 / exchange) / median of the distances, [B]; in
    float32 at least.

    y: n noisy chunks of B videos, each [B, ...]. exchange: K of two chunks at the median distance, above 0 to 1;
    0: the papers' 1 / (n + 1). One chunk, or chunks that are all alike, give K = 1, gamma 0.
    """
    n, dtype = len(y), torch.promote_types(y[0].dtype, torch.float32)
    distances = torch.zeros(len(y[0]), n, n, dtype=dtype, device=y[0].device)
    for i in range(n):
        for j in range(i):
            d = (y[i].to(dtype) - y[j].to(dtype)).flatten(1).square_().sum(1)
            distances[:, i, j] = distances[:, j, i] = d
    if n == 1:
        return torch.ones_like(distances), torch.zeros_like(distances[:, 0, 0])
    i, j = torch.tril_indices(n, n, -1, device=distances.device)
    median = distances[:, i, j].median(dim=1).values
    gamma = torch.where(median > 0, math.log(1 / exchange if exchange else n + 1) / median, 0)
    return (-gamma.view(-1, 1, 1) * distances).exp(), gamma


def csd_direction(
    y: torch.Tensor, scored_y: torch.Tensor, r: torch.Tensor, K: torch.Tensor, gamma: torch.Tensor, snr: float
) -> torch.Tensor:
    """What the scores of m chunks j give the gradient of n chunks i, [n, B, ...] (Eq. 3, corrected as above):

        sum_j ( K_ij r_j - 2 gamma / snr * K_ij (y_i - y_j) )

    y, scored_y: the chunks i [n, B, ...] and j [m, B, ...] in units of their noise, y = snr * x0 + eps. r: residuals
    x0 - x0_hat(y) of the chunks j, [m, B, ...]. K [B, n, m], gamma [B]: see kernel. snr: signal over noise amplitude of
    this step (sqrt(abar / (1 - abar)), or (1 - sigma) / sigma for flow models). All have the same frames of each chunk.
    """
    K = K.to(r)
    g = torch.einsum("bij,jb...->ib...", K, r)
    if snr > LEAST_SNR:
        per_video = [1] * (y.ndim - 2)
        repulsion = K.sum(2).t().reshape(*y.shape[:2], *per_video) * y
        repulsion -= torch.einsum("bij,jb...->ib...", K, scored_y)
        repulsion *= (2 * gamma.to(r) / snr).view(1, -1, *per_video)
        g -= repulsion
    return g


@dataclass(frozen=True)
class NoisyChunks:
    """The chunks that one iteration moves: windows over the noisy video x [B, C, F, H, W] = signal * x0 + noise * eps.

    K [B, n, n], gamma [B]: see kernel. share [F]: 1 over the number of chunks on a frame.
    """

    x: torch.Tensor
    signal: float
    noise: float
    windows: Sequence[Window]
    K: torch.Tensor
    gamma: torch.Tensor
    share: torch.Tensor

    @classmethod
    def of(cls, x: torch.Tensor, signal: float, noise: float, windows: Sequence[Window], exchange: float = 0.0):
        y = x / noise
        K, gamma = kernel([take(y, window) for window in windows], exchange)
        # Filled where it lies: nothing is copied to the device.
        count = torch.zeros(x.shape[2], dtype=torch.promote_types(x.dtype, torch.float32), device=x.device)
        for window in windows:
            count[window.indices[0] : window.indices[-1] + 1] += 1
        return cls(x, signal, noise, windows, K, gamma, 1 / count)


def take(x: torch.Tensor, window: Window, start: int = 0, stop: int | None = None) -> torch.Tensor:
    """TakeChunk: the window's frames start..stop-1 (all of them) of the video x [B, C, F, H, W], as a view."""
    length = len(window.indices) if stop is None else stop
    return x[:, :, window.indices[0] + start : window.indices[0] + length]


def add_direction(
    g: torch.Tensor, x0: torch.Tensor, predicted: torch.Tensor, chunks: NoisyChunks, scored: Sequence[int], count: int
) -> None:
    """Add to g, the gradient of the long video x0 (both [B, C, F, H, W]), what the scores of some chunks say: the
    gradients of all chunks (Eq. 3), fused by their mean where chunks overlap (Fig. 15); 0 where there is no chunk.

    predicted: x0_hat of the chunks `scored` (indices into chunks.windows), one after the other in the frame axis,
    [B, C, m * L, H, W]. count: how many chunks are scored in this iteration, in this and other calls.
    """
    windows, length = chunks.windows, len(chunks.windows[0].indices)
    parts = list(zip(scored, predicted.split(length, 2), strict=True))
    K = torch.stack([chunks.K[:, :, j] for j in scored], 2)
    for rows in group(len(windows), AT_ONCE):
        step = max(AT_ONCE // max(len(rows), len(parts)), 1)
        # From the end: a frame's earlier chunks, in which it lies later, come first, as they would chunk by chunk.
        for stop in range(length, 0, -step):
            start = max(stop - step, 0)
            r = torch.stack([take(x0, windows[j], start, stop) - part[:, :, start:stop] for j, part in parts])
            y, scored_y = (
                torch.stack([take(chunks.x, windows[i], start, stop) for i in some]).div_(chunks.noise)
                for some in (rows, scored)
            )
            of_rows = slice(rows.start, rows.stop)
            moves = csd_direction(y, scored_y, r, K[:, of_rows], chunks.gamma, chunks.signal / chunks.noise)
            for i, move in zip(rows, moves.div_(count), strict=True):
                frames = windows[i].indices[start:stop]
                accumulate(g, move, Window(frames, len(frames)), chunks.share[frames[0] : frames[-1] + 1], 2)
