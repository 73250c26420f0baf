"""Image encoders that the user has, for metrics: ComfyUI's CLIP_VISION, and folders of transformers' format.

Frames are prepared as VBench 0.1.5 prepares them, by torchvision's own functions: for CLIP (and all of CLIP_VISION) the
shorter side to the model's size, bicubic without antialiasing, and the square in the middle; for DINO the shorter side
to 224, bilinear without antialiasing, uncropped. Only config.json, preprocessor_config.json, the tokenizer's files and
safetensors of the folder are read, and nothing is downloaded.
"""

import functools
import hashlib
import json
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from torchvision.transforms import functional as pictures

from ..checks import number, short

logger = logging.getLogger(__name__)

BATCH = 16  # frames, or texts, at a time
DIGEST = 12  # hex digits that are shown of a sha256
DINO_SIDE = 224  # pixels
CLIP_LOOK = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))  # OpenAI's mean, std
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SIZES = {192: "Ti", 384: "S", 768: "B", 1024: "L", 1280: "H", 1408: "g", 1536: "g", 1664: "bigG"}  # by hidden width
KINDS = {"clip": ("CLIP", "CLIPModel"), "vit": ("DINO", "ViTModel"), "dinov2": ("DINOv2", "Dinov2Model")}
# Networks that VBench measures with, as transformers' configurations name their parts.
B = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
     "image_size": 224}  # fmt: skip
DINO_B16 = {**B, "patch_size": 16, "hidden_act": "gelu", "qkv_bias": True}
CLIP_B32 = {**B, "patch_size": 32, "hidden_act": "quick_gelu"}
# What a configuration may not decide: precision, other files, other packages.
IGNORED = ("dtype", "torch_dtype", "quantization_config", "attn_implementation", "_attn_implementation", "auto_map")
HEADS = re.compile(r"(^|\.)(pooler|classifier)\.")  # of a ViT trained with labels; DINO's has neither
PATCHES = re.compile(r"patch_embed\w*\.(projection\.)?weight$")  # [width, 3, patch, patch]
LAYERS = re.compile(r"(^|\.)layers?\.\d+\.")
PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Look:
    """How an encoder sees frames: shorter side in pixels, the square in the middle or all, mean and std of RGB."""

    side: int
    square: bool
    mean: Sequence[float]
    std: Sequence[float]

    def pixels(self, frames: torch.Tensor) -> torch.Tensor:
        """[n, 3, h, w] of frames [n, H, W, 3] in 0..1."""
        kind = pictures.InterpolationMode.BICUBIC if self.square else pictures.InterpolationMode.BILINEAR
        images = pictures.resize(frames.movedim(-1, 1), [self.side], kind, antialias=False)
        if self.square:
            images = pictures.center_crop(images, [self.side, self.side])
        return pictures.normalize(images, list(self.mean), list(self.std))


def title(family: str, width: int, patch: int, size: int = 224) -> str:
    """CLIP ViT-L/14@336px, as papers write it; a width without a letter as a number."""
    return f"{family} ViT-{SIZES.get(width, width)}/{patch}" + (f"@{size}px" if size != 224 else "")


class Encoder:
    """An encoder of frames, and perhaps of texts.

    name: for readers. digest: the first digits of the sha256 of its weights, known once asked for. exact: the VBench
    metric that this network with its preparation of frames is that of, "subject_consistency" or
    "background_consistency", else ""; it speaks of the network, the digest of its weights.
    """

    name = ""
    exact = ""
    look: Look
    patcher: comfy.model_patcher.ModelPatcher

    @functools.cached_property
    def digest(self) -> str:
        return self.hashed().hexdigest()[:DIGEST]

    def hashed(self):
        raise NotImplementedError

    def loaded(self) -> torch.device:
        """The device that the weights are on, as ComfyUI has brought them there; it takes them away for others."""
        comfy.model_management.load_models_gpu([self.patcher])
        return self.patcher.load_device

    def features(self, pixels: torch.Tensor) -> torch.Tensor:
        raise NotImplementedError

    def images(self, frames: torch.Tensor) -> torch.Tensor:
        """[n, D] float32 on the CPU, not normalised, of frames [n, H, W, 3] (or 4 with alpha) in 0..1, BATCH at a time.

        VBench has frames of 8 bits; these are taken as they are. Raises ValueError.
        """
        if frames.ndim != 4 or frames.shape[-1] not in (3, 4) or not frames[..., 0].numel():
            raise ValueError(
                f"{self.name}: frames of the shape {list(frames.shape)}; they must be [frames, height, width, 3]")
        found, device = [], self.loaded()
        with torch.inference_mode():
            for part in frames.split(BATCH):
                comfy.model_management.throw_exception_if_processing_interrupted()
                part = part[..., :3].to(device, torch.float32).clamp(0, 1)
                found.append(self.features(self.look.pixels(part)).float().cpu())
        features = torch.cat(found)
        wrong = (~features.isfinite().all(1)).nonzero()
        if len(wrong):
            raise ValueError(
                f"{self.name}: the features of frame {int(wrong[0])} are no numbers (NaN or infinite); the frame has "
                "such values itself, or the weights are broken")  # fmt: skip
        return features

    def texts(self, texts: Sequence[str]) -> torch.Tensor:
        """[E, D] float32 on the CPU. Raises ValueError."""
        raise ValueError(
            f"{self.name} has no text encoder; prompts need the folder of a CLIP model with both encoders "
            "(model_type clip), e.g. openai/clip-vit-base-patch32")  # fmt: skip


