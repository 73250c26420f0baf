"""Kept runs through a real server: cancelled, looked at, resumed; the list that the page asks for."""

import json

import pytest
from longtake.nodes.routes import respond, runs
from longtake.tools.headless import GraphError
from safetensors.torch import load_file
from support.graphs import api_graph
from support.kept_runs import EVERY, output, sample, wan  # noqa: F401

LENGTH, STEPS = 73, 5


def graph(sampler, seed, kept=True):
    """A small graph whose runs are kept, or not; its latent is saved."""
    nodes = api_graph({"KSampler": "genl", "SamplerCustomAdvanced": "resume", "SynCoS": "syncos_two"}[sampler])
    for node in nodes.values():
        known = {"length": LENGTH, "steps": STEPS, "seed": seed, "noise_seed": seed, "fps": 4.0}
        known["checkpoint_every"] = int(kept)
        node["inputs"].update({key: value for key, value in known.items() if key in node["inputs"]})
    kinds = ("KSampler", "SamplerCustomAdvanced", "LongTakeSynCoSKSampler")
    key, node = next((key, node) for key, node in nodes.items() if node["class_type"] in kinds)
    if sampler == "SamplerCustomAdvanced" and not kept:
        node["inputs"]["sampler"] = ["9", 0]
    if sampler == "KSampler" and kept:
        keep = {"model": node["inputs"]["model"], "every": 1, "keep_gb": 1.0, "keep_days": 1.0}
        nodes["90"] = {"class_type": "LongTakeCheckpointModel", "inputs": keep}
        node["inputs"]["model"] = ["90", 0]
    nodes = {k: n for k, n in nodes.items() if n["class_type"] not in ("SaveVideo", "LongTakeLoadRun")}
    nodes["91"] = {"class_type": "SaveLatent", "inputs": {"samples": [key, 0], "filename_prefix": "kept"}}
    return nodes


def latent(server, nodes, on_event=lambda event, data: None):
    """The latent of a graph, and the texts that its nodes showed."""
    texts = []

    def note(event, data):
        if event == "binary" and b"LongTake" not in data:
            texts.append(data[8:].decode("utf-8", errors="replace"))
        on_event(event, data)

    entry = server.queue(nodes, note)
    (file,) = entry["outputs"]["91"]["latents"]
    return load_file(server.output / file["subfolder"] / file["filename"])["latent_tensor"], " ".join(texts)


@pytest.mark.parametrize("sampler", ["KSampler", "SamplerCustomAdvanced", "SynCoS"])
def test_a_cancelled_run_can_be_seen_and_goes_on(comfy_server, sampler):
    whole, _ = latent(comfy_server, graph(sampler, 7, kept=False))
    seen = []

    def cancel(event, data):
        if event == "progress" and data["value"] >= 2 and not seen:
            seen.append(data)
            comfy_server.interrupt()

    with pytest.raises(GraphError, match="interrupted"):
        latent(comfy_server, graph(sampler, 7), cancel)
    run = comfy_server.request(runs.PATH, {})[1]["runs"][0]
    assert 1 <= run["step"] < STEPS == run["total"] and run["size"] > 1000 and run["broken"] == []

    look = {
        "1": {"class_type": "LongTakeLoadRun", "inputs": {"run": run["name"]}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 3]}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 1]}},
        "91": {"class_type": "SaveLatent", "inputs": {"samples": ["1", 0], "filename_prefix": "kept"}},
    }
    entry = comfy_server.queue(look)
    (text,) = entry["outputs"]["2"]["text"]
    assert text.startswith(f"{run['name']}: step {run['step']} of {STEPS}, ")
    assert len(entry["outputs"]["3"]["images"]) == 16
    file = entry["outputs"]["91"]["latents"][0]["filename"]
    assert load_file(comfy_server.output / file)["latent_tensor"].shape == (1, 16, 19, 8, 8)

    resumed, texts = latent(comfy_server, graph(sampler, 7))
    assert f"resumes after step {run['step']} of {STEPS}" in texts
    assert resumed.equal(whole)
    assert comfy_server.request(runs.PATH, {"delete": run["name"]})[0] == 200


def test_the_list_names_runs_and_deletes_one(output):  # noqa: F811
    model = wan()
    for seed in (1, 2):
        sample(model, settings=EVERY, seed=seed)
    status, data = respond(runs.answer, runs.MOST_BYTES, b"{}")
    assert status == 200 and [run["step"] for run in data["runs"]] == [6, 6]
    first, second = (run["name"] for run in data["runs"])
    status, data = respond(runs.answer, runs.MOST_BYTES, json.dumps({"delete": first}).encode())
    assert status == 200 and [run["name"] for run in data["runs"]] == [second]
    assert [path.name for path in (output / "longtake" / "runs").iterdir()] == [second]


@pytest.mark.parametrize("body", [
    b"", b"[]", b"{", b'{"remove": 1}', b'{"delete": ".."}', b'{"delete": "../../x"}', b'{"delete": null}',
    b'{"delete": ["a"]}', b"[" * 900, b" " * 2000, b"\xff",
])  # fmt: skip
def test_the_list_refuses_what_it_does_not_know(output, body):  # noqa: F811
    status, data = respond(runs.answer, runs.MOST_BYTES, body)
    assert status == 400 and data.keys() == {"error"}
