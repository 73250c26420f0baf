"""Real runs of a tiny random Wan model with VMCR around any sampler."""

import comfy.model_sampling
import comfy.sample
import comfy.samplers
import torch
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler

from . import zoo
from .tiny_wan import prompt

STEPS, FRAMES = 4, 5


def flow():
    return zoo.wan(num_layers=1)


def both(flow_model):
    """The same weights as a flow model and as a noise-prediction one: core's ancestral samplers differ."""

    class Noise(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
        pass

    noise = flow_model.clone()
    noise.add_object_patch("model_sampling", Noise(flow_model.model.model_config))
    return {"flow": flow_model, "noise": noise}


def run(model, sampler, *, frames=FRAMES, sigmas=None, mask=None, start=None, callback=None, shape=None, noise=True):
    if isinstance(sampler, str):
        sampler = comfy.samplers.sampler_object(sampler)
    start = torch.zeros(shape or (1, 16, frames, 4, 4)) if start is None else start
    if sigmas is None:
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    noise = comfy.sample.prepare_noise(start, 5) if noise else torch.zeros_like(start)
    with torch.inference_mode():
        return comfy.sample.sample_custom(
            model, noise, 3.0, sampler, sigmas, prompt(1), prompt(2), start,
            noise_mask=mask, callback=callback, disable_pbar=True, seed=5,
        )  # fmt: skip


def wrapped(name, omega=1e-4, options=None, **kwargs):
    sampler = comfy.samplers.sampler_object(name) if isinstance(name, str) else name
    if options:
        sampler.extra_options = options
    return refine_sampler(sampler, RefineSettings(omega, **kwargs))
