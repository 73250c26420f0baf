"""What ABAM keeps, for how long, and what it says that it will cost."""

import gc
import logging
import re
import weakref

import comfy.model_management
import comfy.sampler_helpers
import pytest
import torch
from longtake.samplers.adapters import attention, video_attention
from longtake.samplers.adapters.anchor_store import DeviceStore, MemoryStore
from longtake.samplers.adapters.attention import HOOK
from longtake.samplers.adapters.hooks import PATH_HOOKS
from longtake.samplers.glc.paths import GlobalPath
from support import zoo
from support.compare import difference
from support.windows import LENGTH, anchored, breaking, windowed
from support.zoo_runs import NAMES
from support.zoo_runs import run_comparable as run

pytestmark = pytest.mark.usefixtures("one_thread")

every_model = pytest.mark.parametrize("name", NAMES)


def test_auto_follows_free_memory(monkeypatch, caplog):
    name = "wan21_t2v"
    patcher = anchored(windowed(zoo.patcher(name)), cache="auto")
    with caplog.at_level(logging.INFO):
        expected = run(name, patcher)
    net = patcher.model.diffusion_model  # keys and values of each layer in float32, for two branches
    size = 2 * zoo.zoo()[name].video_tokens(LENGTH) * net.dim * len(net.blocks) * 4 * 2 / 2**20
    assert f"{size:.1f} MB per step and path, are kept on cpu" in caplog.text
    caplog.clear()
    monkeypatch.setattr(video_attention, "free_memory", lambda device: 0)
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
        with pytest.raises(kind) as error:
            run(name, breaking(patcher, kind, 5))
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
        windows = min(max(batch, 2 if cache == "recompute" else 1), 3)  # the video has three
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


def test_each_prompt_is_fetched_in_its_own_order():
    """What is on its way to the device is the prompt's next layer, whether its call holds other prompts or not."""
    store, prompts = MemoryStore(), ((0, 0), (1, 0))
    for layer in range(3):  # both in one call
        for prompt in prompts:
            store.put((*prompt, layer), [torch.zeros(1)])
    assert store.next == {(*prompt, layer): (*prompt, layer + 1) for prompt in prompts for layer in range(2)}
