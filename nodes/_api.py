"""The one place that names ComfyUI's node API version."""

from comfy_api.latest import ComfyExtension, InputImpl, io, ui

__all__ = ["ComfyExtension", "InputImpl", "io", "ui"]
