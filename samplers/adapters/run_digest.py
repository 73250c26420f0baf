"""What decides the result of a sampling run, as digests by name: alike only where the run would be the same.

Taken when core has prepared everything and the sampler is about to begin. Values are read by what they hold, never by
which objects they are, so that another process comes to the same digests; functions by their names, their code and what
they close over. Of weights a few numbers of each tensor are read, before any LoRA; LoRAs and other patches, of which
all but very large tensors are read whole, come from the ModelPatcher. What is unknown here (an object of another pack
with, say, a clock in it) can only make a digest differ.
"""

import copyreg
import dis
import enum
import functools
import hashlib
import struct
import types
from collections.abc import Iterator
from pathlib import Path

import comfy.model_patcher
import torch

from .hooks import WORKERS
from .steps import RUN

SAMPLES = 256  # numbers that are read of a weight
LARGE = 2**23  # numbers of a patch that is read as weights are: of a merged model, no LoRA's
DEEPEST = 60
# Keys and attributes that say nothing about the result, or are counters of a run.
SILENT = {
    "uuid", "patches_uuid", "sample_sigmas", "longtake_filmstrip", "longtake_checkpoint", "need_weight_init", "_step",
    "hook_id", "_curr_t", "curr_t", RUN, WORKERS,
}  # fmt: skip
NAMES = {"context_handler": "windows", "longtake_path_hooks": "attention between windows", "wrappers": "model wrappers",
         "optimized_attention_override": "attention"}  # fmt: skip
GUIDER = ("model_patcher", "model_options", "conds", "original_conds", "inner_model", "loaded_models")
CODE = Path(__file__).resolve().parent.parent


class Digest:
    """Digests of values. One object for one run: what was read once is not read again."""

    def __init__(self):
        self.known: dict[tuple, tuple] = {}  # by id and way: the value (which keeps its id) and its digest
        self.depth = 0

    def of(self, value, weights: bool = False) -> str:
        """weights: large tensors in it are sampled."""
        key = id(value), weights
        if key in self.known:
            return self.known[key][1]
        if self.depth > DEEPEST:
            return "deep"
        self.known[key] = value, "circle"
        self.depth += 1
        try:
            found = hashlib.sha256(repr(self._parts(value, weights)).encode()).hexdigest()
        finally:
            self.depth -= 1
        self.known[key] = value, found
        return found

    def _parts(self, value, weights: bool):
        of = functools.partial(self.of, weights=weights)
        if value is None or isinstance(value, (bool, int, str, bytes, complex, torch.dtype, torch.device, torch.Size)):
            return value
        if isinstance(value, float):
            return struct.pack("<d", value)
        if isinstance(value, enum.Enum):
            return type(value).__qualname__, value.name
        if isinstance(value, torch.nn.Module):
            return self._module(value)
        if isinstance(value, torch.Tensor):
            return _whole(value) if not weights or _readable(value) else _sampled(value)
        if isinstance(value, comfy.model_patcher.ModelPatcher):
            return sorted(self.model(value).items())
        if isinstance(value, dict):
            return "dict", sorted((str(k), of(v)) for k, v in value.items() if k not in SILENT)
        if isinstance(value, (list, tuple)):
            return "list", [of(v) for v in value]
        if isinstance(value, (set, frozenset)):
            return "set", sorted(of(v) for v in value)
        if isinstance(value, functools.partial):
            return "partial", of(value.func), of(value.args), of(value.keywords)
        if isinstance(value, types.MethodType):
            return "method", of(value.__func__), of(value.__self__)
        if isinstance(value, types.FunctionType):
            return self._function(value, of)
        if isinstance(value, types.CodeType):
            return "code", value.co_code, value.co_names, of(value.co_consts)
        if isinstance(value, types.BuiltinFunctionType) and not isinstance(value.__self__, (types.ModuleType, type)):
            return "bound", value.__qualname__, of(value.__self__)  # a dict's get, which needs that dict
        if isinstance(value, (types.BuiltinFunctionType, types.ModuleType)):
            return "named", _home(value), getattr(value, "__qualname__", value.__name__)
        if isinstance(value, type):
            return "class", _home(value), _lineage(value)
        if hasattr(value, "__array_interface__"):  # NumPy's
            return type(value).__name__, str(value.dtype), value.shape, value.tobytes()
        if isinstance(value, torch.Generator):
            return "generator", _whole(value.get_state())
        return _home(type(value)), _lineage(type(value)), of(_attributes(value) or _reduced(value))

    def _function(self, function, of):
        cells = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        cells = [cell for name, cell in cells if _filled(cell) and name not in _written(function)]
        return (
            "function", _home(function), function.__qualname__, of(function.__code__), of(function.__defaults__),
            of(function.__kwdefaults__), [of(cell.cell_contents) for cell in cells],
        )  # fmt: skip

    def _module(self, module: torch.nn.Module):
        tensors = [*module.named_parameters(), *module.named_buffers()]
        plain = {}
        if not any(True for _ in module.parameters()):  # a model_sampling; what holds weights has notes of its loading
            plain = {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str))}
        return _lineage(type(module)), sorted(plain.items()), [(name, _sampled(t)) for name, t in tensors]

    def model(self, patcher) -> dict[str, str]:
        """model: class, settings and weights; LoRA: patches of weights; model settings: patches of objects."""
        real = patcher.model
        backup = getattr(patcher, "backup", {})
        weights = []
        for name, tensor in [*real.named_parameters(), *real.named_buffers()]:
            kept = backup.get(name)
            weights.append((name, _sampled(tensor if kept is None else getattr(kept, "weight", kept))))
        config = getattr(getattr(real, "model_config", None), "unet_config", None)
        own = {**getattr(patcher, "object_patches", {}), "model_sampling": patcher.get_model_object("model_sampling")}
        patches = {"patches": patcher.patches, "wrappers": getattr(patcher, "weight_wrapper_patches", {})}
        return {
            "model": self.of((type(real).__qualname__, str(patcher.model_dtype()), config, weights)),
            "LoRA": self.of(patches, weights=True),
            "model settings (shift and others)": self.of(own),
        }


