"""What methods can hook into, and what the engine decides once per run."""

import logging

import pytest
import torch
from longtake.samplers.adapters import engine, memory
from longtake.samplers.adapters.hooks import PATH_HOOKS
from longtake.samplers.adapters.steps import RUN, Run
from longtake.samplers.glc.paths import GlobalPath
from support import tiny_wan
from support.tiny_wan import FRAMES, record, run
from support.windows import LENGTH, OVERLAP, windowed

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model():
    return tiny_wan.patcher()


class Recorder:
    """A hook that notes what it is told, and may ask for a companion."""

    node, least_windows = "Recorder", 1

    def __init__(self, companion=None, fail_at=None):
        self.companion, self.fail_at, self.notes = companion, fail_at, []

    def memory(self, model, shape):
        return 0

    def repeats(self, sigmas, evaluation, windows, entries, limit):
        return [self.companion is not None] * len(sigmas)

    def asks(self, sigma, windows, around):
        return windows

    def begin_path(self, evaluation, windows, entries, limit):
        self.notes.append(("path", len(windows), entries(), limit, evaluation.x.shape[2]))
        return self.Path(self)

    class Path:
        apart, asked = "windows do not fit together", None

        def __init__(self, hook):
            self.hook, self.companion = hook, hook.companion

        def begin_call(self, call):
            self.hook.notes.append(("call", *call.indices))
            call.options["recorder"] = call.indices
            if self.hook.fail_at in call.indices:
                raise RuntimeError("fail")

        def end(self):
            self.hook.notes.append(("end",))


def hooked(model, hook, **settings):
    model = windowed(model, extra_path=GlobalPath(gamma0=0.5), **settings)
    options = model.model_options["transformer_options"]
    model.model_options["transformer_options"] = {**options, PATH_HOOKS: {"recorder": hook}}
    return model


def test_a_hook_sees_every_path_and_call_and_its_end(model):
    hook = Recorder()
    expected = run(windowed(model, extra_path=GlobalPath(gamma0=0.5), window_batch=2), steps=1)
    got = run(hooked(model, hook, window_batch=2), steps=1)
    assert torch.equal(got, expected)
    assert hook.notes == [
        ("path", 4, 2, 2, FRAMES), ("call", 0, 1), ("call", 2, 3), ("end",),
        ("path", 3, 2, 2, FRAMES), ("call", 0), ("call", 1, 2), ("end",),
    ]  # fmt: skip


def test_what_a_hook_puts_into_a_call_stays_in_it(model):
    seen = []

    def wrapper(apply, args):
        options = args["c"]["transformer_options"]
        seen.append((options["recorder"], tuple(len(w) for w in options["longtake"]["windows"])))
        return apply(args["input"], args["timestep"], **args["c"])

    patched = hooked(model, Recorder(), window_batch=3)
    patched.set_model_unet_function_wrapper(wrapper)
    run(patched, steps=1)
    assert [len(indices) for indices, _ in seen] == [len(windows) for _, windows in seen]
    assert "recorder" not in patched.model_options["transformer_options"]


@pytest.mark.parametrize("window_batch", [1, 2, 3, 8])
def test_a_companion_runs_in_every_call_and_counts_once(model, window_batch, caplog):
    hook = Recorder(companion=0)
    patched, calls = record(hooked(model, hook, window_batch=window_batch))
    with caplog.at_level(logging.INFO):
        got = run(patched, steps=2)
    assert torch.allclose(got, run(windowed(model, extra_path=GlobalPath(gamma0=0.5)), steps=2), atol=3e-5)
    assert all(note[1] == 0 for note in hook.notes if note[0] == "call")
    assert f"= {sum(shape[0] for shape, *_ in calls)} window evaluations" in caplog.text
    assert max(len(note["windows"]) for _, note, *_ in calls) <= max(window_batch, 2)


def test_a_path_ends_when_a_call_fails(model):
    hook = Recorder(fail_at=2)
    with pytest.raises(RuntimeError, match="fail"):
        run(hooked(model, hook), steps=1)
    assert [note[0] for note in hook.notes] == ["path", "call", "call", "call", "end"]


