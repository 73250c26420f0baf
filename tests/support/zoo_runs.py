"""Sampling runs of the zoo's models, nine latent frames long."""

import comfy.sample
from longtake.samplers.adapters.window import NEW_CORE

from . import zoo

FRAMES = 9

NAMES = [
    "wan21_t2v", "wan21_i2v", "wan22_5b", "wan21_vace", "ltxv", "hunyuan_video", "hunyuan_video15", "mochi",
    "cosmos_predict2",
]  # fmt: skip
if NEW_CORE:
    NAMES += ["cogvideox", "cogvideox15", "kandinsky5"]

# CogVideoX's schedule starts at sigma 4519, where float32 rounds a latent to 1e-3; comparisons start it at sigma 3.5.
DENOISE = {"cogvideox": 0.6, "cogvideox15": 0.6}


def run(
    name, patcher=None, *, positive=None, prompt=1, seed=5, steps=2, cfg=2.0, sampler="euler", denoise=1.0,
    latent=None, mask=None, extra=None, callback=None,
):  # fmt: skip
    """What KSampler makes of a model, or of a `patcher` of it; `extra` goes to both prompts."""
    model, extra = zoo.zoo()[name], extra or {}
    latent = model.latent(FRAMES) if latent is None else latent
    return comfy.sample.sample(
        patcher or zoo.patcher(name), comfy.sample.prepare_noise(latent, seed), steps, cfg, sampler, "simple",
        positive or model.conditioning(prompt, FRAMES, **extra), model.conditioning(2, FRAMES, **extra), latent,
        denoise=denoise, noise_mask=mask, disable_pbar=True, seed=seed, callback=callback,
    )  # fmt: skip


def run_comparable(name, patcher, **kwargs):
    """The same, from where on float32 is fine enough to compare results."""
    return run(name, patcher, **{"denoise": DENOISE.get(name, 1.0)} | kwargs)


def overridden(name, attention):
    """A clone whose attention is `attention(func, q, k, v, *args, **kwargs)`."""
    patcher = zoo.patcher(name).clone()
    patcher.model_options["transformer_options"]["optimized_attention_override"] = attention
    return patcher
