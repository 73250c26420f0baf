"""The pack's nodes, as one ComfyUI extension."""

from ._api import ComfyExtension
from .backbone import NODES as BACKBONE
from .timeline import NODES as TIMELINE
from .windows import NODES as WINDOWS


class LongTakeExtension(ComfyExtension):
    async def get_node_list(self):
        return [*WINDOWS, *TIMELINE, *BACKBONE]


async def comfy_entrypoint() -> ComfyExtension:
    return LongTakeExtension()
