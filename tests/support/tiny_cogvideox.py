"""Tiny random CogVideoX models of every variant, as diffusers folders in ComfyUI's model folders, for tests."""

import contextlib

import comfy.sample
import folder_paths
import pytest
import torch
from diffusers import AutoencoderKLCogVideoX, CogVideoXDDIMScheduler, CogVideoXTransformer3DModel
from longtake.backbone.cogvideox import load as cogvideox
from longtake.backbone.cogvideox.files import IN_FOLDER
from transformers import T5Config, T5EncoderModel

from . import zoo

HEIGHT, WIDTH, STEPS, CFG, TEXT = 8, 12, 10, 5.0, 32  # latent pixels; trained size is another but for I2V 1.0
NETWORK = {
    "num_attention_heads": 2, "attention_head_dim": 64, "time_embed_dim": 64, "text_embed_dim": TEXT, "num_layers": 2,
    "sample_height": 6, "sample_width": 10, "sample_frames": 9,
}  # fmt: skip
ROPE = {"use_rotary_positional_embeddings": True}
PAIRS = {**ROPE, "patch_size_t": 2, "sample_height": 20, "sample_width": 30}
# name: transformer, snr_shift_scale, scaling_factor, invert_scale_latents, latent frames
VARIANTS = {
    "CogVideoX-2b": ({}, 3.0, 1.15258426, False, 5),
    "CogVideoX-5b": (ROPE, 1.0, 0.7, False, 5),
    "CogVideoX-5b-I2V": (
        {**ROPE, "in_channels": 32, "use_learned_positional_embeddings": True, "sample_height": HEIGHT,
         "sample_width": WIDTH, "sample_frames": 17}, 1.0, 0.7, False, 5,
    ),
    "CogVideoX1.5-5B": (PAIRS, 1.0, 0.7, True, 6),
    "CogVideoX1.5-5B-I2V": ({**PAIRS, "in_channels": 32, "ofs_embed_dim": 64}, 1.0, 0.7, True, 6),
}  # fmt: skip
LOADED: dict = {}


def randomise(model, seed=0):
    weights = zoo.random_weights(model.state_dict(), seed)
    for name in weights.keys() & {"patch_embed.pos_embedding"}:
        weights[name] = zoo.randn(*weights[name].shape, seed=seed)
    model.load_state_dict(weights)
    return model.eval().requires_grad_(False)


def save_folder(path, name):
    """A diffusers folder of the variant."""
    network, shift, scale, invert, _ = VARIANTS[name]
    randomise(CogVideoXTransformer3DModel(**NETWORK | network)).save_pretrained(path / "transformer")
    torch.manual_seed(1)
    vae = AutoencoderKLCogVideoX(
        block_out_channels=(32, 32, 32, 32), layers_per_block=1, scaling_factor=scale, invert_scale_latents=invert
    )
    last = vae.encoder.conv_out.conv  # a variance of nothing: diffusers' pipeline draws the image's latent
    last.weight.data[16:], last.bias.data[16:] = 0.0, -30.0
    vae.save_pretrained(path / "vae")
    CogVideoXDDIMScheduler(
        snr_shift_scale=shift, rescale_betas_zero_snr=True, prediction_type="v_prediction", clip_sample=False,
        timestep_spacing="trailing",
    ).save_pretrained(path / "scheduler")  # fmt: skip
    config = T5Config(
        d_model=TEXT, d_ff=64, d_kv=8, num_heads=4, num_layers=2, feed_forward_proj="gated-gelu", vocab_size=32128
    )
    T5EncoderModel(config).save_pretrained(path / "text_encoder")


@contextlib.contextmanager
def model_folders(root, names=VARIANTS):
    """ComfyUI's model folders below `root`, with a diffusers folder per variant."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_paths, "models_dir", str(root))
        for category in ("diffusers", "diffusion_models", "vae", "text_encoders"):
            (root / category).mkdir()
            kinds = folder_paths.folder_names_and_paths[category][1]
            patch.setitem(folder_paths.folder_names_and_paths, category, ([str(root / category)], kinds))
        for name in names:
            save_folder(root / "diffusers" / name, name)
        yield root
    LOADED.clear()


def load(name, vae=IN_FOLDER, text_encoder=IN_FOLDER, weight_dtype="default"):
    key = (name, vae, text_encoder, weight_dtype)
    if key not in LOADED:
        LOADED[key] = cogvideox.load(*key)
    return LOADED[key]


def prompts():
    return zoo.randn(1, 226, TEXT, seed=2), zoo.randn(1, 226, TEXT, seed=3)


def start_image():
    return torch.rand(1, 8 * HEIGHT, 8 * WIDTH, 3, generator=torch.Generator().manual_seed(4))


def noise_of(name, frames=None):
    return zoo.randn(1, 16, frames or VARIANTS[name][4], HEIGHT, WIDTH, seed=5)


def sample(patcher, noise, sampler="ddim", steps=STEPS, **extra):
    """What KSampler makes of `noise`, in the model's own scale."""
    positive, negative = ([[text, dict(extra)]] for text in prompts())
    out = comfy.sample.sample(
        patcher, noise, steps, CFG, sampler, "simple", positive, negative, torch.zeros_like(noise), disable_pbar=True,
        seed=0,
    )  # fmt: skip
    return out * patcher.model.latent_format.scale_factor


def image_conds(vae):
    """A start image as InstructPixToPixConditioning writes it (one latent frame)."""
    return {"concat_latent_image": vae.encode(start_image())}
