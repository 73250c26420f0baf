"""Wrong input, cancelling and repeating, all through a real server's /prompt with the demo model."""

import copy
import json
import math
import shutil
import sys
from pathlib import Path

import comfy.ldm.modules.diffusionmodules.mmdit as mmdit
import comfy.ops
import pytest
import torch
from longtake.tools.headless import GraphError, Server
from safetensors.torch import save_file
from support.graphs import api_graph
from support.paths import COMFYUI_PATH, ROOT

LENGTH = 73  # 19 latent frames: two windows of 13


def graph(name="timeline", **inputs):
    """An API graph made small, with `inputs` as {"Class.input": value}."""
    nodes = api_graph(name)
    # 128 pixels: for smaller pictures x264 reads memory that it never wrote, and the same video gets other bytes
    changes = {"KSampler.steps": 2, "ImageScaleBy.scale_by": 2.0, "EmptyHunyuanLatentVideo.length": LENGTH,
               "LongTakeWindowScheduler.length": LENGTH, "LongTakePromptTimeline.length": LENGTH} | inputs
    for path, value in changes.items():
        cls, key = path.split(".")
        for node in nodes.values():
            if node["class_type"] == cls:
                assert key in node["inputs"], path
                node["inputs"][key] = value
    return nodes


def log_of(server):
    return server.log.read_text(encoding="utf-8", errors="replace")


@pytest.mark.parametrize(("inputs", "words"), [
    ({"LongTakeWindowScheduler.overlap": 49}, ["Global/Local Window Scheduler", "overlap", "49", "smaller than"]),
    ({"LongTakeWindowScheduler.overlap": 90}, ["overlap (90)", "window_length (49)"]),
    ({"EmptyHunyuanLatentVideo.length": 0}, ["EmptyHunyuanLatentVideo", "length", "0"]),
    ({"LongTakePromptTimeline.length": -1}, ["LongTakePromptTimeline", "length", "-1"]),
    ({"LongTakeWindowScheduler.window_length": 0}, ["Window Scheduler", "window_length", "0"]),
    ({"LongTakePromptTimeline.events": ""}, ["Prompt Timeline", "events"]),
    ({"LongTakePromptTimeline.events": "a | | b"}, ["Prompt Timeline", "events"]),
    ({"LongTakePromptTimeline.events": "[0-3s] bouncing\n[2-4s] circling"}, ["Prompt Timeline", "bouncing"]),
    ({"LongTakePromptTimeline.events": "0s: bouncing\n60s: circling"}, ["Prompt Timeline", "60s", str(LENGTH)]),
    ({"LongTakePromptTimeline.events": '{"0": "bouncing", "24": }'}, ["Prompt Timeline", "JSON"]),
])
def test_wrong_settings_are_refused_by_name(comfy_server, inputs, words):
    with pytest.raises(GraphError) as caught:
        comfy_server.queue(graph(**inputs))
    text = str(caught.value) + json.dumps(caught.value.details)
    assert all(word in text for word in words), text


@pytest.mark.parametrize(("path", "value", "kind", "words"), [
    ("LongTakeWindowScheduler.overlap", "static", "invalid_input_type", "overlap, static"),
    ("LongTakeWindowScheduler.window_length", None, "invalid_input_type", "window_length, None"),
    ("LongTakeWindowScheduler.overlap", 10**9, "custom_validation_failed", "overlap (1000000000) must be between 0"),
    ("LongTakeWindowScheduler.overlap", 49, "custom_validation_failed", "overlap (49) must be at least 0 and smaller"),
    ("LongTakeWindowScheduler.retain", "first", "custom_validation_failed", "retain (first) must be latent frames"),
    ("LongTakeWindowScheduler.beta", math.nan, "value_smaller_than_min", "beta"),
    ("LongTakeWindowScheduler.fuse", "cubic", "value_not_in_list", "fuse: 'cubic'"),
    ("LongTakeWindowScheduler.global_path", "static", "custom_validation_failed", "global_path must be true or false"),
    ("LongTakePromptTimeline.fps", "fixed", "invalid_input_type", "fps, fixed"),
    ("LongTakePromptTimeline.length", 10**9, "value_bigger_than_max", "length"),
    ("LongTakePromptTimeline.events", {}, "custom_validation_failed", "events must be text, not {}"),
    ("LongTakePromptTimeline.blend", 70, "custom_validation_failed", "blend (70 pixel frames) must be"),
])
def test_one_message_names_the_widget(comfy_server, path, value, kind, words):
    with pytest.raises(GraphError) as caught:
        comfy_server.queue(graph(**{path: value}))
    (node,) = caught.value.details["node_errors"].values()
    (error,) = node["errors"]
    assert node["class_type"] == path.split(".")[0] and error["type"] == kind and words in error["details"]


