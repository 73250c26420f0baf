"""Every seed that is derived from another one. All draws are on the CPU, so that they are the same on every device.

A seed has one purpose: two draws that must not be alike never share one. Where a draw belongs to a step of the sampler,
the step is named by a key that stays the same however the run reached it, so that a resumed run draws what a whole one
does.
"""

import hashlib

import torch


def derived_seed(seed: int, purpose: str) -> int:
    """A 63-bit seed for one purpose of one seed, unrelated to other seeds and purposes."""
    return int.from_bytes(hashlib.sha256(f"{purpose} {seed}".encode()).digest()[:8], "big") >> 1


def step_seed(seed: int, key: int) -> int:
    """A 63-bit seed for one step (its key) of one seed: the random shift of the windows."""
    mixed = (seed + 1) * 0x9E3779B97F4A7C15 ^ key * 0xBF58476D1CE4E5B9
    return mixed % 2**63


def generator(seed: int) -> torch.Generator:
    """A generator on the CPU."""
    return torch.Generator(device="cpu").manual_seed(seed)
