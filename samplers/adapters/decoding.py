"""A latent's pixels piece by piece: memory and devices as core's VAE Decode keeps them, and what cannot be decoded."""

import contextlib
import logging
from collections.abc import Iterator

import comfy.model_management
import torch

from .vae_pieces import Stream
from .vae_streams import OURS, kind_of
from .vae_windows import OVERLAP, WINDOW, Tiles, Windows, scaled

TILE = 256  # pixels, of core's decode where the memory is short


def out_of_memory(error: Exception) -> bool:
    if not hasattr(comfy.model_management, "raise_non_oom"):
        return isinstance(error, comfy.model_management.OOM_EXCEPTION)
    try:
        comfy.model_management.raise_non_oom(error)  # newer cores know more kinds
    except Exception:
        return False
    return True


def on_device(device):
    """The context in which newer cores run a VAE."""
    return getattr(comfy.model_management, "cuda_device_context", contextlib.nullcontext)(device)


def in_pieces(vae) -> None:
    """Raises ValueError for VAEs whose pieces are none of ours to cut."""
    kind = type(vae.first_stage_model).__name__
    if f"{type(vae).__module__}." != "comfy.sd." and not f"{type(vae).__module__}.".endswith(OURS):
        raise ValueError(
            f"vae: {type(vae).__name__} is another pack's, with a decode of its own; use VAE Decode and VAE Encode "
            "with it"
        )
    if vae.latent_dim not in (2, 3) or getattr(vae, "extra_1d_channel", None) is not None:
        raise ValueError(f"vae: {kind} is for sound, not pictures; take the VAE of the video model")
    if getattr(vae, "handles_tiling", False):
        raise ValueError(f"vae: {kind} cuts time by a rule of its own; use VAE Decode and VAE Encode with it")


def videos(node: str, samples: dict, vae) -> list[torch.Tensor]:
    """The latents [1, C, T, h, w] of each video of a LATENT. Raises ValueError where the VAE cannot decode them."""
    vae.throw_exception_if_invalid()
    latent = samples["samples"]
    if getattr(latent, "is_nested", False):  # video and audio: core decodes the first too
        latent = latent.unbind()[0]
    shape, kind = tuple(latent.shape), type(vae.first_stage_model).__name__
    try:
        in_pieces(vae)
    except ValueError as error:
        raise ValueError(f"{node}: {error}") from error
    if latent.ndim != vae.latent_dim + 2 or (latent.shape[1] != vae.latent_channels):
        wanted = "frames, channels, height, width" if vae.latent_dim == 2 else "batch, channels, frames, height, width"
        raise ValueError(
            f"{node}: samples: a latent of the shape {shape} does not fit the VAE, {kind}, which decodes [{wanted}] "
            f"with {vae.latent_channels} channels; take the VAE of the model that made this latent"
        )
    if vae.latent_dim == 2:
        return [latent.movedim(0, 1)[None]]  # an image VAE's batch is a video's frames
    return list(latent.split(1))


class Decoding:
    """The decode of one video's latent [1, C, T, h, w]. window, overlap: latent frames, for VAEs that are decoded in
    windows; tile: pixels of a tile's side, 0 for the whole picture."""

    def __init__(self, vae, latent: torch.Tensor, window: int = WINDOW, overlap: int = OVERLAP, tile: int = 0):
        self.vae, self.latent = vae, latent
        self.kind = kind_of(vae)
        self.options = {"window": window, "overlap": overlap} if issubclass(self.kind, Windows) else {}
        self.space = vae.spacial_compression_decode()
        self.tile = tile // self.space

    @property
    def count(self) -> int:
        """Pixel frames, as core counts them."""
        frames = self.latent.shape[2]
        return frames if self.vae.latent_dim == 2 else scaled(self.vae.upscale_ratio[0], frames)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return tuple(side * self.space for side in self.latent.shape[3:])

    @property
    def exact(self) -> bool:
        return self.kind.exact or self.latent.shape[2] <= self.options["window"]

    def stream(self, pixel: int) -> Stream | Tiles:
        frames = self.latent.shape[2]
        start = self.kind.start_for(self.vae, frames, pixel, **self.options) if pixel else 0

        def make():
            return self.kind(self.vae, frames, start, **self.options)

        height, width = self.latent.shape[3:]
        if not self.tile or max(height, width) <= self.tile:
            return make()
        return Tiles(self.vae, make, (height, width), self.tile, self.tile // 4)

    def load(self, length: int) -> None:
        """Make room for pieces of `length` latent frames, and load the VAE."""
        sides = [min(side, self.tile) if self.tile else side for side in self.latent.shape[3:]]
        shape = (1, self.latent.shape[1], length, *sides)
        shape = (length, shape[1], *sides) if self.vae.latent_dim == 2 else shape
        comfy.model_management.load_models_gpu(
            [self.vae.patcher], memory_required=self.vae.memory_used_decode(shape, self.vae.vae_dtype),
            force_full_load=self.vae.disable_offload,
        )  # fmt: skip

    def frames(self, pixel: int = 0) -> Iterator[torch.Tensor]:
        """Pixel frames [n, H, W, 3] from `pixel` on, in 0..1, in float32 on core's device for images."""
        try:
            for piece in self._frames(pixel):
                yield piece
                pixel += len(piece)
            return
        except Exception as error:
            if not out_of_memory(error) or (self.tile and self.tile * self.space <= TILE):
                raise
        # outside the except, which holds on to all the tensors of the frames that failed
        comfy.model_management.soft_empty_cache()
        self.tile = TILE // self.space
        logging.warning(
            "Decode to Video: out of memory; frames from %d on are decoded in tiles of %d pixels.", pixel, TILE)
        yield from self._frames(pixel)

    def _frames(self, pixel: int):
        stream = self.stream(pixel)
        pieces = list(stream.pieces())
        self.load(max(end - first for first, end in pieces[:2]))
        at = stream.pixel_start()
        for first, end in pieces:
            comfy.model_management.throw_exception_if_processing_interrupted()
            with torch.no_grad(), on_device(self.vae.device):
                z = self.latent[:, :, first:end].to(self.vae.device, self.vae.vae_dtype)
                x = stream.push(z, end == self.latent.shape[2])
            if x is None:
                continue
            skip = max(0, min(pixel - at, x.shape[2]))
            at += x.shape[2]
            if skip < x.shape[2]:
                x = x[:, :, skip:].to(self.vae.output_device, torch.float32)
                yield self.vae.process_output(x)[0].movedim(0, -1)
