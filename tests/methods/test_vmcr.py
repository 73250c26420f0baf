"""VMCR as a sampler: real runs of a tiny random Wan model, refined between the steps of any sampler."""

import inspect
import itertools
import logging
import math

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy.k_diffusion import sampling
from longtake.nodes.vmcr import LongTakeVMCR
from longtake.samplers.adapters import vmcr
from longtake.samplers.adapters.vmcr import EXACT, REFUSED, RefineSettings, history_note, refine_sampler, stretches
from longtake.samplers.glc.motion import MotionSettings
from support.motion import autograd
from support.refined import FRAMES, STEPS, run, wrapped
from support.refusals import refusal

pytestmark = pytest.mark.usefixtures("one_thread")


def core_samplers():
    return [name for name in comfy.samplers.SAMPLER_NAMES if sampler_function(name) not in REFUSED]


def sampler_function(name):
    return comfy.samplers.sampler_object(name).sampler_function.__name__


@pytest.mark.parametrize("kind", ["flow", "noise"])
@pytest.mark.parametrize("name", [n for n in core_samplers() if n in (*EXACT, "ddim")])
def test_exact_samplers_are_the_same_one_step_at_a_time(models, no_gradient, name, kind):
    plain = run(models[kind], name)
    assert plain.isfinite().all()
    assert (run(models[kind], wrapped(name)) - plain).abs().max() == 0.0


@pytest.mark.parametrize(("name", "options"), [
    ("euler", {"s_churn": 1.0}),
    ("heun", {"s_churn": 3.0, "s_noise": 1.1}),
    ("euler_ancestral", {"eta": 0.5, "s_noise": 0.9}),
    ("dpmpp_sde", {"eta": 0.7, "r": 0.4}),
    ("lcm", {"s_noise": 0.5, "s_noise_end": 1.5}),
])  # fmt: skip
@pytest.mark.parametrize("end", [1.0, 0.8])
def test_options_that_core_spreads_over_a_call(flow_model, no_gradient, name, options, end):
    if not options.keys() <= inspect.signature(comfy.samplers.sampler_object(name).sampler_function).parameters.keys():
        pytest.skip("this ComfyUI's sampler has no such option")

    def plain():
        sampler = comfy.samplers.sampler_object(name)
        sampler.extra_options = options
        return sampler

    torch.manual_seed(0)
    expected = run(flow_model, plain())
    torch.manual_seed(0)
    ours = run(flow_model, wrapped(plain(), end_percent=end))
    torch.testing.assert_close(ours, expected, rtol=0, atol=0.0 if end == 1.0 else 1e-6)


def test_every_exact_name_is_one_of_cores():
    known = [n for n in EXACT if hasattr(sampling, f"sample_{n}")]
    assert set(EXACT) - set(known) <= {"exp_heun_2_x0", "exp_heun_2_x0_sde"}  # newer than 0.3.75


@pytest.mark.parametrize("name", [n for n in core_samplers() if n not in (*EXACT, "ddim")])
def test_samplers_with_history_warn_and_stay_usable(flow_model, no_gradient, name, caplog):
    with caplog.at_level(logging.WARNING):
        sampler = wrapped(name)
        assert sum(name in r.getMessage() and "history is cut" in r.getMessage() for r in caplog.records) == 1
        ours = run(flow_model, sampler)
    assert sum("history is cut" in r.getMessage() for r in caplog.records) == 2  # where it is made and where it runs
    assert ours.isfinite().all()
    difference = (ours - run(flow_model, name)).abs().max()
    assert difference > 0, "this sampler is exact: no warning needed"


