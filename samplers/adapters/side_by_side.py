"""Several videos, beside each other in one file and as a contact sheet, frame by frame: never all in memory."""

import contextlib
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import comfy.model_management
import comfy.utils
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ..side_by_side import Clip, arranged, frame_of, moments, shared_frames, shared_rate
from .video_file import FORMATS, FULL, Writer
from .video_read import Reader

KEY_FRAMES = 24  # frames from one to the next: what a player decodes at most to seek
H264 = FORMATS["mp4 (h264)"]
KIND = replace(H264, options=(*H264.options, ("g", str(KEY_FRAMES)), ("preset", "veryfast")))
CRF = 18
LONGEST = 1_000_000  # frames that other rates may make of a video
PAGE, TEXT, FAINT = "#17191e", "#f2f3f5", "#9aa1ad"
WIDEST_CELL = 1024  # pixels of a frame in the sheet
EDGE, LINE, SIDE = 8, 20, 150  # pixels of the sheet: between frames, of a line of text, of the names at its left


class Source:
    """The frames of the input called `name`, an IMAGE [F, H, W, C] or a VIDEO, in their order. Raises ValueError."""

    def __init__(self, name: str, value, fps: float):
        self.name, self.at, self.images, self.reader = name, -1, None, None
        if isinstance(value, torch.Tensor):
            if value.ndim != 4 or value.shape[-1] not in (3, 4):
                raise ValueError(
                    f"{name}: an IMAGE of the shape {list(value.shape)}; it must be [frames, height, width, 3], or 4 "
                    "with alpha, which is not shown")  # fmt: skip
            self.images, self.rate, self.count = value, fps, len(value) if value.numel() else 0
        else:
            with self.named():
                self.reader = Reader(value)
                self.rate, self.count = self.reader.rate, self.reader.count
        if self.count < 1:
            self.close()
            raise ValueError(f"{name}: no frames in it; it needs one at least")

    @contextlib.contextmanager
    def named(self):
        try:
            yield
        except (ValueError, OSError) as error:  # PyAV's are of both kinds
            self.close()
            raise ValueError(f"{self.name}: this VIDEO cannot be read: {error}") from error

    def frame(self, index: int) -> torch.Tensor:
        """Frame [H, W, 3]; index is never less than in the call before."""
        if self.images is not None:
            return self.images[index, ..., :3]
        with self.named():
            while self.at < index:
                self.image = self.reader.read(1)[0]
                self.at += 1
        return self.image

    def size(self) -> tuple[int, int]:
        """(height, width) of a frame that was read, or of an IMAGE's."""
        return tuple((self.images[0] if self.images is not None else self.image).shape[:2])

    def close(self) -> None:
        if self.reader is not None:
            self.reader.close()


def scaled(image: torch.Tensor, width: int, height: int) -> torch.Tensor:
    """[H, W, 3] on the CPU, in 0..1; black where it is NaN."""
    method = "area" if height < image.shape[0] else "bicubic"
    image = image.float().cpu().nan_to_num(0.0, 1.0, 0.0).movedim(-1, 0)[None]
    return comfy.utils.common_upscale(image, width, height, method, "disabled")[0].movedim(0, -1).clamp(0, 1)


def fitted(text: str, font, width: float) -> str:
    """A text, cut at its end to a width in pixels."""
    if len(text) <= width and font.getlength(text) <= width:  # hardly a sign is narrower than a pixel
        return text
    fits = bisect_right(range(int(width)), width, key=lambda count: font.getlength(text[:count] + "..."))
    return text[: max(fits - 1, 0)] + "..."


def to_tensor(page: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.asarray(page, dtype=np.float32) / 255.0)


