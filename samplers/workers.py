"""Which worker computes which model call, and how long a step takes with so many of them. Pure functions.

A call's cost is what it makes of the model, in windows. A worker's pace is how many seconds it takes for one. Calls are
handed out one by one, each to the worker that would have it done first, so that a slow one gets fewer; a worker has at
most DEPTH of them, one to compute and one on its way, so that what is left goes to those that turn out to be quick.
"""

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

DEPTH = 2
TELLING = 0.5  # windows
WEIGHT = 0.5  # of the newest measurement in a pace


@dataclass
class Paces:
    """Measured seconds per unit of cost (a window), by worker; of one that was not measured yet, the others' mean. A
    worker's first call says nothing, for the model is loaded in it, and may be compiled; nor does a call of less than
    half a window, of which a whole one may take far more than twice the time."""

    known: dict = field(default_factory=dict)
    begun: set = field(default_factory=set)
    fresh: set = field(default_factory=set)

    def note(self, worker, cost: float, seconds: float) -> None:
        if cost < TELLING:
            return
        if worker in self.begun:
            new, old = seconds / max(cost, 1e-9), self.known.get(worker)
            self.known[worker] = new if old is None else WEIGHT * new + (1 - WEIGHT) * old
            self.fresh.add(worker)
        self.begun.add(worker)

    def of(self, worker) -> float:
        if worker in self.known:
            return self.known[worker]
        return sum(self.known.values()) / len(self.known) if self.known else 1.0

    def relax(self) -> None:
        """Between steps: one that had no call in the last one may be quicker than it was, and comes half way to the
        quickest; else a moment's delay would keep it idle for the rest of a run."""
        for worker in self.known.keys() - self.fresh:
            self.known[worker] = (self.known[worker] + min(self.known.values())) / 2
        self.fresh.clear()


def next_worker(waiting: Sequence[float], counts: Sequence[int], paces: Sequence[float], cost: float) -> int | None:
    """The number of the worker that would have a call done first; None where that one has DEPTH calls: the call waits
    for it. waiting: seconds until each is through with its calls; counts: how many these are."""
    first = min(range(len(paces)), key=lambda i: (waiting[i] + cost * paces[i], counts[i], i))
    return first if counts[first] < DEPTH else None


@dataclass(frozen=True)
class Link:
    """The head's network: bytes per second each way, seconds of delay, bytes of a call's input and of its result per
    unit of cost."""

    rate: float
    delay: float
    sent: float
    received: float


@dataclass(frozen=True)
class Step:
    """A simulated step: seconds, and how many calls each worker computed."""

    wall: float
    counts: tuple[int, ...]


def simulate(costs: Sequence[float], paces: Sequence[float], link: Link, leads: bool = False) -> Step:
    """One step's calls over workers of these paces behind one link of the head, handed out as above. leads: every
    worker computes the first call before any other (see adapters.calls.WindowPath.leads)."""
    workers = range(len(paces))
    free, counts, done = [0.0 for _ in workers], [0 for _ in workers], [0 for _ in workers]
    up = down = now = 0.0
    ends: list[tuple[float, int, float]] = []  # a call's end on its worker, the worker, the result's bytes
    arrived: list[tuple[float, int]] = []  # a result's arrival, the worker
    todo = list(reversed(costs))

    def send(worker: int, cost: float, answered: bool) -> None:
        nonlocal up
        up = max(now, up) + cost * link.sent / link.rate
        free[worker] = max(up + link.delay, free[worker]) + cost * paces[worker]
        if answered:
            counts[worker] += 1
            done[worker] += 1
            heapq.heappush(ends, (free[worker], worker, cost * link.received))

    if leads and todo:
        first = todo.pop()
        quickest = min(workers, key=lambda i: (paces[i], i))
        for worker in workers:
            send(worker, first, worker == quickest)
    while todo or ends or arrived:
        while todo:
            worker = next_worker([max(t - now, 0.0) for t in free], counts, paces, todo[-1])
            if worker is None:
                break
            send(worker, todo.pop(), True)
        while ends and (not arrived or ends[0][0] <= arrived[0][0]):  # results leave in the order of their ends
            end, worker, size = heapq.heappop(ends)
            down = max(end, down) + size / link.rate
            heapq.heappush(arrived, (down + link.delay, worker))
            if todo:
                break
        if arrived:
            now, worker = heapq.heappop(arrived)
            counts[worker] -= 1
    return Step(now, tuple(done))
