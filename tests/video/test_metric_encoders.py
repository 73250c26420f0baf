"""Encoders for metrics: VBench's preparation of frames, and features equal to those of the networks called by hand."""

import hashlib
import json
import logging
import math
import socket

import comfy.model_management
import pytest
import torch
import torch.nn.functional as F
import transformers
from longtake.samplers.adapters import metric_encoders
from longtake.samplers.adapters.metric_encoders import CLIP_LOOK, IMAGENET, Look, from_clip_vision, from_folder
from safetensors.torch import load_file
from support.tiny_encoders import (
    BEGIN,
    END,
    IDS,
    LETTERS,
    SMALL,
    VISION,
    VIT,
    clip_model,
    core_clip,
    core_vision,
    dino2_model,
    filled,
    saved,
    video,
    vit_model,
)

pytestmark = pytest.mark.usefixtures("as_core_runs_nodes")


def by_hand(frames, side, square, look):
    """VBench's preparation without torchvision."""
    images = frames.movedim(-1, 1)
    height, width = images.shape[2:]
    short = min(height, width)
    size = tuple(side if pixels == short else int(side * pixels / short) for pixels in (height, width))
    if size != (height, width):
        images = F.interpolate(images, size, mode="bicubic" if square else "bilinear", align_corners=False)
    if square:
        top, left = round((size[0] - side) / 2), round((size[1] - side) / 2)
        images = images[:, :, top : top + side, left : left + side]
    mean, std = (torch.tensor(values)[:, None, None] for values in look)
    return (images - mean) / std


def image_features(model, pixels):
    """Without get_image_features, which gives one thing in transformers 4 and another in 5."""
    return model.visual_projection(model.vision_model(pixel_values=pixels).pooler_output)


# ---- frames ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("square", "look", "shape", "wanted"), [
    (True, CLIP_LOOK, (2, 3, 224, 224), [-1.820698, 0.342289, 0.638164, 0.195191, 0.930251]),
    (False, IMAGENET, (2, 3, 224, 398), [0.827554, 1.772267, -1.422969, 0.229787, 0.869906]),
])  # fmt: skip
def test_frames_are_prepared_as_vbench_prepares_them(square, look, shape, wanted):
    """Made once with the wheel vbench 0.1.5: clip_transform(224) and dino_transform(224) of its utils, on these frames
    times 255 as [n, 3, H, W]; torchvision 0.26."""
    found = Look(224, square, *look).pixels(video(2, 90, 160))
    assert found.shape == shape
    numbers = [found[0, 0, 0, 0], found[1, 2, 100, 150], found[0, 1, -1, -1], found.mean(), found.std()]
    assert [float(number) for number in numbers] == pytest.approx(wanted, abs=2e-5)


@pytest.mark.parametrize("square", [True, False])
@pytest.mark.parametrize("size", [(48, 64), (53, 37), (32, 32), (16, 16), (20, 333), (97, 64)])
def test_frames_of_any_shape(size, square):
    frames = video(2, *size)
    found = Look(32, square, *CLIP_LOOK).pixels(frames)
    assert torch.allclose(found, by_hand(frames, 32, square, CLIP_LOOK), atol=1e-5)
    assert min(found.shape[2:]) == 32


# ---- folders -----------------------------------------------------------------------------------------------------


def test_features_of_a_clip_folder(clip_folder):
    encoder, frames = from_folder(clip_folder), video()
    wanted = image_features(clip_model(), by_hand(frames, 32, True, CLIP_LOOK))
    found = encoder.images(frames)
    assert found.shape == (3, 16) and found.dtype == torch.float32 and torch.allclose(found, wanted, atol=1e-4)
    assert wanted.std(0).min() > 1e-3
    assert (encoder.name, encoder.exact) == ("CLIP ViT-32/8@32px (folder clip)", "")


def stretched(table, grid, to):
    """Position embeddings [1, 1 + grid^2, D] on `to` patches, by DINO's rule: bicubic taps at (i + 0.5) / scale - 0.5
    with scale = (patches + 0.1) / grid, one by one."""

    def taps(count):
        matrix, scale = torch.zeros(count, grid), (count + 0.1) / grid
        for i in range(count):
            at = (i + 0.5) / scale - 0.5
            for tap in range(math.floor(at) - 1, math.floor(at) + 3):
                x, a = abs(at - tap), -0.75
                near, far = ((a + 2) * x - (a + 3)) * x * x + 1, ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
                matrix[i, min(max(tap, 0), grid - 1)] += near if x <= 1 else far
        return matrix

    grown = torch.einsum("yi,xj,ijd->yxd", taps(to[0]), taps(to[1]), table[0, 1:].unflatten(0, (grid, grid)))
    return torch.cat([table[:, :1], grown.flatten(0, 1)[None]], 1)


