"""Video VAEs in pieces of time: each class with the state that it carries from one piece to the next.

A stream takes a latent's frames in the order of `pieces` and gives the pixels that they complete. Where the class looks
back only (Wan, Mochi, CogVideoX, Cosmos) or a little ahead (LTX), the pixels are those of the whole decode; the others
are decoded in windows that overlap (vae_windows).
"""

import inspect

import torch

from . import vae_twin
from .vae_pieces import Stream, reach
from .vae_windows import FrameWindows, Windows


class Wan(Stream):
    """2.1 and 2.2: core's own loop, with the state that core carries in it."""

    def __init__(self, vae, frames, start=0):
        super().__init__(vae, frames, start)
        self.cache = [None] * sum(1 for _ in self.net.decoder.modules())  # more than its layers need
        self.begun = False

    @classmethod
    def steps(cls, vae):
        return 2 if hasattr(vae.first_stage_model.decoder, "run_up") else 1  # newer cores take two at a time

    def push(self, z, last):
        options = {}
        if "first_chunk" in inspect.signature(self.net.decoder.forward).parameters:
            options["first_chunk"] = not self.begun
        self.begun = True
        x = self.net.decoder(self.net.conv2(z), feat_cache=self.cache, feat_idx=[0], **options)
        x = torch.cat(x, dim=2) if isinstance(x, list) else x
        if "first_chunk" in options:  # 2.2
            from comfy.ldm.wan.vae2_2 import unpatchify

            x = unpatchify(x, patch_size=2)
        return x

    @classmethod
    def memory(cls, vae):
        from comfy.ldm.wan.vae import CausalConv3d

        return reach(
            vae.first_stage_model.decoder, CausalConv3d, lambda conv: conv.kernel_size[0] - 1,
            lambda layer: 2 if getattr(layer, "mode", "") == "upsample3d" else 1,
        )  # fmt: skip

    def park(self, device):
        self.cache = vae_twin.moved(self.cache, device)


class CogVideoX(Stream):
    """As the model was released (diffusers): two latent frames at a time, three first where their number is odd, each
    piece normalised by itself, the convolutions' inputs carried."""

    step = 2

    def __init__(self, vae, frames, start=0):
        super().__init__(vae, frames, start)
        self.padded = self.ours and frames % 2 == 0 and frames > 1  # the pack's VAE repeats the last frame then
        self.cache = None

    @property
    def ours(self) -> bool:
        return hasattr(self.net, "vae")

    @property
    def core(self):
        return self.net.vae if self.ours else self.net

    def pieces(self):
        odd = (self.frames + self.padded) % 2
        first, end = self.start, self.start + 2 + odd if self.start == 0 else self.start + 2
        while first < self.frames:
            yield first, min(end, self.frames)
            first, end = end, end + 2

    def push(self, z, last):
        if last and self.padded:
            z = torch.cat([z, z[:, :, -1:]], dim=2)
        core = self.core
        if getattr(core, "post_quant_conv", None) is not None:
            z = core.post_quant_conv(z)
        x, self.cache = core.decoder(z, conv_cache=self.cache)
        return x[:, :, : x.shape[2] - 4] if last and self.padded else x

    def pixel_start(self):
        odd = (self.frames + self.padded) % 2
        return 0 if self.start == 0 else 4 * self.start - 3 * odd

    @classmethod
    def memory(cls, vae):
        net = vae.first_stage_model
        net = getattr(net, "vae", net).decoder
        # a normalisation makes the whole piece of each frame, so a convolution looks back one piece
        return 2 * sum(1 for layer in net.modules() if getattr(layer, "time_kernel_size", 1) > 1)

    @classmethod
    def start_for(cls, vae, frames, pixel):
        odd = frames % 2 or int(hasattr(vae.first_stage_model, "vae"))  # pieces begin at odd latent frames then
        start = pixel // 4 - cls.memory(vae) - 2
        return (start - odd) // 2 * 2 + odd if start > 2 else 0

    def park(self, device):
        self.cache = vae_twin.moved(self.cache, device)


