"""ComfyUI in a real Chromium.

A test module marks itself with `pytestmark = pytest.mark.browser`; `pytest -m "not browser"` leaves these tests out.
Without Playwright or Chromium they fail and say what to install.
"""

import contextlib
import os
import shutil
import time

import av
import pytest

from .graphs import ui_graph

CHROMIUM = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
RENDERERS = {"canvas": False, "vue": True}  # value of Comfy.VueNodes.Enabled
WIDGETS = {"LongTakeWindowScheduler": ".longtake-chart", "LongTakePromptTimeline": ".longtake-timeline",
           "LongTakeLoadRun": ".longtake-runs"}  # fmt: skip
FRAMES = 97  # three windows of 49 frames
SMALL = {"length": FRAMES, "steps": 2, "preset": "fast", "fps": 4}  # fps: events given in seconds lie in the video
SETTINGS = {"Comfy.TutorialCompleted": True, "Comfy.Workflow.ShowMissingModelsWarning": False,
            "Comfy.Workflow.ShowMissingNodesWarning": False, "Comfy.Workflow.Persist": False, "Comfy.Locale": "en",
            "Comfy.Notification.ShowVersionUpdates": False, "Comfy.VueNodes.Enabled": False}  # fmt: skip
# What ComfyUI's own page says in a server without network and without a user's files.
CORE_NOISE = ("/favicon.ico", "/userdata", "/user.css", "/releases", "ERR_INTERNET_DISCONNECTED",
              "ERR_NAME_NOT_RESOLVED", "api.comfy.org", "googleapis", "firebase", "googletagmanager",
              "primevue/blockui",  # its veil over the page, while a file that was dropped is read
              "/missingModelMetadata", "Missing Link ID when unpacking",  # of widgets that it shows on a subgraph
              "cleanup event listeners for graph that was never set up")  # fmt: skip


def find_chromium(playwright) -> str:
    """Path of the browser: LONGTAKE_CHROMIUM, the system's, or Playwright's own."""
    named = os.environ.get("LONGTAKE_CHROMIUM")
    found = named or next(filter(None, map(shutil.which, CHROMIUM)), None)
    found = found or playwright.chromium.executable_path
    if not (found and os.path.exists(found)):
        pytest.fail(
            "browser tests need Chromium: install it (Debian, Ubuntu: apt install chromium), or set LONGTAKE_CHROMIUM "
            'to its path, or leave these tests out with -m "not browser"',
            pytrace=False,
        )
    return found


