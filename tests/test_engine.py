"""The window engine in real sampling runs of a tiny random Wan model."""

import functools
import logging

import comfy.context_windows as core
import comfy.latent_formats
import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import pytest
import torch
from comfy.ldm.wan.model import WanModel
from comfy.patcher_extension import WrappersMP, add_callback_with_key
from longtake.nodes.windows import LongTakeWindowScheduler, report
from longtake.samplers.conds import window_entries
from longtake.samplers.context import (
    COMPRESSION,
    NEW_CORE,
    LongTakeContextHandler,
    apply_windows,
    temporal_compression,
)
from longtake.samplers.moment import Moment, training_timestep
from longtake.samplers.timeline import Span
from longtake.samplers.windows import FUSE, WindowSettings, dilated_windows, gamma, local_windows

LENGTH, OVERLAP, FRAMES = 5, 2, 14
STEPS = 3


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    """A WanModel of 2 layers with random weights, loaded as ComfyUI loads any Wan."""
    torch.manual_seed(0)
    net = WanModel(
        model_type="t2v", dim=128, ffn_dim=256, num_heads=1, num_layers=2, in_dim=16, out_dim=16, text_dim=4096,
        operations=torch.nn, dtype=torch.float32, device="cpu",
    )  # fmt: skip
    # The head's scale keeps latents near 1, as a trained model does, so that 1e-5 is float32's rounding.
    weights = {
        k: torch.randn_like(v) * (0.012 if "head.head" in k else 0.3 if "modulation" in k else 0.08)
        for k, v in net.state_dict().items()
    }
    for key in weights:
        if "norm" in key and key.endswith("weight"):
            weights[key] += 1
    patcher = comfy.sd.load_diffusion_model_state_dict(weights)
    assert isinstance(patcher.model.latent_format, comfy.latent_formats.Wan21)
    return patcher


def prompt(seed, **extra):
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)), extra]]


def run(model, frames=FRAMES, *, positive=None, cfg=4.0, sampler="euler", batch=1, callback=None, steps=STEPS, seed=5):
    latent = torch.zeros(batch, 16, frames, 4, 4)
    noise = comfy.sample.prepare_noise(latent, seed)
    return comfy.sample.sample(
        model, noise, steps, cfg, sampler, "simple", positive or prompt(1), prompt(2), latent,
        disable_pbar=True, seed=seed, callback=callback,
    )  # fmt: skip


def windowed(model, length=LENGTH, overlap=OVERLAP, **kwargs):
    kwargs.setdefault("window_batch", 1)
    return apply_windows(model, WindowSettings(length, overlap, **kwargs))


def core_windowed(model, fuse, anchor=False):
    model = model.clone()
    extra = {"causal_window_fix": anchor} if NEW_CORE else {}
    model.model_options["context_handler"] = core.IndexListContextHandler(
        core.get_matching_context_schedule("standard_static"), core.get_matching_fuse_method(fuse),
        context_length=LENGTH, context_overlap=OVERLAP, dim=2, **extra,
    )  # fmt: skip
    return model


def record(model):
    """A clone whose model calls are noted: (input shape, longtake's note, text rows, CFG branches)."""
    calls = []

    def wrapper(apply, args):
        options = args["c"]["transformer_options"]
        text = args["c"]["c_crossattn"].clone()
        calls.append((tuple(args["input"].shape), options.get("longtake"), text, args["cond_or_uncond"]))
        return apply(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model, calls


@pytest.fixture(scope="module")
def plain(model):
    return run(model, LENGTH)


@pytest.mark.parametrize("frames", [LENGTH, LENGTH - 2, 1])
def test_video_no_longer_than_the_window_is_plain_sampling(model, frames, caplog):
    with caplog.at_level(logging.INFO):
        ours = run(windowed(model, global_path=True, first_latent="anchor"), frames)
    assert (ours - run(model, frames)).abs().max() == 0.0
    notes = [r for r in caplog.records if "not longer than the window" in r.getMessage()]
    assert len(notes) == 1


@pytest.mark.parametrize("fuse", ["flat", "pyramid", "overlap-linear"])
def test_static_windows_equal_cores(model, fuse):
    torch.testing.assert_close(run(windowed(model, fuse=fuse)), run(core_windowed(model, fuse)), atol=1e-5, rtol=0)


def test_windows_change_the_result(model):
    assert (run(windowed(model)) - run(model)).abs().max() > 1e-2


@pytest.mark.skipif(not NEW_CORE, reason="this ComfyUI has no causal window fix to compare with")
@pytest.mark.parametrize("fuse", ["flat", "pyramid"])
def test_anchor_equals_cores_causal_window_fix(model, fuse):
    ours, theirs = run(windowed(model, fuse=fuse, first_latent="anchor")), run(core_windowed(model, fuse, anchor=True))
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=0)


