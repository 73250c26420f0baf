"""Every example graph in a real Chromium on a real ComfyUI: it loads, it is kept, it runs; also with the pack's scripts
broken, and as it was saved by the pack's first version."""

import re
from itertools import product
from pathlib import Path

import pytest
from longtake.tools.headless import GraphError
from support.browser import FRAMES, RENDERERS, WIDGETS, run_small
from support.graphs import LOADERS, NAMES, RELEASED, model_links, read, ui_graph

pytestmark = pytest.mark.browser

DATA = Path(__file__).parent / "data"
DEMO = [name for name in NAMES if any(node["type"] == "LongTakeDemoBackbone" for node in ui_graph(name)["nodes"])]
OTHER = [name for name in NAMES if name not in DEMO]  # these need weights
RUNS = {(name, list(RENDERERS)[i % 2]) for i, name in enumerate(DEMO)}  # every graph once, in one of the renderers
LONGER = {"continue": 96}  # frames that a graph adds to its length
PLAIN = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")  # types of inputs that are widgets
SCRIPTS = re.compile(r"/extensions/ComfyUI-LongTake/.*\.js")


def values(graph, like=None):
    """{id: (type, widget values)}. With `like`, core's nodes get no more values than there: newer cores add some."""
    found = {str(node["id"]): (node["type"], node.get("widgets_values") or []) for node in graph["nodes"]}
    if like:
        counts = {i: len(kept) for i, (kind, kept) in values(like).items() if not kind.startswith("LongTake")}
        found = {i: (kind, kept[: counts.get(i)]) for i, (kind, kept) in found.items()}
    return found


def links(graph):
    return sorted([*map(str, link)] for link in graph["links"])


def load(comfy, graph):
    """Load a graph, and see that all of it is there."""
    graph = comfy.load(graph)
    saved = comfy.serialized()
    assert comfy.missing() == []
    assert values(saved, like=graph) == values(graph) and links(saved) == links(graph)
    return graph


@pytest.mark.parametrize("name, renderer", [*product(NAMES, RENDERERS)])
def test_a_graph_loads_is_saved_as_it_was_and_runs(comfy, name, renderer):
    comfy.renderer(renderer)
    comfy.errors.clear()
    graph = load(comfy, name)
    kinds = [node["type"] for node in graph["nodes"]]
    shown = {".lg-node[data-node-id]": len(kinds) if renderer == "vue" else 0}
    shown |= {selector: kinds.count(kind) for kind, selector in WIDGETS.items()}
    counted = "counts => Object.entries(counts).every(([s, n]) => document.querySelectorAll(s).length === n)"
    comfy.page.wait_for_function(counted, arg=shown)
    if (name, renderer) in RUNS:
        run_small(comfy, FRAMES + LONGER.get(name, 0))
    assert comfy.errors == []


@pytest.mark.parametrize("name", OTHER)
def test_a_graph_of_a_model_that_is_not_here_lacks_its_files_only(comfy, name):
    comfy.renderer("canvas")
    graph = comfy.load(name)
    prompt = comfy.prompt()
    with pytest.raises(GraphError) as refused:
        comfy.server.queue(prompt)
    details = refused.value.details
    if "node_errors" not in details:  # 0.3.75 checks no choice of a V3 node before the run
        assert (details["node_type"], name) == ("LongTakeCogVideoXLoader", "cogvideox_2b_syncos")
        assert "CogVideoX-2b" in details["exception_message"]
        return
    errors = [(i, error) for i, node in details["node_errors"].items() for error in node["errors"]]
    own = [error for i, error in errors if prompt[i]["class_type"] in ("LoadImage", "CreateHookLora")]  # of one's own
    errors = [(i, error) for i, error in errors if error not in own]
    assert {error["type"] for _, error in errors} == {"value_not_in_list"}
    inputs = {**LOADERS, "LongTakeCogVideoXLoader": ("model",)}
    assert all(error["extra_info"]["input_name"] in inputs[prompt[i]["class_type"]] for i, error in errors)
    wanted = {link["name"] for link in model_links(graph)} or {"CogVideoX-2b"}
    assert {error["extra_info"]["received_value"] for _, error in errors} == wanted


@pytest.mark.parametrize(
    "answer, renderer, names, runs",
    [
        (lambda route: route.abort(), "canvas", DEMO, ["glc_x3", "timeline"]),
        (lambda route: route.fulfill(content_type="text/javascript", body="throw new Error('broken')"),
         "vue", ["timeline", "syncos_two"], ["syncos_two"]),
    ],
    ids=["blocked", "failing"],
)  # fmt: skip
def test_graphs_load_and_run_without_the_packs_scripts(comfy, answer, renderer, names, runs):
    asked = []

    def handle(route):
        asked.append(route.request.url)
        answer(route)

    with comfy.another(lambda page: page.route(SCRIPTS, handle)) as page:
        extensions = page.page.evaluate("() => window.app.extensions.map((e) => e.name)")
        assert asked and not [name for name in extensions if name.startswith("longtake")]
        page.renderer(renderer)
        page.errors.clear()
        for name in names:
            load(page, name)
            if name in runs:
                run_small(page, seed=77, noise_seed=77)  # not the result of a run before
        assert page.page.locator(", ".join(WIDGETS.values())).count() == 0
        assert page.errors == []


def filled(graph):
    """Values of an old graph, with the defaults of the widgets that the pack's nodes have got since."""
    found = values(graph)
    for i, (kind, kept) in found.items():
        if kind in RELEASED:
            widgets = [default for _, io_type, default, _ in RELEASED[kind]["inputs"] if io_type in PLAIN]
            found[i] = (kind, [*kept, *widgets[len(kept) :]])
    return found


@pytest.mark.parametrize("renderer", RENDERERS)
def test_a_graph_of_the_first_version_still_loads_and_runs(comfy, renderer):
    """timeline_first_release.json is workflows/timeline.json as it was first committed: fewer outputs and widgets."""
    old = read(DATA / "timeline_first_release.json")
    (scheduler,) = [node for node in old["nodes"] if node["type"] == "LongTakeWindowScheduler"]
    assert [output["name"] for output in scheduler["outputs"]] == ["model", "windows", "report"]
    comfy.renderer(renderer)
    comfy.errors.clear()
    comfy.load(old)
    saved = comfy.serialized()
    assert comfy.missing() == []
    assert values(saved, like=old) == filled(old) and links(saved) == links(old)
    (now,) = [node for node in saved["nodes"] if node["type"] == scheduler["type"]]
    assert [output["name"] for output in now["outputs"]][:4] == ["model", "windows", "report", "chart"]
    assert not now["outputs"][3]["links"]

    assert scheduler["inputs"].pop()["name"] == "length" and scheduler["widgets_values"].pop() == 293  # older still
    comfy.load(old)
    assert values(comfy.serialized(), like=old) == filled(old)
    run_small(comfy, seed=list(RENDERERS).index(renderer) + 5)
    assert comfy.errors == []
