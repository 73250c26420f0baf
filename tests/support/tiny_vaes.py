"""Tiny random VAEs of ComfyUI's real video classes.

Wan 2.1 and LTX come through core's loader, which reads their sizes from the weights; the others have fixed sizes there,
so a net of the real class with small ones takes the place of the loader's net.
"""

import functools
import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass

import comfy.ldm.cosmos.vae
import comfy.ldm.genmo.vae.model
import comfy.ldm.lightricks.vae.causal_video_autoencoder
import comfy.ldm.wan.vae
import comfy.ldm.wan.vae2_2
import comfy.model_patcher
import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL, AutoencodingEngine

from .zoo import random_weights


@dataclass(frozen=True)
class Vae:
    """net: the class; channels, rate, space: of its latent, frames per latent frame, pixels per latent pixel."""

    net: str
    channels: int
    rate: int
    space: int
    build: Callable[[], comfy.sd.VAE]

    def latent(self, frames: int, height: int = 4, width: int = 6, batch: int = 1) -> torch.Tensor:
        generator = torch.Generator().manual_seed(frames)
        return torch.randn(batch, self.channels, frames, height, width, generator=generator)


def seeded(net: torch.nn.Module) -> torch.nn.Module:
    """`net` with seeded weights; its buffers stay."""
    shapes = {name: value.data for name, value in net.named_parameters()}
    net.load_state_dict(random_weights(shapes), strict=False)
    return net.eval().requires_grad_(False)


def wan21() -> comfy.sd.VAE:
    sizes = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    net = comfy.ldm.wan.vae.WanVAE(dim=8, z_dim=16, temperal_downsample=[False, True, True], **sizes)
    return comfy.sd.VAE(sd=random_weights(net.state_dict()))


