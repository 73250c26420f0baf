"""The pictures of nodes on their help pages, taken from a page of ComfyUI, so that they show the widgets of today.

    python3 start.py serve --cpu                                     # in another terminal
    python3 -m tools.help_pictures http://127.0.0.1:8188 LongTakeVMCR  # those named; without names all of PICTURES

From the repository's root. Needs Playwright with Chromium (LONGTAKE_CHROMIUM: its path), and Pillow, which ComfyUI
brings. The server's own settings are neither used nor changed. Those of RUN are taken after a run of their template,
which puts videos into the server's output folder; those of GROUPS after several, which add to what it has measured.
"""

import contextlib
import io
import json
import os
import shutil
import sys

from PIL import Image

from .make_workflows import WORKFLOWS, file_name

DOCS = WORKFLOWS.parent / "web" / "docs"
# Picture: its template, the types or titles of the nodes in it, which lie as in the template, and values of their
# widgets.
CUSTOM = {"preset": "custom"}  # the other presets turn widgets grey
PICTURES = {
    "LongTakeWindowScheduler": ("glc_x6", ["LongTakeWindowScheduler"], {}),
    "LongTakeVMCR": ("glc_x6", ["KSamplerSelect", "LongTakeVMCR"], {}),
    "LongTakeSynCoSSampler": ("syncos_three", ["LongTakeSynCoSSampler"], CUSTOM),
    "LongTakeSynCoSKSampler_node": ("syncos_four", ["LongTakeSynCoSKSampler"], CUSTOM),
    "LongTakePromptTimeline": ("timeline", ["LongTakePromptTimeline"], {}),
    "LongTakeRedoSpan": ("redo_event", ["LongTakeRedoSpan"], {}),
    "LongTakeCompare": ("compare", ["LongTakeCompare"], {}),
    "LongTakeVideoMetrics": ("measure", ["Left: Video Metrics"], {}),
    "LongTakeCompareMetrics": ("measure", ["LongTakeCompareMetrics"], {"saved": "plain | glc"}),
}  # fmt: skip
RUN = {  # picture: what is clicked after the run
    "LongTakePromptTimeline": ".longtake-timeline .lt-block >> nth=1", "LongTakeCompare": None,
    "LongTakeVideoMetrics": None, "LongTakeCompareMetrics": None,
}  # fmt: skip
GROUPS = {  # picture: with how many seeds its template is run before, and the name of each Video Metrics' results
    "LongTakeCompareMetrics": (10, {"Left: Video Metrics": "plain", "Right: Video Metrics": "glc"}),
}
# Gives all samplers a seed, and Video Metrics the names under which they keep what they measure.
GROUP = """([seed, names]) => {
    for (const node of window.app.graph._nodes)
        for (const widget of node.widgets ?? []) {
            if (widget.name === "seed") widget.value = seed;
            if (widget.name === "save_as") widget.value = names[node.title];
        }
}"""
UNLINK = """(kind) => window.app.graph._nodes.filter((node) => node.type === kind)
    .forEach((node) => node.inputs.forEach((_, slot) => node.disconnectInput(slot)))"""
RUNNING = "async () => Object.values(await (await fetch('/queue')).json()).flat().length > 0"
ENDS = "async () => Object.values(await (await fetch('/history')).json()).map((run) => run.status.status_str)"
# In pixels: the page, where in it the picture begins, and what is shown around the nodes. And JPEG's quality.
SIZE, CORNER, MARGIN, QUALITY = {"width": 1500, "height": 2400}, (400, 120), 30, 88
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Locale": "en", "Comfy.VueNodes.Enabled": False,
            "Comfy.Minimap.Visible": False, "Comfy.Workflow.ShowMissingModelsWarning": False,
            "Comfy.Workflow.Persist": False, "Comfy.Canvas.SelectionToolbox": False}  # fmt: skip
