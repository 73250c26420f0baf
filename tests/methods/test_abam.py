"""ABAM against a hand-written reference, on every video class the running core has."""

import comfy.ldm.modules.attention as core_attention
import pytest
import torch
from longtake.nodes.abam import LongTakeABAM
from longtake.samplers.adapters import attention
from longtake.samplers.adapters.attention import CACHES, HOOK, AnchorHook
from longtake.samplers.adapters.hooks import PATH_HOOKS
from longtake.samplers.adapters.video_tokens import LAYOUTS, Layout
from longtake.samplers.glc.anchors import blend_
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.layers import Reach
from support import zoo
from support.compare import difference
from support.windows import LENGTH, anchored, windowed
from support.zoo_runs import FRAMES, NAMES, overridden
from support.zoo_runs import run_comparable as run

pytestmark = pytest.mark.usefixtures("one_thread")

A = 0.3  # anchored's default
every_model = pytest.mark.parametrize("name", NAMES)


def reference(name, a):
    """ABAM by hand, for windows that run one by one, the first one first: an override that notes what the first window
    of a step attends to and mixes it into the others', where zoo.py says the video's tokens are."""
    model = zoo.zoo()[name]
    count, state = model.video_tokens(LENGTH), {}

    def attention(func, q, k, v, *args, **kwargs):
        total = k.shape[-2]
        if q.shape[-2] != total or total < count or (total == count) != (model.joint == "self"):
            return func(q, k, v, *args, **kwargs)
        options = kwargs["transformer_options"]
        (window,), branches = options["longtake"]["windows"], tuple(options["cond_or_uncond"])
        if state.get("call") is not options["uuids"]:
            state.update(call=options["uuids"], layer=0)
        key = (branches, state["layer"])
        state["layer"] += 1
        if window[0] == 0:
            state[key] = (k, v)
            return func(q, k, v, *args, **kwargs)
        video = slice(total - count, None) if model.joint == "text first" else slice(0, count)
        k, v = k.clone(), v.clone()
        for own, first in zip((k, v), state[key], strict=True):
            own[..., video, :] = (1 - a) * own[..., video, :] + a * first[..., video, :]
        return func(q, k, v, *args, **kwargs)

    return attention


@every_model
def test_equals_the_reference(name):
    by_hand = run(name, windowed(overridden(name, reference(name, A))))
    plain, ours = run(name, windowed(zoo.patcher(name))), run(name, anchored(windowed(zoo.patcher(name))))
    assert difference(ours, by_hand) < 1e-4
    assert difference(ours, plain) > 1e-3


@every_model
def test_anchor_zero_is_no_node(name):
    plain = windowed(zoo.patcher(name))
    assert difference(run(name, anchored(plain, a=0)), run(name, plain)) == 0


@every_model
@pytest.mark.parametrize("cache", CACHES)
def test_caches_and_batches_agree(name, cache):
    """Windows and CFG branches batched or apart, the anchor kept or run again."""
    expected = run(name, anchored(windowed(zoo.patcher(name))))
    for batch in (1, 2, 8):
        got = run(name, anchored(windowed(zoo.patcher(name), window_batch=batch), cache=cache))
        assert difference(got, expected) < 1e-4


@every_model
def test_branches_apart(name, monkeypatch):
    expected = run(name, anchored(windowed(zoo.patcher(name))))
    patcher = zoo.patcher(name)
    seen = set()

    def note(func, *args, **kwargs):
        seen.add(len(kwargs["transformer_options"]["cond_or_uncond"]))
        return func(*args, **kwargs)

    monkeypatch.setattr(patcher.model, "memory_required", lambda *args, **kwargs: float("inf"))
    for cache in ("gpu", "recompute"):
        got = run(name, anchored(windowed(overridden(name, note), window_batch=8), cache=cache))
        assert difference(got, expected) < 1e-4
    assert seen == {1}


def attended(name, patcher):
    """K and V of every attention call of one step, below whatever is installed in `patcher`'s place."""
    calls = []

    def record(func, q, k, v, *args, **kwargs):
        calls.append((q, k, v, kwargs["transformer_options"]["longtake"]["windows"]))
        return func(q, k, v, *args, **kwargs)

    patcher.model_options["transformer_options"]["optimized_attention_override"] = record
    run(name, patcher, steps=1)
    return calls


