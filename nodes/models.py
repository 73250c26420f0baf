"""Models: the embedded demo model, and CogVideoX from diffusers' files."""

from ..backbone.cogvideox import load as cogvideox
from ..backbone.cogvideox.files import IN_FOLDER, model_folders, single_files
from ..backbone.demo import loader
from ._api import io
from ._search import described
from ._widgets import Combo


class DemoBackbone(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeDemoBackbone",
            display_name="Demo Video Model",
            category="LongTake",
            **described(
                "A tiny text-to-video model that comes with the pack (nothing to download), in Wan 2.1's own "
                "format. It knows a small world: 'a red circle bouncing on a navy background'. Colours: red, green,"
                " blue, yellow, purple, orange, white, cyan. Shapes: circle, square, triangle, ring. Motions: "
                "still, bouncing, circling, sliding, pulsing, spinning. Backgrounds: black, gray, navy, teal, "
                "brown, pink. Made for 64x64 pixels and clips of 49 frames at 16 fps; use it to learn the nodes and"
                " compare settings in seconds.",
                "example model", "test model", "tiny model",
            ),
            inputs=[],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Clip.Output(display_name="clip"),
                io.Vae.Output(display_name="vae"),
            ],
        )

    @classmethod
    def execute(cls):
        return io.NodeOutput(loader.load_model(), loader.load_clip(), loader.load_vae())


class LongTakeCogVideoXLoader(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeCogVideoXLoader",
            display_name="Load CogVideoX (diffusers)",
            category="LongTake",
            **described(
                "Loads CogVideoX-2B, 5B, 1.5-5B and their I2V variants from files you already have, with diffusers'"
                " own network and VAE, and with the noise schedule that KSampler needs. Nothing is downloaded. "
                "Needs the Python package diffusers.",
                "CogVideoX", "diffusers model", "text to video", "image to video",
            ),
            inputs=[
                Combo(
                    "model", options=[*model_folders(), *single_files("diffusion_models")],
                    tooltip="A diffusers folder under models/diffusers (with transformer, vae, text_encoder and "
                    "scheduler in it), or a CogVideoX transformer in diffusion_models. Safetensors only.",
                ),
                Combo(
                    "vae", options=[IN_FOLDER, *single_files("vae")], default=IN_FOLDER,
                    tooltip="The CogVideoX VAE: from the model folder, or a file in models/vae.",
                ),
                Combo(
                    "text_encoder", options=[IN_FOLDER, *single_files("text_encoders")], default=IN_FOLDER,
                    tooltip="The T5-XXL encoder: from the model folder, or a file in models/text_encoders that you "
                    "have for another model, e.g. t5xxl_fp16.safetensors.",
                ),
                Combo(
                    "weight_dtype", options=list(cogvideox.DTYPES), default="default",
                    tooltip="How the transformer's weights are kept. default: fp16 for 2B and bf16 for 5B where the "
                    "GPU can, as they were trained. fp8 takes half the memory and changes the picture a little.",
                ),
            ],
            outputs=[
                io.Model.Output(display_name="model"),
                io.Clip.Output(display_name="clip"),
                io.Vae.Output(display_name="vae"),
            ],
        )  # fmt: skip

    @classmethod
    def execute(cls, model, vae, text_encoder, weight_dtype) -> io.NodeOutput:
        return io.NodeOutput(*cogvideox.load(model, vae, text_encoder, weight_dtype))


NODES = [DemoBackbone, LongTakeCogVideoXLoader]
