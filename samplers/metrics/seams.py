"""Seams: whether a video changes at its windows' boundaries as it does around them. The pack's own score."""

import math
from collections.abc import Sequence

import torch

EPS = 0.5 / 255  # of a change of pixels: half a grey level
REACH = 12  # transitions to each side that a boundary is compared with


def boundary_ratios(
    signal: torch.Tensor, boundaries: Sequence[int], first: int = 1, eps: float = EPS
) -> torch.Tensor:  # fmt: skip
    """Per boundary (d_b + eps) / (median of d around it + eps) [B]: 1 = as around it, NaN where nothing can be said.

    signal [T]: signal[t] belongs to the step into frame t + first. boundaries: pixel frames that a window begins with.
    The median (of an even number the lower one) is over REACH steps to each side that are no boundary themselves. eps:
    what is too little to be seen, in the signal's unit.
    """
    places = [b - first for b in boundaries]
    taken = set(places)
    found = []
    for at in places:
        near = [t for t in range(at - REACH, at + REACH + 1) if 0 <= t < len(signal) and t not in taken]
        usual = signal[near].double().nanmedian().item() if near else math.nan
        found.append((signal[at].item() + eps) / (usual + eps) if 0 <= at < len(signal) else math.nan)
    return torch.tensor(found, dtype=torch.float64)
