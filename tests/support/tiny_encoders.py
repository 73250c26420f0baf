"""Tiny random image encoders, of transformers and of ComfyUI's CLIP_VISION, and folders of them, for tests."""

import json

import comfy.clip_vision
import torch
import transformers

SMALL = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
VISION = {**SMALL, "intermediate_size": 64, "image_size": 32, "patch_size": 8, "hidden_act": "quick_gelu"}
BEGIN, END = "<|startoftext|>", "<|endoftext|>"
LETTERS = "abcdefghijklmnopqrstuvwxyz"
VOCABULARY = [*LETTERS, *(letter + "</w>" for letter in LETTERS), "re", "red</w>", BEGIN, END]
IDS = {token: i for i, token in enumerate(VOCABULARY)}
TEXT = {**SMALL, "intermediate_size": 64, "vocab_size": len(IDS), "max_position_embeddings": 12,
        "bos_token_id": IDS[BEGIN], "eos_token_id": IDS[END], "pad_token_id": IDS[END]}  # fmt: skip
CLIP = {"text_config": TEXT, "vision_config": VISION, "projection_dim": 16}
VIT = {**SMALL, "intermediate_size": 64, "image_size": 64, "patch_size": 16}
DINO2 = {**SMALL, "mlp_ratio": 2, "image_size": 56, "patch_size": 14}


def filled(model, seed=0):
    """Weights at which every part matters."""
    generator = torch.Generator().manual_seed(seed)
    for weight in model.parameters():
        weight.data = torch.randn(weight.shape, generator=generator) * 0.2 + (weight.ndim == 1)
    return model.eval()


def saved(path, model, **options):
    with torch.inference_mode(False):
        model.save_pretrained(path, **options)
    return path


def clip_model(**changes):
    return filled(transformers.CLIPModel(transformers.CLIPConfig(**CLIP | changes)))


def vit_model(seed=0, **changes):
    return filled(transformers.ViTModel(transformers.ViTConfig(**VIT | changes), add_pooling_layer=False), seed)


def dino2_model(**changes):
    return filled(transformers.Dinov2Model(transformers.Dinov2Config(**DINO2 | changes)))


def with_tokenizer(path):
    (path / "vocab.json").write_text(json.dumps(IDS))
    (path / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    return path


def video(frames=3, height=40, width=72, seed=0):
    """Frames of 8 bits."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (frames, height, width, 3), generator=generator) / 255


def core_vision(tmp_path, weights=None, **config):
    """Core's own class, of any size."""
    (tmp_path / "core.json").write_text(json.dumps({"num_channels": 3, **config}))
    found = comfy.clip_vision.ClipVisionModel(str(tmp_path / "core.json"))
    filled(found.model)
    if weights is not None:
        assert found.load_sd(weights)[0] == []
    return found


def core_clip(tmp_path, weights=None):
    return core_vision(tmp_path, weights, **VISION, model_type="clip_vision_model", projection_dim=16)
