"""Redo this event, in the timeline's menu, in a real Chromium on a real ComfyUI, in both of its node renderers."""

import pytest
from safetensors.torch import load_file
from support.browser import RENDERERS, SMALL

pytestmark = pytest.mark.browser

TIMELINE, SPAN, SAMPLER, DECODE = "LongTakePromptTimeline", "LongTakeRedoSpan", "KSampler", "VAEDecode"
NODES = """() => window.app.graph._nodes.map((node) => ({
    id: Number(node.id), type: node.type, title: node.title, box: [...node.pos, ...node.size],
    from: Object.fromEntries((node.inputs ?? []).filter((i) => i.link != null).map((i) => {
        const link = window.app.graph.links.get(i.link);
        return [i.name, [Number(link.origin_id), link.origin_slot]];
    })),
    values: Object.fromEntries((node.widgets ?? []).map((w) => [w.name, w.value])),
}))"""


class Graph:
    def __init__(self, comfy, name="timeline", **values):
        self.comfy, self.page = comfy, comfy.page
        comfy.load(name)
        comfy.set_all({**SMALL, **values})
        self.save_latents()

    def save_latents(self):
        """Behind every sampler that is decoded."""
        self.page.evaluate(
            """() => {
                const { graph } = window.app, decode = graph._nodes.find((n) => n.type === "VAEDecode");
                const { origin_id, origin_slot } = graph.links.get(decode.inputs[0].link);
                const save = window.LiteGraph.createNode("SaveLatent");
                save.pos = [decode.pos[0], decode.pos[1] - 300];
                graph.add(save);
                graph.getNodeById(origin_id).connect(origin_slot, save, 0);
            }"""
        )

    def nodes(self):
        return {node["id"]: node for node in self.page.evaluate(NODES)}

    def of(self, kind):
        """In the order in which they came."""
        return [node for _, node in sorted(self.nodes().items()) if node["type"] == kind]

    def run(self):
        """The latent that is decoded."""
        self.comfy.queue()
        entry = self.comfy.wait_idle()
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
        (saved,) = [file for output in entry["outputs"].values() for file in output.get("latents", ())]
        return load_file(self.comfy.server.output / saved["subfolder"] / saved["filename"])["latent_tensor"]

    def menu(self, timeline, event):
        self.comfy.focus(timeline, 0.7)
        own = self.page.evaluate_handle(
            "id => window.app.graph.getNodeById(id).longtakeTimeline.view.root", timeline
        ).as_element()
        self.page.wait_for_function("root => root.querySelectorAll('.lt-block').length === 3", arg=own)
        own.query_selector_all(".lt-block")[event - 1].click(button="right")
        item = self.page.locator(".longtake-menu .lt-redo")
        item.wait_for()
        return item

    def redo(self, timeline, event):
        """What the page then says."""
        self.page.evaluate("() => window.app.extensionManager.toast.removeAll()")
        self.menu(timeline, event).click()
        self.page.wait_for_timeout(800)
        texts = self.page.locator(".p-toast-message").all_text_contents()
        return " ".join(text for text in texts if "legacy design" not in text)  # core's own

    def selected(self):
        return self.page.evaluate("() => Object.values(window.app.canvas.selected_nodes).map((n) => Number(n.id))")


def changed(one, other):
    """The latent frames in which two videos differ."""
    return [i for i in range(one.shape[2]) if not one[:, :, i].equal(other[:, :, i])]


def overlapping(nodes):
    boxes = [(n["title"], *n["box"]) for n in nodes.values()]
    return [
        (a[0], b[0]) for i, a in enumerate(boxes) for b in boxes[i + 1 :]
        if a[1] < b[1] + b[3] and b[1] < a[1] + a[3] and a[2] < b[2] + b[4] and b[2] < a[2] + a[4]
    ]  # fmt: skip


def test_an_event_is_made_anew_and_nothing_else(comfy, renderer):
    """Also where the sampler takes another seed after each run, as ComfyUI's own do at first."""
    seed = 60 + list(RENDERERS).index(renderer)
    g = Graph(comfy, seed=seed, control_after_generate="randomize")
    (timeline,), (sampler,) = g.of(TIMELINE), g.of(SAMPLER)
    video = g.run()
    assert not comfy.page.locator(".lt-reel").first.is_visible()  # without previews there are no frames
    assert comfy.widget(sampler["id"], "seed") != seed
    before = g.nodes()
    told = g.redo(timeline["id"], 2)
    assert "Run makes event 2 again" in told and "once more" not in told
    (span,), (_, copy), (_, again) = g.of(SPAN), g.of(TIMELINE), g.of(SAMPLER)
    assert len(g.nodes()) == len(before) + 3 and g.selected() == [span["id"]]
    assert overlapping({i: n for i, n in g.nodes().items() if i not in before or i == sampler["id"]}) == []
    assert span["from"] == {"samples": [sampler["id"], 0], "positive": [copy["id"], 0]}
    wanted = {"by": "event", "event": 2, "fps": SMALL["fps"], "compression": 4, "pull": 0.5, "arrive": 16}
    assert {name: span["values"][name] for name in wanted} == wanted
    assert again["from"] == {
        **sampler["from"], "positive": [copy["id"], 0], "latent_image": [span["id"], 0]
    }  # fmt: skip
    assert g.of(DECODE)[0]["from"]["samples"] == [again["id"], 0]
    first = g.nodes()[sampler["id"]]["values"]
    assert [first["seed"], first["control_after_generate"]] == [seed, "fixed"]
    assert [again["values"]["seed"], again["values"]["control_after_generate"]] == [seed + 1, "randomize"]

    redone = g.run()
    assert changed(video, redone) == list(range(9, 21))  # pixel frames 33 to 64 of 97, and 16 behind them
    comfy.widget(again["id"], "control_after_generate", "fixed")
    comfy.widget(again["id"], "seed", seed + 1)
    comfy.widget(copy["id"], "events", "bouncing | spinning | sliding")
    other = g.run()
    assert changed(video, other) == changed(redone, other) == list(range(9, 21))

    assert "Run makes event 3 again" in g.redo(timeline["id"], 3)  # behind it: event 2 stays as it is now
    both = g.run()
    assert changed(other, both) == list(range(17, 25)) and changed(video, both) == list(range(9, 25))


