"""Fuse weights and the accumulation of window predictions into one long prediction.

Every path is normalised by itself: over the windows that cover a frame its weights sum to 1. Weights run over the L
positions of a window; T is the long latent's frame axis.
"""

import math
from collections.abc import Sequence

import torch

from .windows import Window


def triangular_weights(length: int) -> list[float]:
    """w_i = 1 - |2(i + 1/2) / L - 1|, the weights of DiTCtrl (arXiv 2412.18597)."""
    return [1 - abs(2 * (i + 0.5) / length - 1) for i in range(length)]


def sine_weights(length: int) -> list[float]:
    """w_i = sin(pi (i + 1/2) / L), the weights of VideoMerge (arXiv 2503.09926)."""
    return [math.sin(math.pi * (i + 0.5) / length) for i in range(length)]


def normalised(windows: Sequence[Window], weights: Sequence[Sequence[float]], frames: int) -> list[torch.Tensor]:
    """Weights of each window's own frames, divided by each frame's total: they sum to 1 on every frame.

    weights[k] has one weight per position of windows[k]; returns float64 tensors of windows[k].real values.
    Raises ValueError when a frame is covered by no window.
    """
    total = torch.zeros(frames, dtype=torch.float64)
    parts = []
    for window, w in zip(windows, weights, strict=True):
        part = torch.as_tensor(w, dtype=torch.float64)[window.lead : window.lead + window.real]
        index = torch.tensor(window.own)
        total.index_add_(0, index, part)
        parts.append((index, part))
    if not bool((total > 0).all()):
        raise ValueError(f"frames {torch.nonzero(total <= 0).flatten().tolist()} are covered by no window")
    return [part / total[index] for index, part in parts]


def accumulate(out: torch.Tensor, part: torch.Tensor, window: Window, weights: torch.Tensor, dim: int) -> None:
    """out[window] += weights * part along frame axis `dim`, in place; the window's padding is dropped.

    out [.., F, ..], part [.., L, ..], weights [window.real].
    """
    shape = [1] * out.ndim
    shape[dim] = window.real
    weighted = part.narrow(dim, window.lead, window.real) * weights.to(out).view(shape)
    place = frames_slice(window.own)
    if place is None:
        out.index_add_(dim, torch.tensor(window.own, device=out.device), weighted)
    else:
        out[(slice(None),) * dim + (place,)].add_(weighted)


def frames_slice(indices: Sequence[int]) -> slice | None:
    """The slice of a frame axis that holds these indices in their order; None where none does."""
    first, step = indices[0], indices[1] - indices[0] if len(indices) > 1 else 1
    if step < 1 or any(b - a != step for a, b in zip(indices, indices[1:], strict=False)):
        return None
    return slice(first, indices[-1] + 1, step)


def frames_of(tensor: torch.Tensor, dim: int, indices: list[int]) -> torch.Tensor:
    """These frames of axis `dim`, in their order. A view where they are evenly spaced, like most windows: core copies
    what it hands to a model. No index goes to the device, which would wait for it."""
    place = frames_slice(indices)
    if place is not None:
        return tensor[(slice(None),) * dim + (place,)]
    return torch.cat([tensor.narrow(dim, i, 1) for i in indices], dim)
