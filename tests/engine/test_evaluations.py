"""The window schedule holds still inside a step, with every sampler that core has."""

import itertools

import comfy.sample
import comfy.samplers
import pytest
from comfy.patcher_extension import WrappersMP
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.adapters.steps import Moment
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.windows import WindowSettings, local_windows
from support import zoo

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, STEPS = 10, 4
SETTINGS = WindowSettings(5, 1, schedule="random_shift", shift_seed=119, window_batch=8)
OWN_PLAN = ("dpm_fast", "dpm_adaptive", "ar_video")  # steps of their own, not those of the schedule
KINDS = {"flow": "wan21_t2v", "noise": "cosmos_predict2"}


def evaluated(kind, sampler, last=0.0, wrapped=False, skipped=()):
    """[(step by the sampler's callback, starts of the windows)] of each evaluation; and the schedule's keys.

    A step begins with the last evaluation before its callback. Evaluations in `skipped` never reach the model.
    """
    name, log, counter = KINDS[kind], [], itertools.count()
    model, patcher = zoo.zoo()[name], zoo.patcher(name).clone()

    def cache(executor, x, *args):
        return x if next(counter) in skipped else executor(x, *args)

    patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "test", cache)
    patcher = apply_windows(patcher, SETTINGS)

    def note(apply, args):
        options = args["c"]["transformer_options"]
        log.append(tuple(tuple(w) for w in options["longtake"]["windows"]))
        return apply(args["input"], args["timestep"], **args["c"])

    patcher.set_model_unet_function_wrapper(note)
    begins = []
    sampler = comfy.samplers.sampler_object(sampler)
    if wrapped:
        sampler = refine_sampler(sampler, RefineSettings(omega=1e-30))
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", STEPS)
    sigmas[-1] = last
    comfy.sample.sample_custom(
        patcher, comfy.sample.prepare_noise(model.latent(FRAMES), 5), 1.0, sampler, sigmas,
        model.conditioning(1, FRAMES), model.conditioning(2, FRAMES), model.latent(FRAMES), disable_pbar=True, seed=5,
        callback=lambda *args: begins.append(len(log) - 1),
    )  # fmt: skip
    keys = Moment.of(sigmas[:1], {"transformer_options": {"sample_sigmas": sigmas}}).keys
    return [(sum(b <= i for b in begins) - 1, windows) for i, windows in enumerate(log)], keys


def expected(key):
    return tuple(tuple(w.indices) for w in local_windows(SETTINGS, FRAMES, key))


def check(evaluations, keys):
    assert {step for step, _ in evaluations} == set(range(len(keys)))
    for step, windows in evaluations:
        assert windows == expected(keys[step]), f"step {step}"


@pytest.mark.parametrize("kind", list(KINDS))
def test_the_schedule_moves_between_steps(kind):
    _, keys = evaluated(kind, "euler")
    assert all(expected(a) != expected(b) for a, b in zip(keys, keys[1:], strict=False))


@pytest.mark.parametrize("kind", list(KINDS))
@pytest.mark.parametrize("sampler", [n for n in comfy.samplers.SAMPLER_NAMES if n not in OWN_PLAN])
def test_windows_hold_still_inside_a_step(kind, sampler):
    check(*evaluated(kind, sampler))


@pytest.mark.parametrize("sampler", ["heun", "heunpp2", "dpm_2", "dpmpp_2s_ancestral"])
def test_also_where_the_schedule_stops_early(sampler):
    check(*evaluated("flow", sampler, last=0.1))


@pytest.mark.parametrize("sampler", ["heun", "heunpp2", "dpm_2_ancestral"])
def test_also_one_step_at_a_time(sampler):
    check(*evaluated("flow", sampler, wrapped=True))


def test_a_step_cache_that_skips_evaluations_does_not_move_the_count():
    log, keys = evaluated("flow", "heun", skipped=(1, 4))
    assert [windows for _, windows in log] == [expected(keys[step]) for step in (0, 1, 1, 2, 3)]
