"""The example graphs: real node definitions, core's own validation, and UI and API versions that agree."""

import asyncio
import re
import sys

import execution
import folder_paths
import pytest
from longtake.nodes import LongTakeExtension
from longtake.tools.make_workflows import INDEX, ROOM, SAMPLERS, file_name
from PIL import Image
from support.graphs import LOADERS, NAMES, api_graph, model_links, ui_graph
from support.paths import COMFYUI_PATH, WORKFLOWS

import nodes

NOTES = ("MarkdownNote", "Note")  # they exist in the front-end only


@pytest.fixture(scope="module")
def own_nodes():
    return {node.define_schema().node_id: node for node in asyncio.run(LongTakeExtension().get_node_list())}


@pytest.fixture(scope="module")
def registered(own_nodes):
    """Core's nodes and extra nodes, and the pack's, in the table that core's validation reads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(COMFYUI_PATH))  # nodes.py has put ComfyUI's comfy/ first, where utils is another one
        patch.delitem(sys.modules, "utils", raising=False)
        asyncio.run(nodes.init_builtin_extra_nodes())
        for node_id, node in own_nodes.items():
            patch.setitem(nodes.NODE_CLASS_MAPPINGS, node_id, node)
        yield nodes.NODE_CLASS_MAPPINGS


@pytest.fixture
def model_files(tmp_path, monkeypatch):
    """Empty files in ComfyUI's model folders, by the names in the UI graphs' model links; a LoRA and a picture of one's
    own."""
    monkeypatch.setattr(folder_paths, "filename_list_cache", {})
    own = {"directory": "loras", "name": "your_lora.safetensors"}
    for link in [own, *(link for name in NAMES for link in model_links(ui_graph(name)))]:
        folder = tmp_path / link["directory"]
        folder.mkdir(exist_ok=True)
        (folder / link["name"]).touch()
        extensions = folder_paths.folder_names_and_paths[link["directory"]][1]
        monkeypatch.setitem(folder_paths.folder_names_and_paths, link["directory"], ([str(folder)], extensions))
    (tmp_path / "example.png").touch()
    monkeypatch.setattr(folder_paths, "input_directory", str(tmp_path))
    (tmp_path / "diffusers" / "CogVideoX-2b" / "transformer").mkdir(parents=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "diffusers", ([str(tmp_path / "diffusers")], {"folder"}))


def definition(registered, kind):
    """{input: (type, options)} of a node in its order, and the names of the required ones."""
    inputs = registered[kind].INPUT_TYPES()
    required = inputs.get("required", {})
    types = {}
    for name, (declared, *options) in {**required, **inputs.get("optional", {})}.items():
        combo = isinstance(declared, list) or str(declared).startswith("COMFY_DYNAMICCOMBO")
        types[name] = ("COMBO" if combo else declared, options[0] if options else {})
    return types, set(required)


def widget_values(registered, node):
    """{widget: value}: saved by position, with one more value behind a seed (control_after_generate)."""
    types, _ = definition(registered, node["type"])
    values, rest = {}, list(node["widgets_values"])
    for entry in node["inputs"]:
        if "widget" in entry:
            assert entry["widget"]["name"] == entry["name"]
            values[entry["name"]] = rest.pop(0)
            if types[entry["name"]][1].get("control_after_generate"):
                assert rest.pop(0) in ("fixed", "increment", "decrement", "randomize")
    assert not rest, f"{node['type']}: values without a widget: {rest}"
    return values


def test_every_graph_has_two_forms_a_title_and_a_square_picture():
    titles = [entry["name"] for entry in INDEX["templates"]]
    assert sorted(titles) == NAMES and all(entry["description"] for entry in INDEX["templates"])
    assert sorted(path.stem for path in WORKFLOWS.glob("*.json")) == [file_name(name) for name in titles]
    for name in NAMES:
        with Image.open(WORKFLOWS / f"{file_name(name)}.jpg") as picture:
            assert picture.format == "JPEG" and picture.size == (400, 400)
            low, high = zip(*picture.getextrema(), strict=True)
            assert max(high) - min(low) > 100, name  # not a plain colour


def test_templates_of_ones_own_models_come_before_the_demos():
    """What people have weights for, in the order of the list that ComfyUI shows."""
    order = ["wan_1_3b_timeline", "wan22_14b_timeline", "wan_i2v_timeline", "ltxv_timeline", "hunyuan15_timeline"]
    names = [entry["name"] for entry in INDEX["templates"]]
    assert names[:5] == order and {"wan_1_3b_event_hooks", "compare"} <= set(names)
    demo = [any(n["class_type"] == "LongTakeDemoBackbone" for n in api_graph(name).values()) for name in names]
    assert demo == sorted(demo)
    for name in names:  # no sign that a file system or an address has to escape
        assert not set(file_name(name)) & set("%#?&+:*\"<>|/\\'")


def test_the_readme_names_templates_by_what_they_are_called():
    text = (WORKFLOWS.parent / "README.md").read_text("utf-8")
    titles = re.findall(r"template \*([^*]+)\*", text)
    assert titles and set(titles) <= {entry["title"] for entry in INDEX["templates"]}
    files = re.findall(r'"(\d\d [^"]+)"', text)
    assert files and set(files) <= {file_name(entry["name"]) for entry in INDEX["templates"]}
    assert not re.search(r"[Tt]emplate \d", text)  # numbers move


@pytest.mark.parametrize("name", NAMES)
def test_core_accepts_the_api_graph(registered, model_files, name):
    graph = api_graph(name)
    valid, error, outputs, node_errors = asyncio.run(execution.validate_prompt(name, graph, None))
    assert valid and not node_errors, (error, node_errors)
    shown = {"LongTakeCompare", "LongTakeVideoMetrics", "LongTakeCompareMetrics"}
    assert {graph[i]["class_type"] for i in outputs} <= {"SaveVideo", "LongTakeDecodeToVideo", *shown}
    for node in graph.values():
        types, _ = definition(registered, node["class_type"])
        assert set(node["inputs"]) <= set(types)
        for key, value in node["inputs"].items():  # 0.3.75 checks no choice of a V3 node
            choices = types[key][1].get("options")
            assert choices is None or value in [c["key"] if isinstance(c, dict) else c for c in choices], (key, value)


def test_core_accepts_a_graph_from_before_a_widget(registered):
    graph = api_graph("genl")
    (scheduler,) = [node for node in graph.values() if node["class_type"] == "LongTakeWindowScheduler"]
    assert scheduler["inputs"].pop("retain") == ""
    valid, error, _, node_errors = asyncio.run(execution.validate_prompt("old", graph, None))
    assert valid and not node_errors, (error, node_errors)


def test_a_default_that_changed_is_of_an_input_that_no_prompt_leaves_out(registered):
    """Scheduler's schedule was static: graphs keep what they state, and one that states nothing is refused."""
    graph = api_graph("genl")
    (scheduler,) = [node for node in graph.values() if node["class_type"] == "LongTakeWindowScheduler"]
    types, required = definition(registered, "LongTakeWindowScheduler")
    assert types["schedule"][1]["default"] == "random_shift" and scheduler["inputs"]["schedule"] == "static"
    del scheduler["inputs"]["schedule"]
    valid, _, _, node_errors = asyncio.run(execution.validate_prompt("old", graph, None))
    (error,) = next(iter(node_errors.values()))["errors"]
    assert not valid and (error["type"], error["details"]) == ("required_input_missing", "schedule")


