"""Pieces that overlap, blended as core's tiled decode blends them: in time, for VAEs that see a whole video at once
(HunyuanVideo's attend over all of it), and in space, for any VAE, where the memory is short."""

import torch

from .vae_pieces import Stream

WINDOW, OVERLAP = 16, 4  # latent frames


def ramp(length: int, feather: int) -> torch.Tensor:
    """Weights of a piece's pixels along one side, as comfy.utils.tiled_scale_multidim makes them."""
    weights = torch.ones(length)
    if feather < length:
        for i in range(feather):
            weights[i] *= (i + 1) / feather
            weights[length - 1 - i] *= (i + 1) / feather
    return weights


def places(length: int, size: int, overlap: int) -> list[int]:
    """Where pieces of `size` begin, as core's tiled decode places them."""
    return list(range(0, length - overlap, size - overlap)) if length > size else [0]


def scaled(ratio, value: int) -> int:
    """A VAE's ratio of sizes: a number, or a function of the size."""
    return round(ratio(value) if callable(ratio) else ratio * value)


class Windows(Stream):
    """`window` latent frames at a time, `overlap` of them shared. Exact where the video fits in one."""

    exact = False

    def __init__(self, vae, frames, start=0, window=WINDOW, overlap=OVERLAP):
        super().__init__(vae, frames, start)
        self.window, self.overlap = window, overlap
        self.todo = list(self.pieces())
        self.sum = self.weights = None  # of the pixels from self.at on, which the next window still adds to
        self.at = self.pixel_start()

    def pieces(self):
        for first in places(self.frames, self.window, self.overlap):
            if first >= self.start:
                yield first, min(first + self.window, self.frames)

    def decoded(self, z: torch.Tensor) -> torch.Tensor:
        return self.net.decode(z)

    def common(self) -> int:
        """Pixel frames that two windows share."""
        return scaled(self.vae.upscale_ratio[0], self.overlap)

    def push(self, z, last):
        x = self.decoded(z).to(self.vae.output_device, torch.float32)
        first, _ = self.todo.pop(0)
        weights = ramp(x.shape[2], self.common()).to(x.device)
        x *= weights[:, None, None]
        begins = self.rate(self.vae) * first - self.at
        if self.sum is not None:
            shared = self.sum.shape[2] - begins
            x[:, :, :shared] += self.sum[:, :, begins:]
            weights[:shared] += self.weights[begins:]
        done = x.shape[2] if not self.todo else self.rate(self.vae) * (self.todo[0][0] - first)
        self.at += done
        self.sum, self.weights = x[:, :, done:].clone(), weights[done:].clone()
        return x[:, :, :done] / weights[:done, None, None]

    @classmethod
    def start_for(cls, vae, frames, pixel, window=WINDOW, overlap=OVERLAP):
        rate = cls.rate(vae)
        return next(p for p in places(frames, window, overlap) if rate * (p + window) - rate + 1 > pixel)


class FrameWindows(Windows):
    """A VAE of images whose decoder has layers over time, SVD's: the latent's frames are its batch, and it takes a
    batch for a whole video."""

    def decoded(self, z):
        return self.net.decode(z[0].movedim(1, 0)).movedim(0, 1)[None]

    def common(self):
        return self.overlap

    @classmethod
    def rate(cls, vae):
        return 1


class Tiles:
    """A stream for each tile of the picture, side by side. make(): a stream; size: of the latent's picture; tile,
    overlap: latent pixels."""

    def __init__(self, vae, make, size: tuple[int, int], tile: int, overlap: int):
        self.vae, self.tile, self.overlap = vae, tile, overlap
        self.corners = [(y, x) for y in places(size[0], tile, overlap) for x in places(size[1], tile, overlap)]
        self.streams = [make() for _ in self.corners]
        self.space = vae.spacial_compression_decode()
        self.size = [side * self.space for side in size]

    def pieces(self):
        return self.streams[0].pieces()

    def pixel_start(self):
        return self.streams[0].pixel_start()

    def push(self, z, last):
        total = weights = None
        for (y, x), stream in zip(self.corners, self.streams, strict=True):
            stream.park(self.vae.device)
            part = stream.push(z[..., y : y + self.tile, x : x + self.tile], last)
            if len(self.streams) > 1:
                stream.park(self.vae.output_device)  # one tile's state at a time beside the weights
            if part is None:
                continue
            part = part.to(self.vae.output_device, torch.float32)
            if total is None:
                total = torch.zeros(*part.shape[:3], *self.size, device=part.device)
                weights = torch.zeros(self.size, device=part.device)
            feather = self.overlap * self.space
            mask = ramp(part.shape[3], feather)[:, None] * ramp(part.shape[4], feather)
            where = (..., *(slice(at * self.space, at * self.space + n) for at, n in
                            ((y, part.shape[3]), (x, part.shape[4]))))  # fmt: skip
            total[where] += part * mask.to(part.device)
            weights[where] += mask.to(part.device)
        return None if total is None else total / weights
