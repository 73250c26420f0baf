"""Each frame reads its own event's text (adapter of prompts/frame_times.py): the video's text attention, cut by frames.

A window that reaches over several events gets their texts side by side (event_texts.py). Here the call of the video's
tokens over all of that text is made in parts: the tokens of neighbouring frames of one event over that event's text
alone, without a mask, through whatever attention is in use. So a hard border costs no memory, and is exactly attention
over one text. Frames at a soft border are a part each, over the texts of their events, with log-weights on the logits:
one row of text tokens for all of the frame's (2 KB for two texts of 512 in bfloat16, where a mask over a window of
32,760 tokens would take 64 MB), through core's attention_pytorch, as others drop such a mask.

An attention override and an APPLY_MODEL wrapper in a call's own options, as in attention.py (ABAM). ABAM acts on the
video's self-attention, this on its attention over the text. A ControlNet that reads the text itself reads all of it.
"""

import itertools
import logging
import math
from collections.abc import Callable, Sequence

import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy.patcher_extension import WrappersMP

from ..prompts.frame_times import by_frame
from .call_options import compiled_apart, uncompiled, wrapped
from .event_texts import TEXTS, EventTexts
from .steps import Run
from .timeline_notes import NODE, timelines
from .video_tokens import TIMED, reads_text_apart

logger = logging.getLogger(__name__)

HOOK = "longtake_event_attention"
FORWARD = "longtake_event_forward"  # key of the running forward pass in transformer_options
MASKED = ("attention_pytorch", "attention_basic", "attention_sub_quad", "attention_split")  # core's, which take masks


def timed(conds: list) -> bool:
    """Whether a timeline among the CFG branches is told frame by frame."""
    return any(by_frame(spans) for spans in timelines(conds))


def refuse_unknown(model) -> None:
    """Raise ValueError for a model whose text attention cannot be cut by frames. model: core's BaseModel."""
    net = model.diffusion_model
    if not reads_text_apart(net):
        raise ValueError(
            f"{NODE}: timing (frame): {type(net).__name__} does not read the text in an attention of its own, token by "
            f"token, so that one event's text would reach all frames; set timing to window. It works with {TIMED}"
        )


def attach(options: dict, entries: Sequence[Sequence[dict] | None], run: Run) -> None:
    """Put it into a call's transformer_options, if its entries (a list per CFG branch) need it."""
    if not any(TEXTS in entry["model_conds"] for branch in entries if branch for entry in branch):
        return
    previous = options.get("optimized_attention_override")

    @torch.compiler.disable  # a traced pass would keep one window's events for all
    def override(func, *args, **kwargs):
        forward = (kwargs.get("transformer_options") or {}).get(FORWARD)

        def attention(*args, **kwargs):
            return func(*args, **kwargs) if previous is None else previous(func, *args, **kwargs)

        if forward is None or not forward.concerns(*args[:2]):
            return attention(*args, **kwargs)
        if previous is not None or func.__name__ not in MASKED:
            forward.other = True
        return forward.attention(attention, *args, **kwargs)

    def apply_model(executor, x, t, c_concat=None, c_crossattn=None, control=None, transformer_options=None, **kw):
        rows = kw.pop(TEXTS, None)
        if rows is None:
            return executor(x, t, c_concat, c_crossattn, control, transformer_options, **kw)
        forward = Forward(uncompiled(executor.class_obj.diffusion_model), x, c_crossattn.shape[1], rows, kw)
        if forward.pad:
            c_crossattn = torch.nn.functional.pad(c_crossattn, (0, 0, 0, forward.pad))
            if (mask := kw.get("attention_mask")) is not None:
                kw["attention_mask"] = torch.nn.functional.pad(mask, (0, forward.pad))
        transformer_options[FORWARD] = forward
        try:
            with compiled_apart():
                out = executor(x, t, c_concat, c_crossattn, control, transformer_options, **kw)
        finally:
            del transformer_options[FORWARD]
        forward.check(run)
        return out

    options.update(wrapped(options, WrappersMP.APPLY_MODEL, HOOK, apply_model), optimized_attention_override=override)


def attached(model_options: dict, entries: Sequence[Sequence[dict] | None]) -> dict:
    """The model_options of one call of core's own loop over windows, with it where the entries need it."""
    options = {**model_options["transformer_options"]}
    attach(options, entries, Run.of(options))
    return {**model_options, "transformer_options": options}


