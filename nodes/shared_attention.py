"""DiTCtrl and Video-Infinity: windows attend to keys and values of other windows."""

from ..samplers.adapters.shared_attention import (
    DITCTRL,
    INFINITY,
    MOST_BIAS,
    MOST_FRAMES,
    apply_ditctrl,
    apply_video_infinity,
)
from ..samplers.adapters.video_attention import CACHES
from ..samplers.checks import part_of_schedule
from ..samplers.ditctrl import LAYERS, PART
from ..samplers.layers import MOST_LAYERS, layer_order
from ..samplers.video_infinity import BIAS, FRAMES, THRESHOLD
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float

MODELS = (
    "A video model: Wan 2.1 or 2.2, LTX-Video, HunyuanVideo or 1.5, Mochi, Cosmos Predict2, CogVideoX or Kandinsky 5."
)


def layers(first: int, last: int, most: str) -> list:
    return [
        io.Int.Input(
            "first_layer", default=first, min=-MOST_LAYERS, max=MOST_LAYERS,
            tooltip=f"First attention layer that shares, counted from 0 in the order the model runs them; negative: "
            f"from the end, -1 the last. {most}",
        ),
        io.Int.Input(
            "last_layer", default=last, min=-MOST_LAYERS, max=MOST_LAYERS,
            tooltip="Last attention layer that shares; -1: the model's last. Fewer layers: less memory, less likeness.",
        ),
    ]  # fmt: skip


def part(start: float, end: float, most: str) -> list:
    return [
        Float(
            "start_percent", default=start, min=0.0, max=1.0, step=0.01,
            tooltip="Fraction of the noise schedule at which sharing begins; 0: from pure noise.",
        ),
        Float(
            "end_percent", default=end, min=0.0, max=1.0, step=0.01,
            tooltip=f"Fraction of the noise schedule at which sharing ends; 1: the last step. {most}",
        ),
    ]  # fmt: skip


def cache(what: str) -> Combo:
    return Combo(
        "cache", options=list(CACHES), default="auto",
        tooltip=f"Where {what}. gpu: fastest; cpu: system memory, copied per layer; auto: gpu where it fits, else cpu. "
        "The log says the size.",
    )  # fmt: skip


class LongTakeDiTCtrl(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeDiTCtrl",
            display_name="Neighbour Attention (DiTCtrl)",
            category="LongTake",
            **described(
                "Draws each window out of the one before it: in late layers and early steps it attends to that "
                "window's keys and values in place of its own, so that a subject goes on from prompt to prompt "
                "(DiTCtrl). Needs the Global/Local Window Scheduler on the same model.",
                "consistency", "transition", "several prompts", "multi prompt", "kv sharing", "long video",
            ),
            inputs=[
                io.Model.Input("model", tooltip=MODELS),
                *layers(*LAYERS, "-5: the last five, the paper's 25 to 29 of 30."),
                *part(*PART, "The paper: steps 2 to 24 of 50, 0.03 to 0.49. Steps in it cost nearly twice as much."),
                cache("a window's keys and values wait for the next window"),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, end_percent):
        return verdict(cls, DITCTRL, part_of_schedule, layer_order, end_percent=end_percent)

    @classmethod
    @bounded(DITCTRL)
    def execute(cls, model, first_layer, last_layer, start_percent, end_percent, cache) -> io.NodeOutput:
        return io.NodeOutput(apply_ditctrl(model, first_layer, last_layer, start_percent, end_percent, cache))


class LongTakeVideoInfinity(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeVideoInfinity",
            display_name="Dual-Scope Attention (Video-Infinity)",
            category="LongTake",
            **described(
                "Lets every window attend to frames spread over the whole video beside its own: first, at high noise, "
                "to the spread ones above all, then to its own (Video-Infinity). One window more per step. Needs the "
                "Global/Local Window Scheduler on the same model.",
                "consistency", "global attention", "key frames", "long video", "drift",
            ),
            inputs=[
                io.Model.Input("model", tooltip=MODELS),
                io.Int.Input(
                    "global_frames", default=FRAMES, min=0, max=MOST_FRAMES,
                    tooltip="Latent frames, spread evenly over the video, that every window attends to; at most as "
                    "many as a window has. 0: off; paper 16. Memory grows with them.",
                ),
                Float(
                    "bias", default=BIAS, min=0.0, max=MOST_BIAS, step=0.1,
                    tooltip="Added to the logits of the spread frames from the threshold up, to those of the window's "
                    "own frames below it. 0: both count alike; paper 10, which lets the other ones hardly be heard. "
                    "Useful: 0 to 10.",
                ),
                Float(
                    "threshold", default=THRESHOLD, min=0.0, max=1000.0, step=1.0,
                    tooltip="Training timestep (0 to 1000; flow models: 1000 x sigma) from which up the spread frames "
                    "have the bias. Paper 800, for several prompts 850. 1000: hardly ever.",
                ),
                io.Boolean.Input(
                    "logit_scale", default=False,
                    tooltip="Multiply logits by log(keys) / log(keys of one window), so that more keys do not make "
                    "attention flatter. Paper: off.",
                ),
                *layers(0, -1, "Paper: all."),
                *part(0.0, 1.0, "Paper: all."),
                cache("the spread frames' keys and values wait for the windows of the step"),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, end_percent):
        return verdict(cls, INFINITY, part_of_schedule, layer_order, end_percent=end_percent)

    @classmethod
    @bounded(INFINITY)
    def execute(
        cls, model, global_frames, bias, threshold, logit_scale, first_layer, last_layer, start_percent, end_percent,
        cache,
    ) -> io.NodeOutput:  # fmt: skip
        return io.NodeOutput(apply_video_infinity(
            model, global_frames, bias, threshold, logit_scale, first_layer, last_layer, start_percent, end_percent,
            cache,
        ))  # fmt: skip


NODES = [LongTakeDiTCtrl, LongTakeVideoInfinity]
