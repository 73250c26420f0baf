"""Timing `frame` against attention by hand, on every model whose text attention can be cut by frames."""

import pytest
import torch
from longtake.samplers.adapters.event_texts import TEXTS
from longtake.samplers.adapters.window import NEW_CORE
from longtake.samplers.glc.paths import GlobalPath
from support import zoo
from support.compare import difference
from support.event_texts import (
    CLOSE,
    MODELS,
    STARTS,
    TOTAL,
    WAN,
    by_hand,
    entry,
    joined,
    run_case,
    sample,
    shares,
    timeline,
)
from support.window_inputs import CASES
from support.windows import windowed
from support.zoo_runs import FRAMES, run

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("blend", [0.0, 8.0])
@pytest.mark.parametrize("name", MODELS)
def test_equals_attention_by_hand(name, blend):
    starts = STARTS if blend == 0 else (0, 9, 21)
    ours = run(name, windowed(zoo.patcher(name)), positive=timeline(name, starts, blend))
    reference = run(name, windowed(by_hand(name, starts, blend)), positive=joined(name, len(starts)))
    assert difference(ours, reference) < CLOSE
    told_by_window = run(name, windowed(zoo.patcher(name)), positive=timeline(name, starts, blend, "window"))
    assert difference(ours, told_by_window) > 1e-3


@pytest.mark.parametrize("blend", [0.0, 8.0])
def test_batches_of_windows_and_videos(blend):
    model, starts = zoo.zoo()[WAN], (0, 9, 21)
    one = run(WAN, windowed(zoo.patcher(WAN)), positive=timeline(WAN, starts, blend), latent=model.latent(FRAMES, 4))
    for batch in (2, 4):
        many = windowed(zoo.patcher(WAN), window_batch=batch)
        ours = run(WAN, many, positive=timeline(WAN, starts, blend), latent=model.latent(FRAMES, 4))
        assert difference(ours, one) < CLOSE
    reference = run(WAN, windowed(by_hand(WAN, starts, blend)), positive=joined(WAN, 3), latent=model.latent(FRAMES, 4))
    assert difference(one, reference) < CLOSE


def test_windows_of_as_many_events_run_in_one_call():
    calls = []
    model = windowed(zoo.patcher(WAN), window_batch=4)
    model.set_model_unet_function_wrapper(lambda apply, args: calls.append(args["input"].shape[0]) or apply(
        args["input"], args["timestep"], **args["c"]
    ))  # fmt: skip
    starts = (0, *range(5, TOTAL, 4))  # an event per latent frame but the second: four in the first of three windows
    ours = run(WAN, model, positive=timeline(WAN, starts), steps=1)
    assert sorted(calls) == [1, 1, 2, 2]  # apart: the texts of CFG's two prompts
    alone = run(WAN, windowed(zoo.patcher(WAN)), positive=timeline(WAN, starts), steps=1)
    assert difference(ours, alone) < CLOSE


def test_texts_of_different_lengths():
    tokens = [7, 12, 3, 9]
    ours = run(WAN, windowed(zoo.patcher(WAN), window_batch=3), positive=timeline(tokens=tokens))
    assert difference(ours, run(WAN, windowed(by_hand(tokens=tokens)), positive=joined(tokens=tokens))) < CLOSE


@pytest.mark.parametrize("each", [40, 128], ids=["the window's tokens", "the image's tokens and the window's"])
def test_as_many_text_tokens_as_another_sequence_has(each):
    # A window has 5 x 16 tokens: two events of 40, or 257 image tokens: 128 + 129.
    name, tokens = (WAN, [40, 40]) if each == 40 else ("wan21_i2v", [128, 129])
    starts = (0, 17)
    ours = run(name, windowed(zoo.patcher(name)), positive=timeline(name, starts, tokens=tokens))
    longer = [n + 1 for n in tokens]
    again = run(name, windowed(zoo.patcher(name)), positive=timeline(name, starts, tokens=longer))
    assert difference(ours, again) > 1e-3  # other texts: only to see that prompts matter here
    padded = [tokens[0], tokens[1]]

    def of(frame, starts, blend):  # a third text that no frame reads keeps the lengths apart
        return [*shares(frame, starts, blend), 0.0]

    texts = joined(name, 2, padded)
    texts[0][0] = torch.cat([texts[0][0], zoo.randn(1, 5, texts[0][0].shape[-1], seed=99)], 1)
    hand = by_hand(name, starts, tokens=[*padded, 5], of=of)
    assert difference(ours, run(name, windowed(hand), positive=texts)) < CLOSE