class Twin(Stream):
    """Classes without a way of core's to carry their state: a twin of the net does."""

    step, kinds = 2, None

    def __init__(self, vae, frames, start=0):
        super().__init__(vae, frames, start)
        self.net = vae_twin.twin(self.net, type(self).kinds())

    def push(self, z, last):
        return self.net.decode(z)

    def park(self, device):
        vae_twin.park(self.net, device)


class Mochi(Twin):
    kinds = staticmethod(vae_twin.mochi)

    @classmethod
    def memory(cls, vae):
        from comfy.ldm.genmo.vae.model import DepthToSpaceTime, PConv3d

        return reach(
            vae.first_stage_model.decoder, PConv3d, lambda conv: conv.kernel_size[0] - 1,
            lambda layer: layer.temporal_expansion if isinstance(layer, DepthToSpaceTime) else 1,
        )  # fmt: skip


class Cosmos(Twin):
    """Each frame attends to all before it: the state grows by two frames of keys and values for a latent frame."""

    kinds = staticmethod(vae_twin.cosmos)

    @classmethod
    def memory(cls, vae):
        return 2**31


class LTX(Stream):
    """Of newer cores, whose layers keep their state between pieces. Looks ahead, so its pixels come late."""

    step = 2
    SEED = 0  # of the noise that some versions decode with; core's differs with every run

    def __init__(self, vae, frames, start=0):
        super().__init__(vae, frames, start)
        self.net = vae_twin.ltx(self.net)
        self.place = start

    def push(self, z, last):
        if last:
            vae_twin.end(self.net)
        if self.net.timestep_conditioning:
            shape = (*z.shape[:2], self.frames, *z.shape[3:])
            noise = torch.randn(shape, generator=torch.Generator().manual_seed(self.SEED))
            noise = noise[:, :, self.place : self.place + z.shape[2]].to(z)
            z = noise * self.net.decode_noise_scale + (1.0 - self.net.decode_noise_scale) * z
        self.place += z.shape[2]
        out = vae_twin.Frames()
        z = self.net.per_channel_statistics.un_normalize(z)
        self.net.decoder(z, timestep=self.net.decode_timestep, output_buffer=out)
        return torch.cat(out.pieces, dim=2) if out.pieces else None

    @classmethod
    def memory(cls, vae):
        from comfy.ldm.lightricks.vae.causal_conv3d import CausalConv3d

        return reach(
            vae.first_stage_model.decoder, CausalConv3d, lambda conv: conv.time_kernel_size - 1,
            lambda layer: layer.stride[0] if hasattr(layer, "out_channels_reduction_factor") else 1,
        )  # fmt: skip

    def park(self, device):
        vae_twin.park(self.net, device)


class Images(Stream):
    """A VAE of images: every frame by itself. The latent's frames are its batch."""

    step = 4

    def push(self, z, last):
        x = self.net.decode(z[0].movedim(1, 0))
        return x.movedim(0, 1)[None]

    @classmethod
    def rate(cls, vae):
        return 1

    @classmethod
    def memory(cls, vae):
        return 0


OURS = ".backbone.cogvideox.vae."
KINDS = {
    "comfy.ldm.wan.vae.WanVAE": Wan, "comfy.ldm.wan.vae2_2.WanVAE": Wan,
    "comfy.ldm.cogvideo.vae.AutoencoderKLCogVideoX": CogVideoX, "comfy.ldm.genmo.vae.model.VideoVAE": Mochi,
    "comfy.ldm.cosmos.vae.CausalContinuousVideoTokenizer": Cosmos,
}  # fmt: skip


def kind_of(vae) -> type[Stream]:
    """The stream that fits a VAE's class; Windows for those that see the whole video at once, and for unknown ones."""
    net = vae.first_stage_model
    name = f"{type(net).__module__}.{type(net).__name__}"
    if vae.latent_dim == 2:
        return FrameWindows if type(getattr(net, "decoder", None)).__name__ == "VideoDecoder" else Images
    if name.endswith(OURS + "FirstStage"):
        return CogVideoX
    if name == "comfy.ldm.lightricks.vae.causal_video_autoencoder.VideoVAE":
        return LTX if hasattr(net.decoder, "run_up") else Windows  # ComfyUI 0.3's layers keep no state
    return KINDS.get(name, Windows)
