"""Keys and values that windows share, in ComfyUI's attention: DiTCtrl and Video-Infinity (adapter of ditctrl.py and
video_infinity.py).

Path hooks of the engine, for local windows alone. DiTCtrl asks for each pair of neighbours, source before target;
Video-Infinity for one window more, the companion, before all others. What a window is to read waits in a store
(anchor_store.py) until the windows that read it have run, and at most to the end of the path.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass

import torch
from comfy.ldm.modules.attention import attention_pytorch
from torch.nn.functional import pad

from .. import ditctrl, video_infinity
from ..checks import number
from ..windows import Window
from .anchor_store import STORES
from .event_attention import biased
from .hooks import Asked, Call, Evaluation
from .references import behind
from .steps import training_timestep
from .timeline import PART_KEY
from .video_attention import AttentionHook, Forward, applied, attach, mask_of, prompts_of, rows_of, with_mask
from .window import ContextWindow, context_window, window_frames

logger = logging.getLogger(__name__)

DITCTRL = "Neighbour Attention (LongTakeDiTCtrl)"
INFINITY = "Dual-Scope Attention (LongTakeVideoInfinity)"
MOST_FRAMES, MOST_BIAS = 4096, 100.0


@dataclass(frozen=True)
class SharedHook(AttentionHook):
    """The engine's path hook of both."""

    def begin_path(
        self, evaluation: Evaluation, windows: list[ContextWindow], entries: Callable[[], int], limit: int
    ) -> "SharedPath | None":
        if len(windows) < 2 or windows[0].path != "local" or not self.reach.active(float(evaluation.sigma)):
            return None
        return self.path(evaluation, windows, STORES[self.store(evaluation, windows[0], entries, limit)])

    def path(self, evaluation: Evaluation, windows: list[ContextWindow], store: type) -> "SharedPath":
        """The path that begins; store: one of STORES."""
        raise NotImplementedError

    def repeats(self, sigmas: list[float], *path) -> list[bool]:
        return [False] * len(sigmas)


class SharedPath:
    """The windows of one path at one step, and what they share. net: the diffusion model."""

    companion, apart, leads = None, "", False

    def __init__(self, net, hook: SharedHook, asked: list[Asked]):
        self.net, self.hook, self.asked = net, hook, asked


@dataclass(frozen=True)
class DiTCtrlHook(SharedHook):
    node, key, what = DITCTRL, "longtake_ditctrl", "DiTCtrl: a window's keys and values for the next one"

    def path(self, evaluation: Evaluation, windows: list[ContextWindow], store: type) -> "DiTCtrlPath":
        around = evaluation.options["context_handler"].settings.closed_loop
        return DiTCtrlPath(evaluation.model.diffusion_model, self, windows, around, store)

    def asks(self, sigma: float, windows: int, around: bool) -> int:
        return ditctrl.turns_count(windows, around) if self.reach.active(sigma) else windows


class DiTCtrlPath(SharedPath):
    """Kept is the source whose target is in the next call (two, while a call begins and ends within a pair)."""

    def __init__(self, net, hook: DiTCtrlHook, windows: list[ContextWindow], around: bool, store: type):
        self.turns = ditctrl.turns(len(windows), around)
        super().__init__(net, hook, [Asked(windows[t.window], t.window, t.share) for t in self.turns])
        self.kept, self.given = store(), store()  # for the next call, and by the call before

    def begin_call(self, call: Call) -> None:
        self.given.clear()
        self.kept, self.given = self.given, self.kept
        turns, names = [self.turns[i] for i in call.indices], {}
        for entries in call.conds:
            parts = [entry[PART_KEY] for entry in entries or ()]
            for i, entry in enumerate(entries or ()):  # of a prompt that fades into the next one there are two
                names[entry["uuid"]] = (parts[i], parts[:i].count(parts[i]))
        attach(call.options, self.hook.key, lambda *inputs: DiTCtrlForward(self, turns, names, *inputs))

    def end(self) -> None:
        for store in (self.kept, self.given):  # an error's traceback may hold this object
            store.clear()


