"""The metrics against what others' own code says of the same clips (data/metrics_golden.json says whose, and how)."""

import json

import pytest
import torch
from longtake.samplers.metrics import flow, frames, scenes, series, summary
from support import metric_clips
from support.metric_clips import image

GOLDEN = json.loads((metric_clips.DATA / "metrics_golden.json").read_text("ascii"))
CUTS = {name: entry for name, entry in GOLDEN["cuts"].items() if name != "made by"}


@pytest.fixture(autouse=True)
def on_one_thread(one_thread):
    yield


def clip(name):
    """Of support/metric_clips.py."""
    if name == "pan":
        return metric_clips.panned(20, 48, 64)
    return metric_clips.flicker(metric_clips.real()) if name == "flicker" else getattr(metric_clips, name)()


def measured(clip):
    """{metric: value} without motion."""
    collector = series.Collector(flow=None)
    collector.add(image(clip))
    return {result.metric: result.value for result in summary.results(collector.series(), [])}


def test_the_values_say_what_made_them():
    assert {"vbench", "scenedetect", "opencv-python-headless", "scikit-image"} <= set(GOLDEN["versions"])
    assert all(GOLDEN[part]["made by"] for part in GOLDEN if part != "versions")


@pytest.mark.parametrize("name", ["real", "pan", "broken", "flicker"])
def test_temporal_flickering_is_vbench_s(name):
    images, wanted = image(clip(name)), GOLDEN["temporal_flickering"][name]
    assert abs(1 - frames.change(images[:-1], images[1:]).double().mean().item() - wanted) < 1e-6


def test_results_are_the_golden_ones():
    found = measured(clip("pan"))
    assert abs(found["temporal_flicker"] - GOLDEN["temporal_flickering"]["pan"]) < 1e-6
    for name in ("spliced", "crowded", "faded"):
        assert measured(clip(name))["scenes"] == len(CUTS[name]["cuts"]) + 1


@pytest.mark.parametrize("case", GOLDEN["dynamic_degree"]["rule"], ids=lambda c: f"{c['moves']}of{c['still']}")
def test_what_moves_is_decided_as_vbench_does_but_for_a_still_pair(case):
    """VBench calls two sampled frames a moving video whatever they show."""
    side = min(case["height"], case["width"])
    lengths = [case["threshold"] * 0.99] * case["still"] + [case["threshold"] * 1.01] * case["moves"]
    none = torch.zeros(0)
    known = series.Series(**dict.fromkeys(series.Series.__dataclass_fields__, none) | {
        "sampled": torch.tensor(lengths), "side": side})  # fmt: skip
    share, moving = summary.dynamic(known)
    assert share == pytest.approx(case["moves"] / len(lengths))
    if len(lengths) == 1:
        assert case["moving"] and bool(moving) == bool(case["moves"])
    else:
        assert bool(moving) == case["moving"]


def test_the_largest_motions_are_vbench_s():
    numbers = torch.from_numpy(metric_clips.raw(3, 2, 45, 80) - 128).float()[None]
    assert flow.top_magnitude(numbers).item() == pytest.approx(GOLDEN["dynamic_degree"]["top"], rel=1e-6)


@pytest.mark.parametrize("name", CUTS)
def test_cuts_are_those_of_the_adaptive_detector(name):
    small = scenes.to_width(image(clip(name)))
    scores = scenes.hsv_change(small[:-1], small[1:])
    assert scenes.cuts(scores.tolist()) == CUTS[name]["cuts"]
    worst = (scores - torch.tensor(CUTS[name]["scores"])).abs().max()
    assert worst < (0.3 if name == "wide" else 0.005)  # the wide one is made smaller by other code


def test_ssim_is_scikit_image_s():
    real, pan = image(clip("real")), image(clip("pan")[:2])
    a, b = zip(*GOLDEN["ssim"]["pairs"], strict=True)
    wanted = torch.tensor(GOLDEN["ssim"]["real"])
    assert (frames.ssim(real[list(a)], real[list(b)]) - wanted).abs().max() < 1e-4
    assert abs(frames.ssim(pan[:1], pan[1:]).item() - GOLDEN["ssim"]["pan"]) < 1e-4


def test_the_variance_of_the_laplacian_is_opencv_s():
    found = frames.laplacian_variance(image(clip("real")[GOLDEN["laplacian"]["frames"]]))
    assert (found / torch.tensor(GOLDEN["laplacian"]["real"]) - 1).abs().max() < 1e-3


def test_lab_is_scikit_image_s():
    golden = GOLDEN["lab"]
    colours = torch.tensor(golden["colours"])[None, None] / 255
    assert (frames.lab(colours)[0, 0] - torch.tensor(golden["of colours"])).abs().max() < 1e-3
    found = frames.lab(image(clip("real")[48:49]))[0]
    of_places = torch.stack([found[y, x] for y, x in golden["places"]])
    assert (of_places - torch.tensor(golden["of places"])).abs().max() < 1e-3
    assert (found.double().mean((0, 1)) - torch.tensor(golden["means"])).abs().max() < 1e-3


@pytest.mark.parametrize("name, step", [("real", 1), ("real", 2), ("real", 4), ("pan", 1)])
def test_motion_explains_as_much_as_that_of_opencv(name, step):
    golden = GOLDEN["flow"]
    dis, none = golden["pan"] if name == "pan" else golden["real"][golden["steps"].index(step)]
    grey = frames.luma(image(clip(name)))
    at = torch.arange(0, len(grey) - step, 8)
    a, b = grey[at], grey[at + step]
    there = flow.warp(b[:, None], flow.lucas_kanade(a, b))[:, 0]
    assert (b - a).abs().mean().item() == pytest.approx(none, abs=1e-5)
    assert (there - a).abs().mean().item() < 1.05 * dis < 0.75 * none


@pytest.mark.parametrize("at", [0, 1, 2])
def test_the_largest_motions_are_about_those_of_opencv(at):
    step, wanted = GOLDEN["flow"]["steps"][at], torch.tensor(GOLDEN["flow"]["lengths"][at])
    grey = frames.luma(image(clip("real")))
    begin = torch.arange(0, len(grey) - step, 8)
    found = flow.top_magnitude(flow.lucas_kanade(grey[begin], grey[begin + step]))
    assert torch.corrcoef(torch.stack((found, wanted)))[0, 1] > 0.95
    assert 0.8 < found.mean() / wanted.mean() < 1.3