def test_noise_differs_from_step_to_step(flow_model, no_gradient):
    """Also for samplers that are not exact: left alone, they would draw the same noise at every step."""
    seen = []
    plain = comfy.samplers.sampler_object("er_sde")

    def spy(model, x, sigmas, noise_sampler=None, **kwargs):
        def noise(*args):
            seen.append(noise_sampler(*args))
            return seen[-1]

        return plain.sampler_function(model, x, sigmas, noise_sampler=noise, **kwargs)

    run(flow_model, refine_sampler(comfy.samplers.KSAMPLER(spy), RefineSettings()))
    assert len(seen) == STEPS - 1 and not any(torch.equal(a, b) for a, b in itertools.combinations(seen, 2))


@pytest.mark.parametrize("name", [n for n in comfy.samplers.SAMPLER_NAMES if sampler_function(n) in REFUSED])
def test_samplers_that_cannot_step_are_refused(name):
    with pytest.raises(ValueError, match=rf"VMCR Refiner \(LongTakeVMCR\): sampler: {name} .*euler"):
        wrapped(name)


def test_the_four_refused_ones_are_refused_in_every_core():
    assert {sampler_function(n) for n in ("dpm_fast", "dpm_adaptive", "uni_pc", "uni_pc_bh2")} <= REFUSED.keys()


def test_unknown_samplers_warn():
    def sample_euler(model, x, sigmas, **kwargs):
        return x

    assert "sample_euler is unknown" in history_note(sample_euler)
    assert history_note(sampling.sample_euler) is None


def test_other_samplers_are_refused():
    class Other(comfy.samplers.Sampler):
        pass

    with pytest.raises(ValueError, match=r"LongTakeVMCR\): sampler: Other .*KSamplerSelect"):
        refine_sampler(Other(), RefineSettings())


def test_omega_zero_is_the_same_object():
    sampler = comfy.samplers.sampler_object("dpm_adaptive")
    assert LongTakeVMCR.execute(sampler, 0.0, 0.2, 0.001, 1.0, "wrapped", True, 0.0, 1.0).result[0] is sampler


def test_the_wrapped_sampler_is_left_alone(flow_model):
    sampler = comfy.samplers.sampler_object("ddim")
    function = sampler.sampler_function
    ours = refine_sampler(sampler, RefineSettings())
    assert sampler.sampler_function is function and ours.sampler_function is not function
    assert ours.inpaint_options == {"random": True} and isinstance(ours, comfy.samplers.KSAMPLER)


@pytest.mark.parametrize("rescale", [True, False])
def test_a_run_equals_eulers_loop_with_autograd(flow_model, rescale):
    settings = RefineSettings(1e-3, MotionSettings(), rescale)
    states, predictions = [], []

    def look(step, x0, x, total):
        states.append(x.clone())
        predictions.append(x0.clone())

    result = run(flow_model, refine_sampler(comfy.samplers.sampler_object("euler"), settings), callback=look)
    sigmas = comfy.samplers.calculate_sigmas(flow_model.get_model_object("model_sampling"), "simple", STEPS)
    latents = [*states[1:], flow_model.model.process_latent_in(result)]
    omega = 1e-3 * (math.sqrt(5400 / 16) if rescale else 1)
    for i, after in enumerate(latents):
        x, x0 = states[i].clone(), predictions[i].clone()  # out of inference mode, for autograd
        x = x + (x - x0) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        expected = x - omega * autograd(x0, settings.motion)
        torch.testing.assert_close(after, expected, rtol=0, atol=2e-5)
    assert (result - run(flow_model, "euler")).abs().max() > 1e-3


@pytest.mark.parametrize("name", ["euler", "dpmpp_2m", "heun"])
def test_callback_steps_are_those_of_a_plain_run(flow_model, name):
    def steps(sampler):
        seen = []
        run(flow_model, sampler, callback=lambda step, x0, x, total: seen.append((step, total)))
        return seen

    assert steps(wrapped(name, end_percent=0.7)) == steps(wrapped(name)) == steps(name)


def test_stretches_keep_inactive_steps_together():
    assert stretches([False, False, True, True, False, False]) == [(0, 2), (2, 3), (3, 4), (4, 6)]
    assert stretches([False] * 3) == [(0, 3)] and stretches([True]) == [(0, 1)] and stretches([]) == []