# ---- ComfyUI's CLIP_VISION ---------------------------------------------------------------------------------------


class ClipVision(Encoder):
    """The network of a CLIP_VISION. Never exact: core knows neither ViT-B/32 nor DINO's first version."""

    def __init__(self, clip_vision):
        self.clip_vision, self.patcher = clip_vision, clip_vision.patcher
        self.look = Look(clip_vision.image_size, True, clip_vision.image_mean, clip_vision.image_std)
        model = clip_vision.model
        width, _, _, patch = next(v.shape for k, v in model.state_dict().items() if PATCHES.search(k))
        family, size = "CLIP", clip_vision.image_size
        if not hasattr(model, "vision_model"):
            family, size = "DINOv3" if hasattr(model, "rope_embeddings") else "DINOv2", 224
        self.name = f"{title(family, width, patch, size)} (CLIP_VISION)"

    def hashed(self):
        """Of what core holds, in core's precision: not the sha256 of a file."""
        found = hashlib.sha256()
        for name, tensor in sorted(self.clip_vision.model.state_dict().items()):
            found.update(name.encode())
            found.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return found

    def features(self, pixels):
        return self.clip_vision.model(pixel_values=pixels, intermediate_output=-2)[2]  # as core's encode_image


def from_clip_vision(clip_vision) -> Encoder:
    """Of a CLIP_VISION: CLIP's projected features, DINO's class token. Raises ValueError."""
    needed = ("model", "patcher", "load_device", "image_size", "image_mean", "image_std")
    if not all(hasattr(clip_vision, name) for name in needed):
        raise ValueError(
            f"clip_vision: not a CLIP_VISION of ComfyUI but {type(clip_vision).__name__}; link Load CLIP Vision")
    if getattr(getattr(clip_vision.model, "vision_model", None), "output_layernorm", False):
        raise ValueError(
            "clip_vision: this is SigLIP, of which ComfyUI has a feature for each patch and none for the image; load "
            "a CLIP or a DINOv2 model")  # fmt: skip
    return ClipVision(clip_vision)


# ---- folders -----------------------------------------------------------------------------------------------------


