"""The folders of kept runs: which there are, whose they are, what is deleted (run_files.py: what lies in one).

A run belongs to the server that samples it by the system's lock on its file `lock`, which ends with the process. So
nobody resumes, tidies or deletes a run under another server's hands, and no kill leaves a lock behind.
"""

import contextlib
import os
import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import folder_paths
import torch

from .file_lock import held
from .run_files import State, Unreadable, own, read, read_state, step_files

FOLDER = ("longtake", "runs")
NAME = re.compile(r"\d{8}-\d{6}-[0-9a-f]{16}(?:-\d{1,3})?")
LOCK = "lock"


def runs_folder() -> Path:
    return Path(folder_paths.get_output_directory(), *FOLDER)


def run_names() -> list[str]:
    """Of all folders that look like a run's, the newest first."""
    top = runs_folder()
    return sorted((e.name for e in os.scandir(top) if NAME.fullmatch(e.name)), reverse=True) if top.is_dir() else []


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
    runs = []
    for name in run_names():
        with contextlib.suppress(Unreadable, OSError):
            runs.append(kept_run(runs_folder() / name))
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
    with held(path) as ours:
        yield ours


def delete(run: Kept) -> bool:
    """Delete a run's files and its folder; False where another server samples it, or where it is not ours to write."""
    try:
        return _deleted(run)
    except OSError:
        return False


def _deleted(run: Kept) -> bool:
    with locked(run.folder) as ours:
        if not ours:
            return False
        for entry in list(os.scandir(run.folder)):
            if own(entry.name):
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
            with contextlib.suppress(OSError):  # a folder of somebody else's, or a copy that may only be read
                if stack.enter_context(locked(run.folder)):
                    found = run
                    break
        else:
            found = _new(top, digest, stack)
        yield found


def _new(top: Path, digest: str, stack: contextlib.ExitStack) -> Kept:
    """A new folder, locked for the time of `stack`. Raises OSError."""
    first = f"{time.strftime('%Y%m%d-%H%M%S')}-{digest[:16]}"
    for name in (first, *(f"{first}-{i}" for i in range(2, 1000))):
        folder = top / name
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        try:
            if stack.enter_context(locked(folder)):
                return Kept(folder, None, (), 0, time.time())
        except FileNotFoundError:
            continue  # another server tidied up
        except OSError:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    raise OSError(f"no folder for a run in {top}")