def _attributes(value) -> dict:
    names = [*getattr(value, "__dict__", {}), *(n for c in type(value).__mro__ for n in getattr(c, "__slots__", ()))]
    return {name: getattr(value, name) for name in names if not name.startswith("_current") and hasattr(value, name)}


def _home(value) -> str:
    """The module of a class or function. That of a pack is named by core after the folder that it lies in, which may
    have been moved."""
    return str(getattr(value, "__module__", "")).replace("\\", "/").rpartition("/")[2]


def _lineage(kind: type) -> list[str]:
    """A class and its bases: core makes that of a model's sampling of two others, under one name for eps, v and
    flow."""
    return [c.__qualname__ for c in kind.__mro__]


def _reduced(value):
    """What an object without attributes, as a range or a date, is made anew of; None where it does not say."""
    try:
        reduce = copyreg.dispatch_table.get(type(value))
        made = reduce(value) if reduce else value.__reduce_ex__(2)
    except Exception:  # what cannot be copied says so in ways of its own
        return None
    return made if isinstance(made, str) else [list(part) if isinstance(part, Iterator) else part for part in made]


def _written(function: types.FunctionType) -> set[str]:
    """The names around it that a function writes itself (nonlocal): a memory of its calls, not a setting."""
    stored = {i.argval for i in dis.get_instructions(function.__code__) if i.opname == "STORE_DEREF"}
    return stored.intersection(function.__code__.co_freevars)


def remembering(model_options: dict) -> list[str]:
    """The functions among a model's options that hold something from one step to the next, as core's APG does."""
    found = []
    for value in model_options.values():
        for function in value if isinstance(value, (list, tuple)) else [value]:
            if isinstance(function, types.FunctionType) and _written(function):
                found.append(function.__qualname__.split(".")[0])
    return found


def _filled(cell) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True


def _bytes(t: torch.Tensor) -> bytes:
    return t.detach().to("cpu").contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def _whole(t: torch.Tensor):
    digest = hashlib.sha256()
    for part in t.detach().reshape(-1).split(2**22):
        digest.update(_bytes(part))
    return "tensor", str(t.dtype), tuple(t.shape), digest.hexdigest()


def _readable(t: torch.Tensor) -> bool:
    return type(t) is torch.Tensor and t.layout == torch.strided and not t.is_meta and t.numel() <= LARGE


def _sampled(t: torch.Tensor):
    """Some numbers of a tensor, from all over it. A weight that cannot be read (on no device) is told by its shape."""
    try:
        flat = t.detach().reshape(-1)
        some = flat[:: flat.numel() // SAMPLES | 1]  # odd: an even step meets the same few columns in every row
        return "weight", str(t.dtype), tuple(t.shape), hashlib.sha256(_bytes(some)).hexdigest()
    except Exception:  # of tensors with code of their own, and of those that are on no device
        return "weight", str(t.dtype), tuple(t.shape)


@functools.cache
def versions() -> dict[str, str]:
    """What the result depends on beside a run's own: LongTake's code, ComfyUI, PyTorch."""
    try:
        from comfyui_version import __version__ as comfyui
    except ImportError:
        comfyui = "unknown"
    code = hashlib.sha256()
    for path in sorted(CODE.rglob("*.py")):
        code.update(path.read_bytes())
    found = {"ComfyUI": comfyui, "PyTorch": torch.__version__, "LongTake": code.hexdigest()}
    return {f"{name}'s version": version for name, version in found.items()}


def parts_of(guider, sampler, sigmas, extra_args: dict, noise, latent_image, denoise_mask) -> dict[str, str]:
    """{what: digest} of a run that is about to begin."""
    digest = Digest()
    device = guider.model_patcher.load_device
    place = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    settings = {k: v for k, v in vars(guider).items() if k not in GUIDER}
    own = {"function": sampler.sampler_function, "options": sampler.extra_options, "inpaint": sampler.inpaint_options}
    parts = {
        "noise": digest.of(noise), "latent_image": digest.of(latent_image), "mask": digest.of(denoise_mask),
        "steps and scheduler": digest.of(sigmas), "seed": digest.of(extra_args.get("seed")),
        "sampler": digest.of(own), "cfg": digest.of((type(guider).__qualname__, settings)),
        "device": digest.of(place), **digest.model(guider.model_patcher),
    }  # fmt: skip
    for branch, conds in guider.conds.items():
        parts[f"{branch} prompt"] = digest.of(conds)
    options = {**guider.model_options, **guider.model_options.get("transformer_options", {})}
    for key, value in options.items():
        if key not in SILENT and key != "transformer_options":
            value = _without_silent(value)
            if value not in ({}, []):
                parts[NAMES.get(key, f"model option {key}")] = digest.of(value)
    return {**parts, **versions()}


def _without_silent(value):
    """Wrappers and callbacks are dicts of dicts: without the silent ones nothing of these may be left."""
    if not isinstance(value, dict):
        return value
    kept = {k: _without_silent(v) for k, v in value.items() if k not in SILENT}
    return {k: v for k, v in kept.items() if not (isinstance(v, (dict, list)) and len(v) == 0)}


def differing(a: dict[str, str], b: dict[str, str]) -> list[str]:
    """The names of what differs."""
    return [name for name in {**a, **b} if a.get(name) != b.get(name)]
