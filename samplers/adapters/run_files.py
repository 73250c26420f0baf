"""The files of a kept run: safetensors alone, whole or not there at all.

    <ComfyUI's output folder>/longtake/runs/<run>/
        lock                       see run_folders.py
        step-00017.safetensors     a state: what a run is resumed from after 17 steps; names the files that it needs
        call-00017.safetensors     the answer of one call of the model (replay.Answer)
        latent-00017.safetensors   the video predicted by then, for Load Run

A file is written under another name, flushed to the disk and renamed; a state comes after all that it names, each with
its size and sha256. So a kill at any moment leaves the states of before. Nothing that is read is trusted: a link, a
file that is cut, renamed or too large, or other tensors than a run's, is refused by name.
"""

import contextlib
import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors.torch import load, save_file

FILE = re.compile(r"(?:step|call|latent)-\d{5,9}\.safetensors")
UNFINISHED = re.compile(r"\.tmp\w+")  # safetensors' own names while it writes, which a kill leaves
MOST_HEADER = 2**20  # bytes of a file's header
MOST_STATE = 2**23  # bytes of a state
KEPT_STATES = 2
FORMAT = 1


class Unreadable(ValueError):
    """A file that is not what a run has written: its name and what is wrong with it."""


@dataclass(frozen=True)
class File:
    name: str
    size: int
    sha256: str


@dataclass
class State:
    """What a run is resumed from. step of total; calls: of the model, answered so far; answers: the files of those that
    are needed, by their numbers; latent: that of the video predicted by then; parts: what decides the result, as
    digests by their names; batches: [latent frames, windows per call]; hooks: the keyframes that the prompts' hooks are
    at, see hook_states; rng: torch's generators at the run's begin."""

    step: int
    total: int
    calls: int
    answers: dict[int, File]
    latent: File
    parts: dict[str, str]
    batches: list[list[int]] = field(default_factory=list)
    hooks: list[list[float]] = field(default_factory=list)
    rng: dict[str, torch.Tensor] = field(default_factory=dict)


def own(name: str) -> bool:
    """Whether a file in a run's folder is the run's, finished or not."""
    return bool(FILE.fullmatch(name.removesuffix(".part")) or UNFINISHED.fullmatch(name))


def digest_of(parts: dict[str, str]) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


# ---- one file ----------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> File:
    """Raises OSError; what was there under this name is then still there."""
    part = folder / f"{name}.part"
    try:
        save_file({key: t.contiguous() for key, t in tensors.items()}, part, metadata)
        digest = hashlib.sha256()
        with open(part, "r+b") as file:
            while block := file.read(2**22):
                digest.update(block)
            os.fsync(file.fileno())
        size = part.stat().st_size
        os.replace(part, folder / name)
    except BaseException as error:
        with contextlib.suppress(OSError):
            part.unlink()
        if isinstance(error, (OSError, KeyboardInterrupt)):
            raise
        raise OSError(str(error)) from error  # safetensors has an error of its own
    return File(name, size, digest.hexdigest())


def flush_folder(folder: Path) -> None:
    """Make a renaming lasting; Windows does by itself."""
    if os.name != "nt":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def read(folder: Path, name: str, most: int | None = None, known: File | None = None):
    """(tensors, metadata) of a file of a run. Raises Unreadable."""
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            raise Unreadable(f"{name} is a link or no file" if os.path.lexists(path) else f"{name} is missing")
        size = path.stat().st_size
        if known is not None and size != known.size:
            raise Unreadable(f"{name} has {size} bytes, not {known.size}")
        if most is not None and size > most:
            raise Unreadable(f"{name} has {size} bytes; a state has at most {most}")
        data = path.read_bytes()
    except OSError as error:
        raise Unreadable(f"{name} cannot be read: {error}") from error
    header = int.from_bytes(data[:8], "little")
    if len(data) < 8 or header > min(MOST_HEADER, len(data) - 8):
        raise Unreadable(f"{name} is cut, or its header is too large ({header} bytes)")
    if known is not None and hashlib.sha256(data).hexdigest() != known.sha256:
        raise Unreadable(f"{name} is not the file that the run has written")
    try:
        metadata = json.loads(data[8 : 8 + header]).get("__metadata__", {})
        return load(data), metadata
    except Exception as error:  # safetensors' own, JSON's, or those of a header that is no object
        raise Unreadable(f"{name} is no whole safetensors file: {str(error)[:200]}") from error


