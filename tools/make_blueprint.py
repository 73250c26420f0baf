"""Build the subgraph blueprint subgraphs/Long video (Wan).json from the API graph of a template.

    python3 start.py serve                                  # in another terminal
    python3 -m tools.make_blueprint [http://127.0.0.1:8188]  # a ComfyUI with this pack, asked for node definitions

From the repository's root. ComfyUI lists a pack's subgraphs/*.json among its nodes, under their files' names. Outside
stand model, clip and vae as sockets, for loaders, LoRAs and file names are the user's own; and global prompt, events,
length and seed as widgets. One length is linked to all that take it. Standard library only.
"""

import json
import sys
import urllib.request
import uuid

from .make_workflows import COLUMNS, WORKFLOWS, column_of, make_node, ordered, place

SOURCE = "wan_1_3b_timeline"
NAME = "Long video (Wan)"
FILE = WORKFLOWS.parent / "subgraphs" / f"{NAME}.json"
DESCRIPTION = "A video longer than the model's clip, with prompts at their times. Link your Wan 2.1 model, CLIP, VAE."
ALIASES = ["long video", "text to video", "prompt schedule", "storyboard", "scenes"]
LEFT_OUT = ("UNETLoader", "CLIPLoader", "VAELoader", "SaveVideo")  # outside
SOCKETS = {"UNETLoader": ("model", "MODEL"), "CLIPLoader": ("clip", "CLIP"), "VAELoader": ("vae", "VAE")}
WIDGETS = {  # outside: which widgets inside
    "global_prompt": [("LongTakePromptTimeline", "global_prompt")],  # a name that web/js/labels.js knows
    "events": [("LongTakePromptTimeline", "events")],
    "length": [(kind, "length") for kind in (
        "EmptyHunyuanLatentVideo", "LongTakePromptTimeline", "LongTakeWindowScheduler")],
}  # fmt: skip
SEED = ("KSampler", "seed")  # shown from inside, not linked: only so it keeps "control after generate"
RESULT = ("CreateVideo", "video", "VIDEO")
INPUTS, OUTPUTS = -10, -20  # ids of a subgraph's ends


def ident(name):
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"longtake/blueprint/{name}"))


def make(graph, definitions):
    graph = {int(node_id): node for node_id, node in graph.items()}
    kinds = {node_id: node["class_type"] for node_id, node in graph.items()}
    inside = {kind: node_id for node_id, kind in kinds.items() if kind not in LEFT_OUT}
    nodes, columns = {}, [[] for _ in COLUMNS]
    for node_id, item in graph.items():
        kind = item["class_type"]
        if kind in LEFT_OUT:
            continue
        nodes[node_id], height = make_node(kind, definitions[kind], item["inputs"], item["_meta"]["title"])
        columns[column_of(kind)].append((node_id, height))

    ends = {name: {"id": ident(name), "name": name, "type": kind, "linkIds": []} for name, kind in SOCKETS.values()}
    links = []

    def connect(source, slot, target, name, kind):
        index = next(i for i, entry in enumerate(nodes[target]["inputs"]) if entry["name"] == name)
        links.append([len(links) + 1, source, slot, target, index, kind])
        nodes[target]["inputs"][index]["link"] = len(links)
        if source == INPUTS:
            list(ends.values())[slot]["linkIds"].append(len(links))
        else:
            output = nodes[source]["outputs"][slot]
            output["links"] = [*(output["links"] or []), len(links)]

    for node_id in nodes:
        for name, value in graph[node_id]["inputs"].items():
            if isinstance(value, list):
                source, slot = int(value[0]), value[1]
                if source in nodes:
                    connect(source, slot, node_id, name, nodes[source]["outputs"][slot]["type"])
                else:
                    end, kind = SOCKETS[kinds[source]]
                    connect(INPUTS, list(ends).index(end), node_id, name, kind)
    values = []
    for name, targets in WIDGETS.items():
        kind = next(e["type"] for e in nodes[inside[targets[0][0]]]["inputs"] if e["name"] == targets[0][1])
        ends[name] = {"id": ident(name), "name": name, "type": kind, "linkIds": []}
        values.append(graph[inside[targets[0][0]]]["inputs"][targets[0][1]])
        for target, widget in targets:
            connect(INPUTS, list(ends).index(name), inside[target], widget, kind)
    kind, result, result_type = RESULT
    nodes[inside[kind]]["outputs"][0]["links"] = [len(links) + 1]
    last = {"id": ident(result), "name": result, "type": result_type, "linkIds": [len(links) + 1]}
    groups = place(columns, nodes)
    saved = ordered(nodes, [link for link in links if link[1] != INPUTS])
    links.append([len(links) + 1, inside[kind], 0, OUTPUTS, 0, result_type])
    right = max(node["pos"][0] + node["size"][0] for node in saved)
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    subgraph = {
        "id": ident(NAME),
        "version": 1,
        "state": {"lastGroupId": len(groups), "lastNodeId": max(graph), "lastLinkId": len(links), "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": NAME,
        "inputNode": {"id": INPUTS, "bounding": [-220, 0, 140, 40 + 20 * len(ends)]},
        "outputNode": {"id": OUTPUTS, "bounding": [right + 80, 0, 120, 60]},
        "inputs": [{**end, "pos": [-100, 20 + 20 * i]} for i, end in enumerate(ends.values())],
        "outputs": [{**last, "pos": [right + 100, 20]}],
        "widgets": [],
        "nodes": saved,
        "groups": groups,
        "links": [dict(zip(keys, link, strict=True)) for link in links],
        "extra": {},
        "category": "LongTake",
        "description": DESCRIPTION,
    }
    seed = str(inside[SEED[0]])
    shown = [["-1", name] for name in WIDGETS] + [[seed, SEED[1]], [seed, "control_after_generate"]]
    inputs = [
        {"name": name, "type": end["type"], **({"widget": {"name": name}} if name in WIDGETS else {}), "link": None}
        for name, end in ends.items()
    ]
    host = {
        "id": max(graph) + 1,
        "type": subgraph["id"],
        "pos": [0, 0],
        "size": [460, 560],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": inputs,
        "outputs": [{"name": result, "type": result_type, "links": None}],
        "title": NAME,
        "properties": {"proxyWidgets": shown},
        "widgets_values": values,
    }
    return {
        "id": ident("graph"),
        "revision": 0,
        "last_node_id": host["id"],
        "last_link_id": 0,
        "nodes": [host],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [subgraph]},
        "config": {},
        "extra": {"BlueprintDescription": DESCRIPTION, "BlueprintSearchAliases": ALIASES},
        "version": 0.4,
    }


def main(url="http://127.0.0.1:8188"):
    with urllib.request.urlopen(url + "/object_info") as reply:
        definitions = json.load(reply)
    graph = json.loads((WORKFLOWS / "api" / f"{SOURCE}.json").read_text(encoding="utf-8"))
    FILE.parent.mkdir(exist_ok=True)
    text = json.dumps(make(graph, definitions), indent=2, ensure_ascii=False) + "\n"
    FILE.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
