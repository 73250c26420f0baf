"""The timeline widget in a page of ComfyUI, as a user sees it."""

import json

import pytest
from longtake.samplers.prompts.timeline import parse_timeline

LENGTH, FPS = 293, 16
LINES = "0s: a lighthouse at dawn\n6s: storm clouds gather\n12s: sunset"


def timeline_graph(
    events=LINES, length=LENGTH, fps=FPS, blend=0, size=(520, 640), count=1, windows=(), latent=0,
    latent_kind="EmptyHunyuanLatentVideo",
):  # fmt: skip
    """Timeline nodes; with `windows` (first widgets of a window scheduler) and `latent` (length of an empty latent),
    these as nodes 9 and 8, wired to nothing."""
    node = {
        "type": "LongTakePromptTimeline", "size": list(size), "flags": {}, "order": 0, "mode": 0, "properties": {},
        "inputs": [{"name": "clip", "type": "CLIP", "link": None}],
        "outputs": [
            {"name": "conditioning", "type": "CONDITIONING", "links": None},
            {"name": "report", "type": "STRING", "links": None},
        ],
        "widgets_values": ["a cliff", events, length, fps, blend],
    }  # fmt: skip
    nodes = [{**node, "id": i + 1, "pos": [600 * i, 0]} for i in range(count)]
    if windows:
        rest = [0, "pyramid", False, 0.005, 0.0005, 1, 1, "as_is", 0, 0]
        scheduler = {"type": "LongTakeWindowScheduler", "size": [300, 600], "id": 9, "pos": [900, 0], "flags": {}}
        scheduler |= {"order": 0, "mode": 0, "properties": {}, "inputs": [], "outputs": []}
        nodes.append({**scheduler, "widgets_values": [*windows, *rest]})
    if latent:
        empty = {"type": latent_kind, "title": "Latent", "size": [300, 160], "id": 8, "pos": [1250, 0], "flags": {}}
        empty |= {"order": 0, "mode": 0, "properties": {}, "inputs": []}
        empty["outputs"] = [{"name": "LATENT", "type": "LATENT"}]
        nodes.append({**empty, "widgets_values": [64, 64, latent, 1]})
    return {"last_node_id": 9, "last_link_id": 0, "nodes": nodes, "links": [], "groups": [], "version": 0.4}


class Timeline:
    """The widget of node 1, as a user sees it."""

    def __init__(self, comfy, **values):
        self.comfy, self.page = comfy, comfy.page
        self.comfy.load(timeline_graph(**values))
        self.root = self.page.locator(".longtake-timeline").first
        self.root.wait_for()
        self.page.wait_for_timeout(400)
        self.page.evaluate(  # where no menu of the page is, whatever the renderer makes of the node's height
            """() => {
                const canvas = window.app.canvas, { ds } = canvas;
                const box = document.querySelector('.longtake-timeline').getBoundingClientRect();
                const by = [150 - box.left, 500 - box.top].map((d) => d / ds.scale);
                ds.offset = [ds.offset[0] + by[0], ds.offset[1] + by[1]];
                canvas.setDirty(true, true);
            }"""
        )
        self.page.wait_for_timeout(400)

    def __getitem__(self, selector):
        return self.root.locator(selector)

    def block(self, i):
        return self[".lt-block"].nth(i)

    def text(self):
        return self.comfy.widget(1, "events")

    def until(self, condition):
        """Wait until a JavaScript condition holds for the node's `text`."""
        value = "window.app.graph.getNodeById(1)?.widgets.find((w) => w.name === 'events').value"
        try:
            self.page.wait_for_function(f"() => {{ const text = {value}; return {condition}; }}", timeout=10_000)
        except Exception as error:
            raise AssertionError(f"{condition}: the text is {self.text()!r}") from error

    def wait_for(self, text):
        self.until(f"text === {json.dumps(text)}")

    def drag(self, element, dx, steps=8, drop=True):
        box = element.bounding_box()
        x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.page.mouse.move(x, y)
        self.page.mouse.down()
        self.page.mouse.move(x + dx, y, steps=steps)
        if drop:
            self.page.mouse.up()

    def drag_times(self, border):
        """Milliseconds of 60 pointer moves that drag a border, with the layout that each causes, the quickest first;
        and of the slowest without it."""
        return self.page.evaluate(
            """async (border) => {
            const view = window.app.graph.getNodeById(1).longtakeTimeline.view, out = [];
            const handle = view.handles[border], box = handle.getBoundingClientRect(), y = box.y + 20;
            const x = box.x + box.width / 2;
            const send = (type, x) => handle.dispatchEvent(new PointerEvent(type,
                { bubbles: true, clientX: x, clientY: y, button: 0, pointerId: 1 }));
            view.sheet.setPointerCapture = () => {};
            send('pointerdown', x);
            for (let k = 0; k < 60; k++) {
                const began = performance.now();
                send('pointermove', x + 30 * Math.sin(k / 4));
                view.sheet.offsetWidth;  // with the layout that it causes
                out.push(performance.now() - began);
                await new Promise(requestAnimationFrame);
            }
            send('pointerup', x + 9);
            delete view.sheet.setPointerCapture;
            return [out.sort((a, b) => a - b), view.input.slowest];
        }""",
            border,
        )

    def shown(self):
        """What the blocks show: [(prompt, left %, width %)]."""
        return self.page.evaluate(
            "() => [...document.querySelectorAll('.longtake-timeline')][0] && "
            "[...document.querySelectorAll('.longtake-timeline')[0].querySelectorAll('.lt-block')].map((b) => "
            "[b.querySelector('.lt-text').textContent, parseFloat(b.style.left), parseFloat(b.style.width)])"
        )

    def settle(self):
        """Wait until the blocks show what the parser makes of the text."""
        values = [self.comfy.widget(1, name) for name in ("events", "length", "fps")]
        wanted = [
            [" ".join(e.text.split())[:100], 100 * e.start / values[1], 100 * (e.end - e.start) / values[1]]
            for e in parse_timeline(*values)
        ]
        for _ in range(50):
            shown = self.shown()
            shown = [[text[:100], left, width] for text, left, width in shown]
            if [s[0] for s in shown] == [w[0] for w in wanted] and all(
                s[1:] == pytest.approx(w[1:], abs=1e-3) for s, w in zip(shown, wanted, strict=True)
            ):
                return
            self.page.wait_for_timeout(100)
        assert shown == wanted
