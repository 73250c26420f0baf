"""Timing `frame` beside what else acts on attention and conditioning (ABAM, SynCoS, overrides, hooks, audio), and
where it is refused."""

import comfy.hooks
import comfy.sample
import comfy.samplers
import pytest
import torch
from longtake.nodes.prompts import hook_event
from longtake.samplers.adapters.engine import LongTakeContextHandler
from longtake.samplers.adapters.event_texts import EventTexts, EventTextsCond
from longtake.samplers.adapters.window import NEW_CORE
from support import zoo
from support.compare import difference
from support.event_texts import CLOSE, WAN, by_hand, entry, joined, model_of, shares, timeline
from support.shared import ditctrl, infinity
from support.windows import anchored, coupled, windowed
from support.zoo_runs import FRAMES, overridden, run

pytestmark = pytest.mark.usefixtures("one_thread")

REFUSED = ["hunyuan_video", "hunyuan_video15", "mochi"] + ["cogvideox", "kandinsky5"] * NEW_CORE


@pytest.mark.parametrize("cache", ["gpu", "cpu", "recompute"])
@pytest.mark.parametrize("name", [WAN, "ltxv"])
def test_with_anchor_attention(name, cache):
    ours = run(name, anchored(windowed(zoo.patcher(name)), cache=cache), positive=timeline(name))
    hand = run(name, anchored(windowed(by_hand(name)), cache=cache), positive=joined(name))
    assert difference(ours, hand) < 1e-4
    assert difference(ours, run(name, windowed(zoo.patcher(name)), positive=timeline(name))) > 1e-3


@pytest.mark.parametrize("method", [ditctrl, infinity])
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("name", [WAN, "ltxv"])
def test_with_shared_attention(name, batch, method):
    """Of texts of several lengths, too: the windows of a call keep their order."""
    ours = run(name, method(windowed(zoo.patcher(name), window_batch=batch)), positive=timeline(name))
    hand = run(name, method(windowed(by_hand(name))), positive=joined(name))
    assert difference(ours, hand) < 5e-4
    assert difference(ours, run(name, windowed(zoo.patcher(name)), positive=timeline(name))) > 1e-3


@pytest.mark.parametrize("length", [5, 13], ids=["chunks", "one chunk"])
def test_with_syncos(length):
    ours = syncos(windowed(zoo.patcher(WAN), length), timeline())
    assert difference(ours, syncos(windowed(by_hand(), length), joined())) < 1e-4


def syncos(patcher, positive):
    latent = zoo.zoo()[WAN].latent(FRAMES)
    sigmas = comfy.samplers.KSampler(patcher, 2, "cpu").sigmas
    return comfy.sample.sample_custom(
        patcher, comfy.sample.prepare_noise(latent, 5), 2.0, coupled(), sigmas, positive, [entry(WAN, 2)], latent,
        disable_pbar=True, seed=5,
    )  # fmt: skip


def test_an_attention_that_drops_masks_is_not_asked_for_soft_frames(caplog):
    seen = []

    def dropping(func, q, k, v, heads, mask=None, *args, **kwargs):
        seen.append((q.shape[-2], k.shape[-2]))
        return func(q, k, v, heads, None, *args, **kwargs)

    starts, blend = (0, 9, 21), 8.0
    with caplog.at_level("INFO"):
        ours = run(WAN, windowed(overridden(WAN, dropping)), positive=timeline(WAN, starts, blend))
    assert difference(ours, run(WAN, windowed(by_hand(WAN, starts, blend)), positive=joined(WAN, 3))) < CLOSE
    assert sum("soft border" in record.message for record in caplog.records) == 1
    assert {(80, 80), (16, 12)} <= set(seen)  # self-attention, and the frames that read one text
    caplog.clear()
    with caplog.at_level("INFO"):
        run(WAN, windowed(overridden(WAN, dropping)), positive=timeline())
    assert not any("soft border" in record.message for record in caplog.records)


def test_events_with_hooks_of_their_own_keep_timing_window(caplog):
    def hooks():
        group = comfy.hooks.HookGroup()
        group.add(comfy.hooks.TransformerOptionsHook(transformers_dict={"unused": 1}))
        return group

    def told(timing):
        return run(WAN, windowed(zoo.patcher(WAN)), positive=hook_event(timeline(timing=timing), hooks(), 1))

    with caplog.at_level("WARNING"):
        frame = told("frame")
    assert difference(frame, told("window")) > 1e-3  # two of the three windows have no frame of event 1
    assert any("hooks" in record.message and "event" in record.message for record in caplog.records)
    starts = (0, 17)

    def two(timing):
        spans = timeline(starts=starts, timing=timing)
        return run(WAN, windowed(zoo.patcher(WAN)), positive=hook_event(spans, hooks(), 2))

    assert difference(two("frame"), two("window")) == 0.0


@pytest.mark.parametrize("name", REFUSED)
def test_models_that_mix_text_and_video_are_refused_by_name(name):
    net = zoo.zoo()[name].net
    with pytest.raises(ValueError, match=rf"Prompt Timeline.*timing \(frame\): {net} .*set timing to window"):
        run(name, windowed(zoo.patcher(name)), positive=timeline(name))
    assert run(name, windowed(zoo.patcher(name)), positive=timeline(name, (0,)), denoise=0.6).isfinite().all()