@pytest.mark.parametrize(("kind", "start", "end"), [("flow", 0.3, 0.8), ("noise", 0.3, 0.8), ("flow", 0.0, 0.5)])
def test_only_steps_in_the_range_are_refined(models, monkeypatch, kind, start, end):
    refined = []
    monkeypatch.setattr(vmcr, "refine_", lambda x, *rest: refined.append(len(refined)) or x.new_zeros(()))
    model = models[kind]
    calls = []

    def inner(model, x, sigmas, callback=None, **kwargs):
        calls.append(sigmas.tolist())
        return sampling.sample_euler(model, x, sigmas, callback=callback, **kwargs)

    sampler = refine_sampler(comfy.samplers.KSAMPLER(inner), RefineSettings(start_percent=start, end_percent=end))
    model_sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(model_sampling, "simple", 10)
    run(model, sampler, sigmas=sigmas)
    low, high = model_sampling.percent_to_sigma(end), model_sampling.percent_to_sigma(start)
    active = [low < s <= high for s in sigmas[:-1].tolist()]
    assert 0 < sum(active) < 10 and len(refined) == sum(active)
    assert len(calls) == sum(active) + (not active[0]) + (not active[-1])
    assert [s for call in calls for s in call[:-1]] == sigmas[:-1].tolist()


def test_outside_the_range_history_is_kept(flow_model, caplog):
    sigmas = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.0])
    plain = run(flow_model, "dpmpp_2m", sigmas=sigmas)
    assert (run(flow_model, wrapped("dpmpp_2m", end_percent=0.01), sigmas=sigmas) - plain).abs().max() == 0.0
    assert "no step lies between" in caplog.text


@pytest.mark.parametrize("frames", [1, 2])
def test_too_few_frames_are_left_alone(flow_model, caplog, frames):
    assert (
        run(flow_model, wrapped("dpmpp_2m"), frames=frames) - run(flow_model, "dpmpp_2m", frames=frames)
    ).abs().max() == 0
    assert f"the video has {frames} latent frames" in caplog.text


def test_other_latents_are_refused(flow_model):
    """Pictures of a model whose videos have five dimensions."""
    with pytest.raises(ValueError, match=r"LongTakeVMCR\): the latent has the shape \(4, 16, 8, 8\)"):
        run(flow_model, wrapped("euler"), shape=(4, 16, 8, 8))


def test_a_sampler_that_changes_the_size_is_refused(flow_model):
    def grows(model, x, sigmas, extra_args=None, callback=None, **kwargs):
        x0 = sampling.sample_euler(model, x, sigmas, extra_args, callback)
        return torch.cat([x0, x0], dim=2)

    with pytest.raises(ValueError, match="grows does not report an x0 of the latent's shape"):
        run(flow_model, refine_sampler(comfy.samplers.KSAMPLER(grows), RefineSettings()))


@pytest.mark.parametrize("name", ["euler", "ddim", "euler_ancestral"])
@pytest.mark.parametrize("case", ["image to image", "no noise", "mask"])
def test_partial_denoising_and_masks(flow_model, no_gradient, name, case):
    start = torch.randn(1, 16, FRAMES, 4, 4, generator=torch.Generator().manual_seed(3))
    full = comfy.samplers.calculate_sigmas(flow_model.get_model_object("model_sampling"), "simple", 2 * STEPS)
    settings = {"start": start, "sigmas": full[STEPS:] if case != "mask" else full}
    if case == "no noise":
        settings["noise"] = False
    if case == "mask":
        settings["mask"] = torch.zeros(1, 1, FRAMES, 4, 4).index_fill_(2, torch.tensor([1, 2]), 1.0)
    plain = run(flow_model, name, **settings)
    assert (run(flow_model, wrapped(name), **settings) - plain).abs().max() == 0.0


