"""The weight of every frame of every window of a step, on the latent's device (used by engine.py)."""

from collections.abc import Sequence

import torch

from .. import fusion
from ..windows import Path, Window
from .hooks import Evaluation
from .window import window_weights


def path_weights(
    handler, evaluation: Evaluation, paths: Sequence[Path], placed: Sequence[list[Window]], frames: int
) -> list[Sequence[torch.Tensor]]:
    """Per path those of its windows: each path's sum to its share on every frame, or, of a path that is pooled with the
    local windows, both together to 1.

    placed: the paths' windows behind the references, which belong to one window alone; frames: of the latent.
    """
    if len(paths) > 1 and handler.settings.extra_path.pooled:
        joint = _weights(handler, evaluation, paths, placed, frames, pooled=True)
        return [joint[: len(placed[0])], joint[len(placed[0]) :]]
    one = [([path], [windows]) for path, windows in zip(paths, placed, strict=True)]
    return [_weights(handler, evaluation, path, windows, frames, pooled=False) for path, windows in one]


def _weights(handler, evaluation: Evaluation, paths, placed, frames: int, pooled: bool) -> Sequence[torch.Tensor]:
    """Made once per run for the same windows and shares."""
    windows = [window for some in placed for window in some]

    def weigh():
        raw = []
        for path, some in zip(paths, placed, strict=True):
            share = path.share if pooled else 1.0
            for w, there in zip(path.windows, some, strict=True):
                own = [1.0] * len(w.indices)
                if path.name == "local":
                    own = window_weights(handler.now, w, frames - handler.references, handler)
                if pooled:
                    own = [share * weight * len(own) / sum(own) for weight in own]
                raw.append([share] * (len(there.indices) - len(own)) + own)
        parts = fusion.normalised(windows, raw, frames)
        if not pooled:
            parts = [part * paths[0].share for part in parts]
        return torch.cat(parts).to(evaluation.x).split([w.real for w in windows])

    shares = tuple((path.name, path.share) for path in paths)
    where = tuple((w.indices[0], len(w.indices)) for w in windows)
    return evaluation.run.once(("weights", shares, handler.now.overlap, where), weigh)
