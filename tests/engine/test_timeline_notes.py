"""Timelines beside areas, in videos of one window, and what is said of events that no window gets."""

import logging
import re

import comfy.context_windows as core
import comfy.samplers
import pytest
import torch
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.adapters.timeline_notes import lost_events
from longtake.samplers.adapters.window import fuse_weights
from longtake.samplers.fusion import normalised
from longtake.samplers.prompts.timeline import Span, span_weights
from longtake.samplers.syncos.coupling import PRESETS
from longtake.samplers.windows import WindowSettings, local_windows, window_centre
from support import tiny_wan, zoo
from support.tiny_wan import FRAMES, TOTAL, prompt, record, rows, run, timeline
from support.windows import LENGTH, anchored, core_windowed, windowed

pytestmark = pytest.mark.usefixtures("one_thread")
AREA = {"area": (4, 2, 0, 0), "strength": 1.0}


@pytest.fixture
def model():
    return tiny_wan.patcher()


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and "LongTake" in r.getMessage()]


@pytest.mark.parametrize("window_batch", [1, 4])
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_an_area_on_the_other_side_leaves_the_timeline_whole(model, side, window_batch):
    """One event under a global prompt is that event's text: so it is where the other side has an area, too."""
    other = prompt(2) + prompt(7, **AREA)
    sides = {"positive": "negative", "negative": "positive"}
    sampled = windowed(model, window_batch=window_batch)
    got = run(sampled, **{side: timeline(TOTAL, [0]), sides[side]: other})
    assert torch.equal(got, run(sampled, **{side: prompt(10), sides[side]: other}))
    assert (got - run(sampled, **{side: prompt(1), sides[side]: other})).abs().max() > 1e-3  # 1: the global prompt


def test_the_area_gets_each_windows_event(model):
    recorder, calls = record(windowed(model))
    run(recorder, positive=timeline(TOTAL, [0, 27]), negative=prompt(2) + prompt(7, **AREA), steps=1)
    known = {"global": rows(1), "event 1": rows(10), "event 2": rows(11)}
    seen = {}
    for shape, note, text, branches in calls:
        for row, branch in zip(text, branches, strict=True):
            name = next((k for k, v in known.items() if torch.equal(v[0], row)), None)
            if branch == 0:
                seen.setdefault(note["windows"][0][0], set()).add((shape[-2:] == (4, 2), name))
    assert seen[0] == {(False, "event 1"), (True, "event 1")} and seen[9] == {(False, "event 2"), (True, "event 2")}


def test_syncos_sees_one_prompt_where_the_video_is_one_window(model):
    patched, calls = record(windowed(model))
    latent = tiny_wan.latent(LENGTH)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 4)
    comfy.sample.sample_custom(
        patched, comfy.sample.prepare_noise(latent, 5), 2.0, syncos_sampler(PRESETS["balanced"]), sigmas,
        timeline(17, [0, 9]), prompt(2), latent, disable_pbar=True, seed=5,
    )  # fmt: skip
    texts = [row for _, _, text, _ in calls for row in text]
    assert all(torch.equal(row, rows(1)[0]) or torch.equal(row, rows(2)[0]) for row in texts)
    assert any(note is not None for _, note, _, _ in calls)  # coupled


def test_events_without_a_window_are_named(model, caplog):
    """Windows centred at 6.5, 18.5, 30.5 and 42.5 of 53 pixel frames: events of 6 lie between them."""
    starts = [0, 3, 10, 13, 25, 37, 46, 50]
    run(windowed(model), positive=timeline(TOTAL, starts), steps=1)
    (said,) = warnings(caplog)
    assert "no window gets events" in said and "LongTakePromptTimeline" in said and "overlap larger" in said
    centres = [(4 * (s - 1) + 1 + 4 * (s + LENGTH - 1)) / 2 if s else 8 for s in (0, 3, 6, 9)]
    ends = [*starts[1:], TOTAL]
    lost = [i + 1 for i, (a, b) in enumerate(zip(starts, ends, strict=True)) if not any(a <= c < b for c in centres)]
    assert f"events {', '.join(map(str, lost))} of 8" in said