@pytest.mark.parametrize(
    "name, behind",
    [("wan21_fun_control", False), ("wan21_phantom", True), ("wan21_humo", True)]
    + [("wan22_s2v", True)] * NEW_CORE,
)
def test_tokens_beside_the_video_read_each_event_by_its_share(name, behind):
    starts = (0, 9, 21)
    ours = run_case(name, windowed(CASES[name].build()), timeline(name, starts))
    hand = run_case(name, windowed(by_hand(name, starts, behind=behind)), joined(name, 3))
    assert difference(ours, hand) < CLOSE


def test_one_event_is_timing_window():
    for path in (None, GlobalPath(0.5)):
        frame, window = (
            run(WAN, windowed(zoo.patcher(WAN), extra_path=path), positive=timeline(starts=(0,), timing=timing))
            for timing in ("frame", "window")
        )
        assert difference(frame, window) == 0.0


@pytest.mark.parametrize("name", MODELS)
def test_windows_inside_one_event_are_timing_window(name):
    # Windows of latent frames 0-4 and 4-8 cannot be apart; of three frames 0-2, 3-5 and 6-8 they can.
    starts = (0, 9, 21)
    frame, window = (
        run(name, windowed(zoo.patcher(name), 3, 0), positive=timeline(name, starts, timing=timing))
        for timing in ("frame", "window")
    )
    assert difference(frame, window) == 0.0


def test_equal_texts_are_that_text_whatever_the_border():
    same = timeline(blend=4.0)
    same = [same[0]] + [[same[1][0], e[1]] for e in same[1:]]
    ours = run(WAN, windowed(zoo.patcher(WAN)), positive=same)
    assert difference(ours, run(WAN, windowed(zoo.patcher(WAN)), positive=[entry(WAN, 10)])) < CLOSE


@pytest.mark.parametrize(
    "place",
    [
        {"area": (5, 8, 8, 2, 0, 0)}, {"area": (8, 4, 0, 4)}, {"area": (5, 4, 8, 2, 4, 0), "strength": 0.5},
        {"mask": (torch.arange(FRAMES) % 3).float()[:, None, None].expand(FRAMES, 8, 8)},
    ],
    ids=["area in time", "area", "both", "mask per frame"],
)  # fmt: skip
@pytest.mark.parametrize("side", ["positive", "negative"])
def test_areas_and_masks_on_either_side(place, side):
    same = timeline(blend=4.0)
    same = [[same[1][0], same[0][1]]] + [[same[1][0], e[1]] for e in same[1:]]
    text, other = [entry(WAN, 10)], [entry(WAN, 2)]
    if side == "positive":  # here the events have the place; there, core gives it to them
        same, text = ([[e[0], {**e[1], **place}] for e in entries] for entries in (same, text))
    else:
        other.append(entry(WAN, 3, **place))
    ours = sample(windowed(zoo.patcher(WAN)), same, other)
    assert difference(ours, sample(windowed(zoo.patcher(WAN)), text, other)) < CLOSE


def test_a_video_of_one_window_shows_its_events():
    settings = {"length": 13, "overlap": 4, "extra_path": GlobalPath(0.5), "retain": (0, -1, 12)}
    ours = run(WAN, windowed(zoo.patcher(WAN), **settings), positive=timeline())
    assert difference(ours, run(WAN, by_hand(), positive=joined())) < CLOSE


def test_the_global_path_and_anchor_frames():
    for settings in ({"extra_path": GlobalPath(0.5)}, {"first_latent": "as_is", "schedule": "random_shift"}):
        ours = run(WAN, windowed(zoo.patcher(WAN), **settings), positive=timeline())
        assert difference(ours, run(WAN, windowed(by_hand(), **settings), positive=joined())) < CLOSE


def test_an_anchor_frame_reads_its_own_event():
    seen = []

    def look(executor, *args, **kwargs):
        seen.append((kwargs.get(TEXTS), args[5]["longtake"]))
        return executor(*args, **kwargs)

    model = windowed(zoo.patcher(WAN), first_latent="anchor")
    model.add_wrapper("apply_model", look)
    run(WAN, model, positive=timeline(), steps=1)
    rows = {note["windows"][0][0]: (texts, note["anchor"][0]) for texts, note in seen if texts}
    texts, anchor = rows[3]  # frames 3-7, the anchor 2 in front; its event is none of theirs
    assert anchor == 2 and len(texts[0].frames) == 6


def test_the_negative_prompt_and_several_timelines():
    negative = timeline()
    model = windowed(zoo.patcher(WAN))
    ours = sample(model, [entry(WAN, 1)], negative)
    assert difference(ours, sample(windowed(by_hand()), [entry(WAN, 1)], joined())) < CLOSE
    both = sample(model, timeline() + [entry(WAN, 7)], negative)
    assert difference(both, sample(windowed(by_hand()), joined() + [entry(WAN, 7)], joined())) < CLOSE
