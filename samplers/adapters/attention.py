"""ABAM in ComfyUI's attention (adapter of anchors.py): an attention override that lives for one step of one run.

The window engine (context.py) installs it in the step's own copy of the options, outermost, so that an override that
another pack put there, before or after, still gets every call. Nothing is kept beyond the step.
"""

import logging
import math
import threading
from dataclasses import dataclass, field

import torch
from comfy.model_management import get_free_memory as free_memory
from comfy.patcher_extension import WrappersMP

from ..glc.anchors import blend
from .video_tokens import layout_of

logger = logging.getLogger(__name__)

NODE = "Anchor Attention (LongTakeABAM)"
OPTION = "longtake_abam"  # key of the settings in transformer_options
FORWARD = "longtake_abam_forward"  # key of the running forward pass's state
CACHES = ("auto", "gpu", "cpu", "recompute")


@dataclass(frozen=True)
class AnchorSettings:
    """a = weight of the anchor window; layers first_layer..last_layer (-1 = the last one) of the model's video
    attention, counted in the order they run; active while sigma_end <= sigma <= sigma_start; cache one of CACHES."""

    a: float
    first_layer: int = 0
    last_layer: int = -1
    sigma_start: float = math.inf
    sigma_end: float = 0.0
    cache: str = "auto"

    def covers(self, layer: int) -> bool:
        return self.first_layer <= layer and (self.last_layer < 0 or layer <= self.last_layer)


class AnchorPath:
    """The anchor's keys and values for the windows of one path at one step.

    recompute: whether the anchor window has to run in every call beside the others (known for "auto" once the first
    call, which has the anchor in it, is over).
    """

    def __init__(self, settings: AnchorSettings, diffusion_model, reserve: int, entries: int, log: bool):
        self.settings, self.model, self.layout = settings, diffusion_model, layout_of(diffusion_model)
        self.reserve, self.entries, self.log = reserve, entries, log
        self.store: str | None = None if settings.cache == "auto" else settings.cache
        self.kept: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}
        self.call: AnchorCall | None = None
        self.deciding = threading.Lock()  # core runs a call's CFG branches in threads where it has several devices

    @property
    def recompute(self) -> bool:
        return self.store == "recompute"

    def begin(self, options: dict, indices: list[int], windows: list, conds: list) -> None:
        """Get ready for one model call of `windows`, whose numbers are `indices`: `options` is the call's own
        transformer_options, `conds` has the first window's entries per CFG branch."""
        longer = {window.anchor is not None for window in windows}
        if len(longer) > 1:
            raise ValueError(
                f"{NODE}: cache: recompute does not go together with first_latent: anchor of the window scheduler, "
                f"whose later windows are one frame longer; use gpu or cpu"
            )
        entries = {e["uuid"]: i for branch in conds if branch is not None for i, e in enumerate(branch)}
        self.call = AnchorCall(len(indices), indices.index(0) if 0 in indices else None, int(True in longer), entries)
        previous = options.get("optimized_attention_override")

        def override(func, *args, **kwargs):
            forward = (kwargs.get("transformer_options") or {}).get(FORWARD)
            if forward is not None:
                args = forward.attention(*args)
            return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

        def apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kw):
            forward = Forward(self, x, c_crossattn, transformer_options, kw)
            transformer_options[FORWARD] = forward
            out = executor(x, t, c_concat, c_crossattn, control, transformer_options, **kw)
            forward.check()
            return out

        wrappers = options.get("wrappers", {})
        own = {**wrappers.get(WrappersMP.APPLY_MODEL, {}), OPTION: [apply_model]}
        options["optimized_attention_override"] = override
        options["wrappers"] = {**wrappers, WrappersMP.APPLY_MODEL: own}

    def decide(self, k: torch.Tensor) -> None:
        """Choose where "auto" keeps the anchor, from its keys k at one layer of one entry; say what it takes."""
        with self.deciding:
            self._decide(k)

    def _decide(self, k: torch.Tensor) -> None:
        if self.store is not None and not self.log:
            return
        last = self.settings.last_layer
        total = self.layout.layers(self.model)
        layers = (min(last + 1, total) if last >= 0 else total) - self.settings.first_layer
        size = 2 * k.numel() * k.element_size() * max(layers, 0) * self.entries
        if self.store is None:
            ram = free_memory(torch.device("cpu")) // 2
            if size <= (free_memory(k.device) - self.reserve if k.device.type != "cpu" else ram):
                self.store = "gpu"
            else:
                self.store = "cpu" if size <= ram and k.device.type != "cpu" else "recompute"
        if self.log:
            self.log = False
            where = {"gpu": f"kept on {k.device}", "cpu": "kept in memory", "recompute": "computed in every call"}
            logger.info(
                "LongTake ABAM: the anchor window's keys and values, %.1f MB per step and path, are %s.",
                size / 2**20, where[self.store],
            )  # fmt: skip


@dataclass(frozen=True)
class AnchorCall:
    """The windows of one model call: how many, where the anchor is among them (None: it ran before), frames that stand
    in front of each (see first_latent), and the place of each cond entry within its CFG branch by uuid."""

    windows: int
    anchor: int | None
    skip: int
    entries: dict


