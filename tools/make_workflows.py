"""Build the UI graphs of workflows/ from the API graphs of workflows/api/: layout, notes, model links.

    python3 start.py serve                                   # in another terminal
    python3 -m tools.make_workflows [http://127.0.0.1:8188]  # a ComfyUI with this pack, asked for node definitions

From the repository's root. The files have the shape that ComfyUI's front-end saves (schema 0.4). templates.json has
their titles, descriptions and order: ComfyUI shows the file's name as the template's title. The notes are in
workflow_notes.md. Standard library only.
"""

import json
import re
import sys
import urllib.request
import uuid
from pathlib import Path

HERE = Path(__file__).resolve().parent
WORKFLOWS = HERE.parent / "workflows"
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
INDEX = json.loads((HERE / "templates.json").read_text(encoding="utf-8"))
MODEL_FOLDERS = {
    "UNETLoader": "diffusion_models", "CLIPLoader": "text_encoders", "DualCLIPLoader": "text_encoders",
    "VAELoader": "vae", "CheckpointLoaderSimple": "checkpoints", "CLIPVisionLoader": "clip_vision",
}  # fmt: skip
MODEL_NODES = ("LongTakeDemoBackbone", "LongTakeCogVideoXLoader", *MODEL_FOLDERS, "ModelSamplingSD3")
LATENTS = ("EmptyHunyuanLatentVideo", "EmptyHunyuanVideo15Latent", "EmptyLTXVLatentVideo", "LoadImage")
SAMPLERS = ("KSampler", "KSamplerAdvanced", "LongTakeSynCoSKSampler", "SamplerCustom", "SamplerCustomAdvanced")
COLUMNS = (  # title, width in pixels, and the nodes in it; column 0 holds the note to read first
    ("Start here", 420, ()),
    ("1. Model and length", 340, (*MODEL_NODES, *LATENTS)),
    ("2. Prompt", 460, (
        "LongTakeStructuredPrompt", "LongTakePromptTimeline", "CLIPTextEncode", "CreateHookLora", "LongTakeEventHooks",
        "LTXVConditioning", "CLIPVisionEncode", "WanImageToVideo", "ImageBatch", "LongTakeEventKeyframes",
    )),
    ("3. Windows", 440, (
        "LongTakeWindowScheduler", "LongTakeNoiseReinit", "LongTakeNoiseToModel", "LongTakeABAM",
        "LongTakeDiTCtrl", "LongTakeVideoInfinity", "LongTakeCheckpointModel", "LongTakeWorkers",
    )),
    ("4. Sample", 400, (
        "RandomNoise", "KSamplerSelect", "LongTakeSynCoSSampler", "LongTakeFIFOSampler", "LongTakeMEVGSampler",
        "LongTakeVMCR", "LongTakeCheckpoint", "BasicScheduler", "LTXVScheduler", "CFGGuider", *SAMPLERS,
        "LongTakeRedoSpan", "LongTakeContinue", "LongTakeLoadRun",
    )),
    ("5. Decode and save", 480, (
        "VAEDecode", "VAEDecodeTiled", "ImageScaleBy", "CreateVideo", "LongTakeDecodeToVideo",
        "LongTakeEncodeVideo", "SaveVideo",
    )),
    ("6. Compare", 640, (
        "LongTakeCompare", "LongTakeLoadMetricEncoder", "LongTakeVideoMetrics", "LongTakeCompareMetrics",
    )),
)  # fmt: skip
# Pixels of what is drawn in a node: by web/, or the video that it has made.
DRAWN = {
    "LongTakePromptTimeline": 280, "LongTakeWindowScheduler": 450, "LongTakeLoadRun": 150, "LongTakeDecodeToVideo": 340,
    "LongTakeCompare": 640, "LongTakeRedoSpan": 50, "LongTakeContinue": 50, "LongTakeEventKeyframes": 50,
    "LongTakeVideoMetrics": 560, "LongTakeCompareMetrics": 800, "LoadImage": 240,
    "LongTakeSynCoSSampler": 80, "LongTakeVMCR": 30,
}  # fmt: skip
HEAD, GAP, GROUP_HEAD = 30, 30, 50  # pixels: a node's title bar, space between nodes, a group's title
ROOM = 780  # pixels under a sampler: while it runs, ComfyUI shows its preview there, and we the filmstrip
VIEW = {"scale": 0.6, "offset": [150, 270]}  # the first node, clear of the page's menus


