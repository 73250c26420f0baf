"""The files of kept runs: one folder a run, safetensors alone, whole or not there at all.

    <ComfyUI's output folder>/longtake/runs/<run>/
        lock                       held by the server that samples this run
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
import shutil
import time
from dataclasses import dataclass, field
from pathlib import Path

import folder_paths
import torch
from safetensors.torch import load, save_file

FOLDER = ("longtake", "runs")
NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{16}(?:-\d{1,3})?")
FILE = re.compile(r"(?:step|call|latent)-\d{5,9}\.safetensors")
LOCK = "lock"
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
    digests by their names; batches: [latent frames, windows per call]; rng: torch's generators at the run's begin."""

    step: int
    total: int
    calls: int
    answers: dict[int, File]
    latent: File
    parts: dict[str, str]
    batches: list[list[int]] = field(default_factory=list)
    rng: dict[str, torch.Tensor] = field(default_factory=dict)


def runs_folder() -> Path:
    return Path(folder_paths.get_output_directory(), *FOLDER)


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
        flush_folder(folder)
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
    }  # fmt: skip
    tensors = {f"rng {key}": value for key, value in state.rng.items()}
    write(folder, f"step-{state.step:05}.safetensors", tensors, {"state": json.dumps(known)})
    tidy(folder)


def step_files(folder: Path) -> list[str]:
    """The names of a run's states, the newest first."""
    names = [e.name for e in os.scandir(folder) if e.name.startswith("step-") and FILE.fullmatch(e.name)]
    return sorted(names, key=lambda name: int(name[5:-12]), reverse=True)


def read_state(folder: Path, name: str) -> State:
    """Raises Unreadable."""
    tensors, metadata = read(folder, name, MOST_STATE)
    try:
        known = json.loads(metadata["state"])
        state = State(
            *(_whole(known[key]) for key in ("step", "total", "calls")),
            {_whole(number): _file("call", *rest) for number, *rest in known["answers"]},
            _file("latent", *known["latent"]),
            {str(key): str(value) for key, value in known["parts"].items()},
            [[_whole(length), _whole(count)] for length, count in known["batches"]],
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
        if entry.name not in needed and FILE.fullmatch(entry.name.removesuffix(".part")):
            with contextlib.suppress(OSError):
                os.unlink(entry.path)


# ---- runs --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kept:
    """A run in the folder. state: its newest readable one; broken: what was wrong with newer ones."""

    folder: Path
    state: State | None
    broken: tuple[str, ...]
    size: int
    time: float

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def progress(self) -> str:
        """For people: step 17 of 30, 2 h ago, 1.2 GB."""
        at = f"step {self.state.step} of {self.state.total}" if self.state else "unreadable"
        return f"{at}, {ago(self.time)}, {shown_size(self.size)}"


def ago(when: float) -> str:
    seconds = max(time.time() - when, 0)
    for most, unit, length in ((90, "s", 1), (5400, "min", 60), (172800, "h", 3600)):
        if seconds < most:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds / 86400:.0f} days ago"


def shown_size(size: float) -> str:
    return f"{size / 1e9:.2g} GB" if size >= 1e9 else f"{size / 1e6:.2g} MB" if size < 1e8 else f"{size / 1e6:.0f} MB"


def kept_run(folder: Path) -> Kept:
    """Raises Unreadable where the folder itself is no run's."""
    if folder.is_symlink() or not folder.is_dir() or not NAME.fullmatch(folder.name):
        raise Unreadable(f"{folder.name} is a link or no folder of a run")
    broken, found, size, newest = [], None, 0, folder.stat().st_mtime
    for entry in os.scandir(folder):
        stat = entry.stat(follow_symlinks=False)
        size += stat.st_size
        newest = max(newest, stat.st_mtime)
    for name in step_files(folder):
        try:
            found = read_state(folder, name)
            break
        except Unreadable as error:
            broken.append(str(error))
    return Kept(folder, found, tuple(broken), size, newest)


