"""Load CogVideoX (2B, 5B, 1.5-5B and their I2V variants) into ComfyUI, with diffusers' own network and VAE.

diffusers is an optional package: it is imported only when a model is loaded. Nothing is downloaded.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import comfy.patcher_extension
import comfy.utils
import torch

from ...samplers.checks import option
from . import text as t5
from .files import (
    HUB,
    IN_FOLDER,
    NODE,
    PAGES,
    check_weights,
    find_file,
    find_folder,
    plain,
    read_json,
    read_shapes,
    read_weights,
    same_kinds,
    weight_files,
)

DTYPES = {
    "default": None, "bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32,
    "fp8_e4m3fn": torch.float8_e4m3fn, "fp8_e5m2": torch.float8_e5m2,
}  # fmt: skip
WEIGHTS = "diffusion_pytorch_model"
# The defaults of diffusers' CogVideoXDDIMScheduler, which a scheduler_config.json may leave out.
SCHEDULER = {
    "num_train_timesteps": 1000, "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "prediction_type": "epsilon", "rescale_betas_zero_snr": False, "snr_shift_scale": 3.0,
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """What the files of one published model have in common; `page` names it on the Hugging Face hub."""

    page: str
    snr_shift_scale: float
    scaling_factor: float
    invert_scale_latents: bool = False

    @classmethod
    def of(cls, network: dict) -> "Variant":
        image = network["in_channels"] != network["out_channels"]
        if network["patch_size_t"] is not None:
            return cls("THUDM/CogVideoX1.5-5B" + "-I2V" * image, 1.0, 0.7, True)
        if network["use_rotary_positional_embeddings"]:
            return cls("THUDM/CogVideoX-5b" + "-I2V" * image, 1.0, 0.7)
        return cls("THUDM/CogVideoX-2b", 3.0, 1.15258426)


def _diffusers():
    try:
        from . import network, vae
    except ImportError as error:
        raise ImportError(
            f"{NODE}: CogVideoX needs the Python package diffusers, 0.35 or newer ({error}); install it with "
            f"ComfyUI's Python: pip install \"diffusers>=0.35\", and restart ComfyUI"
        ) from error
    return network, vae


def _arguments(config: dict, cls: type, path: Path, page: str) -> dict:
    """What a diffusers config says of `cls`, with the class's defaults; ValueError for another class's config."""
    name = config.get("_class_name")
    if name != cls.__name__:
        raise ValueError(
            f"{NODE}: {path} is the configuration of {name or 'another kind of model'}, not of {cls.__name__}; choose "
            f"a CogVideoX folder, e.g. of {page} {HUB}"
        )
    known = {k: p.default for k, p in inspect.signature(cls.__init__).parameters.items() if k != "self"}
    given = {k: v for k, v in config.items() if not k.startswith("_")}
    unknown = sorted(given.keys() - known.keys())
    if unknown:
        raise ValueError(
            f"{NODE}: {path} has the setting {unknown[0]}, which the installed diffusers does not know for "
            f"{cls.__name__}; update it: pip install -U diffusers"
        )
    same_kinds(given, known, path, page)
    return known | given


def _checked_network(network: dict, where) -> dict:
    """Raises ValueError for the relatives of CogVideoX that take other inputs (Fun, ControlNets)."""
    if network["in_channels"] not in (network["out_channels"], 2 * network["out_channels"]):
        raise ValueError(
            f"{NODE}: model: {where} takes {network['in_channels']} channels; only text-to-video "
            f"({network['out_channels']}) and image-to-video ({2 * network['out_channels']}) models are known: {PAGES}"
        )
    return network


def _guess_network(shapes: dict, path: Path) -> dict:
    """The transformer's config from the shapes of a single file in diffusers' format."""
    try:
        block = "transformer_blocks.0.attn1."
        width, head = shapes[block + "to_q.weight"][0], shapes[block + "norm_q.weight"][0]
        proj, out = shapes["patch_embed.proj.weight"], shapes["proj_out.weight"][0]
        text = shapes["patch_embed.text_proj.weight"][1]
        time = shapes["time_embedding.linear_1.weight"][0]
    except KeyError as error:
        raise ValueError(
            f"{NODE}: model: {path} is not a CogVideoX transformer in diffusers' format: it has no {error.args[0]}; "
            f"use a file or folder of {PAGES} {HUB}"
        ) from error
    paired = len(proj) == 2  # 1.5: two latent frames to a patch
    ofs = shapes.get("ofs_embedding.linear_1.weight")
    heads = width // head
    return {
        "num_attention_heads": heads, "attention_head_dim": head, "time_embed_dim": time, "text_embed_dim": text,
        "num_layers": 1 + max(int(k.split(".")[1]) for k in shapes if k.startswith("transformer_blocks.")),
        "in_channels": proj[1] // 8 if paired else proj[1],
        "out_channels": out // 8 if paired else out // 4,
        "patch_size": 2, "patch_size_t": 2 if paired else None,
        "patch_bias": "patch_embed.proj.bias" in shapes,
        "attention_bias": block + "to_q.bias" in shapes,
        "ofs_embed_dim": None if ofs is None else ofs[1],
        "use_rotary_positional_embeddings": heads != 30,  # only the 2B has 30 heads, and only it has no RoPE
        "use_learned_positional_embeddings": heads != 30 and "patch_embed.pos_embedding" in shapes,
        "sample_height": 96 if paired else 60, "sample_width": 170 if paired else 90,
        "sample_frames": 81 if paired else 49,
    }  # fmt: skip


def _guess_vae(weights: dict, path: Path, page: str) -> dict:
    """The VAE's config from the shapes of a single file in diffusers' format."""
    try:
        latents = weights["decoder.conv_in.conv.weight"].shape[1]
        blocks = 1 + max(int(k.split(".")[2]) for k in weights if k.startswith("encoder.down_blocks."))
        first = "encoder.down_blocks.{}.resnets.0.conv1.conv.weight"
        channels = tuple(weights[first.format(i)].shape[0] for i in range(blocks))
    except (KeyError, ValueError) as error:
        raise ValueError(
            f"{NODE}: vae: {path} is not a CogVideoX VAE in diffusers' format; use the VAE of {page} {HUB} (vae/)"
        ) from error
    layers = 1 + max(int(k.split(".")[4]) for k in weights if k.startswith("encoder.down_blocks.0.resnets."))
    return {
        "block_out_channels": channels, "layers_per_block": layers, "latent_channels": latents,
        "down_block_types": ("CogVideoXDownBlock3D",) * blocks, "up_block_types": ("CogVideoXUpBlock3D",) * blocks,
    }  # fmt: skip


def _sampling(folder: Path | None, variant: Variant) -> dict:
    """Core's sampling settings from scheduler/scheduler_config.json, or those of the published variant."""
    if folder is None:
        config = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
        config["snr_shift_scale"] = variant.snr_shift_scale
    else:
        config = read_json(folder / "scheduler" / "scheduler_config.json", variant.page)
        same_kinds(config, SCHEDULER, folder / "scheduler" / "scheduler_config.json", variant.page)
    config = SCHEDULER | {k: v for k, v in config.items() if k in SCHEDULER}
    for key, value in (("prediction_type", "v_prediction"), ("beta_schedule", "scaled_linear")):
        if config[key] != value:
            raise ValueError(
                f"{NODE}: {folder / 'scheduler' / 'scheduler_config.json'} has {key} {config[key]!r}, CogVideoX has "
                f"{value!r}; get it from {variant.page} {HUB}"
            )
    return {
        "beta_schedule": "linear",  # core's name for scaled_linear
        "linear_start": config["beta_start"], "linear_end": config["beta_end"],
        "timesteps": config["num_train_timesteps"], "zsnr": config["rescale_betas_zero_snr"],
        "snr_shift_scale": config["snr_shift_scale"],
    }  # fmt: skip