def read_notes():
    parts = re.split(r"^<!-- (.+) -->\n", (HERE / "workflow_notes.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    notes = {key: text.strip() for key, text in zip(parts[::2], parts[1::2], strict=True)}
    words = notes.pop("words")
    return {key: text.replace("{words}", words) for key, text in notes.items()}


def read_inputs(definition):
    """Of a node's definition: sockets [(name, type, optional)], widgets [(name, type, options)]."""
    sockets, widgets = [], []
    for part in ("required", "optional"):
        for name, (kind, *rest) in definition["input"].get(part, {}).items():
            kind, options = "COMBO" if isinstance(kind, list) else kind, rest[0] if rest else {}
            if kind in WIDGETS and not options.get("forceInput"):
                widgets.append((name, kind, options))
            else:
                sockets.append((name, kind, part == "optional"))
    return sockets, widgets


def whole(value):
    """JavaScript has one number type: 4.0 is saved as 4."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def make_node(kind, definition, values, title=None):
    """An unconnected node and its height in pixels."""
    sockets, widgets = read_inputs(definition)
    inputs = [{"name": n, "type": t, **({"shape": 7} if optional else {}), "link": None} for n, t, optional in sockets]
    inputs += [{"name": n, "type": t, "widget": {"name": n}, "link": None} for n, t, _ in widgets]
    outputs = zip(definition["output_name"], definition["output"], strict=True)
    node = {
        "type": kind,
        "inputs": inputs,
        "outputs": [{"name": name, "type": t, "links": None} for name, t in outputs],
        "properties": {"Node name for S&R": kind},
        "widgets_values": [],
    }
    if title and title != definition["display_name"]:
        node["title"] = title
    height = 14 + 20 * max(len(sockets), len(node["outputs"])) + DRAWN.get(kind, 0)
    for name, _, options in widgets:
        linked = isinstance(values[name], list)
        node["widgets_values"].append(options.get("default", "") if linked else whole(values[name]))
        height += 130 if options.get("multiline") else 24
        if options.get("control_after_generate"):
            node["widgets_values"].append("fixed")
            height += 24
    if kind in MODEL_FOLDERS:
        node["properties"]["models"] = [
            {"name": name, "url": f"{INDEX['models'][name]}{name}?download=true", "directory": MODEL_FOLDERS[kind]}
            for name in node["widgets_values"] if name in INDEX["models"]
        ]  # fmt: skip
    return node, {"SaveVideo": 460}.get(kind, height)


def make_note(text, title, width):
    lines = sum(1 + len(line) // (width // 7) for line in text.split("\n"))
    note = {"type": "MarkdownNote", "inputs": [], "outputs": [], "title": title, "properties": {}}
    return {**note, "widgets_values": [text], "color": "#432", "bgcolor": "#653"}, 40 + 17 * lines


def column_of(kind):
    return next(i for i, (_, _, kinds) in enumerate(COLUMNS) if kind in kinds)


def place(columns, nodes):
    """Give each node its place and size; columns: per column [(id, height)]. Returns the groups around them."""
    groups, x = [], 0
    for (title, width, _), members in zip(COLUMNS, columns, strict=True):
        if not members:
            continue
        y = 0
        for node_id, height in members:
            nodes[node_id] |= {"pos": [x, y], "size": [width, height]}
            y += height + HEAD + GAP + (ROOM if nodes[node_id]["type"] in SAMPLERS else 0)
        if title != "Start here":
            bounding = [x - 20, -HEAD - GROUP_HEAD, width + 40, y + GROUP_HEAD]
            group = {"id": len(groups) + 1, "title": title, "bounding": bounding, "color": "#3f789e"}
            groups.append({**group, "font_size": 24, "flags": {}})
        x += width + 80
    return groups


def ordered(nodes, links):
    """The nodes as they are saved, each after its sources. links: [(id, source, slot, target, ...)]."""
    done = []
    while len(done) < len(nodes):
        done += [i for i in nodes if i not in done and all(s in done for _, s, _, t, *_ in links if t == i)]
    first = ("id", "type", "pos", "size", "flags", "order", "mode")
    saved = [{"id": i, "flags": {}, "order": order, "mode": 0, **nodes[i]} for order, i in enumerate(done)]
    return [{**{key: node[key] for key in first}, **node} for node in saved]


def build(name, graph, definitions, notes):
    graph = {int(node_id): node for node_id, node in graph.items()}
    columns = [[] for _ in COLUMNS]  # per column: (id, node, height)
    nodes = {}

    def add(node_id, node, height, column):
        nodes[node_id] = node
        columns[column].append((node_id, height))
        columns[column].sort(key=lambda entry: nodes[entry[0]]["type"] in SAMPLERS)  # these last: they grow

    next_id = max(graph) + 1
    for node_id, item in graph.items():
        kind = item["class_type"]
        add(node_id, *make_node(kind, definitions[kind], item["inputs"], item["_meta"]["title"]), column_of(kind))
    for key, text in notes.items():
        if key.split()[0] == name:
            column = int(key.split()[1])
            add(next_id, *make_note(text, "Note" if column else "Start here", COLUMNS[column][1]), column)
            next_id += 1

    links = []

    def connect(source, slot, target, input_name):
        index = next(i for i, entry in enumerate(nodes[target]["inputs"]) if entry["name"] == input_name)
        output = nodes[source]["outputs"][slot]
        links.append([len(links) + 1, source, slot, target, index, output["type"]])
        nodes[target]["inputs"][index]["link"] = len(links)
        output["links"] = [*(output["links"] or []), len(links)]

    for node_id, item in graph.items():
        for input_name, value in item["inputs"].items():
            if isinstance(value, list):
                connect(int(value[0]), value[1], node_id, input_name)

    groups = place(columns, nodes)
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, "longtake/" + name)),
        "revision": 0,
        "last_node_id": max(nodes),
        "last_link_id": len(links),
        "nodes": ordered(nodes, links),
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {"ds": VIEW},
        "version": 0.4,
    }


def file_name(name):
    """The UI graph of an API graph, without its ending: the title that ComfyUI shows, numbered in our order."""
    templates = INDEX["templates"]
    place = [template["name"] for template in templates].index(name)
    return f"{place + 1:02} {templates[place]['title']}"


def main(url="http://127.0.0.1:8188"):
    with urllib.request.urlopen(url + "/object_info") as reply:
        definitions = json.load(reply)
    notes = read_notes()
    for path in sorted((WORKFLOWS / "api").glob("*.json")):
        graph = build(path.stem, json.loads(path.read_text(encoding="utf-8")), definitions, notes)
        text = json.dumps(graph, indent=2, ensure_ascii=False) + "\n"
        (WORKFLOWS / (file_name(path.stem) + ".json")).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
