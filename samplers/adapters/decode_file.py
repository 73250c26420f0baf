"""A decode that ends in a file, or goes on from the part that an earlier one has left.

The part lies where the file will: `<name>.<digest>.part.<extension>`, playable as far as it has come. The digest stands
for all that decides the frames, so only the same decode goes on from it. A lock keeps two servers apart.
"""

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import av
import torch

from . import video_file
from .decoding import Decoding
from .file_lock import held
from .png_frames import PngWriter
from .video_file import FORMATS, FULL, Writer

PNG = "png frames"
LONGEST = 255  # bytes of a file's name


class Busy(ValueError):
    """Another process writes this part."""


def digest(decoding: Decoding, settings: tuple, audio: dict | None) -> str:
    """Of all that decides the frames and how they are encoded."""
    patcher = decoding.vae.patcher
    patches = str(patcher.patches_uuid) if patcher.patches else ""
    kind = (decoding.kind.__name__, decoding.options, decoding.tile, str(decoding.vae.vae_dtype))
    found = hashlib.sha256(repr((settings, kind, patches, torch.__version__, av.__version__)).encode())

    def add(tensor):
        found.update(repr((tuple(tensor.shape), str(tensor.dtype))).encode())
        found.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())

    add(decoding.latent.clone())  # a view of a batch has its own memory then
    for name, tensor in sorted(decoding.vae.first_stage_model.state_dict().items()):
        found.update(name.encode())
        add(tensor.reshape(1, -1))
    if audio:
        add(audio["waveform"].float())
        found.update(str(audio["sample_rate"]).encode())
    return found.hexdigest()[:16]


@contextlib.contextmanager
def locked(path: Path, node: str) -> Iterator[None]:
    """Hold `path` for this process; Busy where another one does. The system lets go of it when the process ends."""
    with held(path) as ours:
        if not ours:
            raise Busy(
                f"{node}: {path.stem} is being written by another ComfyUI; wait for it, or set another filename_prefix"
            )
        try:
            yield
        finally:
            if os.name != "nt":
                path.unlink(missing_ok=True)  # while it is held: nobody can take what is about to go


class Target:
    """The part of one decode, and the file that it becomes."""

    def __init__(self, folder: Path, name: str, mark: str, kind):
        ending = f".{kind.extension}" if kind else ""
        before = f".{mark}.before.part{ending}"
        name = name.encode()[: LONGEST - len(before)].decode(errors="ignore")  # the file's own may be longer
        self.kind = kind
        self.part = folder / f"{name}.{mark}.part{ending}"
        self.before = folder / f"{name}{before}"  # while its frames are taken over
        self.lock = folder / f"{name}.{mark}.lock"

    def writer(self, size, fps, crf, audio, tags):
        """A writer that has taken over what an earlier decode left."""
        if self.kind is None:
            return PngWriter(self.part, size, tags)
        if self.part.is_file() and not self.before.is_file():
            os.replace(self.part, self.before)
        writer = Writer(self.part, self.kind, size, fps, crf, audio, tags)
        if self.before.is_file():
            with contextlib.closing(video_file.packets_of(self.before, self.kind, size)) as packets:
                writer.copy(packets)
            if not writer.frames:
                self.before.unlink()
        return writer

    def taken_over(self):
        """The part holds all that `before` did."""
        with contextlib.suppress(FileNotFoundError):
            self.before.unlink()

    def playable(self, size) -> bool:
        """Whether the part holds a frame. If not, it goes."""
        if self.kind is None:
            found = any(self.part.glob("*.png"))
            if not found:
                shutil.rmtree(self.part, ignore_errors=True)
        else:
            found = next(video_file.packets_of(self.part, self.kind, size), None) is not None
            if not found and self.part.is_file():
                self.part.unlink()
        return found


def decode(
    node: str, decoding: Decoding, target: Target, final: Callable[[], Path], fps: float, crf: int, audio: dict | None,
    tags: dict, progress: Callable[[int], None],
) -> tuple[Path, int]:
    """Decode into `target` and give it the name final() when it is complete: (that name, frames taken over)."""
    refuse_name(node, final())
    with locked(target.lock, node):
        writer = None
        try:
            writer = target.writer(decoding.size, fps, crf, audio, tags)
            begun = writer.frames
            progress(begun)
            for images in decoding.frames(begun):
                writer.add(images)
                if begun and writer.frames > begun + video_file.SEGMENT:  # what was taken over is on the disk
                    target.taken_over()
                progress(writer.frames)
            writer.close()
        except BaseException as error:
            if writer is not None:
                with contextlib.suppress(Exception):
                    writer.close()
            kept = target.playable(decoding.size)
            if isinstance(error, OSError):
                done = writer.frames if writer is not None else 0
                raise OSError(unwritten(node, target, done, decoding.count, kept, error)) from error
            raise
        path = final()
        os.replace(target.part, path)
        target.taken_over()
        return path, begun


def refuse_name(node: str, path: Path) -> None:
    """A name that the disk does not take: before hours of decoding rather than after."""
    try:
        with contextlib.suppress(FileNotFoundError):
            path.lstat()
    except OSError as error:
        raise OSError(f"{node}: filename_prefix: {error.strerror}: {path.name}") from error


def unwritten(node, target, done, count, kept, error) -> str:
    what = f"the disk of {target.part.parent} is full" if error.errno in FULL else f"{target.part} cannot be written"
    rest = f" What is there can be played: {target.part}. Queue the graph again and it goes on there." if kept else ""
    return f"{node}: {what} ({error.strerror or error}), after {done} of {count} frames.{rest}"


def formats() -> list[str]:
    return [*FORMATS, PNG]
