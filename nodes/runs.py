"""Long runs that survive: kept on the disk and resumed, and what a run has predicted so far as a LATENT."""

import torch

from ..samplers.adapters import progress
from ..samplers.adapters.checkpoint import NODE, CheckpointSettings, apply_checkpoint, keep
from ..samplers.adapters.run_files import Unreadable
from ..samplers.adapters.run_folders import kept_runs, latent_of, run_names
from ._api import io
from ._checks import bounded
from ._search import described
from ._widgets import Combo, Float

LOAD = "Load Run (LongTakeLoadRun)"
NEWEST = "newest"


def limits(prefix: str = "", **extra) -> list:
    """The widgets of the limits of what is kept."""
    return [
        Float(
            f"{prefix}keep_gb", default=20.0, min=0.01, max=100000.0, step=1.0, round=False, **extra,
            tooltip="Gigabytes of all kept runs together; the oldest are deleted when a run begins. 5 to 100. A run "
            "holds 10 to 20 times its latent.",
        ),
        Float(
            f"{prefix}keep_days", default=14.0, min=0.01, max=3650.0, step=1.0, round=False, **extra,
            tooltip="Days after which a kept run is deleted, when another one begins; 1 to 60.",
        ),
    ]  # fmt: skip


def every_input() -> io.Int.Input:
    return io.Int.Input(
        "every", default=1, min=1, max=1000,
        tooltip="Steps between two states on the disk; 1 to 5. After a kill or a crash at most these are lost, after "
        "cancel or an error none.",
    )  # fmt: skip


class LongTakeCheckpoint(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeCheckpoint",
            display_name="Checkpoint (resume)",
            category="LongTake",
            **described(
                "Keeps a sampling run in ComfyUI's output folder. The same graph queued again resumes it where "
                "it was cancelled, failed or killed: the video is bit for bit the uninterrupted one.",
                "resume", "save progress", "interrupted", "crash", "cancelled",
            ),
            inputs=[
                io.Sampler.Input(
                    "sampler", tooltip="From KSamplerSelect, VMCR Refiner or SynCoS Sampler; this node comes last."
                ),
                every_input(),
                *limits(),
            ],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )

    @classmethod
    @bounded(NODE)
    def execute(cls, sampler, every, keep_gb, keep_days) -> io.NodeOutput:
        return io.NodeOutput(keep(sampler, CheckpointSettings(every, keep_gb, keep_days)))


class LongTakeCheckpointModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeCheckpointModel",
            display_name="Checkpoint for KSampler",
            category="LongTake",
            description="Checkpoint (resume) for KSampler and every other node that samples this model: their runs are "
            "kept and resumed.",
            inputs=[io.Model.Input("model", tooltip="Any model, at any place in its chain."), every_input(), *limits()],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    @bounded(NODE)
    def execute(cls, model, every, keep_gb, keep_days) -> io.NodeOutput:
        return io.NodeOutput(apply_checkpoint(model, CheckpointSettings(every, keep_gb, keep_days)))


class LongTakeLoadRun(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeLoadRun",
            display_name="Load Run",
            category="LongTake",
            **described(
                "The video that a kept run has predicted so far, cancelled, failed or still running: to decode "
                "it as it is, or to go on from it.",
                "resume", "recover", "interrupted", "cancelled", "partial video",
            ),
            inputs=[
                Combo(
                    "run", options=[NEWEST, *run_names()], default=NEWEST,
                    tooltip="A run in output/longtake/runs, by the time it began; newest: the one that was sampled "
                    "last. Press R for new ones.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The predicted video, for VAE Decode."),
                io.Image.Output(display_name="preview", tooltip="Up to 16 of its frames, in rough colours, no VAE."),
                io.Int.Output(display_name="step", tooltip="Steps that were done."),
                io.String.Output(display_name="status", tooltip="Step, age and size; what could not be read."),
            ],
        )  # fmt: skip

    @classmethod
    def fingerprint_inputs(cls, run):
        return [(r.name, r.time) for r in kept_runs() if run in (NEWEST, r.name)][:1]

    @classmethod
    @bounded(LOAD)
    def execute(cls, run) -> io.NodeOutput:
        found = [r for r in kept_runs() if run in (NEWEST, r.name)]
        if not found:
            raise ValueError(f"{LOAD}: run ({run}): no run is kept in output/longtake/runs; sample with a Checkpoint")
        try:
            latents, preview = latent_of(found[0])
        except Unreadable as error:
            raise ValueError(f"{LOAD}: run ({found[0].name}): {error}") from error
        broken = [f"{what}; it is not used" for what in found[0].broken]
        report = "; ".join([f"{found[0].name}: {found[0].progress}", *broken])
        progress.show(report)
        return io.NodeOutput({"samples": together(latents)}, preview.float() / 255, found[0].state.step, report)


def together(latents: list[torch.Tensor]):
    """One tensor, or video and audio as ComfyUI nests them."""
    if len(latents) == 1:
        return latents[0]
    from comfy.nested_tensor import NestedTensor

    return NestedTensor(latents)


NODES = [LongTakeCheckpoint, LongTakeCheckpointModel, LongTakeLoadRun]
