"""ABAM: every window attends partly to the first window's keys and values."""

from ..samplers.adapters.attention import CACHES, NODE, apply_anchor
from ..samplers.checks import part_of_schedule
from ..samplers.layers import layer_order
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float


class LongTakeABAM(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeABAM",
            display_name="Anchor Attention (ABAM)",
            category="LongTake",
            **described(
                "Keeps subject and scene the same along a long video: in each window's self-attention, keys and "
                "values are blended with those of the first window (GLC-Diffusion, Eq. 10). Needs the Global/Local "
                "Window Scheduler on the same model.",
                "consistency", "consistent character", "drift", "long video", "GLC",
            ),
            inputs=[
                io.Model.Input(
                    "model", tooltip="A video model: Wan 2.1 or 2.2, LTX-Video, HunyuanVideo or 1.5, Mochi, Cosmos "
                    "Predict2 or CogVideoX.",
                ),
                Float(
                    "anchor", default=0.1, min=0.0, max=1.0, step=0.01,
                    tooltip="Weight of the first window's keys and values, as a fraction. 0: off; 0.1: the paper's "
                    "text; 0.9: its Eq. 10 as printed, which nearly repeats the first window. Useful: 0.05 to 0.5.",
                ),
                io.Int.Input(
                    "first_layer", default=0, min=0, max=1000,
                    tooltip="First attention layer that is anchored, counted from 0 in the order the model runs them.",
                ),
                io.Int.Input(
                    "last_layer", default=-1, min=-1, max=1000,
                    tooltip="Last attention layer that is anchored; -1: the model's last. Fewer layers: less memory, "
                    "a weaker hold.",
                ),
                Float(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Fraction of the noise schedule at which anchoring begins; 0: from pure noise.",
                ),
                Float(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Fraction of the noise schedule at which anchoring ends; 1: the last step. 0.3 to 0.6 "
                    "anchors layout and colours and leaves details free.",
                ),
                Combo(
                    "cache", options=list(CACHES), default="auto",
                    tooltip="Where the first window's keys and values wait for the other windows of the step. gpu: "
                    "fastest; cpu: system memory, copied per layer; recompute: nothing is kept, the first window runs "
                    "again in every call (at least two windows to a call); auto: the first of these that fits into "
                    "free memory. The log says the size.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, end_percent):
        return verdict(cls, NODE, part_of_schedule, layer_order, end_percent=end_percent)

    @classmethod
    @bounded(NODE)
    def execute(cls, model, anchor, first_layer, last_layer, start_percent, end_percent, cache) -> io.NodeOutput:
        return io.NodeOutput(apply_anchor(model, anchor, first_layer, last_layer, start_percent, end_percent, cache))


NODES = [LongTakeABAM]
