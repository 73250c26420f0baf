"""What start.py shows of a run: a line per node, and the video's contact sheet."""

import io
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
from longtake.tools import cli, commands
from longtake.tools.environment import StartError
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


def follow(stream):
    progress = commands.Progress({"5": {"class_type": "KSampler", "_meta": {"title": "Sample"}}}, stream)
    progress("execution_start", {})
    progress("executing", {"node": "5"})
    for step in range(1, 5):
        progress("progress", {"node": "5", "value": step, "max": 4})
    progress("execution_success", {})
    return stream.getvalue()


def test_progress_names_the_node_and_counts():
    first, *rest = follow(io.StringIO()).splitlines()
    assert first == "  Sample"
    assert [line.split("]")[1].split()[0] for line in rest] == ["1/4", "2/4", "3/4", "4/4"]


def test_progress_in_a_terminal_is_one_line_per_node():
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    shown = follow(Terminal())
    assert shown.count("\n") == 1 and shown.endswith("\n")
    assert [part.split("]")[1].split()[0] for part in shown.split("\r")[1:]] == ["1/4", "2/4", "3/4", "4/4"]


def test_contact_sheet_of_a_video(tmp_path):
    video, sheet = tmp_path / "video.mp4", tmp_path / "sheet.png"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("h264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(33):  # two seconds and one frame, from black to white
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i * 7, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    command = [sys.executable, "-m", "tools.contact_sheet", str(video), str(sheet)]
    subprocess.run(command, cwd=str(ROOT), check=True, timeout=120)
    picture = np.asarray(Image.open(sheet).convert("L")).astype(int)
    height = 132  # 64 pixels doubled, and the gap
    assert picture.shape == (3 * height + 4, 88 + 8 * height)
    centres = picture[4 + 64 :: height, 88 + 64 :: height]
    assert centres.shape == (3, 8)
    assert (np.diff(centres[:2].flatten()) > 5).all(), "in reading order"
    assert centres[2, 0] > centres[1, 7] and (centres[2, 1:] == 24).all(), "one frame in the last row"


@pytest.mark.parametrize("reason", ["SaveVideo failed. OSError: [Errno 28] No space left on device", "something else"])
def test_a_failed_run_leaves_no_broken_video(tmp_path, reason):
    for name in ("clip_00001_.mp4", "holiday.mp4"):
        (tmp_path / name).write_bytes(b"whole")
    with pytest.raises(StartError) as told, commands.whole_files(tmp_path, "clip"):
        (tmp_path / "clip_00002_.mp4").touch()
        (tmp_path / "clip_00003_.mp4").write_bytes(b"half")
        raise StartError(reason)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip_00001_.mp4", "holiday.mp4"]
    full = f"the disk is full: {tmp_path} could not be written. Make room, or choose another folder with --out."
    assert str(told.value) == (full if "28" in reason else reason)


def test_what_a_video_is_to_show_is_told():
    """Of every graph that start.py renders: its events behind what they share, or its prompt; nothing empty."""
    said = {name: commands.told(cli.load_graph(name)) for name in cli.methods()}
    assert said["timeline"] == ["a red circle on a navy background: bouncing | circling | sliding"]
    assert said["mevg"] == ["a cyan circle on a teal background: sliding | bouncing | pulsing"]
    assert said["compare"] == ["a circle bouncing"]
    assert [name for name, texts in said.items() if not texts] == ["syncos_four"]  # a reply of many lines tells it
