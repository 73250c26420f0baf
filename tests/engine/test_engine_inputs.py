"""The window engine: what each window gets, what is said and counted before a run, and what the node refuses."""

import logging

import comfy.conds
import comfy.latent_formats
import comfy.model_patcher
import comfy.model_sampling
import comfy.supported_models
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from longtake.nodes.windows import LongTakeWindowScheduler, report
from longtake.samplers.adapters.engine import LongTakeContextHandler, apply_windows
from longtake.samplers.adapters.latents import COMPRESSION, temporal_compression
from longtake.samplers.adapters.steps import training_timestep
from longtake.samplers.adapters.timeline import PART_KEY, window_entries
from longtake.samplers.adapters.window import VideoFrames
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.prompts.timeline import Span
from longtake.samplers.windows import WindowSettings
from support import tiny_wan
from support.refusals import refusal
from support.tiny_wan import FRAMES, TOTAL, record, rows, run, timeline
from support.windows import LENGTH, OVERLAP, anchored, windowed

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    return tiny_wan.patcher()


def test_each_window_gets_its_prompt(model):
    recorder, calls = record(windowed(model, extra_path=GlobalPath(), window_batch=3))
    run(recorder, positive=timeline(TOTAL, [0, 20]), steps=1, cfg=1.0)
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
    recorder, calls = record(windowed(model))
    run(recorder, positive=timeline(TOTAL, [0, 20], blend=8.0), steps=1, cfg=1.0)
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
    notes = [r.getMessage() for r in caplog.records if "Timeline" in r.getMessage()]
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
        run(windowed(model, extra_path=GlobalPath(every=2)))
    notes = [r.getMessage() for r in caplog.records if "window evaluations" in r.getMessage()]
    assert len(notes) == 1
    # 4 local windows x 3 steps + 3 global in steps 0 and 2, two CFG branches
    assert f"= {(4 * 3 + 3 * 2) * 2} window evaluations" in notes[0] and "(24)" in notes[0]


def test_memory_is_budgeted_for_the_windows_of_one_call(model):
    """Never more than the video has: four of 14 frames, one of five, where nothing is anchored either."""
    shapes = []

    def spy(executor, model, noise_shape, *args, **kwargs):
        shapes.append(tuple(noise_shape))
        return executor(model, noise_shape, *args, **kwargs)

    for window_batch, frames, cache in ((1, FRAMES, None), (3, FRAMES, None), (64, FRAMES, None), (3, LENGTH, None),
                                        (1, LENGTH, "gpu"), (1, LENGTH, "recompute")):  # fmt: skip
        patched = windowed(model, window_batch=window_batch)
        patched = apply_windows(patched, patched.model_options["context_handler"].settings)  # twice is as once
        if cache is not None:
            patched = anchored(patched, cache=cache)
        patched.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, "zz_spy", spy)
        run(patched, frames, steps=1)
    assert [shape[0] for shape in shapes] == [1, 3, 4, 1, 1, 1]
    assert {shape[1:] for shape in shapes} == {(16, LENGTH, 4, 4)}


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
    assert "74 latent frames" in text and "12 windows per step + 6 global" in text and "1.50x plain windows" in text
    assert "not longer" in report(settings, 49, 28, 49)
    assert "without the video's length" in report(settings, 49, 28, 0)
    assert all(line.startswith("- ") for line in text.splitlines())  # a Markdown list


def test_node_refuses_what_makes_no_windows(model):
    for bad in ({"window_length": 16, "overlap": 16}, {"window_length": 0, "overlap": 0}):
        with pytest.raises(ValueError, match="LongTakeWindowScheduler.*window_length"):
            node(model, **bad)
        assert refusal("LongTakeWindowScheduler", **bad) is not None
    assert LongTakeWindowScheduler.validate_inputs(overlap=400) is True  # a window's length may come by a link


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
    other = {"text": "other", "model_conds": {"c": 1}}
    cond = [*entries(None, "global"), *entries(spans[0], "first"), *entries(spans[1], "second"), other]
    got = window_entries(cond, VideoFrames(range(7, 13)), "local", 4)
    assert [e["text"] for e in got] == [("second", 0.0), ("second", 0.5), "other"]
    assert [(e["timestep_start"], e["timestep_end"]) for e in got[:2]] == [(9.0, 4.0), (4.0, 0.0)]
    whole = [*cond[:2], cond[-1]]
    assert window_entries(cond, VideoFrames(range(0, 13, 2)), "global", 4) == [
        {**entry, PART_KEY: part} for entry, part in zip(whole, (0, 0, 1), strict=True)
    ]


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
