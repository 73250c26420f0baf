"""A method in the self-attention of a model's video: finds its calls, layer by layer, and where keys are to wait.

An override of core's attention that lives for one model call, put into the call's own options, outermost, so that an
override that another pack put there, before or after, still gets every call. What a method does there is its Forward;
how long its keys and values are kept is its path hook's (hooks.py).
"""

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.model_management import get_free_memory as free_memory
from comfy.model_management import get_total_memory as total_memory
from comfy.patcher_extension import WrappersMP

from ..checks import option, part_of_schedule
from ..layers import Reach
from . import progress
from .anchor_store import release_host_memory
from .call_options import compiled_apart, wrapped
from .engine import LongTakeContextHandler
from .event_attention import MASKED
from .hooks import PATH_HOOKS, Call, Evaluation
from .timeline import PART_KEY
from .video_tokens import Layout, layout_of
from .window import ContextWindow

logger = logging.getLogger(__name__)

CACHES = ("auto", "gpu", "cpu")
WHERE = {"gpu": "kept on {}", "cpu": "kept in memory", "recompute": "computed in every call"}


class Forward:
    """One forward pass of a call, whose video attention layers are counted as they run; `video` is the method's."""

    def __init__(self, node: str, model, x: torch.Tensor, context, options: dict, inputs: dict):
        """node: its name for messages; model: the diffusion model; x: its latent; context: its text; options:
        transformer_options; inputs: the other conditioning."""
        self.node, self.model, self.layer, self.layout = node, model, 0, layout_of(model)
        self.other = False  # whether the attention in use may drop masks
        self.branches, self.uuids = options["cond_or_uncond"], options["uuids"]
        self.order = self.layout.order(model)
        self.patch = patch = self.layout.patch(model)
        t, h, w = (-(-n // p) for n, p in zip(x.shape[-3:], patch, strict=True))
        self.frame, self.tokens = h * w, t * h * w
        reference = inputs.get(self.layout.reference)
        self.before = 0 if reference is None else reference[0, 0].numel() // (patch[1] * patch[2])
        self.text = 0 if context is None else context.shape[1]
        if self.order == "video" and self.text == self.tokens:
            raise ValueError(
                f"{node}: a window has as many video tokens as the prompt has text tokens ({self.text}), so that the "
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
        if total < video + (self.text if self.layout.refiner else 0):
            return None
        return self.before if self.order == "video text" else total - self.tokens

    def attention(self, attention: Callable, q, k, v, *args, **kwargs) -> torch.Tensor:
        """What an attention call returns. q, k, v: [rows, tokens, ..] or [rows, heads, tokens, ..]; args: core's heads,
        mask, .., by place or by name."""
        start = self._start(q, k)
        if start is None:
            return attention(q, k, v, *args, **kwargs)
        layer = self.layer
        self.layer += 1
        return self.video(attention, layer, start, q, k, v, *args, **kwargs)

    def video(self, attention: Callable, layer: int, start: int, q, k, v, *args, **kwargs) -> torch.Tensor:
        """The same for the video's own attention: its layer, counted from 0, and the first video token."""
        raise NotImplementedError

    def entries(self, rows: int, windows: int):
        """(CFG branch, uuid, [the rows of each of the call's windows]) of each cond entry."""
        videos = rows // (len(self.branches) * windows)
        for i, (branch, uuid) in enumerate(zip(self.branches, self.uuids, strict=True)):
            starts = [(i * windows + w) * videos for w in range(windows)]
            yield branch, uuid, [slice(start, start + videos) for start in starts]

    def check(self) -> None:
        """Raise if no attention of this pass was the video's own: the method must not silently do nothing."""
        if self.layer == 0:
            raise RuntimeError(
                f"{self.node}: no self-attention over {self.before + self.tokens} video tokens was seen in "
                f"{type(self.model).__name__}; inputs that add tokens to the video (reference or guide frames, audio) "
                f"or patches that replace its attention do not go together with this node"
            )

    def skipped(self, layer: int) -> RuntimeError:
        return RuntimeError(
            f"{self.node}: layer {layer} ran for a window but not for the one whose keys it needs; a patch that skips "
            f"layers or conditioning per call does not go together with this node: turn one of them off"
        )


def attach(options: dict, hook: str, make: Callable[..., Forward]) -> None:
    """Put a method into a call's transformer_options. hook: its name; make(x, context, options, inputs): a Forward."""
    key = f"{hook}_forward"  # of the running forward pass in transformer_options
    previous = options.get("optimized_attention_override")

    @torch.compiler.disable  # a traced pass would keep one window's keys for all
    def override(func, *args, **kwargs):
        forward = (kwargs.get("transformer_options") or {}).get(key)

        def attention(*args, **kwargs):
            return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

        if forward is None:
            return attention(*args, **kwargs)
        forward.other = previous is not None or func.__name__ not in MASKED
        return forward.attention(attention, *args, **kwargs)

    def apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kw):
        forward = make(x, c_crossattn, transformer_options, kw)
        transformer_options[key] = forward
        try:
            with compiled_apart():
                out = executor(x, t, c_concat, c_crossattn, control, transformer_options, **kw)
        finally:
            del transformer_options[key]
        forward.check()
        return out

    options.update(wrapped(options, WrappersMP.APPLY_MODEL, hook, apply_model), optimized_attention_override=override)


def mask_of(args: tuple, kwargs: dict) -> torch.Tensor | None:
    """The mask of an attention call."""
    return args[1] if len(args) > 1 else kwargs.get("mask")


def with_mask(args: tuple, kwargs: dict, mask: torch.Tensor | None) -> tuple[tuple, dict]:
    """The arguments of an attention call with this mask in place of its own."""
    if len(args) > 1:
        return (args[0], mask, *args[2:]), kwargs
    return args, (kwargs if mask is None and "mask" not in kwargs else {**kwargs, "mask": mask})


def rows_of(mask: torch.Tensor | None, rows: slice) -> torch.Tensor | None:
    """A mask's part for some rows of the batch; it may be the same for all."""
    return mask[rows] if mask is not None and mask.ndim > 2 and len(mask) > 1 else mask


def prompts_of(call: Call) -> dict:
    """Which prompt of its CFG branch each cond entry of a call is, by uuid."""
    return {e["uuid"]: e[PART_KEY] for branch in call.conds if branch is not None for e in branch}


def layer_bytes(model, layout: Layout, shape: list[int]) -> int:
    """Bytes of one layer's keys and values of the video's tokens, for a latent of this shape (batch and entries in its
    first number). model: core's BaseModel."""
    net = model.diffusion_model
    tokens = math.prod(-(-n // p) for n, p in zip(shape[2:], layout.patch(net), strict=True))
    dtype = model.get_dtype() if model.manual_cast_dtype is None else model.manual_cast_dtype
    return 2 * shape[0] * tokens * layout.width(net) * dtype.itemsize


def budgeted(cache: str, last: str, size: int, layers: int, device: torch.device) -> int:
    """Bytes to reserve on the device for what is kept of `layers` layers of `size` each; cache, last: as in decided."""
    whole = size * layers
    if cache == "auto":  # half of the device at most: above, the weights need the room more
        cache = "gpu" if whole <= total_memory(device) // 2 else last
    return {"gpu": whole, "cpu": min(2 * size, whole), "recompute": 0}[cache]


def decided(
    cache: str, last: str, size: int, evaluation: Evaluation, window: ContextWindow, entries: int, limit: int, what: str
) -> str:
    """Where keys and values of `size` bytes are kept, said in the log: `cache`, or what "auto" finds room for (`last`,
    where there is none). what: they are, and for what."""
    x, store = evaluation.x, cache
    if cache == "auto":
        ram = free_memory(torch.device("cpu")) // 2
        if x.device.type == "cpu":
            store = "gpu" if size <= ram else last
        else:
            shape = [x.shape[0] * entries * limit, x.shape[1], window.context_length, *x.shape[3:]]
            call = evaluation.model.memory_required(shape)
            store = "gpu" if size <= free_memory(x.device) - call else "cpu" if size <= ram else last
    with progress.above_bars():
        where = WHERE[store].format(x.device)
        logger.info("LongTake %s, %.1f MB per step and path, are %s.", what, size / 2**20, where)
    return store


@dataclass(frozen=True)
class AttentionHook:
    """What the path hooks of the methods have in common. layers: those in which a method acts; reach: the part of the
    schedule in which it does; cache: one of `caches`, the last of which takes the least memory."""

    layers: range
    reach: Reach
    cache: str
    node = key = what = ""  # the node, for messages; the hook's name; what is kept, and for what
    caches, alone = CACHES, True  # alone: see needs_windows
    least_windows, spreads = 1, False

    def __post_init__(self):
        option("cache", self.cache, self.caches)

    def store(self, evaluation: Evaluation, window: ContextWindow, entries: Callable[[], int], limit: int) -> str:
        """Where keys and values are kept in this run: decided, and said in the log, once."""

        def decide():
            x, count = evaluation.x, entries()
            shape = [x.shape[0] * count, x.shape[1], window.context_length, *x.shape[3:]]
            size = self._size(evaluation.model, shape) * len(self.layers)
            return decided(self.cache, self.caches[-1], size, evaluation, window, count, limit, self.what)

        return evaluation.run.once(self.key, decide)

    def memory(self, model, shape: list[int]) -> int:
        size = self._size(model.model, shape)
        return budgeted(self.cache, self.caches[-1], size, len(self.layers), model.load_device)

    def _size(self, model, shape: list[int]) -> int:
        """Bytes that are kept of a layer, for a window's latent of this shape."""
        return layer_bytes(model, layout_of(model.diffusion_model), shape)


def applied(model, hook: type, first_layer: int, last_layer: int, start_percent: float, end_percent: float, *more):
    """A clone of the ModelPatcher with a hook of this kind; without it where no layer is in its range, which is said.

    start_percent, end_percent: fractions of the noise schedule. more: the hook's fields from cache on. Raises
    ValueError for settings that make no sense and for a model that is not known.
    """
    try:
        part_of_schedule(start_percent, end_percent)
        sampling = model.get_model_object("model_sampling")
        begin, end = (float(sampling.percent_to_sigma(percent)) for percent in (start_percent, end_percent))
        reach = Reach(first_layer, last_layer, begin, end)
        net = model.get_model_object("diffusion_model")
        total = layout_of(net).layers(net)
        path_hook = hook(reach.layers(total), reach, *more)
    except ValueError as error:
        raise ValueError(f"{hook.node}: {error}") from error
    if not path_hook.layers:
        logger.warning(
            "%s: no layer of this model, which has %d (0 to %d), is in %d to %d: nothing is shared.", hook.node, total,
            total - 1, first_layer, last_layer,
        )  # fmt: skip
        return model.clone()
    return installed(model, path_hook, needs_windows(hook.node, hook.key, hook.alone))


def installed(model, path_hook: AttentionHook, prepare: Callable):
    """A clone of the ModelPatcher with a path hook, of which `prepare` is asked before a run (PREPARE_SAMPLING)."""
    hook, model = path_hook.key, model.clone()
    options = model.model_options["transformer_options"] = {**model.model_options["transformer_options"]}
    options[PATH_HOOKS] = {**options.get(PATH_HOOKS, {}), hook: path_hook}
    for stage, wrapper in ((WrappersMP.PREPARE_SAMPLING, prepare), (WrappersMP.OUTER_SAMPLE, _releases)):
        model.remove_wrappers_with_key(stage, hook)
        model.add_wrapper_with_key(stage, hook, wrapper)
    return model


def needs_windows(node: str, hook: str, alone: bool) -> Callable:
    """A PREPARE_SAMPLING wrapper that refuses a model without LongTake windows; alone: and one with another method that
    decides what windows see of each other."""

    def prepare(executor, model, noise_shape, *args, **kwargs):
        options = kwargs["model_options"]
        if not isinstance(options.get("context_handler"), LongTakeContextHandler):
            raise ValueError(
                f"{node}: the model has no LongTake windows, between which attention could be shared; put a "
                f"Global/Local Window Scheduler (LongTakeWindowScheduler) on the same model, or bypass this node"
            )
        others = [h.node for key, h in options["transformer_options"].get(PATH_HOOKS, {}).items() if key != hook]
        if alone and others:
            raise ValueError(
                f"{node}: {others[0]} is on the same model; both say what a window sees of other windows: bypass one"
            )
        return executor(model, noise_shape, *args, **kwargs)

    return prepare


def _releases(executor, *args, **kwargs):
    try:
        return executor(*args, **kwargs)
    finally:
        release_host_memory()
