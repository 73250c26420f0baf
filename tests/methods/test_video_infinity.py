"""Video-Infinity's dual-scope attention against its definition, written out with slow attention."""

import logging
import math

import pytest
import torch
from longtake.samplers.adapters.hooks import PATH_HOOKS, Asked
from longtake.samplers.adapters.shared_attention import InfinityHook, InfinityPath
from longtake.samplers.adapters.video_tokens import LAYOUTS, Layout
from longtake.samplers.adapters.window import context_window, window_weights
from longtake.samplers.fusion import normalised
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.video_infinity import biases, logit_scale, spread
from longtake.samplers.windows import Window, WindowSettings, local_windows
from support import tiny_wan, zoo
from support.compare import difference
from support.shared import assert_nothing_stays, infinity, of_video, video_part, watched, written_out
from support.windows import LENGTH, OVERLAP, windowed
from support.zoo_runs import FRAMES, NAMES
from support.zoo_runs import run_comparable as run

pytestmark = pytest.mark.usefixtures("one_thread")
every_model = pytest.mark.parametrize("name", NAMES)
SPREAD, FIRST_MIDDLE_LAST = (0, 2, 4, 6, 8), (0, 2, 4)  # of nine frames; of five


def shared_by_hand(state, name, layers, bias, scaled, q, k, v, heads, mask, **rest):
    """One attention of a companion (whose keys and values are noted) or a window. state: {"companion", "layer"}."""
    model, total = zoo.zoo()[name], k.shape[-2]
    layer, state["layer"] = state["layer"], state["layer"] + 1
    if layer not in layers:
        return written_out(q, k, v, heads, mask, **rest)
    video, count = video_part(name, LENGTH, total), model.tokens_per_frame
    frames = FIRST_MIDDLE_LAST if model.patch[0] == 1 else (0, 2)  # two of three pairs of frames
    if state["companion"]:
        parts = [t[..., video, :].unflatten(-2, (-1, count)) for t in (k, v)]
        state["kept"][layer] = [torch.cat([p[..., f, :, :] for f in frames], -2) for p in parts]
        return written_out(q, k, v, heads, mask, **rest)
    k, v = (torch.cat([t, kept], -2) for t, kept in zip((k, v), state["kept"][layer], strict=True))
    near, far = bias
    row = torch.full((k.shape[-2],), max(near, far))
    row[:total][video], row[total:] = near, far
    if mask is not None:
        mask = torch.nn.functional.pad(mask, (0, k.shape[-2] - total), value=mask.dtype == torch.bool)
    scale = math.log(k.shape[-2]) / math.log(total) if scaled else 1.0
    return written_out(q, k, v, heads, mask, bias=row, scale=scale, **rest)


class ByHand:
    """A path hook that asks for the companion before the windows, one to a call, and attends by hand."""

    node, least_windows, companion, apart = "By hand", 1, None, ""

    def __init__(self, name, layers, bias, scaled):
        self.how, self.name, self.kept = (name, layers), name, {}
        self.bias, self.scaled = bias, scaled

    def memory(self, model, shape):
        return 0

    def repeats(self, sigmas, *path):
        return [False] * len(sigmas)

    def asks(self, sigma, windows, around):
        return windows + 1

    def begin_path(self, evaluation, windows, entries, limit):
        settings = evaluation.options["context_handler"].settings
        first = context_window(Window(SPREAD, LENGTH), settings, "global", FRAMES, 0)
        self.asked = [Asked(first, None), *(Asked(w, i) for i, w in enumerate(windows))]
        return self

    def begin_call(self, call):
        states = {}

        def attention(func, q, k, v, heads, *args, **kwargs):
            if not of_video(self.name, LENGTH, q, k):
                return func(q, k, v, heads, *args, **kwargs)
            options = kwargs["transformer_options"]
            branches = tuple(options["cond_or_uncond"])
            kept = self.kept.setdefault(branches, {})
            begun = {"layer": 0, "companion": call.indices == (0,), "kept": kept}
            state = states.setdefault(branches, begun)
            mask = args[0] if args else kwargs.pop("mask", None)
            rest = {n: kwargs[n] for n in ("skip_reshape", "skip_output_reshape") if n in kwargs}
            return shared_by_hand(state, *self.how, self.bias, self.scaled, q, k, v, heads, mask, **rest)

        call.options["optimized_attention_override"] = attention

    def end(self):
        self.kept = {}


def by_hand(name, layers, bias, scaled=False):
    patcher = windowed(zoo.patcher(name))
    options = patcher.model_options["transformer_options"]
    hooks = {"by_hand": ByHand(name, layers, bias, scaled)}
    patcher.model_options["transformer_options"] = {**options, PATH_HOOKS: hooks}
    return patcher


@every_model
def test_equals_its_definition(name):
    """Bias on the spread frames; text in the same sequence gets it, too."""
    layers = range(zoo.zoo()[name].blocks)
    ours = run(name, infinity(windowed(zoo.patcher(name)), threshold=0))
    assert difference(ours, run(name, by_hand(name, layers, (0.0, 2.0)))) < 5e-4
    assert difference(ours, run(name, windowed(zoo.patcher(name)))) > 1e-2


@pytest.mark.parametrize("name", ["wan21_t2v", "hunyuan_video"])
@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("threshold, bias", [(1000, (2.0, 0.0)), (0, (0.0, 0.0))])
def test_local_bias_no_bias_and_scaled_logits(name, scaled, threshold, bias):
    # at t = 1000 the spread ones have it: the first step is left out
    ours = infinity(windowed(zoo.patcher(name)), bias=max(bias), threshold=threshold, scaled=scaled, first_layer=-1)
    last = zoo.zoo()[name].blocks - 1
    theirs = by_hand(name, [last], bias, scaled)
    assert difference(run(name, ours, denoise=0.6), run(name, theirs, denoise=0.6)) < 5e-4
