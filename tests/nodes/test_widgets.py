"""Every widget of every node refuses what it does not mean: before the run with one message, and at execution, where
the value came by a link. Through core's own validation; a few through a server in test_bad_input.py."""

import math
import re

import folder_paths
import pytest
from longtake.nodes._checks import widgets
from longtake.samplers.adapters.attention import AnchorHook
from longtake.samplers.adapters.syncos import ChunkSettings
from longtake.samplers.adapters.vmcr import RefineSettings
from longtake.samplers.glc.motion import MotionSettings
from longtake.samplers.glc.noise import NoiseSettings
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.layers import Reach
from longtake.samplers.syncos.coupling import SynCoSSettings
from longtake.samplers.windows import WindowSettings
from support.refusals import NODES, defaults, errors, graph, refusal

WRONG = {
    "INT": ("static", None, math.nan, math.inf, -math.inf, {}, [1, 2, 3], {"a": 1}),
    "FLOAT": ("static", None, math.nan, math.inf, -math.inf, 1e300, {}, [1, 2, 3], {"a": 1}),
    "COMBO": ("sideways", None, 0, True, {}, [1, 2, 3], {"a": 1}, "x" * 5000),
    "STRING": (None, True, {}, [1, 2, 3], {"a": 1}),
    "BOOLEAN": ("static", None, 2, 0.5, {}, [1, 2, 3], {"a": 1}),
}


def wrong(widget):
    values = list(WRONG[widget.io_type])
    if widget.io_type in ("INT", "FLOAT"):
        values += [widget.min - 1, widget.max + 1]
    return values


CASES = [
    pytest.param(node_id, widget, value, id=f"{node_id}-{widget.id}-{str(value)[:20]}")
    for node_id, node in NODES.items() for widget in widgets(node) for value in wrong(widget)
]  # fmt: skip


@pytest.fixture(autouse=True)
def a_model_to_choose(tmp_path, monkeypatch):
    (tmp_path / "CogVideoX-2b" / "transformer").mkdir(parents=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(tmp_path)], {"folder"}))


@pytest.mark.parametrize("node_id", NODES)
def test_the_defaults_are_right(node_id):
    assert refusal(node_id) is None


@pytest.mark.parametrize(("node_id", "widget", "value"), CASES)
def test_a_wrong_value_gets_one_message_that_names_the_widget(node_id, widget, value):
    error = refusal(node_id, **{widget.id: value})
    assert error is not None
    assert error["extra_info"]["input_name"] == widget.id or f": {widget.id} must be" in error["details"], error


@pytest.mark.parametrize(("node_id", "widget", "value"), CASES)
def test_a_wrong_value_by_a_link_is_refused_by_name(node_id, widget, value):
    if widget.id in ("vae", "text_encoder") and value == "sideways":
        return  # looked for after the model, see test_cogvideox_files.py
    node = NODES[node_id]
    inputs = {i.id: None for i in node.GET_SCHEMA().inputs} | defaults(node_id) | {widget.id: value}
    with pytest.raises((ValueError, FileNotFoundError)) as refused:
        node.execute(**inputs)
    said = str(refused.value)
    assert node_id in said or said.startswith("Prompt Timeline: "), said
    assert re.search(rf": {widget.id}\b", said) and len(said) < 2500, said


