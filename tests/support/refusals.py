"""What core and the pack's nodes say of a graph before it runs, as the server's /prompt does."""

import asyncio
import contextlib
import contextvars

import execution
import pytest
from longtake.nodes import LongTakeExtension
from longtake.nodes._checks import remember, widgets

import nodes as core

NODES = {node.GET_SCHEMA().node_id: node for node in asyncio.run(LongTakeExtension().get_node_list())}
MODEL = {"class_type": "LongTakeDemoBackbone", "inputs": {}}
SOURCES = {  # type of an input: (node that makes it, output)
    "MODEL": (MODEL, 0), "CLIP": (MODEL, 1), "VAE": (MODEL, 2),
    "CONDITIONING": ({"class_type": "CLIPTextEncode", "inputs": {"clip": ["CLIP", 1], "text": ""}}, 0),
    "LATENT": ({"class_type": "EmptyHunyuanLatentVideo",
                "inputs": {"width": 64, "height": 64, "length": 97, "batch_size": 1}}, 0),
    "IMAGE": ({"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 5, "color": 0}}, 0),
    "VIDEO": ({"class_type": "CreateVideo", "inputs": {"images": ["IMAGE", 0], "fps": 16.0}}, 0),
    "NOISE": ({"class_type": "RandomNoise", "inputs": {"noise_seed": 0}}, 0),
    "SAMPLER": ({"class_type": "KSamplerSelect", "inputs": {"sampler_name": "euler"}}, 0),
    "HOOKS": ({"class_type": "CombineHooks2", "inputs": {}}, 0),
    "LONGTAKE_WINDOWS": ({"class_type": "LongTakeWindowScheduler", "inputs": {"model": ["MODEL", 0]}}, 1),
}  # fmt: skip
FILLED = {("LongTakePromptTimeline", "events"): "a | b"}  # widgets whose default no run takes


def defaults(node_id: str) -> dict:
    """A value that is right for every widget of a node."""
    out = {}
    for widget in widgets(NODES[node_id]):
        value = FILLED.get((node_id, widget.id), widget.default)
        out[widget.id] = widget.options[0] if value is None and widget.io_type == "COMBO" else value
    return out


SOURCES["LONGTAKE_WINDOWS"][0]["inputs"] |= defaults("LongTakeWindowScheduler")


def graph(node_id: str, **values) -> dict:
    """A graph with one node of ours, "1", all of its inputs right but for `values`, and an output node behind it."""
    types = {i.id: str(i.get_io_type()).split(",")[0] for i in NODES[node_id].GET_SCHEMA().inputs}
    inputs = defaults(node_id) | {name: [kind, SOURCES[kind][1]] for name, kind in types.items() if kind in SOURCES}
    nodes = {"1": {"class_type": node_id, "inputs": inputs | values}}
    nodes["2"] = {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}
    for kind, (node, _) in SOURCES.items():
        nodes[kind] = {"class_type": node["class_type"], "inputs": dict(node["inputs"])}
    return nodes


@contextlib.contextmanager
def registered():
    """Core's nodes and extra nodes, and the pack's, in the table that core's validation reads."""
    if "PreviewAny" not in core.NODE_CLASS_MAPPINGS:
        asyncio.run(core.init_builtin_extra_nodes())
    with pytest.MonkeyPatch.context() as patch:
        for name, node in NODES.items():
            patch.setitem(core.NODE_CLASS_MAPPINGS, name, node)
        yield core.NODE_CLASS_MAPPINGS


def errors(nodes: dict, **request) -> dict:
    """{node: its errors} of a graph that is queued. Raises AssertionError where core has another complaint."""

    def queue():
        remember({"prompt": nodes, **request})
        return asyncio.run(execution.validate_prompt("test", nodes, None))

    with registered():
        valid, error, _, said = contextvars.copy_context().run(queue)
    assert valid or said, error
    return {node: found["errors"] for node, found in said.items()}


def refusal(node_id: str, **values) -> dict | None:
    """The one error about a node of ours with these values; None where there is none."""
    found = errors(graph(node_id, **values))
    assert found.keys() <= {"1"}, found
    if not found:
        return None
    (error,) = found["1"]
    return error
