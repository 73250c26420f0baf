"""ABAM in ComfyUI's attention (adapter of glc/anchors.py): an attention override that lives for one path of one step.

A path hook of the engine: it puts the override into each call's own copy of the options, outermost, so that an override
that another pack put there, before or after, still gets every call. Nothing is kept beyond the path. Where the anchor
window's keys and values wait for the other windows is anchor_store.py.
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.model_management import get_free_memory as free_memory
from comfy.model_management import get_total_memory as total_memory
from comfy.patcher_extension import WrappersMP
from einops import rearrange

from ..checks import held, number, part_of_schedule
from ..glc.anchors import blend_
from . import progress
from .anchor_store import STORES, release_host_memory
from .engine import LongTakeContextHandler
from .hooks import PATH_HOOKS, Call, Evaluation
from .timeline import PART_KEY
from .video_tokens import Layout, layout_of
from .window import ContextWindow, window_frames

logger = logging.getLogger(__name__)

NODE = "Anchor Attention (LongTakeABAM)"
HOOK = "longtake_abam"  # its name among the path hooks
FORWARD = "longtake_abam_forward"  # key of the running forward pass in transformer_options
CACHES = ("auto", "gpu", "cpu", "recompute")
MOST_LAYERS = 1000


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


def layer_bytes(model, layout: Layout, shape: list[int]) -> int:
    """Bytes of one layer's keys and values of the video's tokens, for a latent of this shape (batch and entries in its
    first number). model: core's BaseModel."""
    net = model.diffusion_model
    tokens = math.prod(-(-n // p) for n, p in zip(shape[2:], layout.patch(net), strict=True))
    dtype = model.get_dtype() if model.manual_cast_dtype is None else model.manual_cast_dtype
    return 2 * shape[0] * tokens * layout.width(net) * dtype.itemsize


@dataclass(frozen=True)
class AnchorHook:
    """The engine's path hook."""

    settings: AnchorSettings
    node = NODE

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

    def active(self, sigma: float) -> bool:
        return self.settings.sigma_end <= sigma <= self.settings.sigma_start

    def memory(self, model, shape: list[int]) -> int:
        layout = layout_of(model.model.diffusion_model)
        size = layer_bytes(model.model, layout, shape)
        whole = size * self.settings.layers(layout.layers(model.model.diffusion_model))
        if self.settings.cache == "auto":  # half of the device at most: above, the weights need the room more
            return whole if whole <= total_memory(model.load_device) // 2 else 0
        return {"gpu": whole, "cpu": 2 * size, "recompute": 0}[self.settings.cache]

    def _store(self, evaluation: Evaluation, window: ContextWindow, entries: Callable[[], int], limit: int) -> str:
        """Where the anchor of this run is kept: decided, and said in the log, once."""
        return evaluation.run.once(HOOK, lambda: self._decide(evaluation, window, entries(), limit))

    def _decide(self, evaluation: Evaluation, window: ContextWindow, entries: int, limit: int) -> str:
        model, x = evaluation.model, evaluation.x
        layout = layout_of(model.diffusion_model)
        shape = [x.shape[0] * entries, x.shape[1], window.context_length, *x.shape[3:]]
        size = layer_bytes(model, layout, shape) * self.settings.layers(layout.layers(model.diffusion_model))
        store = self.settings.cache
        if store == "auto":
            ram = free_memory(torch.device("cpu")) // 2
            if x.device.type == "cpu":
                store = "gpu" if size <= ram else "recompute"
            else:
                call = model.memory_required([shape[0] * limit, *shape[1:]])
                store = "gpu" if size <= free_memory(x.device) - call else "cpu" if size <= ram else "recompute"
        where = {"gpu": f"kept on {x.device}", "cpu": "kept in memory", "recompute": "computed in every call"}
        with progress.above_bars():
            logger.info(
                "LongTake ABAM: the anchor window's keys and values, %.1f MB per step and path, are %s.",
                size / 2**20, where[store],
            )  # fmt: skip
        return store


class AnchorPath:
    """The anchor's keys and values for the windows of one path at one step."""

    apart = (
        f"{NODE}: cache: recompute runs the anchor window beside the others, but the windows' conditioning differs too "
        f"much for one call (e.g. ControlNet); use gpu or cpu"
    )

    def __init__(self, settings: AnchorSettings, diffusion_model, store: str):
        self.settings, self.model = settings, diffusion_model
        self.layout = layout_of(diffusion_model)
        self.kept = STORES[store]() if store in STORES else None
        self.companion, self.leads = (None, True) if self.kept is not None else (0, False)

    def begin_call(self, call: Call) -> None:
        skip = call.windows[0].ahead
        parts = {e["uuid"]: e[PART_KEY] for branch in call.conds if branch is not None for e in branch}
        anchor = call.indices.index(0) if 0 in call.indices else None
        frames = len(window_frames(call.windows[0]))
        anchor_call = AnchorCall(len(call.indices), anchor, frames, skip, parts)
        previous = call.options.get("optimized_attention_override")

        @torch.compiler.disable  # a traced pass would keep one window's keys for all
        def override(func, *args, **kwargs):
            forward = (kwargs.get("transformer_options") or {}).get(FORWARD)
            if forward is not None:
                args = forward.attention(*args)
            return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

        def apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kw):
            forward = Forward(self, anchor_call, x, c_crossattn, transformer_options, kw)
            transformer_options[FORWARD] = forward
            try:
                out = executor(x, t, c_concat, c_crossattn, control, transformer_options, **kw)
            finally:
                del transformer_options[FORWARD]
            forward.check()
            return out

        wrappers = call.options.get("wrappers", {})
        own = {**wrappers.get(WrappersMP.APPLY_MODEL, {}), HOOK: [apply_model]}
        call.options["optimized_attention_override"] = override
        call.options["wrappers"] = {**wrappers, WrappersMP.APPLY_MODEL: own}

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


class Forward:
    """One forward pass: counts the video attention layers as they run and blends their keys and values."""

    def __init__(self, path: AnchorPath, call: AnchorCall, x: torch.Tensor, context, options: dict, inputs: dict):
        """x: the model's latent; context: its text; options: transformer_options; inputs: the other conditioning."""
        self.path, self.call, self.layer = path, call, 0
        self.branches, self.uuids = options["cond_or_uncond"], options["uuids"]
        layout = path.layout
        self.order = layout.order(path.model)
        patch = layout.patch(path.model)
        t, h, w = (-(-n // p) for n, p in zip(x.shape[-3:], patch, strict=True))
        self.frame, self.tokens = h * w, t * h * w
        # A prompt with an area in time sees some of a window's frames, in each window others: no token has the same
        # place in the first one.
        self.partial = x.shape[-3] != call.frames
        if call.skip and patch[0] != 1:
            raise ValueError(
                f"{NODE}: a model that patches several latent frames together cannot use first_latent: anchor of the "
                f"window scheduler; set it to as_is"
            )
        reference = inputs.get(layout.reference)
        self.before = 0 if reference is None else reference[0, 0].numel() // (patch[1] * patch[2])
        self.text = 0 if context is None else context.shape[1]
        if self.order == "video" and self.text == self.tokens:
            raise ValueError(
                f"{NODE}: a window has as many video tokens as the prompt has text tokens ({self.text}), so that the "
                f"two kinds of attention cannot be told apart; change window_length by a few frames"
            )

    def _start(self, q: torch.Tensor, k: torch.Tensor) -> int | None:
        """Index of the first video token, or None for an attention that is not the video's own."""
        total = k.shape[-2]
        if q.shape[-2] != total:
            return None
        video = self.before + self.tokens
        if self.order == "video":
            return self.before if total == video else None
        if total < video + (self.text if self.path.layout.refiner else 0):
            return None
        return self.before if self.order == "video text" else total - self.tokens

    def attention(self, q, k, v, *args) -> tuple:
        """The arguments of an attention call, keys and values blended where it is the video's own."""
        start = self._start(q, k)
        if start is None:
            return (q, k, v, *args)
        layer = self.layer
        self.layer += 1
        if self.partial or not self.path.settings.covers(layer):
            return (q, k, v, *args)
        k, v = own(k), own(v)
        self._blend(k, v, layer, start + self.call.skip * self.frame)
        return (q, k, v, *args)

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
                    raise RuntimeError(
                        f"{NODE}: layer {layer} ran for a window but not for the first one; a patch that skips layers "
                        f"or conditioning per call does not go together with ABAM: turn one of them off"
                    )
            for i in range(call.windows):
                if i != call.anchor:
                    for w, a in zip(windows, anchor, strict=True):
                        blend_(w[i], a, self.path.settings.a)

    def check(self) -> None:
        """Raise if no attention of this pass was the video's own: the blend must not silently do nothing."""
        if self.layer == 0:
            raise RuntimeError(
                f"{NODE}: no self-attention over {self.before + self.tokens} video tokens was seen in "
                f"{type(self.path.model).__name__}; inputs that add tokens to the video (reference or guide frames, "
                f"audio) or patches that replace its attention do not go together with ABAM"
            )


def own(t: torch.Tensor) -> torch.Tensor:
    """Keys or values that may be written to: the model made them for this call. A copy where their values share memory,
    as expanded heads do, or where autograd watches."""
    shared = any(stride == 0 and size > 1 for stride, size in zip(t.stride(), t.shape, strict=True))
    return t.clone(memory_format=torch.contiguous_format) if shared or t.requires_grad else t


def _needs_windows(executor, model, noise_shape, *args, **kwargs):
    if not isinstance(kwargs["model_options"].get("context_handler"), LongTakeContextHandler):
        raise ValueError(
            f"{NODE}: the model has no LongTake windows, between which attention could be anchored; put a Global/Local "
            f"Window Scheduler (LongTakeWindowScheduler) on the same model, or bypass this node"
        )
    return executor(model, noise_shape, *args, **kwargs)


def _releases(executor, *args, **kwargs):
    try:
        return executor(*args, **kwargs)
    finally:
        release_host_memory()


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
    model = model.clone()
    if a == 0:
        return model
    options = model.model_options["transformer_options"] = {**model.model_options["transformer_options"]}
    options[PATH_HOOKS] = {**options.get(PATH_HOOKS, {}), HOOK: AnchorHook(settings)}
    for stage, wrapper in ((WrappersMP.PREPARE_SAMPLING, _needs_windows), (WrappersMP.OUTER_SAMPLE, _releases)):
        model.remove_wrappers_with_key(stage, HOOK)
        model.add_wrapper_with_key(stage, HOOK, wrapper)
    return model
