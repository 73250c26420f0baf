"""Core's Stable Video Diffusion at a tiny size, with random weights: a U-Net whose batch is the video."""

import functools

import comfy.sample
import comfy.samplers
import torch

from . import zoo

FRAMES, SIDE, STEPS, CFG, CONTEXT = 11, 8, 2, 2.0, 16
CLOSE = 3e-3  # float32's rounding of latents of size 700
NET = {
    "image_size": 32, "in_channels": 8, "out_channels": 4, "model_channels": 64, "num_res_blocks": [1],
    "channel_mult": [1], "transformer_depth": [1], "transformer_depth_middle": 1,
    "transformer_depth_output": [1, 1], "context_dim": CONTEXT, "adm_in_channels": 768,
    "num_classes": "sequential", "use_spatial_transformer": True, "use_linear_in_transformer": True,
    "use_temporal_attention": True, "use_temporal_resblock": True, "use_spatial_context": True,
    "extra_ff_mix_layer": True, "merge_strategy": "learned_with_images", "merge_factor": 0.0,
    "video_kernel_size": [3, 1, 1], "legacy": False, "num_heads": -1, "num_head_channels": 8,
}  # fmt: skip


@functools.cache
def patcher(kind="SVD_img2vid", **changes):
    return zoo.constructed(kind, {**NET, **changes})


def prompt(seed, **extra):
    """What SVD_img2vid_Conditioning writes: the image's embedding, and its latent for all frames."""
    image = zoo.randn(1, 4, SIDE, SIDE, seed=seed + 50)
    options = {"motion_bucket_id": 127, "fps": 6, "augmentation_level": 0.0, "concat_latent_image": image}
    return [[zoo.randn(1, 1, CONTEXT, seed=seed), {**options, **extra}]]


def latent(frames=FRAMES):
    return torch.zeros(frames, 4, SIDE, SIDE)


def run(model, frames=FRAMES, *, positive=None, negative=None, cfg=CFG, sampler="euler", steps=STEPS, seed=5,
        noise=None, start=None, mask=None, callback=None):  # fmt: skip
    """What KSampler makes of the model, or SamplerCustom where `sampler` is a SAMPLER."""
    start = latent(frames) if start is None else start
    noise = comfy.sample.prepare_noise(start, seed) if noise is None else noise
    rest = {"disable_pbar": True, "seed": seed, "noise_mask": mask, "callback": callback}
    prompts = (positive or prompt(1), negative or prompt(2), start)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", steps)
    sampler = comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler
    return comfy.sample.sample_custom(model, noise, cfg, sampler, sigmas, *prompts, **rest)


def record(model):
    """A clone whose model calls are noted: (rows, longtake's note, what the net got)."""
    calls = []

    def wrapper(apply, args):
        c = args["c"]
        kept = {k: v.clone() if isinstance(v, torch.Tensor) else v for k, v in c.items() if k != "transformer_options"}
        calls.append((args["input"].clone(), c["transformer_options"].get("longtake"), kept))
        return apply(args["input"], args["timestep"], **c)

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model, calls
