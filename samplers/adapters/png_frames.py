"""Frames as PNG files in a folder, as core's Save Image writes them."""

import json
import os
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

NAME = "frame_{:06}.png"
END = b"\0\0\0\0IEND\xaeB`\x82"  # of every PNG file


class PngWriter:
    """Each file appears when it is whole, so a folder can be gone on with at its first missing file, or at one that a
    power cut has emptied. tags: of the graph, in the first frame."""

    def __init__(self, folder: Path, size: tuple[int, int], tags: dict):
        self.folder, self.tags, self.frames = folder, tags, 0
        folder.mkdir(parents=True, exist_ok=True)
        while _whole(folder / NAME.format(self.frames)):
            self.frames += 1

    def add(self, images: torch.Tensor) -> None:
        for image in images:
            info = None
            if self.frames == 0 and self.tags:
                info = PngInfo()
                for key, value in self.tags.items():
                    info.add_text(key, json.dumps(value))
            path, unfinished = self.folder / NAME.format(self.frames), self.folder / "unfinished.tmp"
            picture = Image.fromarray((image * 255).clamp(0, 255).byte().cpu().numpy())
            try:
                with open(unfinished, "wb") as file:
                    picture.save(file, "PNG", pnginfo=info, compress_level=4)
            except BaseException:
                unfinished.unlink(missing_ok=True)
                raise
            os.replace(unfinished, path)
            self.frames += 1

    def close(self) -> None:
        """Nothing is held back."""


def _whole(path: Path) -> bool:
    try:
        with open(path, "rb") as file:
            file.seek(-len(END), os.SEEK_END)
            return file.read() == END
    except OSError:  # none, or shorter than that
        return False