def around(net: torch.nn.Module, channels: int, rate: int, space: int, not_video=False) -> comfy.sd.VAE:
    """A VAE of the core whose net is this one."""
    vae = wan21()
    vae.first_stage_model = seeded(net).to(torch.float32)
    vae.vae_dtype = torch.float32
    vae.latent_channels, vae.not_video = channels, not_video
    vae.upscale_ratio = (lambda n: max(0, n * rate - rate + 1), space, space)
    vae.downscale_ratio = (lambda n: max(0, (n + rate - 1) // rate), space, space)
    vae.upscale_index_formula = vae.downscale_index_formula = (rate, space, space)
    cpu = torch.device("cpu")
    vae.patcher = comfy.model_patcher.ModelPatcher(vae.first_stage_model, load_device=cpu, offload_device=cpu)
    return vae


def wan22():
    net = comfy.ldm.wan.vae2_2.WanVAE(
        dim=8, dec_dim=8, z_dim=48, dim_mult=[1, 2, 4, 4], num_res_blocks=1, temperal_downsample=[False, True, True])
    return around(net, 48, 4, 16)


def ltx(**config) -> comfy.sd.VAE:
    config = {
        "_class_name": "CausalVideoAutoencoder", "dims": 3, "in_channels": 3, "out_channels": 3, "latent_channels": 128,
        "encoder_blocks": [["res_x", {"num_layers": 1}], ["compress_all", {}], ["res_x_y", 1],
                           ["compress_all", {}], ["compress_all", {}], ["res_x", {"num_layers": 1}]],
        "decoder_blocks": [["res_x", {"num_layers": 1, "inject_noise": False}],
                           ["compress_all", {"residual": True, "multiplier": 2}],
                           ["res_x", {"num_layers": 1}], ["compress_all", {"residual": True, "multiplier": 2}],
                           ["res_x", {"num_layers": 1}], ["compress_all", {"residual": True, "multiplier": 2}],
                           ["res_x", {"num_layers": 1}]],
        "norm_layer": "pixel_norm", "patch_size": 4, "latent_log_var": "uniform", "use_quant_conv": False,
        "causal_decoder": False, "timestep_conditioning": False, "encoder_base_channels": 16,
        "decoder_base_channels": 16, "spatial_padding_mode": "zeros",
    } | config  # fmt: skip
    net = comfy.ldm.lightricks.vae.causal_video_autoencoder.VideoVAE(config=config)
    weights = random_weights(net.state_dict())
    for name in ("std-of-means", "mean-of-means"):
        size = config["latent_channels"]
        weights[f"per_channel_statistics.{name}"] = torch.ones(size) if "std" in name else torch.zeros(size)
    vae = comfy.sd.VAE(sd=weights, metadata={"config": json.dumps({"vae": config})})
    vae.latent_channels = config["latent_channels"]
    return vae


def hunyuan():
    sizes = {
        "double_z": True, "z_channels": 16, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32,
        "ch_mult": [1, 2, 2, 2], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0, "conv3d": True,
        "time_compress": 4,
    }  # fmt: skip
    return around(AutoencoderKL(ddconfig=sizes, embed_dim=16), 16, 4, 8)


def hunyuan15():
    sizes = {
        "block_out_channels": [32, 32, 32, 32, 64], "in_channels": 3, "out_channels": 3, "num_res_blocks": 1,
        "ffactor_spatial": 16, "ffactor_temporal": 4, "downsample_match_channel": True, "upsample_match_channel": True,
        "z_channels": 32,
    }  # fmt: skip
    net = AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.EmptyRegularizer"},
        encoder_config={"target": "comfy.ldm.hunyuan_video.vae_refiner.Encoder", "params": sizes},
        decoder_config={"target": "comfy.ldm.hunyuan_video.vae_refiner.Decoder", "params": sizes},
    )
    return around(net, 32, 4, 16)


def mochi():
    core = comfy.ldm.genmo.vae.model
    net = core.VideoVAE.__new__(core.VideoVAE)
    torch.nn.Module.__init__(net)
    shared = {"latent_dim": 12, "num_res_blocks": [1, 1, 1, 1, 1], "channel_multipliers": [1, 2, 2, 2],
              "padding_mode": "replicate"}  # fmt: skip
    net.encoder = core.Encoder(
        in_channels=15, base_channels=32, temporal_reductions=[1, 2, 3], spatial_reductions=[2, 2, 2],
        prune_bottlenecks=[False] * 5, has_attentions=[False, True, True, True, True], input_is_conv_1x1=True,
        **(shared | {"channel_multipliers": [1, 2, 3, 4]}),
    )  # fmt: skip
    net.decoder = core.Decoder(
        out_channels=3, base_channels=32, temporal_expansions=[1, 2, 3], spatial_expansions=[2, 2, 2],
        has_attention=[False] * 5, output_norm=False, **shared)
    return around(net, 12, 6, 8)


def cosmos():
    net = comfy.ldm.cosmos.vae.CausalContinuousVideoTokenizer(
        z_channels=16, latent_channels=16, z_factor=1, resolution=1024, in_channels=3, out_channels=3, channels=16,
        channels_mult=[2, 4, 4], num_res_blocks=1, attn_resolutions=[32], dropout=0.0, patch_size=4, num_groups=1,
        temporal_compression=8, spacial_compression=8,
    )  # fmt: skip
    return around(net, 16, 8, 8)


def cogvideox():
    import comfy.ldm.cogvideo.vae  # not in 0.3.75

    net = comfy.ldm.cogvideo.vae.AutoencoderKLCogVideoX(
        latent_channels=16, block_out_channels=(32, 32, 32, 32), layers_per_block=1)
    return around(net, 16, 4, 8)


VAES = {
    "wan21": Vae("WanVAE", 16, 4, 8, wan21),
    "wan22": Vae("WanVAE", 48, 4, 16, wan22),
    "ltx": Vae("VideoVAE", 128, 8, 32, ltx),
    "ltx_noise": Vae("VideoVAE", 128, 8, 32, functools.partial(ltx, timestep_conditioning=True)),
    "ltx_causal": Vae("VideoVAE", 128, 8, 32, functools.partial(ltx, causal_decoder=True)),
    "hunyuan": Vae("AutoencoderKL", 16, 4, 8, hunyuan),
    "hunyuan15": Vae("AutoencodingEngine", 32, 4, 16, hunyuan15),
    "mochi": Vae("VideoVAE", 12, 6, 8, mochi),
    "cosmos": Vae("CausalContinuousVideoTokenizer", 16, 8, 8, cosmos),
}
if importlib.util.find_spec("comfy.ldm.cogvideo"):
    VAES["cogvideox"] = Vae("AutoencoderKLCogVideoX", 16, 4, 8, cogvideox)


@functools.cache
def built(name: str) -> comfy.sd.VAE:
    return VAES[name].build()
