"""Counts a run's tensor memory by allocation: the peak, and the lines of Python that allocated what is alive then.

torch's profiler reports every block that torch's allocator hands out and takes back, temporaries inside an operation
included: the peak of their sum is exact, whatever the allocator or the process hold beside it. Not seen: what is not
the allocator's (NumPy, an FFT library's scratch). A dispatch mode labels each operation with the stack that called it.
"""

import os
import sys
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import comfy
import torch
from torch._C._profiler import _EventType
from torch.profiler import ProfilerActivity, profile, record_function
from torch.utils._python_dispatch import TorchDispatchMode

PACK, CORE = Path(__file__).resolve().parent.parent, Path(next(iter(comfy.__path__))).resolve().parent
MARK, BETWEEN = "at ", " < "  # of a label
DEPTH = 10  # lines of a stack, innermost first
NETWORKS = "comfy/ldm/"
SKIPPED = (f"{os.sep}torch{os.sep}", f"comfy{os.sep}patcher_extension.py", __file__)  # frames that say nothing


@dataclass(frozen=True)
class Peak:
    """bytes: the most alive at once, above what was alive before; sites: what is alive at that moment, by the stack
    that allocated it ("folder/file.py:line function", innermost first), the largest first; call: the most alive at once
    while one of core's networks runs."""

    bytes: int
    sites: dict[tuple[str, ...], int]
    call: int = 0


class _Labels(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.names = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        frame, lines = sys._getframe(1), []
        while frame is not None and len(lines) < DEPTH:
            name = frame.f_code.co_filename
            if name not in self.names:
                self.names[name] = _short(name)
            if self.names[name]:
                lines.append(f"{self.names[name]}:{frame.f_lineno} {frame.f_code.co_name}")
            frame = frame.f_back
        with record_function(MARK + BETWEEN.join(lines)):
            return func(*args, **(kwargs or {}))


def _short(name: str) -> str:
    """A file's name within the pack or ComfyUI; "" for one that is skipped."""
    if any(part in name for part in SKIPPED):
        return ""
    path = Path(name)
    root = next((root for root in (PACK, CORE) if path.is_relative_to(root)), None)
    return "/".join(path.parts[-2:]) if root is None else path.relative_to(root).as_posix()


def measure(function: Callable[[], object], device: torch.device | str = "cpu") -> Peak:
    """The peak of function() on `device`'s type; on CUDA its bytes are torch.cuda's own count."""
    kind = torch.device(device).type
    if kind == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if kind == "cuda" else [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the profiler, about events that it does not keep
        with profile(activities=activities, profile_memory=True) as recorded, _Labels():
            function()
    peak = _peak(_blocks(recorded.profiler.kineto_results.experimental_event_tree(), kind))
    return replace(peak, bytes=torch.cuda.max_memory_allocated() - before) if kind == "cuda" else peak


def _blocks(roots: list, kind: str) -> list[tuple[int, int, int, tuple[str, ...]]]:
    """(time, bytes, address, stack) of each block handed out and, with negative bytes, taken back; in order."""
    found, pending = [], [(event, ()) for event in roots]
    while pending:
        event, stack = pending.pop()
        if event.tag == _EventType.Allocation:
            block = event.extra_fields
            if block.device.type == kind:
                found.append((event.start_time_ns, block.alloc_size, block.ptr, stack))
        elif event.name.startswith(MARK):
            stack = tuple(event.name.removeprefix(MARK).split(BETWEEN))
        pending += [(child, stack) for child in event.children]
    return sorted(found, key=lambda block: block[0])


def _peak(blocks: list) -> Peak:
    total = most = call = until = 0
    alive: dict[int, tuple[int, tuple]] = {}
    for i, (_, size, address, stack) in enumerate(blocks):
        if size > 0:
            alive[address] = (size, stack)
            total += size
        else:
            total -= alive.pop(address, (0, ()))[0]  # unknown: older than the run
        if total > most:
            most, until = total, i + 1
        if total > call and any(line.startswith(NETWORKS) for line in stack):
            call = total
    alive.clear()
    for _, size, address, stack in blocks[:until]:
        if size > 0:
            alive[address] = (size, stack)
        else:
            alive.pop(address, None)
    sites: Counter = Counter()
    for size, stack in alive.values():
        sites[stack] += size
    return Peak(most, dict(sites.most_common()), call)
