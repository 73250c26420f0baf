"""Editing with the pack's nodes in a real Chromium on a real ComfyUI: copy, paste, undo, removal, subgraphs."""

import json
import re

import pytest
from support.browser import RENDERERS, SMALL, WIDGETS, open_page, run_small
from support.graphs import NAMES, ui_graph

pytestmark = pytest.mark.browser

SCHEDULER, TIMELINE, SAMPLER = "LongTakeWindowScheduler", "LongTakePromptTimeline", "KSampler"
CHART = ".longtake-chart"
# Counts what the pack's scripts have started: timers, observers, and listeners on what outlives a node.
WATCH = """
Error.stackTraceLimit = 50;
const kept = (window.kept = { timers: new Set(), listeners: new Set(), observers: new Set(), fired: 0 });
const ours = () => new Error().stack.split("\\n")[3]?.includes("/extensions/ComfyUI-LongTake/");
for (const kind of ["Timeout", "Interval"]) {
    const start = window["set" + kind], stop = window["clear" + kind];
    window["set" + kind] = function (run, ...rest) {
        if (!ours()) return start.call(window, run, ...rest);
        const id = start.call(window, () => {
            if (kind === "Timeout") kept.timers.delete(id);
            kept.fired++;
            run();
        }, ...rest);
        kept.timers.add(id);
        return id;
    };
    window["clear" + kind] = (id) => { kept.timers.delete(id); stop.call(window, id); };
}
for (const name of ["ResizeObserver", "MutationObserver", "IntersectionObserver"]) {
    window[name] = class extends window[name] {
        constructor(...values) { super(...values); this.ours = ours(); }
        observe(target, ...values) {
            super.observe(target, ...values);
            if (this.ours) kept.observers.add({ target, observer: this });
        }
        disconnect() {
            super.disconnect();
            for (const one of kept.observers) if (one.observer === this) kept.observers.delete(one);
        }
    };
}
const { addEventListener, removeEventListener } = EventTarget.prototype;
EventTarget.prototype.addEventListener = function (type, run, ...rest) {
    if (ours()) kept.listeners.add({ target: this, type, run });
    return addEventListener.call(this, type, run, ...rest);
};
EventTarget.prototype.removeEventListener = function (type, run, ...rest) {
    for (const one of kept.listeners)
        if (one.target === this && one.type === type && one.run === run) kept.listeners.delete(one);
    return removeEventListener.call(this, type, run, ...rest);
};
"""
KEPT = """() => {
    const alive = (set) => [...set].filter(({ target }) => !(target instanceof Element) || target.isConnected).length;
    return [kept.timers.size, document.querySelectorAll("[class*=longtake]").length, alive(kept.observers),
            alive(kept.listeners)];
}"""
EMPTY = {"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "version": 0.4}


@pytest.fixture(scope="module")
def comfy(comfy_server):
    with open_page(comfy_server, prepare=lambda page: page.add_init_script(WATCH)) as page:
        yield page


@pytest.fixture
def renderer(comfy, renderer):
    comfy.load(EMPTY)
    comfy.errors.clear()
    return renderer


def one_of_each():
    """Every node of the pack, and a KSampler, with an example's values and no links."""
    found = {node["type"]: node for name in NAMES for node in ui_graph(name)["nodes"]}
    nodes = []
    for i, kind in enumerate(sorted(kind for kind in found if kind.startswith("LongTake") or kind == SAMPLER)):
        inputs = [{**entry, "link": None} for entry in found[kind]["inputs"]]
        outputs = [{**entry, "links": None} for entry in found[kind]["outputs"]]
        pos = [i % 4 * 600, i // 4 * 1000]
        nodes.append({**found[kind], "id": i + 1, "order": i, "pos": pos, "inputs": inputs, "outputs": outputs})
    return {**EMPTY, "nodes": nodes, "last_node_id": len(nodes)}


def contents(graph):
    """Types and widget values, as JavaScript writes its numbers: 2.0 is 2."""
    found = [(node["type"], json.dumps(node.get("widgets_values") or [])) for node in graph["nodes"]]
    return sorted((kind, re.sub(r"(\d)\.0\b", r"\1", values)) for kind, values in found)


def wait_for(comfy, wanted):
    """Wait until the graph has these nodes and values."""
    for _ in range(100):
        comfy.page.wait_for_timeout(100)
        if contents(comfy.serialized()) == wanted:
            break
    assert contents(comfy.serialized()) == wanted
    comfy.page.wait_for_timeout(300)  # ComfyUI takes its undo step


def press(comfy, *keys):
    comfy.page.evaluate("() => window.app.canvas.canvas.focus()")
    for key in keys:
        comfy.page.keyboard.press(key)
        comfy.page.wait_for_timeout(400)


def press_until(comfy, key, wanted):
    """Undo or redo until the graph is `wanted`: on a busy machine ComfyUI takes an undo step late."""
    for _ in range(4):
        comfy.page.evaluate("() => window.app.canvas.canvas.focus()")
        comfy.undo(key)
        for _ in range(30):
            if contents(comfy.serialized()) == wanted:
                return wait_for(comfy, wanted)
            comfy.page.wait_for_timeout(100)
    wait_for(comfy, wanted)


def wait_for_widgets(comfy, count, kinds=WIDGETS):
    """`count` nodes of each of the kinds are in view, each shows its own widget, and no other one is to be seen."""
    seen = """([kinds, count]) => Object.entries(kinds).every(([kind, selector]) => {
        const nodes = window.app.canvas.graph._nodes.filter((node) => node.type === kind);
        const own = nodes.map((node) => node.widgets.find((w) => w.element?.matches(selector))?.element);
        const rest = [...document.querySelectorAll(selector)].filter((element) => !own.includes(element));
        return own.length === count && own.every((e) => e?.isConnected) && !rest.some((e) => e.checkVisibility());
    })"""
    comfy.page.wait_for_function(seen, arg=[{kind: WIDGETS[kind] for kind in kinds}, count])


def see_charts_work(comfy):
    """Every scheduler in view has its chart in the page, and it follows the widgets. Returns the schedulers' ids."""
    ids = comfy.page.evaluate(
        "t => window.app.canvas.graph._nodes.filter((n) => n.type === t).map((n) => n.id)", SCHEDULER
    )
    cost = """id => {
        const { element } = window.app.canvas.graph.getNodeById(id).widgets.find((w) => w.name === 'longtake_chart');
        return element.isConnected ? element.querySelector('.cost').textContent : null;
    }"""
    for node_id in ids:
        comfy.page.wait_for_function(f"id => ({cost})(id)", arg=node_id)
        before = comfy.page.evaluate(cost, node_id)
        comfy.widget(node_id, "overlap", 24 if comfy.widget(node_id, "overlap") == 4 else 4)
        comfy.page.wait_for_function(f"([id, old]) => ![null, '', old].includes(({cost})(id))", arg=[node_id, before])
    return ids


def see_nothing_goes_on(comfy, before):
    """Elements, timers, observers and listeners are back at what they were, and nothing happens any more."""
    changed = "() => window.comfyAPI.api.api.dispatchCustomEvent('graphChanged', window.app.graph.serialize())"
    comfy.page.evaluate(changed)
    comfy.page.wait_for_timeout(700)
    assert comfy.page.evaluate(KEPT) == before
    fired = comfy.page.evaluate("() => kept.fired")
    comfy.page.evaluate(changed)
    comfy.page.wait_for_timeout(700)
    assert comfy.page.evaluate("() => kept.fired") == fired


def test_copy_paste_undo_and_removal(comfy, renderer):
    before = comfy.page.evaluate(KEPT)
    graph = comfy.load(one_of_each())
    wait_for_widgets(comfy, 1)
    assert all(now > then for now, then in zip(comfy.page.evaluate(KEPT)[:3], before, strict=False))  # the watch works
    once = contents(graph)
    twice = sorted(once * 2)
    assert contents(comfy.serialized()) == once
    press(comfy, "Control+a", "Control+c", "Control+v")
    wait_for(comfy, twice)
    wait_for_widgets(comfy, 2)
    press_until(comfy, "z", once)
    wait_for_widgets(comfy, 1)
    press_until(comfy, "y", twice)
    wait_for_widgets(comfy, 2)
    press(comfy, "Control+a", "Delete")
    wait_for(comfy, [])
    see_nothing_goes_on(comfy, before)
    press_until(comfy, "z", twice)
    wait_for_widgets(comfy, 2)
    assert len(see_charts_work(comfy)) == 2


def test_undo_of_a_widget(comfy, renderer):
    """The node that undo makes anew has its chart and its timeline, and they show the old values."""
    comfy.load(one_of_each())
    wait_for_widgets(comfy, 1)
    once = contents(comfy.serialized())
    (node_id,) = [node["id"] for node in comfy.serialized()["nodes"] if node["type"] == SCHEDULER]
    comfy.widget(node_id, "overlap", 36)
    press(comfy, "Control+a")  # a key or a click: ComfyUI takes its undo step
    press_until(comfy, "z", once)
    wait_for_widgets(comfy, 1)
    assert len(see_charts_work(comfy)) == 1


def tree(prompt, node_id=None, path="video"):
    """What an API graph runs, without ids: {path from SaveVideo: class or value}."""
    if node_id is None:
        (node_id,) = [i for i, node in prompt.items() if node["class_type"] == "SaveVideo"]
    found = {path: prompt[node_id]["class_type"]}
    for name, value in prompt[node_id]["inputs"].items():
        if isinstance(value, list) and len(value) == 2 and value[0] in prompt:
            found |= tree(prompt, value[0], f"{path}.{name}[{value[1]}]")
        else:
            found[f"{path}.{name}"] = value
    return found


def select(comfy, *kinds):
    """Select the nodes of these kinds, or the subgraphs."""
    comfy.page.evaluate(
        "kinds => { const { graph, canvas } = window.app; canvas.deselectAll(); canvas.selectItems("
        "graph._nodes.filter((n) => (kinds.length ? kinds.includes(n.type) : n.isSubgraphNode?.()))); }",
        kinds,
    )


def enter(comfy):
    """Open the one subgraph. Returns its id and the ids of its nodes by type."""
    found = comfy.page.evaluate(
        """() => {
            const node = window.app.graph._nodes.find((n) => n.isSubgraphNode?.());
            window.app.canvas.openSubgraph(node.subgraph, node);
            return [node.id, Object.fromEntries(node.subgraph._nodes.map((n) => [n.type, n.id]))];
        }"""
    )
    comfy.page.wait_for_timeout(500)
    return found


def test_subgraph(comfy, renderer):
    before = comfy.page.evaluate(KEPT)
    comfy.load("timeline")
    comfy.set_all(SMALL)
    runs = tree(comfy.prompt())
    select(comfy, TIMELINE, SCHEDULER, SAMPLER)
    comfy.command("Comfy.Graph.ConvertToSubgraph")
    assert comfy.missing() == [] and len([i for i in comfy.prompt() if ":" in i]) == 3
    assert tree(comfy.prompt()) == runs

    subgraph, ids = enter(comfy)
    assert sorted(ids) == sorted([TIMELINE, SCHEDULER, SAMPLER])
    wait_for_widgets(comfy, 1, (TIMELINE, SCHEDULER))
    see_charts_work(comfy)
    comfy.widget(ids[TIMELINE], "events", "bouncing | circling")
    comfy.focus(ids[TIMELINE])
    comfy.page.wait_for_function("() => document.querySelectorAll('.longtake-timeline .lt-block').length === 2")
    preview = """([node, image]) => window.comfyAPI.api.api.dispatchCustomEvent("longtake.preview",
        { node, prompt_id: "p", state: "running", step: 1, steps: 2, elapsed: 1, left: 2, frames: [0] })"""
    comfy.page.evaluate(preview, [f"{subgraph}:{ids[SAMPLER]}"])
    comfy.focus(ids[SAMPLER])
    comfy.page.locator(".longtake-filmstrip").wait_for()
    comfy.command("Comfy.Graph.ExitSubgraph")
    comfy.page.wait_for_function(
        "() => ![...document.querySelectorAll('.longtake-filmstrip, .longtake-chart, .longtake-timeline')]"
        ".some((e) => e.checkVisibility())"
    )
    edited = {"overlap": 4, "events": "bouncing | circling"}
    runs = {path: edited.get(path.split(".")[-1], value) for path, value in runs.items()}
    assert tree(comfy.prompt()) == runs

    saved = comfy.serialized()
    comfy.load(EMPTY)
    comfy.load(saved)
    assert comfy.missing() == [] and tree(comfy.prompt()) == runs
    enter(comfy)
    wait_for_widgets(comfy, 1, (TIMELINE, SCHEDULER))
    comfy.command("Comfy.Graph.ExitSubgraph")
    run_small(comfy, seed=list(RENDERERS).index(renderer) + 20)

    comfy.load(saved)
    select(comfy)
    comfy.command("Comfy.Graph.UnpackSubgraph")
    assert comfy.missing() == [] and not any(":" in i for i in comfy.prompt())
    assert tree(comfy.prompt()) == runs
    wait_for_widgets(comfy, 1, (TIMELINE, SCHEDULER))
    assert len(see_charts_work(comfy)) == 1

    comfy.load(EMPTY)
    see_nothing_goes_on(comfy, before)
