"""The embedded demo model as a node."""

from ..backbone import loader
from ._api import io


class DemoBackbone(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeDemoBackbone",
            display_name="Demo Video Model",
            category="LongTake",
            description="A tiny text-to-video model that comes with the pack (nothing to download), in Wan 2.1's own "
            "format. It knows a small world: 'a red circle bouncing on a navy background'. Colours: red, green, blue, "
            "yellow, purple, orange, white, cyan. Shapes: circle, square, triangle, ring. Motions: still, bouncing, "
            "circling, sliding, pulsing, spinning. Backgrounds: black, gray, navy, teal, brown, pink. Made for 64x64 "
            "pixels and clips of 49 frames at 16 fps; use it to learn the nodes and compare settings in seconds.",
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


NODES = [DemoBackbone]