class ComfyPage:
    """One browser page on a ComfyUI server. `page` is Playwright's; `errors` holds the console's errors so far.
    Nodes are named by their ids in the graph in view."""

    def __init__(self, server, page):
        self.server, self.page, self.errors = server, page, []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.add(f"{error}\n{error.stack or ''}"))

    def _console(self, message):
        text = f"{message.text} ({message.location.get('url', '')})"
        if message.type == "error":
            self.add(text)

    def add(self, text):
        if not any(noise in text for noise in CORE_NOISE):
            self.errors.append(text)

    def open(self):
        """Load ComfyUI and wait until its graph can be used."""
        self.page.goto(self.server.url, timeout=120_000)
        self.page.wait_for_function(
            "() => window.app?.graph && window.app?.canvas && window.app?.extensionManager?.setting && "
            "window.LiteGraph?.registered_node_types.KSampler && !document.querySelector('#comfy-loading, #splash')",
            timeout=120_000,
        )
        self.page.wait_for_timeout(1500)  # start-up goes on after the graph is there
        self.page.keyboard.press("Escape")
        self.errors = [error for error in self.errors if "longtake" in error.lower()]  # the page has errors of its own
        return self

    @contextlib.contextmanager
    def another(self, prepare):
        """A second page in the same browser, with nothing of this one's. prepare(page) runs before it loads."""
        page = self.page.context.browser.new_page(viewport=self.page.viewport_size)
        try:
            prepare(page)
            yield ComfyPage(self.server, page).open()
        finally:
            page.context.close()

    def command(self, name):
        """Run one of the commands of ComfyUI's menus."""
        self.page.evaluate("name => window.app.extensionManager.command.execute(name)", name)
        self.page.wait_for_timeout(500)

    def setting(self, name, value):
        """Change one of the user's settings, as the settings dialog does."""
        self.page.evaluate("([n, v]) => window.app.extensionManager.setting.set(n, v)", [name, value])
        self.page.wait_for_timeout(300)

    def renderer(self, name):
        """Switch between ComfyUI's node renderers: 'canvas' or 'vue'."""
        self.setting("Comfy.VueNodes.Enabled", RENDERERS[name])

    def theme(self, name):
        """'dark' or 'light'."""
        self.setting("Comfy.ColorPalette", name)

    def load(self, graph):
        """Load a UI graph: a dict, or the name of one of the pack's workflows. Returns the graph."""
        if isinstance(graph, str):
            graph = ui_graph(graph)
        self.page.evaluate("g => window.app.loadGraphData(g, true, true, null)", graph)
        self.page.wait_for_function("n => window.app.graph._nodes.length === n", arg=len(graph["nodes"]))
        self.page.wait_for_timeout(300)
        return graph

    def fit(self):
        """Zoom so that the whole graph (or the selection) is in view."""
        self.command("Comfy.Canvas.FitView")

    def focus(self, node_id, scale=1.0):
        """Bring one node to the upper left of the view, at a zoom of `scale`."""
        self.page.evaluate(
            """([id, scale]) => {
                const node = window.app.canvas.graph.getNodeById(id), ds = window.app.canvas.ds;
                ds.scale = scale;
                ds.offset = [-node.pos[0] + 120 / scale, -node.pos[1] + 120 / scale];
                window.app.canvas.setDirty(true, true);
            }""",
            [node_id, scale],
        )
        self.page.wait_for_timeout(400)

    def widget(self, node_id, name, value=None):
        """Value of a widget; with `value`, set it first as a user's edit does (callbacks run)."""
        return self.page.evaluate(
            """([id, name, value]) => {
                const node = window.app.canvas.graph.getNodeById(id);
                const widget = node.widgets.find((w) => w.name === name);
                if (value !== null) { widget.value = value; widget.callback?.(value, window.app.canvas, node); }
                return widget.value;
            }""",
            [node_id, name, value],
        )

    def set_all(self, values):
        """Set every widget of a name, on whatever nodes, those in subgraphs too: {name: value}."""
        self.page.evaluate(
            """values => {
                const visit = (graph) => graph._nodes.forEach((node) => {
                    for (const widget of node.widgets ?? []) {
                        if (!(widget.name in values)) continue;
                        widget.value = values[widget.name];
                        widget.callback?.(widget.value, window.app.canvas, node);
                    }
                    if (node.subgraph) visit(node.subgraph);
                });
                visit(window.app.graph);
            }""",
            values,
        )

    def serialized(self):
        """The graph as it would be saved."""
        return self.page.evaluate("() => window.app.graph.serialize()")

    def prompt(self):
        """The graph as it would be queued."""
        return self.page.evaluate("async () => (await window.app.graphToPrompt()).output")

    def place(self, x=800, y=500):
        """Put down the node that was chosen in the search: newer pages carry it at the pointer until a click."""
        self.page.wait_for_timeout(500)
        for _ in range(10):
            self.page.mouse.move(x - 10, y)
            self.page.mouse.click(x, y)
            self.page.wait_for_timeout(300)
            if self.page.evaluate("() => window.app.canvas.state?.ghostNodeId == null"):
                return
        raise AssertionError("the node is still at the pointer")

    def undo(self, key="z"):
        """Ctrl+Z (or another key of ComfyUI's undo), both held until it is through, as a hand does it.

        0.3.75 takes a step of its own when a key comes up before it has looked at the next one, or while the graph is
        still being made anew: then that step is taken back instead, or nothing is left to do again.
        """
        for held in ("Control", key):
            self.page.keyboard.down(held)
            self.page.wait_for_function(
                """() => new Promise((resolve) => requestAnimationFrame(() => requestAnimationFrame(() =>
                    resolve(!window.app.extensionManager.workflow.activeWorkflow.changeTracker._restoringState))))"""
            )
        for held in (key, "Control"):
            self.page.keyboard.up(held)

    def missing(self):
        """Types of nodes that this ComfyUI does not have."""
        return self.page.evaluate(
            "() => window.app.graph._nodes.map((node) => node.type)"
            ".filter((type) => !(type in window.LiteGraph.registered_node_types))"
        )

    def remove(self, node_id):
        self.page.evaluate("id => window.app.canvas.graph.remove(window.app.canvas.graph.getNodeById(id))", node_id)
        self.page.wait_for_timeout(300)

    def queue(self):
        """Queue the loaded graph from the page, so that its previews come to this page."""
        self.page.evaluate("() => window.app.queuePrompt(0, 1)")

    def wait_idle(self, seconds=300):
        """Wait until the server's queue is empty. Returns the last history entry."""
        deadline = time.monotonic() + seconds
        while True:
            queue = self.server.request("/queue")[1]
            if not queue["queue_running"] and not queue["queue_pending"]:
                break
            assert time.monotonic() < deadline, f"the queue is not empty after {seconds} s"
            self.page.wait_for_timeout(200)
        history = self.server.request("/history?max_items=1")[1]
        return list(history.values())[-1] if history else None


@contextlib.contextmanager
def open_page(server, size=(1600, 1000), prepare=None):
    """A ComfyPage on a running server; a context manager. prepare(page) runs before it loads."""
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        pytest.fail(
            'browser tests need Playwright: pip install playwright, or leave them out with -m "not browser"',
            pytrace=False,
        )
    status, _ = server.request("/settings", SETTINGS)
    assert status == 200
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(playwright), args=ARGUMENTS)
        try:
            page = browser.new_page(viewport={"width": size[0], "height": size[1]})
            if prepare:
                prepare(page)
            yield ComfyPage(server, page).open()
        finally:
            browser.close()


def run_small(comfy, frames=FRAMES, **more):
    """Queue the page's graph, made small; its videos have all their frames."""
    comfy.set_all({**SMALL, **more})
    comfy.queue()
    entry = comfy.wait_idle()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    paths = comfy.server.files(entry)
    assert paths
    for path in paths:
        with av.open(path) as video:
            assert sum(1 for _ in video.decode(video=0)) == frames
