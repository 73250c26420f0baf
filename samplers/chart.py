"""What a window schedule does, as plain data: which windows each step evaluates, with what weights, at what cost.

The numbers come from the functions that sampling uses (windows.py, fusion.py). Steps are numbered, without sigmas: the
chart takes t = 1000 (1 - step / steps) and the step's number as its key, so random_shift's offsets are examples.
"""

from collections.abc import Callable

import torch

from .cost import run_cost
from .fusion import normalised
from .windows import Window, WindowSettings, most_windows, pixel_length, step_paths

MOST_INDICES = 2_000_000  # frames of all windows of all steps: under a second of work
MOST_WEIGHTS = 20_000  # frames of one step's windows: more is no longer a curve


def _normalised(windows: list[Window], weights: list[list[float]], frames: int) -> list[torch.Tensor]:
    """fusion.normalised of windows as _unrolled gives them: of one that is there twice only what lies in the video."""
    kept = [[w if 0 <= i < frames else 0.0 for i, w in zip(window.indices, part, strict=True)]
            for window, part in zip(windows, weights, strict=True)]  # fmt: skip
    return normalised([Window([i % frames for i in w.indices], w.real) for w in windows], kept, frames)


def _unrolled(windows: list[Window], frames: int) -> list[Window]:
    """In order of their starts; one that goes around a closed loop twice, before the video's start and at its end."""
    out = []
    for window in windows:
        start, length = window.indices[0], len(window.indices)
        out.append(Window(range(start, start + length), length))
        if start + length > frames and length > 1 and window.indices[-1] < start:
            out.append(Window(range(start - frames, start - frames + length), length))
    return sorted(out, key=lambda w: w.indices[0]) if len(out) > len(windows) else windows


def chart_data(
    settings: WindowSettings,
    frames: int,
    *,
    steps: int,
    branches: int,
    step: int,
    weigh: Callable[[list[Window]], list[list[float]]],
) -> dict:
    """The schedule over `frames` latent frames, JSON-able.

    weigh: raw fuse weights of local windows. The result has: frames, pixel_frames, compression, window, overlap and
    stride (latent frames); layouts, the distinct lists of local windows' starts (before 0 the end of a window that goes
    around a closed loop, whose beginning is another), and ends, the frames behind their last ones; steps, for each one
    the number of its layout (None: no local windows) and the extra path's weight gamma (0: not run); step with its
    windows' fuse weights (they sum to 1 on every frame; empty where there are too many); dilated, of each look of the
    extra path the number of windows and the frames of the first one;
    cost (see windows.Cost) with the ratio to plain windows.
    Raises ValueError when the chart would be too large to compute.
    """
    length = min(settings.length, frames)
    windows = most_windows(settings, frames)
    if (windows * length + frames) * steps > MOST_INDICES:
        raise ValueError(
            f"about {windows} windows of {length} latent frames in {steps} steps are too many to draw; a shorter "
            f"video, less overlap or fewer steps can be drawn"
        )
    whole = settings.whole(frames)  # one window: sampled as without windows
    layouts, rows, shown = [], [], []
    for i in range(steps):
        local, share = [Window(range(frames), frames)], 0.0
        if not whole:
            paths = step_paths(settings, frames, index=i, place=i / steps, t=1000 * (1 - i / steps), key=i)
            local = next((p.windows for p in paths if p.name == "local"), [])
            share = next((p.share for p in paths if p.name != "local"), 0.0)
        local = _unrolled(local, frames)
        spans = [(w.indices[0], w.indices[0] + len(w.indices)) for w in local]
        if spans and spans not in layouts:
            layouts.append(spans)
        rows.append({"layout": layouts.index(spans) if spans else None, "gamma": share})
        if i == step:
            shown = local
    weights = []
    if shown and len(shown) * length <= MOST_WEIGHTS:
        weights = [[round(float(v), 4) for v in w] for w in _normalised(shown, weigh(shown), frames)]
    cost = run_cost(settings, frames, range(steps), branches)
    looks = settings.extra_path.windows(frames, settings.length).values() if cost.extra else ()
    return {
        "frames": frames,
        "pixel_frames": pixel_length(frames, settings.compression),
        "compression": settings.compression,
        "window": length,
        "overlap": settings.overlap,
        "stride": settings.stride,
        "layouts": [[start for start, _ in spans] for spans in layouts],
        "ends": [[end for _, end in spans] for spans in layouts],
        "steps": rows,
        "step": step,
        "weights": weights,
        "dilated": [{"windows": len(look), "first": list(look[0].own)} for look in looks],
        "cost": {
            "local": cost.local,
            "evaluations": cost.evaluations,
            "plain": cost.plain,
            "ratio": round(cost.evaluations / cost.plain, 3),
        },
    }
