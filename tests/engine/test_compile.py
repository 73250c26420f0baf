"""torch.compile by core's node: nothing is compiled anew that one clip compiled, and every method has its way."""

import pytest
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from comfy_extras.nodes_torch_compile import TorchCompileModel
from longtake.samplers.adapters.fifo import FIFOSampler
from longtake.samplers.glc.paths import GlobalPath
from support import zoo
from support.compare import difference
from support.event_texts import timeline
from support.shared import ditctrl, infinity
from support.tiny_wan import run
from support.windows import LENGTH, anchored, coupled, windowed
from support.zoo_runs import run_comparable

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE, CLEAR = 1e-4, 1e-2


class Graphs(list):
    """The graphs that a backend was given, which it leaves as they are."""

    def backend(self, graph, inputs):
        self.append(graph)
        return graph.forward


def whole(func, *args, **kwargs):
    """On a CPU core attends in pieces, of which each would be a graph: as on a GPU, one call here."""
    return attention_pytorch(*args, **kwargs)


@pytest.fixture
def graphs():
    torch._dynamo.reset()
    yield Graphs()
    torch._dynamo.reset()


@pytest.fixture
def compiled(graphs):
    """(model of one block compiled by core's node, the same not compiled, the graphs that were compiled)."""
    model = zoo.wan(num_layers=1).clone()
    model.model_options["transformer_options"]["optimized_attention_override"] = whole
    return TorchCompileModel.execute(model, graphs.backend).args[0], model, graphs


def test_windows_compile_what_one_clip_compiles(compiled):
    ours, plain, graphs = compiled
    run(ours, LENGTH, cfg=1.0)
    assert len(graphs) == 1
    windows = {"schedule": "random_shift", "extra_path": GlobalPath()}
    for frames in (8, 14, 20):
        result = run(windowed(ours, **windows), frames, cfg=1.0)
        assert difference(result, run(windowed(plain, **windows), frames, cfg=1.0)) < CLOSE
    assert len(graphs) == 1
    for frames in (14, 17, 20, 23):  # calls of one to three windows: one more graph, for any number of rows
        run(windowed(ours, window_batch=3, **windows), frames)
    assert len(graphs) == 2


def test_pieces_compile_by_their_length_and_the_log_says_so(compiled, caplog):
    ours, plain, graphs = compiled
    for schedule, frames in [("rolling", 14), ("rolling", 17), ("rolling_cut", LENGTH)]:
        run(windowed(ours, schedule=schedule, overlap=0), frames, steps=6, cfg=1.0)
    assert len(graphs) == 1 and "torch.compile" not in caplog.text
    cut = {"schedule": "rolling_cut", "overlap": 0}
    for frames in (14, 17, 20, 23):
        result = run(windowed(ours, **cut), frames, steps=6, cfg=1.0)
        assert difference(result, run(windowed(plain, **cut), frames, steps=6, cfg=1.0)) < CLOSE
    assert len(graphs) == LENGTH
    notes = [record.message for record in caplog.records if "torch.compile" in record.message]
    assert len(notes) == 4 and "schedule (rolling_cut)" in notes[0] and f"1 to {LENGTH} latent frames" in notes[0]


def test_syncos_compiles_what_one_clip_compiles(compiled):
    ours, _, graphs = compiled
    run(ours, LENGTH, cfg=1.0)
    run(windowed(ours), sampler=coupled(), cfg=1.0)
    assert len(graphs) == 1


def test_fifo_compiles_one_graph_for_all_noise_levels(compiled):
    ours, plain, graphs = compiled
    run(ours, LENGTH, cfg=1.0)
    fifo = FIFOSampler(4 * LENGTH - 3, 1, True, "clip")
    for frames in (LENGTH + 1, 9):
        assert difference(run(ours, frames, sampler=fifo, cfg=1.0), run(plain, frames, sampler=fifo, cfg=1.0)) < CLOSE
        assert len(graphs) == 2  # a timestep for a clip, one for each of its frames


def test_anchor_attention_compiles_no_more_for_more_windows(compiled):
    ours, plain, graphs = compiled
    first = run(anchored(windowed(ours), 0.5), 8, cfg=1.0)
    count = len(graphs)
    assert difference(first, run(anchored(windowed(plain), 0.5), 8, cfg=1.0)) < CLOSE
    run(anchored(windowed(ours), 0.5), 14, cfg=1.0)
    assert len(graphs) == count


METHODS = {
    "ABAM": lambda model: anchored(windowed(model), 0.5),
    "DiTCtrl": lambda model: ditctrl(windowed(model)),
    "Video-Infinity": lambda model: infinity(windowed(model)),
    "events by frame": windowed,
    "ABAM, events by frame": lambda model: anchored(windowed(model), 0.5),
}
EVENTS = timeline(starts=(0, 9, 21, 25))


def without_a_look_at_the_options(guards):
    """As newer cores' node and KJNodes have it."""
    return ["transformer_options" not in guard.name for guard in guards]


@pytest.mark.parametrize("parts", ["diffusion_model", "diffusion_model.blocks.0"])
@pytest.mark.parametrize("method", METHODS)
def test_a_method_acts_in_what_was_compiled_without_it_and_leaves_no_trace(compiled, method, parts):
    _, plain, graphs = compiled
    ours, options = plain.clone(), {"guard_filter_fn": without_a_look_at_the_options}
    set_torch_compile_wrapper(ours, graphs.backend, options, keys=[parts])
    text = EVENTS if "events" in method else None
    runs = [(windowed, None), (windowed, text), (METHODS[method], text)]
    expected = [run(make(plain), 9, positive=given, cfg=1.0) for make, given in runs]
    assert difference(expected[2], expected[0]) > CLEAR
    for _ in range(2):
        for (make, given), result in zip(runs, expected, strict=True):
            assert difference(run(make(ours), 9, positive=given, cfg=1.0), result) < CLOSE
    assert torch.is_autocast_cache_enabled()
    assert graphs


@pytest.mark.parametrize("name", ["ltxv", "hunyuan_video", "mochi"])
def test_other_nets(name, graphs):
    plain = zoo.patcher(name).clone()
    plain.model_options["transformer_options"]["optimized_attention_override"] = whole
    ours = TorchCompileModel.execute(plain, graphs.backend).args[0]
    for make in (windowed, METHODS["ABAM"], windowed):
        expected = run_comparable(name, make(plain))
        assert difference(run_comparable(name, make(ours)), expected) < CLOSE
    assert graphs


@pytest.mark.parametrize("blend", [0.0, 8.0])
def test_events_by_frame_are_those_of_each_window(compiled, blend):
    ours, plain, graphs = compiled
    for starts in [(0, 9, 21, 25), (0, 5, 15), (0, 21)]:
        text = timeline(starts=starts, blend=blend)
        expected = run(windowed(plain), 9, positive=text, cfg=1.0)
        assert difference(run(windowed(ours), 9, positive=text, cfg=1.0), expected) < CLOSE
