"""One window as core's IndexListContextWindow, and the weights of its frames (used by engine.py)."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from comfy import context_windows as core
from comfy.context_windows import IndexListContextHandler, IndexListContextWindow

from .. import fusion
from ..windows import Window, WindowSettings
from .latents import DIM

# Core before the causal window fix: windows know neither the video's length nor an anchor, controls one modality.
NEW_CORE = "causal_window_fix" in inspect.signature(IndexListContextHandler.__init__).parameters


class ContextWindow(IndexListContextWindow):
    """Core's window, with the path it belongs to and frames in front of its own, whose predictions are dropped.

    anchor: the frame before it (core's causal window fix); references: how many frames at the start of the latent every
    window has in front (see references.py). A window that begins with these has them as its own. dim: the frame axis
    of what core cuts (see frame_batch.py).
    """

    def __init__(self, window: Window, *, frames: int, overlap: int, path: str = "local", anchor: int | None = None,
                 references: int = 0, dim: int = DIM):
        front = list(range(references)) if window.indices[0] >= references else []
        if front and anchor is not None:  # core would put it before the references
            front.append(anchor)
        extra = {"total_frames": frames, "context_overlap": overlap} if NEW_CORE else {}
        super().__init__([*front, *window.indices], dim=dim, **extra)
        self.window, self.path, self.frames = window, path, frames
        self.references, self.anchor = references, anchor
        if anchor is not None and not front:
            self.causal_anchor_index = anchor
        self.dropped = max(len(front), int(anchor is not None))
        self.ahead = references + int(anchor is not None)  # frames that the model sees before the video's own

    def get_tensor(self, full: torch.Tensor, device=None, dim=None, **kwargs) -> torch.Tensor:
        dim = self.dim if dim is None else dim
        # core's retain, and its rule for tensors without frames
        if any(kwargs.values()) or (dim == 0 and (self.dim != 0 or full.shape[0] == 1)):
            return super().get_tensor(full, device, dim, **kwargs)
        return fusion.frames_of(full, dim, window_frames(self)).to(device)  # views: core copies, over an index


@dataclass(frozen=True)
class VideoFrames:
    """What a window shows of a video of `total` frames (None: no closed loop): its own frames, counted from the video's
    start, and what stands before them: how many references, and the anchor frame."""

    indices: Sequence[int]
    references: int = 0
    anchor: int | None = None
    total: int | None = None

    @classmethod
    def of(cls, window) -> "VideoFrames":
        if not isinstance(window, ContextWindow):  # core's loop makes its own
            anchor = getattr(window, "causal_anchor_index", None)
            return cls(window.index_list, anchor=None if anchor is None or anchor < 0 else anchor)
        count = window.references
        own = [i - count for i in window.window.indices if i >= count]
        return cls(own, count, None if window.anchor is None else window.anchor - count, window.frames - count)


def window_frames(window) -> list[int]:
    """The latent frames that the model sees in a window, in their order, those in front among them."""
    anchor = getattr(window, "causal_anchor_index", None)
    return list(window.index_list) if anchor is None or anchor < 0 else [anchor, *window.index_list]


def context_window(
    window: Window, settings: WindowSettings, path: str, frames: int, references: int, dim: int = DIM
) -> ContextWindow:
    """A window over the latent of `frames` frames, the first of which are `references`, as the model is to see it."""
    anchor, first = None, window.indices[0]
    if settings.first_latent == "anchor" and first > references:
        # The frame before a local window; for a dilated one the frame before is no neighbour, so the true first.
        anchor = first - 1 if path == "local" else references
    elif settings.first_latent == "anchor" and settings.closed_loop and path == "local" and first == references:
        anchor = frames - 1
    return ContextWindow(
        window, frames=frames, overlap=settings.overlap, path=path, anchor=anchor, references=references, dim=dim
    )


def window_weights(settings: WindowSettings, window: Window, frames: int, handler) -> list[float]:
    """A local window's fuse weights; frames: of the video. On a closed loop no window is at an end."""
    indices = window.indices
    if settings.closed_loop:
        frames, indices = len(indices) + 2, range(1, len(indices) + 1)
    return fuse_weights(settings.fuse, len(indices), frames, indices, settings.overlap, handler=handler)


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
