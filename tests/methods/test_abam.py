"""ABAM against a hand-written reference, on every video class the running core has."""

import gc
import logging
import re
import weakref

import comfy.ldm.modules.attention as core_attention
import comfy.model_management
import comfy.sample
import comfy.sampler_helpers
import pytest
import torch
import zoo
from longtake.nodes.abam import LongTakeABAM
from longtake.samplers.adapters import attention
from longtake.samplers.adapters.anchor_store import DeviceStore, MemoryStore
from longtake.samplers.adapters.attention import CACHES, HOOK, AnchorSettings, apply_anchor
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.adapters.hooks import PATH_HOOKS
from longtake.samplers.adapters.video_tokens import LAYOUTS, Layout
from longtake.samplers.glc.anchors import blend_
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.windows import WindowSettings
from test_zoo import DENOISE, FRAMES, NAMES, difference, overridden

pytestmark = pytest.mark.usefixtures("one_thread")

LENGTH, OVERLAP, A = 5, 2, 0.3
every_model = pytest.mark.parametrize("name", NAMES)


def run(name, patcher, *, steps=2, positive=None, seed=5, sampler="euler", callback=None):
    model, latent = zoo.zoo()[name], zoo.zoo()[name].latent(FRAMES)
    return comfy.sample.sample(
        patcher, comfy.sample.prepare_noise(latent, seed), steps, 2.0, sampler, "simple",
        positive or model.conditioning(1, FRAMES), model.conditioning(2, FRAMES), latent,
        denoise=DENOISE.get(name, 1.0), disable_pbar=True, seed=seed, callback=callback,
    )  # fmt: skip


def windowed(model, **kwargs):
    return apply_windows(model, WindowSettings(LENGTH, OVERLAP, **{"window_batch": 1, **kwargs}))


def anchored(model, a=A, first_layer=0, last_layer=-1, start=0.0, end=1.0, cache="gpu"):
    return apply_anchor(model, a, first_layer, last_layer, start, end, cache)


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


def test_auto_follows_free_memory(monkeypatch, caplog):
    name = "wan21_t2v"
    patcher = anchored(windowed(zoo.patcher(name)), cache="auto")
    with caplog.at_level(logging.INFO):
        expected = run(name, patcher)
    net = patcher.model.diffusion_model  # keys and values of each layer in float32, for two branches
    size = 2 * zoo.zoo()[name].video_tokens(LENGTH) * net.dim * len(net.blocks) * 4 * 2 / 2**20
    assert f"{size:.1f} MB per step and path, are kept on cpu" in caplog.text
    caplog.clear()
    monkeypatch.setattr(attention, "free_memory", lambda device: 0)
    with caplog.at_level(logging.INFO):
        assert difference(run(name, patcher), expected) < 1e-4
    assert "computed in every call" in caplog.text


@pytest.fixture
def paths(monkeypatch):
    """Weak references to every path that is begun."""
    begun, original = [], attention.AnchorPath.__init__

    def init(self, *args):
        original(self, *args)
        begun.append(weakref.ref(self))

    monkeypatch.setattr(attention.AnchorPath, "__init__", init)
    return begun


