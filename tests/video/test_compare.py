"""Compare Videos: all frames in one file and in a contact sheet, in constant memory; and what it refuses."""

import gc
import math
import re
import time
from types import SimpleNamespace

import av
import comfy.model_management
import folder_paths
import numpy
import psutil
import pytest
import torch
from comfy_api.latest import InputImpl
from comfy_api.util import VideoComponents
from longtake.nodes.compare import LongTakeCompare
from longtake.nodes.metrics import LongTakeVideoMetrics
from longtake.nodes.video import LongTakeEncodeVideo
from longtake.samplers.adapters import side_by_side, video_file
from longtake.tools.headless import GraphError
from support.graphs import api_graph
from support.tiny_vaes import built

BITS = 8  # a frame shows its number: bars, white for the bits that are set


@pytest.fixture(autouse=True)
def temp_folder(as_core_runs_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))


def numbered(frames, width=64, height=48):
    """[frames, H, W, 3]; read() finds a frame's number."""
    bits = torch.arange(frames)[:, None] >> torch.arange(BITS) & 1
    return bits.repeat_interleave(width // BITS, 1)[:, None, :, None].expand(-1, height, -1, 3).float()


def read(picture):
    """The number in a picture [H, W, 3] of 0..255."""
    row = numpy.asarray(picture)[len(picture) // 2, :, 0]
    return sum((row[int((i + 0.5) * len(row) / BITS)] > 127) << i for i in range(BITS))


def run(*videos, graph=None, **settings):
    node = type("Run", (LongTakeCompare,), {"hidden": SimpleNamespace(prompt=graph, unique_id="9")})
    given = dict(zip((f"video_{letter}" for letter in "abcdef"), videos, strict=False))
    values = {"labels": "", "fps": 16.0, "height": 96, "columns": 5, "sheet_height": 48} | settings
    return node.execute(**{name: value if type(value) is list else [value] for name, value in (given | values).items()})


def shown(result):
    """(What the player is told, its frames)."""
    (player,) = result.ui["longtake_compare"]
    with av.open(result.args[2].get_stream_source()) as file:
        return player, [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]


def part(frame, box):
    x, y, width, height = box
    return frame[y : y + height, x : x + width]


def written(tmp_path, frames, fps=16.0, name="clip.mp4", size=(48, 64)):
    path = tmp_path / name
    writer = video_file.Writer(path, video_file.FORMATS["mp4 (h264)"], size, fps, 4)
    for begin in range(0, frames, 64):
        writer.add(numbered(frames, size[1], size[0])[begin : begin + 64])
    writer.close()
    return InputImpl.VideoFromFile(str(path))


def sound(path):
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=44100, layout="mono")
        frame = av.AudioFrame.from_ndarray(numpy.zeros((1, 4410), "float32"), format="fltp", layout="mono")
        frame.sample_rate = 44100
        file.mux([*stream.encode(frame), *stream.encode(None)])


def test_each_frame_stands_in_its_box_and_the_shorter_video_holds_its_last():
    wide, square = numbered(40, 128, 48), numbered(25, 64, 64)
    player, frames = shown(run(wide, square))
    a, b = player["videos"]
    assert len(frames) == player["frames"] == 40 and player["fps"] == 16.0
    assert [read(part(frame, a["box"])) for frame in frames] == list(range(40))
    assert [read(part(frame, b["box"])) for frame in frames] == [*range(25), *[24] * 15]
    assert (a["box"][3], b["box"][3]) == (96, 96) and (a["box"][2], b["box"][2]) == (256, 96)
    assert (a["frames"], b["frames"], b["own_frames"]) == (40, 25, 25)


def test_pixels_are_those_of_the_input(tmp_path):
    image = torch.rand(1, 6, 8, 3, generator=torch.Generator().manual_seed(0))
    player, (frame,) = shown(run(image.expand(1, -1, -1, -1), height=96))
    found = part(frame, player["videos"][0]["box"]).astype("float32") / 255
    wanted = torch.nn.functional.interpolate(image.movedim(-1, 1), (96, 128), mode="bicubic").clamp(0, 1)
    assert abs(found - wanted[0].movedim(0, -1).numpy()).mean() < 0.03 and wanted.std() > 0.1


@pytest.mark.parametrize("rates", [(8.0, 16.0), (24.0, 16.0)])
def test_videos_of_other_rates_are_seen_at_the_same_moment(tmp_path, rates):
    files = [written(tmp_path, 30, rate, f"{i}.mp4") for i, rate in enumerate(rates)]
    player, frames = shown(run(*files))
    fast = max(rates)
    for video, rate in zip(player["videos"], rates, strict=True):
        numbers = [read(part(frame, video["box"])) for frame in frames]
        assert numbers == [min(int(at * rate / fast + 1e-6), 29) for at in range(len(frames))]
    assert len(frames) == round(30 * fast / min(rates)) and player["fps"] == fast


def test_an_image_a_file_and_components_are_the_same(tmp_path):
    images = numbered(20)
    parts = InputImpl.VideoFromComponents(VideoComponents(images=images, frame_rate=16))
    player, frames = shown(run(images, written(tmp_path, 20), parts))
    for at, frame in enumerate(frames):
        assert [read(part(frame, video["box"])) for video in player["videos"]] == [at] * 3
    assert len(frames) == 20


def test_the_sheet_shows_evenly_spaced_frames_and_says_where_a_video_ends():
    result = run(numbered(97), numbered(30), labels="long | short")
    sheet = (result.args[0][0] * 255).round().byte().numpy()
    layout = side_by_side.Sheet(
        [side_by_side.Clip(97, 16.0, 64, 48), side_by_side.Clip(30, 16.0, 64, 48)], ["", ""], 5, 48)
    cells = [[sheet[layout.top(row) :, side_by_side.SIDE + column * layout.cell :][:48, :64] for column in range(5)]
             for row in range(2)]  # fmt: skip
    assert [read(cell) for cell in cells[0]] == [0, 24, 48, 72, 96]
    assert [read(cell) for cell in cells[1][:2]] == [0, 24]
    assert cells[1][2].max() > 100  # "ended at", and nothing after it
    assert all(numpy.ptp(cell) < 10 for cell in (channel for cell in cells[1][3:] for channel in cell.T))
    assert result.args[0].shape[0] == 1 and result.args[0].ndim == 4


def test_the_sheet_of_a_very_wide_video_has_a_bound():
    result = run(torch.rand(3, 2, 4000, 3), columns=24, sheet_height=512)
    assert max(result.args[0].shape) < 4000 and shown(result)[0]["videos"][0]["box"][2] <= 4096


def test_a_name_of_any_length_is_cut_to_its_place():
    font, name = side_by_side.ImageFont.load_default(14), "name " * 4000
    begun = time.perf_counter()
    cut = side_by_side.fitted(name, font, 4000)
    assert time.perf_counter() - begun < 2 and cut.endswith("...") and name.startswith(cut[:-3])
    assert font.getlength(cut) <= 4000 < font.getlength(name[: len(cut) - 2] + "...")
    assert side_by_side.fitted("name", font, 60) == "name" and side_by_side.fitted("name", font, -6) == "..."


def test_the_slowest_videos_are_written_too():
    player, frames = shown(run(numbered(3), fps=0.01))
    assert player["fps"] == 0.01 and [read(part(frame, player["videos"][0]["box"])) for frame in frames] == [0, 1, 2]


def test_the_encoder_is_held_to_what_makes_the_same_file():
    assert set(video_file.FORMATS["mp4 (h264)"].options) <= set(side_by_side.KIND.options)


def test_one_frame_and_one_video_are_allowed():
    result = run(numbered(1))
    player, frames = shown(result)
    assert len(frames) == player["frames"] == 1 and "nothing to compare" in result.args[1]
    player, frames = shown(run(numbered(1), numbered(6)))
    assert [read(part(frame, player["videos"][0]["box"])) for frame in frames] == [0] * 6


def test_what_is_not_a_number_is_black_and_beyond_is_cut():
    images = numbered(2).clone()
    images[0, :, :32], images[0, :, 32:], images[1] = float("nan"), float("inf"), -5.0
    player, (first, second) = shown(run(images))
    box = part(first, player["videos"][0]["box"])
    assert box[40, 20].max() < 20 and box[40, -20].min() > 235 and part(second, player["videos"][0]["box"]).max() < 20


def test_alpha_is_left_out_and_half_precision_taken():
    images = torch.cat([numbered(3), torch.zeros(3, 48, 64, 1)], -1).half()
    player, frames = shown(run(images))
    assert [read(part(frame, player["videos"][0]["box"])) for frame in frames] == [0, 1, 2]


@pytest.mark.parametrize("video, words", [
    (torch.zeros(0, 48, 64, 3), r"video_b: no frames in it"),
    (torch.zeros(5, 48, 0, 3), r"video_b: no frames in it"),
    (torch.zeros(5, 48, 64, 1), r"video_b: an IMAGE of the shape \[5, 48, 64, 1\].*\[frames, height, width, 3\]"),
    (torch.zeros(5, 48, 64), r"video_b: an IMAGE of the shape \[5, 48, 64\]"),
    ("no video", r"video_b: this VIDEO cannot be read"),
    ("cut off", r"video_b: no frames in it"),
    ("sound", r"video_b: this VIDEO cannot be read: there is no picture in the file"),
])  # fmt: skip
def test_bad_videos_are_named_and_leave_nothing(tmp_path, video, words):
    if isinstance(video, str):
        written(tmp_path, 70)
        data = (tmp_path / "clip.mp4").read_bytes()
        if video == "sound":
            sound(tmp_path / "bad.mp4")
        else:
            (tmp_path / "bad.mp4").write_bytes(b"no video" * 99 if video == "no video" else data[:400])
        video = InputImpl.VideoFromFile(str(tmp_path / "bad.mp4"))
    with pytest.raises(ValueError, match=r"Compare Videos \(LongTakeCompare\): " + words):
        run(numbered(5), video)
    assert not list(tmp_path.glob("longtake_compare/*"))


@pytest.mark.parametrize("name, value", [("columns", 0), ("height", 5000), ("fps", float("nan")), ("sheet_height", 1)])
def test_settings_that_come_by_a_link_are_held_to_their_bounds(name, value):
    with pytest.raises(ValueError, match=rf"Compare Videos \(LongTakeCompare\): {name} \("):
        run(numbered(2), **{name: value})


RATES = [0.0, -1.0, math.nan, math.inf, 1e9]


@pytest.mark.parametrize("rate", RATES)
def test_a_video_of_an_absurd_rate_is_named(tmp_path, rate):
    parts = InputImpl.VideoFromComponents(VideoComponents(images=numbered(3), frame_rate=rate))
    said = rf"its frame rate \({re.escape(str(rate))}\) must be between 0.01 and 1000.0 frames a second; make it anew"
    for name, read_by in (
        (r"Compare Videos \(LongTakeCompare\): video_b: ", lambda: run(numbered(3), parts)),
        (r"Video Metrics \(LongTakeVideoMetrics\): video: ",
         lambda: LongTakeVideoMetrics.execute(parts, 16.0, "", "")),
        (r"Encode Video \(LongTakeEncodeVideo\): video: ",
         lambda: LongTakeEncodeVideo.execute(parts, built("wan21"), 0, 0, 0, 0, 64, 16)),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"^{name}this VIDEO cannot be read: {said}"):
            read_by()
    assert not list(tmp_path.glob("longtake_compare/*"))


def test_rates_too_far_from_each_other_are_named(tmp_path):
    slow = InputImpl.VideoFromComponents(VideoComponents(images=numbered(30), frame_rate=0.01))
    with pytest.raises(ValueError, match=r"video_b: 30 frames at 0\.01 a second, .* 1000 .* make 3000000 frames"):
        run(numbered(2), slow, fps=1000.0)
    assert not list(tmp_path.glob("longtake_compare/*"))


@pytest.mark.parametrize("rate", [rate for rate in RATES if rate != math.inf])
def test_an_absurd_fps_by_a_link_is_refused_on_the_page(comfy_server, rate):
    """By core's Float node, which refuses no more than infinity: core holds values of widgets to their bounds."""
    graph = {
        "1": {"class_type": "PrimitiveFloat", "inputs": {"value": rate}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": 64, "height": 64, "batch_size": 3, "color": 0}},
        "3": {"class_type": "LongTakeCompare", "inputs": {
            "video_a": ["2", 0], "labels": "", "fps": ["1", 0], "height": 96, "columns": 5, "sheet_height": 48}},
        "4": {"class_type": "LongTakeDemoBackbone", "inputs": {}},
        "5": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {
            "width": 64, "height": 64, "length": 5, "batch_size": 1}},
        "6": {"class_type": "LongTakeDecodeToVideo", "inputs": {
            "samples": ["5", 0], "vae": ["4", 2], "fps": ["1", 0], "filename_prefix": "rates", "format": "mp4 (h264)",
            "crf": 20, "folder": "temp", "window": 64, "overlap": 16, "tile_size": 0}},
    }  # fmt: skip
    for needed, name in (
        ("123", "Compare Videos (LongTakeCompare)"), ("1456", "Decode to Video (LongTakeDecodeToVideo)"),
    ):  # fmt: skip
        with pytest.raises(GraphError) as caught:
            comfy_server.queue({key: graph[key] for key in needed})
        assert f"{name}: fps ({rate}) must be between 0.01 and 1000.0" in str(caught.value)


def test_lists_are_compared_too(comfy_server):
    """Decode to Video hands over a batch of three as a list; a link with one video stays one."""
    graph = {
        "1": {"class_type": "LongTakeDemoBackbone", "inputs": {}},
        "2": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {
            "width": 64, "height": 64, "length": 5, "batch_size": 3}},
        "3": {"class_type": "LongTakeDecodeToVideo", "_meta": {"title": "All three"}, "inputs": {
            "samples": ["2", 0], "vae": ["1", 2], "fps": 16.0, "filename_prefix": "list", "format": "mp4 (h264)",
            "crf": 20, "folder": "temp", "window": 64, "overlap": 16, "tile_size": 0}},
        "4": {"class_type": "EmptyImage", "_meta": {"title": "Red"}, "inputs": {
            "width": 64, "height": 64, "batch_size": 9, "color": 0xFF0000}},
        "5": {"class_type": "LongTakeCompare", "inputs": {
            "video_a": ["4", 0], "video_b": ["3", 0], "labels": "first", "fps": 16.0, "height": 96, "columns": 5,
            "sheet_height": 48}},
        "6": {"class_type": "PreviewAny", "inputs": {"source": ["5", 1]}},
    }  # fmt: skip
    outputs = comfy_server.queue(graph)["outputs"]
    (player,) = outputs["5"]["longtake_compare"]
    assert [v["name"] for v in player["videos"]] == ["first", "All three 1", "All three 2", "All three 3"]
    assert [v["own_frames"] for v in player["videos"]] == [9, 5, 5, 5]
    assert len({tuple(v["box"]) for v in player["videos"]}) == 4 and len(outputs["6"]["text"]) == 1
    (temp,) = comfy_server.work.glob(f"**/{player['file']['filename']}")
    with av.open(str(temp)) as file:
        frame = next(file.decode(video=0)).to_ndarray(format="rgb24")
    red, *others = (part(frame, video["box"]).mean((0, 1)) for video in player["videos"])
    assert red[0] > 200 > 100 > red[1] and all(abs(other - red).max() > 50 for other in others)
    graph["2"]["inputs"]["batch_size"] = 7
    with pytest.raises(GraphError, match=r"LongTakeCompare\): video_b came as a list of 7, which makes 8 videos; 6 at"):
        comfy_server.queue(graph)