@pytest.mark.parametrize("name", [n for n in NAMES if zoo.zoo()[n].joint != "self"])
def test_text_tokens_and_queries_stay(name):
    model = zoo.zoo()[name]
    with_abam = attended(name, anchored(windowed(zoo.patcher(name))))
    without = attended(name, windowed(zoo.patcher(name)))
    count = model.video_tokens(LENGTH)
    blended, windows = 0, set()
    for (q, k, v, window), (q0, k0, v0, _) in zip(with_abam, without, strict=True):
        if k.shape[-2] <= count or window in windows:
            continue
        windows.add(window)  # the first layer of each window: later ones differ through the hidden state
        text = slice(0, k.shape[-2] - count) if model.joint == "text first" else slice(count, None)
        assert torch.equal(q, q0) and torch.equal(k[..., text, :], k0[..., text, :])
        assert torch.equal(v[..., text, :], v0[..., text, :])
        blended += not torch.equal(k, k0)
    assert len(windows) == 3 and blended == 2


@pytest.mark.parametrize("kind", ["pytorch", "sub_quad", "split", "basic"])
@pytest.mark.parametrize("name", ["wan21_t2v", "hunyuan_video", "ltxv"])
def test_with_cores_attentions(name, kind):
    function = getattr(core_attention, f"attention_{kind}")

    def override(func, *args, **kwargs):
        return function(*args, **kwargs)

    got = run(name, anchored(windowed(overridden(name, override))))
    assert difference(got, run(name, anchored(windowed(zoo.patcher(name))))) < 1e-3


@pytest.mark.parametrize("order", ["before", "after"])
def test_another_override_is_kept(order):
    """Whether another pack sets its override before ABAM or overwrites the slot after it: both act."""
    name, calls = "wan21_t2v", []

    def half(func, q, k, v, *args, **kwargs):
        calls.append(1)
        return func(q * 0.5, k, v, *args, **kwargs)

    if order == "before":
        patcher = anchored(windowed(overridden(name, half)))
    else:
        patcher = anchored(windowed(zoo.patcher(name)))
        patcher.model_options["transformer_options"]["optimized_attention_override"] = half
    got = run(name, patcher)
    assert calls
    by_hand = reference(name, A)

    def both(func, q, k, v, *args, **kwargs):
        return by_hand(lambda q, k, v, *a, **kw: func(q * 0.5, k, v, *a, **kw), q, k, v, *args, **kwargs)

    assert difference(got, run(name, windowed(overridden(name, both)))) < 1e-4


def test_range_of_layers():
    name = "wan21_t2v"
    plain = run(name, windowed(zoo.patcher(name)))
    every = run(name, anchored(windowed(zoo.patcher(name))))
    first = run(name, anchored(windowed(zoo.patcher(name)), last_layer=0))
    second = run(name, anchored(windowed(zoo.patcher(name)), first_layer=1))
    assert difference(run(name, anchored(windowed(zoo.patcher(name)), first_layer=2)), plain) == 0
    results = [plain, every, first, second]
    assert all(difference(a, b) > 1e-4 for i, a in enumerate(results) for b in results[:i])


def test_range_of_steps():
    name, steps = "wan21_t2v", set()
    plain = run(name, windowed(zoo.patcher(name)), steps=4)
    whole = run(name, anchored(windowed(zoo.patcher(name))), steps=4)
    half = anchored(windowed(zoo.patcher(name)), end=0.5)
    original = attention.AnchorPath.begin_call

    def begin(self, call):
        steps.add(call.options["longtake"]["step"])
        return original(self, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention.AnchorPath, "begin_call", begin)
        early = run(name, half, steps=4)
    assert steps == {0, 1, 2}  # sigma 1, 0.75 and 0.5 of the tiny Wan's schedule
    assert difference(early, plain) > 1e-3 and difference(early, whole) > 1e-4
    assert difference(run(name, anchored(windowed(zoo.patcher(name)), start=0.99), steps=4), plain) == 0


@pytest.mark.parametrize("cache", ["gpu", "recompute"])
def test_two_prompts_in_one_branch(cache):
    """Each cond entry is anchored to the same entry of the first window."""
    name = "wan21_t2v"
    model = zoo.zoo()[name]
    both = model.conditioning(1, FRAMES) + model.conditioning(3, FRAMES)
    got = run(name, anchored(windowed(zoo.patcher(name), window_batch=8), cache=cache), positive=both)
    swapped = run(name, anchored(windowed(zoo.patcher(name)), cache="gpu"), positive=both[::-1])
    assert difference(got, swapped) < 1e-4


@pytest.mark.parametrize("cache", ["gpu", "cpu"])
def test_a_prompt_with_an_area_in_time_is_anchored_where_it_fills_windows(cache):
    """The one over frames 0-5 of 9 fills the first window and a part of the next ones; the one over 2-8 the last."""
    name = "wan21_t2v"
    model = zoo.zoo()[name]

    def sampled(model_patcher, start, frames):
        area = model.conditioning(3, FRAMES, area=(frames, 8, 8, start, 0, 0), strength=1.0)
        return run(name, model_patcher, positive=model.conditioning(1, FRAMES) + area)

    for start, frames in ((0, 6), (2, 7)):
        got = sampled(anchored(windowed(zoo.patcher(name)), cache=cache), start, frames)
        assert difference(got, sampled(anchored(windowed(zoo.patcher(name), window_batch=8)), start, frames)) < 1e-4
        assert difference(got, sampled(windowed(zoo.patcher(name)), start, frames)) > 1e-3