@pytest.mark.parametrize(("path", "value", "words"), [
    ("LongTakeWindowScheduler.beta", 1.0, "LongTakeWindowScheduler.*beta .1.0. must be between -0.01 and 0.01"),
    ("LongTakeWindowScheduler.overlap", 49, "LongTakeWindowScheduler.*overlap .49. must be .* smaller"),
])
def test_a_value_by_a_link_is_refused_when_the_node_runs(comfy_server, path, value, words):
    nodes = graph(**{path: ["30", 0]})
    kind = "PrimitiveFloat" if isinstance(value, float) else "PrimitiveInt"
    nodes["30"] = {"class_type": kind, "inputs": {"value": value}}
    with pytest.raises(GraphError, match=words):
        comfy_server.queue(nodes)


def test_events_that_no_windows_pick_are_said_on_the_node_and_in_the_log(comfy_server):
    nodes, texts = graph(**{"KSampler.seed": 77}), []
    (windows,) = (i for i, node in nodes.items() if node["class_type"] == "LongTakeWindowScheduler")
    (line,) = (i for i, node in nodes.items() if node["class_type"] == "LongTakePromptTimeline")
    (sampler,) = (i for i, node in nodes.items() if node["class_type"] == "KSampler")

    def collect(event, data):
        if event == "binary" and data[:4] == b"\0\0\0\3" and data[8:9] == line.encode():
            texts.append(data[9:].decode())

    comfy_server.queue(nodes, collect)
    assert not texts and "events is used in KSampler" not in log_of(comfy_server)
    nodes = copy.deepcopy(nodes)
    nodes[sampler]["inputs"]["model"] = nodes.pop(windows)["inputs"]["model"]
    comfy_server.queue(nodes, collect)
    (text,) = texts
    assert "none of its events is used in KSampler" in text and "Put a Global/Local Window Scheduler" in text
    assert log_of(comfy_server).count(text) == 1


def test_log_lines_are_not_printed_into_a_progress_bar(comfy_server):
    comfy_server.queue(graph(**{"KSampler.seed": 78}))
    lines = [line for line in log_of(comfy_server).splitlines() if "LongTake windows: " in line]
    assert lines and not any("%|" in line for line in lines), lines


def test_gaps_between_spans_have_a_stated_rule(comfy_server):
    events = "[0-1s] bouncing\n[3-4s] circling"
    nodes = graph(**{"LongTakePromptTimeline.events": events})
    nodes["20"] = {"class_type": "PreviewAny", "inputs": {"source": ["2", 1]}}
    entry = comfy_server.queue(nodes)
    report = entry["outputs"]["20"]["text"][0]
    assert "Event 1 was set to end before frame 16; nothing follows at once, so it continues" in report


def test_timing_frame_runs_in_a_graph_and_other_values_are_refused(comfy_server):
    def told(**inputs):
        nodes = graph(**{"LongTakePromptTimeline.events": "a | b | c | d | e | f", "KSampler.steps": 1})
        nodes["2"]["inputs"] |= inputs
        nodes["20"] = {"class_type": "PreviewAny", "inputs": {"source": ["2", 1]}}
        return nodes

    assert "each frame with its own event's prompt" in comfy_server.queue(told(timing="frame", blend=4))["outputs"][
        "20"
    ]["text"][0]  # fmt: skip
    for values in ({"timing": "frames"}, {"border": "soft"}):
        with pytest.raises(GraphError) as caught:
            comfy_server.queue(told(**values))
        ((name, value),) = values.items()
        text = str(caught.value) + json.dumps(caught.value.details)
        assert name in text and value in text and "not in" in text


def test_a_window_longer_than_the_video_says_so_and_is_one_window(comfy_server):
    nodes = graph("genl", **{"LongTakeWindowScheduler.window_length": 201})
    nodes["20"] = {"class_type": "PreviewAny", "inputs": {"source": ["5", 2]}}
    entry = comfy_server.queue(nodes)
    assert "not longer than the window" in entry["outputs"]["20"]["text"][0]
    assert "one window is used" in log_of(comfy_server)
    without = copy.deepcopy(nodes)
    without["6"]["inputs"]["model"] = ["1", 0]
    del without["20"], without["5"]
    plain = comfy_server.queue(without)
    assert frames_of(comfy_server.files(entry)[0]).equal(frames_of(comfy_server.files(plain)[0]))


def test_the_node_shows_cost_and_window_while_it_runs(comfy_server):
    texts = []

    def collect(event, data):
        if event == "binary" and data[:4] == b"\0\0\0\3":  # ComfyUI's protocol: 3 = text, then the node's id
            assert data[4:9] == b"\0\0\0\x016"
            texts.append(data[9:].decode())

    comfy_server.queue(graph("genl", **{"KSampler.seed": 7}), collect)
    assert "local windows of 13" in texts[0] and "window evaluations" in texts[0]
    assert texts[1].startswith("step 1/2, local window ") and texts[-1] == "step 2/2, local window 2/2"


