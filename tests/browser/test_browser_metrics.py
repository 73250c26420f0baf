"""The template that measures two settings, in a real Chromium on a real ComfyUI: tables and plots in the nodes, and the
error of a value that cannot be used, in both of ComfyUI's node renderers."""

import re

import pytest
from support.browser import SMALL
from support.graphs import ui_graph

pytestmark = pytest.mark.browser

METRICS, COMPARE = "LongTakeVideoMetrics", "LongTakeCompareMetrics"
PLOTS = """ids => ids.every((id) => {
    const vue = document.querySelector(`.lg-node[data-node-id="${id}"]`);
    const node = window.app.graph.getNodeById(id);
    const images = vue ? [...vue.querySelectorAll("img")] : node.imgs ?? [];
    return images.length === 1 && images[0].complete && images[0].naturalWidth === 1024;
})"""


def ids(graph, kind):
    return [node["id"] for node in graph["nodes"] if node["type"] == kind]


def tables(comfy, kind):
    """Of each node of a kind: its report's rows of cells."""
    found = comfy.page.evaluate(
        """kind => [...document.querySelectorAll(`.longtake-report[data-of=${kind}]`)].map((report) =>
            [...report.querySelectorAll("tr")].map((row) => [...row.cells].map((cell) => cell.textContent)))""",
        kind,
    )
    return [{row[0]: row[1:] for row in rows} for rows in found]


def test_two_settings_are_measured_and_compared(comfy, renderer):
    graph = comfy.load(ui_graph("measure"))
    for kind, count in ((METRICS, 2), (COMPARE, 1)):
        report = comfy.page.locator(f".longtake-report[data-of={kind}]")
        report.filter(has_text="none yet").nth(count - 1).wait_for(state="attached")
    measured = ids(graph, METRICS)
    comfy.set_all({**SMALL, "seed": 40 + len(renderer)})  # a run of its own, nothing from the cache
    comfy.queue()
    assert comfy.wait_idle()["status"]["status_str"] == "success"
    comfy.fit()
    comfy.page.wait_for_function(PLOTS, arg=[*measured, *ids(graph, COMPARE)], timeout=30_000)
    found, (compared,) = tables(comfy, METRICS), tables(comfy, COMPARE)
    assert len(found) == 2 and found[0] != found[1]
    for table in found:
        assert table["Metric"] == ["Value", "Unit", "Better"] and table["temporal_flicker"][1:] == ["0..1", "higher"]
        assert float(table["seam_change"][0]) > 0 and float(table["scenes"][0]) >= 1
    assert compared["Metric"] == ["Better", "plain windows", "GLC-Diffusion"]
    both = [cell.removesuffix(" one video") for cell in compared["temporal_flicker"][1:]]
    assert sorted(both) == sorted(table["temporal_flicker"][0] for table in found)

    comfy.focus(measured[0], 0.8)
    comfy.widget(measured[0], "boundaries", "33, abc")
    comfy.queue()
    words = "boundaries (33, abc) must be the frames that windows begin with"
    refused = comfy.page.locator(f".longtake-report[data-of={METRICS}] p.refused")
    refused.filter(has_text=words).wait_for(timeout=30_000)
    assert refused.count() == 1
    message = comfy.page.locator(".p-toast-message").filter(has_text=words)
    assert re.search(rf"\(node {measured[0]}\) was refused", message.first.text_content())
    comfy.wait_idle()
    comfy.page.keyboard.press("Escape")  # core's own dialog
    comfy.widget(measured[0], "boundaries", "")
    comfy.queue()
    refused.wait_for(state="detached")
    assert comfy.wait_idle()["status"]["status_str"] == "success"
    comfy.errors[:] = [e for e in comfy.errors if "400" not in e and "PromptExecutionError" not in e]