def test_paths_have_their_own_anchors():
    name, calls = "wan21_t2v", []
    patcher = anchored(windowed(zoo.patcher(name), extra_path=GlobalPath(gamma0=0.5), window_batch=8))
    original = attention.AnchorPath.begin_call

    def begin(self, call):
        calls.append((self, call.options["longtake"]["path"]))
        return original(self, call)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(attention.AnchorPath, "begin_call", begin)
        run(name, patcher, steps=1)
    assert [path for _, path in calls] == ["local", "global"] and len({p for p, _ in calls}) == 2


@every_model
def test_with_an_anchor_frame_in_front(name):
    """first_latent = anchor makes later windows one frame longer; their own frames are blended with the first's."""
    patcher = anchored(windowed(zoo.patcher(name), first_latent="anchor"))
    if zoo.zoo()[name].patch[0] > 1:
        with pytest.raises(ValueError, match=r"LongTakeABAM.*first_latent.*as_is"):
            run(name, patcher)
        return
    plain = run(name, windowed(zoo.patcher(name), first_latent="anchor"))
    assert difference(run(name, patcher), plain) > 1e-3
    with pytest.raises(ValueError, match=r"LongTakeABAM.*recompute.*gpu or cpu"):
        run(name, anchored(windowed(zoo.patcher(name), first_latent="anchor"), cache="recompute"))


def test_blend_only_touches_its_tokens():
    kv, anchor = torch.randn(2, 7, 4), torch.randn(2, 5, 4)
    out = kv.clone()
    blend_(out.narrow(-2, 1, 5), anchor, 0.25)
    assert torch.equal(out[..., 0, :], kv[..., 0, :]) and torch.equal(out[..., 6, :], kv[..., 6, :])
    torch.testing.assert_close(out[..., 1:6, :], 0.75 * kv[..., 1:6, :] + 0.25 * anchor)
    assert torch.equal(blend_(kv.clone(), kv, 0.4), kv)


def test_applied_twice_the_last_one_counts():
    name = "wan21_t2v"
    twice = anchored(anchored(windowed(zoo.patcher(name)), a=0.9), a=A)
    assert difference(run(name, twice), run(name, anchored(windowed(zoo.patcher(name))))) == 0


def test_node():
    model = windowed(zoo.patcher("wan21_t2v"))
    out = LongTakeABAM.execute(model, 0.1, 0, -1, 0.0, 0.5, "cpu").args[0]
    sampling = model.get_model_object("model_sampling")
    reach = Reach(0, -1, sampling.percent_to_sigma(0.0), sampling.percent_to_sigma(0.5))
    layers = range(len(model.get_model_object("diffusion_model").blocks))
    assert out.model_options["transformer_options"][PATH_HOOKS][HOOK] == AnchorHook(layers, reach, "cpu", 0.1)
    assert PATH_HOOKS not in model.model_options["transformer_options"]


def test_unknown_model(monkeypatch):
    monkeypatch.delitem(LAYOUTS, "WanModel")
    with pytest.raises(ValueError, match=r"LongTakeABAM.*WanModel.*Wan 2.1 and 2.2.*Kandinsky"):
        anchored(zoo.patcher("wan21_t2v"))


def test_needs_longtake_windows():
    with pytest.raises(ValueError, match=r"LongTakeABAM.*Window Scheduler"):
        run("wan21_t2v", anchored(zoo.patcher("wan21_t2v")))


def test_never_does_nothing_silently(monkeypatch):
    """A model whose attention is not where the table says: an error, not a video without ABAM."""
    monkeypatch.setitem(LAYOUTS, "WanModel", Layout(lambda m: (1, 1, 1), lambda m: len(m.blocks), lambda m: m.dim))
    with pytest.raises(RuntimeError, match=r"LongTakeABAM.*no self-attention over"):
        run("wan21_t2v", anchored(windowed(zoo.patcher("wan21_t2v"))))


def test_text_as_long_as_the_video_is_refused():
    name, model = "wan21_t2v", zoo.zoo()["wan21_t2v"]
    text = [[torch.zeros(1, model.video_tokens(LENGTH), 4096), {}]]
    with pytest.raises(ValueError, match=r"LongTakeABAM.*window_length"):
        run(name, anchored(windowed(zoo.patcher(name))), positive=text)
