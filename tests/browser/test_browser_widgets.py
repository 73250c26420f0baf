"""What the pages do to ComfyUI's own widgets of our nodes, in a real Chromium on a real ComfyUI, in both renderers."""

import re

import pytest
from longtake.nodes.syncos import COUPLING
from support.graphs import read
from support.paths import ROOT

pytestmark = pytest.mark.browser

BOXES = ["scenario", "reply", "global_prompt", "events"]


def graph(*kinds, values=()):
    nodes = [
        {"id": i, "type": kind, "pos": [600 * i, 0], "size": [340, 700], "flags": {}, "order": 0, "mode": 0,
         "properties": {}, "inputs": [], "outputs": [], **({"widgets_values": values} if values else {})}
        for i, kind in enumerate(kinds, 1)
    ]  # fmt: skip
    return {"last_node_id": 9, "last_link_id": 0, "nodes": nodes, "links": [], "groups": [], "version": 0.4}


def test_text_boxes_have_their_names_over_them(comfy, renderer):
    comfy.load(graph("LongTakeStructuredPrompt", "LongTakePromptTimeline", "CLIPTextEncode"))
    comfy.focus(1, 0.6)
    shown = comfy.page.evaluate(
        """() => [...document.querySelectorAll("textarea")].map((box) => {
            const { backgroundImage, borderTopWidth } = getComputedStyle(box);
            return borderTopWidth === "16px" ? />([^<]+)<.text/.exec(decodeURIComponent(backgroundImage))?.[1] : "";
        })"""
    )
    labels = "() => [...document.querySelectorAll('textarea')].flatMap((b) => [...b.labels].map((l) => l.textContent))"
    named = comfy.page.evaluate("() => [...document.querySelectorAll('textarea')].map((b) => b.ariaLabel)")
    if theirs := comfy.page.evaluate(labels):  # newer ComfyUI has labels in nodes of HTML: ours would be a second one
        assert [name for name in theirs if name in BOXES] == BOXES and not any(shown)
    else:
        assert [name for name in shown if name] == BOXES  # not over those of other nodes
        assert [name for name in named if name in BOXES] == BOXES


@pytest.mark.parametrize("kind", ["LongTakeSynCoSSampler", "LongTakeSynCoSKSampler"])
def test_widgets_that_a_preset_does_without_are_grey(comfy, renderer, kind):
    comfy.load(graph(kind))
    comfy.focus(1, 0.8)
    names = "() => window.app.graph.getNodeById(1).widgets.map((w) => w.name)"
    order = comfy.page.evaluate(names)

    def grey():
        comfy.page.wait_for_timeout(400)
        return comfy.page.evaluate(names.replace("widgets", "widgets.filter((w) => w.disabled)"))

    def html():
        """Of the nodes of HTML: numbers that cannot be typed into."""
        return comfy.page.locator("[data-node-id='1'] input:disabled").count()

    assert sorted(grey()) == sorted(COUPLING)
    assert renderer == "canvas" or html() >= 7
    before = comfy.serialized()["nodes"][0]["widgets_values"]
    comfy.widget(1, "preset", "custom")
    assert grey() == [] and (renderer == "canvas" or html() == 0)
    comfy.widget(1, "preset", "paper")
    assert sorted(grey()) == sorted(COUPLING)
    comfy.load(graph(kind, values=["custom" if value == "balanced" else value for value in before]))
    assert grey() == []  # as a saved graph says
    assert comfy.page.evaluate(names) == order


def test_a_chinese_page_shows_our_nodes_inputs_and_chart_in_chinese(comfy, renderer):
    texts = read(ROOT / "locales" / "zh" / "nodeDefs.json")["LongTakeWindowScheduler"]
    comfy.server.request("/settings", {"Comfy.Locale": "zh"})
    try:
        with comfy.another(lambda page: None) as page:
            page.load(graph("LongTakeWindowScheduler"))
            shown = page.page.evaluate(
                """() => {
                    const { title, widgets, inputs } = window.app.graph.getNodeById(1);
                    return [title, widgets[0].label, inputs[0].label ?? inputs[0].localized_name];
                }"""
            )
            assert shown[:2] == [texts["display_name"], texts["inputs"]["window_length"]["name"]]
            assert shown[2] == texts["inputs"]["model"]["name"]
            page.page.locator(".longtake-chart .cost").filter(has_text="\u7a97\u53e3").wait_for()
            assert page.errors == []
    finally:
        comfy.server.request("/settings", {"Comfy.Locale": "en"})


def test_the_page_knows_which_widgets_a_preset_overrides():
    source = (ROOT / "web" / "js" / "presets.js").read_text("utf-8")
    assert re.findall(r'"(\w+)"', re.search(r"IGNORED = \[([^\]]+)\]", source)[1]) == list(COUPLING)