class DiTCtrlForward(Forward):
    """Hands each target of a call its source's keys and values. turns: of the call; names: of its prompts, by uuid."""

    def __init__(self, path: DiTCtrlPath, turns: list[ditctrl.Turn], names: dict, *inputs):
        super().__init__(DITCTRL, path.net, *inputs)
        self.path, self.turns, self.names = path, turns, names

    def video(self, attention: Callable, layer: int, start: int, q, k, v, *args, **kwargs) -> torch.Tensor:
        if layer not in self.path.hook.layers:
            return attention(q, k, v, *args, **kwargs)
        mask, out = mask_of(args, kwargs), []
        for branch, uuid, rows in self.entries(len(q), len(self.turns)):
            name, source = (branch, *self.names.get(uuid, (0, 0))), None
            for i, (turn, r) in enumerate(zip(self.turns, rows, strict=True)):
                own = shared = [k[r], v[r], *([] if mask is None else [rows_of(mask, r)])]
                if not turn.source:
                    shared = self._given(name, layer, q.device) if i == 0 else source
                elif i == len(self.turns) - 1:
                    self.path.kept.put((*name, layer), own)
                source = own
                key, value, *masks = own if shared is None else shared
                more, named = with_mask(args, kwargs, masks[0] if masks else None)
                out.append(attention(q[r], key, value, *more, **named))
        return torch.cat(out)

    def _given(self, name: tuple, layer: int, device: torch.device) -> list[torch.Tensor] | None:
        """What the source in the call before left; None: of a prompt that it had not, e.g. one with an area in time."""
        given = self.path.given
        for prompt in (name, (*name[:-1], 0)):
            if given.has(prompt):
                kept = given.get((*prompt, layer), device)
                if kept is None:
                    raise self.skipped(layer)
                return kept
        return None


@dataclass(frozen=True)
class InfinityHook(SharedHook):
    """frames: of the companion that windows read; bias, threshold: see video_infinity.biases; scaled: whether the
    logits are (video_infinity.logit_scale)."""

    frames: int = video_infinity.FRAMES
    bias: float = video_infinity.BIAS
    threshold: float = video_infinity.THRESHOLD
    scaled: bool = False
    node, key, what = INFINITY, "longtake_video_infinity", "Video-Infinity: keys and values of the spread frames"

    def __post_init__(self):
        super().__post_init__()
        number("global_frames", self.frames, 1, MOST_FRAMES, True)
        number("bias", self.bias, 0.0, MOST_BIAS)
        number("threshold", self.threshold, 0.0, 1000.0)

    def path(self, evaluation: Evaluation, windows: list[ContextWindow], store: type) -> "InfinityPath":
        settings, total = evaluation.options["context_handler"].settings, evaluation.x.shape[2]
        count = windows[0].references
        indices = video_infinity.spread(settings.length, total - count)
        (window,) = behind([Window(indices, len(indices))], count)
        asked = [Asked(context_window(window, settings, "global", total, count), None)]
        asked += [Asked(window, i) for i, window in enumerate(windows)]
        t = training_timestep(evaluation.model.model_sampling, evaluation.sigma)
        return InfinityPath(self, evaluation, asked, t, store())

    def asks(self, sigma: float, windows: int, around: bool) -> int:
        return windows + (windows > 1 and self.reach.active(sigma))

    def _size(self, model, shape: list[int]) -> int:
        return super()._size(model, [*shape[:2], min(shape[2], self.frames), *shape[3:]])


class InfinityPath(SharedPath):
    """Kept are the spread frames, of the first call."""

    leads = True

    def __init__(self, hook: InfinityHook, evaluation: Evaluation, asked: list[Asked], t: float, store):
        super().__init__(evaluation.model.diffusion_model, hook, asked)
        self.near, self.spread = video_infinity.biases(t, hook.threshold, hook.bias)
        self.kept, self.run = store, evaluation.run

    def begin_call(self, call: Call) -> None:
        attach(call.options, self.hook.key, lambda *inputs: InfinityForward(self, call, *inputs))

    def end(self) -> None:
        self.kept.clear()