def dino_positions(embeddings, tokens: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """[1, 1 + h * w, D]: a ViT's position embeddings on a grid of h x w patches, as DINO stretches them.

    By scale and not by size, with 0.1 patches more than there are (facebookresearch/dino, vision_transformer.py,
    interpolate_pos_encoding); transformers' own rule stretches to the size. Squares of the trained size stay as they
    are. embeddings: transformers' ViTEmbeddings. tokens: [n, 1 + h * w, D]. height, width: of the picture in pixels.
    """
    table = embeddings.position_embeddings
    if tokens.shape[1] == table.shape[1] and height == width:
        return table
    side = (table.shape[1] - 1) ** 0.5
    patch = embeddings.patch_embeddings.patch_size
    scale = [(pixels // size + 0.1) / side for pixels, size in zip((height, width), patch, strict=True)]
    grid = table[:, 1:].unflatten(1, (round(side), round(side))).movedim(-1, 1)
    grid = F.interpolate(grid, scale_factor=scale, mode="bicubic")
    return torch.cat([table[:, :1], grid.flatten(2).transpose(1, 2)], 1)


def pooled(found) -> torch.Tensor:
    """get_image_features and get_text_features of transformers 4 (a tensor) and 5."""
    return found if isinstance(found, torch.Tensor) else found.pooler_output


class Folder(Encoder):
    """A model of transformers, in float32."""

    def __init__(self, path: Path, files: list[Path], kind: str, model, look: Look, exact: str, family: str):
        self.path, self.files, self.model, self.look, self.exact = path, files, model, look, exact
        devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        holder = torch.nn.ModuleList([model])  # for ModelPatcher notes a device on it, which transformers' own refuses
        self.patcher = comfy.model_patcher.ModelPatcher(holder, *devices)
        self.clip = kind == "clip"
        vision = model.config.vision_config if self.clip else model.config
        size = vision.image_size if self.clip else 224
        self.name = f"{title(family, vision.hidden_size, vision.patch_size, size)} (folder {path.name})"

    def hashed(self):
        """Of the file's bytes: the sha256 that is published for it. Of shards: of all, one after the other."""
        found = hashlib.sha256()
        for path in self.files:
            with path.open("rb") as file:
                while block := file.read(1 << 22):
                    found.update(block)
        return found

    def features(self, pixels):
        if self.clip:
            return pooled(self.model.get_image_features(pixel_values=pixels))
        more = {"interpolate_pos_encoding": True} if self.model.config.model_type == "vit" else {}
        return self.model(pixel_values=pixels, **more).last_hidden_state[:, 0]

    @functools.cached_property
    def tokenizer(self):
        has = [(self.path / name).is_file() for name in ("tokenizer.json", "vocab.json", "merges.txt")]
        if not (has[0] or has[1] and has[2]):  # transformers 5 makes one that knows no word
            raise ValueError(
                f"{self.name}: the tokenizer is missing from {self.path}; put tokenizer.json there, or vocab.json and "
                "merges.txt, from where the model is from")  # fmt: skip
        try:
            return transformers.CLIPTokenizerFast.from_pretrained(str(self.path), local_files_only=True)
        except Exception as error:
            raise ValueError(f"{self.name}: the tokenizer in {self.path} cannot be read: {said(error)}") from error

    def texts(self, texts):
        """As VBench's clip_score, what is past the model's last token (of 77) is cut off; the log says so."""
        if not self.clip:
            return super().texts(texts)
        if not texts or not all(isinstance(text, str) for text in texts):
            raise ValueError(f"{self.name}: texts ({short(list(texts))}) must be one text at least")
        most = self.model.config.text_config.max_position_embeddings
        cut = {"truncation": True, "max_length": most}
        tokens = self.tokenizer(list(texts), padding=True, return_tensors="pt", **cut)
        long = sum(len(ids) > most for ids in self.tokenizer(list(texts), verbose=False)["input_ids"])
        if long:
            logger.warning("%s reads %d tokens of a prompt: the end of %d of %d is cut off.", self.name, most, long,
                           len(texts))  # fmt: skip
        places: dict = {}  # equal prompts get equal features, to the last bit
        for row, ids in enumerate(tokens["input_ids"].tolist()):
            places.setdefault(tuple(ids), []).append(row)
        first = [rows[0] for rows in places.values()]
        found, device = [], self.loaded()
        with torch.inference_mode():
            for rows in torch.tensor(first).split(BATCH):
                comfy.model_management.throw_exception_if_processing_interrupted()
                given = {name: tokens[name][rows].to(device) for name in ("input_ids", "attention_mask")}
                found.append(pooled(self.model.get_text_features(**given)).float().cpu())
        order = {row: place for place, rows in enumerate(places.values()) for row in rows}
        return torch.cat(found)[[order[row] for row in range(len(texts))]]


def said(error: Exception) -> str:
    """The first line of what another package has to say, cut."""
    text = (str(error).strip() or type(error).__name__).splitlines()[0]
    return text if len(text) <= 300 else text[:297] + "..."


def read_json(path: Path) -> dict:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, OSError, RecursionError) as error:
        raise ValueError(f"{path} is not readable JSON ({said(error)}); get it again") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} is no configuration; get it again")
    return value


def weight_files(path: Path, model: str) -> list[Path]:
    """model.safetensors, or the shards of its index."""
    single, index = path / "model.safetensors", path / "model.safetensors.index.json"
    if single.is_file():
        return [single]
    if index.is_file():
        shards = read_json(index).get("weight_map")
        for name in (names := sorted(set(map(str, shards.values()))) if isinstance(shards, dict) else []):
            if Path(name).name != name or "\\" in name or not name.endswith(".safetensors"):
                raise ValueError(f"{index} names {short(name)}, which is no safetensors file beside it; get it again")
            if not (path / name).is_file():
                raise ValueError(f"{name} is missing from {path}, but {index.name} lists it; get it, too")
        if names:
            return [path / name for name in names]
        raise ValueError(f"{index} lists no files; get it again")
    pickles = sorted(p.name for p in path.iterdir() if p.suffix.lower() in PICKLES)
    if pickles:
        raise ValueError(
            f"{path} has its weights in {pickles[0]}, a pickle, which can run code when it is read; only safetensors "
            f"are loaded. If you trust it, make one: python -c \"from transformers import {model} as M; "
            f"M.from_pretrained(r'{path}').save_pretrained(r'{path}')\"")  # fmt: skip
    raise ValueError(f"model.safetensors is missing from {path}; get it from where {path.name}'s config.json is from")


def read_weights(files: list[Path]) -> dict[str, torch.Tensor]:
    weights = {}
    for path in files:
        try:
            weights |= load_file(path)
        except Exception as error:
            raise ValueError(
                f"{path} cannot be read as safetensors ({said(error)}); it may be truncated: get it again") from error
    return {k: v.float() if v.is_floating_point() else v for k, v in weights.items()}


def own_settings(config: dict) -> dict:
    return {k: own_settings(v) if isinstance(v, dict) else v for k, v in config.items() if k not in IGNORED}


def build(path: Path, model: str, config: dict, weights: dict):
    """A model of transformers' class, every weight of it from `weights`. Raises ValueError."""
    cls = getattr(transformers, model)
    options = {"add_pooling_layer": False} if model == "ViTModel" else {}
    try:
        network, report = cls.from_pretrained(
            None, config=cls.config_class.from_dict(own_settings(config)), state_dict=weights, output_loading_info=True,
            ignore_mismatched_sizes=True, local_files_only=True, attn_implementation="sdpa", **options)  # fmt: skip
    except Exception as error:
        raise ValueError(f"{path / 'config.json'} is none that {model} can be built from: {said(error)}") from error
    wrong = sorted((name, list(found), list(right)) for name, found, right in report["mismatched_keys"])
    missing, unknown = sorted(report["missing_keys"]), sorted(filter(LAYERS.search, report["unexpected_keys"]))
    if wrong:
        fault = "{} has the shape {}, not {}".format(*wrong[0])
    elif missing:
        fault = f"they have no {missing[0]} ({len(missing)} are missing)"
    elif unknown:
        fault = f"they have {unknown[0]}, which the model has not"
    else:
        return network.float().eval().requires_grad_(False)
    raise ValueError(f"the weights in {path} do not fit its config.json: {fault}; get both from one place")


def look_of(path: Path, kind: str, model) -> Look:
    """As VBench's, but for mean and std, which the folder may say."""
    file, clip, look = path / "preprocessor_config.json", kind == "clip", []
    given = read_json(file) if file.is_file() else {}
    mean, std = CLIP_LOOK if clip else IMAGENET
    for name, usual, least in (("image_mean", mean, 0), ("image_std", std, 0.01)):
        values = given.get(name, usual)
        if not isinstance(values, (list, tuple)) or len(values) != 3:
            raise ValueError(f"{file} has {name} {short(values)}, which should be three numbers; get it again")
        look.append(tuple(number(f"{file}: {name}", value, least, 1) for value in values))
    return Look(model.config.vision_config.image_size if clip else DINO_SIDE, clip, *look)


def like(config, wanted: dict) -> bool:
    return all(getattr(config, name) == value for name, value in wanted.items())


def from_folder(path) -> Encoder:
    """Of a folder with config.json and model.safetensors, of a CLIP, DINO (v1, a ViT) or DINOv2 model. ValueError."""
    path = Path(path)
    if not (path / "config.json").is_file():
        raise ValueError(f"config.json is missing from {path}; it must be the folder of a CLIP, DINO or DINOv2 model")
    config = read_json(path / "config.json")
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(
            f"{path / 'config.json'} has model_type {short(kind)}; it must be one of {', '.join(KINDS)}: a CLIP, DINO "
            "(a ViT) or DINOv2 model")  # fmt: skip
    family, name = KINDS[kind]
    files = weight_files(path, name)
    weights = read_weights(files)
    heads = any(map(HEADS.search, weights))
    model = build(path, name, config, weights)
    look = look_of(path, kind, model)

    exact = ""
    if kind == "vit":
        family = "supervised" if heads else family
        model.embeddings.interpolate_pos_encoding = functools.partial(dino_positions, model.embeddings)
        if not heads and like(model.config, DINO_B16) and (look.mean, look.std) == IMAGENET:
            exact = "subject_consistency"
    elif kind == "clip" and like(model.config.vision_config, CLIP_B32) and (look.mean, look.std) == CLIP_LOOK:
        exact = "background_consistency"
    return Folder(path, files, kind, model, look, exact, family)
