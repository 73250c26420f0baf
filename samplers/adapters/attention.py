"""ABAM in ComfyUI's attention (adapter of glc/anchors.py): blends keys and values as they come (video_attention.py).

A path hook of the engine; nothing is kept beyond the path. Where the anchor window's keys and values wait for the other
windows is anchor_store.py.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange

from ..checks import held, number, part_of_schedule
from ..glc.anchors import blend_
from ..layers import MOST_LAYERS
from .anchor_store import STORES
from .hooks import Call, Evaluation
from .video_attention import Forward, attach, budgeted, decided, installed, layer_bytes, needs_windows, prompts_of
from .video_tokens import layout_of
from .window import ContextWindow, window_frames

NODE = "Anchor Attention (LongTakeABAM)"
HOOK = "longtake_abam"  # its name among the path hooks
CACHES = ("auto", "gpu", "cpu", "recompute")


def anchored_layers(first_layer: int, last_layer: int) -> None:
    """A range of layers with one in it at least."""
    if 0 <= last_layer < first_layer:
        raise ValueError(
            f"first_layer ({first_layer}) must not be larger than last_layer ({last_layer}), or no layer is anchored; "
            f"last_layer -1 is the model's last"
        )


@dataclass(frozen=True)
class AnchorSettings:
    """a = weight of the anchor window; layers first_layer..last_layer (-1 = the last one) of the model's video
    attention, counted in the order they run; active while sigma_end <= sigma <= sigma_start; cache one of CACHES.
    Raises ValueError for values out of bounds or out of order."""

    a: float
    first_layer: int = 0
    last_layer: int = -1
    sigma_start: float = math.inf
    sigma_end: float = 0.0
    cache: str = "auto"

    def __post_init__(self):
        bounds = {"first_layer": (0, MOST_LAYERS, True), "last_layer": (-1, MOST_LAYERS, True), "sigma_end": (0.0,)}
        held(self, bounds, {"cache": CACHES})
        number("anchor", self.a, 0.0, 1.0)
        if self.sigma_start != math.inf:
            number("sigma_start", self.sigma_start, self.sigma_end)
        anchored_layers(self.first_layer, self.last_layer)

    def covers(self, layer: int) -> bool:
        return self.first_layer <= layer and (self.last_layer < 0 or layer <= self.last_layer)

    def layers(self, total: int) -> int:
        """How many of `total` layers are anchored."""
        return max((min(self.last_layer + 1, total) if self.last_layer >= 0 else total) - self.first_layer, 0)


@dataclass(frozen=True)
class AnchorHook:
    """The engine's path hook."""

    settings: AnchorSettings
    node, spreads = NODE, True

    @property
    def least_windows(self) -> int:
        return 2 if self.settings.cache == "recompute" else 1

    def begin_path(
        self, evaluation: Evaluation, windows: list[ContextWindow], entries: Callable[[], int], limit: int
    ) -> "AnchorPath | None":
        if len(windows) < 2 or not self.active(float(evaluation.sigma)):
            return None
        store = self._store(evaluation, windows[0], entries, limit)
        if store not in STORES and len({window.ahead for window in windows}) > 1:
            raise ValueError(
                f"{NODE}: cache: recompute does not go together with first_latent: anchor of the window scheduler, "
                f"whose later windows are one frame longer; use gpu or cpu"
            )
        return AnchorPath(self.settings, evaluation.model.diffusion_model, store)

    def repeats(
        self, sigmas: list[float], evaluation: Evaluation, windows: list[ContextWindow], entries: Callable[[], int],
        limit: int,
    ) -> list[bool]:  # fmt: skip
        active = [self.active(sigma) for sigma in sigmas]
        again = any(active) and self._store(evaluation, windows[0], entries, limit) not in STORES
        return [on and again for on in active]

    def asks(self, sigma: float, windows: int, around: bool) -> int:
        return windows

    def active(self, sigma: float) -> bool:
        return self.settings.sigma_end <= sigma <= self.settings.sigma_start

    def memory(self, model, shape: list[int]) -> int:
        size, layers = self._size(model.model, shape)
        return budgeted(self.settings.cache, "recompute", size, layers, model.load_device)

    def _size(self, model, shape: list[int]) -> tuple[int, int]:
        """Bytes of a layer, and how many layers."""
        layout = layout_of(model.diffusion_model)
        return layer_bytes(model, layout, shape), self.settings.layers(layout.layers(model.diffusion_model))

    def _store(self, evaluation: Evaluation, window: ContextWindow, entries: Callable[[], int], limit: int) -> str:
        """Where the anchor of this run is kept: decided, and said in the log, once."""

        def decide():
            x, count = evaluation.x, entries()
            shape = [x.shape[0] * count, x.shape[1], window.context_length, *x.shape[3:]]
            size, layers = self._size(evaluation.model, shape)
            what = "ABAM: the anchor window's keys and values"
            return decided(self.settings.cache, "recompute", size * layers, evaluation, window, count, limit, what)

        return evaluation.run.once(HOOK, decide)


class AnchorPath:
    """The anchor's keys and values for the windows of one path at one step."""

    asked = None
    apart = (
        f"{NODE}: cache: recompute runs the anchor window beside the others, but the windows' conditioning differs too "
        f"much for one call (e.g. ControlNet); use gpu or cpu"
    )

    def __init__(self, settings: AnchorSettings, diffusion_model, store: str):
        self.settings, self.model = settings, diffusion_model
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
        if not self.partial and self.path.settings.covers(layer):
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
                        blend_(w[i], a, self.path.settings.a)


def own(t: torch.Tensor) -> torch.Tensor:
    """Keys or values that may be written to: the model made them for this call. A copy where their values share memory,
    as expanded heads do, or where autograd watches."""
    shared = any(stride == 0 and size > 1 for stride, size in zip(t.stride(), t.shape, strict=True))
    return t.clone(memory_format=torch.contiguous_format) if shared or t.requires_grad else t


def apply_anchor(model, a: float, first_layer: int, last_layer: int, start_percent: float, end_percent: float,
                 cache: str):  # fmt: skip
    """A clone of the ModelPatcher whose windows are anchored (see AnchorSettings); a = 0 adds nothing.

    start_percent, end_percent: fractions of the noise schedule. Raises ValueError for settings that make no sense and
    for a model that is not known.
    """
    try:
        part_of_schedule(start_percent, end_percent)
        sampling = model.get_model_object("model_sampling")
        begin, end = (float(sampling.percent_to_sigma(percent)) for percent in (start_percent, end_percent))
        settings = AnchorSettings(a, first_layer, last_layer, begin, end, cache)
        layout_of(model.get_model_object("diffusion_model"))
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error
    if a == 0:
        return model.clone()
    return installed(model, HOOK, AnchorHook(settings), needs_windows(NODE, HOOK, alone=False))
