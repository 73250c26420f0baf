"""ABAM in ComfyUI's attention (adapter of glc/anchors.py): blends keys and values as they come (video_attention.py).

A path hook of the engine; nothing is kept beyond the path. Where the anchor window's keys and values wait for the other
windows is anchor_store.py.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange

from ..checks import number
from ..glc.anchors import blend_
from .anchor_store import STORES
from .hooks import Call, Evaluation
from .video_attention import CACHES as STORED
from .video_attention import AttentionHook, Forward, applied, attach, prompts_of
from .window import ContextWindow, window_frames

NODE = "Anchor Attention (LongTakeABAM)"
HOOK = "longtake_abam"  # its name among the path hooks
CACHES = (*STORED, "recompute")


@dataclass(frozen=True)
class AnchorHook(AttentionHook):
    """The engine's path hook. a: weight of the anchor window."""

    a: float
    node, key, what = NODE, HOOK, "ABAM: the anchor window's keys and values"
    caches, alone, spreads = CACHES, False, True

    def __post_init__(self):
        super().__post_init__()
        number("anchor", self.a, 0.0, 1.0)

    @property
    def least_windows(self) -> int:
        return 2 if self.cache == "recompute" else 1

    def begin_path(
        self, evaluation: Evaluation, windows: list[ContextWindow], entries: Callable[[], int], limit: int
    ) -> "AnchorPath | None":
        if len(windows) < 2 or not self.reach.active(float(evaluation.sigma)):
            return None
        store = self.store(evaluation, windows[0], entries, limit)
        if store not in STORES and len({window.ahead for window in windows}) > 1:
            raise ValueError(
                f"{NODE}: cache: recompute does not go together with first_latent: anchor of the window scheduler, "
                f"whose later windows are one frame longer; use gpu or cpu"
            )
        return AnchorPath(self, evaluation.model.diffusion_model, store)

    def repeats(
        self, sigmas: list[float], evaluation: Evaluation, windows: list[ContextWindow], entries: Callable[[], int],
        limit: int,
    ) -> list[bool]:  # fmt: skip
        active = [self.reach.active(sigma) for sigma in sigmas]
        again = any(active) and self.store(evaluation, windows[0], entries, limit) not in STORES
        return [on and again for on in active]

    def asks(self, sigma: float, windows: int, around: bool) -> int:
        return windows


class AnchorPath:
    """The anchor's keys and values for the windows of one path at one step."""

    asked = None
    apart = (
        f"{NODE}: cache: recompute runs the anchor window beside the others, but the windows' conditioning differs too "
        f"much for one call (e.g. ControlNet); use gpu or cpu"
    )

    def __init__(self, hook: AnchorHook, diffusion_model, store: str):
        self.hook, self.model = hook, diffusion_model
        self.kept = STORES[store]() if store in STORES else None
        self.companion, self.leads = (None, True) if self.kept is not None else (0, False)

    def begin_call(self, call: Call) -> None:
        skip = call.windows[0].ahead
        anchor = call.indices.index(0) if 0 in call.indices else None
        frames = len(window_frames(call.windows[0]))
        anchor_call = AnchorCall(len(call.indices), anchor, frames, skip, prompts_of(call))
        attach(call.options, HOOK, lambda *inputs: AnchorForward(self, anchor_call, *inputs))

    def end(self) -> None:
        if self.kept is not None:
            self.kept.clear()  # an error's traceback may hold this object


@dataclass(frozen=True)
class AnchorCall:
    """The windows of one model call: how many, where the anchor is among them (None: it ran before), their latent
    frames, how many of these stand before the video's own (see first_latent, references.py), and which prompt of its
    CFG branch each cond entry is, by uuid."""

    windows: int
    anchor: int | None
    frames: int
    skip: int
    parts: dict


class AnchorForward(Forward):
    """Blends the keys and values of one forward pass."""

    def __init__(self, path: AnchorPath, call: AnchorCall, x: torch.Tensor, *inputs):
        super().__init__(NODE, path.model, x, *inputs)
        self.path, self.call = path, call
        # A prompt with an area in time sees some of a window's frames, in each window others: no token has the same
        # place in the first one.
        self.partial = x.shape[-3] != call.frames
        if call.skip and self.patch[0] != 1:
            raise ValueError(
                f"{NODE}: a model that patches several latent frames together cannot use first_latent: anchor of the "
                f"window scheduler; set it to as_is"
            )

    def video(self, attention: Callable, layer: int, start: int, q, k, v, *args, **kwargs) -> torch.Tensor:
        if not self.partial and layer in self.path.hook.layers:
            k, v = own(k), own(v)
            self._blend(k, v, layer, start + self.call.skip * self.frame)
        return attention(q, k, v, *args, **kwargs)

    def _blend(self, k: torch.Tensor, v: torch.Tensor, layer: int, start: int) -> None:
        """Eq. 10 in place, on the video's tokens from `start` on. k, v: [entries x windows x videos, ..]."""
        call, kept = self.call, self.path.kept
        tokens = self.tokens - call.skip * self.frame
        count = len(self.branches)
        video = [rearrange(t, "(e w b) ... -> e w b ...", e=count, w=call.windows).narrow(-2, start, tokens)
                 for t in (k, v)]  # fmt: skip
        for *windows, branch, uuid in zip(*video, self.branches, self.uuids, strict=True):
            key = (branch, call.parts.get(uuid, 0), layer)
            if call.anchor is not None:
                anchor = [w[call.anchor] for w in windows]
                if kept is not None:
                    kept.put(key, anchor)
            else:
                anchor = kept.get(key, k.device)
                if anchor is None and not kept.has(key[:2]):
                    continue  # a prompt with an area in time that is not the first window's whole
                if anchor is None:
                    raise self.skipped(layer)
            for i in range(call.windows):
                if i != call.anchor:
                    for w, a in zip(windows, anchor, strict=True):
                        blend_(w[i], a, self.path.hook.a)


def own(t: torch.Tensor) -> torch.Tensor:
    """Keys or values that may be written to: the model made them for this call. A copy where their values share memory,
    as expanded heads do, or where autograd watches."""
    shared = any(stride == 0 and size > 1 for stride, size in zip(t.stride(), t.shape, strict=True))
    return t.clone(memory_format=torch.contiguous_format) if shared or t.requires_grad else t


def apply_anchor(model, a: float, first_layer: int, last_layer: int, start_percent: float, end_percent: float,
                 cache: str):  # fmt: skip
    """A clone of the ModelPatcher whose windows are anchored in these layers (see layers.Reach) and this part of the
    noise schedule (see applied); a = 0 adds nothing."""
    made = applied(model, AnchorHook, first_layer, last_layer, start_percent, end_percent, cache, a)
    return made if a != 0 else model.clone()
