"""Decode to Video in a real Chromium: its file plays on the node, dropped on the page it brings the graph back, and
Save Video behind it copies it."""

import base64

import av
import pytest
from support.browser import FRAMES, SMALL, run_small

pytestmark = pytest.mark.browser

DROP = """data => {
    const bytes = Uint8Array.from(atob(data), (c) => c.charCodeAt(0)), transfer = new DataTransfer();
    transfer.items.add(new File([bytes], "take.mp4", { type: "video/mp4" }));
    const event = new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer });
    document.querySelector("#graph-canvas").dispatchEvent(event);
}"""
PLAYED = """async name => {
    const video = document.createElement("video");
    video.muted = true;
    video.src = `/api/view?filename=${name}&subfolder=LongTake&type=output`;
    await new Promise((done, failed) => {
        video.onloadeddata = done;
        video.onerror = () => failed(video.error.message);
    });
    video.currentTime = video.duration - 0.1;
    await new Promise((done) => { video.onseeked = done; });
    return [video.videoWidth, video.duration];
}"""


def packets(path):
    with av.open(str(path)) as file:
        return [bytes(packet) for packet in file.demux(video=0)]


def test_the_file_plays_and_brings_its_graph_back(comfy):
    comfy.errors.clear()
    graph = comfy.load("decode_to_video")
    run_small(comfy)
    history = comfy.server.request("/history?max_items=1")[1]
    first, saved = comfy.server.files(list(history.values())[-1])
    assert len(packets(first)) - 1 == FRAMES and packets(saved)[0][:4] == packets(first)[0][:4]
    width, seconds = comfy.page.evaluate(PLAYED, first.name)
    # Chromium counts a fragmented file's first two frames of reordering to its length
    assert width == 64 and 0 <= seconds - FRAMES / SMALL["fps"] <= 2 / SMALL["fps"]
    shown = [node["type"] for node in graph["nodes"]]
    for path in (first, saved):
        comfy.page.evaluate("() => window.app.graph.clear()")
        comfy.page.evaluate(DROP, base64.b64encode(path.read_bytes()).decode())
        comfy.page.wait_for_function("n => window.app.graph._nodes.length === n", arg=len(shown))
        assert sorted(node["type"] for node in comfy.serialized()["nodes"]) == sorted(shown)
    assert comfy.errors == []