def test_core_names_a_wrong_value(registered):
    """The validation above can fail."""
    graph = api_graph("timeline")
    graph["5"]["inputs"]["gamma0"] = 2.0
    valid, _, _, node_errors = asyncio.run(execution.validate_prompt("wrong", graph, None))
    assert not valid and node_errors["5"]["errors"][0]["extra_info"]["input_name"] == "gamma0"


@pytest.mark.parametrize("name", NAMES)
def test_ui_and_api_graph_are_the_same(registered, name):
    ui = ui_graph(name)
    sources = {link[0]: [str(link[1]), link[2]] for link in ui["links"]}
    built = {}
    for node in ui["nodes"]:
        if node["type"] not in NOTES:
            linked = {entry["name"]: sources[entry["link"]] for entry in node["inputs"] if entry["link"] is not None}
            built[str(node["id"])] = (node["type"], {**widget_values(registered, node), **linked})
    assert built == {i: (node["class_type"], node["inputs"]) for i, node in api_graph(name).items()}


@pytest.mark.parametrize("name", NAMES)
def test_ui_nodes_match_their_definitions(registered, name):
    for node in ui_graph(name)["nodes"]:
        if node["type"] in NOTES:
            assert node["inputs"] == node["outputs"] == [] and len(node["widgets_values"]) == 1
            continue
        types, required = definition(registered, node["type"])
        names = [entry["name"] for entry in node["inputs"]]
        assert len(names) == len(set(names)) and required <= set(names) <= set(types), node["type"]
        assert all(entry["type"] == types[entry["name"]][0] for entry in node["inputs"]), node["type"]
        widgets = [entry["name"] for entry in node["inputs"] if "widget" in entry]
        assert widgets == [i for i in types if i in widgets], "widgets are saved in the definition's order"
        outputs = [entry["type"] for entry in node["outputs"]]
        assert outputs == list(registered[node["type"]].RETURN_TYPES)[: len(outputs)]
        assert node["properties"]["Node name for S&R"] == node["type"]


