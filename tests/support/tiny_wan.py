"""Sampling runs of the zoo's Wan on latents of 4x4: prompts, timelines, and notes of the model calls."""

import comfy.sample
import comfy.samplers
import torch
from longtake.samplers.prompts.timeline import Span

from . import zoo

FRAMES, STEPS, CFG = 14, 3, 2.0
TOTAL = 4 * (FRAMES - 1) + 1  # pixel frames
CLOSE = 3e-5  # float32's rounding: latents come out near 6


def patcher():
    return zoo.patcher("wan21_t2v")


def prompt(seed, **extra):
    return [[zoo.randn(1, 12, 4096, seed=seed), extra]]


def rows(seed):
    return prompt(seed)[0][0]


def timeline(total, starts, blend=0.0):
    """Entry 0 global, one entry per event, never active in a plain call."""
    entries = prompt(1, longtake_span=None)
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else total
        span = Span(index=i, start=start, end=end, blend=blend, total=total)
        entries += prompt(10 + i, longtake_span=span, start_percent=1.0, end_percent=0.0)
    return entries


def latent(frames=FRAMES, batch=1):
    return torch.zeros(batch, 16, frames, 4, 4)


def run(
    model, frames=FRAMES, *, positive=None, negative=None, cfg=CFG, sampler="euler", batch=1, callback=None,
    steps=STEPS, seed=5,
):  # fmt: skip
    """What KSampler makes of the model, or SamplerCustom where `sampler` is a SAMPLER."""
    start = latent(frames, batch)
    noise, prompts = comfy.sample.prepare_noise(start, seed), (positive or prompt(1), negative or prompt(2), start)
    rest = {"disable_pbar": True, "seed": seed, "callback": callback}
    if isinstance(sampler, str):
        return comfy.sample.sample(model, noise, steps, cfg, sampler, "simple", *prompts, **rest)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
    return comfy.sample.sample_custom(model, noise, cfg, sampler, sigmas, *prompts, **rest)


def record(model):
    """A clone whose model calls are noted: (input shape, longtake's note, text rows, CFG branches)."""
    calls = []

    def wrapper(apply, args):
        options = args["c"]["transformer_options"]
        text = args["c"]["c_crossattn"].clone()
        calls.append((tuple(args["input"].shape), options.get("longtake"), text, args["cond_or_uncond"]))
        return apply(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model, calls
