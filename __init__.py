"""ComfyUI-LongTake: long, coherent, multi-event videos from short-clip video models."""

from .nodes import comfy_entrypoint, unpicked
from .nodes._checks import remember
from .nodes.routes import before_checks, register, runs, timeline, windows

WEB_DIRECTORY = "./web"

for route in (windows, timeline, runs):
    register(route.PATH, route.handle)
for handle in (remember, unpicked.notice):
    before_checks(handle)

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
