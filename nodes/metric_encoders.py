"""Encoders for metrics: CLIP and DINO from the user's own files."""

from pathlib import Path

import folder_paths

from ..samplers.adapters import metric_encoders
from ..samplers.adapters.model_folders import inside
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo

NODE = "Load Metric Encoder (LongTakeLoadMetricEncoder)"
CATEGORY = "longtake_metrics"  # of ComfyUI's model folders; extra_model_paths.yaml may add to it
NO_FOLDER = "(none)"
HELP = (
    "put a CLIP, DINO or DINOv2 model with its config.json, its safetensors and, for CLIP, its tokenizer's files into "
    "a folder of its own in models/metrics (e.g. openai/clip-vit-base-patch32, facebook/dino-vitb16 or "
    "facebook/dinov2-base) and press R, or link a CLIP_VISION"
)
Encoder = io.Custom("LONGTAKE_ENCODER")

folder_paths.add_model_folder_path(CATEGORY, str(Path(folder_paths.models_dir) / "metrics"))


def bases() -> list[Path]:
    return list(map(Path, folder_paths.get_folder_paths(CATEGORY)))


def folders() -> list[str]:
    """The folders in models/metrics, broken ones included."""
    return sorted({p.name for base in bases() if base.is_dir() for p in base.iterdir()
                   if p.is_dir() and not p.name.startswith(".")})  # fmt: skip


def find(name: str) -> Path:
    """The folder called `name`, one of folders() and so a plain name. Raises ValueError."""
    found = [base / name for base in bases() if name in folders() and (base / name).is_dir()]
    if not found:
        raise ValueError(f"folder: there is none called {name} in {' or '.join(map(str, bases()))}; {HELP}")
    try:
        for path in (found[0], *found[0].iterdir()):
            inside(path, CATEGORY)
    except ValueError as error:
        raise ValueError(f"folder: {error}") from error
    return found[0]


class LongTakeLoadMetricEncoder(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeLoadMetricEncoder",
            display_name="Load Metric Encoder",
            category="LongTake/metrics",
            **described(
                "An encoder of frames, for metrics of consistency and of prompt fidelity, from files you already have. "
                "DINO ViT-B/16 and CLIP ViT-B/32 are those of VBench's subject and background consistency. Nothing is "
                "downloaded.",
                "CLIP score", "DINO", "VBench", "subject consistency", "background consistency", "feature extractor",
            ),
            inputs=[
                Combo(
                    "folder", options=[*folders(), NO_FOLDER],
                    tooltip="A folder in models/metrics: a CLIP, DINO (v1) or DINOv2 model in transformers' format, "
                    "config.json and model.safetensors; for prompts, CLIP with its tokenizer. (none): no encoder, and "
                    "what needs one is left out.",
                ),
                io.ClipVision.Input(
                    "clip_vision", optional=True,
                    tooltip="From Load CLIP Vision. If linked it is used, and the folder is not looked at. It has no "
                    "text encoder, so prompts cannot be measured with it.",
                ),
            ],
            outputs=[Encoder.Output(display_name="encoder")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, folder):
        found = verdict(cls, NODE, folder=folder)
        return found if found is True else f"{found}; {HELP}"

    @classmethod
    @bounded(NODE)
    def execute(cls, folder, clip_vision=None) -> io.NodeOutput:
        try:
            if clip_vision is not None:
                return io.NodeOutput(metric_encoders.from_clip_vision(clip_vision))
            if folder == NO_FOLDER:
                return io.NodeOutput(None)
            return io.NodeOutput(metric_encoders.from_folder(find(folder)))
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error


NODES = [LongTakeLoadMetricEncoder]
