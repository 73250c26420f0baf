"""Counts a run's tensor memory by allocation: the peak, and the lines of Python that allocated what is alive then.

torch's profiler reports every block that torch's allocator hands out and takes back, temporaries inside an operation
included; the peak of their sum is exact, whatever the process or the allocator hold beside it. Not seen: what is not
the allocator's (NumPy, an FFT library's scratch). A dispatch mode labels each operation with the Python stack that
called it.
"""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

LABEL = "at "  # begins the name of a labelled operation
DEPTH = 12  # stack lines of a label, innermost first
SKIPPED = (os.sep + "torch" + os.sep, "patcher_extension.py", __file__)  # frames that say nothing


@dataclass(frozen=True)
class Peak:
    """bytes: most of them alive at once above what was alive before; sites: stack, innermost line first -> bytes of
    what is alive at that moment."""

    bytes: int
    sites: dict[tuple[str, ...], int]


class _Labels(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        with record_function(LABEL + " < ".join(_stack())):
            return func(*args, **(kwargs or {}))


def _stack() -> list[str]:
    frame, lines = sys._getframe(1), []
    while frame is not None and len(lines) < DEPTH:
        name = frame.f_code.co_filename
        if not any(part in name for part in SKIPPED):
            path = Path(name)
            short = "/".join(path.parts[-2:])
            lines.append(f"{short}:{frame.f_lineno} {frame.f_code.co_name}")
        frame = frame.f_back
    return lines


def measure(function: Callable[[], object], device: torch.device | str = "cpu", sites: bool = True) -> Peak:
    """The peak of function(); tensors that it returns are dropped after it. Only blocks on `device`'s type count."""
    kind = torch.device(device).type
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if kind == "cuda" else [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with profile(activities=activities, profile_memory=True) as recorded:
            if sites:
                with _Labels():
                    function()
            else:
                function()
    return _peak(recorded.profiler.kineto_results.experimental_event_tree(), kind)


def _peak(roots: list, kind: str) -> Peak:
    found = []  # (time, bytes, address, stack)
    pending = [(event, ()) for event in roots]
    while pending:
        event, stack = pending.pop()
        if event.tag == _EventType.Allocation:
            block = event.extra_fields
            if block.device.type == kind:
                found.append((event.start_time_ns, block.alloc_size, block.ptr, stack))
        elif event.name.startswith(LABEL):
            stack = tuple(event.name.removeprefix(LABEL).split(" < "))
        pending += [(child, stack) for child in event.children]
    found.sort(key=lambda f: f[0])
    alive: dict[int, tuple[int, tuple]] = {}
    total = most = 0
    at = -1
    for i, (_, size, ptr, _) in enumerate(found):
        if size < 0 and ptr not in alive:
            continue  # older than the run
        if size < 0:
            total -= alive.pop(ptr)[0]
            continue
        alive[ptr] = (size, ())
        total += size
        if total > most:
            most, at = total, i
    alive.clear()
    for _, size, ptr, stack in found[: at + 1]:
        if size > 0:
            alive[ptr] = (size, stack)
        else:
            alive.pop(ptr, None)
    sites = Counter()
    for size, stack in alive.values():
        sites[stack] += size
    return Peak(most, dict(sites.most_common()))
