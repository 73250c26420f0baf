"""ComfyUI-LongTake: long, coherent, multi-event videos from short-clip video models."""

from .nodes import comfy_entrypoint
from .nodes._checks import remember
from .nodes.routes import before_checks, register, timeline, windows

WEB_DIRECTORY = "./web"

for route in (windows, timeline):
    register(route.PATH, route.handle)
before_checks(remember)

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
