"""Frames straight into a video file that can be played while it grows, and gone on with after a kill.

A file is made of segments: SEGMENT frames, encoded by an encoder of their own from a key frame on. So what has been
written is complete up to the last border whatever happens after it, and a file that was begun twice is the file that
was written in one go, bit for bit.
"""

import errno
import itertools
import json
import math
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import av
import torch

SEGMENT = 96  # frames
FULL = (errno.ENOSPC, errno.EDQUOT if hasattr(errno, "EDQUOT") else errno.ENOSPC, errno.EFBIG)
BT709 = 1
X265_DELAY = 2  # frames by which x265 decodes ahead; a segment of no more leaves its decode times to chance


@dataclass(frozen=True)
class Format:
    """A kind of file. crf: the largest quality value of its codec, None where it has none; deep: 10 bits per colour
    are handed to the encoder; shown: whether browsers play it; fastest: frames per second that the encoder takes."""

    extension: str
    container: str
    codec: str
    pixels: str
    audio: str
    crf: int | None = None
    deep: bool = False
    shown: bool = True
    options: tuple = ()
    fastest: float = math.inf


def x264_options() -> tuple:
    """x264's AVX-512 code for mbtree reads memory that nobody has written, so that the same frames make other files."""
    capability = getattr(torch.backends.cpu, "get_cpu_capability", str)()
    return (("x264-params", "asm=AVX2"),) if capability == "AVX512" else ()


FORMATS = {
    "mp4 (h264)": Format("mp4", "mp4", "libx264", "yuv420p", "aac", 51, options=x264_options()),
    "mp4 (h265)": Format("mp4", "mp4", "libx265", "yuv420p", "aac", 51, options=(("x265-params", "log-level=error"),)),
    "mp4 (av1)": Format("mp4", "mp4", "libsvtav1", "yuv420p", "aac", 63, options=(("preset", "6"),), fastest=240),
    "webm (vp9)": Format("webm", "webm", "libvpx-vp9", "yuv420p", "libopus", 63,
                         options=(("b", "0"), ("row-mt", "1"), ("cpu-used", "4"))),
    "mkv (ffv1)": Format("mkv", "matroska", "ffv1", "bgr0", "flac", shown=False),
    "mov (prores)": Format("mov", "mov", "prores_ks", "yuv422p10le", "pcm_s16le", deep=True, shown=False,
                           options=(("profile", "3"),)),
}  # fmt: skip


def missing(kind: Format, audio: bool) -> str | None:
    """The encoder that this environment's PyAV lacks for a format."""
    for name in (kind.codec, *((kind.audio,) if audio else ())):
        try:
            av.codec.Codec(name, "w")
        except ValueError:
            return name
    return None


def as_bt709(target) -> None:
    """Say that these are BT.709's colours, in video's levels."""
    for name in ("color_primaries", "color_trc", "colorspace", "color_range"):
        if hasattr(target, name):  # frames of older PyAVs lack some
            setattr(target, name, BT709)


