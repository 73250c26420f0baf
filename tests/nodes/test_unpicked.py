"""A Prompt Timeline on a model without LongTake windows: said before the run, with the remedy, and only then."""

import logging

import pytest
from longtake.nodes import unpicked
from support.graphs import NAMES, api_graph
from support.refusals import registered

SCHEDULER = "LongTakeWindowScheduler"


def said(caplog, nodes):
    caplog.clear()
    with caplog.at_level(logging.WARNING), registered():
        assert unpicked.notice({"prompt": nodes})["prompt"] is nodes
    return [record.getMessage() for record in caplog.records if record.name == unpicked.__name__]


def timeline():
    """The example graph; its scheduler's id."""
    nodes = api_graph("timeline")
    return nodes, next(i for i, node in nodes.items() if node["class_type"] == SCHEDULER)


def bypassed(nodes, node_id):
    """The graph as the browser sends it with this node bypassed."""
    source = nodes.pop(node_id)["inputs"]["model"]
    for node in nodes.values():
        node["inputs"] = {k: source if v == [node_id, 0] else v for k, v in node["inputs"].items()}
    return nodes


@pytest.mark.parametrize("name", NAMES)
def test_no_example_warns(caplog, name):
    assert said(caplog, api_graph(name)) == []


def test_a_bypassed_scheduler_is_missed_and_its_return_is_not(caplog):
    (text,) = said(caplog, bypassed(*timeline()))
    assert "LongTakePromptTimeline" in text and "KSampler" in text and "whole video gets the global prompt" in text
    assert "Put a Global/Local Window Scheduler last before the sampler" in text
    assert said(caplog, timeline()[0]) == []


def test_cores_context_windows_are_no_longtake_windows(caplog):
    nodes, scheduler = timeline()
    source = nodes[scheduler]["inputs"]["model"]
    nodes[scheduler] = {"class_type": "WanContextWindowsManual", "inputs": {"model": source, "context_length": 49}}
    assert len(said(caplog, nodes)) == 1


@pytest.mark.parametrize("windows", [False, True])
def test_guiders_and_nodes_between_are_followed(caplog, windows):
    """Prompt Timeline -> Event Hooks -> Conditioning (Combine) -> CFGGuider -> SamplerCustomAdvanced."""
    nodes, scheduler = timeline()
    (line,) = (i for i, node in nodes.items() if node["class_type"] == "LongTakePromptTimeline")
    (old,) = (i for i, node in nodes.items() if node["class_type"] == "KSampler")
    model, latent = nodes[old]["inputs"]["model"], nodes[old]["inputs"]["latent_image"]
    event = ["31", 0]
    nodes |= {
        "31": {"class_type": "LongTakeEventHooks", "inputs": {"conditioning": [line, 0], "event": 1}},
        "32": {"class_type": "ConditioningCombine", "inputs": {"conditioning_1": event, "conditioning_2": event}},
        "33": {"class_type": "CFGGuider", "inputs": {"model": model, "positive": ["32", 0], "negative": ["32", 0]}},
        old: {"class_type": "SamplerCustomAdvanced", "inputs": {"guider": ["33", 0], "latent_image": latent}},
    }
    assert len(said(caplog, nodes if windows else bypassed(nodes, scheduler))) == (not windows)


@pytest.mark.parametrize(
    "kind", ["LongTakeSynCoSSampler", "LongTakeFIFOSampler", "LongTakeMEVGSampler", "KSamplerSelect"]
)
def test_some_samplers_bring_windows(caplog, kind):
    nodes, scheduler = timeline()
    (line,) = (i for i, node in nodes.items() if node["class_type"] == "LongTakePromptTimeline")
    (old,) = (i for i, node in nodes.items() if node["class_type"] == "KSampler")
    nodes |= {
        "31": {"class_type": kind, "inputs": {}},
        old: {"class_type": "SamplerCustom", "inputs": {**nodes[old]["inputs"], "sampler": ["31", 0]}},
    }
    assert len(said(caplog, bypassed(nodes, scheduler))) == (kind == "KSamplerSelect")


@pytest.mark.parametrize("request_", [
    {}, {"prompt": None}, {"prompt": []}, {"prompt": {"1": None, "2": {"class_type": 5, "inputs": {}}}},
    {"prompt": {"1": {"class_type": "LongTakePromptTimeline", "inputs": {"clip": ["9", 0], "x": ["1", 99]}}}},
    {"prompt": {"1": {"class_type": "NoSuchNode", "inputs": {"a": ["1", 0], "b": [{}, 0]}}}},
])  # fmt: skip
def test_requests_that_are_none_pass(request_):
    assert unpicked.notice(request_) is request_