class Sheet:
    """Rows of evenly spaced frames, one row per video, times above."""

    def __init__(self, clips: Sequence[Clip], names: Sequence[str], columns: int, height: int):
        self.lengths, rate = shared_frames(clips), shared_rate(clips)
        self.moments = moments(max(self.lengths), columns)
        self.sizes = []
        for clip in clips:
            tall = max(1, min(height, int(WIDEST_CELL * clip.height / clip.width)))
            self.sizes.append((min(WIDEST_CELL, max(1, round(tall * clip.width / clip.height))), tall))
        self.cell = max(width for width, _ in self.sizes) + EDGE
        self.height = height
        font = ImageFont.load_default(14)
        size = (SIDE + len(self.moments) * self.cell, 2 * LINE + EDGE + len(clips) * (height + EDGE))
        self.page = Image.new("RGB", size, PAGE)
        draw = ImageDraw.Draw(self.page)
        for column, at in enumerate(self.moments):
            x = SIDE + column * self.cell
            draw.text((x, 4), fitted(f"{at / rate:.2f} s", font, self.cell), TEXT, font)
            draw.text((x, 4 + LINE), fitted(f"frame {at}", font, self.cell), FAINT, font)
        for row, (name, clip) in enumerate(zip(names, clips, strict=True)):
            y = self.top(row)
            draw.text((EDGE, y + 2), fitted(name, font, SIDE - 2 * EDGE), TEXT, font)
            draw.text((EDGE, y + 2 + LINE), fitted(f"{clip.count} frames", font, SIDE - 2 * EDGE), FAINT, font)
            for column, at in enumerate(self.moments):
                if at >= self.lengths[row]:
                    text = fitted(f"ended at {self.lengths[row] / rate:.2f} s", font, self.cell - EDGE)
                    draw.text((SIDE + column * self.cell, y + 2), text, FAINT, font)
                    break

    def top(self, row: int) -> int:
        return 2 * LINE + EDGE + row * (self.height + EDGE)

    def add(self, row: int, at: int, image: torch.Tensor) -> None:
        """Frame `at` of all videos together; taken where it is one of the sheet's, and the video not over."""
        if at in self.moments and at < self.lengths[row]:
            picture = Image.fromarray((scaled(image, *self.sizes[row]) * 255).round().byte().numpy())
            self.page.paste(picture, (SIDE + self.moments.index(at) * self.cell, self.top(row)))

    def image(self) -> torch.Tensor:
        """[1, H, W, 3]."""
        return to_tensor(self.page)[None]


def page_of(layout, names: Sequence[str]) -> torch.Tensor:
    """The file's frame [H, W, 3] before the videos are in it: their names over their boxes."""
    page = Image.new("RGB", (layout.width, layout.height), PAGE)
    font = ImageFont.load_default(16)
    for name, (x, y, width, _) in zip(names, layout.boxes, strict=True):
        ImageDraw.Draw(page).text((x + 6, y - 25), fitted(name, font, width - 8), TEXT, font)
    return to_tensor(page)


def write(
    path: Path, sources: Sequence[Source], names: Sequence[str], height: int, columns: int, sheet_height: int,
    progress: Callable[[int, int], None],
) -> tuple[torch.Tensor, dict]:
    """The contact sheet [1, H, W, 3], and what a player of the file `path` has to know. progress(done, of all)."""
    shapes = [source.frame(0).shape for source in sources]
    clips = [Clip(s.count, s.rate, w, h) for s, (h, w, _) in zip(sources, shapes, strict=True)]
    layout, lengths, rate = arranged(clips, height), shared_frames(clips), shared_rate(clips)
    total = max(lengths)
    if total > max(LONGEST, *(clip.count for clip in clips)):  # a video alone has the length that it has
        longest = lengths.index(total)
        raise ValueError(
            f"{sources[longest].name}: {clips[longest].count} frames at {clips[longest].rate:g} a second, beside a "
            f"video of {rate:g} a second, make {total} frames of that rate; {LONGEST} are the most: bring the rates "
            f"nearer to each other"
        )
    sheet, page = Sheet(clips, names, columns, sheet_height), page_of(layout, names)
    shown = [-1] * len(clips)
    writer = None
    try:
        writer = Writer(path, KIND, (layout.height, layout.width), rate, CRF)
        for at in range(total):
            comfy.model_management.throw_exception_if_processing_interrupted()
            for i, (source, clip, (x, y, width, tall)) in enumerate(zip(sources, clips, layout.boxes, strict=True)):
                index = frame_of(clip, at, rate)
                image = source.frame(index)
                if index != shown[i]:
                    page[y : y + tall, x : x + width] = scaled(image, width, tall)
                    shown[i] = index
                sheet.add(i, at, image)
            writer.add(page[None])
            progress(at + 1, total)
        writer.close()
    except BaseException as error:
        with contextlib.suppress(Exception):
            if writer is not None:
                writer.close()
        with contextlib.suppress(OSError):
            path.unlink()
        if isinstance(error, OSError):
            what = f"the disk of {path.parent} is full" if error.errno in FULL else f"{path} cannot be written"
            raise OSError(f"{what} ({error.strerror or error})") from error
        raise
    videos = [
        {"name": name, "box": box, "frames": length, "own_frames": clip.count, "own_fps": clip.rate}
        for name, box, length, clip in zip(names, layout.boxes, lengths, clips, strict=True)
    ]
    return sheet.image(), {"fps": float(writer.rate), "frames": total, "videos": videos}