@pytest.mark.parametrize("schedule", ["rolling", "rolling_cut", "random_shift_each"])
@pytest.mark.parametrize("located", [None, ([0.5 + i / 16 for i in range(8)], 8)])
@pytest.mark.parametrize("starts", [[0, 2, 25], [0, 8, 20, 49], [0, 20, 50], [0, 30, 44, 49]])
def test_an_event_is_lost_that_no_window_of_the_run_has_at_its_centre(schedule, located, starts):
    """Also of a second sampler, which goes on where another stopped, and of pieces that begin on the same frame."""
    settings, frames, keys = WindowSettings(LENGTH, 0, schedule=schedule, overlap_end=3), 14, [17 * i for i in range(8)]
    found = [Span(i, a, b, 0, TOTAL) for i, (a, b) in enumerate(zip(starts, [*starts[1:], TOTAL], strict=True))]
    places, first = located or ([i / 8 for i in range(8)], 0)
    centres = {
        window_centre(window.indices, 4, frames)
        for step, (key, place) in enumerate(zip(keys, places, strict=True))
        for window in local_windows(settings, frames, key, first + step, place)
    }
    lost = [i + 1 for i, span in enumerate(found) if not any(span.start <= at < span.end for at in centres)]
    assert lost_events(found, settings, frames, keys, located) == lost


def test_a_second_sampler_names_the_events_that_its_own_windows_miss(model, caplog):
    """Two samplers over six steps and over the last three of them: each says what its run does."""
    text = timeline(TOTAL, [0, 4, 49])
    patched, calls = record(windowed(model, overlap=0, schedule="rolling_cut"))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 6)
    latent = tiny_wan.latent(FRAMES)
    for part in (sigmas, sigmas[3:]):
        caplog.clear()
        calls.clear()
        comfy.sample.sample_custom(
            patched, comfy.sample.prepare_noise(latent, 5), 1.0, comfy.samplers.sampler_object("euler"), part, text,
            prompt(2), latent, disable_pbar=True, seed=5)  # fmt: skip
        centres = [window_centre(window, 4, FRAMES) for _, note, *_ in calls for window in note["windows"]]
        ends = [(0, 4), (4, 49), (49, TOTAL)]
        lost = [str(i) for i, (a, b) in enumerate(ends, 1) if not any(a <= c < b for c in centres)]
        said = [re.search(r"no window gets events? ([\d, ]+) of 3", line) for line in warnings(caplog)]
        assert [found[1] for found in said if found] == ([", ".join(lost)] if lost else [])


def test_random_shift_reaches_events_between(model, caplog):
    run(windowed(model, schedule="random_shift"), positive=timeline(TOTAL, [0, 20, 25]), steps=12)
    assert not warnings(caplog)


def test_a_video_of_one_window_says_that_events_are_unused(model, caplog):
    run(windowed(model), LENGTH, positive=timeline(17, [0, 9]), steps=2)
    (said,) = warnings(caplog)
    assert "none of its 2 events is used" in said and "window_length smaller" in said


def test_one_event_in_one_window_is_not_worth_a_word(model, caplog):
    run(windowed(model), LENGTH, positive=timeline(17, [0]), steps=1)
    assert not warnings(caplog)


@pytest.mark.parametrize("total", [TOTAL - 2, TOTAL, TOTAL + 3])
def test_lengths_that_make_the_same_latent_agree(model, caplog, total):
    """The video has 4n+1 frames; core makes the same latent of a few more or less."""
    same = (total - 1) // 4 + 1 == FRAMES
    run(windowed(model), positive=timeline(total, [0, 27]), steps=1)
    assert bool(warnings(caplog)) != same


def test_windows_of_another_node_that_come_later_are_said(model, caplog):
    later = core_windowed(windowed(model))
    assert type(later.model_options["context_handler"]) is core.IndexListContextHandler
    run(later, positive=timeline(TOTAL, [0, 27]), steps=1)
    (said,) = warnings(caplog)
    assert "none of its 2 events is used" in said and "last before the sampler" in said


