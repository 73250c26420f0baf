"""MEVG: clip after clip, one event each, begun from the last frame of the one before."""

from ..samplers.adapters.mevg import NODE, MEVGSampler
from ..samplers.mevg import BEGIN
from ..samplers.windows import FIRST_LATENT
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float


class LongTakeMEVGSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeMEVGSampler",
            display_name="MEVG Sampler",
            category="LongTake",
            **described(
                "MEVG (MTVG): clip after clip, one event of a Prompt Timeline each, begun from the last frame of the "
                "clip before. For SamplerCustomAdvanced; any text-to-video model, without a Window Scheduler.",
                "long video", "multi-event", "clip by clip", "last frame", "autoregressive", "chained clips",
            ),
            inputs=[
                io.Int.Input(
                    "window_length", default=81, min=1, max=16384,
                    tooltip="Pixel frames per clip: the clip length the model was trained on (Wan 81, LTX 97, demo "
                    "model 49). An event that is longer takes several clips; what reaches past its end is cut off, so "
                    "events of about a clip cost least.",
                ),
                Combo(
                    "begin", options=list(BEGIN), default="renoise",
                    tooltip="How a clip begins from the last frame before it. renoise: the repeated frame with new "
                    "noise; for flow models and CogVideoX, whose noisiest level holds no picture. invert: the paper's "
                    "DDIM inversion with the negative prompt (leave it empty), one call more per step; for eps and v "
                    "models, or where start_percent is above 0.",
                ),
                Float(
                    "start_percent", default=0.2, min=0.0, max=0.95, step=0.01,
                    tooltip="Where in the noise schedule later clips begin (0 noise, 1 clean); 0.1 to 0.4. Higher: "
                    "they hold to the last frame more and move less, in fewer steps. 0 with renoise, on flow models: "
                    "from noise alone.",
                ),
                Float(
                    "shared_noise", default=1.0, min=0.0, max=10.0, step=0.05,
                    tooltip="How much noise a later clip's frames share with its first one, fading over the clip "
                    "(dynamic noise); 0 to 3, the paper has 1. More: stiller. 0: each frame has its own.",
                ),
                Float(
                    "lfai", default=1000.0, min=0.0, max=2048.0, step=10.0,
                    tooltip="Last-frame-aware inversion: pull of the clip's first frame to the last one before it "
                    "on the way back, with begin invert alone. 0: off; the paper has 1000.",
                ),
                Float(
                    "sgs", default=7.0, min=0.0, max=30.0, step=0.5,
                    tooltip="Structure-guided sampling: pull of each frame of a later clip to the one before it, at "
                    "every step; 0 to 15, the paper has 7. It adds up over a clip's frames: less for long clips. "
                    "0: off.",
                ),
                Combo(
                    "first_latent", options=list(FIRST_LATENT), default="anchor",
                    tooltip="Causal video VAEs give a clip's first latent frame one pixel frame only. anchor: a later "
                    "clip's first frame stands for the last one before it, and is dropped. as_is: whole clips one "
                    "after the other, as in the paper.",
                ),
            ],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, window_length):
        return verdict(cls, NODE, window_length=window_length)

    @classmethod
    @bounded(NODE)
    def execute(cls, window_length, begin, start_percent, shared_noise, lfai, sgs, first_latent) -> io.NodeOutput:
        try:
            return io.NodeOutput(MEVGSampler(
                window_length, begin=begin, start_percent=start_percent, shared_noise=shared_noise, lfai=lfai, sgs=sgs,
                first_latent=first_latent,
            ))  # fmt: skip
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error


NODES = [LongTakeMEVGSampler]
