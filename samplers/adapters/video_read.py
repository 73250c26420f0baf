"""The frames of a VIDEO one after the other, not all at once."""

import av
import comfy.utils
import numpy
import torch
from comfy_api.latest import InputImpl

from ..checks import number

SLOWEST, FASTEST = 0.01, 1000.0  # frames per second


class Reader:
    """Reads a core VIDEO from frame `start` on. size: (height, width) to scale and crop to, None for its own. Raises
    ValueError."""

    def __init__(self, video, start: int = 0, size: tuple[int, int] | None = None):
        self.size, self.file, self.images = size, None, None
        # frames that are in memory: core would encode them first, and ComfyUI 0.3 fails at that
        in_memory = isinstance(video, InputImpl.VideoFromComponents) or not hasattr(video, "get_stream_source")
        source = None if in_memory else video.get_stream_source()
        begin, length = video.get_active_trim_window() if hasattr(video, "get_active_trim_window") else (0, 0)
        if isinstance(source, str):
            self.file = av.open(source)
            if not self.file.streams.video:
                self.close()
                raise ValueError("there is no picture in the file")
            stream = self.file.streams.video[0]
            stream.thread_type = "AUTO"
            self.rate = float(stream.average_rate or 1)
            self.count = self._count(source, begin, length) - start
            self.frames = self._decoded(begin, length)
            for _ in range(start):
                next(self.frames, None)
        else:
            parts = video.get_components()
            self.images, self.rate = parts.images[start:], float(parts.frame_rate)
            self.count, self.frames = len(self.images), iter(self.images)
        try:
            number("its frame rate", self.rate, SLOWEST, FASTEST)
        except ValueError as error:
            self.close()
            raise ValueError(f"{error} frames a second; make it anew with another fps") from error

    @staticmethod
    def _wanted(time, begin, length) -> bool:
        return time is None or (time >= begin and (not length or time < begin + length))

    def _count(self, source, begin, length) -> int:
        with av.open(source) as file:
            stream = file.streams.video[0]
            times = [p.pts for p in file.demux(stream) if p.size]
            return sum(self._wanted(None if t is None else float(t * stream.time_base), begin, length) for t in times)

    def _decoded(self, begin, length):
        for frame in self.file.decode(video=0):
            if self._wanted(frame.time, begin, length):
                image = frame.to_ndarray(format="rgb24")
                turns = round(getattr(frame, "rotation", 0) / 90)
                yield torch.from_numpy(numpy.ascontiguousarray(numpy.rot90(image, turns)) if turns else image) / 255.0

    def read(self, count: int) -> torch.Tensor:
        """The next frames [count, H, W, 3] in 0..1. Raises ValueError where the file ends before."""
        found = [frame for _, frame in zip(range(count), self.frames, strict=False)]
        if len(found) < count:
            raise ValueError("the file ends before the frames that it announces; it is damaged")
        if not found:
            return torch.zeros(0, 0, 0, 3)
        images = torch.stack(found)[..., :3]
        if self.size and tuple(images.shape[1:3]) != self.size:
            height, width = self.size
            images = comfy.utils.common_upscale(images.movedim(-1, 1), width, height, "bicubic", "center")
            images = images.movedim(1, -1).clamp(0, 1)
        return images

    def close(self):
        if self.file is not None:
            self.file.close()