def load_transformer(network, files, page, sampling, latent, invert, dtype, disable_dynamic=False):
    """ModelPatcher of the transformer in `files`; latent: (scale, preview colours). Core calls it again, with the same
    arguments, where it needs a second copy."""
    networks, _ = _diffusers()
    weights, _ = read_weights(files, page)
    if not network["use_learned_positional_embeddings"]:
        weights.pop("patch_embed.pos_embedding", None)  # old files store the sines
    check_weights(weights, networks.expected_shapes(network), str(files[0]), page)
    config = networks.CogVideoXConfig(network, sampling, networks.CogVideoXLatent(*latent), invert)
    manage = comfy.model_management
    load_device, offload_device = manage.get_torch_device(), manage.unet_offload_device()
    supported = config.supported_inference_dtypes
    if dtype is None:
        dtype = manage.unet_dtype(
            model_params=comfy.utils.calculate_parameters(weights), supported_dtypes=supported,
            weight_dtype=comfy.utils.weight_dtype(weights),
        )  # fmt: skip
    config.set_inference_dtype(dtype, manage.unet_manual_cast(dtype, load_device, supported))
    model = config.get_model(weights).to(offload_device)
    patcher_class = comfy.model_patcher.ModelPatcher
    if not disable_dynamic:
        patcher_class = getattr(comfy.model_patcher, "CoreModelPatcher", patcher_class)
    patcher = patcher_class(model, load_device=load_device, offload_device=offload_device)
    model.load_model_weights(weights, **({"assign": patcher.is_dynamic()} if hasattr(patcher, "is_dynamic") else {}))
    patcher.add_callback(comfy.patcher_extension.CallbacksMP.ON_CLEANUP, networks.forget_positions)
    patcher.cached_patcher_init = (load_transformer, (network, files, page, sampling, latent, invert, dtype))
    return patcher


