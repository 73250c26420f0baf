"""ComfyUI-LongTake: long, coherent, multi-event videos from short-clip video models."""

from .nodes import comfy_entrypoint, routes, timeline_route

WEB_DIRECTORY = "./web"

routes.register()
timeline_route.register()

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
