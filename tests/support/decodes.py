"""Decodes of a tiny latent into a file of short segments, here and in processes of their own."""

import time

import av
import torch
from longtake.nodes.video import NODE
from longtake.samplers.adapters import decode_file, video_file
from longtake.samplers.adapters.decoding import Decoding
from longtake.samplers.adapters.video_file import FORMATS

from .tiny_vaes import VAES, built

FRAMES, SEGMENT, SIZE = 22, 16, (2, 4)  # latent frames; pixel frames of a segment here; latent pixels
SOUND = {"waveform": torch.sin(torch.arange(44100 * 12) / 20).repeat(1, 2, 1), "sample_rate": 44100}
PROMPT = {"1": {"class_type": "X", "inputs": {"text": "\u00e9"}}}
TAGS = {"workflow": {"nodes": [{"id": 1, "type": "X"}]}, "prompt": PROMPT}


def latent(frames=FRAMES, size=SIZE):
    return 0.5 * VAES["wan21"].latent(frames, *size)


def decode(folder, format="mp4 (h264)", name="take", z=None, audio=None, progress=lambda done: None):
    """(The file, frames that were taken over)."""
    decoding = Decoding(built("wan21"), latent() if z is None else z)
    kind = FORMATS.get(format)
    target = decode_file.Target(folder, name, decode_file.digest(decoding, (format,), audio), kind)
    final = folder / f"{name}_{f'.{kind.extension}' if kind else ''}"
    return decode_file.decode(NODE, decoding, target, lambda: final, 16, 20, audio, TAGS, progress)


def pictures(path):
    with av.open(str(path)) as file:
        return torch.stack([torch.from_numpy(f.to_ndarray(format="rgb24")) for f in file.decode(video=0)])


def small(format="mp4 (h264)", **kwargs):
    """decode() in a process of its own, as the tests' own does it."""
    torch.set_num_threads(1)
    video_file.SEGMENT = SEGMENT
    with torch.inference_mode():
        return decode(format=format, **kwargs)


def in_child(folder, done):
    """done: a shared number, of the frames so far."""

    def report(frames):
        done.value = frames

    small(folder=folder, audio=SOUND, progress=report)


def with_room(folder, size):
    """Where no file may be larger than `size` bytes."""
    import resource

    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    small(folder=folder)


def holding(folder, begun):
    def wait(frames):
        begun.set()
        time.sleep(600)

    small(folder=folder, progress=wait)