@pytest.mark.parametrize(("size", "patches"), [((40, 72), (14, 25)), ((72, 40), (25, 14)), ((50, 50), (14, 14))])
def test_features_of_a_dino_folder_with_dinos_own_positions(tmp_path, size, patches):
    """A ViT that is made for a grid of this shape, with positions stretched by hand, answers the same."""
    small, frames = vit_model(), video(2, *size)
    encoder = from_folder(saved(tmp_path / "dino", small))
    pixels = by_hand(frames, 224, False, IMAGENET)
    large = vit_model(image_size=(patches[0] * 16, patches[1] * 16))
    weights = small.state_dict()
    weights["embeddings.position_embeddings"] = stretched(weights["embeddings.position_embeddings"], 4, patches)
    large.load_state_dict(weights)
    cut = pixels[:, :, : patches[0] * 16, : patches[1] * 16]
    wanted = large(pixel_values=cut).last_hidden_state[:, 0]
    found = encoder.images(frames)
    assert torch.allclose(found, wanted, atol=1e-3) and wanted.std() > 0.1
    theirs = small(pixel_values=pixels, interpolate_pos_encoding=True).last_hidden_state[:, 0]
    assert (theirs - wanted).abs().max() > 5 * (found - wanted).abs().max()
    assert encoder.name == "DINO ViT-32/16 (folder dino)"


def test_squares_of_the_trained_size_keep_their_positions(tmp_path):
    model, frames = vit_model(image_size=224), video(2, 60, 60)
    wanted = model(pixel_values=by_hand(frames, 224, False, IMAGENET)).last_hidden_state[:, 0]
    assert torch.allclose(from_folder(saved(tmp_path / "dino", model)).images(frames), wanted, atol=1e-4)


def test_features_of_a_dinov2_folder(tmp_path):
    model, frames = dino2_model(), video(2, 40, 72)
    wanted = model(pixel_values=by_hand(frames, 224, False, IMAGENET)).last_hidden_state[:, 0]
    encoder = from_folder(saved(tmp_path / "dino2", model))
    assert torch.allclose(encoder.images(frames), wanted, atol=1e-4) and wanted.std() > 0.1
    assert (encoder.name, encoder.exact) == ("DINOv2 ViT-32/14 (folder dino2)", "")


def test_the_networks_of_vbench_are_known(tmp_path, monkeypatch):
    """transformers' defaults are ViT-B/16 and CLIP's ViT-B/32; here smaller ones stand for them."""
    assert metric_encoders.like(transformers.ViTConfig(), metric_encoders.DINO_B16)
    assert metric_encoders.like(transformers.CLIPConfig().vision_config, metric_encoders.CLIP_B32)
    assert not metric_encoders.like(transformers.ViTConfig(patch_size=8), metric_encoders.DINO_B16)
    assert metric_encoders.title("CLIP", 768, 32) == "CLIP ViT-B/32"
    assert metric_encoders.title("CLIP", 1024, 14, 336) == "CLIP ViT-L/14@336px"
    monkeypatch.setattr(metric_encoders, "DINO_B16", VIT)
    monkeypatch.setattr(metric_encoders, "CLIP_B32", VISION)
    dino, clip = saved(tmp_path / "dino", vit_model()), saved(tmp_path / "clip", clip_model())
    assert (from_folder(dino).exact, from_folder(clip).exact) == ("subject_consistency", "background_consistency")
    assert from_folder(saved(tmp_path / "deep", vit_model(num_hidden_layers=3))).exact == ""
    labels = filled(transformers.ViTForImageClassification(transformers.ViTConfig(**VIT)))
    encoder = from_folder(saved(tmp_path / "labels", labels))
    assert (encoder.exact, encoder.name) == ("", "supervised ViT-32/16 (folder labels)")
    halves = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
    for path in (dino, clip):
        (path / "preprocessor_config.json").write_text(json.dumps(halves))
        assert from_folder(path).exact == ""
    wanted = by_hand(video(), 32, True, halves.values())
    assert torch.allclose(from_folder(clip).images(video()), image_features(clip_model(), wanted), atol=1e-4)


def test_half_precision_and_shards_are_read_as_float32(tmp_path):
    model, frames = vit_model().half(), video(2)
    whole = saved(tmp_path / "whole", model)
    shards = saved(tmp_path / "shards", model, max_shard_size="20KB")
    assert not (shards / "model.safetensors").exists() and len(list(shards.glob("*.safetensors"))) > 2
    found = from_folder(whole)
    wanted = from_folder(saved(tmp_path / "float", model.float())).images(frames)
    assert torch.equal(found.images(frames), wanted) and torch.equal(from_folder(shards).images(frames), wanted)
    assert {weight.dtype for weight in found.model.parameters()} == {torch.float32}