@pytest.mark.parametrize("name", NAMES)
def test_ui_links_agree_at_both_ends(name):
    ui = ui_graph(name)
    by_id = {node["id"]: node for node in ui["nodes"]}
    assert len(by_id) == len(ui["nodes"]) and max(by_id) == ui["last_node_id"]
    assert max(link[0] for link in ui["links"]) == ui["last_link_id"]
    for link_id, source, slot, target, entry, kind in ui["links"]:
        output, taken = by_id[source]["outputs"][slot], by_id[target]["inputs"][entry]
        assert link_id in output["links"] and taken["link"] == link_id
        assert output["type"] == kind and {kind, "*"} & set(taken["type"].split(","))
        assert by_id[source]["order"] < by_id[target]["order"]
    ends = [i for node in ui["nodes"] for entry in node["outputs"] for i in entry["links"] or []]
    starts = [entry["link"] for node in ui["nodes"] for entry in node["inputs"] if entry["link"] is not None]
    assert sorted(ends) == sorted(starts) == sorted(link[0] for link in ui["links"])
    assert ui["version"] == 0.4


@pytest.mark.parametrize("name", NAMES)
def test_ui_graph_explains_itself(name):
    """A note to start with, a title on every group, no node on top of another. Its video is the only output: of a graph
    with two, ComfyUI runs the one that it has not refused, and looks finished."""
    ui = ui_graph(name)
    assert [node["title"] for node in ui["nodes"] if node["type"] in NOTES].count("Start here") == 1
    assert [node["type"] for node in ui["nodes"] if not node["outputs"] and node["type"] not in NOTES] == ["SaveVideo"]
    assert ui["groups"] and all(group["title"] for group in ui["groups"])
    room = {node["id"]: ROOM if node["type"] in SAMPLERS else 0 for node in ui["nodes"]}  # for previews
    boxes = [(*node["pos"], node["size"][0], node["size"][1] + room[node["id"]]) for node in ui["nodes"]]
    for i, (x, y, w, h) in enumerate(boxes):
        for x2, y2, w2, h2 in boxes[:i]:
            assert x + w <= x2 or x2 + w2 <= x or y + h + 30 <= y2 or y2 + h2 + 30 <= y  # 30: the title bar


@pytest.mark.parametrize("name", NAMES)
def test_the_first_view_shows_the_first_node_clear_of_the_menus(name):
    ui = ui_graph(name)
    (first,) = [node for node in ui["nodes"] if node.get("title") == "Start here"]
    ds = ui["extra"]["ds"]
    left, top = [(place + by) * ds["scale"] for place, by in zip(first["pos"], ds["offset"], strict=True)]
    assert left >= 70 and top - 30 * ds["scale"] >= 125  # the side bar; tabs and the menu beneath them


def test_every_node_of_the_pack_appears(own_nodes):
    used = {node["type"] for name in NAMES for node in ui_graph(name)["nodes"]}
    assert set(own_nodes) == {kind for kind in used if kind.startswith("LongTake")}


@pytest.mark.parametrize("name", NAMES)
def test_model_files_come_with_links(registered, name):
    """What the front-end's missing-model dialog reads."""
    for node in ui_graph(name)["nodes"]:
        if node["type"] in LOADERS:
            values = widget_values(registered, node)
            files = node["properties"]["models"]
            assert [link["name"] for link in files] == [values[key] for key in LOADERS[node["type"]]]
            for link in files:
                assert link["directory"] in folder_paths.folder_names_and_paths
                assert link["url"].startswith("https://") and link["url"].endswith(link["name"] + "?download=true")
    assert bool(model_links(ui_graph(name))) == any(node["type"] in LOADERS for node in ui_graph(name)["nodes"])