def _load_vae(folder: Path | None, name: str, variant: Variant):
    """(VAE, its config)."""
    _, vaes = _diffusers()
    if name != IN_FOLDER:
        path = find_file("vae", name, "vae", variant.page)
        files = [path]
        weights, _ = read_weights(files, variant.page)
        config = _guess_vae(weights, path, variant.page)
        config |= {"scaling_factor": variant.scaling_factor, "invert_scale_latents": variant.invert_scale_latents}
    else:
        path = folder / "vae" / "config.json"
        config = _arguments(read_json(path, variant.page), vaes.AutoencoderKLCogVideoX, path, variant.page)
        files = weight_files(path.parent, WEIGHTS, variant.page)
        weights, _ = read_weights(files, variant.page)
    check_weights(weights, vaes.expected_shapes(config), str(files[0]), variant.page)
    return vaes.CogVideoXVAE(config, weights), config


def _load_clip(folder: Path | None, name: str, variant: Variant):
    if name != IN_FOLDER:
        config, files = {}, [find_file("text_encoders", name, "text_encoder", variant.page)]
    else:
        path = folder / "text_encoder" / "config.json"
        config = read_json(path, variant.page)
        if config.get("model_type") != "t5":
            raise ValueError(
                f"{NODE}: {path} is the configuration of {config.get('model_type') or 'another kind of model'}, not of "
                f"T5; get it from {variant.page} {HUB} (text_encoder/config.json)"
            )
        same_kinds(config, t5.T5_XXL, path, variant.page)
        files = weight_files(path.parent, "model", variant.page)
    weights, metadata = read_weights(files, variant.page)
    if "shared.weight" not in weights and "encoder.embed_tokens.weight" in weights:
        weights["shared.weight"] = weights["encoder.embed_tokens.weight"]
    check_weights(weights, t5.expected_shapes(config), str(files[0]), variant.page, extras=True)
    return t5.load(weights, metadata, config)


def load(model: str, vae: str, text_encoder: str, weight_dtype: str) -> tuple:
    """(MODEL, CLIP, VAE). model: a folder below models/diffusers or a file of diffusion_models; vae, text_encoder:
    files of these categories, or IN_FOLDER. ImportError, FileNotFoundError and ValueError say what to do."""
    try:
        option("weight_dtype", weight_dtype, list(DTYPES))
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error
    for widget, value in (("model", model), ("vae", vae), ("text_encoder", text_encoder)):
        plain(value, widget)
    networks, vaes = _diffusers()
    single = Path(model).suffix.lower() in (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".pkl")
    if single:
        folder, files = None, [find_file("diffusion_models", model, "model")]
        network = _guess_network(read_shapes(files[0]), files[0])
        for widget, value in (("vae", vae), ("text_encoder", text_encoder)):
            if value == IN_FOLDER:
                raise ValueError(
                    f"{NODE}: {widget}: {model} is a single file and brings none; choose a file, or choose a diffusers "
                    f"folder as the model"
                )
    else:
        folder = find_folder(model)
        path = folder / "transformer" / "config.json"
        cls = networks.CogVideoXTransformer3DModel
        network = _arguments(read_json(path), cls, path, PAGES)
        files = weight_files(path.parent, WEIGHTS, Variant.of(network).page)
    variant = Variant.of(_checked_network(network, files[0]))
    sampling = _sampling(folder, variant)
    loaded_vae, config = _load_vae(folder, vae, variant)
    if config["latent_channels"] != network["out_channels"]:
        raise ValueError(
            f"{NODE}: vae: its latents have {config['latent_channels']} channels, the model's "
            f"{network['out_channels']}; use the VAE of {variant.page} {HUB} (vae/)"
        )
    scale = config["scaling_factor"]
    latent = (scale, vaes.preview_colours(loaded_vae, scale))
    dtype = DTYPES[weight_dtype]
    patcher = load_transformer(
        network, files, variant.page, sampling, latent, config["invert_scale_latents"], dtype
    )  # fmt: skip
    return patcher, _load_clip(folder, text_encoder, variant), loaded_vae
