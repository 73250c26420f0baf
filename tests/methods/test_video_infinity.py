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
from support.shared import (
    assert_cost_line_is_what_runs,
    assert_nothing_stays,
    infinity,
    of_video,
    video_part,
    watched,
    written_out,
)
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


@pytest.mark.parametrize("t, bias", [(900.0, (0.0, 10.0)), (800.0, (0.0, 10.0)), (799.9, (10.0, 0.0))])
def test_the_bias_changes_sides_at_the_threshold(t, bias):
    assert biases(t, 800, 10.0) == bias


@pytest.mark.parametrize("count, total", [(1, 1), (1, 9), (2, 9), (3, 9), (13, 37), (16, 13), (0, 5), (5, 6), (64, 65)])
def test_spread_places_are_even(count, total):
    places = spread(count, total)
    assert len(places) == len(set(places)) == min(count, total) and places == sorted(places)
    if len(places) > 1:
        steps = {b - a for a, b in zip(places, places[1:], strict=False)}
        assert places[0] == 0 and places[-1] == total - 1 and max(steps) - min(steps) <= 1


def test_logits_are_scaled_as_the_code_scales_them():
    assert logit_scale(16, 16) == 1.0 and logit_scale(256, 16) == 2.0 and logit_scale(5, 1) == 1.0


def test_one_evaluation_by_hand_alone():
    """Without the engine: companion and windows cut, run and fused by hand, for one CFG branch."""
    model, seen = tiny_wan.patcher(), {}
    settings = WindowSettings(LENGTH, OVERLAP, window_batch=1)

    def look(args):
        for name, key in (("x", "input"), ("cond", "cond_denoised"), ("sigma", "sigma")):
            seen.setdefault(name, args[key].clone())
        return args["denoised"]

    ours = infinity(windowed(model), bias=1.5, threshold=500)
    ours.set_model_sampler_post_cfg_function(look)
    tiny_wan.run(ours, steps=2)
    frames, kept, state = tiny_wan.FRAMES, [], {}
    tokens = 4  # of a frame: 4x4 latents in patches of 2x2

    def attention(func, q, k, v, heads, *args, **kwargs):
        if k.shape[-2] != LENGTH * tokens:
            return func(q, k, v, heads, *args, **kwargs)
        if state["companion"]:
            chosen = [t.unflatten(1, (LENGTH, tokens))[:, [0, 2, 4]].flatten(1, 2) for t in (k, v)]
            kept.append(chosen)
            return written_out(q, k, v, heads)
        (a, b), state["layer"] = kept[state["layer"]], state["layer"] + 1
        row = torch.tensor([0.0] * k.shape[1] + [1.5] * a.shape[1])
        return written_out(q, torch.cat([k, a], 1), torch.cat([v, b], 1), heads, bias=row)

    def predicted(indices, **how):
        state.update(how, layer=0)
        return model.model.apply_model(
            seen["x"][:, :, indices], seen["sigma"], c_crossattn=tiny_wan.prompt(1)[0][0],
            transformer_options={"optimized_attention_override": attention},
        )  # fmt: skip

    windows = local_windows(settings, frames, 0)
    weights = normalised(windows, [window_weights(settings, w, frames, None) for w in windows], frames)
    out = torch.zeros_like(seen["x"])
    with torch.no_grad():
        predicted(spread(LENGTH, frames), companion=True)
        for w, weight in zip(windows, weights, strict=True):
            part = predicted(list(w.indices), companion=False)
            out[:, :, list(w.indices)] += part * weight.float().view(1, 1, -1, 1, 1)
    torch.testing.assert_close(seen["cond"], out, atol=tiny_wan.CLOSE, rtol=0)


@every_model
@pytest.mark.parametrize("cache", ["auto", "gpu", "cpu"])
def test_caches_and_batches_agree(name, cache):
    expected = run(name, infinity(windowed(zoo.patcher(name))))
    for batch in (2, 3, 8):
        got = run(name, infinity(windowed(zoo.patcher(name), window_batch=batch), cache=cache))
        assert difference(got, expected) < 5e-4
    assert difference(run(name, infinity(windowed(zoo.patcher(name)), cache=cache)), expected) == 0


@every_model
def test_its_limits_are_the_plainer_methods(name):
    """Bit for bit: without spread frames plain windows, with one window a plain sampler."""
    plain = run(name, windowed(zoo.patcher(name)))
    assert difference(run(name, infinity(windowed(zoo.patcher(name)), frames=0)), plain) == 0
    assert difference(run(name, infinity(windowed(zoo.patcher(name)), first_layer=900, last_layer=999)), plain) == 0
    one = infinity(windowed(zoo.patcher(name), length=FRAMES, overlap=2))
    assert difference(run(name, one), run(name, zoo.patcher(name))) == 0


def test_settings_matter():
    name = "wan21_t2v"

    def sampled(**settings):
        return run(name, infinity(windowed(zoo.patcher(name)), **settings), steps=4)

    results = [
        run(name, windowed(zoo.patcher(name)), steps=4), sampled(), sampled(bias=0), sampled(threshold=950),
        sampled(frames=2), sampled(scaled=True), sampled(first_layer=1), sampled(end=0.5),
    ]  # fmt: skip
    assert all(difference(a, b) > 1e-4 for i, a in enumerate(results) for b in results[:i])
    assert difference(sampled(frames=5), sampled(frames=4096)) == 0  # as many as the window has
    assert difference(sampled(start=0.99), results[0]) == 0