def test_the_digest_is_the_files(tmp_path, clip_folder):
    wanted = hashlib.sha256((clip_folder / "model.safetensors").read_bytes()).hexdigest()
    assert from_folder(clip_folder).digest == wanted[:12]
    shards = saved(tmp_path / "shards", clip_model(), max_shard_size="20KB")
    joined = b"".join(path.read_bytes() for path in sorted(shards.glob("*.safetensors")))
    assert from_folder(shards).digest == hashlib.sha256(joined).hexdigest()[:12]


def test_many_frames_are_taken_in_batches(clip_folder, monkeypatch):
    encoder, frames, sizes = from_folder(clip_folder), video(35), []
    features = encoder.features
    monkeypatch.setattr(encoder, "features", lambda pixels: sizes.append(len(pixels)) or features(pixels))
    found = encoder.images(frames)
    assert sizes == [16, 16, 3]
    assert torch.allclose(found, torch.cat([encoder.images(frames[i : i + 1]) for i in range(35)]), atol=1e-4)
    with_alpha = torch.cat([frames[:3], torch.rand(3, 40, 72, 1)], -1)
    assert torch.allclose(encoder.images(with_alpha), found[:3], atol=1e-4)
    assert torch.allclose(encoder.images(frames[:3] * 4 - 1), encoder.images((frames[:3] * 4 - 1).clamp(0, 1)))


def test_cancel_stops_between_batches(clip_folder):
    encoder = from_folder(clip_folder)
    for work in (lambda: encoder.images(video(2)), lambda: encoder.texts(["a"])):
        comfy.model_management.interrupt_current_processing(True)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            work()
    assert encoder.images(video(2)).shape == (2, 16)


def test_the_weights_are_comfyui_s_to_bring_and_to_take_away(clip_folder, monkeypatch):
    """Asked of ComfyUI before frames and before texts, with what tells it their size."""
    asked, encoder = [], from_folder(clip_folder)
    load = comfy.model_management.load_models_gpu
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", lambda given: asked.append(given) or load(given))
    encoder.images(video(2))
    encoder.texts(["a"])
    assert asked == [[encoder.patcher]] * 2 and list(encoder.patcher.model) == [encoder.model]
    assert encoder.patcher.load_device == comfy.model_management.get_torch_device()
    assert encoder.patcher.model_size() == sum(t.nbytes for t in encoder.model.state_dict().values())


def test_nothing_is_downloaded(clip_folder, monkeypatch):
    """Not even where a configuration asks for it."""
    config = json.loads((clip_folder / "config.json").read_text())
    config |= {"attn_implementation": "kernels-community/flash-attn", "auto_map": {"AutoModel": "other/repo--x.Y"},
               "quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}, "dtype": "float16",
               "torch_dtype": "float16"}  # fmt: skip
    config["vision_config"] |= {"attn_implementation": "kernels-community/flash-attn", "torch_dtype": "float16"}
    wanted = from_folder(clip_folder).images(video())
    (clip_folder / "config.json").write_text(json.dumps(config))
    (clip_folder / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "other/repo"}))

    def refuse(*_, **__):
        raise AssertionError("network")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    encoder = from_folder(clip_folder)
    assert torch.equal(encoder.images(video()), wanted) and encoder.texts(["red"]).shape == (1, 16)


# ---- texts -------------------------------------------------------------------------------------------------------


def text_features(model, *words):
    ids = torch.tensor([[IDS[BEGIN], *(IDS[word] for word in words), IDS[END]]])
    return model.text_projection(model.text_model(input_ids=ids).pooler_output)


def test_features_of_texts(clip_folder):
    encoder, model = from_folder(clip_folder), clip_model()
    found = encoder.texts(["red", "Red cat", "re"])
    wanted = [text_features(model, "red</w>"), text_features(model, "red</w>", "c", "a", "t</w>"),
              text_features(model, "r", "e</w>")]  # fmt: skip
    assert found.dtype == torch.float32 and torch.allclose(found, torch.cat(wanted), atol=1e-4)
    assert torch.cdist(found, found).fill_diagonal_(1).min() > 0.01


def test_equal_texts_are_equal_to_the_last_bit_and_in_order(clip_folder):
    encoder = from_folder(clip_folder)
    texts = ["cat", "dog", "a cat", *(letter for letter in LETTERS), "cat", " CAT  ", "dog"]
    found = encoder.texts(texts)
    assert torch.equal(found[-3], found[0]) and torch.equal(found[-2], found[0]) and torch.equal(found[-1], found[1])
    assert torch.allclose(found, torch.cat([encoder.texts([text]) for text in texts]), atol=1e-4)


