"""ComfyUI-LongTake: long, coherent, multi-event videos from short-clip video models."""

from .nodes import comfy_entrypoint

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]
