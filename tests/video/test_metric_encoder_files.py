"""Load Metric Encoder: what is listed and loaded, and one message for each folder that cannot be used."""

import json
import math
import shutil
from pathlib import Path

import folder_paths
import pytest
import torch
from longtake.nodes import metric_encoders as node
from longtake.nodes.metric_encoders import CATEGORY, NO_FOLDER, LongTakeLoadMetricEncoder
from longtake.samplers.adapters.metric_encoders import from_folder
from safetensors.torch import load_file, save_file
from support.tiny_encoders import core_clip, saved, video, vit_model

pytestmark = pytest.mark.usefixtures("as_core_runs_nodes")


# ---- refusals ----------------------------------------------------------------------------------------------------


def config_with(path, **changes):
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps(config | changes))


def weights_with(path, change):
    weights = load_file(path / "model.safetensors")
    change(weights)
    save_file(weights, path / "model.safetensors")


def to_pickle(path):
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()


def truncated(path):
    data = (path / "model.safetensors").read_bytes()
    (path / "model.safetensors").write_bytes(data[: len(data) // 2])


def index(path, shards):
    (path / "model.safetensors").rename(path / "one.safetensors")
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))


def reshaped(weights):
    weights["embeddings.position_embeddings"] = torch.zeros(1, 5, 32)


BROKEN = {
    "no config": (lambda path: (path / "config.json").unlink(), "config.json is missing from .*broken"),
    "config is text": (lambda path: (path / "config.json").write_text("{"), "config.json is not readable JSON"),
    "config is deep": (lambda path: (path / "config.json").write_text("[" * 10**5), "config.json is not readable JSON"),
    "config is a list": (lambda path: (path / "config.json").write_text("[]"), "is no configuration"),
    "unknown type": (lambda path: config_with(path, model_type="resnet"), 'model_type "resnet"; it must be one of'),
    "no type": (lambda path: config_with(path, model_type=None), "model_type null; it must be one of clip, vit"),
    "type is a list": (lambda path: config_with(path, model_type=[]), "it must be one of clip, vit, dinov2"),
    "not this type": (lambda path: config_with(path, model_type="dinov2"), "do not fit its config.json: "),
    "pickle": (to_pickle, "weights in pytorch_model.bin, a pickle.* ViTModel as M"),
    "no weights": (lambda path: (path / "model.safetensors").unlink(), "model.safetensors is missing from .*broken"),
    "truncated": (truncated, "model.safetensors cannot be read as safetensors .* truncated"),
    "empty": (lambda path: (path / "model.safetensors").write_bytes(b""), "cannot be read as safetensors"),
    "one weight less": (
        lambda path: weights_with(path, lambda w: w.pop("embeddings.cls_token")), "they have no .*cls_token .1 are"),
    "another shape": (
        lambda path: weights_with(path, reshaped), r"position_embeddings has the shape \[1, 5, 32\], not \[1, 17,"),
    "fewer layers": (lambda path: config_with(path, num_hidden_layers=1), "they have .*which the model has not"),
    "more layers": (lambda path: config_with(path, num_hidden_layers=3), "do not fit .*they have no "),
    "wider": (lambda path: config_with(path, hidden_size=64), "has the shape .*, not "),
    "no such network": (lambda path: config_with(path, hidden_act="no_such"), "none that ViTModel can be built from"),
    "heads that do not fit": (  # transformers 5 shows it at the weights
        lambda path: config_with(path, num_attention_heads=3), "none that ViTModel can be built|has the shape"),
    "shard missing": (lambda path: index(path, {"a": "two.safetensors"}), "two.safetensors is missing from"),
    "shard outside": (lambda path: index(path, {"a": "../one.safetensors"}), "names .*which is no safetensors"),
    "shard of a pickle": (lambda path: index(path, {"a": "one.bin"}), "names .*which is no safetensors"),
    "no shards": (lambda path: index(path, {}), "lists no files"),
    "shards are a list": (lambda path: index(path, []), "lists no files"),
    "mean of two": (
        lambda path: (path / "preprocessor_config.json").write_text('{"image_mean": [0.5, 0.5]}'),
        "image_mean .*three numbers"),
    "std of zero": (
        lambda path: (path / "preprocessor_config.json").write_text('{"image_std": [0, 0.5, NaN]}'),
        "image_std .0. must be between 0.01 and 1"),
}  # fmt: skip


@pytest.mark.parametrize("fault", BROKEN)
def test_a_folder_that_cannot_be_used_gets_one_message(tmp_path, fault):
    path = saved(tmp_path / "broken", vit_model())
    change, words = BROKEN[fault]
    assert from_folder(path).images(video(1)).shape == (1, 32)
    change(path)
    with pytest.raises(ValueError, match=words) as caught:
        from_folder(path)
    assert str(tmp_path) in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) < 900