def test_one_undo_takes_it_back(comfy, renderer):
    g = Graph(comfy, control_after_generate="randomize")
    (timeline,) = g.of(TIMELINE)
    comfy.page.mouse.click(5, 600)  # ComfyUI takes its undo step
    comfy.page.wait_for_timeout(500)

    def brief():
        return {i: (n["type"], n["from"], n["values"].get("control_after_generate")) for i, n in g.nodes().items()}

    before = brief()
    g.redo(timeline["id"], 1)
    after = brief()
    assert len(after) == len(before) + 3 and all(i == int(i) for i in after)  # "undefined" would be none
    comfy.page.wait_for_timeout(500)
    stepped, now = comfy.page.evaluate(
        """() => {
            const { activeState } = window.app.extensionManager.workflow.activeWorkflow.changeTracker;
            const sizes = (graph) => graph.nodes.map((n) => [n.type, ...Object.values(n.size)]);
            return [sizes(activeState), sizes(window.app.graph.serialize())];
        }"""
    )
    assert renderer == "vue" or stepped == now  # a node that grows afterwards is a step of its own; Vue measures late
    comfy.page.evaluate("() => window.app.canvas.canvas.focus()")
    comfy.undo()
    comfy.page.wait_for_function("n => window.app.graph._nodes.length === n", arg=len(before))
    assert brief() == before
    comfy.page.wait_for_timeout(700)  # until ComfyUI has undone it
    comfy.undo("y")
    comfy.page.wait_for_function("n => window.app.graph._nodes.length === n", arg=len(after))
    assert brief() == after


def test_a_redo_span_that_is_there_is_used(comfy, renderer):
    g = Graph(comfy, "redo_event")
    (first, second), (span,) = g.of(TIMELINE), g.of(SPAN)
    count = len(g.nodes())
    assert g.redo(second["id"], 2) == "" and g.selected() == [span["id"]]  # it is this one
    assert g.redo(first["id"], 2) == "" and len(g.nodes()) == count
    comfy.widget(span["id"], "by", "seconds")
    g.redo(second["id"], 2)
    told = g.redo(second["id"], 3)
    assert "Redo Span makes event 3 now" in told and "Event 2 is again as the first sampler made it" in told
    values = g.of(SPAN)[0]["values"]
    assert [values["by"], values["event"]] == ["event", 3] and len(g.nodes()) == count


def test_a_sampler_with_a_guider_and_noise(comfy, renderer):
    g = Graph(comfy, "syncos_three", noise_seed=70 + list(RENDERERS).index(renderer))
    (timeline,) = g.of(TIMELINE)
    before = g.nodes()
    told = g.redo(timeline["id"], 1)
    assert "has not been made yet" in told or "has changed" in told
    (guider, guider_again), (noise, noise_again) = g.of("CFGGuider"), g.of("RandomNoise")
    (_, copy), (span,), (_, again) = g.of(TIMELINE), g.of(SPAN), g.of("SamplerCustomAdvanced")
    assert len(g.nodes()) == len(before) + 5
    assert guider_again["from"] == {**guider["from"], "positive": [copy["id"], 0]}
    assert noise_again["values"]["noise_seed"] == noise["values"]["noise_seed"] + 1
    wanted = {"guider": [guider_again["id"], 0], "noise": [noise_again["id"], 0], "latent_image": [span["id"], 0]}
    assert {name: again["from"][name] for name in wanted} == wanted
    assert g.run().shape[2] == 25


def test_where_it_cannot_be_the_menu_says_why(comfy, renderer):
    g = Graph(comfy)
    (timeline,), (sampler,) = g.of(TIMELINE), g.of(SAMPLER)

    def why():
        item = g.menu(timeline["id"], 1)
        text = item.text_content()
        assert item.is_disabled()
        comfy.page.keyboard.press("Escape")
        return text.removeprefix("Redo this event")

    comfy.page.evaluate(
        """([id, timeline]) => {
            const { graph } = window.app, copy = graph.getNodeById(id).clone();
            Object.assign(copy, { pos: [0, 2000], id: -1 });
            graph.add(copy);
            graph.getNodeById(timeline).connect(0, copy, copy.findInputSlot("positive"));
        }""",
        [sampler["id"], timeline["id"]],
    )
    assert why() == "several samplers get its prompts"
    for node in g.of(SAMPLER):
        comfy.remove(node["id"])
    assert why() == "no sampler gets its prompts"