def frames_of(path):
    from comfy_api.latest._input_impl.video_types import VideoFromFile

    return VideoFromFile(str(path)).get_components().images


def test_an_image_model_is_refused(comfy_server):
    """A tiny Stable Diffusion 3, which ComfyUI detects as such."""
    model = mmdit.MMDiT(input_size=None, patch_size=2, in_channels=16, depth=1, adm_in_channels=32, num_patches=16,
                        pos_embed_max_size=4, pos_embed_scaling_factor=None, dtype=torch.float32, device="cpu",
                        context_embedder_config={"target": "torch.nn.Linear",
                                                 "params": {"in_features": 32, "out_features": 64}},
                        operations=comfy.ops.disable_weight_init)
    folder = comfy_server.base / "models" / "diffusion_models"
    folder.mkdir(parents=True, exist_ok=True)
    state = {k: torch.zeros_like(v) for k, v in model.state_dict().items()}
    save_file(state, folder / "tiny_sd3.safetensors")
    nodes = graph("genl")
    loader = {"unet_name": "tiny_sd3.safetensors", "weight_dtype": "default"}
    nodes["21"] = {"class_type": "UNETLoader", "inputs": loader}
    nodes["5"]["inputs"]["model"] = ["21", 0]
    with pytest.raises(GraphError, match=r"Global/Local Window Scheduler.*model: this is an image model"):
        comfy_server.queue(nodes)


def test_a_latent_of_the_wrong_rank_is_refused(comfy_server):
    nodes = graph("genl")
    nodes["4"] = {"class_type": "EmptyLatentAudio", "inputs": {"seconds": 10.0, "batch_size": 1}}
    with pytest.raises(GraphError, match=r"latent has the shape .*video latent of this model has 5 dimensions"):
        comfy_server.queue(nodes)


def test_an_image_latent_is_a_video_of_one_frame(comfy_server):
    """ComfyUI itself makes a video latent of one frame of an image latent."""
    nodes = graph("genl")
    nodes["4"] = {"class_type": "EmptySD3LatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}}
    assert len(frames_of(comfy_server.files(comfy_server.queue(nodes))[0])) == 1


def test_missing_or_truncated_weights_are_named(tmp_path):
    """A server whose copy of the pack has lost a weight file, or half of it."""
    pack = tmp_path / "custom_nodes" / "DamagedPack"
    shutil.copytree(ROOT, pack, ignore=shutil.ignore_patterns(".git", "__pycache__", "tests", "runs", "output"))
    weights = pack / "backbone" / "demo" / "vae.safetensors"
    half = weights.read_bytes()[: weights.stat().st_size // 2]
    with Server(COMFYUI_PATH, Path(sys.executable), tmp_path, tmp_path / "output",
                extra=["--whitelist-custom-nodes", "DamagedPack"]) as server:
        for damage in (weights.unlink, lambda: weights.write_bytes(half)):
            damage()
            with pytest.raises(GraphError, match=r"Demo Video Model.*vae\.safetensors.*nstall the pack again"):
                server.queue(graph("clip"))


def test_an_unwritable_output_folder_is_named(comfy_server):
    comfy_server.output.mkdir(exist_ok=True)
    (comfy_server.output / "blocked").write_text("a file where a folder is wanted")
    with pytest.raises(GraphError, match=r"SaveVideo.*blocked"):
        comfy_server.queue(graph("clip", **{"SaveVideo.filename_prefix": "blocked/clip"}))


def forget(server):
    """Empty the server's caches, so that the same graph runs again: it does so after its next run."""
    assert server.request("/free", {"unload_models": True, "free_memory": True})[0] == 200
    server.queue({
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    })


def test_the_same_graph_gives_the_same_bytes_also_after_a_cancelled_run(comfy_server):
    nodes = graph(**{
        "KSampler.steps": 8, "EmptyHunyuanLatentVideo.length": 97, "LongTakePromptTimeline.length": 97,
        "LongTakeWindowScheduler.global_path": True, "SaveVideo.filename_prefix": "repeat/video",
    })  # fmt: skip
    steps = []

    def cancel(event, data):
        if event == "progress" and data["max"] == 8:
            steps.append(data["value"])
            if data["value"] == 2:
                comfy_server.interrupt()

    first = comfy_server.files(comfy_server.queue(nodes))[0]
    forget(comfy_server)
    second = comfy_server.files(comfy_server.queue(nodes))[0]
    forget(comfy_server)
    with pytest.raises(GraphError, match="interrupted"):
        comfy_server.queue(nodes, cancel)
    assert 2 <= steps[-1] < 8
    third = comfy_server.files(comfy_server.queue(nodes))[0]
    assert len({first, second, third}) == 3
    assert first.read_bytes() == second.read_bytes() == third.read_bytes()
