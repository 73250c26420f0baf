"""Writes metrics_golden.json: what others' own code says of the clips of support/metric_clips.py.

Run once, from tests/, in an environment of its own with the versions that the file then names (vbench and pyiqa
without their dependencies): PYTHONPATH=. python video/data/make_metrics_golden.py
"""

import importlib.metadata
import importlib.util
import json
import sys
import tempfile
import types
from pathlib import Path

import cv2
import numpy
import scenedetect
import skimage.color
import skimage.metrics
import torch
import vbench.temporal_flickering
from support import metric_clips, tiny_musiq
from vbench.dynamic_degree import DynamicDegree

LUMA = numpy.array((0.299, 0.587, 0.114))
CUTS = ("spliced", "crowded", "faded", "red", "wide", "broken", "real")
PAIRS = ((0, 1), (47, 48), (0, 48), (0, 95))
SHARP = (0, 31, 48, 95)
PLACES = ((10, 20), (70, 120), (100, 200), (143, 255), (40, 60))
STEPS = (1, 2, 4)  # frames between those that motion is found between
MOVES = (  # (pairs that move, pairs that do not, height, width)
    (0, 1, 256, 448), (1, 0, 256, 448), (0, 5, 480, 832), (1, 4, 480, 832), (2, 3, 480, 832), (3, 12, 256, 256),
    (4, 11, 256, 256), (5, 26, 128, 320), (7, 23, 128, 320), (8, 23, 128, 320),
)  # fmt: skip


def grey(frame):
    return frame.astype("float64") / 255 @ LUMA


def pictures(clip, folder):
    """A path that OpenCV reads the clip from, without loss."""
    for i, frame in enumerate(clip):
        cv2.imwrite(f"{folder}/{i:04d}.png", frame[..., ::-1])
    return f"{folder}/%04d.png"


def cuts(clip):
    """(cuts, content_val of each frame from the second on) by the whole program, which also makes frames smaller."""
    with tempfile.TemporaryDirectory() as folder:
        stats = scenedetect.StatsManager()
        manager = scenedetect.SceneManager(stats)
        manager.add_detector(scenedetect.AdaptiveDetector())
        manager.detect_scenes(scenedetect.open_video(pictures(clip, folder)))
    values = [stats.get_metrics(i, ["content_val"])[0] for i in range(1, len(clip))]
    return [cut.frame_num for cut, _ in manager.get_scene_list()[1:]], [round(value, 4) for value in values]


def flicker(clip):
    with tempfile.TemporaryDirectory() as folder:
        return vbench.temporal_flickering.cal_score(pictures(clip, folder))


def ssim(a, b):
    return float(skimage.metrics.structural_similarity(
        grey(a), grey(b), data_range=1.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False))  # fmt: skip


def moving(moves, still, height, width):
    """VBench's rule on steps of which some move by a little more than its threshold, the rest by a little less."""
    rule = object.__new__(DynamicDegree)
    rule.set_params(torch.zeros(1, 3, height, width), moves + still + 1)
    threshold = rule.params["thres"]
    return {"moves": moves, "still": still, "height": height, "width": width, "threshold": threshold,
            "moving": rule.check_move([threshold * 0.99] * still + [threshold * 1.01] * moves)}  # fmt: skip


def top():
    """VBench's mean of the largest motions, of whole-numbered motions."""
    flow = metric_clips.raw(3, 2, 45, 80) - 128
    rule = object.__new__(DynamicDegree)
    flow = torch.from_numpy(flow.astype("float32"))
    return rule.get_score(torch.zeros(1, 3, 45, 80), flow[None])


def motion(a, b):
    """The flow by DIS between two frames, [H, W, 2]."""
    dis = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    return dis.calc(*(numpy.uint8((255 * grey(image)).round()) for image in (a, b)), None)