def test_a_mask_keeps_what_it_keeps(flow_model):
    start = torch.randn(1, 16, FRAMES, 4, 4, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(1, 1, FRAMES, 4, 4).index_fill_(2, torch.tensor([1, 2]), 1.0)
    plain = run(flow_model, "euler", start=start, mask=mask)
    ours = run(flow_model, wrapped("euler", 1e-3), start=start, mask=mask)
    kept = mask.expand_as(start) == 0
    assert (ours - plain)[kept].abs().max() == 0.0 and (ours - plain)[~kept].abs().max() > 1e-3


def test_cancelling_leaves_nothing_behind(flow_model):
    sampler = wrapped("euler_ancestral", 1e-3)
    expected = run(flow_model, sampler)

    def cancel(step, x0, x, total):
        if step == 2:
            raise comfy.model_management.InterruptProcessingException()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(flow_model, sampler, callback=cancel)
    assert torch.equal(run(flow_model, sampler), expected)


def test_it_can_be_chained(flow_model, no_gradient):
    plain = run(flow_model, "euler_ancestral")
    assert (run(flow_model, wrapped(wrapped("euler_ancestral"))) - plain).abs().max() == 0.0


@pytest.mark.parametrize(("settings", "words"), [
    ({"omega": -1.0}, r"omega \(-1.0\)"),
    ({"start_percent": 0.5, "end_percent": 0.5}, r"start_percent \(0.5\) must be smaller than end_percent \(0.5\)"),
    ({"end_percent": 1.5}, r"end_percent \(1.5\) must be between 0"),
    ({"lambda_mse": float("nan")}, r"lambda_mse \(nan\)"),
    ({"phase": "other"}, r"phase \(other\) must be one of wrapped, raw"),
    ({"iterations": 0}, r"iterations \(0\) must be between 1 and 20"),
    ({"prediction": "last"}, r"prediction \(last\) must be one of step, next"),
])  # fmt: skip
def test_wrong_settings_are_refused_by_name(settings, words):
    inputs = {
        "sampler": comfy.samplers.sampler_object("euler"), "omega": 2e-5, "lambda_f": 0.2, "lambda_mse": 0.001,
        "lambda_phase": 1.0, "phase": "wrapped", "rescale": True, "start_percent": 0.0, "end_percent": 1.0,
    }  # fmt: skip
    with pytest.raises(ValueError, match=rf"VMCR Refiner \(LongTakeVMCR\): {words}"):
        LongTakeVMCR.execute(**inputs | settings)
    assert refusal("LongTakeVMCR", **settings) is not None


def test_the_nodes_defaults_are_the_papers():
    defaults = {i.id: getattr(i, "default", None) for i in LongTakeVMCR.GET_SCHEMA().inputs}
    paper = {"omega": 2e-5, "lambda_f": 0.2, "lambda_mse": 0.001, "lambda_phase": 1.0}
    assert {k: defaults[k] for k in paper} == paper
    settings, loss = RefineSettings(), MotionSettings()
    assert settings.omega == paper["omega"] and all(getattr(loss, k) == v for k, v in paper.items() if k != "omega")


@pytest.mark.parametrize("weights", [(100.0, 100.0, 100.0), (100.0, 0.0, 0.0), (0.0, 100.0, 0.0), (0.2, 0.001, 100.0)])
def test_a_refinement_larger_than_the_video_is_refused_with_what_would_work(flow_model, weights):
    """The widgets' maxima, together and one by one: refused at the step that would do it, or of a video's size."""
    sampler = refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings(0.1, MotionSettings(*weights)))
    with pytest.raises(ValueError, match=r"LongTakeVMCR\): omega \(0.1\) with lambda_f .* step \d .* lower omega"):
        run(flow_model, sampler)


def test_the_largest_useful_settings_are_not_refused(flow_model):
    motion = MotionSettings(1.0, 0.1, 10.0)
    sampler = refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings(2e-3, motion))
    assert run(flow_model, sampler).abs().max() < 4 * run(flow_model, "euler").abs().max()