@pytest.mark.parametrize(("node_id", "values", "words"), [
    ("LongTakeWindowScheduler", {"overlap": 49, "window_length": 49}, ["overlap (49) must", "e.g. 24"]),
    ("LongTakeWindowScheduler", {"retain": "first"}, ["retain (first)", "e.g. 0"]),
    ("LongTakeABAM", {"start_percent": 0.9, "end_percent": 0.1}, ["start_percent (0.9)", "end_percent (0.1)"]),
    ("LongTakeABAM", {"start_percent": 0.5, "end_percent": 0.5}, ["start_percent (0.5)", "end_percent (0.5)"]),
    ("LongTakeABAM", {"first_layer": 9, "last_layer": 3}, ["first_layer (9)", "last_layer (3)"]),
    ("LongTakeDiTCtrl", {"start_percent": 0.5}, ["start_percent (0.5)", "end_percent (0.49)"]),
    ("LongTakeDiTCtrl", {"last_layer": -6}, ["first_layer (-5)", "last_layer (-6)"]),
    ("LongTakeVideoInfinity", {"first_layer": 9, "last_layer": 3}, ["first_layer (9)", "last_layer (3)"]),
    ("LongTakeVMCR", {"start_percent": 1, "end_percent": 1}, ["start_percent (1.0)", "end_percent (1.0)"]),
    ("LongTakeSynCoSSampler", {"window_length": 49, "stride": 50}, ["stride (50)", "window_length (49)", "e.g. 16"]),
    ("LongTakeSynCoSKSampler", {"window_length": "49", "stride": 50.9}, ["stride (50)", "window_length (49)"]),
    ("LongTakePromptTimeline", {"blend": 147, "length": 293}, ["blend (147", "146", "shortest event"]),
    ("LongTakePromptTimeline", {"events": "0s: a\n60s: b", "length": 293}, ["60s", "past the end"]),
    ("LongTakeDecodeToVideo", {"format": "mp4 (av1)", "fps": 240.01}, ["at most 240 for mp4 (av1), not 240.01"]),
    ("LongTakeStructuredPrompt", {"reply": '{"global": ["a"], "local": ["b"]}'}, ["reply", "one text"]),
])  # fmt: skip
def test_values_that_do_not_go_together_get_one_message(node_id, values, words):
    error = refusal(node_id, **values)
    assert error["type"] == "custom_validation_failed" and all(word in error["details"] for word in words), error


def test_a_fault_of_cores_hides_ours():
    """What values mean together is not said before each of them is one."""
    error = refusal("LongTakeWindowScheduler", window_length="static", overlap=90)
    assert error["extra_info"]["input_name"] == "window_length" and error["type"] == "invalid_input_type"


def test_two_faults_are_two_messages():
    (found,) = errors(graph("LongTakeWindowScheduler", overlap=90, fuse="cubic")).values()
    assert {error["extra_info"]["input_name"] for error in found} == {"overlap", "fuse"} and len(found) == 2


def test_each_node_of_a_graph_is_held_to_its_own_values():
    nodes = graph("LongTakeNoiseReinit")
    nodes["LONGTAKE_WINDOWS"]["inputs"] |= {"window_length": 17, "overlap": 17}
    (node, found), *_ = errors(nodes).items()
    assert node == "LONGTAKE_WINDOWS" and len(found) == 1 and "overlap (17)" in found[0]["details"]


SETTINGS = [
    (WindowSettings, {"length": 13, "overlap": 6}, {}),
    (GlobalPath, {}, {"every": "global_every", "until": "global_until", "rate": "dilation"}), (NoiseSettings, {}, {}),
    (MotionSettings, {}, {}), (RefineSettings, {}, {}), (Reach, {}, {}),
    (AnchorHook, {"layers": range(2), "reach": Reach(), "cache": "auto", "a": 0.1}, {"a": "anchor"}),
    (SynCoSSettings, {}, {}), (ChunkSettings, {"length": 49, "stride": 24}, {"length": "window_length"}),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "given", "names"), SETTINGS)
def test_settings_hold_finite_numbers_in_bounds(kind, given, names):
    """For those who make them without a node."""
    right = kind(**given)
    for name, value in vars(right).items():
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            continue
        for wrong_one in (math.nan, -math.inf, math.inf, "0", None, True, -1e9):
            if (name, wrong_one) != ("sigma_start", math.inf):  # from the first step, whatever the model
                with pytest.raises(ValueError, match=rf"\b{names.get(name, name)}\b"):
                    kind(**given | {name: wrong_one})
