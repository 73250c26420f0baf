"""The example graphs in both of their forms, and what has been released."""

import json

from longtake.tools.make_workflows import file_name

from .paths import ROOT, WORKFLOWS

NAMES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))
LOADERS = {  # nodes that load model files, and the inputs that name these
    "UNETLoader": ("unet_name",), "CLIPLoader": ("clip_name",), "VAELoader": ("vae_name",),
    "DualCLIPLoader": ("clip_name1", "clip_name2"), "CheckpointLoaderSimple": ("ckpt_name",),
    "CLIPVisionLoader": ("clip_name",),
}  # fmt: skip


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def ui_graph(name):
    return read(WORKFLOWS / f"{file_name(name)}.json")


def api_graph(name):
    return read(WORKFLOWS / "api" / f"{name}.json")


def model_links(graph):
    """The links to model files in a UI graph's nodes."""
    return [link for node in graph["nodes"] for link in node["properties"].get("models", [])]


# Nodes, inputs and outputs that saved graphs may have. Add to the file; never change what it holds.
RELEASED = read(ROOT / "tests" / "nodes" / "schema.json")
