"""Reference frames in the latent (Wan VACE's reference image): before every window, never in the video's place."""

import functools
from types import SimpleNamespace

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_wan import WanVaceToVideo
from longtake.backbone.demo import loader
from longtake.samplers.adapters import attention
from longtake.samplers.adapters.references import behind
from longtake.samplers.adapters.timeline import window_entries
from longtake.samplers.adapters.window import VideoFrames, context_window, fuse_weights
from longtake.samplers.freelong import BandBlend
from longtake.samplers.fusion import normalised
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.prompts.timeline import Span
from longtake.samplers.windows import Window, WindowSettings, local_windows
from support import zoo
from support.compare import difference
from support.windows import LENGTH, OVERLAP, anchored, coupled, windowed

pytestmark = pytest.mark.usefixtures("one_thread")

SIDE = 32  # pixels
VIDEO = 9  # latent frames


@functools.cache
def patcher():
    return zoo.zoo()["wan21_vace"].build()


@functools.cache
def vae():
    return loader.load_vae()


@functools.cache
def made(frames=VIDEO, reference=True, kept=0, strengths=(0.8,)):
    """Core's own node: (positive, negative, latent, trim_latent). kept: pixel frames of the control video that stay."""
    case, pixels = zoo.zoo()["wan21_vace"], 4 * frames - 3
    video = zoo.randn(pixels, SIDE, SIDE, 3, seed=3).sigmoid()
    mask = torch.ones(pixels, SIDE, SIDE)
    mask[:kept] = 0.0
    image = zoo.randn(1, SIDE, SIDE, 3, seed=4).sigmoid() if reference else None
    conds = [[[text, dict(options)]] for text, options in map(case.text, (1, 2))]
    for strength in strengths:
        *conds, latent, trim = WanVaceToVideo.execute(
            *conds, vae(), SIDE, SIDE, pixels, 1, strength, video, mask, image
        ).result
    return *conds, latent["samples"], trim


def run(model, *, sampler="euler", steps=1, cfg=1.0, inputs=None, seen=None):
    """The sampled latent; `seen` collects what the net got and gave: (note, x, vace_context, out) per window."""
    positive, negative, latent, _ = inputs or made()
    sigmas = comfy.samplers.KSampler(model, steps, "cpu").sigmas

    def look(net, args, inputs, out):
        note = inputs["transformer_options"].get("longtake", {"windows": (tuple(range(latent.shape[2])),)})
        count = len(note["windows"])
        parts = args[0].chunk(count), inputs["vace_context"].chunk(count), out.chunk(count)
        seen.extend(zip(note["windows"], *(map(torch.clone, part) for part in parts), strict=False))

    net = patcher().model.diffusion_model
    handle = net.register_forward_hook(look, with_kwargs=True) if seen is not None else None
    try:
        return comfy.sample.sample_custom(
            model, comfy.sample.prepare_noise(latent, 5), cfg,
            comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler, sigmas,
            positive, negative, latent, disable_pbar=True, seed=5,
        )  # fmt: skip
    finally:
        if handle is not None:
            handle.remove()


def counted(inputs):
    """How many references windows put in front, read off the windows."""
    seen = []
    run(windowed(patcher()), inputs=inputs, seen=seen)
    last = seen[-1][0]
    return len(last) - LENGTH


@pytest.mark.parametrize(("inputs", "count"), [
    ({}, 1), ({"reference": False}, 0), ({"reference": False, "kept": 33}, 0), ({"kept": 5}, 1), ({"kept": 33}, 1),
    ({"strengths": (0.5, 1.0)}, 1),
], ids=str)  # fmt: skip
def test_references_are_told_from_frames_that_are_kept(inputs, count):
    given = made(**inputs)
    assert given[3] == count and counted(given) == count


def test_every_window_sees_the_reference_in_front():
    whole, seen = [], []
    run(patcher(), seen=whole)
    run(windowed(patcher()), seen=seen)
    assert [frames for frames, *_ in seen] == [(0, *range(s, s + LENGTH)) for s in (1, 4, 5)]
    _, x, context, _ = whole[0]
    for frames, part, own, _ in seen:
        assert torch.equal(part, x[:, :, list(frames)]) and torch.equal(own, context[:, :, :, list(frames)])


@pytest.mark.parametrize("fuse", ["pyramid", "overlap-linear", "flat"])
def test_predictions_are_fused_by_hand(fuse):
    """One step from pure noise: x - sigma v, sigma 1. The reference is the first window's."""
    seen, frames = [], made()[2].shape[2]
    got = run(windowed(patcher(), fuse=fuse), seen=seen)
    noise = comfy.sample.prepare_noise(made()[2], 5)
    windows = [Window([i - 1 for i in places[1:]], LENGTH) for places, *_ in seen]
    handler = SimpleNamespace(context_overlap=OVERLAP)
    raw = [fuse_weights(fuse, LENGTH, VIDEO, w.indices, OVERLAP, handler=handler) for w in windows]
    expected = torch.zeros(got.shape)
    for (places, *_, out), weights in zip(seen, normalised(windows, raw, VIDEO), strict=True):
        own = list(places[1:])
        expected[:, :, own] += (noise[:, :, own] - out[:, :, 1:]) * weights.float().view(-1, 1, 1)
    expected[:, :, 0] = noise[:, :, 0] - seen[0][3][:, :, 0]
    assert frames == VIDEO + 1
    assert difference(got, patcher().model.process_latent_out(expected)) < 1e-4


