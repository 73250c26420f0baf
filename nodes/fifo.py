"""FIFO-Diffusion: a queue of frames with rising noise, from which a video of any length leaves frame by frame."""

from ..samplers.adapters.fifo import NODE, FIFOSampler
from ..samplers.fifo import START
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo


class LongTakeFIFOSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeFIFOSampler",
            display_name="FIFO Sampler",
            category="LongTake",
            **described(
                "FIFO-Diffusion: the video leaves a queue of frames one by one, each made beside cleaner ones before "
                "it. For SamplerCustomAdvanced, any guider; Wan text to video, LTX-Video and Cosmos Predict2, without "
                "a Window Scheduler.",
                "long video", "infinite video", "diagonal denoising", "queue", "autoregressive",
            ),
            inputs=[
                io.Int.Input(
                    "window_length", default=81, min=1, max=16384,
                    tooltip="Pixel frames per model call: the clip length the model was trained on (Wan 81, LTX 97, "
                    "demo model 49). A video that is no longer is sampled with euler.",
                ),
                io.Int.Input(
                    "partitions", default=2, min=1, max=64,
                    tooltip="Parts n of the queue, each a clip long; 1 to 4, the paper's 4 (of 16 latent frames). Each "
                    "frame makes n x clip (in latent frames) steps: sigmas of another number are interpolated, and "
                    "must end at 0. 2 n calls for each new latent frame, n without lookahead.",
                ),
                io.Boolean.Input(
                    "lookahead", default=True,
                    tooltip="Each call makes a step of the noisier half of its frames only, beside cleaner ones "
                    "before them: twice the calls. Off: colours can fade with 1 partition.",
                ),
                Combo(
                    "start", options=list(START), default="clip",
                    tooltip="clip: the video's first frame is the first of every call that sees it. copies: the "
                    "paper's, with copies of that frame before it; with a causal VAE (as of Wan) the first frames come "
                    "out wrong.",
                ),
            ],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, window_length):
        return verdict(cls, NODE, window_length=window_length)

    @classmethod
    @bounded(NODE)
    def execute(cls, window_length, partitions, lookahead, start) -> io.NodeOutput:
        try:
            return io.NodeOutput(FIFOSampler(window_length, partitions, lookahead, start))
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error


NODES = [LongTakeFIFOSampler]
