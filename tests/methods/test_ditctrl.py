"""DiTCtrl against its definition, written out with slow attention, on every video class the running core has."""

import logging

import pytest
from comfy.patcher_extension import WrappersMP
from longtake.samplers.adapters.hooks import PATH_HOOKS
from longtake.samplers.adapters.shared_attention import DiTCtrlHook, DiTCtrlPath
from longtake.samplers.adapters.video_tokens import LAYOUTS, Layout
from longtake.samplers.ditctrl import Turn, turns, turns_count
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.prompts.timeline import Span
from support import zoo
from support.compare import difference
from support.shared import (
    assert_cost_line_is_what_runs,
    assert_nothing_stays,
    ditctrl,
    infinity,
    of_video,
    watched,
    written_out,
)
from support.windows import LENGTH, anchored, windowed
from support.zoo_runs import FRAMES, NAMES
from support.zoo_runs import run_comparable as run

pytestmark = pytest.mark.usefixtures("one_thread")
every_model = pytest.mark.parametrize("name", NAMES)
STARTS = (0, 3, 4)  # of the windows


def by_hand(name, layers, starts=STARTS, around=False):
    """Plain windows, one per call, each evaluated as a source and then out of the keys and values that the window
    before had as a source; the mean of both."""
    patcher, kept = windowed(zoo.patcher(name)), {}

    def attention(func, q, k, v, heads, *args, **kwargs):
        state = kwargs["transformer_options"].get("by_hand")
        if state is None or not of_video(name, LENGTH, q, k):
            return func(q, k, v, heads, *args, **kwargs)
        layer, state["layer"] = state["layer"], state["layer"] + 1
        mask = args[0] if args else kwargs.pop("mask", None)
        own = (k, v, mask)
        state["own"][layer] = own
        key, value, mask = state["given"][layer] if state["given"] and layer in layers else own
        rest = {n: kwargs[n] for n in ("skip_reshape", "skip_output_reshape") if n in kwargs}
        return written_out(q, key, value, heads, mask, **rest)

    def twice(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kw):
        start = transformer_options["longtake"]["windows"][0][0]
        i, branches = starts.index(start), tuple(transformer_options["cond_or_uncond"])
        own, results = {}, []
        if i < len(starts) - 1:
            transformer_options["by_hand"] = {"layer": 0, "own": own, "given": None}
            results.append(executor(x, t, c_concat, c_crossattn, control, transformer_options, **kw))
        if i > 0:
            transformer_options["by_hand"] = {"layer": 0, "own": {}, "given": kept[branches, i - 1]}
            results.append(executor(x, t, c_concat, c_crossattn, control, transformer_options, **kw))
        kept[branches, i] = own
        return sum(results) / len(results)

    patcher.model_options["transformer_options"]["optimized_attention_override"] = attention
    patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, "by_hand", twice)
    return patcher


@every_model
def test_equals_its_definition(name):
    total = zoo.zoo()[name].blocks
    expected = run(name, by_hand(name, [total - 1]))
    plain, ours = run(name, windowed(zoo.patcher(name))), run(name, ditctrl(windowed(zoo.patcher(name))))
    assert difference(ours, expected) < 2e-4
    assert difference(ours, plain) > 1e-3


def test_equals_its_definition_in_all_layers():
    ours = run("wan21_t2v", ditctrl(windowed(zoo.patcher("wan21_t2v")), first_layer=0))
    assert difference(ours, run("wan21_t2v", by_hand("wan21_t2v", [0, 1]))) < 1e-4


def test_turns_are_pairs_of_neighbours():
    assert turns(3) == [Turn(0, True, 1.0), Turn(1, False, 0.5), Turn(1, True, 0.5), Turn(2, False, 1.0)]
    for count in range(1, 7):
        for around in (False, True):
            made = turns(count, around)
            assert len(made) == turns_count(count, around)
            assert [sum(t.share for t in made if t.window == i) for i in range(count)] == [1.0] * count
            pairs = list(zip(made[::2], made[1::2], strict=True)) if count > 1 else []
            assert all(a.source and not b.source and b.window == (a.window + 1) % count for a, b in pairs)
            assert {b.window for _, b in pairs} == set(range(count)) - (set() if around and count > 1 else {0})


