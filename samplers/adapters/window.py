"""One window as core's IndexListContextWindow, and the weights of its frames (used by engine.py)."""

import inspect

import torch
from comfy import context_windows as core
from comfy.context_windows import IndexListContextHandler, IndexListContextWindow

from .. import fusion
from ..windows import Window
from .latents import DIM

# Core before the causal window fix: windows know neither the video's length nor an anchor, controls one modality.
NEW_CORE = "causal_window_fix" in inspect.signature(IndexListContextHandler.__init__).parameters


class ContextWindow(IndexListContextWindow):
    """Core's window, with the path it belongs to and an optional anchor frame in front (core's causal window fix)."""

    def __init__(self, window: Window, *, frames: int, overlap: int, path: str = "local", anchor: int | None = None):
        extra = {"total_frames": frames, "context_overlap": overlap} if NEW_CORE else {}
        super().__init__(list(window.indices), dim=DIM, **extra)
        self.window = window
        self.path = path
        if anchor is not None:
            self.causal_anchor_index = anchor

    @property
    def anchor(self) -> int | None:
        return getattr(self, "causal_anchor_index", None)

    def get_tensor(self, full: torch.Tensor, device=None, dim=None, **kwargs) -> torch.Tensor:
        dim = self.dim if dim is None else dim
        place = fusion.frames_slice(self.index_list) if self.anchor is None else None
        if place is not None and dim > 0 and not any(kwargs.values()):
            return full[(slice(None),) * dim + (place,)].to(device)  # a view: core copies, over an index on the device
        if NEW_CORE or self.anchor is None:
            return super().get_tensor(full, device, dim, **kwargs)
        return fusion.frames_of(full, dim, [self.anchor, *self.index_list]).to(device)


def fuse_weights(name: str, length: int, frames: int, indices, overlap: int, **kwargs) -> list[float]:
    """Weights of one window's positions: core's pyramid, flat and overlap-linear, our triangular and sine."""
    if name == "triangular":
        return fusion.triangular_weights(length)
    if name == "sine":
        return fusion.sine_weights(length)
    if name == "overlap-linear" and overlap == 0:  # nothing to blend; core's slice [-0:] would mean everything
        name = "flat"
    weights = core.get_matching_fuse_method(name).func(
        length, full_length=frames, idxs=indices, context_overlap=overlap, **kwargs
    )
    return [float(w) for w in weights]