def test_a_pickle_beside_safetensors_is_not_opened(tmp_path):
    path = saved(tmp_path / "both", vit_model())
    (path / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert from_folder(path).images(video(1)).shape == (1, 32)


@pytest.mark.parametrize("shape", [(0, 8, 8, 3), (2, 8, 8, 1), (8, 8, 3), (2, 0, 8, 3)])
def test_frames_must_be_an_image(clip_folder, shape):
    with pytest.raises(ValueError, match="folder clip.: frames of the shape .* must be"):
        from_folder(clip_folder).images(torch.zeros(shape))


def test_numbers_that_are_none_are_named_by_their_frame(clip_folder):
    frames = video(20)
    frames[17, 20, 36, 1] = math.nan
    frames[18] = math.nan
    with pytest.raises(ValueError, match="the features of frame 17 are no numbers"):
        from_folder(clip_folder).images(frames)


# ---- the node ----------------------------------------------------------------------------------------------------


@pytest.fixture
def models(tmp_path, monkeypatch):
    """ComfyUI's model folders, with nothing in metrics."""
    monkeypatch.setattr(folder_paths, "models_dir", str(tmp_path / "models"))
    base = tmp_path / "models" / "metrics"
    base.mkdir(parents=True)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, CATEGORY, ([str(base)], set()))
    return base


def listed():
    return LongTakeLoadMetricEncoder.define_schema().inputs[0].options


def loaded(folder, clip_vision=None):
    return LongTakeLoadMetricEncoder.execute(folder=folder, clip_vision=clip_vision).args[0]


def test_the_folder_is_registered():
    assert folder_paths.get_folder_paths(CATEGORY)[-1] == str(Path(folder_paths.models_dir) / "metrics")


def test_folders_are_listed_as_they_come_and_load(models):
    assert listed() == [NO_FOLDER] and LongTakeLoadMetricEncoder.validate_inputs(folder=NO_FOLDER) is True
    saved(models / "dino", vit_model())
    (models / "alone.safetensors").write_bytes(b"")
    (models / ".hidden").mkdir()
    assert listed() == ["dino", NO_FOLDER] and loaded("dino").name == "DINO ViT-32/16 (folder dino)"
    shutil.rmtree(models)
    assert listed() == [NO_FOLDER]


def test_none_is_no_encoder_and_an_error_says_what_to_put_where(models):
    assert loaded(NO_FOLDER) is None
    said = LongTakeLoadMetricEncoder.validate_inputs(folder="dino")
    assert "folder (dino) must be one of (none)" in said and "models/metrics" in said
    (models / "dino").mkdir()
    with pytest.raises(ValueError, match="LongTakeLoadMetricEncoder.*config.json is missing"):
        loaded("dino")


def test_a_clip_vision_wins(models, tmp_path):
    saved(models / "dino", vit_model())
    for folder in ("dino", NO_FOLDER):
        assert loaded(folder, core_clip(tmp_path)).name.endswith("(CLIP_VISION)")
    with pytest.raises(ValueError, match="LongTakeLoadMetricEncoder.*clip_vision: not a CLIP_VISION"):
        loaded("dino", {})


@pytest.mark.parametrize("name", [
    "../other", "..", ".", "", "dino/..", "dino/../../other", "/", "\\other", "C:\\other", 3,
])  # fmt: skip
def test_names_that_leave_the_folder_are_refused(models, name):
    saved(models / "dino", vit_model())
    saved(models.parent / "other", vit_model())
    for given in (name, str(models.parent / "other")):
        with pytest.raises(ValueError, match="LongTakeLoadMetricEncoder.*folder .* must be one of dino"):
            loaded(given)
        assert LongTakeLoadMetricEncoder.validate_inputs(folder=given) is not True
        with pytest.raises(ValueError, match="folder: there is none called"):
            node.find(given)


def test_links_that_leave_the_model_folders_are_refused(models, tmp_path):
    outside = saved(tmp_path / "outside", vit_model())
    inside = saved(models.parent / "clip_vision" / "dino", vit_model())
    (models / "far").symlink_to(outside, target_is_directory=True)
    (models / "near").symlink_to(inside, target_is_directory=True)
    shutil.copytree(inside, models / "file")
    (models / "file" / "model.safetensors").unlink()
    (models / "file" / "model.safetensors").symlink_to(outside / "model.safetensors")
    assert loaded("near").name == "DINO ViT-32/16 (folder near)"
    for name in ("far", "file"):
        with pytest.raises(ValueError, match="folder: .* is a link to .*outside ComfyUI's model folders"):
            loaded(name)
