"""The window engine in real sampling runs of a tiny random Wan model: against core's windows, against a loop over its
definition, and what a run leaves behind."""

import functools
import logging

import comfy.context_windows as core
import comfy.latent_formats
import comfy.model_management
import comfy.sample
import pytest
import torch
from comfy.patcher_extension import add_callback_with_key
from longtake.samplers.adapters.engine import LongTakeContextHandler, apply_windows
from longtake.samplers.adapters.steps import Moment
from longtake.samplers.adapters.window import NEW_CORE
from longtake.samplers.glc.paths import GlobalPath, dilated_windows, gamma
from longtake.samplers.windows import FUSE, WindowSettings, local_windows
from support import tiny_wan
from support.shared import ditctrl
from support.tiny_wan import CFG, CLOSE, FRAMES, STEPS, prompt, record, run
from support.windows import LENGTH, OVERLAP, anchored, core_windowed, coupled, windowed

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    patcher = tiny_wan.patcher()
    assert isinstance(patcher.model.latent_format, comfy.latent_formats.Wan21)
    return patcher


@pytest.mark.parametrize("frames", [LENGTH, LENGTH - 2, 1])
def test_video_no_longer_than_the_window_is_plain_sampling(model, frames, caplog):
    with caplog.at_level(logging.INFO):
        ours = run(windowed(model, extra_path=GlobalPath(), first_latent="anchor"), frames)
    assert (ours - run(model, frames)).abs().max() == 0.0
    notes = [r for r in caplog.records if "not longer than the window" in r.getMessage()]
    assert len(notes) == 1


@pytest.mark.parametrize("fuse", ["flat", "pyramid", "overlap-linear"])
def test_static_windows_equal_cores(model, fuse):
    torch.testing.assert_close(run(windowed(model, fuse=fuse)), run(core_windowed(model, fuse)), atol=CLOSE, rtol=0)


def test_windows_change_the_result(model):
    assert (run(windowed(model)) - run(model)).abs().max() > 1e-2


@pytest.mark.skipif(not NEW_CORE, reason="this ComfyUI has no causal window fix to compare with")
@pytest.mark.parametrize("fuse", ["flat", "pyramid"])
def test_anchor_equals_cores_causal_window_fix(model, fuse):
    ours = run(windowed(model, fuse=fuse, first_latent="anchor"))
    torch.testing.assert_close(ours, run(core_windowed(model, fuse, causal_window_fix=True)), atol=CLOSE, rtol=0)


def test_anchor_adds_one_earlier_frame(model):
    recorder, calls = record(windowed(model, first_latent="anchor", extra_path=GlobalPath()))
    result = run(recorder, steps=1)
    assert (result - run(windowed(model, extra_path=GlobalPath()), steps=1)).abs().max() > 1e-3
    for shape, note, *_ in calls:
        for indices, anchor in zip(note["windows"], note["anchor"], strict=True):
            expected = None if indices[0] == 0 else indices[0] - 1 if note["path"] == "local" else 0
            assert anchor == expected
            assert shape[2] == LENGTH + (anchor is not None)


