"""The subgraph blueprint "Long video (Wan)" in a real Chromium on a real ComfyUI: found, added, and run with the demo
model, which is of Wan's class."""

import json

import av
import pytest
from longtake.tools.make_blueprint import FILE, LEFT_OUT, NAME, SOURCE, make
from support.graphs import api_graph

pytestmark = pytest.mark.browser

EMPTY = {"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "version": 0.4}
FRAMES = 97
PLAIN = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
ADD = """() => {
    const { graph } = window.app, [long] = graph._nodes;
    const [demo, save] = ["LongTakeDemoBackbone", "SaveVideo"].map((type) => {
        const node = window.LiteGraph.createNode(type);
        graph.add(node);
        return node;
    });
    demo.pos = [long.pos[0] - 400, long.pos[1]];
    save.pos = [long.pos[0] + 700, long.pos[1]];
    for (const [slot, name] of ["model", "clip", "vae"].entries()) demo.connect(slot, long, name);
    long.connect("video", save, "video");
}"""


@pytest.fixture(scope="module")
def found(comfy):
    """What the file is for: the interior of the template's graph, by class."""
    return {node["class_type"]: node["inputs"] for node in api_graph(SOURCE).values()
            if node["class_type"] not in LEFT_OUT}  # fmt: skip


def add(comfy):
    """The blueprint, from the search into an empty graph."""
    comfy.load(EMPTY)
    comfy.command("Workspace.SearchBox.Toggle")
    box = comfy.page.locator("input[role=combobox]:visible").first
    box.fill("")
    comfy.page.keyboard.type("long video")
    option = comfy.page.get_by_role("option").filter(has_text=NAME).first
    option.click()
    comfy.place()
    comfy.page.wait_for_function("() => window.app.graph._nodes.length === 1")
    comfy.errors[:] = [error for error in comfy.errors if "onOptionSelect" not in error]  # the search box's own
    return comfy.page.evaluate("() => window.app.graph._nodes[0].id")


def test_the_file_is_what_the_tool_makes_of_the_template(comfy_server):
    graph, definitions = api_graph(SOURCE), comfy_server.request("/object_info")[1]
    for node in graph.values():  # newer cores' nodes have further widgets
        for inputs in definitions[node["class_type"]]["input"].values():
            for name in [name for name in inputs if name not in node["inputs"] and inputs[name][0] in PLAIN]:
                del inputs[name]
    assert make(graph, definitions) == json.loads(FILE.read_text(encoding="utf-8"))


def test_the_node_library_has_it(comfy, renderer):
    listed = comfy.server.request("/global_subgraphs")[1].values()
    packs = [entry["info"]["node_pack"] for entry in listed if entry["name"] == NAME]
    assert packs == ["custom_nodes.ComfyUI-LongTake"]
    comfy.load(EMPTY)
    comfy.command("Workspace.ToggleSidebarTab.node-library")
    box = comfy.page.locator(".side-bar-panel input[type=text], .sidebar-content-container input").first
    box.fill(NAME)
    comfy.page.locator(".side-bar-panel, .sidebar-content-container").get_by_text(NAME).first.wait_for()
    comfy.command("Workspace.ToggleSidebarTab.node-library")


def test_it_is_added_with_sockets_and_four_widgets(comfy, renderer, found):
    node = add(comfy)
    sockets, widgets = comfy.page.evaluate(
        """() => {
            const [node] = window.app.graph._nodes;
            return [node.inputs.filter((i) => !i.widget).map((i) => [i.name, i.type]),
                    node.widgets.map((w) => [w.label ?? w.name, w.value])];
        }"""
    )
    assert sockets == [["model", "MODEL"], ["clip", "CLIP"], ["vae", "VAE"]]
    timeline = found["LongTakePromptTimeline"]
    values = [timeline[name] for name in ("global_prompt", "events", "length")]
    assert [value for _, value in widgets][:4] == [*values, 1]
    assert [value for _, value in widgets][4:] in (["fixed"], [])  # newer pages show it with the seed
    assert widgets[2][0] == "length" and "seed" in widgets[3][0]
    comfy.page.evaluate(ADD)
    queued = comfy.prompt()
    inside = {part["class_type"]: part["inputs"] for key, part in queued.items() if key.startswith(f"{node}:")}
    assert inside.keys() == found.keys()
    for kind, inputs in found.items():
        plain = {name: value for name, value in inputs.items() if not isinstance(value, list)}
        assert {name: inside[kind][name] for name in plain} == plain
        links = {name for name, value in inputs.items() if isinstance(value, list)}
        assert links == {name for name, value in inside[kind].items() if isinstance(value, list)}


def test_what_is_inside_shows_the_length_set_outside(comfy, renderer):
    """And what is set inside is set outside."""
    node = add(comfy)
    last = """() => window.app.canvas.graph.nodes.find((n) => n.comfyClass === "LongTakeWindowScheduler")
        ?.widgets.find((w) => w.name === "longtake_chart").element.querySelector(".axis :last-child")?.textContent"""
    for frames in (161, 641):
        comfy.widget(node, "length", frames)
        comfy.page.evaluate(
            """id => {
                const node = window.app.graph.getNodeById(id);
                window.app.canvas.openSubgraph(node.subgraph, node);
            }""",
            node,
        )
        comfy.page.wait_for_function(f"last => ({last})() === last", arg=str(frames - 1))
        total = comfy.page.locator(".longtake-timeline .lt-total")
        total.get_by_text(f"{frames} frames", exact=True).wait_for()
        total.locator("input").fill("97f")
        total.locator("input").press("Enter")
        total.get_by_text("97 frames", exact=True).wait_for()
        comfy.page.evaluate("() => window.app.canvas.setGraph(window.app.graph)")
        assert comfy.widget(node, "length") == 97


def test_a_video_of_the_length_set_outside_is_made(comfy, renderer):
    node = add(comfy)
    comfy.page.evaluate(ADD)
    for name, value in (("length", FRAMES), ("global_prompt", "a red circle"), ("events", "0s: bouncing\n3s: still")):
        comfy.widget(node, name, value)
    comfy.page.evaluate(
        """seed => {
            const [node] = window.app.graph._nodes;
            node.widgets.find((w) => w.name.endsWith("seed")).value = seed;
            const inner = (type) => node.subgraph._nodes.find((n) => n.type === type);
            const set = (type, name, value) => (inner(type).widgets.find((w) => w.name === name).value = value);
            set("KSampler", "steps", 2);
            set("EmptyHunyuanLatentVideo", "width", 64);
            set("EmptyHunyuanLatentVideo", "height", 64);
        }""",
        len(renderer),
    )
    queued = comfy.prompt()
    assert {inputs["length"] for inputs in (n["inputs"] for n in queued.values()) if "length" in inputs} == {FRAMES}
    assert [n["inputs"]["seed"] for n in queued.values() if "seed" in n["inputs"]] == [len(renderer)]
    comfy.queue()
    entry = comfy.wait_idle()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    (path,) = comfy.server.files(entry)
    with av.open(str(path)) as video:
        assert sum(1 for _ in video.decode(video=0)) == FRAMES