def explained(clip, step):
    """Mean |b(p + F) - a(p)| over luma pixels, with F by DIS and with none."""
    y, x = (numpy.float32(at) for at in numpy.mgrid[: clip.shape[1], : clip.shape[2]])
    found = []
    for t in range(0, len(clip) - step, 8):
        a, b = (grey(clip[i]).astype("float32") for i in (t, t + step))
        flow = motion(clip[t], clip[t + step])
        there = cv2.remap(b, x + flow[..., 0], y + flow[..., 1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        found.append((abs(there - a).mean(), abs(b - a).mean()))
    return [round(float(value), 6) for value in numpy.mean(found, 0)]


def lengths(clip, step):
    """VBench's mean of the largest motions, of DIS in place of RAFT."""
    flows = (torch.from_numpy(motion(clip[t], clip[t + step])) for t in range(0, len(clip) - step, 8))
    rule = object.__new__(DynamicDegree)
    return [round(rule.get_score(torch.zeros(1, 3, 1, 1), flow.movedim(-1, 0)[None]), 4) for flow in flows]


def imaging(*clips):
    """Frames' scores by VBench's imaging_quality, of a small MUSIQ, for each clip."""
    for name in ("pyiqa", "pyiqa.archs", "pyiqa.data", "pyiqa.utils"):  # as they are, without what they import first
        package = types.ModuleType(name)
        package.__path__ = list(importlib.util.find_spec(name).submodule_search_locations)
        sys.modules[name] = package
    from pyiqa.archs.musiq_arch import MUSIQ
    from vbench.imaging_quality import transform

    width, inner, layers, grid = tiny_musiq.SIZES
    model = MUSIQ(pretrained=False, hidden_size=width, mlp_dim=inner, num_heads=2, num_layers=layers,
                  spatial_pos_grid_size=grid)  # fmt: skip
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    model.load_state_dict(tiny_musiq.weights(shapes))
    model.training = False
    with torch.no_grad():
        return [
            [float(model(image[None])) for image in transform(torch.from_numpy(clip).movedim(-1, 1), "longer")]
            for clip in clips
        ]


def golden():
    clips = {name: getattr(metric_clips, name)() for name in CUTS}
    pan, real = metric_clips.panned(20, 48, 64), clips["real"]
    lab = skimage.color.rgb2lab(real[48] / 255)
    colours = numpy.array([[r, g, b] for r in (0, 9, 128, 255) for g in (0, 10, 255) for b in (0, 11, 200)], "uint8")
    found = {name: cuts(clip) for name, clip in clips.items()}
    return {
        "temporal_flickering": {
            "made by": "vbench.temporal_flickering.cal_score",
            "real": flicker(real), "pan": flicker(pan), "broken": flicker(clips["broken"]),
            "flicker": flicker(metric_clips.flicker(real)),
        },
        "dynamic_degree": {
            "made by": "vbench.dynamic_degree.DynamicDegree: set_params, check_move, get_score",
            "rule": [moving(*case) for case in MOVES], "top": top(),
        },
        "cuts": {
            "made by": "scenedetect.SceneManager.detect_scenes, AdaptiveDetector(); content_val",
            **{name: {"cuts": at, "scores": scores} for name, (at, scores) in found.items()},
        },
        "ssim": {
            "made by": "skimage.metrics.structural_similarity(luma, gaussian_weights=True, sigma=1.5, "
                       "use_sample_covariance=False, data_range=1.0)",
            "pairs": PAIRS, "real": [ssim(real[a], real[b]) for a, b in PAIRS], "pan": ssim(pan[0], pan[1]),
        },
        "laplacian": {
            "made by": "cv2.Laplacian(255 * luma, cv2.CV_64F)[1:-1, 1:-1].var()",
            "frames": SHARP,
            "real": [float(cv2.Laplacian(255 * grey(real[i]), cv2.CV_64F)[1:-1, 1:-1].var()) for i in SHARP],
        },
        "lab": {
            "made by": "skimage.color.rgb2lab",
            "colours": colours.tolist(), "of colours": skimage.color.rgb2lab(colours / 255).round(5).tolist(),
            "places": PLACES, "of places": [lab[at].round(5).tolist() for at in PLACES],
            "means": lab.mean((0, 1)).tolist(),
        },
        "flow": {
            "made by": "cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM), cv2.remap; [with it, with none]",
            "steps": STEPS, "real": [explained(real, step) for step in STEPS], "pan": explained(pan, 1),
            "lengths": [lengths(real, step) for step in STEPS],
        },
        "imaging": {
            "made by": "pyiqa.archs.musiq_arch.MUSIQ with vbench.imaging_quality.transform(images, \"longer\")",
            **dict(zip(("real", "large", "tall"), imaging(*metric_clips.looks()), strict=True)),
        },
    }  # fmt: skip


def written(value, depth=0):
    """JSON with a line per entry, two deep."""
    if not isinstance(value, dict) or depth == 2:
        return json.dumps(value)
    space = "  " * (depth + 1)
    lines = [f"{space}{json.dumps(key)}: {written(entry, depth + 1)}" for key, entry in value.items()]
    return "{\n" + ",\n".join(lines) + "\n" + space[2:] + "}"


if __name__ == "__main__":
    packages = ("vbench", "pyiqa", "scenedetect", "opencv-python-headless", "scikit-image", "numpy", "torch")
    versions = {name: importlib.metadata.version(name) for name in packages} | {"python": sys.version.split()[0]}
    text = written({"versions": versions, **golden()})
    Path(__file__).with_name("metrics_golden.json").write_text(text + "\n", "ascii")
