"""What core makes of a start image or a control video, made once for all prompts of a run (a PREPARE_SAMPLING wrapper).

Core makes the model's inputs of each conditioning entry by itself, and so the same whole-video tensors (c_concat,
vace_context, ...) for every event of a timeline and for both CFG branches. Here entries that were given the same
objects share the first one's tensors; those of the next entry live only until core has stored them.

Core writes an entry's inputs one by one into a copy of its `model_conds`, entry after entry: a mapping that looks at
what comes in is all that it takes. It belongs to one run; nothing is left of it in the MODEL or in the prompts.
"""

import torch
from comfy.patcher_extension import WrappersMP

from .timeline import SPAN_KEY, TIME_KEYS

KEY = "longtake_shared_conds"
VIDEO_AXES = 5  # a tensor with as many is made of video: text has fewer
# What entries may differ in and still get the same video inputs: text, its place in a timeline, the range of steps and
# the scheduled weights of a prompt. Anything else that differs keeps an entry's tensors its own.
PROMPT_KEYS = {
    "cross_attn", "pooled_output", "attention_mask", "conditioning_byt5small", "conditioning_llama3", "text_input_ids",
    "t5xxl_ids", "t5xxl_weights", SPAN_KEY, *TIME_KEYS, "clip_start_percent", "clip_end_percent", "hooks", "uuid",
    "model_conds",
}  # fmt: skip


def share_video(model) -> None:
    """Make a ModelPatcher (a clone of one's own) share them in every run."""
    model.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, KEY)
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, _prepare)


def _prepare(executor, model, noise_shape, conds, *args, **kwargs):
    real_model, conds, models = executor(model, noise_shape, conds, *args, **kwargs)
    return real_model, shareable(conds), models


def shareable(conds: dict[str, list[dict]]) -> dict[str, list[dict]]:
    """A run's conditioning by CFG branch, with `model_conds` that share; entries and lists are new, the rest is not."""
    run = _Run()
    return {branch: [{**e, "model_conds": _Unmade(run, e)} for e in entries] for branch, entries in conds.items()}


class _Run:
    """made: (an entry, the video inputs made for it, by key) for each different set of given objects; count: entries
    that core has begun to fill."""

    def __init__(self):
        self.made: list[tuple[dict, dict]] = []
        self.count = 0

    def of(self, entry: dict) -> dict:
        for other, inputs in self.made:
            if same_inputs(entry, other):
                return inputs
        self.made.append((entry, {}))
        return self.made[-1][1]


class _Unmade(dict):
    """An entry's model_conds before core makes them; core fills a copy."""

    def __init__(self, run: _Run, entry: dict):
        super().__init__(entry["model_conds"])
        self.run, self.entry = run, entry

    def copy(self) -> "_Made":
        return _Made(self, self.run, self.run.of(self.entry))


class _Made(dict):
    """model_conds that core fills. What is set later, when core is at another entry, is set as in any dict."""

    def __init__(self, values: dict, run: _Run, inputs: dict):
        super().__init__(values)
        run.count += 1
        self.run, self.number, self.inputs = run, run.count, inputs

    def __setitem__(self, key, value):
        if self.number == self.run.count and key not in self and _is_video(value):
            first = self.inputs.setdefault(key, value)
            if type(first) is type(value) and _kinds(first) == _kinds(value):
                value.cond = first.cond  # not `first` itself: core holds on to `value` while it makes the next entry's
        super().__setitem__(key, value)


def _tensors(value) -> list:
    cond = getattr(value, "cond", None)
    return list(cond) if isinstance(cond, (list, tuple)) else [cond]


def _is_video(value) -> bool:
    tensors = _tensors(value)
    return bool(tensors) and all(isinstance(t, torch.Tensor) and t.ndim >= VIDEO_AXES for t in tensors)


def _kinds(value) -> list:
    return [(t.shape, t.dtype, t.device) for t in _tensors(value)]


def same_inputs(a: dict, b: dict) -> bool:
    """Whether two entries were given the same objects, in all but their prompts."""
    keys = a.keys() - PROMPT_KEYS
    return keys == b.keys() - PROMPT_KEYS and all(_same(a[key], b[key]) for key in keys)


def _same(a, b) -> bool:
    """By identity, of what lists hold too; plain values by value. Tensors are never compared."""
    if a is b:
        return True
    if isinstance(a, (list, tuple)) and type(a) is type(b) and len(a) == len(b):
        return all(map(_same, a, b))
    return type(a) is type(b) and isinstance(a, (bool, int, float, str)) and a == b
