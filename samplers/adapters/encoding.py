"""Frames into a latent piece by piece: the state that a VAE's encoder carries, as vae_streams has it for decoders.

Exact (the latent of core's whole encode): Wan, CogVideoX, LTX of newer cores, image VAEs. The others are encoded in
windows that overlap, blended as core's tiled encode blends them.
"""

import inspect
from collections.abc import Callable, Iterator

import comfy.model_management
import torch

from . import vae_twin
from .decoding import on_device
from .vae_streams import LTX, CogVideoX, Images, Wan, kind_of
from .vae_windows import OVERLAP, WINDOW, FrameWindows, places, ramp, scaled


class Pieces:
    """frames: of the whole video; push: pixels [1, 3, t, H, W] as process_input gives them -> latents or None."""

    def __init__(self, vae, frames: int):
        self.vae, self.net, self.frames = vae, vae.first_stage_model, frames

    def pieces(self) -> Iterator[tuple[int, int]]:
        yield 0, 1
        for first in range(1, self.frames, self.step):
            yield first, min(first + self.step, self.frames)


class WanPieces(Pieces):
    def __init__(self, vae, frames):
        super().__init__(vae, frames)
        known = inspect.signature(self.net.encoder.forward).parameters
        self.final, self.cache = "final" in known, [None] * sum(1 for _ in self.net.encoder.modules())
        self.step = 2 if self.final else 4  # newer cores take two at a time

    def push(self, x, last):
        if type(self.net).__module__.endswith("vae2_2"):
            from comfy.ldm.wan.vae2_2 import patchify

            x = patchify(x, patch_size=2)
        options = {"final": last} if self.final else {}
        x = self.net.encoder(x, feat_cache=self.cache, feat_idx=[0], **options)
        return None if x is None else self.net.conv1(x).chunk(2, dim=1)[0]


class CogVideoXPieces(Pieces):
    cache = None

    def pieces(self):
        rest = self.frames % 8
        first = min(8 + rest, self.frames) if hasattr(self.net, "vae") else rest or 8  # diffusers', core's
        yield 0, first
        for begin in range(first, self.frames, 8):
            yield begin, begin + 8

    def push(self, x, last):
        net = getattr(self.net, "vae", self.net)
        x, self.cache = net.encoder(x, conv_cache=self.cache)
        if getattr(net, "quant_conv", None) is not None:
            x = net.quant_conv(x)
        return x.chunk(2, dim=1)[0]


class LTXPieces(Pieces):
    step = 8

    def __init__(self, vae, frames):
        super().__init__(vae, frames)
        self.net = vae_twin.ltx(self.net)

    def push(self, x, last):
        from comfy.ldm.lightricks.vae import causal_video_autoencoder as core

        if last:
            vae_twin.end(self.net)
            core.mark_conv3d_ended(self.net.encoder)
        x = self.net.encoder(core.patchify(x, patch_size_hw=self.net.encoder.patch_size, patch_size_t=1))
        return None if x is None else self.net.per_channel_statistics.normalize(x.chunk(2, dim=1)[0])


class ImagePieces(Pieces):
    step = 4

    def push(self, x, last):
        return self.net.encode(x[0].movedim(1, 0)).movedim(0, 1)[None]


class WindowPieces(Pieces):
    def __init__(self, vae, frames, window, overlap):
        super().__init__(vae, frames)
        self.window, self.overlap = (scaled(vae.upscale_ratio[0], n) for n in (window, overlap))
        self.todo = list(self.pieces())
        self.sum = self.weights = None

    def pieces(self):
        for first in places(self.frames, self.window, self.overlap):
            yield first, min(first + self.window, self.frames)

    def push(self, x, last):
        x = self.net.encode(x).to(self.vae.output_device, torch.float32)
        rate = self.vae.downscale_index_formula[0]
        first, _ = self.todo.pop(0)
        weights = ramp(x.shape[2], scaled(self.vae.downscale_ratio[0], self.overlap)).to(x.device)
        x = x * weights[:, None, None]
        if self.sum is not None:
            x[:, :, : self.sum.shape[2]] += self.sum
            weights[: len(self.weights)] += self.weights
        done = (self.todo[0][0] - first) // rate if self.todo else x.shape[2]
        self.sum, self.weights = x[:, :, done:].clone(), weights[done:].clone()
        return x[:, :, :done] / weights[:done, None, None]


KINDS = {Wan: WanPieces, CogVideoX: CogVideoXPieces, LTX: LTXPieces, Images: ImagePieces, FrameWindows: ImagePieces}


def kept(vae, frames: int) -> int:
    """Of so many frames, those that make whole latent frames."""
    if vae.latent_dim == 2:
        return frames
    rate = vae.upscale_index_formula[0]
    return (frames - 1) // rate * rate + 1


def exact(vae) -> bool:
    return kind_of(vae) in KINDS


def encode(
    vae, frames: int, read: Callable[[int], torch.Tensor], progress: Callable[[int], None], window=WINDOW,
    overlap=OVERLAP,
) -> torch.Tensor:
    """The latent of a video of `frames` frames (as `kept` counts them). read(n): its next n frames [n, H, W, 3]."""
    kind = KINDS.get(kind_of(vae))
    stream = kind(vae, frames) if kind else WindowPieces(vae, frames, window, overlap)
    held, at, latents, loaded = None, 0, [], False
    for first, end in stream.pieces():
        comfy.model_management.throw_exception_if_processing_interrupted()
        held = held[first - at :] if held is not None else None  # windows share frames
        more = vae.vae_encode_crop_pixels(read(end - first - (0 if held is None else len(held))))
        held, at = more if held is None or not len(held) else torch.cat([held, more]), first
        x = held.movedim(-1, 0)[None]
        if not loaded:
            loaded = True
            length = max(b - a for a, b in stream.pieces())
            shape = (1, 3, length, *x.shape[3:]) if vae.latent_dim == 3 else (length, 3, *x.shape[3:])
            comfy.model_management.load_models_gpu(
                [vae.patcher], memory_required=vae.memory_used_encode(shape, vae.vae_dtype),
                force_full_load=vae.disable_offload)
        with torch.no_grad(), on_device(vae.device):
            z = stream.push(vae.process_input(x).to(vae.device, vae.vae_dtype), end == frames)
        if z is not None:
            latents.append(z.to(vae.output_device, torch.float32))
        progress(end)
    latent = torch.cat(latents, dim=2)
    return latent if vae.latent_dim == 3 else latent[0].movedim(1, 0)
