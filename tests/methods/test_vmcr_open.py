"""What GLC-Diffusion leaves open of VMCR, as widgets: refinements per step, and whose clean video they look at."""

import logging
import math

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_easycache import LazyCacheNode
from longtake.samplers.adapters.steps import STEP, begin_runs
from longtake.samplers.adapters.vmcr import PREDICTIONS
from longtake.samplers.glc.motion import MotionSettings
from longtake.samplers.glc.paths import GlobalPath
from support.motion import autograd
from support.refined import STEPS, run, wrapped
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread")


def noted(model):
    """A clone that notes its evaluations: (x, sigma, x0, the engine's step)."""
    calls = []

    def look(args):
        step = args["model_options"]["transformer_options"].get(STEP)
        calls.append((args["input"].clone(), float(args["sigma"][0]), args["denoised"].clone(), step))
        return args["denoised"]

    model = model.clone()
    begin_runs(model)
    model.set_model_sampler_post_cfg_function(look)
    return model, calls


@pytest.mark.parametrize("iterations", [1, 3])
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_more_iterations_and_the_next_prediction_equal_a_loop_with_autograd(flow_model, prediction, iterations):
    """Algorithm 1 as printed, but no gradient through the model: z_{t-1} is predicted, and moved by that one's loss."""
    omega, motion = 1e-3 * math.sqrt(5400 / 16), MotionSettings()
    sampler = wrapped("euler", 1e-3, iterations=iterations, prediction=prediction)
    states = []
    model, calls = noted(flow_model)
    result = run(model, sampler, callback=lambda step, x0, x, total: states.append(x.clone()))
    states.append(flow_model.model.process_latent_in(result))
    sigmas = comfy.samplers.calculate_sigmas(flow_model.get_model_object("model_sampling"), "simple", STEPS)
    answers = iter(calls)
    for i in range(STEPS):
        x, sigma, x0, step = (t.clone() if isinstance(t, torch.Tensor) else t for t in next(answers))
        assert sigma == float(sigmas[i]) and step is None
        torch.testing.assert_close(x, states[i], rtol=0, atol=0)
        x = x + (x - x0) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        for _ in range(iterations):
            if prediction == "next" and i + 1 < STEPS:
                seen, sigma, x0, step = (t.clone() if isinstance(t, torch.Tensor) else t for t in next(answers))
                assert sigma == float(sigmas[i + 1]) and step == i + 1
                torch.testing.assert_close(seen, x, rtol=0, atol=2e-5)
            elif prediction == "next":
                x0 = x.clone()  # without noise: the video itself
            moved = omega * autograd(x0, motion)
            x, x0 = x - moved, x0 - moved
        torch.testing.assert_close(states[i + 1].clone(), x, rtol=0, atol=2e-5)
    assert next(answers, None) is None
    once = (result - run(flow_model, wrapped("euler", 1e-3))).abs().max()
    assert once == 0.0 if (prediction, iterations) == ("step", 1) else once > 1e-3


@pytest.mark.parametrize("name", ["euler", "heun", "dpmpp_sde", "dpmpp_2m"])
def test_the_next_prediction_moves_nothing_by_itself(models, no_gradient, name):
    """Without a gradient it is the sampler run one step at a time, bit for bit, whatever is predicted beside it."""
    for model in models.values():
        noted_model, calls = noted(model)
        plain, count = run(noted_model, wrapped(name)), len(calls)
        assert (run(noted_model, wrapped(name, prediction="next", iterations=2)) - plain).abs().max() == 0.0
        assert len(calls) - count == count + 2 * (STEPS - 1)
        if name == "heun":  # whose evaluations are counted: those between do not count
            expected = [step for i in range(STEPS) for step in ([i, i, i + 1, i + 1] if i + 1 < STEPS else [i])]
            assert [step for *_, step in calls[count:]] == expected


def test_the_next_prediction_of_half_a_schedule_is_that_of_the_whole(flow_model):
    """At the end of sigmas that another sampler goes on with, in moving windows: its own step's."""
    model = windowed(flow_model, 3, 1, schedule="random_shift", extra_path=GlobalPath(0.4, until=0.6))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    made = dict(frames=9, shape=(1, 16, 9, 4, 4))
    whole = run(model, wrapped("euler", 1e-3, prediction="next"), sigmas=sigmas, **made)
    half = run(model, wrapped("euler", 1e-3, prediction="next"), sigmas=sigmas[:3], **made)
    rest = run(model, wrapped("euler", 1e-3, prediction="next"), sigmas=sigmas[2:], start=half, noise=False)
    assert (rest - whole).abs().max() < 1e-4
    assert (whole - run(model, wrapped("euler", 1e-3), sigmas=sigmas, **made)).abs().max() > 1e-3


def test_the_log_says_what_the_next_prediction_costs(flow_model, caplog):
    caplog.set_level(logging.INFO)
    run(flow_model, wrapped("euler", iterations=2, prediction="next"))
    assert "refines 4 of 4 steps, omega 0.0001, 2 times each; 6 evaluations of the model more" in caplog.text


def test_step_caches_are_no_part_of_the_next_prediction(flow_model):
    cached = LazyCacheNode.execute(flow_model, 0.2, 0.0, 1.0, False).args[0]
    with pytest.raises(ValueError, match=r"prediction \(next\): EasyCache and LazyCache.*prediction step"):
        run(cached, wrapped("euler", prediction="next"))
    run(cached, wrapped("euler"))
