"""The pack's nodes, as one ComfyUI extension."""

from . import abam, models, noise, prompts, syncos, video, vmcr, windows
from ._api import ComfyExtension


class LongTakeExtension(ComfyExtension):
    async def get_node_list(self):
        modules = (windows, noise, abam, vmcr, syncos, prompts, models, video)
        return [node for module in modules for node in module.NODES]


async def comfy_entrypoint() -> ComfyExtension:
    return LongTakeExtension()