def test_a_patch_that_takes_the_text_attention_away_is_refused():
    def elsewhere(executor, x, t, c_concat=None, c_crossattn=None, *args, **kwargs):
        return executor(x, t, c_concat, c_crossattn[:, :12], *args, **kwargs)

    model = windowed(zoo.patcher(WAN))
    # A wrapper that comes after this one's: as a patch of the model's own blocks would.
    model.add_wrapper("diffusion_model", lambda executor, x, t, context, *args, **kwargs: executor(
        x, t, context[:, :12], *args, **kwargs
    ))  # fmt: skip
    with pytest.raises(RuntimeError, match="no attention of .* video tokens over .* text tokens"):
        run(WAN, model, positive=timeline())


def test_nothing_stays_after_a_run_or_a_cancelled_one():
    model = windowed(zoo.patcher(WAN))
    options = model.model_options["transformer_options"]
    before = {k: dict(v) if isinstance(v, dict) else v for k, v in options.items()}
    texts = timeline()
    keys = [set(options) for _, options in texts]
    run(WAN, model, positive=texts)
    with pytest.raises(KeyboardInterrupt):
        run(WAN, model, positive=texts, callback=cancel)
    assert {k: dict(v) if isinstance(v, dict) else v for k, v in options.items()} == before
    assert [set(options) for _, options in texts] == keys
    assert isinstance(model.model_options["context_handler"], LongTakeContextHandler)
    assert not any(name.startswith("longtake") for name in vars(model.model.diffusion_model))


def cancel(*args):
    raise KeyboardInterrupt


def test_rows_follow_the_batch_and_an_area_in_time():
    texts = EventTexts((3, 4), (((0, 1.0),), ((0, 0.5), (1, 0.5)), ((1, 1.0),)))
    cond = EventTextsCond((texts,))
    assert cond.process_cond(batch_size=3, area=None).cond == (texts,) * 3
    assert cond.process_cond(batch_size=1, area=[2, 8, 8, 1, 0, 0]).cond[0].frames == texts.frames[1:]
    assert cond.process_cond(batch_size=1, area=[8, 8, 0, 0]).cond == (texts,)
    longer = EventTextsCond((EventTexts((3, 5), texts.frames),))
    assert cond.can_concat(EventTextsCond((EventTexts((4, 3), texts.frames),))) and not cond.can_concat(longer)
    assert texts.part(0, 0) == slice(0, 3) and texts.part(1, 1) == slice(3, 7) and texts.part(0, 1) == slice(0, 7)
    assert texts.mean() == ((0, 0.5), (1, 0.5))


@pytest.mark.parametrize("batch", [2, 3])
def test_a_window_of_one_event_beside_others_of_several(batch):
    starts = (0, 21)  # the first window has one event, the second two, the third two
    ours = run(WAN, anchored(windowed(zoo.patcher(WAN), window_batch=batch), cache="recompute"),
               positive=timeline(WAN, starts))  # fmt: skip
    hand = run(WAN, anchored(windowed(by_hand(WAN, starts), window_batch=batch), cache="recompute"),
               positive=joined(WAN, 2))  # fmt: skip
    assert difference(ours, hand) < CLOSE


if NEW_CORE:

    @pytest.mark.parametrize("length", [5, 13], ids=["windows", "one window"])
    @pytest.mark.parametrize("anchor", ["as_is", "anchor"])
    def test_audio_and_video_read_the_same_event(length, anchor):
        name, starts, tokens = "ltxav", (0, 9, 21), [7, 12, 9]  # together neither a window's audio nor its video
        made, side = {"length": length, "first_latent": anchor}, model_of(name).side ** 2
        ours = audio_video(windowed(zoo.patcher(name), **made), timeline(name, starts, tokens=tokens))

        def attention(func, q, k, v, *args, **kwargs):
            if k.shape[-2] != sum(tokens):
                return func(q, k, v, *args, **kwargs)
            window = kwargs["transformer_options"].get("context_window")
            frames = list(range(FRAMES)) if window is None else list(window.index_list)
            if window is not None and getattr(window, "causal_anchor_index", -1) >= 0:
                frames.insert(0, window.causal_anchor_index)
            total, out = q.shape[-2], torch.zeros_like(q)
            for j in range(total):
                frame = frames[j // side if total == len(frames) * side else j * len(frames) // total]
                event = shares(frame, starts).index(1.0)
                own = slice(sum(tokens[:event]), sum(tokens[: event + 1]))
                out[:, j : j + 1] = func(q[:, j : j + 1], k[:, own], v[:, own], *args, **kwargs)
            return out

        patcher, joint = overridden(name, attention), joined(name, 3, tokens)
        hand = audio_video(windowed(patcher, **made) if length < FRAMES else patcher, joint)
        for a, b in zip(ours.unbind(), hand.unbind(), strict=True):
            assert difference(a, b) < CLOSE

    def audio_video(patcher, positive):
        model = zoo.audio_video()["ltxav"]
        latent = model.latent(FRAMES)
        return comfy.sample.sample(
            patcher, comfy.sample.prepare_noise(latent, 5), 2, 2.0, "euler", "simple", positive,
            model.conditioning(2, FRAMES), latent, disable_pbar=True, seed=5,
        )  # fmt: skip
