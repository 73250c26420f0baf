"""Wan's VAE over a whole clip in one pass, for training.

ComfyUI's WanVAE walks a clip in chunks of one latent frame and carries the causal convolutions' last frames along. Over
a whole clip the same causal convolutions, padded once, give the same numbers (a test compares them) in far fewer calls.
"""

import torch
from comfy.ldm.wan.vae import CausalConv3d, Resample, WanVAE
from einops import rearrange


def one_frame() -> None:
    """Let the causal convolutions of all VAEs see one frame only: what their older taps see is 0, so it is left out."""
    CausalConv3d.forward = lambda self, x: torch.nn.functional.conv2d(
        x[:, :, 0], self.weight[:, :, -1], self.bias, padding=self.kernel_size[1] // 2)[:, :, None]


def walk(layers, x: torch.Tensor) -> torch.Tensor:
    """x [B, C, T, H, W] through layers of an encoder or a decoder, a whole clip at once."""
    for layer in layers:
        if isinstance(layer, Resample) and layer.mode == "upsample3d" and x.shape[2] > 1:
            # the first latent frame is one pixel frame; every later one becomes two here
            rest = rearrange(layer.time_conv(x[:, :, 1:]), "b (n c) t h w -> b c (t n) h w", n=2)
            x = torch.cat([x[:, :, :1], rest], dim=2)
        x = layer(x)
        if isinstance(layer, Resample) and layer.mode == "downsample3d" and x.shape[2] > 1:
            x = torch.cat([x[:, :, :1], layer.time_conv(x)], dim=2)
    return x


def encode(vae: WanVAE, clip: torch.Tensor) -> torch.Tensor:
    """Clip [B, 3, T, H, W] in -1..1 with T = 4n+1 -> raw latent mean [B, 16, n+1, H/8, W/8]."""
    e = vae.encoder
    x = walk(e.head, walk(e.middle, walk(e.downsamples, e.conv1(clip))))
    return vae.conv1(x).chunk(2, dim=1)[0]


def decode(vae: WanVAE, latent: torch.Tensor) -> torch.Tensor:
    """Raw latent [B, 16, n+1, h, w] -> clip [B, 3, 4n+1, 8h, 8w] in -1..1 (not clamped)."""
    d = vae.decoder
    return walk(d.head, walk(d.upsamples, walk(d.middle, d.conv1(vae.conv2(latent)))))
