"""A real ComfyUI server takes graphs, reports errors by node, and can be interrupted."""

import os
import sys

import pytest
from longtake.tools.environment import StartError, stop
from longtake.tools.headless import GraphError, Server


def picture(width=32, prefix="picture"):
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": width, "height": 16, "batch_size": 1, "color": 255}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def test_server_runs_a_graph(comfy_server):
    events = []
    entry = comfy_server.queue(picture(), lambda event, data: events.append(event))
    assert entry["status"]["status_str"] == "success"
    (path,) = comfy_server.files(entry)
    assert path.read_bytes().startswith(b"\x89PNG")
    assert "executing" in events and events[-1] == "execution_success"


def test_refused_graph_names_node_and_input(comfy_server):
    with pytest.raises(GraphError, match="EmptyImage: .*width") as caught:
        comfy_server.queue(picture(width=-1))
    assert caught.value.details["node_errors"]["1"]["errors"]


def test_unknown_node_is_named(comfy_server):
    graph = picture()
    graph["1"]["class_type"] = "NoSuchNode"
    with pytest.raises(GraphError, match="NoSuchNode"):
        comfy_server.queue(graph)


def test_failing_node_is_named_and_the_server_goes_on(comfy_server):
    graph = {
        "1": {"class_type": "EmptyAudio", "inputs": {"duration": 1.0, "sample_rate": 8000, "channels": 1}},
        "2": {
            "class_type": "SplitAudioChannels",  # needs two channels
            "inputs": {"audio": ["1", 0]},
            "_meta": {"title": "Left and right"},
        },
        "3": {"class_type": "PreviewAudio", "inputs": {"audio": ["2", 0]}},
    }
    with pytest.raises(GraphError, match='SplitAudioChannels "Left and right" failed. ValueError: .*channel'):
        comfy_server.queue(graph)
    comfy_server.queue(picture(prefix="after"))


def test_interrupt_ends_the_run_and_the_server_goes_on(comfy_server):
    graph = picture(prefix="never")
    size = {"upscale_method": "lanczos", "width": 1500, "height": 1500, "crop": "disabled"}
    for i in range(10, 40):  # about 30 x 0.1 s
        source = ["1" if i == 10 else str(i - 1), 0]
        graph[str(i)] = {"class_type": "ImageScale", "inputs": {"image": source, **size, "width": 1500 + i}}
    graph["2"]["inputs"]["images"] = ["39", 0]

    def interrupt(event, data):
        if event == "executing" and data["node"] == "12":
            comfy_server.interrupt()

    with pytest.raises(GraphError, match="interrupted"):
        comfy_server.queue(graph, interrupt)
    assert not list(comfy_server.output.glob("never*"))
    comfy_server.queue(picture(prefix="after"))


def test_a_server_that_ends_in_the_middle_of_a_run_shows_its_last_words(tmp_path):
    with Server(os.environ["COMFYUI_PATH"], sys.executable, tmp_path, tmp_path / "output") as server:

        def kill(event, data):
            if event == "executing":
                stop(server.process)

        with pytest.raises(StartError, match="(?s)in the middle of the run.*got prompt.*whole log: .*server.log"):
            server.queue(picture(), kill)
