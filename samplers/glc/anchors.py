"""Anchor attention: GLC-Diffusion's ABAM (arXiv 2501.05484, Eq. 10).

Every window's self-attention sees keys and values that are partly those of the first window of its path, at the same
layer, step and CFG branch: K = (1 - a) K_i + a K_0, V likewise; queries stay the window's own.

Differs from the paper: Eq. 10 as printed puts lambda = 0.1 on the window's own keys, its prose on the anchor's. Here
`a` is the anchor's weight, 0.1 by default; 0.9 is Eq. 10 as printed. Token j is blended with token j: all windows
have the same length and local positions, so token j means the same place at the same time within its window.
"""

import torch


def blend_(kv: torch.Tensor, anchor: torch.Tensor, a: float) -> torch.Tensor:
    """Keys or values of a window's video tokens [.., S, D], blended in place with the anchor window's (Eq. 10).

    a in 0..1; a window equal to the anchor stays unchanged. Returns kv.
    """
    return kv.lerp_(anchor.to(kv), a)
