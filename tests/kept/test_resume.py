"""A run that was cut off and queued again gives the uninterrupted video, bit for bit, with every sampler of core."""

import shutil

import comfy.model_sampling
import comfy.samplers
import pytest
import torch
from support.kept_runs import EVERY, counted, cut_off, output, wan  # noqa: F401

pytestmark = pytest.mark.usefixtures("one_thread")
MOST_LOST = 3  # calls within a step
# Where runs are cut off, as shares of their calls; half-way, unless the sampler has a history of its own kind.
CUTS = dict.fromkeys(("euler", "heun", "dpmpp_2m", "dpmpp_3m_sde", "lms", "sa_solver", "uni_pc"), (0.34, 0.7, 0.99))



@pytest.fixture(scope="module")
def models():
    """The same weights as a flow model and as a noise-prediction one: core's ancestral samplers differ."""

    class Noise(comfy.model_sampling.ModelSamplingDiscrete, comfy.model_sampling.EPS):
        pass

    flow = wan()
    noise = flow.clone()
    noise.add_object_patch("model_sampling", Noise(flow.model.model_config))
    return {"flow": flow, "noise": noise}


@pytest.mark.parametrize("kind", ["flow", "noise"])
@pytest.mark.parametrize("name", comfy.samplers.SAMPLER_NAMES)
def test_every_sampler_resumes_bit_for_bit(models, output, kind, name):  # noqa: F811
    whole, all_calls = counted(models[kind], name)
    assert torch.isfinite(whole).all()
    for cut in CUTS.get(name, (1 / 2,)):
        shutil.rmtree(output / "longtake", ignore_errors=True)
        cut = int(all_calls * cut)
        cut_off(models[kind], name, cut, settings=EVERY)
        resumed, again = counted(models[kind], name, settings=EVERY)
        assert torch.equal(resumed, whole), cut
        assert again <= all_calls - cut + MOST_LOST, (cut, again)
    finished, rest = counted(models[kind], name, settings=EVERY)
    assert torch.equal(finished, whole) and rest <= MOST_LOST
