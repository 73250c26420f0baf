"""Attention written out, and the two methods that share keys and values, by hand."""

import logging
import weakref

import comfy.model_management
import pytest
import torch
from longtake.samplers.adapters.anchor_store import DeviceStore, MemoryStore
from longtake.samplers.adapters.shared_attention import apply_ditctrl, apply_video_infinity

from . import zoo
from .compare import difference
from .windows import breaking, windowed
from .zoo_runs import run_comparable


def ditctrl(model, first_layer=-1, last_layer=-1, start=0.0, end=1.0, cache="gpu"):
    """A windowed model whose windows share, in the last layer unless said otherwise."""
    return apply_ditctrl(model, first_layer, last_layer, start, end, cache)


def infinity(
    model, frames=3, bias=2.0, threshold=700, scaled=False, first_layer=0, last_layer=-1, start=0.0, end=1.0,
    cache="gpu",
):  # fmt: skip
    """A windowed model whose windows attend to three frames spread over the video, too, in all layers."""
    return apply_video_infinity(
        model, frames, bias, threshold, scaled, first_layer, last_layer, start, end, cache
    )  # fmt: skip


def written_out(q, k, v, heads, mask=None, *args, bias=None, scale=1.0, skip_reshape=False, skip_output_reshape=False,
                **kwargs):  # fmt: skip
    """softmax(scale q k / sqrt(d) + mask + bias) v in float64, by the formula; bias: of each key."""
    split = [t if skip_reshape else t.unflatten(-1, (heads, -1)).transpose(1, 2) for t in (q, k, v)]
    a, b, c = (t.double() for t in split)
    logits = scale * (a @ b.transpose(-1, -2)) / a.shape[-1] ** 0.5
    if mask is not None:
        mask = mask[:, None] if mask.ndim == 3 else mask
        logits = logits.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else logits + mask.double()
    if bias is not None:
        logits = logits + bias.double()
    out = (logits.softmax(-1) @ c).to(q.dtype)
    return out if skip_output_reshape else out.transpose(1, 2).flatten(2)


def of_video(name, frames, q, k) -> bool:
    """Whether an attention call is the video's own, where zoo.py says that its tokens are."""
    model = zoo.zoo()[name]
    count, total = model.video_tokens(frames), k.shape[-2]
    return q.shape[-2] == total and total >= count and (total == count) == (model.joint == "self")


def video_part(name, frames, total) -> slice:
    """The video's tokens among `total`."""
    count = zoo.zoo()[name].video_tokens(frames)
    return slice(total - count, None) if zoo.zoo()[name].joint == "text first" else slice(0, count)


def watched(monkeypatch) -> list[int]:
    """Bytes that all stores together hold, noted at each put."""
    kept, stores, put = [], [], DeviceStore.put

    def record(self, key, tensors):
        put(self, key, tensors)
        stores.append(self) if self not in stores else None
        kept.append(sum(t.numel() * t.element_size() for store in stores for p in store.kept.values() for t in p))

    monkeypatch.setattr(DeviceStore, "put", record)
    return kept


def assert_nothing_stays(path: type, method) -> None:
    """Keys and values live for one path of one step; the model stays as it was, also when a run fails or is stopped."""
    name, paths, original = "wan21_t2v", [], path.__init__
    patcher = method(windowed(zoo.patcher(name)))
    before, weights = repr(patcher.model_options), {k: v.clone() for k, v in patcher.model.state_dict().items()}

    def init(self, *args):
        original(self, *args)
        paths.append(weakref.ref(self))

    def holding():
        stores = [s for p in paths if p() for s in vars(p()).values() if isinstance(s, (DeviceStore, MemoryStore))]
        return sum(bool(store.kept) for store in stores)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(path, "__init__", init)
        most, left, watching = [], [], patcher.clone()

        def watch(func, *args, **kwargs):
            most.append(holding())
            return func(*args, **kwargs)

        watching.model_options["transformer_options"]["optimized_attention_override"] = watch
        expected = run_comparable(name, watching, callback=lambda *args: left.append(holding()))
        assert max(most) >= 1 and left == [0, 0] and len(paths) == 2
        for kind in (comfy.model_management.InterruptProcessingException, RuntimeError):
            with pytest.raises(kind):
                run_comparable(name, breaking(patcher, kind, 7))
            assert holding() == 0
    assert repr(patcher.model_options) == before
    assert all(torch.equal(v, weights[k]) for k, v in patcher.model.state_dict().items())
    assert difference(run_comparable(name, patcher), expected) == 0


def assert_cost_line_is_what_runs(method, batch: int, more: dict, caplog) -> list[int]:
    """Evaluations per step of 4, which the log promised; several windows to a call agree with one.

    method(windowed model): shares in the first half of the schedule; more: of the windows.
    """
    name, counted = "wan21_t2v", []
    patcher = method(windowed(zoo.patcher(name), window_batch=batch, **more), end=0.5)

    def count(apply, args):
        counted.append((args["c"]["transformer_options"]["longtake"]["step"], args["input"].shape[0]))
        return apply(args["input"], args["timestep"], **args["c"])

    patcher.set_model_unet_function_wrapper(count)
    with caplog.at_level(logging.INFO):
        got = run_comparable(name, patcher, steps=4)
    per_step = [sum(rows for at, rows in counted if at == step) for step in range(4)]
    assert f"= {sum(per_step)} window evaluations" in caplog.text
    one = method(windowed(zoo.patcher(name), window_batch=1, **more), end=0.5)
    assert difference(run_comparable(name, one, steps=4), got) < 1e-4
    return per_step
