"""The example graphs in both of their forms, and what has been released."""

import json

from .paths import ROOT, WORKFLOWS

NAMES = sorted(path.stem for path in (WORKFLOWS / "api").glob("*.json"))
LOADERS = {"UNETLoader": "unet_name", "CLIPLoader": "clip_name", "VAELoader": "vae_name"}


def read(path):
    return json.loads(path.read_text(encoding="utf-8"))


def ui_graph(name):
    return read(WORKFLOWS / f"{name}.json")


def api_graph(name):
    return read(WORKFLOWS / "api" / f"{name}.json")


def model_links(graph):
    """The links to model files in a UI graph's nodes."""
    return [link for node in graph["nodes"] for link in node["properties"].get("models", [])]


# Nodes, inputs and outputs that saved graphs may have. Add to the file; never change what it holds.
RELEASED = read(ROOT / "tests" / "nodes" / "schema.json")
