"""Finished runs and their tables: each variant's means, compared with the reference's prompt by prompt."""

import json
import math
import statistics
from pathlib import Path

from . import plots
from .variants import REFERENCE

PAIRS = 6  # runs from which on a difference may be called one
LEGEND = f"reference: {REFERENCE}; whiskers: standard error of the difference"


class Runs:
    """Finished runs by key, kept in a file: one JSON object a line. claims: a folder that says which worker makes
    what, where several add to the file."""

    def __init__(self, path: Path, resume: bool, claims: Path | None = None):
        self.path, self.found, self.claims, self.seen = path, {}, claims, 0
        path.parent.mkdir(parents=True, exist_ok=True)
        if not resume:
            path.unlink(missing_ok=True)
        self.read()

    def read(self) -> None:
        """What the file holds by now."""
        if not self.path.exists():
            return
        with self.path.open("rb") as file:
            file.seek(self.seen)
            whole = file.read().rpartition(b"\n")[0]
        self.seen += len(whole) + bool(whole)
        self.found |= {row["key"]: row for row in map(json.loads, whole.splitlines())}

    def mine(self, key: str) -> bool:
        """Whether it is this process that makes the run (or the batch that begins with it): the first to ask."""
        if self.claims is None:
            return True
        try:
            (self.claims / key).touch(exist_ok=False)
        except FileExistsError:
            return False
        return True

    def add(self, row: dict) -> None:
        self.found[row["key"]] = row
        with self.path.open("ab", buffering=0) as file:  # a line is one write, so that workers' do not mix
            file.write(f"{json.dumps(row)}\n".encode())


class Table:
    """Runs of each variant, means over prompts, compared with the reference's runs prompt by prompt (None: no run);
    name: the reference's."""

    def __init__(self, title: str, metrics: dict, rows: dict[str, list], reference: list, name: str = REFERENCE):
        self.title, self.metrics, self.rows, self.reference, self.name = title, metrics, rows, reference, name

    def value(self, label: str, name: str) -> tuple[float, float, float]:
        """(mean, mean difference to the reference, its standard error); NaN where there is nothing to tell."""
        pairs = zip(self.rows[label], self.reference, strict=True)
        values = [(r["metrics"][name], b and b["metrics"][name]) for r, b in pairs if r]
        own = [a for a, _ in values if a is not None]
        changes = [a - b for a, b in values if None not in (a, b)]
        error = statistics.stdev(changes) / math.sqrt(len(changes)) if len(changes) > 1 else math.nan
        return mean(own), mean(changes), error if len(changes) >= PAIRS else math.nan

    def cost(self, label: str, name: str) -> float:
        """Evaluations or seconds per video, times the reference's."""
        known = [(r[name], b[name]) for r, b in zip(self.rows[label], self.reference, strict=True) if r and b]
        return mean([a for a, _ in known]) / mean([b for _, b in known])

    def verdict(self, label: str, name: str) -> str:
        _, change, error = self.value(label, name)
        better = self.metrics[name].better
        if label == self.name:
            return "reference"
        if math.isnan(error) or not better or abs(change) <= 2 * error:
            return "noise"
        return "better" if change * better > 0 else "worse"

    def markdown(self, names: list[str], costs: tuple[str, ...] = ()) -> list[str]:
        def cell(label, name):
            metric = self.metrics[name]
            value, _, error = self.value(label, name)
            text = metric.text(value)
            if label != self.name and not math.isnan(error):
                text += f" \u00b1 {metric.text(error)}"
            verdict = self.verdict(label, name)
            return {"better": f"**{text}**", "worse": f"*{text}*"}.get(verdict, text)

        arrows = {1: " \u2191", -1: " \u2193", 0: ""}
        used = [self.metrics[name] for name in names]
        rows = [["variant", *(m.heading + arrows[m.better] for m in used), *costs]]
        rows.append(["---"] * len(rows[0]))
        for label in self.rows:
            spent = ["-" if math.isnan(cost := self.cost(label, name)) else f"{cost:.2f}" for name in costs]
            rows.append([f"`{label}`", *(cell(label, name) for name in names), *spent])
        return [f"| {' | '.join(row)} |" for row in rows]

    def spent(self) -> str:
        """What a video of the reference takes."""
        known = [row for row in self.reference if row]
        evaluations, seconds = (mean([row[name] for row in known]) for name in ("evaluations", "seconds"))
        return f"{self.name}: {evaluations:.0f} evaluations and {seconds:.1f} s per video." if known else ""

    def panels(self, names: tuple[str, ...] = ()) -> list[plots.Panel]:
        """The named metrics, or else the main ones, for plots.chart."""

        def dot(label, name, metric):
            value, _, error = self.value(label, name)
            error = math.nan if label == self.name else error
            return plots.Dot(value, metric.text(value), error, self.verdict(label, name))

        hints = {1: "higher is better", -1: "lower is better", 0: "neither is better"}
        return [
            plots.Panel(m.heading, hints[m.better], [dot(label, name, m) for label in self.rows])
            for name, m in self.metrics.items() if (name in names if names else m.main)
        ]  # fmt: skip


def mean(values: list[float]) -> float:
    return statistics.fmean(values) if values else math.nan