def test_a_large_bias_leaves_one_scope():
    """On the window's own frames it is plain windows, as nearly as e^-90 is nothing."""
    name = "wan21_t2v"
    plain = run(name, windowed(zoo.patcher(name)), denoise=0.6)
    ours = run(name, infinity(windowed(zoo.patcher(name)), bias=90, threshold=1000), denoise=0.6)
    assert difference(ours, plain) < 1e-4


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("more", [{}, {"closed_loop": True}, {"first_latent": "anchor"}, {"schedule": "random_shift"}])
def test_cost_line_is_what_runs(batch, more, caplog):
    per_step = assert_cost_line_is_what_runs(infinity, batch, more, caplog)
    if more.get("schedule") is None:
        assert per_step == [8, 8, 8, 6]
        assert "+ 1 for shared attention in 3 of 4 steps" in caplog.text


def test_the_global_path_stays_as_it_is():
    name, seen = "wan21_t2v", []
    patcher = infinity(windowed(zoo.patcher(name), extra_path=GlobalPath(gamma0=0.5)))

    def look(apply, args):
        seen.append(args["c"]["transformer_options"]["longtake"]["path"])
        return apply(args["input"], args["timestep"], **args["c"])

    patcher.set_model_unet_function_wrapper(look)
    run(name, patcher, steps=1)
    assert seen == ["global", "local", "local", "local", "global", "global"]  # the companion first


def test_with_reference_frames_in_front():
    """Wan VACE's reference image stands in front of every window, the companion too; it is no spread frame."""
    name, model = "wan21_vace", zoo.zoo()["wan21_vace"]
    extra = model.video(FRAMES, model.side)
    frames, mask = extra["vace_frames"][0].clone(), extra["vace_mask"][0].clone()
    frames[:, 16:, :1], mask[:, :, :1] = 0.0, 0.0
    given = {"vace_frames": [frames], "vace_mask": [mask]}
    got = run(name, infinity(windowed(zoo.patcher(name))), extra=given)
    assert got.isfinite().all()
    assert difference(got, run(name, windowed(zoo.patcher(name)), extra=given)) > 1e-3
    batched = run(name, infinity(windowed(zoo.patcher(name), window_batch=4)), extra=given)
    assert difference(got, batched) < 5e-4


def test_a_prompt_with_an_area_in_time():
    """Where the companion has not all of a prompt, its windows read none of it."""
    name = "wan21_t2v"
    model = zoo.zoo()[name]
    area = model.conditioning(3, FRAMES, area=(2, 8, 8, 7, 0, 0), strength=1.0)
    both = model.conditioning(1, FRAMES) + area
    got = run(name, infinity(windowed(zoo.patcher(name))), positive=both)
    assert difference(got, run(name, infinity(windowed(zoo.patcher(name), window_batch=8)), positive=both)) < 5e-4
    assert difference(got, run(name, windowed(zoo.patcher(name)), positive=both)) > 1e-3


def test_another_attention_is_left_aside_for_the_bias_alone(caplog):
    """It may drop what is added to the logits; without a bias it gets every call."""
    name, calls = "wan21_t2v", []

    def other(func, q, k, v, *args, **kwargs):
        calls.append(k.shape[-2])
        return func(q, k, v, *args, **kwargs)

    for bias, aside in ((2.0, True), (0.0, False)):
        calls.clear()
        caplog.clear()
        patcher = windowed(zoo.patcher(name))
        patcher.model_options["transformer_options"]["optimized_attention_override"] = other
        with caplog.at_level(logging.INFO):
            run(name, infinity(patcher, bias=bias))
        more = zoo.zoo()[name].video_tokens(LENGTH) + 3 * zoo.zoo()[name].tokens_per_frame
        assert (more in calls) != aside
        assert caplog.text.count("PyTorch's") == aside


def test_it_is_refused_by_name(monkeypatch):
    name = "wan21_t2v"
    with pytest.raises(ValueError, match=r"LongTakeVideoInfinity.*Window Scheduler"):
        run(name, infinity(zoo.patcher(name)))
    wrong = {"frames": -1, "bias": math.nan, "threshold": 1001}
    for key, value in wrong.items():
        with pytest.raises(ValueError, match=rf"LongTakeVideoInfinity.*{key}"):
            infinity(zoo.patcher(name), **{key: value})
    monkeypatch.delitem(LAYOUTS, "WanModel")
    with pytest.raises(ValueError, match=r"LongTakeVideoInfinity.*WanModel.*Kandinsky"):
        infinity(zoo.patcher(name))


def test_never_does_nothing_silently(monkeypatch):
    monkeypatch.setitem(LAYOUTS, "WanModel", Layout(lambda m: (1, 1, 1), lambda m: len(m.blocks), lambda m: m.dim))
    with pytest.raises(RuntimeError, match=r"LongTakeVideoInfinity.*no self-attention over"):
        run("wan21_t2v", infinity(windowed(zoo.patcher("wan21_t2v"))))


@pytest.mark.parametrize("cache", ["gpu", "cpu"])
def test_nothing_stays(cache):
    assert_nothing_stays(InfinityPath, lambda m: infinity(m, cache=cache))


@every_model
def test_the_size_that_is_budgeted_is_the_size_that_is_kept(name, monkeypatch):
    kept = watched(monkeypatch)
    patcher = infinity(windowed(zoo.patcher(name)))
    run(name, patcher, steps=1)
    hook = patcher.model_options["transformer_options"][PATH_HOOKS][InfinityHook.key]
    shape = list(zoo.zoo()[name].latent(LENGTH).shape)
    assert hook.memory(patcher, [2 * shape[0], *shape[1:]]) == max(kept)
