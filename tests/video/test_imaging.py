"""Imaging quality: VBench's own values on the same frames, and one clear error for weights that do not fit."""

import json
import math

import pytest
import torch
from longtake.samplers.adapters.imaging import Imaging, results
from longtake.samplers.adapters.metric_encoders import from_folder
from longtake.samplers.metrics.musiq import Musiq
from safetensors.torch import save_file
from support import metric_clips, tiny_musiq
from support.metric_clips import image
from support.metric_runs import document, measure, values
from support.tiny_encoders import saved, vit_model

pytestmark = pytest.mark.usefixtures("as_core_runs_nodes", "own_folders")

NODE = r"^Video Metrics \(LongTakeVideoMetrics\): "
CLIP = image(metric_clips.small())[:12]
SHORT = image(metric_clips.panned(6, 24, 40))
MUSIQ = "musiq.safetensors"
SHAPES = {name: tuple(one.shape) for name, one in Musiq(*tiny_musiq.SIZES).state_dict().items()}
GOLDEN = json.loads((metric_clips.DATA / "metrics_golden.json").read_text("ascii"))["imaging"]


def test_it_is_vbench_s(tmp_path):
    imaging = Imaging(tiny_musiq.saved(tmp_path / MUSIQ, SHAPES))
    for name, clip in zip(("real", "large", "tall"), metric_clips.looks(), strict=True):
        assert imaging.scores(image(clip)).tolist() == pytest.approx(GOLDEN[name], abs=1e-5), name


@pytest.mark.parametrize("kind", ["clip", "dino"])
def test_the_imaging_quality_by_a_network_in_the_encoders_folder(clip_folder, tmp_path, kind):
    folder = clip_folder if kind == "clip" else saved(tmp_path / "dino", vit_model())
    plain = measure(CLIP, encoder=from_folder(folder), boundaries="9")
    assert "imaging_quality" not in values(plain)
    tiny_musiq.saved(folder / MUSIQ, SHAPES)
    result = measure(CLIP, encoder=from_folder(folder), boundaries="9")
    found = {one["metric"]: one for one in document(result)["metrics"]}["imaging_quality"]
    with torch.inference_mode():
        net = Musiq(*tiny_musiq.SIZES).eval()
        net.load_state_dict(tiny_musiq.weights(SHAPES))
        wanted = sum(net(frame[None].movedim(-1, 1)).item() for frame in CLIP) / len(CLIP)
    assert found["value"] == pytest.approx(wanted / 100, abs=1e-6)
    assert found["backend"] == f"MUSIQ (folder {folder.name})" and found["better"] == 1 and not found["vbench_exact"]
    assert values(result) == {**values(plain), "imaging_quality": found["value"]}  # nothing else is touched


def test_vbenchs_own_network_is_told_by_its_size(tmp_path):
    imaging = Imaging(tiny_musiq.saved(tmp_path / MUSIQ, SHAPES))
    scores = imaging.scores(SHORT)
    assert not results(imaging, scores)[0].vbench_exact and results(None, scores) == []
    imaging.model.sizes = (384, 1152, 14, 10)
    assert results(imaging, scores)[0].vbench_exact
    rgba = torch.cat([SHORT, torch.rand_like(SHORT[..., :1])], -1)
    assert imaging.scores(rgba).equal(scores) and len(scores) == len(SHORT)


@pytest.mark.parametrize(
    "change, error",
    [
        (lambda w: w.clear(), "embedding.weight"),
        (lambda w: w.pop("head.bias"), "head.bias"),
        (lambda w: w.update({"head.weight": torch.zeros(10, 128), "head.bias": torch.zeros(10)}), "head.weight"),
        (lambda w: w.update({"embedding.weight": torch.zeros(100, 16384)}), "a width of 100 channels"),
        (lambda w: w.update({"head.bias": torch.full((1,), math.nan)}), "its scores are no numbers"),
    ],
    ids=["empty", "incomplete", "ten classes", "another width", "broken"],
)
def test_an_imaging_network_that_does_not_fit_is_named(clip_folder, change, error):
    given = tiny_musiq.weights(SHAPES)
    change(given)
    with torch.inference_mode(False):
        save_file(given, clip_folder / MUSIQ)
    with pytest.raises(ValueError, match=NODE + rf".*musiq\.safetensors.*{error}"):
        measure(SHORT, encoder=from_folder(clip_folder))