@pytest.mark.parametrize("sampler", ["euler", coupled()], ids=["euler", "syncos"])
def test_a_video_of_one_window_and_its_reference_is_sampled_plainly(sampler):
    inputs = made(LENGTH)
    plain = run(windowed(patcher(), length=LENGTH + 1), sampler=sampler, steps=3, cfg=3.0, inputs=inputs)
    ours = run(windowed(patcher()), sampler=sampler, steps=3, cfg=3.0, inputs=inputs)
    assert difference(plain, ours) == 0.0
    if sampler == "euler":
        assert difference(run(patcher(), steps=3, cfg=3.0, inputs=inputs), ours) == 0.0


@pytest.mark.parametrize("settings", [
    {}, {"schedule": "random_shift"}, {"first_latent": "anchor"}, {"extra_path": GlobalPath(0.01, 0.001)},
    {"extra_path": BandBlend(GlobalPath(1.0, 0.0))},
], ids=str)  # fmt: skip
@pytest.mark.parametrize("anchor", [False, True])
def test_windows_in_one_call_equal_windows_one_by_one(settings, anchor):
    def model(batch):
        made = windowed(patcher(), window_batch=batch, **settings)
        return anchored(made) if anchor else made

    seen = []
    one = run(model(1), steps=2, cfg=3.0, seen=seen)
    assert difference(one, run(model(3), steps=2, cfg=3.0)) < 1e-4
    assert all(frames[0] == 0 for frames, *_ in seen)


def test_anchors_stand_between_the_reference_and_the_window():
    seen = []
    run(windowed(patcher(), first_latent="anchor"), seen=seen)
    assert [frames for frames, *_ in seen] == [(0, 1, 2, 3, 4, 5), (0, 3, 4, 5, 6, 7, 8), (0, 4, 5, 6, 7, 8, 9)]


@pytest.mark.parametrize("first_latent", ["as_is", "anchor"])
def test_anchor_attention_leaves_what_stands_before_the_window_alone(first_latent, monkeypatch):
    """a = 1: a later window's keys are the first one's on all the video's tokens, and blended on no others."""
    keys, blended, tokens = [], set(), (SIDE // 16) ** 2

    def record(func, q, k, v, *args, **kwargs):
        if q.shape[1] == k.shape[1]:
            keys.append(k[:, -tokens * LENGTH :].clone())
        return func(q, k, v, *args, **kwargs)

    def blend(own, *args, blend=attention.blend_):
        blended.add(own.shape[-2])
        return blend(own, *args)

    monkeypatch.setattr(attention, "blend_", blend)
    model = windowed(patcher(), first_latent=first_latent)
    model.model_options["transformer_options"]["optimized_attention_override"] = record
    run(anchored(model, a=1.0))
    layers = len(keys) // 3  # a call each of three windows
    assert layers == zoo.zoo()["wan21_vace"].blocks and blended == {tokens * LENGTH}
    assert all(torch.equal(keys[i], keys[layers + i]) for i in range(layers))


def test_chunks_of_syncos_see_the_reference_too():
    seen = []
    assert run(windowed(patcher()), sampler=coupled(), steps=2, seen=seen).isfinite().all()
    starts = {frames for frames, *_ in seen}
    assert all(frames[0] == 0 for frames in starts) and len({len(frames) for frames in starts}) == 2


@pytest.mark.parametrize("timing", ["window", "frame"])
def test_events_are_counted_from_the_videos_first_frame(timing):
    """Video frames 5.. show the second event, that is latent frames 6.. behind one reference."""
    spans = [Span(0, 0, 17, 0, 33, timing), Span(1, 17, 33, 0, 33, timing)]
    cond = [{"longtake_span": None, "model_conds": {}, "name": "global"}]
    cond += [{"longtake_span": span, "model_conds": {}, "name": i} for i, span in enumerate(spans)]
    settings = WindowSettings(LENGTH, 1)
    placed = behind(local_windows(settings, VIDEO, 0), 1)
    first, second = (VideoFrames.of(context_window(w, settings, "local", VIDEO + 1, 1)) for w in placed)
    assert first.indices == [0, 1, 2, 3, 4] and second.indices == [4, 5, 6, 7, 8]
    assert [e["name"] for e in window_entries(cond, first, "local", 4)] == [0]
    if timing == "window":
        assert [e["name"] for e in window_entries(cond, second, "local", 4)] == [1]


def test_global_windows_are_padded_behind_the_video_alone():
    with pytest.raises(ValueError, match=r"global_padding \(both_ends\).*use end or repeat"):
        run(windowed(patcher(), extra_path=GlobalPath(0.3, rate=4, padding="both_ends")))
    seen = []
    run(windowed(patcher(), extra_path=GlobalPath(1.0, 0.0, rate=4, padding="repeat")), seen=seen)
    assert seen[0][0] == (0, 1, 5, 9, 9, 9) and seen[1][0] == (0, 2, 6, 9, 9, 9)