@every_model
@pytest.mark.parametrize("cache", ["auto", "gpu", "cpu"])
def test_caches_and_batches_agree(name, cache):
    expected = run(name, ditctrl(windowed(zoo.patcher(name)), first_layer=0))
    for batch in (2, 3, 8):
        got = run(name, ditctrl(windowed(zoo.patcher(name), window_batch=batch), first_layer=0, cache=cache))
        assert difference(got, expected) < 2e-4
    assert difference(run(name, ditctrl(windowed(zoo.patcher(name)), first_layer=0, cache=cache)), expected) == 0


def test_branches_apart(monkeypatch):
    """Where memory is short core runs each CFG branch alone: each has its own keys."""
    name = "hunyuan_video"
    expected = run(name, ditctrl(windowed(zoo.patcher(name))))
    patcher = zoo.patcher(name)
    monkeypatch.setattr(patcher.model, "memory_required", lambda *args, **kwargs: float("inf"))
    assert difference(run(name, ditctrl(windowed(patcher, window_batch=3))), expected) < 1e-4


@every_model
def test_without_layers_it_is_plain_windows(name, caplog):
    with caplog.at_level(logging.WARNING):
        none = ditctrl(windowed(zoo.patcher(name)), first_layer=900, last_layer=1000)
    assert "LongTakeDiTCtrl" in caplog.text and "nothing is shared" in caplog.text
    assert difference(run(name, none), run(name, windowed(zoo.patcher(name)))) == 0


@every_model
def test_one_window_is_a_plain_sampler(name):
    one = ditctrl(windowed(zoo.patcher(name), length=FRAMES, overlap=2))
    assert difference(run(name, one), run(name, zoo.patcher(name))) == 0


def test_range_of_layers_and_steps():
    name = "wan21_t2v"

    def sampled(**settings):
        return run(name, ditctrl(windowed(zoo.patcher(name)), **settings), steps=4)

    plain = run(name, windowed(zoo.patcher(name)), steps=4)
    results = [plain, sampled(), sampled(last_layer=0, first_layer=0), sampled(first_layer=0), sampled(end=0.5)]
    assert all(difference(a, b) > 1e-4 for i, a in enumerate(results) for b in results[:i])
    assert difference(sampled(start=0.99), plain) == 0
    assert difference(sampled(first_layer=-1000), sampled(first_layer=0)) == 0
    assert difference(sampled(first_layer=1, last_layer=1000), sampled()) == 0


@pytest.mark.parametrize("batch", [1, 2, 3])
@pytest.mark.parametrize("more", [{}, {"closed_loop": True}, {"first_latent": "anchor"}, {"schedule": "random_shift"}])
def test_cost_line_is_what_runs(batch, more, caplog):
    per_step = assert_cost_line_is_what_runs(ditctrl, batch, more, caplog)
    if more.get("schedule") is None:
        windows = 3
        shared = 2 * windows if more.get("closed_loop") else 2 * (windows - 1)
        assert per_step == [2 * shared, 2 * shared, 2 * shared, 2 * windows]
        assert f"+ {shared - windows} for shared attention in 3 of 4 steps" in caplog.text


def test_only_local_windows_share():
    """The windows of GLC's global path hold frames of the whole video; they stay as they are."""
    name, seen = "wan21_t2v", []
    patcher = ditctrl(windowed(zoo.patcher(name), extra_path=GlobalPath(gamma0=0.5)))

    def look(apply, args):
        seen.append(args["c"]["transformer_options"]["longtake"]["path"])
        return apply(args["input"], args["timestep"], **args["c"])

    patcher.set_model_unet_function_wrapper(look)
    run(name, patcher, steps=1)
    assert seen == ["local"] * 4 + ["global"] * 2


def test_a_prompt_with_an_area_in_time():
    """A window whose source has not this prompt reads its own keys of it."""
    name = "wan21_t2v"
    model = zoo.zoo()[name]
    area = model.conditioning(3, FRAMES, area=(2, 8, 8, 7, 0, 0), strength=1.0)
    both = model.conditioning(1, FRAMES) + area
    got = run(name, ditctrl(windowed(zoo.patcher(name))), positive=both)
    assert difference(got, run(name, ditctrl(windowed(zoo.patcher(name), window_batch=8)), positive=both)) < 1e-4
    assert difference(got, run(name, windowed(zoo.patcher(name)), positive=both)) > 1e-3


