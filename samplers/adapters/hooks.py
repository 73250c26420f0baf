"""What a method can hook into while the engine evaluates a video: a path begins, a model call begins, the path ends; or
it asks for single windows.

A method puts a PathHook into the MODEL's transformer_options under PATH_HOOKS, by a name of its own; the engine knows
no method. A hook is never written to: what it needs for one path of one evaluation is the PathRun that it makes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..windows import Window
from .steps import Moment, Run
from .window import ContextWindow

PATH_HOOKS = "longtake_path_hooks"  # key in transformer_options: {name: PathHook}
CHUNKS = "longtake_chunks"  # key in transformer_options: Chunks
WORKERS = "longtake_workers"  # key in transformer_options: what computes the model calls in the place of this process


@dataclass(frozen=True)
class Chunks:
    """Asks for the predictions of single windows, not fused (transformer_options[CHUNKS]).

    x: the whole latent, of which each window is a part. What the guider is called with, and what comes back, holds
    the windows one after the other in the frame axis, so that CFG applies to each value as always.
    """

    x: torch.Tensor
    windows: tuple[Window, ...]


@dataclass(frozen=True)
class Evaluation:
    """One evaluation of the whole video, which all of its model calls share.

    calc: core's calc_cond_batch; conds: one list of entries (or None) per CFG branch; x [B, C, F, H, W]: what windows
    are cut from; timestep: core's, one sigma per video of the batch; options: model_options, this evaluation's own
    copy; run: the sampling run it belongs to; moment: where that run stands.
    """

    calc: Callable
    model: Any
    conds: list
    x: torch.Tensor
    timestep: torch.Tensor
    options: dict
    run: Run
    moment: Moment

    @property
    def sigma(self) -> torch.Tensor:
        return self.timestep.flatten()[0]

    @property
    def transformer_options(self) -> dict:
        return self.options["transformer_options"]


@dataclass(frozen=True)
class Call:
    """One model call: the numbers of its windows within their path, the windows, their entries per CFG branch as one
    batch, the latent x (windows first, then videos) with its sigmas, and model_options, whose transformer_options are
    the call's own to change."""

    indices: tuple[int, ...]
    windows: tuple[ContextWindow, ...]
    conds: list
    x: torch.Tensor
    sigma: torch.Tensor
    model_options: dict

    @property
    def options(self) -> dict:
        return self.model_options["transformer_options"]


@dataclass(frozen=True)
class Asked:
    """One evaluation in a path: a window; which of the path's windows it predicts (None: none, it serves the others),
    and its share in that prediction."""

    window: ContextWindow
    of: int | None
    share: float = 1.0


class PathRun(Protocol):
    """A hook's part in one path of one evaluation.

    companion: the window that runs in every call, beside others (None: none); apart: what to say, with the way out,
    where windows' conditioning does not fit into one call; leads: whether later calls need what the first one leaves in
    this object, so that each process that has one of its own computes the first call too; asked: the evaluations of the
    path, which run in this order (None: each window once).
    """

    companion: int | None
    apart: str
    leads: bool
    asked: list[Asked] | None

    def begin_call(self, call: Call) -> None:
        """Before a model call."""

    def end(self) -> None:
        """The path is over, done or failed: nothing may be kept."""


class PathHook(Protocol):
    """What a method's node puts into the options.

    node: its name for messages; least_windows: windows that a call holds at least; spreads: whether the calls of a path
    may be computed by several processes, each with its own part.
    """

    node: str
    least_windows: int
    spreads: bool

    def begin_path(
        self, evaluation: Evaluation, windows: list[ContextWindow], entries: Callable[[], int], limit: int
    ) -> PathRun | None:
        """None where this path is left alone. entries(): cond entries of one window over all CFG branches; limit:
        windows per model call."""

    def repeats(
        self, sigmas: list[float], evaluation: Evaluation, windows: list[ContextWindow], entries: Callable[[], int],
        limit: int,
    ) -> list[bool]:  # fmt: skip
        """Per step of a run that begins, by its sigma, whether a companion will run in every call; the rest is as for
        begin_path."""

    def asks(self, sigma: float, windows: int, around: bool) -> int:
        """How many evaluations a local path of so many windows has at a step, companions left out; around: on a closed
        loop."""

    def memory(self, model, shape: list[int]) -> int:
        """Bytes that it keeps on the ModelPatcher's device during a path, for a window's latent of this shape (the
        batch holds all CFG branches)."""


def asked_windows(runs: Sequence[PathRun], windows: list[ContextWindow]) -> list[Asked]:
    """The evaluations of a path: those that one of the hooks asks for, or each window once."""
    asked = next((run.asked for run in runs if run.asked is not None), None)
    return [Asked(window, i) for i, window in enumerate(windows)] if asked is None else asked


def asked_counts(hooks: Sequence[PathHook], sigmas: list[float], around: bool) -> Callable[[int, int], int]:
    """(step, local windows) -> evaluations, see PathHook.asks."""
    return lambda step, windows: max([windows, *(hook.asks(sigmas[step], windows, around) for hook in hooks)])


def repeated(hooks: Sequence[PathHook], sigmas: list[float], *path) -> list[bool]:
    """Per step, whether any hook has a companion in every call; path: the rest of PathHook.repeats' arguments."""
    found = [hook.repeats(sigmas, *path) for hook in hooks]
    return [any(each) for each in zip(*found, strict=True)] if found else [False] * len(sigmas)
