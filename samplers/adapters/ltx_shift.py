"""LTX-Video's noise shift, which core's LTXVScheduler and ModelSamplingLTXV take from the tokens of a latent.

A model that samples in windows sees one window's tokens; a shift by the whole video's is far stronger than it knows.
"""

import math

import comfy.model_base
import torch
from comfy_extras.nodes_lt import LTXVScheduler

from ..windows import WindowSettings, pixel_length
from .latents import DIM

LTX = tuple(c for n in ("LTXV", "LTXAV") if (c := getattr(comfy.model_base, n, None)) is not None)
DEFAULTS = {"max_shift": 2.05, "base_shift": 0.95}  # of both nodes


def note(model, x: torch.Tensor, sigmas: torch.Tensor, settings: WindowSettings) -> str | None:
    """What to change where either node, at its default settings, was given the whole video's latent x
    [B, C, F, H, W]; sigmas: of the run."""
    if not isinstance(model, LTX):
        return None
    window = [*x.shape[:DIM], min(settings.length, x.shape[DIM]), *x.shape[DIM + 1 :]]
    whole, one = (_schedule(len(sigmas) - 1, shape) for shape in (x.shape, window))
    steps = len(sigmas) - 1
    if torch.allclose(sigmas.cpu().float(), whole, atol=1e-4):
        node, at = "LTXVScheduler", steps // 2
        change = f"sigma {whole[at]:.2f} at step {at} of {steps}, for a window {one[at]:.2f}"
    elif math.isclose(getattr(model.model_sampling, "shift", 0.0), _shift(x.shape), abs_tol=1e-6):
        node, change = "ModelSamplingLTXV", f"{_shift(x.shape):.2f}, for a window {_shift(window):.2f}"
    else:
        return None
    frames = pixel_length(window[DIM], settings.compression)
    return (
        f"{node}: latent: the whole video's, so the noise shift is stronger than the model knows ({change}). Connect "
        f"an empty latent of one window ({frames} frames) there"
    )


def _schedule(steps: int, shape) -> torch.Tensor:
    latent = {"samples": torch.empty(shape, device="meta")}
    return LTXVScheduler.execute(steps, **DEFAULTS, stretch=True, terminal=0.1, latent=latent).result[0].float()


def _shift(shape) -> float:
    low, high = 1024, 4096  # tokens that base_shift and max_shift are meant for
    slope = (DEFAULTS["max_shift"] - DEFAULTS["base_shift"]) / (high - low)
    return DEFAULTS["base_shift"] + (math.prod(shape[DIM:]) - low) * slope