class Forward:
    """One forward pass of rows (windows x videos x entries), each with its EventTexts.

    pad: tokens to put behind the text, which no frame reads, so that its length is no other sequence's of the model.
    """

    def __init__(self, net, x: torch.Tensor, text: int, rows: Sequence[EventTexts], inputs: dict):
        """x: the model's latent [B, C, F, H, W]; text: tokens; inputs: the other conditioning."""
        layout = reads_text_apart(net)
        patch = layout.patch(net)
        shapes = inputs.get("latent_shapes") or [x.shape]  # LTX-2's video, and its audio [B, C, T, F]
        t, h, w = (-(-n // p) for n, p in zip(shapes[0][-3:], patch, strict=True))
        self.audio = shapes[1][2] if len(shapes) > 1 else 0
        reference = inputs.get(layout.reference)
        self.before = 0 if reference is None else reference[0, 0].numel() // (patch[1] * patch[2])
        self.frame, self.tokens = h * w, t * h * w
        self.rows = [(row, len(list(equal))) for row, equal in itertools.groupby(rows)]
        if patch[0] != 1 or any(len(row.frames) != t for row in rows):
            raise RuntimeError(f"{NODE}: timing (frame): the model sees other frames than the window has; use window")
        image = inputs.get("clip_fea")
        others = {self.before + self.tokens, self.tokens, self.audio, 0 if image is None else image.shape[-2]}
        self.pad = next(n for n in itertools.count() if text + n not in others)
        self.text = text + self.pad
        self.calls, self.soft, self.other = 0, False, False
        self.biases: dict = {}

    def concerns(self, q: torch.Tensor, k: torch.Tensor) -> bool:
        """Whether a call is the video's over the text, or the audio's."""
        return k.shape[-2] == self.text and (q.shape[-2] >= self.before + self.tokens or q.shape[-2] == self.audio)

    def attention(self, attention: Callable, q, k, v, *args, **kwargs) -> torch.Tensor:
        """What the call returns, made in parts. q, k, v: [rows, tokens, ..] or [rows, heads, tokens, ..]; args: core's
        heads, mask, .., by place or by name, as other overrides get them too."""
        self.calls += 1
        mask = args[1] if len(args) > 1 else kwargs.get("mask")
        out, start = [], 0
        for row, count in self.rows:
            rows = slice(start, start + count)
            start += count
            given = mask[rows] if mask is not None and mask.ndim > 2 and len(mask) > 1 else mask
            for tokens, weights in self._parts(row, q.shape[-2]):
                text = row.part(weights[0][0], weights[-1][0])
                part = _columns(given, tokens, text)
                run = attention
                if len(weights) > 1:
                    self.soft, run = True, attention_pytorch
                    part = biased(part, self._bias(row, weights, q))
                parts = (q[rows][..., tokens, :], k[rows][..., text, :], v[rows][..., text, :])
                if len(args) > 1:
                    out.append((start, run(*parts, args[0], part, *args[2:], **kwargs)))
                else:
                    named = kwargs if part is None else {**kwargs, "mask": part}
                    out.append((start, run(*parts, *args, **named)))
        of_rows = [torch.cat([part for _, part in parts], -2) for _, parts in itertools.groupby(out, lambda p: p[0])]
        return of_rows[0] if len(of_rows) == 1 else torch.cat(of_rows)

    def _parts(self, row: EventTexts, total: int):
        """(tokens, events and weights) of a row's `total` tokens in their order."""
        count = len(row.frames)
        if total == self.audio:  # each token at its share of the window's time
            places = [-(-i * total // count) for i in range(count + 1)]
        else:
            places = [self.before + i * self.frame for i in range(count + 1)]
        if places[0] > 0:
            yield slice(0, places[0]), row.mean()
        done = 0
        for weights, frames in itertools.groupby(row.frames):
            first, done = done, done + len(list(frames))
            if places[done] > places[first]:
                yield slice(places[first], places[done]), weights
        if total > places[-1]:
            yield slice(places[-1], total), row.mean()

    def _bias(self, row: EventTexts, weights, like: torch.Tensor) -> torch.Tensor:
        """log-weights of the text tokens of the events named in `weights`, [1, 1, 1, tokens]."""
        key = (row.tokens, weights)
        if key not in self.biases:
            logs = [(math.log(w) if w > 0 else -math.inf, row.tokens[event]) for event, w in weights]
            line = torch.cat([torch.full((n,), log, dtype=like.dtype) for log, n in logs])
            self.biases[key] = line[None, None, None].to(like.device)
        return self.biases[key]

    def check(self, run: Run) -> None:
        """Raise if the text was read by no call that was cut; say once per run where another attention stood aside."""
        if self.calls == 0:
            raise RuntimeError(
                f"{NODE}: timing (frame): no attention of {self.tokens} video tokens over {self.text} text tokens was "
                f"seen; this ComfyUI's class of the model hides it, or a patch replaces it: set timing to window, or "
                f"bypass the patch"
            )
        if self.soft and self.other:
            run.once(HOOK, _say_aside)


def _say_aside() -> bool:
    logger.info(
        "%s: frames at a soft border read their texts through ComfyUI's own attention (PyTorch's); the one in use here "
        "may drop the weights. All other frames keep it; blend 0 has no such frames.", NODE,
    )  # fmt: skip
    return True


def _columns(mask: torch.Tensor | None, tokens: slice, text: slice) -> torch.Tensor | None:
    """A mask's part for some query and text tokens; its query axis may be 1."""
    if mask is None:
        return None
    mask = mask[..., text]
    return mask[..., tokens, :] if mask.ndim > 1 and mask.shape[-2] > 1 else mask


def biased(mask: torch.Tensor | None, bias: torch.Tensor) -> torch.Tensor:
    """What is added to the logits, [1, 1, 1, keys], on top of a model's own mask, bool or additive, of 2 to 4 axes."""
    if mask is None:
        return bias
    mask = mask.reshape((1,) * (4 - mask.ndim) + mask.shape) if mask.ndim != 3 else mask[:, None]
    return torch.where(mask, bias, -math.inf) if mask.dtype == torch.bool else mask + bias
