"""What goes to workers: objects as bytes, their tensors beside them (by wire or by file), by name what cannot go.

Bytes are made by Ray's cloudpickle, so that functions inside functions (a node's wrappers) go by their code. They are
read by the actors that this process made, and by nobody else: what comes back are tensors' bytes and text. Classes and
functions must be of Python, PyTorch, ComfyUI or this pack, which a worker has; another pack's are refused by name.
"""

import copyreg
import hashlib
import io
import pickle
import sys
import types
from collections.abc import Callable

import numpy as np
import torch
from comfy.model_patcher import ModelPatcher
from comfy.supported_models_base import BASE

NODE = "Workers (Ray) (LongTakeWorkers)"
PACK = __package__.removesuffix(".samplers.adapters")
KNOWN = {
    *sys.stdlib_module_names, "torch", "numpy", "einops", "comfy", "comfy_extras", "comfy_api", "comfy_api_nodes",
    "comfy_config", "comfy_execution", "comfy_kitchen", "safetensors", "ray",
} - {"__main__"}  # fmt: skip


class Unsendable(Exception):
    """What of an object cannot go, in words."""


def _refuse_foreign(value) -> None:
    module = getattr(value, "__module__", None) or "builtins"
    own = module == PACK or module.startswith(PACK + ".")
    if not own and module.partition(".")[0] not in KNOWN:
        raise Unsendable(f"{value.__qualname__} of {module.replace(chr(92), '/').rpartition('/')[2]}")


def set_attributes(value, attributes: dict) -> None:
    vars(value).update(attributes)


def pack(value, keep: Callable[[torch.Tensor], object], names: dict[int, object] | None = None) -> bytes:
    """`value` as bytes. keep(tensor): what stands there for a tensor; names: what stands for an object, by its id.
    Raises Unsendable."""
    from ray.cloudpickle import cloudpickle

    names = names or {}

    class Pickler(cloudpickle.Pickler):
        def persistent_id(self, obj):
            if isinstance(obj, torch.Tensor):
                if type(obj) not in (torch.Tensor, torch.nn.Parameter) or obj.layout != torch.strided:
                    raise Unsendable(f"a tensor of the kind {type(obj).__name__}")
                return "tensor", keep(obj)
            if id(obj) in names:
                return "name", names[id(obj)]
            if isinstance(obj, ModelPatcher):
                raise Unsendable(f"another model ({type(obj.model).__name__})")
            return None

        def reducer_override(self, obj):
            if isinstance(obj, (type, types.FunctionType)):
                _refuse_foreign(obj)
            elif isinstance(obj, BASE):  # newer cores' say None to the name of every attribute, those of pickle too
                return copyreg.__newobj__, (type(obj),), vars(obj), None, None, set_attributes
            reduced = super().reducer_override(obj)
            # A class inside a function, which would lose its full name.
            if isinstance(obj, type) and isinstance(reduced, tuple) and len(reduced) > 2:
                reduced[2][0]["__qualname__"] = obj.__qualname__
            return reduced

    buffer = io.BytesIO()
    try:
        Pickler(buffer, protocol=5).dump(value)
    except Unsendable:
        raise
    except Exception as error:  # a lock, a file, a generator, ..: each with an error of its own
        raise Unsendable(f"what only this process has ({error})") from error
    return buffer.getvalue()


def unpack(blob: bytes, tensor: Callable[[object], torch.Tensor], named: Callable[[object], object]):
    """What pack() was given. tensor, named: what stands behind keep's and names' values."""

    class Unpickler(pickle.Unpickler):
        def persistent_load(self, pid):
            kind, value = pid
            return tensor(value) if kind == "tensor" else named(value)

    return Unpickler(io.BytesIO(blob)).load()


def to_wire(t: torch.Tensor) -> tuple[str, tuple[int, ...], np.ndarray]:
    """A tensor as plain things."""
    flat = t.detach().to("cpu").contiguous().reshape(-1)
    return str(t.dtype).removeprefix("torch."), tuple(t.shape), flat.view(torch.uint8).numpy()


def from_wire(dtype: str, shape: tuple[int, ...], data: np.ndarray) -> torch.Tensor:
    """In memory of its own, as PyTorch lays it: kernels round by how a tensor lies."""
    t = torch.empty(shape, dtype=getattr(torch, dtype))
    if t.numel():
        t.reshape(-1).view(torch.uint8).copy_(torch.from_numpy(np.array(data)))
    return t


def digest_of(about, *data) -> bytes:
    """Of arrays or bytes, and of `about` by what it prints."""
    digest = hashlib.blake2b(repr(about).encode(), digest_size=20)
    for part in data:
        digest.update(part)
    return digest.digest()
