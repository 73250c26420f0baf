"""Resumed runs of windows, anchor attention, VMCR and SynCoS are the uninterrupted ones, bit for bit."""

import comfy.samplers
import pytest
import torch
from longtake.samplers.adapters.checkpoint import CheckpointSettings, apply_checkpoint, keep
from longtake.samplers.adapters.syncos import ChunkSettings, syncos_sampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.freelong import BandBlend
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.syncos.coupling import SynCoSSettings
from support.kept_runs import EVERY, FRAMES, counted, cut_off, output, sample, wan  # noqa: F401
from support.shared import ditctrl, infinity
from support.windows import anchored, windowed

pytestmark = pytest.mark.usefixtures("one_thread", "output")
LONG = 12


@pytest.fixture(scope="module")
def model():
    return wan()


def vmcr(name, **settings):
    return refine_sampler(comfy.samplers.sampler_object(name), RefineSettings(omega=1e-3, **settings))


def syncos(own=False, **settings):
    few = {"t_min": 0.0, "max_coupled": 3, "iters": 2, "chunks": 2, **settings}
    return syncos_sampler(SynCoSSettings(**few), ChunkSettings(17, 9) if own else None)


def shifted(model, **settings):
    return windowed(model, schedule="random_shift", shift_seed=3, extra_path=GlobalPath(), window_batch=0, **settings)


@pytest.mark.parametrize(("patch", "sampler"), [
    (shifted, "euler"), (shifted, "heun"), (shifted, "res_multistep"),
    (lambda m: windowed(m, extra_path=BandBlend(GlobalPath(1.0, 0.0, 2)), window_batch=0), "euler_ancestral"),
    (lambda m: anchored(shifted(m)), "euler_ancestral"),
    (lambda m: ditctrl(shifted(m)), "euler_ancestral"), (lambda m: infinity(shifted(m)), "euler"),
    (lambda m: m, lambda: vmcr("euler")), (lambda m: m, lambda: vmcr("heun")),
    (lambda m: m, lambda: vmcr("euler", prediction="next", iterations=2)),
    (shifted, lambda: vmcr("heun", prediction="next")),
    (lambda m: m, lambda: vmcr("dpmpp_sde")), (lambda m: m, lambda: vmcr("lms", start_percent=0.95)),
    (lambda m: m, lambda: vmcr("dpmpp_2m", end_percent=0.1)), (lambda m: m, lambda: vmcr("heunpp2")),
    (shifted, syncos), (shifted, lambda: syncos(optimizer="sgd", pick="spread", exchange=0.5)),
    (shifted, lambda: syncos(eta=1.0, beta1=0.5, beta2=0.9, weight_decay=0.01)),
    (lambda m: m, lambda: syncos(own=True)), (shifted, lambda: syncos(noise="fresh", timestep="free")),
    (shifted, lambda: refine_sampler(syncos(), RefineSettings(omega=1e-3))),
])  # fmt: skip
def test_a_method_resumes_bit_for_bit(model, output, patch, sampler):  # noqa: F811
    model, sampler = patch(model), sampler if isinstance(sampler, str) else sampler()
    whole, all_calls = counted(model, sampler, frames=LONG)
    for i, cut in enumerate((all_calls // 3, all_calls - 1)):
        seed = {"seed": 5 + i}
        whole = sample(model, sampler, frames=LONG, **seed)
        cut_off(model, sampler, cut, frames=LONG, settings=EVERY, **seed)
        resumed, again = counted(model, sampler, frames=LONG, settings=EVERY, **seed)
        assert torch.equal(resumed, whole), cut
        assert again < all_calls - cut / 2


def test_a_mask_is_kept_to(model):
    mask = torch.zeros(1, 1, FRAMES, 4, 4)
    mask[:, :, 2:] = 1
    start = torch.randn(1, 16, FRAMES, 4, 4, generator=torch.manual_seed(1))
    for sampler in ("ddim", "dpmpp_2m_cfg_pp", "uni_pc"):
        whole, calls = counted(model, sampler, mask=mask, start=start)
        cut_off(model, sampler, calls // 2, settings=EVERY, mask=mask, start=start)
        assert torch.equal(sample(model, sampler, settings=EVERY, mask=mask, start=start), whole)


@pytest.mark.parametrize("every", [2, 4])
def test_what_lies_between_two_states_is_kept_when_a_run_ends(model, every):
    """Cancelled, or out of memory: nothing that was sampled is lost."""
    for sampler in ("euler", "ipndm", "sa_solver"):
        whole, calls = counted(model, sampler)
        cut_off(model, sampler, 4, settings=CheckpointSettings(every=every))
        resumed, again = counted(model, sampler, settings=CheckpointSettings(every=every))
        assert torch.equal(resumed, whole) and again == calls - 4


def test_a_patched_model_keeps_whatever_sampler(model):
    whole, calls = counted(model, "dpmpp_2m")
    patched = apply_checkpoint(model, EVERY)
    cut_off(patched, "dpmpp_2m", calls // 2)
    resumed, again = counted(patched, "dpmpp_2m")
    assert torch.equal(resumed, whole) and again == calls - calls // 2


def test_orders_that_cannot_be_kept_are_refused_by_name(model):
    kept = keep(comfy.samplers.sampler_object("euler"), EVERY)
    with pytest.raises(ValueError, match="VMCR.*connect this node first, and Checkpoint after it"):
        refine_sampler(kept, RefineSettings())
    with pytest.raises(ValueError, match="another Checkpoint"):
        keep(kept, EVERY)
    with pytest.raises(ValueError, match="another Checkpoint"):
        sample(apply_checkpoint(model, EVERY), "euler", settings=EVERY)
    with pytest.raises(ValueError, match="stages: second"):
        sample(windowed(model), syncos(stages="second"), frames=LONG, settings=EVERY)
    with pytest.raises(ValueError, match="Sampler is not one of ComfyUI's"):
        keep(comfy.samplers.Sampler(), EVERY)
