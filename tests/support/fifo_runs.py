"""FIFO runs of the zoo's models: clips of four latent frames, a video of seven; and what other samplers that make the
whole video by clips are tested with, too."""

import comfy.sample
import comfy.samplers
from comfy_extras.nodes_custom_sampler import BasicGuider, DualCFGGuider, SamplerCustomAdvanced
from comfy_extras.nodes_easycache import EasyCacheNode, LazyCacheNode
from longtake.samplers.adapters.fifo import FIFOSampler

from . import windows, zoo
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


class Noise:
    seed = SEED

    def generate_noise(self, given):
        return comfy.sample.prepare_noise(given["samples"], SEED)


def guiders(model):
    """Of the positive prompt alone, and of three prompts."""
    texts = [zoo.zoo()[WAN].conditioning(seed, FRAMES) for seed in (1, 3, 2)]
    return [
        BasicGuider.execute(model, texts[0]).args[0],
        DualCFGGuider.execute(model, *texts, 2.0, 1.5, "regular").args[0],
    ]


def run_graph(guider, sampler, sigmas):
    """What SamplerCustomAdvanced makes of an empty latent."""
    latent = {"samples": zoo.zoo()[WAN].latent(FRAMES)}
    return SamplerCustomAdvanced.execute(Noise(), guider, sampler, sigmas, latent).args[0]["samples"]


# What a model may not carry, and the message.
CARRIED = [
    (windows.windowed, "model: carries windows .LongTakeContextHandler.*take the MODEL from before"),
    (windows.core_windowed, "model: carries windows .IndexListContextHandler"),
    (windows.anchored, "Anchor Attention .LongTakeABAM.: the model has no LongTake windows.* or bypass this"),
    (lambda m: EasyCacheNode.execute(m, 0.2, 0.15, 0.95, False).args[0], "model: EasyCache .or LazyCache. skips calls"),
    (lambda m: LazyCacheNode.execute(m, 0.2, 0.15, 0.95, False).args[0], "model: EasyCache .or LazyCache. skips calls"),
]  # fmt: skip
