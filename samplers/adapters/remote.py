"""A worker's own side: it has the head's model, and computes the calls that it is sent. Knows nothing of Ray."""

import contextlib
import ctypes
import time
import traceback
from pathlib import Path

import comfy.model_management
import comfy.samplers
import torch

from .calls import compute
from .hooks import Call
from .model_file import read
from .run_digest import Digest, versions
from .sent import from_wire, to_wire, unpack
from .steps import Run

OUT_OF_MEMORY = "out of memory"
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h


def keep_memory() -> None:
    """Have glibc keep what is freed: under Ray it gives every large tensor back to the system, and each new one costs
    page faults, a sixth of a call's time on a CPU. Where there is no glibc, nothing."""
    with contextlib.suppress(AttributeError, OSError, TypeError):
        libc = ctypes.CDLL(None)
        libc.mallopt(M_MMAP_THRESHOLD, 2**25)  # the most that it takes
        libc.mallopt(M_TRIM_THRESHOLD, 2**30)


def module_names(patcher) -> dict[int, str]:
    """What stands for a model and its modules in what is sent, by their ids."""
    names = {id(module): f"module {name}" for name, module in patcher.model.named_modules()}
    return {**names, id(patcher.model): "model", id(patcher): "patcher"}


class Remote:
    """One worker's model. Everything that comes and goes is bytes, numbers, text and arrays."""

    def __init__(self, threads: int):
        torch.set_num_threads(threads)
        keep_memory()
        self._forget()

    def _forget(self) -> None:
        self.tensors: dict[bytes, torch.Tensor] = {}  # what the head knows to be here
        self.options: dict[bytes, dict] = {}  # model_options of the latest evaluation, by digest
        self.hooks: dict[int, list] = {}  # by path
        self.run = Run()

    def load(self, blob: bytes, path: str) -> dict[str, str]:
        """Make the model, and say by digests which it is."""
        self._forget()
        with torch.inference_mode():
            self.patcher = read(blob, Path(path))
            self.model = self.patcher.model
            return {**Digest().model(self.patcher), **versions()}

    def compute(self, message: dict) -> dict:
        """A call's predictions, or what went wrong."""
        try:
            with torch.inference_mode():
                return self._compute(message)
        except torch.cuda.OutOfMemoryError as error:
            return {"error": OUT_OF_MEMORY, "text": str(error)}
        except Exception as error:
            return {"error": type(error).__name__, "text": str(error), "trace": traceback.format_exc()}

    def _compute(self, message: dict) -> dict:
        began = time.perf_counter()
        if message["forget"]:
            self.tensors.clear()
        x, sigma = (from_wire(*t) for t in message["x"])
        self._load(x.shape, message["branches"])
        if message["options"] is not None:
            self.options = {message["digest"]: self._unpacked(*message["options"])}
        of_call = self._unpacked(*message["call"])
        hooks = self._hooks(message, of_call)
        options = self.options[message["digest"]]
        options = {**options, "transformer_options": {**options["transformer_options"], **of_call["options"]}}
        device = self.patcher.load_device
        call = Call(of_call["indices"], of_call["windows"], of_call["conds"], x.to(device), sigma.to(device), options)
        results = compute(comfy.samplers._calc_cond_batch_outer, self.model, call, hooks, self.run)
        answer = [to_wire(result) for result in results] if message["answer"] else []
        return {"results": answer, "seconds": time.perf_counter() - began}

    def _load(self, shape, branches: int) -> None:
        if self.model.current_patcher is None:
            memory = self.model.memory_required([shape[0] * branches, *shape[1:]])
            comfy.model_management.load_models_gpu([self.patcher], memory_required=memory)
            self.patcher.pre_run()

    def _hooks(self, message: dict, of_call: dict) -> list:
        """The hooks' parts in the call's path: this worker's own, which live as long as the path."""
        path = message["path"]
        if path not in self.hooks:
            for hook in (hook for hooks in self.hooks.values() for hook in hooks):
                hook.end()
            self.hooks = {path: of_call["hooks"]}
        return self.hooks[path]

    def _received(self, digest: bytes | None, wire: tuple | None, ours: bool) -> torch.Tensor:
        if wire is None:
            return self.tensors[digest]
        t = from_wire(*wire)
        t = t.to(self.patcher.load_device) if ours else t
        if digest is not None:
            self.tensors[digest] = t
        return t

    def _unpacked(self, blob: bytes, tensors: list):
        received = [self._received(*tensor) for tensor in tensors]
        return unpack(blob, received.__getitem__, self._named)

    def _named(self, name: str):
        if name in ("model", "patcher"):
            return getattr(self, name)
        return self.model.get_submodule(name.removeprefix("module ").strip())