def test_what_is_past_the_last_token_is_cut_off_and_said(clip_folder, caplog):
    encoder = from_folder(clip_folder)
    long = "abcdefghij xyz"  # 13 tokens and two marks, of 12
    with caplog.at_level(logging.WARNING, metric_encoders.__name__):
        fits, cut = encoder.texts(["abcdefghij", "red"])[:1], encoder.texts([long, "red"])[:1]
    (record,) = [record for record in caplog.records if record.name == metric_encoders.__name__]
    assert "reads 12 tokens of a prompt: the end of 1 of 2 is cut off" in record.getMessage()
    assert torch.allclose(cut, fits, atol=1e-4)
    assert torch.allclose(fits, text_features(clip_model(), *"abcdefghi", "j</w>"), atol=1e-4)


@pytest.mark.parametrize("texts", [[], [None], ["a", 3]])
def test_texts_must_be_texts(clip_folder, texts):
    with pytest.raises(ValueError, match="folder clip.: texts .* must be one text at least"):
        from_folder(clip_folder).texts(texts)


def test_only_clip_has_texts(tmp_path):
    for encoder in (from_folder(saved(tmp_path / "dino", vit_model())), from_clip_vision(core_clip(tmp_path))):
        with pytest.raises(ValueError, match="has no text encoder; prompts need the folder of a CLIP model"):
            encoder.texts(["red"])


@pytest.mark.parametrize("broken", ["missing", "half", "text"])
def test_a_folder_without_a_tokenizer_has_images_alone(clip_folder, broken):
    if broken == "text":
        (clip_folder / "vocab.json").write_text("{")
    else:
        (clip_folder / "merges.txt").unlink()
    if broken == "missing":
        (clip_folder / "vocab.json").unlink()
    encoder = from_folder(clip_folder)
    assert encoder.images(video()).shape == (3, 16)
    with pytest.raises(ValueError, match="cannot be read" if broken == "text" else "tokenizer is missing"):
        encoder.texts(["red"])


# ---- CLIP_VISION -------------------------------------------------------------------------------------------------


def test_features_of_a_clip_vision_are_cores(tmp_path):
    clip_vision, frames = core_clip(tmp_path), video(5, 32, 32)  # of the model's size: core resizes nothing
    encoder = from_clip_vision(clip_vision)
    assert torch.allclose(encoder.images(frames), clip_vision.encode_image(frames)["image_embeds"].cpu(), atol=1e-4)
    assert (encoder.name, encoder.exact) == ("CLIP ViT-32/8@32px (CLIP_VISION)", "")


def test_a_clip_vision_and_a_folder_of_the_same_weights_are_the_same(tmp_path, clip_folder):
    weights = load_file(clip_folder / "model.safetensors")
    weights = {name: value for name, value in weights.items() if name.startswith(("vision_model.", "visual_proj"))}
    frames, wanted = video(19, 45, 77), from_folder(clip_folder).images(video(19, 45, 77))
    found = from_clip_vision(core_clip(tmp_path, weights)).images(frames)
    assert found.dtype == torch.float32 and torch.allclose(found, wanted, atol=1e-3)
    theirs = core_clip(tmp_path, weights).encode_image(frames)["image_embeds"].cpu()
    assert (theirs - wanted).abs().max() > 20 * (found - wanted).abs().max()  # core antialiases


def test_features_of_cores_dinov2(tmp_path):
    config = {**SMALL, "model_type": "dinov2", "image_size": 518, "layer_norm_eps": 1e-6, "use_swiglu_ffn": False}
    config |= dict(zip(("image_mean", "image_std"), map(list, IMAGENET), strict=True))
    clip_vision, frames = core_vision(tmp_path, **config), video(2, 50, 70)
    encoder = from_clip_vision(clip_vision)
    wanted = clip_vision.model(pixel_values=by_hand(frames, 518, True, IMAGENET))[0][:, 0]
    assert torch.allclose(encoder.images(frames), wanted, atol=1e-3)
    assert encoder.name == "DINOv2 ViT-32/14 (CLIP_VISION)"


def test_the_digest_of_a_clip_vision_follows_its_weights(tmp_path):
    one, same, other = (core_clip(tmp_path) for _ in range(3))
    other.model.visual_projection.weight[0, 0] += 1
    digests = [from_clip_vision(clip_vision).digest for clip_vision in (one, same, other)]
    assert digests[0] == digests[1] != digests[2] and all(len(digest) == 12 for digest in digests)


def test_siglip_and_other_objects_are_refused(tmp_path):
    siglip = core_vision(tmp_path, **VISION | {"hidden_act": "gelu"}, model_type="siglip_vision_model")
    with pytest.raises(ValueError, match="clip_vision: this is SigLIP"):
        from_clip_vision(siglip)
    with pytest.raises(ValueError, match="clip_vision: not a CLIP_VISION of ComfyUI but dict"):
        from_clip_vision({})
