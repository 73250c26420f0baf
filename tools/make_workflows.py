"""Build the UI graphs of workflows/ from the API graphs of workflows/api/: layout, notes, reports, model links.

    python3 start.py serve                                   # in another terminal
    python3 -m tools.make_workflows [http://127.0.0.1:8188]  # a ComfyUI with this pack, asked for node definitions

From the repository's root. The files have the shape that ComfyUI's front-end saves (schema 0.4); the notes are in
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
REPORTS = ("LongTakeWindowScheduler", "LongTakePromptTimeline")  # nodes whose output "report" is shown
MODEL_FOLDERS = {"UNETLoader": "diffusion_models", "CLIPLoader": "text_encoders", "VAELoader": "vae"}
MODEL_NODES = ("LongTakeDemoBackbone", "LongTakeCogVideoXLoader", *MODEL_FOLDERS, "ModelSamplingSD3")
MODEL_LINK = "https://huggingface.co/Comfy-Org/Wan_2.1_ComfyUI_repackaged/resolve/main/split_files"
COLUMNS = (  # title, width in pixels, and the nodes in it; column 0 holds the note to read first
    ("Start here", 420, ()),
    ("1. Model and length", 340, (*MODEL_NODES, "EmptyHunyuanLatentVideo")),
    ("2. Prompt", 460, ("LongTakeStructuredPrompt", "LongTakePromptTimeline", "CLIPTextEncode")),
    ("3. Windows", 440, ("LongTakeWindowScheduler", "LongTakeNoiseReinit", "LongTakeNoiseToModel", "LongTakeABAM")),
    ("4. Sample and decode", 340, (
        "KSampler", "LongTakeSynCoSKSampler", "RandomNoise", "KSamplerSelect", "LongTakeSynCoSSampler", "LongTakeVMCR",
        "BasicScheduler", "CFGGuider", "SamplerCustomAdvanced", "VAEDecode", "VAEDecodeTiled", "ImageScaleBy",
        "CreateVideo", "LongTakeDecodeToVideo", "LongTakeEncodeVideo",
    )),
    ("5. Save", 480, ("SaveVideo",)),
)
# Pixels of what is drawn in a node: by web/, or the video that it has made.
DRAWN = {"LongTakePromptTimeline": 230, "LongTakeWindowScheduler": 400, "LongTakeDecodeToVideo": 340}
HEAD, GAP, GROUP_HEAD = 30, 30, 50  # pixels: a node's title bar, space between nodes, a group's title


def read_notes():
    parts = re.split(r"^<!-- (.+) -->\n", (HERE / "workflow_notes.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    notes = {key: text.strip() for key, text in zip(parts[::2], parts[1::2], strict=True)}
    words = notes.pop("words")
    return {key: text.replace("{words}", words) for key, text in notes.items()}


def read_inputs(definition):
    """Of a node's definition: sockets [(name, type, optional)], widgets [(name, type, options)]."""
    sockets, widgets = [], []
    for part in ("required", "optional"):
        for name, (kind, *options) in definition["input"].get(part, {}).items():
            kind = "COMBO" if isinstance(kind, list) else kind
            if kind in WIDGETS:
                widgets.append((name, kind, options[0] if options else {}))
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
        name, folder = node["widgets_values"][0], MODEL_FOLDERS[kind]
        link = f"{MODEL_LINK}/{folder}/{name}?download=true"
        node["properties"]["models"] = [{"name": name, "url": link, "directory": folder}]
    return node, {"PreviewAny": 190, "SaveVideo": 460}.get(kind, height)


def make_note(text, title, width):
    lines = sum(1 + len(line) // (width // 7) for line in text.split("\n"))
    note = {"type": "MarkdownNote", "inputs": [], "outputs": [], "title": title, "properties": {}}
    return {**note, "widgets_values": [text], "color": "#432", "bgcolor": "#653"}, 40 + 17 * lines


def build(name, graph, definitions, notes):
    graph = {int(node_id): node for node_id, node in graph.items()}
    columns = [[] for _ in COLUMNS]  # per column: (id, node, height)
    nodes = {}

    def add(node_id, node, height, column):
        nodes[node_id] = node
        columns[column].append((node_id, height))

    next_id = max(graph) + 1
    reports = []
    for node_id, item in graph.items():
        kind = item["class_type"]
        column = next(i for i, (_, _, kinds) in enumerate(COLUMNS) if kind in kinds)
        add(node_id, *make_node(kind, definitions[kind], item["inputs"], item["_meta"]["title"]), column)
        if kind in REPORTS:
            reports.append((node_id, next_id))
            add(next_id, *make_node("PreviewAny", definitions["PreviewAny"], {}, "Report"), column)
            next_id += 1
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
    for source, target in reports:
        slot = next(i for i, output in enumerate(nodes[source]["outputs"]) if output["name"] == "report")
        connect(source, slot, target, "source")

    groups, x = [], 0
    for (title, width, _), members in zip(COLUMNS, columns, strict=True):
        if not members:
            continue
        y = 0
        for node_id, height in members:
            nodes[node_id] |= {"pos": [x, y], "size": [width, height]}
            y += height + HEAD + GAP
        if title != "Start here":
            bounding = [x - 20, -HEAD - GROUP_HEAD, width + 40, y + GROUP_HEAD]
            group = {"id": len(groups) + 1, "title": title, "bounding": bounding, "color": "#3f789e"}
            groups.append({**group, "font_size": 24, "flags": {}})
        x += width + 80

    done = []  # execution order: a node after its sources
    while len(done) < len(nodes):
        done += [i for i in nodes if i not in done and all(s in done for _, s, _, t, *_ in links if t == i)]
    first = ("id", "type", "pos", "size", "flags", "order", "mode")
    saved = [{"id": i, "flags": {}, "order": order, "mode": 0, **nodes[i]} for order, i in enumerate(done)]
    return {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, "longtake/" + name)),
        "revision": 0,
        "last_node_id": max(nodes),
        "last_link_id": len(links),
        "nodes": [{**{key: node[key] for key in first}, **node} for node in saved],
        "links": links,
        "groups": groups,
        "config": {},
        "extra": {"ds": {"scale": 0.6, "offset": [60, 140]}},
        "version": 0.4,
    }


def main(url="http://127.0.0.1:8188"):
    with urllib.request.urlopen(url + "/object_info") as reply:
        definitions = json.load(reply)
    notes = read_notes()
    for path in sorted((WORKFLOWS / "api").glob("*.json")):
        graph = build(path.stem, json.loads(path.read_text(encoding="utf-8")), definitions, notes)
        text = json.dumps(graph, indent=2, ensure_ascii=False) + "\n"
        (WORKFLOWS / path.name).write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
