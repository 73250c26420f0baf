"""Translations: every node, input and output of the pack, nothing else, in a form that the front-end can read.

locales/en holds the schemas' own texts, to translate from. After a change of a schema write it anew, in an environment
of the tests: COMFYUI_PATH=... python tests/nodes/test_locales.py
"""

import asyncio
import json
import re
import sys
from pathlib import Path

import pytest

if __name__ == "__main__":
    sys.path.append(str(Path(__file__).resolve().parents[1]))
    import conftest  # noqa: F401  # makes the pack importable

from longtake.nodes import LongTakeExtension
from support.paths import ROOT

LOCALES, WEB = ROOT / "locales", ROOT / "web" / "js"
FILES = sorted(LOCALES.glob("*/nodeDefs.json"))
ENGLISH = LOCALES / "en" / "nodeDefs.json"
MESSAGE_SIGNS = set("{}@|")


def schemas():
    nodes = asyncio.run(LongTakeExtension().get_node_list())
    return {schema.node_id: schema for schema in (node.define_schema() for node in nodes)}


def plain(**texts) -> dict:
    """Texts that there are, without signs of the message format: for these the front-end takes the schema's text."""
    return {key: text for key, text in texts.items() if text and not MESSAGE_SIGNS & set(text)}


def english() -> dict:
    """locales/en/nodeDefs.json, from the schemas."""
    return {
        name: {
            **plain(display_name=schema.display_name, description=schema.description),
            "inputs": {i.id: plain(name=i.display_name or i.id, tooltip=i.tooltip) for i in schema.inputs},
            "outputs": {
                str(n): plain(name=o.display_name, tooltip=o.tooltip) for n, o in enumerate(schema.outputs)
            },
        }
        for name, schema in schemas().items()
    }


def english_text() -> str:
    return json.dumps(english(), indent=2, ensure_ascii=False) + "\n"


def test_english_is_what_the_schemas_say():
    assert ENGLISH.read_text("utf-8") == english_text(), "write it anew: python tests/nodes/test_locales.py"


def test_there_is_chinese():
    assert LOCALES / "zh" / "nodeDefs.json" in FILES


@pytest.mark.parametrize("path", [p for p in FILES if p != ENGLISH], ids=lambda path: path.parent.name)
def test_every_text_is_translated(path):
    found = json.loads(path.read_text("utf-8"))
    assert found.keys() == schemas().keys()
    for name, schema in schemas().items():
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
        assert not MESSAGE_SIGNS & set(text), text


# Texts of the pack's own widgets (web/js/i18n.js).

STRING = r'"(?:[^"\\]|\\.)*"'


def widget_texts() -> set[str]:
    """Every text that is translated in the sources: the first argument of t(), or the one text constant given to it."""
    found = set()
    for path in WEB.glob("*.js"):
        source = path.read_text("utf-8")
        constants = dict(re.findall(rf"^const ([A-Z]+) =\s*({STRING}(?:\s*\+\s*{STRING})*);", source, re.MULTILINE))
        for literal, constant in re.findall(rf"\bt\(\s*(?:({STRING})|([A-Z]+)\b)", source):
            texts = re.findall(STRING, literal or constants[constant])
            found.add("".join(json.loads(text) for text in texts))
    return found


def translations(language: str) -> dict[str, str]:
    source = (WEB / f"i18n_{language}.js").read_text("utf-8")
    body = source[source.index("= {") :]
    pairs = re.findall(rf"^\s*(?:({STRING})|(\w+)):\s*({STRING}),$", body, re.MULTILINE)
    return {word or json.loads(text): json.loads(value) for text, word, value in pairs}


def test_every_text_of_the_widgets_is_translated():
    chinese = translations("zh")
    assert len(widget_texts()) > 30 and widget_texts() == chinese.keys()
    for text, value in chinese.items():
        names = [sorted(re.findall(r"\{\w+\}", side)) for side in (text, value)]
        assert value.strip() and names[0] == names[1], text


if __name__ == "__main__":
    ENGLISH.parent.mkdir(exist_ok=True)
    ENGLISH.write_text(english_text(), encoding="utf-8")