def test_prompts_that_fade_are_two_of_a_window():
    """Texts of different lengths: a window at a soft border has an entry for each, and its neighbours have one."""
    name = "hunyuan_video"
    model, entries = zoo.zoo()[name], []
    total = 4 * (FRAMES - 1) + 1
    for i, seed in enumerate((1, 3)):
        span = Span(index=i, start=i * 17, end=17 + i * (total - 17), blend=16.0, total=total)
        (text, options), = model.conditioning(seed, FRAMES)
        entries.append([text, {**options, "longtake_span": span, "start_percent": 1.0, "end_percent": 0.0}])
    (text, options), = model.conditioning(4, FRAMES)
    positive = [[text, {**options, "longtake_span": None}], *entries]
    got = run(name, ditctrl(windowed(zoo.patcher(name))), positive=positive)
    assert difference(got, run(name, ditctrl(windowed(zoo.patcher(name), window_batch=8)), positive=positive)) < 1e-4
    assert difference(got, run(name, windowed(zoo.patcher(name)), positive=positive)) > 1e-3


def test_it_is_refused_by_name(monkeypatch):
    name = "wan21_t2v"
    for other in (anchored, infinity):
        for both in (lambda m, o=other: ditctrl(o(m)), lambda m, o=other: o(ditctrl(m))):
            with pytest.raises(ValueError, match=r"LongTake(DiTCtrl|VideoInfinity)\): .* is on the same model.*bypass"):
                run(name, both(windowed(zoo.patcher(name))))
    with pytest.raises(ValueError, match=r"LongTakeDiTCtrl.*Window Scheduler"):
        run(name, ditctrl(zoo.patcher(name)))
    with pytest.raises(ValueError, match=r"LongTakeDiTCtrl.*start_percent \(0.5\)"):
        ditctrl(zoo.patcher(name), start=0.5, end=0.5)
    for first, last in ((-1, -2), (3, 2)):
        with pytest.raises(ValueError, match=rf"LongTakeDiTCtrl.*first_layer \({first}\).*last_layer \({last}\)"):
            ditctrl(zoo.patcher(name), first_layer=first, last_layer=last)
    monkeypatch.delitem(LAYOUTS, "WanModel")
    with pytest.raises(ValueError, match=r"LongTakeDiTCtrl.*WanModel.*Wan 2.1 and 2.2.*Kandinsky"):
        ditctrl(zoo.patcher(name))


def test_never_does_nothing_silently(monkeypatch):
    monkeypatch.setitem(LAYOUTS, "WanModel", Layout(lambda m: (1, 1, 1), lambda m: len(m.blocks), lambda m: m.dim))
    with pytest.raises(RuntimeError, match=r"LongTakeDiTCtrl.*no self-attention over"):
        run("wan21_t2v", ditctrl(windowed(zoo.patcher("wan21_t2v"))))


def test_applied_twice_the_last_one_counts():
    name = "wan21_t2v"
    twice = ditctrl(ditctrl(windowed(zoo.patcher(name)), first_layer=0))
    assert difference(run(name, twice), run(name, ditctrl(windowed(zoo.patcher(name))))) == 0


@pytest.mark.parametrize("cache", ["gpu", "cpu"])
def test_nothing_stays(cache):
    assert_nothing_stays(DiTCtrlPath, lambda m: ditctrl(m, first_layer=0, cache=cache))


@every_model
def test_the_size_that_is_budgeted_is_the_size_that_is_kept(name, monkeypatch):
    """Of the video's tokens; a text in the sequence is small beside them."""
    kept = watched(monkeypatch)
    patcher = ditctrl(windowed(zoo.patcher(name)), first_layer=0)
    run(name, patcher, steps=1)
    hook = patcher.model_options["transformer_options"][PATH_HOOKS][DiTCtrlHook.key]
    shape = list(zoo.zoo()[name].latent(LENGTH).shape)
    budget, most = hook.memory(patcher, [2 * shape[0], *shape[1:]]), max(kept)
    tokens = zoo.zoo()[name].video_tokens(LENGTH)
    assert budget <= most <= budget * (1 + (0 if zoo.zoo()[name].joint == "self" else 256) / tokens)
    assert (budget == most) == (zoo.zoo()[name].joint == "self")
