"""The one place that names ComfyUI's node API version."""

from comfy_api.latest import ComfyExtension, io

__all__ = ["ComfyExtension", "io"]
