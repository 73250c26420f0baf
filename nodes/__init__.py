"""The pack's nodes, as one ComfyUI extension."""

from . import (
    abam,
    compare,
    fifo,
    keyframes,
    metric_encoders,
    metrics,
    mevg,
    models,
    noise,
    prompts,
    redo,
    runs,
    shared_attention,
    syncos,
    video,
    vmcr,
    windows,
    workers,
)
from ._api import ComfyExtension

MODULES = (
    windows, noise, abam, shared_attention, vmcr, syncos, prompts, models, runs, redo, keyframes, video, compare,
    metrics, metric_encoders, fifo, workers, mevg,
)  # fmt: skip


class LongTakeExtension(ComfyExtension):
    async def get_node_list(self):
        return [node for module in MODULES for node in module.NODES]


async def comfy_entrypoint() -> ComfyExtension:
    return LongTakeExtension()
