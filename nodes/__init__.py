"""The pack's nodes, as one ComfyUI extension."""

from ._api import ComfyExtension
from .abam import NODES as ABAM
from .backbone import NODES as BACKBONE
from .cogvideox import NODES as COGVIDEOX
from .event_hooks import NODES as EVENT_HOOKS
from .noise import NODES as NOISE
from .structured_prompt import NODES as STRUCTURED_PROMPT
from .syncos import NODES as SYNCOS
from .timeline import NODES as TIMELINE
from .vmcr import NODES as VMCR
from .windows import NODES as WINDOWS


class LongTakeExtension(ComfyExtension):
    async def get_node_list(self):
        return [
            *WINDOWS, *NOISE, *ABAM, *VMCR, *SYNCOS, *TIMELINE, *EVENT_HOOKS, *STRUCTURED_PROMPT, *BACKBONE, *COGVIDEOX,
        ]  # fmt: skip


async def comfy_entrypoint() -> ComfyExtension:
    return LongTakeExtension()