def text(seed, tokens):
    return zoo.randn(1, tokens, 4096, seed=seed)


def faded(tokens, **extra):
    """Two events of different lengths of text, cross-faded over the whole of the windows between."""
    spans = [Span(0, 0, 26, 26, TOTAL), Span(1, 26, TOTAL, 26, TOTAL)]
    entries = prompt(1, longtake_span=None)
    for seed, span, count in zip((10, 11), spans, tokens, strict=True):
        entries.append([text(seed, count), {"longtake_span": span, "start_percent": 1.0, "end_percent": 0.0, **extra}])
    return entries


@pytest.mark.parametrize("window_batch", [1, 4])
def test_prompts_of_different_lengths_fade_by_their_predictions(model, window_batch):
    """Each window between is (1 - w) x the one prediction + w x the other: an average with strengths, by core."""
    settings = {"window_batch": window_batch}
    got = run(windowed(model, **settings), positive=faded((12, 7)), steps=1, cfg=1.0)
    first = run(windowed(model, **settings), positive=[[text(10, 12), {}]], steps=1, cfg=1.0)
    second = run(windowed(model, **settings), positive=[[text(11, 7), {}]], steps=1, cfg=1.0)
    spans = [Span(0, 0, 26, 26, TOTAL), Span(1, 26, TOTAL, 26, TOTAL)]
    handler = windowed(model).model_options["context_handler"]
    parts = local_windows(handler.settings, FRAMES, 0)
    raw = [fuse_weights("pyramid", LENGTH, FRAMES, w.indices, 2, handler=handler) for w in parts]
    # One step to sigma 0 gives x0; by frame, the mean of the windows' shares of the second event.
    share = torch.zeros(FRAMES)
    for window, weight in zip(parts, normalised(parts, raw, FRAMES), strict=True):
        of = dict(span_weights(spans, window_centre(window.indices, 4))).get(1, 0.0)
        share[list(window.indices)] += weight.float() * of
    assert share.min() + 1e-6 > 0 and len(set(share.tolist())) > 3
    # Only a single window's frames are exact mixes of the whole runs' frames.
    for frame in (0, 1, 2, 11, 12, 13):
        mixed = torch.lerp(first[:, :, frame], second[:, :, frame], share[frame].item())
        assert torch.allclose(got[:, :, frame], mixed, atol=1e-4)


def test_prompts_of_one_length_fade_in_one_evaluation(model):
    counted = []

    def count(apply, args):
        counted.append(len(args["cond_or_uncond"]))
        return apply(args["input"], args["timestep"], **args["c"])

    for tokens, most in (((12, 12), 2), ((12, 7), 3)):
        counted.clear()
        patched = windowed(model)
        patched.set_model_unet_function_wrapper(count)
        run(patched, positive=faded(tokens), steps=1)
        assert sum(counted) == 4 * 2 + (most == 3) * sum(
            0 < dict(span_weights([Span(0, 0, 26, 26, TOTAL), Span(1, 26, TOTAL, 26, TOTAL)],
                                  window_centre(range(s, s + LENGTH), 4))).get(1, 0) < 1 for s in (0, 3, 6, 9)
        )  # fmt: skip


@pytest.mark.parametrize("cache", ["gpu", "recompute"])
def test_faded_prompts_are_anchored_to_the_timelines_first_window(model, cache):
    got = run(anchored(windowed(model), cache=cache), positive=faded((12, 7)), steps=1) if cache == "gpu" else None
    if cache == "recompute":
        with pytest.raises(ValueError, match="LongTakeABAM.*recompute"):
            run(anchored(windowed(model), cache=cache), positive=faded((12, 7)), steps=1)
        return
    assert got.isfinite().all()
    assert (got - run(windowed(model), positive=faded((12, 7)), steps=1)).abs().max() > 1e-3