def test_what_a_list_can_be_of():
    player, frames = shown(run([numbered(5), numbered(9)], numbered(3), labels="one||three"))
    assert [v["name"] for v in player["videos"]] == ["one", "a 2", "three"] and len(frames) == 9
    assert [v["own_frames"] for v in player["videos"]] == [5, 9, 3]
    assert shown(run([numbered(5)], fps=[16.0, 16.0]))[0]["frames"] == 5
    with pytest.raises(ValueError, match=r"LongTakeCompare\): fps came as a list of 2 values; one is for all videos"):
        run(numbered(2), fps=[16.0, 8.0])
    with pytest.raises(ValueError, match=r"LongTakeCompare\): video_b: number 2 of 2: no frames in it"):
        run(numbered(2), [numbered(2), numbered(0)])
    with pytest.raises(ValueError, match=r"LongTakeCompare\): video_a: an empty list came"):
        run([])


def test_a_cancel_leaves_no_file(tmp_path, monkeypatch):
    calls = iter(range(99))

    def cancelled():
        if next(calls) == 5:
            raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(comfy.model_management, "throw_exception_if_processing_interrupted", cancelled)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(numbered(20), numbered(20))
    assert next(calls) > 5 and not list(tmp_path.glob("longtake_compare/*"))


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "longtake_compare").write_text("a file where a folder is wanted")
    with pytest.raises(ValueError, match=r"Compare Videos \(LongTakeCompare\): .*longtake_compare"):
        run(numbered(2))