@pytest.mark.parametrize("fuse", FUSE)
@pytest.mark.parametrize("schedule", ["static", "random_shift", "rolling_cut", "loop"])
@pytest.mark.parametrize("first_latent", ["as_is", "anchor"])
def test_the_engine_equals_a_loop_over_its_definition(model, fuse, schedule, first_latent):
    """One denoising evaluation against windows cut, predicted and fused by hand, for one CFG branch."""
    loop = schedule == "loop"
    settings = WindowSettings(
        LENGTH, OVERLAP, "static" if loop else schedule, fuse=fuse, extra_path=GlobalPath(gamma0=0.3),
        first_latent=first_latent, window_batch=1, closed_loop=loop,
    )
    seen = {}

    def look(args):
        seen.setdefault("x", args["input"].clone())
        seen.setdefault("cond", args["cond_denoised"].clone())
        seen.setdefault("sigma", args["sigma"].clone())
        return args["denoised"]

    ours = apply_windows(model, settings)
    ours.set_model_sampler_post_cfg_function(look)
    run(ours, steps=2)

    sigma, x = seen["sigma"], seen["x"]
    key = Moment.of(sigma, {"transformer_options": {"sample_sigmas": torch.stack([sigma[0], sigma[0] * 0])}}).key
    handler = LongTakeContextHandler(settings)

    def denoise(indices, name):
        anchor = [indices[0] - 1 if name == "local" else 0] if first_latent == "anchor" and indices[0] > 0 else []
        if first_latent == "anchor" and loop and name == "local":
            anchor = [(indices[0] - 1) % FRAMES]
        part = model.model.apply_model(x[:, :, anchor + list(indices)], sigma, c_crossattn=prompt(1)[0][0])
        return part[:, :, len(anchor) :]

    def fused(windows, name):
        top, bottom = torch.zeros_like(x), torch.zeros(1, 1, FRAMES, 1, 1)
        for w in windows:
            length = len(w.indices)
            shape = [1] * length
            if name == "local":
                places = list(range(1, LENGTH + 1)) if loop else list(w.indices)  # no window is at an end
                shape = core.get_context_weights(length, LENGTH + 2 if loop else FRAMES, places, handler)
            part = denoise(w.indices, name)
            for position, frame in enumerate(w.indices[: w.real]):
                top[:, :, frame] += shape[position] * part[:, :, position]
                bottom[:, :, frame] += shape[position]
        return top / bottom

    g = gamma(1000 * float(sigma[0]), 0.3, 5e-4)
    with torch.no_grad():
        expected = g * fused(dilated_windows(FRAMES, LENGTH), "global")
        expected += (1 - g) * fused(local_windows(settings, FRAMES, key), "local")
    torch.testing.assert_close(seen["cond"], expected, atol=CLOSE, rtol=0)


@pytest.mark.parametrize("windows", [{}, {"first_latent": "anchor"}, {"fuse": "overlap-linear"}], ids=str)
def test_a_closed_loop_begins_anywhere(model, windows):
    """Noise that is moved along a loop by one stride gives the same video, moved."""
    stride = LENGTH - OVERLAP
    start = tiny_wan.latent(4 * stride)
    noise = comfy.sample.prepare_noise(start, 5)

    def sampled(noise, **settings):
        return comfy.sample.sample(
            windowed(model, **settings, **windows), noise, STEPS, CFG, "euler", "simple", prompt(1), prompt(2), start,
            disable_pbar=True, seed=5,
        )  # fmt: skip

    one, other = (sampled(n, closed_loop=True) for n in (noise, noise.roll(stride, 2)))
    torch.testing.assert_close(one.roll(stride, 2), other, atol=CLOSE, rtol=0)
    assert (sampled(noise) - one).abs().max() > 1e-3


