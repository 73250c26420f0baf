"""Where the anchor window's keys and values of one path wait for the other windows: on the device, or in system memory.

put(key, tensors) keeps copies of the first, get(key, device) gives them back there (None: never put), clear() lets go
of all. A key ends in the attention layer, what it begins with names a prompt. Each prompt gets its layers in the order
in which it put them, however core batches prompts, so that with CUDA the next layer's are on their way, on a stream of
their own, while the model computes this one's.
"""

import functools

import torch
from comfy.cli_args import args


class DeviceStore:
    """Kept where they are."""

    def __init__(self):
        self.kept: dict[tuple, list[torch.Tensor]] = {}

    def put(self, key: tuple, tensors: list[torch.Tensor]) -> None:
        if key not in self.kept:
            self.kept[key] = [t.to(t.device, copy=True) for t in tensors]

    def get(self, key: tuple, device: torch.device) -> list[torch.Tensor] | None:
        return self.kept.get(key)

    def has(self, prompt: tuple) -> bool:
        """Whether anything was put for a prompt, what keys begin with."""
        return any(key[: len(prompt)] == prompt for key in self.kept)

    def clear(self) -> None:
        self.kept.clear()


def host_copy(t: torch.Tensor) -> torch.Tensor:
    """A copy in system memory, pinned for CUDA (its copy is then still under way on the current stream)."""
    if t.device.type != "cuda":
        return t.to("cpu", copy=True)
    try:
        host = torch.empty(t.shape, dtype=t.dtype, pin_memory=not getattr(args, "disable_pinned_memory", False))
    except RuntimeError:  # the system gives no more pinned memory
        host = torch.empty(t.shape, dtype=t.dtype)
    return host.copy_(t, non_blocking=True)


@functools.cache
def copy_stream(device: torch.device) -> "torch.cuda.Stream":
    """One for all paths and runs: PyTorch keeps the memory of each stream for that stream alone."""
    return torch.cuda.Stream(device)


def release_host_memory() -> None:
    """Give the system the pinned memory that PyTorch keeps for its next use: of a long video tens of GB."""
    if torch.cuda.is_initialized():
        getattr(torch._C, "_host_emptyCache", lambda: None)()  # PyTorch 2.5 and newer


class MemoryStore(DeviceStore):
    """Kept in system memory."""

    def __init__(self):
        super().__init__()
        self.next: dict[tuple, tuple] = {}  # the key that its prompt put after each
        self.last: dict[tuple, tuple] = {}  # by prompt
        self.ahead: dict[tuple, tuple] = {}  # (key, device) -> tensors that are on their way, and their event

    def put(self, key: tuple, tensors: list[torch.Tensor]) -> None:
        if key in self.kept:
            return
        self.kept[key] = [host_copy(t) for t in tensors]
        prompt = key[:-1]
        if prompt in self.last:
            self.next[self.last[prompt]] = key
        self.last[prompt] = key

    def get(self, key: tuple, device: torch.device) -> list[torch.Tensor] | None:
        if key not in self.kept:
            return None
        if device.type != "cuda":
            return [t.to(device) for t in self.kept[key]]
        current = torch.cuda.current_stream(device)
        fetched, event = self.ahead.pop((key, device), (None, None))
        if fetched is None:
            fetched = [t.to(device, non_blocking=True) for t in self.kept[key]]
        else:
            current.wait_event(event)
            for t in fetched:
                t.record_stream(current)
        self._fetch_next(key, device, current)
        return fetched

    def _fetch_next(self, key: tuple, device: torch.device, current: "torch.cuda.Stream") -> None:
        following = self.next.get(key)
        if following is None or (following, device) in self.ahead:
            return
        stream = copy_stream(device)
        stream.wait_stream(current)  # the copies to system memory were begun there
        with torch.cuda.stream(stream):
            fetched = [t.to(device, non_blocking=True) for t in self.kept[following]]
            self.ahead[following, device] = fetched, stream.record_event()

    def clear(self) -> None:
        super().clear()
        self.ahead.clear()
        self.next.clear()
        self.last.clear()


STORES = {"gpu": DeviceStore, "cpu": MemoryStore}