def ten_bits(image: torch.Tensor) -> av.VideoFrame:
    """[H, W, 3] in 0..1 as yuv422p10le, BT.709. Not by FFmpeg, whose conversion of 16 bits per colour leaves pixels to
    chance where the width is no multiple of 32."""
    height, width = image.shape[:2]
    r, g, b = image.float().cpu().clamp(0, 1).unbind(-1)
    y = 0.2126 * r + 0.7152 * g + 0.0722 * b
    blue, red = ((c.view(height, -1, 2).mean(-1) * 896 + 512) for c in ((b - y) / 1.8556, (r - y) / 1.5748))
    frame = av.VideoFrame(width, height, "yuv422p10le")
    for plane, values in zip(frame.planes, (y * 876 + 64, blue, red), strict=True):
        rows = torch.zeros(height, plane.line_size // 2, dtype=torch.int16)
        rows[:, : values.shape[1]] = values.round().to(torch.int16)
        plane.update(rows.numpy())
    return frame


class Disk:
    """The file that PyAV writes to. What the system refuses is kept: PyAV does not hand all of it on."""

    def __init__(self, path):
        self.file, self.error = open(path, "wb", buffering=0), None  # noqa: SIM115
        self.seek, self.tell = self.file.seek, self.file.tell

    def write(self, data):
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[self.file.write(rest) :]
        except OSError as error:
            self.error = error
            raise
        return len(data)

    def check(self):
        if self.error is not None:
            raise self.error

    def close(self):
        try:
            os.fsync(self.file.fileno())
        finally:
            self.file.close()


class Writer:
    """Writes frames [n, H, W, 3] in 0..1. size: (height, width); audio: core's AUDIO or None; tags: the container's
    metadata, written as core's Save Video does."""

    def __init__(self, path, kind: Format, size, fps: float, crf: int, audio=None, tags: dict | None = None):
        self.path, self.kind, self.size = path, kind, size
        self.rate = Fraction(round(fps * 1000), 1000)
        self.options = dict(kind.options) | ({"crf": str(crf)} if kind.crf is not None else {})
        self.frames, self.encoder, self.ahead, self.closed = 0, None, 0, False
        self.disk = Disk(path)
        self.reformatter = av.video.reformatter.VideoReformatter()  # a frame's own is set up anew for each
        options = {}
        if kind.container in ("mp4", "mov"):
            # fragments: what is written can be played without the end of the file
            options["movflags"] = "frag_keyframe+delay_moov+default_base_moof+use_metadata_tags"
            options["min_frag_duration"] = str(min(int(SEGMENT / 2 / self.rate * 1_000_000), 2**31 - 1))
        else:
            options["fflags"] = "+bitexact"  # no random ids
        self.container = av.open(self.disk, "w", format=kind.container, options=options)
        for key, value in (tags or {}).items():
            self.container.metadata[key] = json.dumps(value)
        self.stream = self._set(self.container.add_stream(kind.codec, rate=self.rate))
        self.audio = Audio(self.container, kind.audio, audio) if audio else None

    def _set(self, target):
        target.width, target.height = self.size[1], self.size[0]
        target.pix_fmt = self.kind.pixels
        target.time_base = 1 / self.rate
        target.options = self.options
        if self.kind.pixels != "bgr0":
            as_bt709(target)
        return target

    def _new_encoder(self):
        context = av.CodecContext.create(self.kind.codec, "w")
        context.framerate = self.rate
        if self.container.format.name in ("mp4", "mov", "matroska", "webm"):
            context.flags |= av.codec.context.Flags.global_header
        return self._set(context)

    def _mux(self, packets):
        for packet in packets:
            packet.stream = self.stream
            packet.duration = round(1 / (self.rate * packet.time_base))
            try:
                self.container.mux(packet)
            finally:
                self.disk.check()

    def _frame(self, image: torch.Tensor) -> av.VideoFrame:
        """As core's Save Video makes it: cut, not rounded."""
        if self.kind.deep:
            frame = ten_bits(image)
        else:
            frame = av.VideoFrame.from_ndarray((image * 255).clamp(0, 255).byte().cpu().numpy(), format="rgb24")
            bt709 = {} if self.kind.pixels == "bgr0" else {"dst_colorspace": BT709}
            frame = self.reformatter.reformat(frame, format=self.kind.pixels, **bt709)
        if self.kind.pixels != "bgr0":
            as_bt709(frame)
        frame.pts, frame.time_base = self.frames, 1 / self.rate
        return frame

    def add(self, images: torch.Tensor) -> None:
        for image in images:
            self.encoder = self.encoder or self._new_encoder()
            self._mux(self.encoder.encode(self._frame(image)))
            self.frames += 1
            if self.frames % SEGMENT == 0:
                self._border()

    def _border(self):
        if self.encoder is not None:
            packets = self.encoder.encode(None)
            if self.kind.codec == "libx265" and len(packets) == (self.frames - 1) % SEGMENT + 1 <= X265_DELAY:
                for packet in packets:
                    packet.dts = packet.pts - X265_DELAY
            self._mux(packets)
            self.encoder = None
        if self.audio:
            try:
                self.audio.write(self.frames / self.rate)
            finally:
                self.disk.check()

    def copy(self, packets: Iterator[av.Packet]) -> None:
        """Take on whole segments of another file's packets."""
        for segment in iter(lambda: list(itertools.islice(packets, SEGMENT)), []):
            if len(segment) < SEGMENT:
                return
            self._mux(map(start_codes, segment) if self.kind.codec in ("libx264", "libx265") else segment)
            self.frames += SEGMENT
            self._border()

    def close(self) -> None:
        """End the file, as far as it has come. Raises OSError where the disk is full."""
        if self.closed:
            return
        self.closed = True
        try:
            if self.frames:
                self._border()
                if self.audio:
                    self.audio.end()
                self.container.close()
        finally:
            self.disk.close()
            self.disk.check()


def start_codes(packet: av.Packet) -> av.Packet:
    """A packet of H.264 or H.265 as encoders write it, from how mp4 stores it: with start codes, not lengths."""
    data, at = bytearray(bytes(packet)), 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        data[at : at + 4] = b"\0\0\0\1"
        at += 4 + length
    copied = av.Packet(bytes(data))
    copied.pts, copied.dts, copied.time_base = packet.pts, packet.dts, packet.time_base
    copied.is_keyframe = packet.is_keyframe
    return copied


class Audio:
    """A sound track beside the frames: as far as they have come, never further."""

    LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}

    def __init__(self, container, codec: str, audio: dict):
        self.wave, self.rate, self.done = audio["waveform"][0].float().cpu(), int(audio["sample_rate"]), 0
        self.layout = self.LAYOUTS[len(self.wave)]
        rate = 48000 if codec == "libopus" else self.rate
        self.container, self.stream = container, container.add_stream(codec, rate=rate, layout=self.layout)

    def write(self, seconds: Fraction) -> None:
        end = min(self.wave.shape[1], math.ceil(self.rate * seconds))
        if end <= self.done:
            return
        samples = self.wave[:, self.done : end].contiguous().numpy()
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout=self.layout)
        frame.sample_rate, frame.pts, frame.time_base = self.rate, self.done, Fraction(1, self.rate)
        self.done = end
        self.container.mux(self.stream.encode(frame))

    def end(self) -> None:
        if self.done:
            self.container.mux(self.stream.encode(None))


def _emptied(packet: av.Packet, kind: Format) -> bool:
    """Whether a power cut has left zeros in a packet: in all of it, or in the end of one of H.264 or H.265, which never
    ends with a zero."""
    data = bytes(packet)
    return not any(data) or (kind.codec in ("libx264", "libx265") and data[-1] == 0)


def packets_of(path, kind: Format, size) -> Iterator[av.Packet]:
    """The video packets of a file up to where it was cut off; none where it is no such file."""
    try:
        with av.open(str(path)) as container:
            video = container.streams.video[0]
            if video.codec.canonical_name != av.codec.Codec(kind.codec, "w").canonical_name:
                return
            if (video.height, video.width) != tuple(size):
                return
            for packet in container.demux(video):
                if packet.size == 0:
                    continue  # PyAV's mark of the end
                if packet.is_corrupt or _emptied(packet, kind):
                    return
                yield packet
    except (OSError, ValueError, IndexError):
        return
