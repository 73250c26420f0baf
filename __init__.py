"""ComfyUI-LongTake: long, coherent, multi-event videos from short-clip video models."""

from .nodes import _route, comfy_entrypoint, routes, timeline_route

WEB_DIRECTORY = "./web"

for module in (routes, timeline_route):
    _route.register(module.PATH, module.handle)

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
