"""MEVG runs of the zoo's models, by fifo_runs.run: clips of four latent frames, a video of seven."""

from longtake.samplers.adapters.latents import compression_of
from longtake.samplers.adapters.mevg import MEVGSampler
from longtake.samplers.windows import pixel_length

from . import zoo
from .fifo_runs import WAN, F
from .zoo_runs import NAMES

WORKS = sorted(set(NAMES) - {"wan21_i2v", "wan21_vace", "hunyuan_video15"})
PLAIN = {"start_percent": 0.0, "shared_noise": 0.0, "sgs": 0.0, "first_latent": "as_is"}  # clips that know no other


def mevg(name=WAN, length=F, **settings):
    given = {
        "begin": "renoise", "start_percent": 0.3, "shared_noise": 1.0, "lfai": 1000.0, "sgs": 7.0,
        "first_latent": "anchor",
    }  # fmt: skip
    return MEVGSampler(pixel_length(length, compression_of(zoo.patcher(name))), **given | settings)
