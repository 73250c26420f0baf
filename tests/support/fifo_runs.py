"""FIFO runs of the zoo's models: clips of four latent frames, a video of seven."""

import comfy.sample
import comfy.samplers
from longtake.samplers.adapters.fifo import FIFOSampler

from . import zoo
from .zoo_runs import NAMES

WAN, F, FRAMES, SEED = "wan21_t2v", 4, 7, 5
WORKS = ["wan21_t2v", "wan22_5b", "ltxv", "cosmos_predict2"]
REFUSED = sorted(set(NAMES) - set(WORKS) - {"wan21_i2v"})  # a WanModel too: refused for its start image


def pixels(name, length=F):
    return 8 * (length - 1) + 1 if name == "ltxv" else 4 * (length - 1) + 1


def fifo(name=WAN, length=F, partitions=2, lookahead=True, start="clip"):
    return FIFOSampler(pixels(name, length), partitions, lookahead, start)


def schedule(model, steps=2 * F):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)


def run(
    sampler=None, name=WAN, model=None, frames=FRAMES, *, positive=None, cfg=2.0, seed=SEED, sigmas=None, mask=None,
    latent=None, noise=None, callback=None,
):  # fmt: skip
    kind, model = zoo.zoo()[name], model or zoo.patcher(name)
    latent = kind.latent(frames) if latent is None else latent
    return comfy.sample.sample_custom(
        model, comfy.sample.prepare_noise(latent, seed) if noise is None else noise, cfg, sampler or fifo(name),
        schedule(model) if sigmas is None else sigmas, positive or kind.conditioning(1, frames),
        kind.conditioning(2, frames), latent, noise_mask=mask, disable_pbar=True, seed=seed, callback=callback,
    )  # fmt: skip


def euler():
    return comfy.samplers.sampler_object("euler")