def test_a_loop_of_one_window_goes_around(model):
    """A video no longer than the window: two windows at least, and its end knows of its beginning."""
    recorder, calls = record(windowed(model, length=FRAMES, overlap=FRAMES // 2, closed_loop=True))
    run(recorder)
    assert {w for _, note, *_ in calls for w in note["windows"]} == {
        tuple((s + i) % FRAMES for i in range(FRAMES)) for s in (0, FRAMES // 2)
    }


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("window_batch", [2, 3, 64])
def test_windows_in_one_call_equal_windows_one_by_one(model, window_batch, batch):
    options = {"extra_path": GlobalPath(), "schedule": "random_shift", "first_latent": "anchor"}
    one = run(windowed(model, **options), batch=batch)
    recorder, calls = record(windowed(model, window_batch=window_batch, **options))
    many = run(recorder, batch=batch)
    torch.testing.assert_close(many, one, atol=CLOSE, rtol=0)
    assert max(len(note["windows"]) for _, note, *_ in calls) == min(window_batch, 4)
    assert all(shape[0] == batch * len(note["windows"]) * len(branches) for shape, note, _, branches in calls)


@pytest.mark.parametrize("window_batch", [2, 64])
@pytest.mark.parametrize("overlap", [0, 2])
def test_windows_that_are_cut_have_calls_with_their_like(model, overlap, window_batch):
    options = {"schedule": "rolling_cut", "overlap": overlap}
    recorder, calls = record(windowed(model, window_batch=window_batch, **options))
    torch.testing.assert_close(run(recorder), run(windowed(model, **options)), atol=CLOSE, rtol=0)
    for shape, note, *_ in calls:
        assert {len(w) for w in note["windows"]} == {shape[2]}
    assert len({shape[2] for shape, *_ in calls}) > 1
    if not overlap:
        frames = sum(len(w) for _, note, *_ in calls for w in note["windows"])
        assert frames == FRAMES * STEPS  # each once a step, both CFG branches in one call


def test_methods_that_compare_windows_frame_by_frame_refuse_those_that_are_cut(model):
    cut = windowed(model, schedule="rolling_cut")
    late = functools.partial(anchored, start=0.9)  # refused before hours of work
    for method, said in ((anchored, "Anchor Attention .*rolling_cut"), (late, "Anchor"), (ditctrl, "DiTCtrl.*cut")):
        recorder, calls = record(method(cut))
        with pytest.raises(ValueError, match=said):
            run(recorder)
        assert not calls
    assert run(anchored(windowed(model, schedule="rolling_cut", closed_loop=True))).isfinite().all()
    with pytest.raises(ValueError, match="SynCoS .*rolling_cut"):
        run(cut, sampler=coupled())


@pytest.mark.parametrize("until", [1.0, 0.5])
@pytest.mark.parametrize("method", [anchored, ditctrl, None])
def test_one_window_is_never_cut_and_so_never_refused(model, method, until):
    """Also where the engine samples it, for guidance ends early."""
    found = []
    for schedule in ("rolling_cut", "rolling"):
        made = windowed(model, schedule=schedule, cfg_until=until)
        made, sampler = (made, coupled()) if method is None else (method(made), "euler")
        found.append(run(made, LENGTH, sampler=sampler))
    assert torch.equal(*found)


def test_a_batch_of_two_videos_is_the_two_videos(model):
    """Core's own handler cannot: it cuts the timestep by frame numbers."""
    latent = tiny_wan.latent(batch=2)
    noise = comfy.sample.prepare_noise(latent, 5)
    settings = {"positive": prompt(1), "negative": prompt(2), "latent_image": latent, "disable_pbar": True, "seed": 5}
    both = comfy.sample.sample(windowed(model), noise, STEPS, CFG, "euler", "simple", **settings)
    for i in range(2):
        settings["latent_image"] = latent[:1]
        one = comfy.sample.sample(windowed(model), noise[i : i + 1], STEPS, CFG, "euler", "simple", **settings)
        torch.testing.assert_close(both[i : i + 1], one, atol=CLOSE, rtol=0)


def test_random_shift_is_the_same_every_time_and_moves(model):
    first = run(windowed(model, schedule="random_shift", shift_seed=3))
    assert torch.equal(first, run(windowed(model, schedule="random_shift", shift_seed=3)))
    assert not torch.equal(first, run(windowed(model, schedule="random_shift", shift_seed=4)))
    recorder, calls = record(windowed(model, schedule="random_shift", shift_seed=3))
    run(recorder, steps=8)
    starts = {}
    for _, note, *_ in calls:
        starts.setdefault(note["step"], set()).update(w[0] for w in note["windows"])
    assert len(starts) == 8 and len({frozenset(s) for s in starts.values()}) > 1


def test_a_schedule_cut_in_two_draws_the_same_shifts(model):
    windows = windowed(model, schedule="random_shift", shift_seed=3)
    latent = tiny_wan.latent()
    noise = comfy.sample.prepare_noise(latent, 5)
    args = (6, CFG, "euler", "simple", prompt(1), prompt(2))
    whole = comfy.sample.sample(windows, noise, *args, latent, disable_pbar=True, seed=5)
    half = comfy.sample.sample(windows, noise, *args, latent, last_step=3, disable_pbar=True, seed=5)
    rest = comfy.sample.sample(
        windows, noise * 0, *args, half, start_step=3, disable_noise=True, disable_pbar=True, seed=5
    )
    torch.testing.assert_close(rest, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2s_ancestral", "dpm_fast", "uni_pc", "lcm", "res_multistep"])
def test_other_samplers_run(model, sampler):
    result = run(windowed(model, schedule="random_shift", extra_path=GlobalPath(every=2)), sampler=sampler)
    assert torch.isfinite(result).all()


def test_step_of_a_sigma():
    def step(sigma, sigmas):
        options = {"transformer_options": {"sample_sigmas": torch.tensor(sigmas)}}
        return Moment.of(torch.tensor([sigma]), options)

    schedule = [1.0, 0.9, 0.5, 0.1, 0.0]
    sigmas = (1.0, 0.95, 0.9, 0.7, 0.5, 0.1, 0.05, 0.0, 2.0)
    assert [step(s, schedule).step for s in sigmas] == [0, 0, 1, 1, 2, 3, 3, 3, 0]
    assert [step(s, schedule).first for s in (1.0, 0.95, 0.9)] == [True, False, False]
    assert [step(s, [0.0, 0.5, 0.9]).step for s in (0.0, 0.2, 0.5, 0.9)] == [0, 0, 1, 1]
    assert step(0.9, schedule).key == step(0.9, [0.9, 0.5]).key


def options_state(value):
    """Everything in a MODEL's options, by value for plain things and by identity for objects."""
    if isinstance(value, dict):
        return {k: options_state(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [options_state(v) for v in value]
    return value if isinstance(value, (str, int, float, bool)) else id(value)


class Stop(Exception):
    pass


@pytest.mark.parametrize("ending", ["done", "cancel", "error"])
def test_a_run_leaves_the_cached_model_as_it_was(model, ending):
    def stop_at(step, *_):
        if ending == "cancel" and step == 0:
            comfy.model_management.interrupt_current_processing()
        if ending == "error" and step == 1:
            raise Stop

    cached = windowed(model, schedule="random_shift", extra_path=GlobalPath())
    handler = cached.model_options["context_handler"]
    before, inside = options_state(cached.model_options), dict(vars(handler))
    expected = run(windowed(model, schedule="random_shift", extra_path=GlobalPath()))
    if ending == "done":
        run(cached)
    else:
        error = Stop if ending == "error" else comfy.model_management.InterruptProcessingException
        with pytest.raises(error):
            run(cached, callback=stop_at)
    assert options_state(cached.model_options) == before
    assert vars(handler) == inside
    assert "context_handler" not in model.model_options
    assert torch.equal(run(cached), expected)


def test_cancel_in_the_middle_of_a_step(model):
    recorder, calls = record(windowed(model))
    inner = recorder.model_options["model_function_wrapper"]

    def cancel_at_second(apply, args):
        if len(calls) == 1:
            comfy.model_management.interrupt_current_processing()
        return inner(apply, args)

    recorder.set_model_unet_function_wrapper(cancel_at_second)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(recorder)
    assert len(calls) == 2  # four windows in the first step, the third was never evaluated


def test_callers_transformer_options_stay_clean(model):
    handler = LongTakeContextHandler(WindowSettings(LENGTH, OVERLAP, window_batch=1))
    x, sigma = torch.randn(1, 16, FRAMES, 4, 4), torch.ones(1)
    options = {"transformer_options": {"sample_sigmas": torch.tensor([1.0, 0.0])}}
    identity = lambda m, conds, x, t, o: [x.clone() for _ in conds]  # noqa: E731
    out = handler.execute(identity, model.model, [[], None], x, sigma, options)
    torch.testing.assert_close(out[0], x)
    assert options["transformer_options"].keys() == {"sample_sigmas"}


def test_callbacks_are_those_of_core(model):
    seen = {"ours": [], "core": []}
    for name, patched in (("ours", windowed(model, fuse="flat")), ("core", core_windowed(model, "flat"))):
        handler = patched.model_options["context_handler"]
        for event in ("execute_start", "evaluate_context_windows", "combine_context_window_results", "execute_cleanup"):
            note = functools.partial(lambda name, event, *args: seen[name].append((event, len(args))), name, event)
            add_callback_with_key(event, "test", note, handler.callbacks)
        run(patched, steps=1)
    assert seen["ours"] == seen["core"] and len(seen["ours"]) == 2 + 2 * 4