def test_anchor_adds_one_earlier_frame(model):
    recorder, calls = record(windowed(model, first_latent="anchor", global_path=True))
    result = run(recorder, steps=1)
    assert (result - run(windowed(model, global_path=True), steps=1)).abs().max() > 1e-3
    for shape, note, *_ in calls:
        for indices, anchor in zip(note["windows"], note["anchor"], strict=True):
            expected = None if indices[0] == 0 else indices[0] - 1 if note["path"] == "local" else 0
            assert anchor == expected
            assert shape[2] == LENGTH + (anchor is not None)


@pytest.mark.parametrize("fuse", FUSE)
@pytest.mark.parametrize("schedule", ["static", "random_shift"])
@pytest.mark.parametrize("first_latent", ["as_is", "anchor"])
def test_the_engine_equals_a_loop_over_its_definition(model, fuse, schedule, first_latent):
    """One denoising evaluation against windows cut, predicted and fused by hand, for one CFG branch."""
    settings = WindowSettings(
        LENGTH, OVERLAP, schedule, fuse=fuse, global_path=True, gamma0=0.3, first_latent=first_latent, window_batch=1
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
        part = model.model.apply_model(x[:, :, anchor + list(indices)], sigma, c_crossattn=prompt(1)[0][0])
        return part[:, :, len(anchor) :]

    def fused(windows, name):
        top, bottom = torch.zeros_like(x), torch.zeros(1, 1, FRAMES, 1, 1)
        for w in windows:
            shape = [1] * LENGTH
            if name == "local":
                shape = core.get_context_weights(LENGTH, FRAMES, list(w.indices), handler)
            part = denoise(w.indices, name)
            for position, frame in enumerate(w.indices[: w.real]):
                top[:, :, frame] += shape[position] * part[:, :, position]
                bottom[:, :, frame] += shape[position]
        return top / bottom

    g = gamma(1000 * float(sigma[0]), 0.3, 5e-4)
    with torch.no_grad():
        expected = g * fused(dilated_windows(FRAMES, LENGTH), "global")
        expected += (1 - g) * fused(local_windows(settings, FRAMES, key), "local")
    torch.testing.assert_close(seen["cond"], expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("window_batch", [2, 3, 64])
def test_windows_in_one_call_equal_windows_one_by_one(model, window_batch, batch):
    options = {"global_path": True, "schedule": "random_shift", "first_latent": "anchor"}
    one = run(windowed(model, **options), batch=batch)
    recorder, calls = record(windowed(model, window_batch=window_batch, **options))
    many = run(recorder, batch=batch)
    torch.testing.assert_close(many, one, atol=2e-5, rtol=0)
    assert max(len(note["windows"]) for _, note, *_ in calls) == min(window_batch, 4)
    assert all(shape[0] == batch * len(note["windows"]) * len(branches) for shape, note, _, branches in calls)


def test_a_batch_of_two_videos_is_the_two_videos(model):
    """Core's own handler cannot: it cuts the timestep by frame numbers."""
    latent = torch.zeros(2, 16, FRAMES, 4, 4)
    noise = comfy.sample.prepare_noise(latent, 5)
    settings = {"positive": prompt(1), "negative": prompt(2), "latent_image": latent, "disable_pbar": True, "seed": 5}
    both = comfy.sample.sample(windowed(model), noise, STEPS, 4.0, "euler", "simple", **settings)
    for i in range(2):
        settings["latent_image"] = latent[:1]
        one = comfy.sample.sample(windowed(model), noise[i : i + 1], STEPS, 4.0, "euler", "simple", **settings)
        torch.testing.assert_close(both[i : i + 1], one, atol=2e-5, rtol=0)


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
    latent = torch.zeros(1, 16, FRAMES, 4, 4)
    noise = comfy.sample.prepare_noise(latent, 5)
    args = (6, 4.0, "euler", "simple", prompt(1), prompt(2))
    whole = comfy.sample.sample(windows, noise, *args, latent, disable_pbar=True, seed=5)
    half = comfy.sample.sample(windows, noise, *args, latent, last_step=3, disable_pbar=True, seed=5)
    rest = comfy.sample.sample(
        windows, noise * 0, *args, half, start_step=3, disable_noise=True, disable_pbar=True, seed=5
    )
    torch.testing.assert_close(rest, whole, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sampler", ["heun", "dpmpp_2s_ancestral", "dpm_fast", "uni_pc", "lcm", "res_multistep"])
def test_other_samplers_run(model, sampler):
    result = run(windowed(model, schedule="random_shift", global_path=True, global_every=2), sampler=sampler)
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

    cached = windowed(model, schedule="random_shift", global_path=True)
    handler = cached.model_options["context_handler"]
    before, inside = options_state(cached.model_options), dict(vars(handler))
    expected = run(windowed(model, schedule="random_shift", global_path=True))
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


def timeline(total, starts, blend=0.0):
    """Entry 0 global, one entry per event, never active in a plain call."""
    entries = prompt(1, longtake_span=None)
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else total
        span = Span(index=i, start=start, end=end, blend=blend, total=total)
        entries += prompt(10 + i, longtake_span=span, start_percent=1.0, end_percent=0.0)
    return entries


def rows(seed):
    return prompt(seed)[0][0]


def test_each_window_gets_its_prompt(model):
    total = 4 * (FRAMES - 1) + 1
    recorder, calls = record(windowed(model, global_path=True, window_batch=3))
    run(recorder, positive=timeline(total, [0, 20]), steps=1, cfg=1.0)
    seen = {}
    for _, note, text, _ in calls:
        text = text.expand(len(note["windows"]), -1, -1)
        for indices, row in zip(note["windows"], text, strict=True):
            seen[(note["path"], indices[0])] = row[None]
    # local windows start at 0, 3, 6, 9: centres at pixel frames 8, 18.5, 30.5, 42.5
    expected = {("local", 0): 10, ("local", 3): 10, ("local", 6): 11, ("local", 9): 11}
    expected |= {("global", i): 1 for i in range(3)}
    assert seen.keys() == expected.keys()
    for window, seed in expected.items():
        torch.testing.assert_close(seen[window], rows(seed), atol=1e-6, rtol=0)


def test_prompts_cross_fade_between_events(model):
    total = 4 * (FRAMES - 1) + 1
    recorder, calls = record(windowed(model))
    run(recorder, positive=timeline(total, [0, 20], blend=8.0), steps=1, cfg=1.0)
    text = next(text for _, note, text, _ in calls if note["windows"][0][0] == 3)
    weight = ((text - rows(10)) / (rows(11) - rows(10))).median()
    assert 0.2 < weight < 0.45  # 1.5 of 8 pixel frames before the border
    torch.testing.assert_close(text, torch.lerp(rows(10), rows(11), weight), atol=1e-4, rtol=0)


def test_a_timeline_without_windows_is_its_global_prompt(model):
    assert torch.equal(run(model, LENGTH, positive=timeline(17, [0, 8])), run(model, LENGTH))
    assert torch.equal(run(windowed(model), LENGTH, positive=timeline(17, [0, 8])), run(model, LENGTH))


def test_a_timeline_of_another_length_is_said_once(model, caplog):
    with caplog.at_level(logging.WARNING):
        run(windowed(model), positive=timeline(97, [0, 20]))
    notes = [r.getMessage() for r in caplog.records if "timeline" in r.getMessage()]
    assert len(notes) == 1 and "97" in notes[0] and "53" in notes[0] and "unused" in notes[0]


def test_concat_latents_are_cut_with_the_window(model):
    """An image-to-video model's concat latents follow the window's indices, also in one batch."""
    handler = LongTakeContextHandler(WindowSettings(LENGTH, OVERLAP, window_batch=4))
    concat = torch.arange(FRAMES, dtype=torch.float32).view(1, 1, FRAMES, 1, 1).expand(1, 20, FRAMES, 4, 4)
    entry = {"uuid": 0, "model_conds": {"c_concat": comfy.conds.CONDNoiseShape(concat)}}
    options = {"transformer_options": {"sample_sigmas": torch.tensor([1.0, 0.0])}}
    seen = []

    def look(m, conds, x, t, o):
        cut = conds[0][0]["model_conds"]["c_concat"].cond
        windows = [list(w) for w in o["transformer_options"]["longtake"]["windows"]]
        seen.append((tuple(x.shape), cut[:, 0, :, 0, 0].long().tolist(), windows))
        return [x for _ in conds]

    handler.execute(look, model.model, [[entry]], torch.randn(1, 16, FRAMES, 4, 4), torch.ones(1), options)
    assert len(seen) == 1
    shape, cut, windows = seen[0]
    assert shape[0] == 4 and cut == windows


def test_the_log_states_the_cost_once(model, caplog):
    with caplog.at_level(logging.INFO):
        run(windowed(model, global_path=True, global_every=2))
    notes = [r.getMessage() for r in caplog.records if "window evaluations" in r.getMessage()]
    assert len(notes) == 1
    # 4 local windows x 3 steps + 3 global in steps 0 and 2, two CFG branches
    assert f"= {(4 * 3 + 3 * 2) * 2} window evaluations" in notes[0] and "(24)" in notes[0]


def test_memory_is_budgeted_for_the_windows_of_one_call(model):
    shapes = []

    def spy(executor, model, noise_shape, *args, **kwargs):
        shapes.append(tuple(noise_shape))
        return executor(model, noise_shape, *args, **kwargs)

    for window_batch in (1, 3):
        patched = windowed(model, window_batch=window_batch)
        patched = apply_windows(patched, patched.model_options["context_handler"].settings)  # twice is as once
        patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "zz_spy", spy)
        run(patched, steps=1)
    assert shapes == [(1, 16, LENGTH, 4, 4), (3, 16, LENGTH, 4, 4)]


def test_gammas_timestep(model):
    sigma = torch.tensor(0.25)
    assert training_timestep(model.model.model_sampling, sigma) == 250
    eps = comfy.model_sampling.ModelSamplingDiscrete()
    assert training_timestep(eps, eps.sigmas[400]) == 400
    edm = comfy.model_sampling.ModelSamplingContinuousEDM()
    assert training_timestep(edm, edm.sigma_max) == pytest.approx(1000)
    assert training_timestep(edm, edm.sigma_min) == pytest.approx(0, abs=1e-3)


def node(model, **kwargs):
    inputs = {i.id: getattr(i, "default", None) for i in LongTakeWindowScheduler.define_schema().inputs}
    return LongTakeWindowScheduler.execute(**{**inputs, "model": model, **kwargs}).args


def test_node_converts_pixel_frames_and_reports(model):
    patched, settings, text, _ = node(model, window_length=49, overlap=28, length=293, global_path=True)
    assert (settings.length, settings.overlap, settings.compression) == (13, 7, 4)
    assert patched.model_options["context_handler"].settings is settings
    assert "49 pixel frames = 13 latent frames" in text and "7 latent frames" in text
    assert "74 latent frames" in text and "12 local windows" in text and "1.50x plain windows" in text
    assert "not longer" in report(settings, 49, 28, 49)
    assert "set length" in report(settings, 49, 28, 0)


def test_node_refuses_what_makes_no_windows(model):
    for bad in ({"window_length": 16, "overlap": 16}, {"window_length": 0, "overlap": 0}):
        with pytest.raises(ValueError, match="LongTakeWindowScheduler.*window_length"):
            node(model, **bad)
        assert "LongTakeWindowScheduler" in LongTakeWindowScheduler.validate_inputs(**bad)
    assert LongTakeWindowScheduler.validate_inputs(overlap=400) is True


def test_every_input_has_a_tooltip():
    assert all(i.tooltip for i in LongTakeWindowScheduler.define_schema().inputs)


def test_an_unknown_choice_is_named(model):
    with pytest.raises(ValueError, match=r"LongTakeWindowScheduler.*fuse \(cubic\) must be one of pyramid, flat"):
        node(model, fuse="cubic")


def test_every_entry_of_a_prompt_with_scheduled_hooks_is_taken():
    """Scheduled hooks give each prompt one entry per range; an event's entries take the ranges of the global ones."""
    ranges = ((0.0, 0.5, 9.0, 4.0), (0.5, 1.0, 4.0, 0.0))

    def entries(span, text):
        return [{"longtake_span": span, "text": (text, a), "model_conds": {}, "clip_start_percent": a,
                 "clip_end_percent": b, "timestep_start": start if span is None else 0.0,
                 "timestep_end": end if span is None else 99.0} for a, b, start, end in ranges]  # fmt: skip

    spans = [Span(0, 0, 24, 0, 49), Span(1, 24, 49, 0, 49)]
    cond = [*entries(None, "global"), *entries(spans[0], "first"), *entries(spans[1], "second"), {"text": "other"}]
    got = window_entries(cond, range(7, 13), "local", 4)
    assert [e["text"] for e in got] == [("second", 0.0), ("second", 0.5), "other"]
    assert [(e["timestep_start"], e["timestep_end"]) for e in got[:2]] == [(9.0, 4.0), (4.0, 0.0)]
    assert window_entries(cond, range(0, 13, 2), "global", 4) == [*cond[:2], cond[-1]]



def test_image_models_are_refused(model):
    image = model.clone()
    image.add_object_patch("latent_format", comfy.latent_formats.SDXL())
    with pytest.raises(ValueError, match="model: this is an image model .*SDXL"):
        node(image)


def test_an_eps_image_model_is_refused():
    unet = {
        "context_dim": 768, "use_spatial_transformer": True, "model_channels": 32, "num_heads": 8, "image_size": 32,
        "use_linear_in_transformer": False, "adm_in_channels": None, "use_temporal_attention": False,
        "in_channels": 4, "out_channels": 4, "num_res_blocks": [1, 1], "channel_mult": [1, 2],
        "transformer_depth": [0, 0], "transformer_depth_output": [0, 0, 0, 0], "transformer_depth_middle": 0,
    }  # fmt: skip
    config = comfy.supported_models.SD15(unet)
    config.set_inference_dtype(torch.float32, None)
    image = comfy.model_patcher.ModelPatcher(config.get_model({}), torch.device("cpu"), torch.device("cpu"))
    with pytest.raises(ValueError, match="model: this is an image model .*SD15"):
        node(image)


def test_compression_of_this_cores_video_formats():
    for name, ratio in COMPRESSION.items():
        if name != "HunyuanImage21Refiner" and hasattr(comfy.latent_formats, name):
            assert temporal_compression(getattr(comfy.latent_formats, name)()) == ratio


def test_a_latent_without_frames_is_refused(model):
    handler = LongTakeContextHandler(WindowSettings(LENGTH, OVERLAP))
    options = {"transformer_options": {"sample_sigmas": torch.tensor([1.0, 0.0])}}
    with pytest.raises(ValueError, match=r"LongTakeWindowScheduler.*\(1, 16, 8, 8\).*5 dimensions"):
        handler.should_use_context(model.model, [[]], torch.zeros(1, 16, 8, 8), torch.ones(1), options)