@dataclass
class Forward:
    """One forward pass: counts the video attention layers as they run and blends their keys and values."""

    path: AnchorPath
    x: torch.Tensor
    context: torch.Tensor | None
    options: dict
    inputs: dict
    layer: int = 0
    call: AnchorCall = field(init=False)

    def __post_init__(self):
        self.call = self.path.call
        layout = self.path.layout
        self.order = layout.order(self.path.model)
        t, h, w = (-(-n // p) for n, p in zip(self.x.shape[-3:], layout.patch(self.path.model), strict=True))
        self.frame, self.tokens = h * w, t * h * w
        if self.call.skip and layout.patch(self.path.model)[0] != 1:
            raise ValueError(
                f"{NODE}: a model that patches several latent frames together cannot use first_latent: anchor of the "
                f"window scheduler; set it to as_is"
            )
        reference = self.inputs.get(layout.reference)
        _, ph, pw = layout.patch(self.path.model)
        self.before = 0 if reference is None else reference[0, 0].numel() // (ph * pw)
        self.text = 0 if self.context is None else self.context.shape[1]
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
        if not self.path.settings.covers(layer):
            return (q, k, v, *args)
        return (q, *self._blended(k, v, layer, start), *args)

    def _blended(self, k, v, layer: int, start: int) -> tuple[torch.Tensor, torch.Tensor]:
        call, path = self.call, self.path
        branches = self.options["cond_or_uncond"]
        uuids = self.options["uuids"]
        skip = call.skip * self.frame
        out = []
        for tensors, branch, uuid in zip(zip(k.chunk(len(branches)), v.chunk(len(branches)), strict=True),
                                         branches, uuids, strict=True):  # fmt: skip
            key = (branch, call.entries.get(uuid, 0), layer)
            windows = [t.unflatten(0, (call.windows, -1)) for t in tensors]
            if call.anchor is not None:
                anchor = [w[call.anchor].narrow(-2, start + skip, self.tokens - skip) for w in windows]
                path.decide(anchor[0])
                if path.store in ("gpu", "cpu"):
                    device = anchor[0].device if path.store == "gpu" else "cpu"
                    path.kept[key] = tuple(a.to(device, copy=True) for a in anchor)
            elif key in path.kept:
                anchor = path.kept[key]
            else:
                raise RuntimeError(
                    f"{NODE}: layer {layer} ran for a window but not for the first one; a patch that skips layers or "
                    f"conditioning per call does not go together with ABAM: turn one of them off"
                )
            out.append([blend(w, a.to(w), path.settings.a, start + skip) for w, a in zip(windows, anchor, strict=True)])
        return tuple(torch.cat([pair[i].flatten(0, 1) for pair in out]) for i in (0, 1))

    def check(self) -> None:
        """Raise if no attention of this pass was the video's own: the blend must not silently do nothing."""
        if self.layer == 0:
            raise RuntimeError(
                f"{NODE}: no self-attention over {self.before + self.tokens} video tokens was seen in "
                f"{type(self.path.model).__name__}; inputs that add tokens to the video (reference or guide frames, "
                f"audio) or patches that replace its attention do not go together with ABAM"
            )


def anchor_path(model, model_options: dict, sigma: float, windows: int, reserve: int, entries: int, log: bool):
    """The AnchorPath of one path at one step, or None where ABAM is absent, out of its range or without others."""
    settings = model_options["transformer_options"].get(OPTION)
    if settings is None or windows < 2 or not settings.sigma_end <= sigma <= settings.sigma_start:
        return None
    return AnchorPath(settings, model.diffusion_model, reserve, entries, log)


def _needs_windows(executor, model, noise_shape, *args, **kwargs):
    from .engine import LongTakeContextHandler

    if not isinstance(kwargs["model_options"].get("context_handler"), LongTakeContextHandler):
        raise ValueError(
            f"{NODE}: the model has no LongTake windows, between which attention could be anchored; put a Global/Local "
            f"Window Scheduler (LongTakeWindowScheduler) on the same model, or bypass this node"
        )
    return executor(model, noise_shape, *args, **kwargs)


def apply_anchor(model, a: float, first_layer: int, last_layer: int, start_percent: float, end_percent: float,
                 cache: str):  # fmt: skip
    """A clone of the ModelPatcher whose windows are anchored (see AnchorSettings); a = 0 adds nothing.

    start_percent, end_percent: fractions of the noise schedule. Raises ValueError for a model that is not known.
    """
    try:
        layout_of(model.get_model_object("diffusion_model"))
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error
    model = model.clone()
    if a == 0:
        return model
    sampling = model.get_model_object("model_sampling")
    settings = AnchorSettings(
        a, first_layer, last_layer, float(sampling.percent_to_sigma(start_percent)),
        float(sampling.percent_to_sigma(end_percent)), cache,
    )  # fmt: skip
    options = model.model_options["transformer_options"] = {**model.model_options["transformer_options"]}
    options[OPTION] = settings
    model.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, OPTION)
    model.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, OPTION, _needs_windows)
    return model
