"""Video Metrics of files and in a server: bad files and cancelled runs leave nothing, and memory does not grow."""

import av
import comfy.model_management
import numpy
import psutil
import pytest
from comfy_api.latest import InputImpl
from longtake.samplers.adapters import measure as reading
from longtake.tools.headless import GraphError
from support.children import error_of
from support.metric_clips import image, small
from support.metric_runs import measure, memory, written

pytestmark = pytest.mark.usefixtures("as_core_runs_nodes", "own_folders")

NODE = r"^Video Metrics \(LongTakeVideoMetrics\): "
CLIP = image(small())[:40]


def of_two_sizes(path):
    for name, (height, width) in (("a", (48, 64)), ("b", (32, 80))):
        with av.open(str(path.with_suffix(f".{name}")), "w", format="mpegts") as file:
            stream = file.add_stream("libx264", rate=16)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for i in range(5):
                frame = av.VideoFrame.from_ndarray(numpy.full((height, width, 3), 30 * i, "uint8"), format="rgb24")
                file.mux(stream.encode(frame))
            file.mux(stream.encode(None))
    path.write_bytes(b"".join(path.with_suffix(f".{name}").read_bytes() for name in "ab"))
    return r"video: frame 5 is 80x32 after frames of 64x48; all must be of one size$"


def no_video(path):
    path.write_bytes(b"no video" * 99)
    return r"video: this VIDEO cannot be read: "


def open_files(folder):
    return [file.path for file in psutil.Process().open_files() if str(folder) in file.path]


@pytest.mark.parametrize("make", [of_two_sizes, no_video])
def test_bad_files_are_named_and_let_go(tmp_path, make):
    words = make(tmp_path / "bad")
    with pytest.raises(ValueError, match=NODE + words) as caught:
        measure(InputImpl.VideoFromFile(str(tmp_path / "bad")), save_as="kept")
    assert "video: video" not in str(caught.value) and not open_files(tmp_path) and not (tmp_path / "output").exists()


def test_a_file_that_ends_too_early_is_named_once(tmp_path, monkeypatch):
    video = written(tmp_path / "clip.mkv", CLIP[:20])
    count = reading.Source.__init__

    def announce_more(self, *values):
        count(self, *values)
        self.count += 3

    monkeypatch.setattr(reading.Source, "__init__", announce_more)
    with pytest.raises(ValueError, match=NODE + "video: this VIDEO cannot be read: the file ends before"):
        measure(video)
    assert not open_files(tmp_path)


def test_a_cancel_in_the_middle_leaves_nothing(tmp_path, monkeypatch):
    video, seen = written(tmp_path / "clip.mkv", CLIP), []
    add = reading.Collector.add

    def cancelled(self, frames):
        add(self, frames)
        seen.append(len(frames))
        assert open_files(tmp_path)
        comfy.model_management.interrupt_current_processing()

    monkeypatch.setattr(reading.Collector, "add", cancelled)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        measure(video, save_as="kept")
    assert seen == [16] and not open_files(tmp_path)
    assert not (tmp_path / "output").exists() and not (tmp_path / "temp").exists()


def test_memory_does_not_grow_with_the_length(tmp_path):
    """The 150 frames would take 155 MB."""
    assert error_of(memory, tmp_path, 150, (240, 360)) is None


def graph(**inputs):
    metrics = {"video": ["1", 0], "fps": 16.0, "boundaries": "", "save_as": ""} | inputs
    return {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 32, "height": 24, "batch_size": 12, "color": 255}},
        "2": {"class_type": "LongTakeVideoMetrics", "inputs": metrics},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 4]}},
    }


def test_a_graph_measures_and_a_bad_value_is_refused_before_it_runs(comfy_server):
    entry = comfy_server.queue(graph(boundaries="5"))
    found = entry["outputs"]["2"]
    assert found["longtake_report"][0].startswith("| Metric |") and len(found["images"]) == 1
    assert float(entry["outputs"]["3"]["text"][0]) == 1.0  # temporal_flicker of one colour
    for name, value in (("boundaries", "abc"), ("boundaries", "0"), ("save_as", "../x")):
        with pytest.raises(GraphError) as caught:
            comfy_server.queue(graph(**{name: value}))
        (error,) = caught.value.details["node_errors"]["2"]["errors"]
        assert error["type"] == "custom_validation_failed" and name in error["details"] and value in error["details"]
    with pytest.raises(GraphError, match="boundaries: there is no frame 12 in a video of 12 frames"):
        comfy_server.queue(graph(boundaries="12"))
