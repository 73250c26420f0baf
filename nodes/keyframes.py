"""Images at the starts of a Prompt Timeline's events, for models that take images on any frame."""

import comfy.clip_vision
import comfy.utils
import node_helpers
import torch

from ..samplers.adapters.keyframes import VACE_STRIDE, Keyframes, pixel_size
from ..samplers.adapters.vae_streams import Wan, kind_of
from ..samplers.keyframes import chosen, event_numbers, holding, shown_at
from ..samplers.windows import pixel_length
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float
from .redo import spans_of, video

NODE = "Event Keyframes (LongTakeEventKeyframes)"
MODELS = ("i2v", "vace")


class LongTakeEventKeyframes(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeEventKeyframes",
            display_name="Event Keyframes",
            category="LongTake",
            **described(
                "Puts an image at the start of each event of a Prompt Timeline, for Wan models that take images: "
                "image to video, first-last, Fun InP and VACE. Each window sees the images in it.",
                "keyframes", "keyframe images", "first last frame", "start image", "image to video", "storyboard",
            ),
            inputs=[
                io.Conditioning.Input("positive", tooltip="From Prompt Timeline, which says where the events begin."),
                io.Conditioning.Input("negative", tooltip="The negative prompt; gets the same images."),
                io.Vae.Input("vae", tooltip="The model's VAE, Wan 2.1's or 2.2's. The video is encoded once, piece by "
                             "piece."),
                io.Latent.Input("samples", tooltip="The video's empty latent, which gives length and size; a video to "
                                "be made longer, or in part anew, too."),
                io.Image.Input("images", tooltip="One image an event, as a batch, in the order of events; fewer than "
                               "events: the others get none. Scaled to the video and cut from the middle."),
                Combo("model", options=list(MODELS), default="i2v",
                      tooltip="What samples the video. i2v: Wan 2.1 and 2.2 image to video, first-last, Fun InP. "
                      "vace: Wan VACE."),
                io.String.Input("events", default="", placeholder="1, 3, 4; empty: in order",
                                tooltip="Which events get the images, counted from 1, one number an image: 1, 3, 4. "
                                "Empty: in order from event 1."),
                io.Boolean.Input("last", default=False,
                                 tooltip="On: the last image stands on the video's last frame instead (first-last)."),
                Float("strength", default=1.0, min=0.0, max=1000.0, step=0.01, round=False,
                      tooltip="For vace: how much the images hold the video; 0.5 to 1.5. Nothing with i2v."),
                io.ClipVisionOutput.Input(
                    "clip_vision_output", optional=True,
                    tooltip="For Wan 2.1 image to video: CLIP Vision Encode of the first image; for its first-last "
                    "model, of a batch of the first and the last.",
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="positive"),
                io.Conditioning.Output(display_name="negative"),
                io.Latent.Output(display_name="latent", tooltip="What came in, for the sampler."),
                io.String.Output(display_name="report", tooltip="On which frame each image stands."),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, events):
        return verdict(cls, NODE, event_numbers, events=events)

    @classmethod
    @bounded(NODE)
    def execute(
        cls, positive, negative, vae, samples, images, model, events, last, strength, clip_vision_output=None
    ) -> io.NodeOutput:
        latent = video(NODE, samples)
        try:
            fitting(vae, latent, model)
            frames, rate = latent.shape[2], vae.upscale_index_formula[0]
            named = places(positive, images, event_numbers(events), last, frames, rate)
            seen = {} if clip_vision_output is None else {"clip_vision_output": views(clip_vision_output)}
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        height, width = pixel_size(vae, latent)
        scaled = comfy.utils.common_upscale(images.movedim(-1, 1), width, height, "bilinear", "center").movedim(1, -1)
        placed = dict(zip(named.values(), scaled[..., :3], strict=True))
        bar = comfy.utils.ProgressBar(pixel_length(frames, rate))
        keyframes = Keyframes(vae, placed, latent)
        vace = model == "vace"
        values = keyframes.vace(strength, bar.update_absolute) if vace else keyframes.i2v(bar.update_absolute)
        positive, negative = (
            node_helpers.conditioning_set_values(
                node_helpers.conditioning_set_values(cond, values, append=vace), seen)
            for cond in (positive, negative)
        )  # fmt: skip
        report = "images at " + ", ".join(
            f"{name}: pixel frame {shown_at(at, rate)} (latent {at})" for name, at in named.items())
        return io.NodeOutput(positive, negative, samples, report, ui={"longtake_report": [report]})


def fitting(vae, latent: torch.Tensor, model: str) -> None:
    """Raises ValueError where VAE and latent are not of a model that takes keyframes."""
    vae.throw_exception_if_invalid()
    if kind_of(vae) is not Wan:
        raise ValueError(f"vae: is a {type(vae.first_stage_model).__name__} of another model; connect Wan's VAE")
    if latent.shape[1] != vae.latent_channels:
        raise ValueError(
            f"samples: has {latent.shape[1]} channels, the latents of the VAE have {vae.latent_channels}; make the "
            f"empty latent for the same model"
        )
    if model == "vace" and vae.upscale_index_formula[1] != VACE_STRIDE:
        raise ValueError("model (vace): needs the VAE of Wan 2.1")


def places(positive: list, images: torch.Tensor, numbers: list[int], last: bool, frames: int, rate: int) -> dict:
    """{what an image begins: its latent frame}, in the images' order. Raises ValueError."""
    total = pixel_length(frames, rate)
    spans = spans_of(positive, total)
    if not spans:
        raise ValueError("positive: has no events; connect a Prompt Timeline")
    if spans[0].total != total:
        raise ValueError(
            f"samples: the latent has {total} pixel frames, the timeline at positive {spans[0].total}; set both to the "
            f"same length, or the timeline's to 0"
        )
    if len(images) == 0:
        raise ValueError("images: has none; connect at least one image")
    events = chosen(numbers, len(images) - last, len(spans))
    named = {f"event {n}": holding(spans[n - 1].start, rate) for n in events}
    if last:
        named["the end"] = frames - 1
    found: dict[int, str] = {}
    for name, at in named.items():
        if at in found:
            raise ValueError(
                f"images: those of {found[at]} and {name} fall into the same latent frame ({at}, {rate} pixel frames); "
                f"leave one out"
            )
        found[at] = name
    return named


def views(output):
    """Core's view of one image, or of the first and last as core's first-last node joins them. Raises ValueError."""
    states = output.penultimate_hidden_states
    if len(states) == 1:
        return output
    if len(states) != 2:
        raise ValueError(
            f"clip_vision_output: is of {len(states)} images; encode the first one, or a batch of first and last"
        )
    joined = comfy.clip_vision.Output()
    joined.penultimate_hidden_states = torch.cat(states.split(1), dim=-2)
    return joined


NODES = [LongTakeEventKeyframes]