def kept_runs() -> list[Kept]:
    """All that can be read, the newest first."""
    runs, top = [], runs_folder()
    for entry in os.scandir(top) if top.is_dir() else ():
        with contextlib.suppress(Unreadable, OSError):
            runs.append(kept_run(Path(entry.path)))
    return sorted(runs, key=lambda run: run.time, reverse=True)


def latent_of(run: Kept) -> tuple[list[torch.Tensor], torch.Tensor]:
    """The latents (several: video and audio) predicted by a run's newest state, and preview frames [F, H, W, 3] as
    bytes. Raises Unreadable."""
    if run.state is None:
        raise Unreadable("; ".join(run.broken) or "no step of it is complete")
    tensors, _ = read(run.folder, run.state.latent.name, known=run.state.latent)
    preview = tensors.pop("preview", torch.zeros(0, 1, 1, 3, dtype=torch.uint8))
    names = [f"latent {i}" for i in range(len(tensors))]
    if not tensors or tensors.keys() != set(names) or preview.ndim != 4 or preview.dtype != torch.uint8:
        raise Unreadable(f"{run.state.latent.name} holds other tensors than a latent")
    return [tensors[name] for name in names], preview


@contextlib.contextmanager
def locked(folder: Path):
    """Whether this process holds the folder meanwhile. The system lets go of it when the process ends, however."""
    path = folder / LOCK
    if path.is_symlink():
        yield False
        return
    with open(path, "a+b") as file:
        try:
            _lock(file)
        except OSError:
            yield False
            return
        try:
            yield path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat())  # else a deleted run's
        finally:
            with contextlib.suppress(OSError):
                _unlock(file)


if os.name == "nt":
    import msvcrt

    def _lock(file):
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)

    def _unlock(file):
        file.seek(0)
        msvcrt.locking(file.fileno(), msvcrt.LK_UNLCK, 1)
else:
    import fcntl

    def _lock(file):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _unlock(file):
        fcntl.flock(file, fcntl.LOCK_UN)


def delete(run: Kept) -> bool:
    """Delete a run's files and its folder; False where another server samples it."""
    with locked(run.folder) as ours:
        if not ours:
            return False
        for entry in list(os.scandir(run.folder)):
            if FILE.fullmatch(entry.name.removesuffix(".part")):
                with contextlib.suppress(OSError):
                    os.unlink(entry.path)
        unlinked = _unlink(run.folder / LOCK)
    if not unlinked:
        _unlink(run.folder / LOCK)  # Windows keeps an open file
    with contextlib.suppress(OSError):
        run.folder.rmdir()  # not where there are files of others
    return True


def _unlink(path: Path) -> bool:
    try:
        path.unlink()
    except OSError:
        return False
    return True


def prune(most_bytes: float, most_days: float, but: Path | None = None) -> list[Kept]:
    """Delete the oldest runs beyond these limits. Returns what was deleted."""
    total, gone = 0, []
    for run in kept_runs():
        total += run.size
        old = time.time() - run.time > most_days * 86400
        if run.folder != but and (old or total > most_bytes) and delete(run):
            total -= run.size
            gone.append(run)
    return gone


def free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


@contextlib.contextmanager
def claimed(digest: str):
    """The folder of a run with this digest, locked for this process: of those kept the one that got farthest, else a
    new one. Raises OSError."""
    top = runs_folder()
    top.mkdir(parents=True, exist_ok=True)
    mine = [run for run in kept_runs() if run.name[16:32] == digest[:16]]
    mine.sort(key=lambda run: -1 if run.state is None else run.state.step, reverse=True)
    with contextlib.ExitStack() as stack:
        for run in mine:
            if stack.enter_context(locked(run.folder)):
                yield run
                return
        first = f"{time.strftime('%Y%m%d-%H%M%S')}-{digest[:16]}"
        for name in (first, *(f"{first}-{i}" for i in range(2, 1000))):
            folder = top / name
            with contextlib.suppress(FileExistsError, FileNotFoundError):  # another server was there, or tidied up
                folder.mkdir()
                if stack.enter_context(locked(folder)):
                    yield Kept(folder, None, (), 0, time.time())
                    return
        raise OSError(f"no folder for a run in {top}")
