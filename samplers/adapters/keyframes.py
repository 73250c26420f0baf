"""Keyframes as Wan's models take them: what core's WanFirstLastFrameToVideo and WanVaceToVideo put into the
conditioning, for images on any frames. The frames between are never all in memory: the VAE gets them piece by piece.
"""

from collections.abc import Callable

import torch
from comfy.ldm.wan.vae import CausalConv3d

from ..keyframes import image_mask, shown_at, vace_mask
from ..windows import pixel_length
from .encoding import encode

GREY = 0.5
VACE_STRIDE = 8  # pixels of a side that a latent pixel holds, and its mask in 8 x 8 channels


def pixel_size(vae, latent: torch.Tensor) -> list[int]:
    """Height and width."""
    return [side * vae.upscale_index_formula[1] for side in latent.shape[3:]]


class Keyframes:
    """images: {latent frame: image [height, width, 3]}, for a latent [B, C, F, H, W] of this VAE."""

    def __init__(self, vae, images: dict[int, torch.Tensor], latent: torch.Tensor):
        self.vae, self.images, self.rate = vae, images, vae.upscale_index_formula[0]
        self.frames, *self.latent_size = latent.shape[2:]
        self.size = pixel_size(vae, latent)

    def i2v(self, progress: Callable[[int], None]) -> dict:
        mask = image_mask(list(self.images), self.frames, self.rate)
        latent = self._encoded(self.images, self.frames, progress)
        return {"concat_latent_image": latent, "concat_mask": mask.expand(-1, -1, -1, *self.latent_size)}

    def vace(self, strength: float, progress: Callable[[int], None]) -> dict:
        inactive = self._encoded(self.images, self.frames, progress)
        some = min(self.frames, 1 + _memory(self.vae))  # grey frames, after which all that come are equal
        grey = self._encoded({}, some, lambda done: None)
        grey = torch.cat([grey, grey[:, :, -1:].expand(-1, -1, self.frames - some, -1, -1)], dim=2)
        mask = vace_mask(list(self.images), self.frames, self.rate)
        mask = mask.expand(-1, VACE_STRIDE**2, -1, *self.latent_size)
        return {
            "vace_frames": [torch.cat([inactive, grey], dim=1)], "vace_mask": [mask], "vace_strength": [strength],
        }  # fmt: skip

    def _encoded(self, images: dict[int, torch.Tensor], frames: int, progress) -> torch.Tensor:
        """The latent of a grey video with these images in it."""
        at, places = 0, {shown_at(i, self.rate): image for i, image in images.items()}

        def read(count):
            nonlocal at
            pixels = torch.full((count, *self.size, 3), GREY)
            for i in range(count):
                if at + i in places:
                    pixels[i] = places[at + i]
            at += count
            return pixels

        return encode(self.vae, pixel_length(frames, self.rate), read, progress)


def _memory(vae) -> int:
    """Latent frames that the encoder looks back at most: each convolution some frames of its own rate."""
    layers = vae.first_stage_model.encoder.modules()
    return sum(layer.kernel_size[0] - 1 for layer in layers if isinstance(layer, CausalConv3d))
