"""What a run costs: window evaluations of the model, counted before it runs, in closed form.

An evaluation is one window, at one step, for one CFG branch; a window that is cut off counts by its frames. No window
is built for the count: its time and memory do not depend on the length of the video.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from .windows import WindowSettings, calls_count, local_count, local_work, starts_count


@dataclass(frozen=True)
class Cost:
    """Window evaluations of a run. local: the most local windows of a step; extra: windows of the extra path in each of
    extra_steps steps; looks: those of each of its looks, by name, none where it does not run; more: the most that a
    method adds to a step's local windows, in more_steps steps; plain: what static windows alone take; once: every frame
    once, as separate clips do."""

    local: int
    extra: int
    extra_steps: int
    steps: int
    evaluations: int
    plain: int
    once: float
    more: int = 0
    more_steps: int = 0
    looks: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Details:
    """What is known of a run that has begun. Per step: its training timestep 0..1000, its place in the whole schedule
    (see windows.ExtraPath), and whether the first window runs again in every model call (None: no). index: of the first
    step in the whole schedule; limit: windows per call; asks(step, windows): evaluations that a method makes of so many
    local windows (None: each once)."""

    times: Sequence[float]
    places: Sequence[float]
    repeats: Sequence[bool] | None = None
    index: int = 0
    limit: int = 1
    asks: Callable[[int, int], int] | None = None


def even_details(steps: int) -> Details:
    """Of a whole schedule whose steps are evenly spaced in time."""
    places = [step / steps for step in range(steps)]
    return Details([1000 * (1 - place) for place in places], places)


def run_cost(
    settings: WindowSettings, frames: int, keys: Sequence[int], branches: int, details: Details | None = None
) -> Cost:
    """Cost of one run over `frames` latent frames: per step its key (see windows.shift_offset). Without details: of a
    whole schedule, evenly spaced, where nothing runs again."""
    steps = len(keys)
    details = details or even_details(steps)
    asked = [settings.branches(branches, place) for place in details.places]
    if settings.whole(frames):
        return Cost(1, 0, 0, steps, sum(asked), steps * branches, steps * branches)
    path, local, cut, extra = settings.extra_path, [], 0.0, []
    looks = path.count(frames, settings.length) if path is not None else {}
    for step, (key, t) in enumerate(zip(keys, details.times, strict=True)):
        active = path is not None and path.active(details.index + step, details.places[step])
        share = path.share(t) if active else 0.0
        of_step = settings, frames, key, details.index + step, details.places[step]
        local.append(local_count(*of_step) if share < 1 or path.joins else 0)
        cut += (local[-1] - local_work(*of_step)) * asked[step] if local[-1] else 0
        extra.append(sum(looks.values()) if share > 0 else 0)
    again = [
        sum(calls_count(count, details.limit) - 1 for count in counts if count > 1) if repeats else 0
        for *counts, repeats in zip(local, extra, details.repeats or [False] * steps, strict=True)
    ]
    more = [details.asks(step, n) - n if n and details.asks else 0 for step, n in enumerate(local)]
    plain = starts_count(frames, settings.length, settings.stride, 0) * steps * branches
    evaluations = sum(sum(counts) * n for *counts, n in zip(local, extra, more, again, asked, strict=True))
    evaluations = round(evaluations - cut)
    once = max(frames / settings.length, 1) * steps * branches
    return Cost(
        max(local), max(extra), sum(n > 0 for n in extra), steps, evaluations, plain, once,
        max(more), sum(n > 0 for n in more), looks if max(extra) else {},
    )  # fmt: skip


def cost_text(
    settings: WindowSettings, frames: int, keys: Sequence[int], branches: int, details: Details | None = None
) -> str:
    """One line: what a run over `frames` latent frames evaluates, compared with plain windows (see run_cost)."""
    cost = run_cost(settings, frames, keys, branches, details)
    extra = ""
    if cost.extra:
        extra = "".join(f" + {count} {name}" for name, count in cost.looks.items())
        extra += f" in {cost.extra_steps} of {cost.steps} steps"
    if cost.more:
        extra += f" + {cost.more} for shared attention in {cost.more_steps} of {cost.steps} steps"
    if details is not None and any(details.repeats or ()):
        extra += ", the first one again in every model call"
    most = "up to " if settings.uneven else ""
    within = "at most " if settings.cuts(frames) else ""
    stride = f"{settings.stride}" if settings.overlap_end is None else f"{settings.stride} to {settings.at(1.0).stride}"
    calls = "" if details is None else f", {details.limit} to a model call"
    until = "" if settings.cfg_until == 1 or branches == 1 else f" until {settings.cfg_until:g} of the schedule"
    return (
        f"{frames} latent frames: {most}{cost.local} local windows of {within}{min(settings.length, frames)} (stride "
        f"{stride}) per step{extra}{calls}; {cost.steps} steps x {branches} CFG branches{until} = "
        f"{cost.evaluations} window evaluations, {cost.evaluations / cost.plain:.2f}x plain windows ({cost.plain}), "
        f"every frame {cost.evaluations / cost.once:.2f} times a step, for a sampler with one evaluation per step"
    )