# ---- states ------------------------------------------------------------------------------------------------------


def write_state(folder: Path, state: State) -> None:
    """Write a state and delete what no kept state needs. Raises OSError."""
    known = {
        "format": FORMAT, "run": folder.name, "step": state.step, "total": state.total, "calls": state.calls,
        "answers": [[number, *vars(file).values()] for number, file in state.answers.items()],
        "latent": list(vars(state.latent).values()), "parts": state.parts, "batches": state.batches,
        "hooks": state.hooks,
    }  # fmt: skip
    tensors, text = {f"rng {key}": value for key, value in state.rng.items()}, json.dumps(known)
    name = f"step-{state.step:05}.safetensors"
    write(folder, name, tensors, {"state": text, "sha256": state_digest(text, tensors)})
    flush_folder(folder)
    tidy(folder)


def state_digest(text: str, tensors: dict[str, torch.Tensor]) -> str:
    """Nothing else names a state's own digest: it has it in itself."""
    digest = hashlib.sha256(text.encode())
    for key, value in sorted(tensors.items()):
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
    return digest.hexdigest()


def step_files(folder: Path) -> list[str]:
    """The names of a run's states, the newest first."""
    names = [e.name for e in os.scandir(folder) if e.name.startswith("step-") and FILE.fullmatch(e.name)]
    return sorted(names, key=lambda name: int(name[5:-12]), reverse=True)


def read_state(folder: Path, name: str) -> State:
    """Raises Unreadable."""
    tensors, metadata = read(folder, name, MOST_STATE)
    try:
        if metadata["sha256"] != state_digest(metadata["state"], tensors):
            raise ValueError("it is not as the run has written it")
        known = json.loads(metadata["state"])
        state = State(
            *(_whole(known[key]) for key in ("step", "total", "calls")),
            {_whole(number): _file("call", *rest) for number, *rest in known["answers"]},
            _file("latent", *known["latent"]),
            {str(key): str(value) for key, value in known["parts"].items()},
            [[_whole(length), _whole(count)] for length, count in known["batches"]],
            [[_whole(index), _whole(used), float(at)] for index, used, at in known["hooks"]],
            {key.removeprefix("rng "): tensor for key, tensor in tensors.items()},
        )
        fits = known["format"] == FORMAT and state.rng.keys() <= {"cpu", "device"} and "cpu" in state.rng
        fits = fits and all(t.dtype == torch.uint8 and t.ndim == 1 for t in tensors.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise Unreadable(f"{name} is no state of a run: {str(error)[:200]}") from error
    if not fits or any(number >= state.calls for number in state.answers):
        raise Unreadable(f"{name} is no state of a run of this version")
    if known["run"] != folder.name or name != f"step-{state.step:05}.safetensors":
        raise Unreadable(f"{name} belongs to step {state.step} of {str(known['run'])[:60]}: it was renamed or moved")
    return state


def _whole(value) -> int:
    if type(value) is not int or not 0 <= value < 10**9:
        raise ValueError(f"{value!r} is no count")
    return value


def _file(kind: str, name, size, sha256) -> File:
    if not (FILE.fullmatch(name) and name.startswith(kind) and re.fullmatch("[0-9a-f]{64}", sha256)):
        raise ValueError(f"{name!r} is no file of a run")
    return File(name, _whole(size), sha256)


def tidy(folder: Path) -> None:
    """Delete the states before the last two, and what none of them names. A state that cannot be read names nothing."""
    names = step_files(folder)
    needed = set(names[:KEPT_STATES])
    for name in names[:KEPT_STATES]:
        with contextlib.suppress(Unreadable):
            state = read_state(folder, name)
            needed |= {state.latent.name, *(file.name for file in state.answers.values())}
    for entry in list(os.scandir(folder)):
        if entry.name not in needed and own(entry.name):
            with contextlib.suppress(OSError):
                os.unlink(entry.path)
