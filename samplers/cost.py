"""What a run costs: window evaluations of the model, counted before it runs, in closed form.

An evaluation is one window, at one step, for one CFG branch. No window is built for the count: its time and memory do
not depend on the length of the video.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from .windows import WindowSettings, local_count, starts_count


@dataclass(frozen=True)
class Cost:
    """Window evaluations of a run. local: the most local windows of a step; extra: windows of the extra path in each of
    extra_steps steps; plain: what static windows alone take."""

    local: int
    extra: int
    extra_steps: int
    steps: int
    evaluations: int
    plain: int


def run_cost(
    settings: WindowSettings, frames: int, keys: Sequence[int], branches: int, times: Sequence[float] | None = None
) -> Cost:
    """Cost of one run over `frames` latent frames: per step its key (see windows.shift_offset) and its training
    timestep 0..1000 (None: evenly spaced ones), which decides whether a path has all of the weight."""
    steps = len(keys)
    if frames <= settings.length:
        return Cost(1, 0, 0, steps, steps * branches, steps * branches)
    if times is None:
        times = [1000 * (1 - step / steps) for step in range(steps)]
    path = settings.extra_path
    shares = [path.share(t) if path is not None and path.active(i, steps) else 0.0 for i, t in enumerate(times)]
    local = [local_count(settings, frames, key) if share < 1 else 0 for key, share in zip(keys, shares, strict=True)]
    active = sum(share > 0 for share in shares)
    extra = path.count(frames, settings.length) if active else 0
    plain = starts_count(frames, settings.length, settings.stride, 0) * steps * branches
    return Cost(max(local), extra, active, steps, (sum(local) + extra * active) * branches, plain)


def cost_text(
    settings: WindowSettings, frames: int, keys: Sequence[int], branches: int, times: Sequence[float] | None = None
) -> str:
    """One line: what a run over `frames` latent frames evaluates, compared with plain windows (see run_cost)."""
    cost = run_cost(settings, frames, keys, branches, times)
    extra = ""
    if cost.extra:
        extra = f" + {cost.extra} {settings.extra_path.name} in {cost.extra_steps} of {cost.steps} steps"
    most = "up to " if settings.schedule == "random_shift" else ""
    return (
        f"{frames} latent frames: {most}{cost.local} local windows of {min(settings.length, frames)} (stride "
        f"{settings.stride}) per step{extra}; {cost.steps} steps x {branches} CFG branches = {cost.evaluations} window "
        f"evaluations, {cost.evaluations / cost.plain:.2f}x plain windows ({cost.plain}), for a sampler with one "
        f"evaluation per step"
    )
