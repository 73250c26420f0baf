"""Noise for ComfyUI's samplers: a NOISE object, and a MODEL that makes KSampler use one (adapter of glc/noise.py)."""

import dataclasses

import comfy.patcher_extension
import comfy.sample
import torch

from ..glc.noise import NoiseSettings, reinitialise_
from ..seeds import derived_seed, generator

NODE = "Noise Reinit (LongTakeNoiseReinit)"
MODEL_NODE = "Noise Reinit for KSampler (LongTakeNoiseToModel)"
KEY = "longtake_noise"


def check_latent(latent) -> None:
    """Raises ValueError unless `latent` is one tensor [B, C, T, H, W], or [T, C, H, W] with the frames as its batch."""
    if latent.is_nested:
        shapes = ", ".join(str(tuple(t.shape)) for t in latent.unbind())
        raise ValueError(
            f"{NODE}: the sampler's latent_image holds several latents ({shapes}), e.g. video with audio; use a latent "
            f"of video alone, mode random, or RandomNoise"
        )
    if latent.ndim not in (4, 5):
        raise ValueError(
            f"{NODE}: the sampler's latent_image has the shape {tuple(latent.shape)}; a video latent is [batch, "
            f"channels, frames, height, width], or [frames, channels, height, width] for models with the frames in the "
            f"batch; use such a latent, mode random, or RandomNoise"
        )


@dataclasses.dataclass(frozen=True)
class ReinitNoise:
    """A NOISE: glc/noise.py's reinitialised noise, drawn on the CPU as ComfyUI draws it, so equal on every device.

    length L of the noise unit and stride S of the shuffle in latent frames (the window's). Its base noise is ComfyUI's
    RandomNoise of the same seed, batch_index included.
    """

    seed: int
    settings: NoiseSettings
    length: int
    stride: int

    def generate_noise(self, input_latent: dict) -> torch.Tensor:
        latent, indices = input_latent["samples"], input_latent.get("batch_index")
        if self.settings.mode == "random":
            return comfy.sample.prepare_noise(latent, self.seed, indices)
        check_latent(latent)
        fresh = None
        if self.settings.fresh:
            fresh = comfy.sample.prepare_noise(latent, derived_seed(self.seed, "fresh noise"), indices)
        # Drawn last: prepare_noise seeds torch's own generator, which now stands where RandomNoise leaves it.
        base = comfy.sample.prepare_noise(latent, self.seed, indices)
        video, other = base, fresh
        if latent.ndim == 4:  # the frames are the batch: [T, C, H, W] seen as [1, C, T, H, W]
            video, other = (t if t is None else t.movedim(0, 1)[None] for t in (base, fresh))
        shuffle = generator(derived_seed(self.seed, "shuffle"))
        reinitialise_(video, other, self.settings, self.length, self.stride, shuffle)
        return base


def apply_noise(model, noise):
    """A clone of the ModelPatcher whose samplers start from the NOISE object `noise` in place of their own noise."""

    def wrapper(
        executor, own, latent_image, sampler, sigmas, denoise_mask=None, callback=None, disable_pbar=False, seed=None,
        latent_shapes=None, **kwargs,
    ):  # fmt: skip
        if bool(own.any()):  # none where the sampler adds no noise: it continues a half-done latent
            own = replacement(noise, own, latent_image, seed, latent_shapes)
        return executor(
            own, latent_image, sampler, sigmas, denoise_mask, callback, disable_pbar, seed,
            latent_shapes=latent_shapes, **kwargs,
        )  # fmt: skip

    model = model.clone()
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    model.remove_wrappers_with_key(kind, KEY)
    model.add_wrapper_with_key(kind, KEY, wrapper)
    return model


def replacement(noise, own: torch.Tensor, latent_image: torch.Tensor, seed: int | None, latent_shapes) -> torch.Tensor:
    """Noise of the NOISE object in the place of the sampler's `own`: same shape, type and device.

    Our own object takes the sampler's seed; another keeps its own. The sampler's batch_index is not known here.
    """
    shape = tuple(own.shape)
    if latent_shapes is not None and [tuple(s) for s in latent_shapes] != [shape]:
        shapes = ", ".join(str(tuple(s)) for s in latent_shapes)
        raise ValueError(
            f"{MODEL_NODE}: the sampler's latent_image holds several latents ({shapes}), e.g. video with audio; use a "
            f"latent of video alone, or connect the model without this node"
        )
    if isinstance(noise, ReinitNoise) and seed is not None:
        noise = dataclasses.replace(noise, seed=seed)
    made = noise.generate_noise({"samples": latent_image})
    if made.shape != own.shape:
        raise ValueError(
            f"{MODEL_NODE}: noise: made the shape {tuple(made.shape)} for a latent of shape {shape}; use Noise Reinit "
            f"or RandomNoise"
        )
    return made.to(own)
