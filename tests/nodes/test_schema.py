"""Saved graphs keep loading: node ids, sockets and widgets stay; new widgets come last.

schema.json is what has been released. Add to it when a node or widget is added; never change what it holds, but for the
default of a required input: only new nodes get it, for saved graphs and API prompts state its value. An optional one's
default is the value of every prompt that leaves it out, and stays.
"""

import asyncio

import pytest
from longtake.nodes import comfy_entrypoint
from support.graphs import RELEASED
from support.paths import ROOT


def current():
    extension = asyncio.run(comfy_entrypoint())
    schemas = [node.GET_SCHEMA() for node in asyncio.run(extension.get_node_list())]
    return {
        s.node_id: {
            "inputs": [[i.id, i.io_type, getattr(i, "default", None), bool(i.optional)] for i in s.inputs],
            "outputs": [[o.io_type, o.display_name] for o in s.outputs],
        }
        for s in schemas
    }


def test_every_node_is_in_the_released_schema():
    assert current().keys() == RELEASED.keys()


@pytest.mark.parametrize("node_id", RELEASED)
def test_a_released_node_is_only_ever_added_to(node_id):
    now, then = current()[node_id], RELEASED[node_id]
    for kind in ("inputs", "outputs"):
        assert now[kind][: len(then[kind])] == then[kind]


@pytest.mark.parametrize("node_id", RELEASED)
def test_every_node_has_a_help_page_and_tooltips(node_id):
    docs = ROOT / "web" / "docs"
    page = (docs / f"{node_id}.md").read_text(encoding="utf-8")
    assert f"({node_id}.jpg)" in page and (docs / f"{node_id}.jpg").is_file()
    extension = asyncio.run(comfy_entrypoint())
    node = next(n for n in asyncio.run(extension.get_node_list()) if n.GET_SCHEMA().node_id == node_id)
    schema = node.GET_SCHEMA()
    assert schema.category.startswith("LongTake") and schema.description
    assert all(i.tooltip and i.id in page for i in schema.inputs)
