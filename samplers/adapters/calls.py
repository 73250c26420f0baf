"""Model calls of one evaluation: what the engine asks of the model, prepared, and computed here or by others.

A call holds everything that its result depends on beside the model itself, so that whoever has the same model (another
process, another machine) computes the same. See hooks.WORKERS.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import comfy.model_management
import torch
from comfy.context_windows import IndexListCallbacks

from ..windows import planned_calls
from . import event_attention, progress
from .conds import merge_windows
from .event_texts import aligned, grouped
from .hooks import WORKERS, Call, Evaluation, PathRun
from .latents import DIM
from .steps import Run
from .window import ContextWindow, window_frames


@dataclass(frozen=True, eq=False)
class WindowPath:
    """Windows that are evaluated together: one path of one evaluation, with the hooks' parts in it."""

    windows: list[ContextWindow]
    limit: int
    hooks: list[PathRun]

    @property
    def leads(self) -> bool:
        """Whether every process that computes a call of this path must have computed the first one."""
        return any(hook.leads for hook in self.hooks)


@dataclass(frozen=True, eq=False)
class WindowCall:
    """A call of a path, and what the engine needs to take its results apart. cut: of each window its conditioning;
    again: the window whose result an earlier call has given."""

    evaluation: Evaluation
    path: WindowPath
    call: Call
    cut: list
    again: int | None

    def taken_apart(self, results: list[torch.Tensor]) -> Iterator[tuple[int, list[torch.Tensor], list]]:
        """(index, predictions per CFG branch, conds) of each window."""
        batch = self.evaluation.x.shape[0]
        for n, (i, window) in enumerate(zip(self.call.indices, self.call.windows, strict=True)):
            if i != self.again:
                skip, rows = window.dropped, slice(n * batch, (n + 1) * batch)
                yield i, [r[rows].narrow(DIM, skip, r.shape[DIM] - skip) for r in results], self.cut[n]


def path_calls(handler, evaluation: Evaluation, path: WindowPath) -> Iterator[WindowCall]:
    """The calls of a path, each prepared when it is asked for, several windows to a call."""
    companion = next((hook.companion for hook in path.hooks if hook.companion is not None), None)
    again = None
    lengths = [len(window_frames(w)) for w in path.windows]
    for indices in planned_calls(lengths, path.limit, companion):
        yield from _prepared(handler, evaluation, path, indices, again)
        again = companion


def _prepared(handler, evaluation: Evaluation, path: WindowPath, indices: list[int], again: int | None):
    conds, x_in, batch, windows = evaluation.conds, evaluation.x, evaluation.x.shape[0], path.windows
    cut = [[handler.get_resized_cond(cond, x_in, windows[i]) for cond in conds] for i in indices]
    merged = cut[0]
    if len(indices) > 1:
        apart = [hook.apart for hook in path.hooks if hook.companion is not None]
        if apart:
            cut = aligned(cut, [len(window_frames(windows[i])) for i in indices])
        rows = len(window_frames(windows[indices[0]])) if handler.dim == 0 else batch  # of one window, for the model
        merged = [None if b[0] is None else merge_windows(b, rows) for b in zip(*cut, strict=True)]
        if any(m is None and cond is not None for m, cond in zip(merged, conds, strict=True)):
            if apart:
                raise ValueError(apart[0])
            ordered = any(hook.asked is not None for hook in path.hooks)
            for part in [[i] for i in indices] if ordered else grouped(indices, cut):
                yield from _prepared(handler, evaluation, path, part, again)
            return
    comfy.model_management.throw_exception_if_processing_interrupted()
    options = {**evaluation.transformer_options}  # of this call alone: the hooks put themselves into it
    model_options = {**evaluation.options, "transformer_options": options}
    for i in indices:
        handler.callback(
            IndexListCallbacks.EVALUATE_CONTEXT_WINDOWS, evaluation.model, x_in, conds, evaluation.timestep,
            model_options, i, windows[i], model_options, None, None,
        )  # fmt: skip
    of_call, moment = tuple(windows[i] for i in indices), evaluation.moment
    options["context_window"] = of_call[0]
    options["longtake"] = {
        "path": of_call[0].path,
        "windows": tuple(tuple(w.index_list) for w in of_call),
        "anchor": tuple(w.anchor for w in of_call),
        "step": moment.step,
    }
    step = f"step {moment.step + 1}/{len(moment.keys)}"
    progress.show(f"{step}, {of_call[0].path} window {indices[-1] + 1}/{len(windows)}")
    parts = [w.get_tensor(x_in, dim=DIM) for w in of_call]
    x = parts[0] if len(parts) == 1 else torch.cat(parts)
    sigma = evaluation.timestep.expand(batch).repeat(len(indices))
    call = Call(tuple(indices), of_call, merged, x, sigma, model_options)
    yield WindowCall(evaluation, path, call, cut, again)


def compute(calc: Callable, model, call: Call, hooks: list[PathRun], run: Run) -> list[torch.Tensor]:
    """A call's predictions per CFG branch. calc: core's calc_cond_batch; hooks: of the call's path."""
    event_attention.attach(call.options, call.conds, run)
    for hook in hooks:  # after it: a hook counts the text as the model gets it
        hook.begin_call(call)
    return calc(model, call.conds, call.x, call.sigma, call.model_options)


def computed(evaluation: Evaluation, calls: Iterable[WindowCall]) -> Iterator[tuple[WindowCall, list[torch.Tensor]]]:
    """The calls of an evaluation with their results, in their order: by workers where there are some, else here, each
    when it is asked for."""
    workers = evaluation.transformer_options.get(WORKERS)
    if workers is not None:
        return workers.map(calls)
    of = evaluation
    return ((one, compute(of.calc, of.model, one.call, one.path.hooks, of.run)) for one in calls)
