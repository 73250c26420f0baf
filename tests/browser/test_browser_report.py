"""Reports in the nodes, and refusals in words, in a real Chromium on a real ComfyUI, in both of its node renderers."""

import re

import pytest
from support.browser import SMALL
from support.graphs import ui_graph

pytestmark = pytest.mark.browser

TIMELINE, SCHEDULER = "LongTakePromptTimeline", "LongTakeWindowScheduler"
WRONG = {TIMELINE: ("events", "0s: a\n99s: b", "past the end of the video"),
         SCHEDULER: ("retain", "abc", "retain (abc) must be")}  # fmt: skip
PREVIEW = """id => {
    const preview = window.LiteGraph.createNode("PreviewAny");
    window.app.graph.add(preview);
    window.app.graph.getNodeById(id).connect(1, preview, 0);
}"""


@pytest.fixture
def ids(comfy, renderer):
    """The graph `timeline` in the page, made small; {type: id}."""
    graph = comfy.load(ui_graph("timeline"))
    comfy.set_all(SMALL)
    return {node["type"]: node["id"] for node in graph["nodes"]}


def report(comfy, kind):
    return comfy.page.locator(f".longtake-report[data-of={kind}]")


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("outputs", ["the video", "the video and another"])
def test_a_refused_graph_says_so_in_words(comfy, ids, kind, outputs):
    """With another output ComfyUI runs that, drops the video and shows neither dialog nor message of its own."""
    name, value, words = WRONG[kind]
    other = TIMELINE if kind == SCHEDULER else SCHEDULER
    if outputs != "the video":
        comfy.page.evaluate(PREVIEW, ids[other])
    before = comfy.widget(ids[kind], name)
    comfy.widget(ids[kind], name, value)
    comfy.focus(ids[kind])
    comfy.queue()
    message = comfy.page.locator(".p-toast-message").filter(has_text=words)
    message.first.wait_for(timeout=30_000)
    assert f"(node {ids[kind]}) was refused" in message.first.text_content()
    refused = report(comfy, kind).locator("p.refused")
    refused.wait_for()
    assert words in refused.text_content() and not report(comfy, other).locator("p.refused").count()
    comfy.wait_idle()
    comfy.page.keyboard.press("Escape")  # core's own dialog

    comfy.widget(ids[kind], name, before)
    comfy.queue()
    refused.wait_for(state="detached")
    message.first.wait_for(state="detached")
    assert comfy.wait_idle()["status"]["status_str"] == "success"
    comfy.errors[:] = [e for e in comfy.errors if "400" not in e and "PromptExecutionError" not in e]


def test_a_run_leaves_its_report_in_the_node(comfy, ids):
    timeline, scheduler = report(comfy, TIMELINE), report(comfy, SCHEDULER)
    first = timeline.locator("td").filter(has_text="a red circle on a navy background, bouncing")
    first.wait_for(state="attached")  # before any run, and where a cached run says nothing
    cost = re.compile(r"cost of 25 latent frames: about \d\.\d\dx plain windows: ")
    scheduler.locator(".item").filter(has_text=cost).wait_for(state="attached")  # before any run
    comfy.queue()
    assert comfy.wait_idle()["status"]["status_str"] == "success"
    comfy.focus(ids[TIMELINE], 0.6)
    timeline.locator("summary").filter(has_text="Report").click()
    rows = timeline.locator("tr")
    rows.nth(3).wait_for()
    assert rows.nth(1).locator("td").all_text_contents()[:2] == ["1", "0 - 31"]
    assert timeline.locator(".item").filter(has_text="Without LongTake windows").is_visible()
    inside = """kind => {
        const root = document.querySelector(`.longtake-report[data-of=${kind}]`).getBoundingClientRect();
        const node = window.app.graph._nodes.find((n) => n.comfyClass === kind), { ds } = window.app.canvas;
        const bottom = (node.pos[1] + node.size[1] + ds.offset[1]) * ds.scale;
        return [root.bottom, bottom];
    }"""
    bottom, border = comfy.page.evaluate(inside, TIMELINE)
    assert bottom < border + 40  # 40: the page's bar
    (saved,) = [node for node in comfy.serialized()["nodes"] if node["type"] == TIMELINE]
    (kept,) = [node for node in ui_graph("timeline")["nodes"] if node["type"] == TIMELINE]
    assert len(saved["widgets_values"]) == len(kept["widgets_values"])


@pytest.mark.parametrize("name, kind, words", [
    ("redo_event", "LongTakeRedoSpan", "pixel frames 33 to 80 of 97 are made (latent 9 to 20); those from 65 on come "
     "back to the old video"),
    ("continue", "LongTakeContinue", "pixel frames 97 to 192 of 193 are made (latent 25 to 48)"),
])  # fmt: skip
def test_nodes_behind_a_finished_video_say_what_they_made(comfy, renderer, name, kind, words):
    graph = comfy.load(name)
    comfy.set_all(SMALL)
    (node,) = [node for node in graph["nodes"] if node["type"] == kind]
    comfy.focus(node["id"])
    summary = report(comfy, kind).locator("summary")
    assert summary.text_content() == "Report: none yet"
    comfy.queue()
    assert comfy.wait_idle()["status"]["status_str"] == "success"
    summary.filter(has_text=re.compile("^Report$")).click()
    line = report(comfy, kind).locator("p")
    assert line.is_visible() and line.text_content() == words
    (saved,) = [one for one in comfy.serialized()["nodes"] if one["type"] == kind]
    names = [one["widget"]["name"] for one in node["inputs"] if "widget" in one]
    expected = dict(zip(names, node["widgets_values"], strict=True))
    if "fps" in expected:
        expected["fps"] = SMALL["fps"]
    assert saved["widgets_values"] == list(expected.values())
