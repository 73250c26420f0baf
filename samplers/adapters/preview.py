"""A filmstrip of the whole long video while it is sampled (adapter of ComfyUI's sampler wrappers and previews).

Core's own preview shows one frame. This one sends frames from the whole video, in core's latent colours, to the browser
that runs the prompt, as the event `longtake.preview`. It follows the user's preview setting: none means nothing.
"""

import base64
import io
import logging
import time

import comfy.utils
import numpy as np
import torch
from comfy.cli_args import args
from comfy_execution.utils import get_executing_context
from einops import rearrange
from latent_preview import Latent2RGBPreviewer, LatentPreviewMethod
from PIL import Image

from ..side_by_side import moments
from .frame_batch import as_video, frames_in_batch
from .progress import running_server

logger = logging.getLogger(__name__)

EVENT = "longtake.preview"
FRAMES = 16  # most frames of a strip
REEL = 96  # most frames of the picture that is sent once, with the end of a run
SHARE = 0.01  # of the sampling time, for making strips
CELL = (48, 96)  # least and most pixels of a frame's height in the strip


def strip_image(previewer, x0: torch.Tensor, indices: list[int]) -> Image.Image:
    """Latent frames [B, C, F, H, W] of the first video side by side, in the previewer's colours."""
    wide = rearrange(x0[:1, :, indices], "b c f h w -> b c 1 h (f w)")
    image = previewer.decode_latent_to_preview(wide)
    low, high = CELL
    if image.height < low:
        scale = -(-low // image.height)
        return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
    if image.height > high:
        return image.resize((max(image.width * high // image.height, len(indices)), high), Image.Resampling.BILINEAR)
    return image


def frames_of(x0: torch.Tensor, latent_format) -> torch.Tensor | None:
    """Some frames of a video latent [B, C, F, H, W] in core's latent colours, [frames, H, W, 3] as bytes on the CPU;
    None where the format has no colours."""
    if x0.ndim != 5 or latent_format.latent_rgb_factors is None:
        return None
    indices = moments(x0.shape[2], FRAMES)
    wide = rearrange(x0[:1, :, indices], "b c f h w -> b c 1 h (f w)").float().cpu()
    picture = np.array(colours_of(latent_format).decode_latent_to_preview(wide).convert("RGB"))
    return torch.from_numpy(picture).view(picture.shape[0], len(indices), -1, 3).transpose(0, 1).contiguous()


def jpeg(image: Image.Image) -> str:
    data = io.BytesIO()
    image.save(data, "JPEG", quality=80, subsampling=0)
    return base64.b64encode(data.getvalue()).decode("ascii")


class Filmstrip:
    """The strips of one sampling run. send(dict) takes the event's data; see `event` for what that holds.

    Strips are made only while they have taken less than SHARE of the time since the start; the step is always sent.
    framed: the latents' batch is the video (frame_batch.py).
    """

    def __init__(
        self, previewer, compression: int, steps: int, send, shapes=None, clock=time.perf_counter, framed: bool = False
    ):
        self.previewer, self.compression, self.steps, self.send = previewer, compression, steps, send
        self.shapes, self.clock, self.framed = shapes, clock, framed
        self.start, self.done, self.spent, self.last = clock(), 0, 0.0, 0.0
        self.before: int | None = None  # steps of an earlier run, which took no time now
        self.reel: dict = {}  # of the last step, for the event of the end

    def event(self, state: str = "running", **extra) -> None:
        """state: running, done or stopped; step: steps done; elapsed and left: seconds (left None: not known yet);
        with a picture, image: JPEG in base64, its frames side by side, and frames: their places in pixel frames; at the
        end, reel and reel_frames: the same with more frames."""
        elapsed = self.clock() - self.start
        made = self.done - (self.before or 0)
        left = elapsed / made * (self.steps - self.done) if made else None
        self.send({"state": state, "step": self.done, "steps": self.steps, "elapsed": elapsed, "left": left, **extra})

    def show(self, x0: torch.Tensor) -> None:
        begun = self.clock()
        if self.spent + self.last > SHARE * (begun - self.start):
            return self.event()
        image, frames = self.picture(x0, FRAMES)
        if image is None:
            return self.event()
        self.event(image=image, frames=frames)
        self.last = self.clock() - begun
        self.spent += self.last

    def picture(self, x0: torch.Tensor, most: int) -> tuple[str | None, list[int]]:
        """A JPEG of up to `most` frames, and their places in pixel frames; None for what is no video."""
        if self.shapes is not None and len(self.shapes) > 1:  # audio and video packed into one
            x0 = comfy.utils.unpack_latents(x0, self.shapes)[0]
        if self.framed:
            x0 = as_video(x0)
        if x0.ndim != 5:
            return None, []
        indices = moments(x0.shape[2], most)
        return jpeg(strip_image(self.previewer, x0, indices)), [self.compression * i for i in indices]

    def callback(self, then):
        """A sampler callback that calls `then` (or None) first."""

        def callback(step, x0, x, total_steps):
            if then is not None:
                then(step, x0, x, total_steps)
            self.done = step + 1
            if self.before is None:
                self.before = self.done if step else 0
            try:
                self.show(x0)
                if self.done == self.steps:
                    image, frames = self.picture(x0, REEL)
                    self.reel = {"reel": image, "reel_frames": frames} if image else {}
            except Exception:  # a picture must not end hours of sampling
                logger.warning("LongTake preview: no filmstrip for step %d.", self.done, exc_info=True)

        return callback


def previewer_for(latent_format):
    """Core's latent colours for this format; None where the user wants no previews or the format has no colours."""
    if args.preview_method == LatentPreviewMethod.NoPreviews or latent_format.latent_rgb_factors is None:
        return None
    return colours_of(latent_format)


def colours_of(latent_format) -> Latent2RGBPreviewer:
    names = ("latent_rgb_factors", "latent_rgb_factors_bias", "latent_rgb_factors_reshape")
    return Latent2RGBPreviewer(*(getattr(latent_format, name) for name in names))


def filmstrip_wrapper(compression: int):
    """A SAMPLER_SAMPLE wrapper: every step of whatever sampler runs also shows the filmstrip."""

    def wrapper(executor, guider, sigmas, extra_args, callback, *rest, **kwargs):
        server, context = running_server(), get_executing_context()
        previewer = previewer_for(guider.inner_model.latent_format)
        if server is None or server.client_id is None or context is None or previewer is None:
            return executor(guider, sigmas, extra_args, callback, *rest, **kwargs)
        client, place = server.client_id, {"node": context.node_id, "prompt_id": context.prompt_id}
        strip = Filmstrip(
            previewer, compression, len(sigmas) - 1, lambda data: server.send_sync(EVENT, {**place, **data}, client),
            getattr(guider.inner_model, "latent_shapes", None), framed=frames_in_batch(guider.inner_model),
        )  # fmt: skip
        strip.event()
        state = "stopped"
        try:
            out = executor(guider, sigmas, extra_args, strip.callback(callback), *rest, **kwargs)
            state = "done"
            return out
        finally:
            strip.event(state, **(strip.reel if state == "done" else {}))

    return wrapper