def test_memory_does_not_grow_with_the_length(tmp_path, monkeypatch):
    """400 frames, twice: at the size that is drawn all frames of one would take 400 MB."""
    video, sizes = written(tmp_path, 400), []
    write = side_by_side.write

    def watched(*values):
        def progress(done, total):
            if done % 50 == 0:
                gc.collect()
                sizes.append(psutil.Process().memory_info().rss)

        return write(*values[:-1], progress)

    monkeypatch.setattr(side_by_side, "write", watched)
    assert run(video, video, height=256).ui["longtake_compare"][0]["frames"] == 400 and len(sizes) == 8
    assert max(sizes) - sizes[1] < 60e6, [round(size / 1e6) for size in sizes]


def test_a_graph_with_two_methods_runs_and_tells_how_they_differ(comfy_server):
    graph = api_graph("compare")
    for node in graph.values():
        for name, value in (("steps", 1), ("length", 97), ("scale_by", 1.0)):
            if name in node["inputs"]:
                node["inputs"][name] = value
    graph["20"] = {"class_type": "SaveImage", "inputs": {"images": ["14", 0], "filename_prefix": "sheet"}}
    graph["21"] = {"class_type": "PreviewAny", "inputs": {"source": ["14", 1]}}
    entry = comfy_server.queue(graph)
    video, sheet = sorted(comfy_server.files(entry), key=lambda path: path.suffix)
    assert (video.suffix, sheet.suffix) == (".mp4", ".png")
    (text,) = entry["outputs"]["21"]["text"]
    rows = [re.split(r" *\| *", line)[1:-1] for line in text.splitlines()]
    assert rows[0] == ["Setting", "plain windows", "GLC-Diffusion"]
    assert ["Global/Local Window Scheduler: schedule", "static", "random_shift"] in rows
    assert [row[1] for row in rows if row[0] == "Right: Anchor Attention"] == ["not there"]
    (player,) = entry["outputs"]["14"]["longtake_compare"]
    assert player["frames"] == 97 and player["file"]["type"] == "temp" and len(str(player)) < 2000
    assert entry["outputs"]["14"]["longtake_report"] == [text]
    (temp,) = comfy_server.work.glob(f"**/{player['file']['filename']}")
    with av.open(str(temp)) as mine, av.open(str(video)) as saved:  # copied, not encoded again
        assert [bytes(p) for p in mine.demux(video=0)] == [bytes(p) for p in saved.demux(video=0)]
    graph["14"]["inputs"]["columns"] = 0
    with pytest.raises(GraphError) as caught:
        comfy_server.queue(graph)
    assert "columns" in str(caught.value)