def test_windows_per_call_are_decided_once_in_a_run(model, monkeypatch, caplog):
    """Memory that is free at one step and not at the next does not change how many windows share a call."""
    decisions = iter([4, 1, 1])
    monkeypatch.setattr(engine, "auto_batch", lambda *args: next(decisions))
    patched, calls = record(windowed(model, window_batch=0))
    with caplog.at_level(logging.INFO):
        run(patched, steps=3)
    assert {len(note["windows"]) for _, note, *_ in calls} == {4}
    assert "4 to a model call" in caplog.text


@pytest.mark.parametrize(
    "shape,most",
    [((1, 16, 21, 60, 104), 1), ((1, 128, 13, 16, 24), 4), ((2, 128, 13, 16, 24), 3), ((1, 16, 13, 8, 8), 4)],
)  # fmt: skip
def test_a_gpu_that_one_window_fills_gets_one(model, monkeypatch, shape, most):
    """By latent positions: Wan at 480p alone, LTX-Video and small clips together."""

    class On:
        model = None

        class x:
            device = torch.device("cuda")

    On.x.shape = torch.Size(shape)
    On.model = model.model
    monkeypatch.setattr(memory.comfy.model_management, "get_free_memory", lambda device=None: 10**15)
    monkeypatch.setattr(type(model), "get_free_memory", lambda self, device: 10**15, raising=False)
    monkeypatch.setattr(model.model, "current_patcher", model)
    entries = [{"model_conds": {}}, {"model_conds": {}}]
    assert memory.auto_batch(On, entries, shape[2]) == most


def test_parts_of_the_net_that_know_one_videos_rows_get_one_window(model, caplog):
    """KJNodes' NAG is for the first half of two or more rows, as those are a prompt and its negative to it."""
    patched, part = model.clone(), model.model.diffusion_model.blocks[0].cross_attn
    rows = []

    def forward(x, context, **kwargs):
        rows.append(len(x))
        out = type(part).forward(part, x, context, **kwargs)
        return torch.cat([1.5 * out[: -(-len(out) // 2)], out[-(-len(out) // 2) :]])

    patched.add_object_patch("diffusion_model.blocks.0.cross_attn.forward", forward)
    with caplog.at_level(logging.INFO):
        ours = run(windowed(patched, window_batch=0), cfg=1.0)
    assert set(rows) == {1} and "one per call" in caplog.text and "blocks.0.cross_attn.forward" in caplog.text
    assert torch.equal(ours, run(windowed(patched, window_batch=1), cfg=1.0))
    rows.clear()
    run(windowed(model, window_batch=0), cfg=1.0)
    assert not rows


def test_too_many_windows_are_refused_with_their_number(model, monkeypatch):
    monkeypatch.setattr(memory, "MOST_FRAMES", 4 * LENGTH - 1)
    with pytest.raises(ValueError, match=r"LongTakeWindowScheduler.*overlap: 4 windows of 17 pixel frames per step"):
        run(windowed(model), steps=1)


def test_weights_are_made_once_for_the_same_windows(model, monkeypatch):
    made, original = [], engine.fusion.normalised
    monkeypatch.setattr(engine.fusion, "normalised", lambda *args: made.append(1) or original(*args))
    run(windowed(model), steps=3)
    assert len(made) == 1
    made.clear()
    first = run(windowed(model, schedule="random_shift"), steps=3)
    assert 1 <= len(made) <= LENGTH - OVERLAP
    assert torch.equal(first, run(windowed(model, schedule="random_shift"), steps=3))


def test_a_run_of_its_own_for_options_without_one():
    assert Run.of({}).steps is None and Run.of({}) is not Run.of({})
    begun = Run("heun", [1.0, 0.5, 0.0])
    assert Run.of({RUN: begun}) is begun and list(begun.steps) == [0, 0, 1]
    assert begun.once("a", lambda: 1) == 1 and begun.once("a", lambda: 2) == 1
