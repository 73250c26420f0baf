"""cfg_until: guidance in the first part of the noise schedule, then the positive prompt alone at half the calls."""

import comfy.sample
import comfy.samplers
import comfy_extras.nodes_custom_sampler as nodes
import comfy_extras.nodes_perpneg as perpneg
import pytest
import torch
from longtake.samplers.adapters.schedule import place
from longtake.samplers.windows import WindowSettings
from support import tiny_wan
from support.windows import anchored, coupled, windowed

pytestmark = pytest.mark.usefixtures("one_thread")
STEPS, CFG = 6, 3.0


def sampled(model, frames=11, cut=None, sampler="euler", cfg=CFG):
    """One sampler over all steps, or two that meet at `cut`."""
    latent = tiny_wan.latent(frames)
    kwargs = dict(positive=tiny_wan.prompt(1), negative=tiny_wan.prompt(2), disable_pbar=True, seed=5)

    def part(noise, latent, **more):
        return comfy.sample.sample(model, noise, STEPS, cfg, sampler, "simple", latent_image=latent, **kwargs, **more)

    noise = comfy.sample.prepare_noise(latent, 5)
    if cut is None:
        return part(noise, latent)
    half = part(noise, latent, last_step=cut)
    return part(torch.zeros_like(noise), half, start_step=cut, disable_noise=True)


def by_hand(model, until):
    """The same by ComfyUI's own hook, which has both predictions: guidance up to a place in the schedule."""
    sampling = model.get_model_object("model_sampling")

    def guided(args):
        cond, uncond = args["cond_denoised"], args["uncond_denoised"]
        on = place(sampling, float(args["timestep"].flatten()[0])) < until
        return args["input"] - (uncond + (cond - uncond) * args["cond_scale"] if on else cond)

    model = model.clone()
    model.set_model_sampler_cfg_function(guided)
    return model


@pytest.fixture(scope="module")
def model():
    return tiny_wan.patcher()


@pytest.mark.parametrize("until", [0.01, 0.4, 0.8])
@pytest.mark.parametrize("frames", [11, 4])  # several windows, one
@pytest.mark.parametrize("method", [windowed, lambda m, **k: anchored(windowed(m, **k))], ids=["windows", "ABAM"])
def test_it_is_guidance_up_to_there(model, until, frames, method):
    ours = sampled(method(model, cfg_until=until), frames)
    theirs = sampled(by_hand(method(model), until), frames)
    assert (ours - theirs).abs().max() < 1e-5
    assert (ours - sampled(method(model), frames)).abs().max() > 1e-3


def test_throughout_is_as_without(model):
    assert torch.equal(sampled(windowed(model, cfg_until=1.0)), sampled(windowed(model)))
    assert torch.equal(sampled(windowed(model, cfg_until=1.0), 4), sampled(model, 4))


def test_without_guidance_it_changes_nothing(model):
    assert torch.equal(sampled(windowed(model, cfg_until=0.3), cfg=1.0), sampled(windowed(model), cfg=1.0))


@pytest.mark.parametrize("cut", [1, 3, 5])
def test_two_samplers_in_a_row_are_one(model, cut):
    windows = windowed(model, cfg_until=0.5)
    assert (sampled(windows, cut=cut) - sampled(windows)).abs().max() < 2e-5


def test_the_calls_are_saved(model):
    asked = []

    def see(apply, args):
        asked.append(len(args["cond_or_uncond"]))
        return apply(args["input"], args["timestep"], **args["c"])

    seen = model.clone()
    seen.set_model_unet_function_wrapper(see)
    sampled(windowed(seen, cfg_until=0.5))
    calls = len(asked) // STEPS
    sampling = model.get_model_object("model_sampling")
    sigmas = comfy.samplers.calculate_sigmas(sampling, "simple", STEPS)[:-1].tolist()
    late = [place(sampling, sigma) >= 0.5 for sigma in sigmas]
    assert asked == [n for on in late for n in [1 if on else 2] * calls] and 0 < sum(late) < STEPS


def test_syncos_has_it_in_both_stages(model):
    def run(windows):
        latent = tiny_wan.latent(11)
        noise = comfy.sample.prepare_noise(latent, 5)
        sigmas = torch.linspace(1, 0, STEPS + 1)
        return comfy.sample.sample_custom(
            windows, noise, CFG, coupled(), sigmas, tiny_wan.prompt(1), tiny_wan.prompt(2), latent, disable_pbar=True,
            seed=5)  # fmt: skip

    ours, theirs = run(windowed(model, cfg_until=0.4)), run(by_hand(windowed(model), 0.4))
    assert (ours - theirs).abs().max() < 1e-5 and (ours - run(windowed(model))).abs().max() > 1e-3


def guided_by(guider, model):
    latent = {"samples": tiny_wan.latent(11)}
    noise, sampler = nodes.RandomNoise.execute(5).result[0], nodes.KSamplerSelect.execute("euler").result[0]
    sigmas = torch.linspace(1, 0, STEPS + 1)
    return nodes.SamplerCustomAdvanced.execute(noise, guider(model), sampler, sigmas, latent).result[0]["samples"]


def dual(style):
    conds = [tiny_wan.prompt(i) for i in (1, 2, 3)]
    cfg = 1.0 if style == "one left out" else 2.0
    style = "nested" if style == "nested" else "regular"
    return lambda model: nodes.DualCFGGuider.execute(model, *conds, 3.0, cfg, style).result[0]


def perp(model):
    return perpneg.PerpNegGuider.execute(model, *(tiny_wan.prompt(i) for i in (1, 2, 3)), 3.0, 1.0).result[0]


@pytest.mark.parametrize("guider", [dual("regular"), dual("nested"), dual("one left out"), perp])
def test_guiders_of_three_prompts_are_left_alone(model, guider, caplog):
    with caplog.at_level("INFO"):
        ours = guided_by(guider, windowed(model, cfg_until=0.4))
    assert torch.equal(ours, guided_by(guider, windowed(model)))
    assert "of the schedule" not in caplog.text


def test_a_node_that_asks_for_the_negative_alone_gets_it(model):
    """As core's SkipLayerGuidanceDiTSimple does."""

    def apart(args):
        (cond, uncond), rest = args["conds"], (args["input"], args["sigma"], args["model_options"])
        each = [comfy.samplers.calc_cond_batch(args["model"], conds, *rest) for conds in ([cond, None], [None, uncond])]
        return [each[0][0], each[1][1]]

    def with_apart(windows):
        windows.model_options["sampler_calc_cond_batch_function"] = apart
        return windows

    ours = sampled(with_apart(windowed(model, cfg_until=0.4)))
    assert torch.equal(ours, sampled(with_apart(windowed(model))))


@pytest.mark.parametrize("value", [0, -0.1, 1.1, float("nan"), float("inf")])
def test_bad_values_are_refused(value):
    with pytest.raises(ValueError, match="cfg_until"):
        WindowSettings(5, 2, cfg_until=value)
