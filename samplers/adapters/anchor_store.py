"""Where the anchor window's keys and values of one path wait for the other windows: on the device, or in system memory.

put(key, tensors) keeps copies of the first, get(key, device) gives them back there (None: never put), clear() lets go
of all. A key names an attention layer of one prompt; a path puts and gets its keys in the same order, so that with CUDA
the next layer's are on their way, on a stream of their own, while the model computes this one's.
"""

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


class MemoryStore(DeviceStore):
    """Kept in system memory."""

    def __init__(self):
        super().__init__()
        self.next: dict[tuple, tuple] = {}  # the key that was put after each
        self.last: tuple | None = None
        self.ahead: dict[tuple, tuple] = {}  # (key, device) -> tensors that are on their way, and their event
        self.streams: dict[torch.device, torch.cuda.Stream] = {}

    def put(self, key: tuple, tensors: list[torch.Tensor]) -> None:
        if key in self.kept:
            return
        self.kept[key] = [host_copy(t) for t in tensors]
        if self.last is not None:
            self.next[self.last] = key
        self.last = key

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
        stream = self.streams.setdefault(device, torch.cuda.Stream(device))
        stream.wait_stream(current)  # the copies to system memory were begun there
        with torch.cuda.stream(stream):
            fetched = [t.to(device, non_blocking=True) for t in self.kept[following]]
            self.ahead[following, device] = fetched, stream.record_event()

    def clear(self) -> None:
        super().clear()
        self.ahead.clear()
        self.next.clear()
        self.last = None


STORES = {"gpu": DeviceStore, "cpu": MemoryStore}
