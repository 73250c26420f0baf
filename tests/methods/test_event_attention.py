"""Timing `frame` against attention by hand: a loop over frames, each over its own event's text alone."""

import math

import comfy.hooks
import pytest
import torch
from longtake.nodes.prompts import hook_event
from longtake.samplers.adapters.engine import LongTakeContextHandler
from longtake.samplers.adapters.event_texts import TEXTS, EventTexts, EventTextsCond
from longtake.samplers.adapters.window import NEW_CORE
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.prompts.timeline import Span
from support import zoo
from support.compare import difference
from support.window_inputs import CASES
from support.windows import anchored, coupled, windowed
from support.zoo_runs import FRAMES, overridden, run

pytestmark = pytest.mark.usefixtures("one_thread")

TOTAL = 4 * (FRAMES - 1) + 1  # pixel frames: latent frames 0..8
STARTS = (0, 9, 21, 25)  # events of latent frames 0-2, 3-5, 6, 7-8
CLOSE = 1e-4  # latents come out near 8
MODELS = ["wan21_t2v", "wan21_i2v", "wan22_5b", "wan21_vace", "ltxv", "cosmos_predict2"]
REFUSED = ["hunyuan_video", "hunyuan_video15", "mochi"] + ["cogvideox", "kandinsky5"] * NEW_CORE
WAN = "wan21_t2v"


def model_of(name):
    return CASES[name] if name in CASES else (zoo.zoo() | zoo.audio_video())[name]


def entry(name, seed, tokens=None, **extra):
    (text, options), = model_of(name).conditioning(seed, FRAMES, **extra)
    return [text if tokens is None else zoo.randn(1, tokens, text.shape[-1], seed=seed), options]


def timeline(name=WAN, starts=STARTS, blend=0.0, timing="frame", border="linear", tokens=None):
    """Entry 0 global, an entry per event; tokens: of each event's text."""
    found = [entry(name, 1, longtake_span=None)]
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else TOTAL
        span = Span(i, start, end, blend, TOTAL, timing, border)
        found.append(entry(name, 10 + i, tokens and tokens[i], longtake_span=span, start_percent=1.0, end_percent=0.0))
    return found


def joined(name=WAN, count=4, tokens=None):
    """All events' texts as one plain prompt."""
    texts = [entry(name, 10 + i, tokens and tokens[i]) for i in range(count)]
    options = dict(texts[0][1])
    if "attention_mask" in options:
        options["attention_mask"] = torch.cat([o["attention_mask"] for _, o in texts], 1)
    return [[torch.cat([t for t, _ in texts], 1), options]]


def shares(frame, starts=STARTS, blend=0.0):
    """Each event's weight in a latent frame, a ramp of `blend` around each border."""
    centre = 4 * frame - 1.5 if frame else 0.0
    if blend == 0:
        own = max(i for i, start in enumerate(starts) if start <= centre)
        return [float(i == own) for i in range(len(starts))]
    rise = [1.0, *(min(max((centre - start) / blend + 0.5, 0.0), 1.0) for start in starts[1:]), 0.0]
    return [a - b for a, b in zip(rise, rise[1:], strict=False)]


