"""Every widget of every node refuses what it does not mean: before the run with one message, and at execution, where
the value came by a link. Through core's own validation; a few through a server in test_bad_input.py."""

import math
import re

import folder_paths
import pytest
from longtake.nodes._checks import widgets
from support.refusals import NODES, defaults, refusal

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