class InfinityForward(Forward):
    """Lets the windows of a call attend to the spread frames beside their own. The companion is a path's first one."""

    def __init__(self, path: InfinityPath, call: Call, x: torch.Tensor, *inputs):
        super().__init__(INFINITY, path.net, x, *inputs)
        self.path, self.names, self.windows = path, prompts_of(call), len(call.indices)
        self.first, self.uneven, self.rows = 0 in call.indices, False, {}
        # A prompt with an area in time sees some of the frames, in each window others.
        self.partial = x.shape[-3] != len(window_frames(call.windows[0]))
        skip = call.windows[0].references // self.patch[0]
        count = -(-path.hook.frames // self.patch[0])
        places = video_infinity.spread(count, self.tokens // self.frame - skip)
        self.places = [(skip + place) * self.frame for place in places]

    def video(self, attention: Callable, layer: int, start: int, q, k, v, *args, **kwargs) -> torch.Tensor:
        if layer not in self.path.hook.layers:
            return attention(q, k, v, *args, **kwargs)
        mask, out = mask_of(args, kwargs), []
        for branch, uuid, rows in self.entries(len(q), self.windows):
            name = (branch, self.names.get(uuid, 0))
            for i, r in enumerate(rows):
                parts, own = (q[r], k[r], v[r]), rows_of(mask, r)
                if i == 0 and self.first:
                    if not self.partial:
                        self.path.kept.put((*name, layer), [self._frames(t, start) for t in parts[1:]])
                elif self.path.kept.has(name):
                    out.append(self._both(attention, name, layer, start, parts, own, args, kwargs))
                    continue
                more, named = with_mask(args, kwargs, own)
                out.append(attention(*parts, *more, **named))
        return torch.cat(out)

    def _frames(self, t: torch.Tensor, start: int) -> torch.Tensor:
        return torch.cat([t.narrow(-2, start + place, self.frame) for place in self.places], -2)

    def _both(self, attention: Callable, name: tuple, layer: int, start: int, parts, mask, args, kwargs):
        """Attention of a window's rows over their own keys and the spread frames'."""
        kept = self.path.kept.get((*name, layer), parts[0].device)
        if kept is None:
            raise self.skipped(layer)
        q, *own = parts
        k, v = (torch.cat([a, b], -2) for a, b in zip(own, kept, strict=True))
        if self.path.hook.scaled:
            q = q * video_infinity.logit_scale(k.shape[-2], own[0].shape[-2])
        if mask is not None:
            mask = pad(mask, (0, kept[0].shape[-2]), value=mask.dtype == torch.bool)
        if self.path.near != self.path.spread:
            self.uneven, attention = True, attention_pytorch
            mask = biased(mask, self._row(start, own[0].shape[-2], k.shape[-2], q))
        more, named = with_mask(args, kwargs, mask)
        return attention(q, k, v, *more, **named)

    def _row(self, start: int, own: int, total: int, like: torch.Tensor) -> torch.Tensor:
        """What is added to the logits of each key, [1, 1, 1, keys]: one row for all queries, which takes no memory."""
        key = (start, own, total)
        if key not in self.rows:
            over = self.path.spread - self.path.near
            row = torch.full((total,), max(over, 0.0), dtype=like.dtype)  # text, where it is in the sequence
            row[start - self.before : start + self.tokens] = 0.0
            row[own:] = over
            self.rows[key] = row[None, None, None].to(like.device)
        return self.rows[key]

    def check(self) -> None:
        super().check()
        if self.uneven and self.other:
            self.path.run.once((self.path.hook.key, "aside"), _say_aside)


def _say_aside() -> bool:
    logger.info(
        "%s: with a bias, windows attend through ComfyUI's own attention (PyTorch's) in its layers; the one in use "
        "here may drop the bias. bias 0 keeps it.", INFINITY,
    )  # fmt: skip
    return True


def apply_ditctrl(model, first_layer: int, last_layer: int, start_percent: float, end_percent: float, cache: str):
    """A clone of the ModelPatcher whose windows attend to the keys and values of the window before (see applied)."""
    return applied(model, DiTCtrlHook, first_layer, last_layer, start_percent, end_percent, cache)


def apply_video_infinity(
    model, global_frames: int, bias: float, threshold: float, scaled: bool, first_layer: int, last_layer: int,
    start_percent: float, end_percent: float, cache: str,
):  # fmt: skip
    """The same for windows that attend to frames spread over the whole video (see InfinityHook); global_frames = 0 adds
    nothing."""
    more = (cache, global_frames or 1, bias, threshold, scaled)
    made = applied(model, InfinityHook, first_layer, last_layer, start_percent, end_percent, *more)
    return made if global_frames != 0 else model.clone()
