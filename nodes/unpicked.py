"""Prompt Timelines of a queued graph whose events nothing picks: said in the log and on the node, before the run.

In a run without LongTake windows nothing of ours is asked, and Prompt Timeline itself may be cached: only the queued
graph shows it every time. A node that expands to others (loops) is taken as it stands.
"""

import logging
from collections.abc import Iterator

import nodes as core

from ..samplers.adapters import progress
from ..samplers.adapters.timeline_notes import unpicked

logger = logging.getLogger(__name__)

TIMELINE = "LongTakePromptTimeline"
WINDOWS = ("LongTakeWindowScheduler", "LongTakeSynCoSSampler", "LongTakeSynCoSKSampler", "LongTakeFIFOSampler",
           "LongTakeMEVGSampler")  # fmt: skip
ANY = "*"
PROMPTS = ("CONDITIONING", "GUIDER", ANY)  # what carries a prompt to a sampler
MODELS = ("MODEL", "GUIDER", "SAMPLER", ANY)  # what brings windows to it
warned: set[str] = set()  # nodes that show a warning: the front-end keeps it until another text comes


def outputs(node: dict) -> tuple:
    """The types of a node's outputs; none where its class is not known."""
    return tuple(getattr(core.NODE_CLASS_MAPPINGS.get(node["class_type"]), "RETURN_TYPES", ()))


def links(graph: dict, node_id: str) -> Iterator[tuple[str, str]]:
    """(node, type) of what is linked to a node's inputs."""
    for value in graph[node_id]["inputs"].values():
        if not (isinstance(value, list) and [type(part) for part in value] == [str, int] and value[0] in graph):
            continue
        source, output = value
        kinds = outputs(graph[source])
        kind = kinds[output] if 0 <= output < len(kinds) else ANY
        yield source, kind if isinstance(kind, str) else ANY


def reached(start: str, following: dict[str, list[str]]) -> set[str]:
    found, rest = set(), [start]
    while rest:
        for node_id in following.get(rest.pop(), ()):
            if node_id not in found:
                found.add(node_id)
                rest.append(node_id)
    return found


def without_windows(graph: dict) -> dict[str, str]:
    """{timeline: a sampler that it reaches and whose model chain has no LongTake windows}, both by id."""
    prompts, models, samplers = {}, {}, []
    for node_id in graph:
        kinds = set()
        for source, kind in links(graph, node_id):
            kinds.add(kind)
            if kind in PROMPTS:
                prompts.setdefault(source, []).append(node_id)
            if kind in MODELS:
                models.setdefault(node_id, []).append(source)
        if kinds & {"MODEL", "GUIDER"} and "LATENT" in outputs(graph[node_id]):
            samplers.append(node_id)
    bare = [s for s in samplers if not any(graph[i]["class_type"] in WINDOWS for i in {s} | reached(s, models))]
    timelines = {i: reached(i, prompts) for i, node in graph.items() if node["class_type"] == TIMELINE}
    return {i: sampler for i, found in timelines.items() for sampler in bare if sampler in found}


def notice(request: dict) -> dict:
    """An on_prompt handler of ComfyUI's server: warns of such timelines of a request, and lets it pass."""
    graph = request.get("prompt")
    graph = graph if isinstance(graph, dict) else {}
    graph = {k: v for k, v in graph.items() if isinstance(v, dict) and isinstance(v.get("inputs"), dict)
             and isinstance(v.get("class_type"), str)}  # fmt: skip
    client, lost = request.get("client_id"), without_windows(graph)
    for node_id, node in graph.items():
        if node["class_type"] != TIMELINE:
            continue
        text = "LongTake windows pick the events."
        if node_id in lost:
            sampler = graph[lost[node_id]]["class_type"]
            text = unpicked(f"none of its events is used in {sampler} (node {lost[node_id]})")
            logger.warning("%s.", text)
        if client is not None and (node_id in lost or node_id in warned):
            progress.show_on(node_id, text, client)
        (warned.add if node_id in lost else warned.discard)(node_id)
    return request
