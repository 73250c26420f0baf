"""ComfyUI-LongTake: long, coherent, multi-event videos from short-clip video models."""

from .nodes import comfy_entrypoint
from .nodes.routes import register, timeline, windows

WEB_DIRECTORY = "./web"

for route in (windows, timeline):
    register(route.PATH, route.handle)

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
