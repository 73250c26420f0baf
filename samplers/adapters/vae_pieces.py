"""What a video VAE in pieces of time is: a stream, of the pieces that it takes and the pixels that they complete."""

import math

import torch


class Stream:
    """Of one video, from the latent frame `start` on. Subclasses: one for each class of VAE.

    step: latent frames per piece; exact: whether the pixels are those of the whole decode; early: those of the first
    pixels of a stream that starts later are wrong, by what the frames before it would have told it.
    """

    step, exact = 1, True

    def __init__(self, vae, frames: int, start: int = 0):
        self.vae, self.frames, self.start = vae, frames, start
        self.net = vae.first_stage_model
        self.step = self.steps(vae)

    @classmethod
    def steps(cls, vae) -> int:
        return cls.step

    @classmethod
    def rate(cls, vae) -> int:
        """Pixel frames per latent frame."""
        return vae.upscale_index_formula[0]

    def pieces(self):
        """(first, end) latent frames of each piece: the first frame alone, as it becomes one pixel frame."""
        first, end = self.start, self.start + 1
        while first < self.frames:
            yield first, min(end, self.frames)
            first, end = end, end + self.step

    def push(self, z: torch.Tensor, last: bool) -> torch.Tensor | None:
        """The pixels [1, 3, n, H, W] that the latent frames z [1, C, t, h, w] complete, before process_output."""
        raise NotImplementedError

    def pixel_start(self) -> int:
        """The pixel frame that comes first."""
        return self.rate(self.vae) * self.start

    @classmethod
    def memory(cls, vae) -> int:
        """Latent frames whose trace may still be seen in what comes after."""
        raise NotImplementedError

    @classmethod
    def start_for(cls, vae, frames: int, pixel: int) -> int:
        """The latest latent frame to start at, so that the pixels from `pixel` on are those of a start at the first."""
        step = cls.steps(vae)
        return max(0, pixel // cls.rate(vae) - cls.memory(vae) - step) // step * step

    def park(self, device):
        """Move the state to `device`."""


def reach(net, kind, span, growth) -> int:
    """Input frames that a chain of layers looks back: span(layer) for each of the type `kind`, at the rate that the
    layers before it have made (growth(layer): what it multiplies the rate by, itself after the layers within it)."""

    def walk(layer, rate):
        frames = span(layer) / rate if isinstance(layer, kind) else 0.0
        for child in layer.children():
            more, rate = walk(child, rate)
            frames += more
        return frames, rate * growth(layer)

    return math.ceil(walk(net, 1)[0])