@pytest.fixture
def no_collector():
    """Python's cycle collector is off: what reference counts do not free stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def keeping(paths):
    return sum(1 for p in paths if p() is not None and p().kept is not None and p().kept.kept)


@pytest.mark.parametrize("cache", ["gpu", "cpu"])
def test_nothing_stays(paths, no_collector, cache):
    """Anchors live for one path of one step; the cached model stays as it was, also when a run fails."""
    name = "wan21_t2v"
    patcher = anchored(windowed(zoo.patcher(name), extra_path=GlobalPath(gamma0=0.5)), cache=cache)
    before = repr(patcher.model_options)
    weights = {k: v.clone() for k, v in patcher.model.state_dict().items()}
    most, left = [], []

    def watch(func, *args, **kwargs):
        most.append(keeping(paths))
        return func(*args, **kwargs)

    watched = patcher.clone()
    watched.model_options["transformer_options"]["optimized_attention_override"] = watch
    expected = run(name, watched, steps=3, callback=lambda *args: left.append(keeping(paths)))
    assert max(most) == 1 and left == [0, 0, 0]
    assert len(paths) == 6 and [p() for p in paths] == [None] * 6

    for kind in (comfy.model_management.InterruptProcessingException, RuntimeError):
        calls = []

        def fail(func, *args, kind=kind, calls=calls, **kwargs):
            calls.append(1)
            if len(calls) == 5:
                raise kind("out of luck")
            return func(*args, **kwargs)

        broken = patcher.clone()
        broken.model_options["transformer_options"]["optimized_attention_override"] = fail
        with pytest.raises(kind) as error:
            run(name, broken)
        assert keeping(paths) == 0  # even while the error holds on to the frames it passed
        del error
    assert repr(patcher.model_options) == before
    assert all(torch.equal(v, weights[k]) for k, v in patcher.model.state_dict().items())
    assert difference(run(name, patcher, steps=3), expected) == 0


@every_model
def test_the_size_that_is_budgeted_is_the_size_that_is_kept(name, monkeypatch):
    kept, put = [], DeviceStore.put

    def record(self, key, tensors):
        put(self, key, tensors)
        kept.append(sum(t.numel() * t.element_size() for t in self.kept[key]))

    monkeypatch.setattr(DeviceStore, "put", record)
    patcher = anchored(windowed(zoo.patcher(name)))
    run(name, patcher, steps=1)
    hook = patcher.model_options["transformer_options"][PATH_HOOKS][HOOK]
    shape = list(zoo.zoo()[name].latent(LENGTH).shape)
    assert hook.memory(patcher, [2 * shape[0], *shape[1:]]) == sum(kept)


@pytest.mark.parametrize("cache", ["gpu", "cpu", "recompute"])
@pytest.mark.parametrize("batch", [1, 2, 4])
def test_cost_line_is_what_runs(cache, batch, caplog):
    """Counted evaluations of windows, each CFG branch one; a call holds no more windows than it may."""
    name, counted = "wan21_t2v", []
    patcher = windowed(zoo.patcher(name), extra_path=GlobalPath(gamma0=0.5, until=0.5), window_batch=batch)
    patcher = anchored(patcher, cache=cache, end=0.6)

    def count(apply, args):
        counted.append((len(args["c"]["transformer_options"]["longtake"]["windows"]), args["input"].shape[0]))
        return apply(args["input"], args["timestep"], **args["c"])

    patcher.set_model_unet_function_wrapper(count)
    with caplog.at_level(logging.INFO):
        run(name, patcher, steps=4)
    (said,) = re.findall(r"= (\d+) window evaluations", caplog.text)
    assert int(said) == sum(rows for _, rows in counted)
    assert max(windows for windows, _ in counted) <= (max(batch, 2) if cache == "recompute" else batch)


def test_memory_of_anchors_is_budgeted(monkeypatch):
    """What core reserves for the run: one call's windows, and the anchor's keys and values beside them."""
    name, shapes = "wan21_t2v", []
    original = comfy.sampler_helpers.estimate_memory

    def record(model, noise_shape, conds):
        shapes.append(list(noise_shape))
        return original(model, noise_shape, conds)

    monkeypatch.setattr(comfy.sampler_helpers, "estimate_memory", record)
    for cache, batch in (("gpu", 1), ("recompute", 1), ("recompute", 4)):
        patcher = anchored(windowed(zoo.patcher(name), window_batch=batch), cache=cache)
        run(name, patcher, steps=1)
        required = patcher.model.memory_required
        windows = max(batch, 2 if cache == "recompute" else 1)
        hook = patcher.model_options["transformer_options"][PATH_HOOKS][HOOK]
        one = [1, *zoo.zoo()[name].latent(LENGTH).shape[1:]]
        kept = hook.memory(patcher, [2, *one[1:]])
        assert (kept > 0) == (cache == "gpu")
        reserved = required([2 * shapes[-1][0], *shapes[-1][1:]])
        pair = required([2, *one[1:]])
        assert windows * pair + kept <= reserved < (windows + 1) * pair + kept
        assert shapes[-1][2] == LENGTH


def test_system_memory_gives_back_what_it_got():
    store = MemoryStore()
    tensors = {key: [torch.randn(2, 3), torch.randn(2, 3)] for key in ((0, 0, 0), (1, 0, 0), (0, 0, 1))}
    for key, pair in tensors.items():
        store.put(key, pair)
    for key, pair in tensors.items():
        assert all(map(torch.equal, store.get(key, torch.device("cpu")), pair))
    assert store.get((5, 0, 0), torch.device("cpu")) is None
    store.clear()
    assert store.get((0, 0, 0), torch.device("cpu")) is None


def test_applied_twice_the_last_one_counts():
    name = "wan21_t2v"
    twice = anchored(anchored(windowed(zoo.patcher(name)), a=0.9), a=A)
    assert difference(run(name, twice), run(name, anchored(windowed(zoo.patcher(name))))) == 0


def test_node():
    model = windowed(zoo.patcher("wan21_t2v"))
    out = LongTakeABAM.execute(model, 0.1, 0, -1, 0.0, 0.5, "cpu").args[0]
    settings = out.model_options["transformer_options"][PATH_HOOKS][HOOK].settings
    sampling = model.get_model_object("model_sampling")
    assert settings == AnchorSettings(0.1, 0, -1, sampling.percent_to_sigma(0.0), sampling.percent_to_sigma(0.5), "cpu")
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