def by_hand(name=WAN, starts=STARTS, blend=0.0, tokens=None, of=shares, behind=False):
    """An override for joined(): softmax frame by frame, the texts of its events weighted, the others left out. Tokens
    beside the video's stand before them or `behind`."""
    counts = tokens or [entry(name, 10)[0].shape[1]] * len(starts)
    per_frame = model_of(name).tokens_per_frame
    own = [slice(sum(counts[:i]), sum(counts[: i + 1])) for i in range(len(counts))]

    def attention(func, q, k, v, heads, mask=None, *args, **kwargs):
        options = kwargs["transformer_options"]
        windows = options.get("longtake", {}).get("windows", (range(FRAMES),))
        video = len(windows[0]) * per_frame
        if k.shape[-2] != sum(counts) or q.shape[-2] < video:
            return func(q, k, v, heads, mask, *args, **kwargs)
        flat = not kwargs.get("skip_reshape")
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) if flat else t for t in (q, k, v))
        beside, rows = q.shape[-2] - video, []
        before = 0 if behind else beside
        per_window = q.shape[0] // len(windows) // len(options["cond_or_uncond"])
        for row in range(q.shape[0]):
            frames = [of(f, starts, blend) for f in windows[row // per_window % len(windows)]]
            mean = [sum(column) / len(frames) for column in zip(*frames, strict=True)]
            parts = []
            places = [(slice(before + i * per_frame, before + (i + 1) * per_frame), w) for i, w in enumerate(frames)]
            if beside:
                places.insert(len(places) * behind, (slice(video, None) if behind else slice(0, beside), mean))
            for at, weights in places:
                logits = q[row, :, at] @ k[row].transpose(-1, -2) / math.sqrt(q.shape[-1])
                if mask is not None:
                    logits = logits + mask[row % len(mask), 0]
                e = (logits - logits.amax(-1, keepdim=True)).exp()
                scaled = torch.zeros_like(e)
                for w, text in zip(weights, own, strict=True):
                    scaled[..., text] = w * (logits[..., text] - logits.amax(-1, keepdim=True)).exp()
                parts.append(scaled / scaled.sum(-1, keepdim=True) @ v[row])
            rows.append(torch.cat(parts, 1))
        out = torch.stack(rows)
        return out if kwargs.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)

    return overridden(name, attention) if name not in CASES or name in zoo.zoo() else with_override(name, attention)


def with_override(name, attention):
    patcher = CASES[name].build()
    patcher.model_options["transformer_options"]["optimized_attention_override"] = attention
    return patcher


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


def run_case(name, patcher, positive):
    import comfy.sample

    latent = CASES[name].latent(FRAMES)
    return comfy.sample.sample(
        patcher, comfy.sample.prepare_noise(latent, 5), 1, 2.0, "euler", "simple", positive,
        CASES[name].conditioning(2, FRAMES), latent, disable_pbar=True, seed=5,
    )  # fmt: skip


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


def sample(patcher, positive, negative):
    import comfy.sample

    latent = zoo.zoo()[WAN].latent(FRAMES)
    return comfy.sample.sample(
        patcher, comfy.sample.prepare_noise(latent, 5), 2, 2.0, "euler", "simple", positive, negative, latent,
        disable_pbar=True, seed=5,
    )  # fmt: skip


@pytest.mark.parametrize("cache", ["gpu", "cpu", "recompute"])
@pytest.mark.parametrize("name", [WAN, "ltxv"])
def test_with_anchor_attention(name, cache):
    ours = run(name, anchored(windowed(zoo.patcher(name)), cache=cache), positive=timeline(name))
    hand = run(name, anchored(windowed(by_hand(name)), cache=cache), positive=joined(name))
    assert difference(ours, hand) < 1e-4
    assert difference(ours, run(name, windowed(zoo.patcher(name)), positive=timeline(name))) > 1e-3


@pytest.mark.parametrize("length", [5, 13], ids=["chunks", "one chunk"])
def test_with_syncos(length):
    ours = syncos(windowed(zoo.patcher(WAN), length), timeline())
    assert difference(ours, syncos(windowed(by_hand(), length), joined())) < 1e-4


def syncos(patcher, positive):
    import comfy.sample
    import comfy.samplers

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
        import comfy.sample

        model = zoo.audio_video()["ltxav"]
        latent = model.latent(FRAMES)
        return comfy.sample.sample(
            patcher, comfy.sample.prepare_noise(latent, 5), 2, 2.0, "euler", "simple", positive,
            model.conditioning(2, FRAMES), latent, disable_pbar=True, seed=5,
        )  # fmt: skip
