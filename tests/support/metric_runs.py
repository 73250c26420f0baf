"""Video Metrics and Compare Metrics run without a server, here and in processes of their own."""

import contextlib
import ctypes
import gc
import json
from types import SimpleNamespace

import folder_paths
import psutil
import torch
from comfy_api.latest import InputImpl
from longtake.nodes.metrics import LongTakeCompareMetrics, LongTakeVideoMetrics
from longtake.samplers.adapters import measure as reading
from longtake.samplers.adapters import metric_files, video_file

LOSSLESS = "mkv (ffv1)"
HIDDEN = SimpleNamespace(prompt=None, extra_pnginfo=None, unique_id="9")


def written(path, images, kind=LOSSLESS, rate=16.0):
    """A VIDEO of frames."""
    writer = video_file.Writer(path, video_file.FORMATS[kind], tuple(images.shape[1:3]), rate, 4)
    writer.add(images)
    writer.close()
    return InputImpl.VideoFromFile(str(path))


def measure(video, **settings):
    node = type("Run", (LongTakeVideoMetrics,), {"hidden": HIDDEN})
    return node.execute(**{"video": video, "fps": 16.0, "boundaries": "", "save_as": ""} | settings)


def compare(*texts, saved="", labels="", **more):
    """texts: of metrics_a and further ones."""
    node = type("Run", (LongTakeCompareMetrics,), {"hidden": HIDDEN})
    linked = {f"metrics_{letter}": text for letter, text in zip("abcdef", texts, strict=False)}
    return node.execute(saved=saved, labels=labels, **linked, **more)


def document(result):
    """What a node has put out, read by a strict reader: JSON has no NaN."""

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(result.args[0], parse_constant=refuse)


def values(result):
    """{metric: value}, None where nothing can be said."""
    return {one["metric"]: one["value"] for one in document(result)["metrics"]}


def cells(result):
    """{metric: its row's other cells} of the table of Compare Metrics."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in result.args[0].splitlines() if "|" in line]
    return {row[0]: row[1:] for row in rows if not row[0].startswith("---")}


def stored(output, name, numbers, size=0):
    """Adds a document for each number to a collection. size: of text that makes each longer."""
    folder_paths.output_directory = str(output)
    for number in numbers:
        found = {"metrics": [{"metric": "m", "value": number, "better": 1, "about": "x" * size}]}
        metric_files.append(name, found)


def with_room(output, name, numbers, size, room):
    """stored() where no file may be larger than `room` bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    stored(output, name, numbers, size)


def memory(folder, frames, size):
    """Measures a long video; what it is in memory is no more after all of it than after the first 50 frames."""
    torch.set_num_threads(1)
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).mallopt(-3, 1 << 18)  # M_MMAP_THRESHOLD: what is free goes back to the system at once
    path, sizes = folder / "clip.mp4", []
    writer = video_file.Writer(path, video_file.FORMATS["mp4 (h264)"], size, 16, 30)
    for at in range(frames):
        writer.add(torch.full((1, *size, 3), at / frames))
    writer.close()
    folder_paths.temp_directory = str(folder)
    reading.by_luma = lambda a, b: torch.zeros(len(a), 2, *a.shape[2:])  # the real one takes as long as all the rest
    add = reading.Collector.add

    def watched(self, piece):
        add(self, piece)
        gc.collect()
        sizes.append((self.count, psutil.Process().memory_info().rss))

    reading.Collector.add = watched
    with torch.inference_mode():
        assert document(measure(InputImpl.VideoFromFile(str(path))))["video"]["frames"] == frames
    early, late = (max(size for at, size in sizes if (at > 50) == after) for after in (False, True))
    assert sizes[-1][0] == frames and late - early < 30e6, [(at, round(size / 1e6)) for at, size in sizes]
