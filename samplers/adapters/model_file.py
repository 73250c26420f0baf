"""A loaded MODEL as one safetensors file and a few kilobytes, from which other processes make the same MODEL.

Core 0.3.75 does not say from which files a MODEL was loaded, and a later one tells the loader but not what other nodes
did to the weights. So the head writes what it has: each weight before any LoRA, and the LoRAs' own tensors, once and
only while workers are at work. Workers map that file, so that on one machine its pages lie in memory once. The bytes
beside it are the modules without weights, the patches' settings and the model options; a worker patches as core does.
"""

import json
from pathlib import Path

import comfy.model_management
import comfy.model_patcher
import torch
from safetensors import safe_open

from .sent import pack, to_wire, unpack

KINDS = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
    torch.float8_e4m3fn: "F8_E4M3", torch.float8_e5m2: "F8_E5M2",
}  # fmt: skip
ALIGNED = 64  # bytes: where PyTorch's own tensors begin, for kernels round by it
SET = ("patches", "object_patches", "weight_wrapper_patches", "force_cast_weights")  # of a ModelPatcher


def unload(patcher) -> None:
    """Take a model off its device: its weights are then those of before any LoRA."""
    loaded = comfy.model_management.current_loaded_models
    others = [m for m in loaded if m.model is None or not m.model.is_clone(patcher)]
    comfy.model_management.free_memory(1e30, patcher.load_device, keep_loaded=others)
    if patcher.backup:  # of a clone that was let go of while its LoRA lay on the weights
        patcher.unpatch_model(patcher.offload_device)


def write(patcher, path: Path) -> bytes:
    """Write an unloaded ModelPatcher's tensors to `path`; returns the rest. Raises sent.Unsendable."""
    tensors: dict[int, torch.Tensor] = {}

    def keep(t: torch.Tensor):
        tensors[id(t)] = t
        kind = isinstance(t, torch.nn.Parameter), t.requires_grad, t.is_inference()
        return str(id(t)), tuple(t.shape), t.stride(), kind

    values = {name: getattr(patcher, name) for name in SET if hasattr(patcher, name)}
    names = {id(p): "patcher" for p in (patcher, getattr(patcher.model, "current_patcher", None)) if p is not None}
    blob = pack({"model": patcher.model, "set": values}, keep, names)
    write_tensors({str(key): t for key, t in tensors.items()}, path)
    return blob


def write_tensors(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """A safetensors file, tensor by tensor, each on a place that PyTorch would give it."""
    header, at, gaps = {}, 0, {}
    for name, t in tensors.items():
        size = t.numel() * t.element_size()
        if t.dtype not in KINDS:
            raise TypeError(f"weights of {t.dtype}")
        header[name] = {"dtype": KINDS[t.dtype], "shape": list(t.shape), "data_offsets": [at, at + size]}
        at, gaps[name] = at + size, -size % ALIGNED
        if gaps[name]:
            header[f"gap {name}"] = {"dtype": "U8", "shape": [gaps[name]], "data_offsets": [at, at + gaps[name]]}
            at += gaps[name]
    text = json.dumps(header).encode()
    text += b" " * (-(len(text) + 8) % ALIGNED)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, t in tensors.items():
            comfy.model_management.throw_exception_if_processing_interrupted()
            file.write(to_wire(t)[2].data)
            file.write(bytes(gaps[name]))


def read(blob: bytes, path: Path):
    """A ModelPatcher of one's own, not loaded yet, from what write() left."""
    known: dict[tuple, torch.Tensor] = {}
    with safe_open(path, framework="pt", device="cpu") as file:

        def tensor(key):
            if key not in known:
                name, shape, stride, (parameter, grad, inference) = key
                with torch.inference_mode(inference), torch.no_grad():  # PyTorch has other kernels for what can learn
                    t = file.get_tensor(name)
                    if t.stride() != stride:
                        t = torch.empty_strided(shape, stride, dtype=t.dtype).copy_(t)
                    known[key] = torch.nn.Parameter(t, grad) if parameter else t.requires_grad_(grad)
            return known[key]

        parts = unpack(blob, tensor, lambda name: None)
    offload = comfy.model_management.unet_offload_device()
    parts["model"].device = offload
    patcher = comfy.model_patcher.ModelPatcher(parts["model"], comfy.model_management.get_torch_device(), offload)
    for name, value in parts["set"].items():
        setattr(patcher, name, value)
    return patcher
