"""Groups of measured videos beside each other: means, their errors, and which differences mean something."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Student's t of 0.975 by degrees of freedom, 1 to 30 (two-sided 95 %).
STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
           2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042)
BETTER, WORSE, OTHER, ALIKE, UNKNOWN = "better", "worse", "differs", "", "one video"


@dataclass(frozen=True)
class Cell:
    """A metric of a group: mean of `count` videos, the mean's standard error (NaN of one video), and the verdict on it
    against the first group's."""

    mean: float
    error: float
    count: int
    verdict: str = ALIKE

    @property
    def reach(self) -> float:
        """Half the mean's 95 % interval; NaN of one video."""
        return self.error * student(self.count - 1) if self.count > 1 else math.nan


def student(freedom: float) -> float:
    """Student's t of 0.975; between 1 and 30 degrees the next lower whole number's, beyond 30 by its expansion."""
    freedom += 1e-9  # a whole number is often a hair less than itself
    if freedom < len(STUDENT) + 1:
        return STUDENT[max(int(freedom), 1) - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom * freedom)


def cell(values: Sequence[float]) -> Cell:
    values = [value for value in values if not math.isnan(value)]
    if not values:
        return Cell(math.nan, math.nan, 0)
    error = statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return Cell(statistics.fmean(values), error, len(values))


def verdict(first: Cell, other: Cell, better: int) -> str:
    """BETTER, WORSE or OTHER where the means differ beyond their 95 % interval (Welch's t)."""
    by = other.mean - first.mean
    if math.isnan(by) or math.isclose(first.mean, other.mean, rel_tol=1e-12):  # equal values' means, of other counts
        return ALIKE
    error = math.hypot(first.error, other.error)
    if math.isnan(error):
        return UNKNOWN
    if error > 0:
        shares = ((cell.error / error) ** 4 / (cell.count - 1) for cell in (first, other))
        if abs(by) <= student(1 / sum(shares)) * error:
            return ALIKE
    return OTHER if better == 0 else BETTER if by * better > 0 else WORSE


def compared(groups: Sequence[Sequence[Mapping[str, float]]], better: Mapping[str, int]) -> dict[str, list[Cell]]:
    """Per metric of `better`, a Cell per group; groups: of each its videos' values by metric.

    The first group is what the others are judged against. Metrics that no video has are left out.
    """
    found = {}
    for name, way in better.items():
        cells = [cell([video.get(name, math.nan) for video in group]) for group in groups]
        if any(c.count for c in cells):
            first = cells[0]
            rest = (Cell(c.mean, c.error, c.count, verdict(first, c, way)) for c in cells[1:])
            found[name] = [first, *rest]
    return found
