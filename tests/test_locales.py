"""Translations: every node, input and output of the pack, nothing else, in a form that the front-end can read."""

import asyncio
import json
import re
from pathlib import Path

import pytest
from longtake.nodes import LongTakeExtension

LOCALES = Path(__file__).resolve().parent.parent / "locales"
FILES = sorted(LOCALES.glob("*/nodeDefs.json"))


def test_there_is_chinese():
    assert LOCALES / "zh" / "nodeDefs.json" in FILES


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_every_text_is_translated(path):
    found = json.loads(path.read_text("utf-8"))
    nodes = asyncio.run(LongTakeExtension().get_node_list())
    schemas = {schema.node_id: schema for schema in (node.define_schema() for node in nodes)}
    assert found.keys() == schemas.keys()
    for name, schema in schemas.items():
        node = found[name]
        assert node["display_name"] and node["description"], name
        assert list(node["inputs"]) == [i.id for i in schema.inputs], name
        assert all(text["name"] and text["tooltip"] for text in node["inputs"].values()), name
        assert list(node["outputs"]) == [str(i) for i in range(len(schema.outputs))], name
        for output, text in zip(schema.outputs, node["outputs"].values(), strict=True):
            assert text["name"] and bool(text.get("tooltip")) == bool(output.tooltip), name


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.parent.name)
def test_no_signs_of_the_message_format(path):
    """Some versions of the front-end read {x}, @ and | in a text as vue-i18n's, others show them as they are."""
    for text in re.findall(r': "((?:[^"\\]|\\.)*)"', path.read_text("utf-8")):
        assert not set("{}@|") & set(text), text