READY = """() => window.app?.graph && window.app.extensionManager?.setting &&
    window.LiteGraph?.registered_node_types.KSampler"""
# Brings nodes of these types into view at scale 1; gives their number, and the size of the part to take.
SHOW = """([kinds, values, [left, top], margin]) => {
    const { graph, canvas } = window.app;
    const nodes = graph._nodes.filter((node) => kinds.includes(node.type) || kinds.includes(node.title));
    for (const widget of nodes.flatMap((node) => node.widgets)) {
        if (!(widget.name in values)) continue;
        widget.value = values[widget.name];
        widget.callback?.(widget.value);
    }
    const edge = (pick, of) => pick(...nodes.map(of));
    const x = edge(Math.min, (node) => node.pos[0]) - margin;
    const y = edge(Math.min, (node) => node.pos[1] - window.LiteGraph.NODE_TITLE_HEIGHT) - margin;
    canvas.ds.scale = 1;
    canvas.ds.offset = [left - x, top - y];
    canvas.setDirty(true, true);
    const right = edge(Math.max, (node) => node.pos[0] + node.size[0]) + margin;
    return [nodes.length, right - x, edge(Math.max, (node) => node.pos[1] + node.size[1]) + margin - y];
}"""


def load(page, template):
    """Show a template."""
    graph = json.loads((WORKFLOWS / f"{file_name(template)}.json").read_text(encoding="utf-8"))
    page.evaluate("g => window.app.loadGraphData(g, true, true, null)", graph)
    page.wait_for_timeout(1500)


def queue(page, watch=lambda: None):
    """Run the page's graph, to its end; watch: called meanwhile."""
    before = page.evaluate(ENDS)
    page.evaluate("() => window.app.queuePrompt(0, 1)")
    while page.evaluate(RUNNING):
        watch()
        page.wait_for_timeout(500)
    page.wait_for_timeout(4000)  # until the page has said that it is done
    ends = page.evaluate(ENDS)
    if len(ends) <= len(before) or ends[-1] != "success":
        raise SystemExit("the server refused the graph, or its run failed: see its log")


def take(page, name):
    """A picture of a template's nodes, as the page shows them."""
    template, kinds, values = PICTURES[name]
    load(page, template)
    seeds, names = GROUPS.get(name, (0, {}))
    for seed in range(seeds):
        page.evaluate(GROUP, [seed + 1, names])
        queue(page)
    if seeds:
        page.evaluate(UNLINK, kinds[0])  # it reads what was kept alone
    found, width, height = page.evaluate(SHOW, [kinds, values, CORNER, MARGIN])
    if found != len(kinds):
        raise SystemExit(f"{template} has {found} nodes of {', '.join(kinds)}")
    if name in RUN:
        queue(page)
        found, width, height = page.evaluate(SHOW, [kinds, values, CORNER, MARGIN])  # nodes have grown
    if RUN.get(name):
        page.wait_for_timeout(500)
        page.locator(RUN[name]).click()
        page.evaluate("() => window.app.canvas.deselectAll()")
    page.wait_for_timeout(2500)  # the chart asks the server
    clip = {"x": CORNER[0], "y": CORNER[1], "width": width, "height": height}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


@contextlib.contextmanager
def opened(url, size):
    """A page of `size` with ComfyUI in it, ready."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("LONGTAKE_CHROMIUM") or shutil.which("chromium"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport=size)
        page.route("**/settings", lambda route: route.fulfill(json=SETTINGS))
        page.goto(url, timeout=120_000)
        page.wait_for_function(READY, timeout=120_000)
        page.wait_for_timeout(2000)
        page.keyboard.press("Escape")
        yield page
        browser.close()


def main(url="http://127.0.0.1:8188", *names):
    with opened(url, SIZE) as page:
        for name in names or PICTURES:
            take(page, name).save(DOCS / f"{name}.jpg", quality=QUALITY)


if __name__ == "__main__":
    main(*sys.argv[1:])
