"""Compare Videos in a real Chromium on a real ComfyUI: its frames to the frame, wipe and difference, and what stays."""

import pytest
import torch
from longtake.samplers.adapters import video_file
from support.browser import RENDERERS

pytestmark = pytest.mark.browser

LONG, SHORT, SIDE = 40, 25, 64
ROOT = ".longtake-compare"
# The number of the frame in each video's picture: bars, white for the bits that are set.
READ = """() => {
    const root = document.querySelector(".longtake-compare"), canvas = root.querySelector("canvas");
    const names = [...root.querySelectorAll(".name")].filter((e) => !e.hidden);
    const scale = canvas.width / canvas.clientWidth, side = canvas.clientHeight;
    return names.map((name) => {
        let number = 0;
        for (let bit = 0; bit < 8; bit++) {
            const x = (name.offsetLeft + ((bit + 0.5) / 8) * side) * scale, y = (side / 2) * scale;
            if (canvas.getContext("2d").getImageData(x, y, 1, 1).data[0] > 127) number |= 1 << bit;
        }
        return number;
    });
}"""


@pytest.fixture(scope="module", autouse=True)
def files(comfy_server):
    """Two videos of numbered frames, as in tests/video/test_compare.py."""
    (comfy_server.base / "input").mkdir(exist_ok=True)
    for name, frames in (("long.mp4", LONG), ("short.mp4", SHORT)):
        kind = video_file.FORMATS["mp4 (h264)"]
        writer = video_file.Writer(comfy_server.base / "input" / name, kind, (SIDE, SIDE), 16, 4)
        bits = torch.arange(frames)[:, None] >> torch.arange(8) & 1
        rows = bits.repeat_interleave(SIDE // 8, 1)[:, None, :, None].expand(-1, SIDE, -1, 3)
        writer.add(rows.float())
        writer.close()


def prompt(columns):
    compare = {"video_a": ["1", 0], "video_b": ["2", 0], "labels": "| my short one", "fps": 16.0, "height": 128,
               "columns": columns, "sheet_height": 48}  # fmt: skip
    return {
        "1": {"class_type": "LoadVideo", "inputs": {"file": "long.mp4"}},
        "2": {"class_type": "LoadVideo", "inputs": {"file": "short.mp4"}},
        "3": {"class_type": "LongTakeCompare", "inputs": compare},
    }


@pytest.fixture
def player(comfy, renderer):
    """The player, paused at frame 0, after a run."""
    graph = prompt(5 + list(RENDERERS).index(renderer))  # a run of its own, nothing from the cache
    # ComfyUI's Vue nodes would take place and size from nodes of the same ids, and keep them.
    comfy.page.evaluate("() => window.app.graph.clear()")
    comfy.page.wait_for_timeout(300)
    # A name of its own: newer ComfyUI would open it in the tab of that name, and the next tab is not the one before.
    comfy.page.evaluate("([graph, name]) => window.app.loadApiJson(graph, name)", [graph, f"compare {renderer}"])
    comfy.page.wait_for_function("() => window.app.graph._nodes.length === 3")
    comfy.page.locator(f"{ROOT} .note", has_text="No videos yet").wait_for()
    comfy.queue()
    assert comfy.wait_idle()["status"]["status_str"] == "success"
    comfy.focus(3, 0.8)
    return started(comfy)


def time_is(comfy, pattern):
    found = "([root, pattern]) => RegExp(pattern).test(document.querySelector(root + ' .time')?.textContent)"
    comfy.page.wait_for_function(found, arg=[ROOT, pattern], timeout=10_000)


def started(comfy):
    """The player, once it plays; paused at frame 0 then."""
    root = comfy.page.locator(ROOT)
    time_is(comfy, "frame [1-9]")
    root.focus()
    comfy.page.keyboard.press("Space")
    go(comfy, "Home", 0)
    return root


def go(comfy, key, frame):
    comfy.page.keyboard.press(key)
    time_is(comfy, f"frame {frame} of")


def test_the_playhead_is_the_same_for_all_to_the_frame(comfy, player):
    places = comfy.page.evaluate("() => [...window.app.graph._nodes.map((n) => [...n.pos])]")
    for key, frame in (("Home", 0), ("ArrowRight", 1), ("ArrowRight", 2), ("PageDown", 18), ("ArrowLeft", 17),
                       ("End", 39), ("ArrowRight", 39), ("ArrowLeft", 38), ("PageUp", 22)):  # fmt: skip
        go(comfy, key, frame)
        assert comfy.page.evaluate(READ) == [frame, min(frame, SHORT - 1)]
    go(comfy, "Home", 0)
    player.evaluate("""root => { // quicker than the video can seek
        for (let i = 0; i < 3; i++) root.dispatchEvent(new KeyboardEvent("keydown", { key: "ArrowRight" }));
    }""")
    time_is(comfy, "frame 3 of")
    names = player.locator(".name")
    assert names.all_text_contents() == ["a", "my short one"]
    go(comfy, "End", 39)
    assert names.nth(1).text_content() == "my short one (over: its last frame)"
    player.locator("button").nth(1).click()  # one frame back
    time_is(comfy, "frame 38 ")
    player.locator("input").fill("7")  # the slider
    time_is(comfy, "frame 7 ")
    assert comfy.page.evaluate(READ) == [7, 7]
    player.locator("canvas").click()  # plays
    seen = set()
    for _ in range(12):
        comfy.page.wait_for_timeout(60)
        (a, b), text = comfy.page.evaluate(f"() => [({READ})(), document.querySelector('{ROOT} .time').textContent]")
        assert f"frame {a} of" in text and b == min(a, SHORT - 1)
        seen.add(a)
    assert len(seen) > 3
    assert places == comfy.page.evaluate("() => [...window.app.graph._nodes.map((n) => [...n.pos])]")


def test_wipe_and_difference(comfy, player):
    mode = player.locator("select").first
    go(comfy, "ArrowRight", 1)
    mode.select_option("difference")
    assert comfy.page.evaluate(READ) == [0, 0]  # the same frame in both
    go(comfy, "End", 39)
    comfy.page.wait_for_timeout(200)
    assert comfy.page.evaluate(READ)[0] == 39 ^ 24
    mode.select_option("wipe")
    canvas = player.locator("canvas")
    box = canvas.bounding_box()
    for part, number in ((0.98, 39), (0.02, 24)):
        comfy.page.mouse.move(box["x"] + part * box["width"], box["y"] + box["height"] / 2)
        comfy.page.wait_for_timeout(100)
        assert comfy.page.evaluate(READ)[0] == number
    (saved,) = [node for node in comfy.serialized()["nodes"] if node["type"] == "LongTakeCompare"]
    assert saved["properties"]["longtake_view"] == {"mode": "wipe"}
    assert len(saved["widgets_values"]) == 5 and "blob" not in str(saved) and "base64" not in str(saved)


def test_the_settings_stand_beneath_and_all_of_it_within_the_node(comfy, player):
    report = comfy.page.locator(".longtake-report[data-of=LongTakeCompare]")
    report.locator("td", has_text="short.mp4").wait_for()
    rows = [row.locator("td").all_text_contents() for row in report.locator("tr").all()]
    assert rows[0][0] == "Setting" and rows[0][2] == "my short one"
    assert rows[1][1:] == ["long.mp4", "short.mp4"] and "file" in rows[1][0]
    comfy.page.wait_for_function(  # the node grows with the table, a little later
        """() => {
            const node = window.app.graph._nodes.find((n) => n.comfyClass === "LongTakeCompare");
            const { ds, canvas } = window.app.canvas;
            const report = document.querySelector(".longtake-report[data-of=LongTakeCompare]");
            const vue = document.querySelector(`.lg-node[data-node-id="${node.id}"]`);
            const border = vue ? vue.getBoundingClientRect().bottom
                : (node.pos[1] + node.size[1] + ds.offset[1]) * ds.scale + canvas.getBoundingClientRect().top;
            const room = border - report.getBoundingClientRect().bottom;
            return room >= -2 && room < 60;
        }""",
        timeout=10_000,
    )


def test_it_is_still_there_after_an_undo_and_from_another_graph(comfy, player):
    before = comfy.widget(3, "columns")
    comfy.widget(3, "columns", 9)
    comfy.page.wait_for_timeout(500)
    comfy.page.mouse.click(1500, 700)
    comfy.undo()
    comfy.page.wait_for_function(
        "n => window.app.graph.getNodeById(3).widgets.find((w) => w.name === 'columns').value === n", arg=before)
    started(comfy)
    comfy.command("Comfy.NewBlankWorkflow")
    assert comfy.page.locator(ROOT).count() == 0
    comfy.command("Workspace.PreviousOpenedWorkflow")
    root = started(comfy)
    go(comfy, "ArrowRight", 1)
    assert comfy.page.evaluate(READ) == [1, 1] and root.count() == 1


def test_a_file_that_is_gone_is_said(comfy, player):
    """ComfyUI empties its temp folder when it starts."""
    comfy.page.evaluate(
        """() => {
            const output = structuredClone(window.app.nodeOutputs[3]);
            output.longtake_compare[0].file.filename = "gone.mp4";
            window.app.graph.getNodeById(3).onExecuted(output);
        }"""
    )
    note = player.locator(".note")
    note.filter(has_text="their file is gone").wait_for()
    comfy.errors[:] = [error for error in comfy.errors if "404" not in error]
