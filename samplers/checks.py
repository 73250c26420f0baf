"""What settings, widgets and requests hold: finite numbers within bounds, known names, fractions in order.

One wording for all of them: which input, its value, what would work. Everything here raises ValueError.
"""

import json
import math
from collections.abc import Sequence
from numbers import Integral, Real


def short(value) -> str:
    """A value as JSON, cut to what a message can hold."""
    text = str(value) if isinstance(value, float) else json.dumps(value, default=repr)
    return text if len(text) <= 40 else text[:37] + "..."


def shown(value) -> str:
    """short, texts without their quotation marks."""
    return short(value).strip('"')


def number(name: str, value, low: float = -math.inf, high: float = math.inf, whole: bool = False):
    """`value`, a finite number from low to high, both included."""
    if isinstance(value, bool) or not isinstance(value, Integral if whole else Real):
        raise ValueError(f"{name} must be a {'whole ' if whole else ''}number, not {short(value)}")
    if not (low <= value <= high and math.isfinite(value)):
        bounds = f"between {low} and {high}"
        if high == math.inf:
            bounds = "a finite number" if low == -math.inf else f"a finite number and at least {low}"
        raise ValueError(f"{name} ({short(value)}) must be {bounds}")
    return value


def option(name: str, value, options: Sequence[str]):
    """`value`, one of the options."""
    if value not in options:
        raise ValueError(f"{name} ({shown(value)}) must be one of {', '.join(options[:20])}")
    return value


def part_of_schedule(start_percent: float, end_percent: float) -> None:
    """Fractions of the noise schedule with something between them."""
    number("start_percent", start_percent, 0.0, 1.0)
    number("end_percent", end_percent, 0.0, 1.0)
    if start_percent >= end_percent:
        raise ValueError(
            f"start_percent ({start_percent}) must be smaller than end_percent ({end_percent}), or no step lies "
            f"between them"
        )


def held(settings, bounds: dict[str, tuple], options: dict[str, Sequence[str]]) -> None:
    """The fields of a settings object: bounds as number takes them, options as option does, by the fields' names."""
    for name, limits in bounds.items():
        number(name, getattr(settings, name), *limits)
    for name, known in options.items():
        option(name, getattr(settings, name), known)


def whole_schedule(sigmas: Sequence[float]) -> None:
    """Noise levels that are a way from noise to a clean video."""
    falls = all(a >= b for a, b in zip(sigmas, sigmas[1:], strict=False))
    if len(sigmas) < 2 or not falls or sigmas[-1] != 0 or not sigmas[-2] > 0 or not math.isfinite(sigmas[0]):
        raise ValueError(
            f"sigmas ({short([round(s, 4) for s in sigmas])}) must fall from noise to 0 within one sampler, and reach "
            f"0 at the end alone: leave out what splits or reverses them"
        )
