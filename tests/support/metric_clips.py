"""Videos that metrics are tried on: [frames, H, W, 3] in 8 bits, the same on every machine.

Whole numbers alone, and the raw output of PCG64, which numpy promises to keep: a value made from them once holds.
"""

import functools

import av
import numpy
import torch

from .paths import ROOT

DATA = ROOT / "tests" / "video" / "data"
FINE = 4  # places per pixel that a texture can be moved by
WINDOW = 32  # frames of a window in the clips with faults


def image(clip):
    """As ComfyUI has it: [frames, H, W, 3] in 0..1."""
    return torch.from_numpy(clip).float() / 255


@functools.lru_cache(1)
def real():
    """96 frames of 256x144 (data/README.md). The colours by BT.601 in whole numbers, not by the decoder's library."""
    found = []
    with av.open(str(DATA / "bunny.mp4")) as file:
        for frame in file.decode(video=0):
            planes = frame.to_ndarray(format="yuv420p").astype("int64")
            h, w = frame.height, frame.width
            y = 298 * (planes[:h] - 16)
            u, v = (part.reshape(h // 2, w // 2).repeat(2, 0).repeat(2, 1) - 128 for part in
                    (planes[h : h + h // 4], planes[h + h // 4 :]))  # fmt: skip
            rgb = (y + 409 * v, y - 100 * u - 208 * v, y + 516 * u)
            found.append(numpy.stack([(part + 128 >> 8).clip(0, 255) for part in rgb], -1).astype("uint8"))
    return numpy.stack(found)


def raw(seed, *shape):
    """Whole numbers 0..255."""
    numbers = numpy.random.PCG64(seed).random_raw(int(numpy.prod(shape)))
    return (numbers >> numpy.uint64(56)).astype("int64").reshape(shape)


@functools.lru_cache(1)
def small():
    """The real clip, 128x72."""
    height, width = (side // 2 for side in real().shape[1:3])
    return (real().reshape(-1, height, 2, width, 2, 3).sum((2, 4)) // 4).astype("uint8")


@functools.lru_cache(8)
def texture(seed, height, width, grain=6):
    """Soft blots, [FINE * height, FINE * width, 3] in 0..255, that go on beyond the edges."""
    size = grain * FINE
    picture = raw(seed, FINE * height, FINE * width, 3)
    for axis in (0, 1, 0, 1):
        sums = sum(numpy.roll(picture, i, axis) for i in range(size))
        picture = (sums - sums.min()) * 255 // (sums.max() - sums.min())
    return picture


def panned(frames, height, width, step=(3, 2), seed=5):
    """A texture whose content moves by step (x, y) quarters of a pixel a frame."""
    picture = texture(seed, height, width)
    found = []
    for t in range(frames):
        moved = numpy.roll(picture, (t * step[1], t * step[0]), (0, 1))
        found.append(moved.reshape(height, FINE, width, FINE, 3).sum((1, 3)) // FINE**2)
    return numpy.stack(found).astype("uint8")


def tinted(clip, gains):
    """Times gains / 16 in red, green and blue."""
    return (clip.astype("int64") * numpy.array(gains) // 16).clip(0, 255).astype("uint8")


def spliced():
    """Cuts at 40 and 73."""
    parts = [panned(40, 48, 64), tinted(panned(33, 48, 64, (1, 5), 6), (16, 6, 2)),
             tinted(panned(27, 48, 64, (4, 0), 7), (3, 8, 16))]  # fmt: skip
    return numpy.concatenate(parts)


def crowded():
    """A flash at 30, cuts at 50 and, too near to it, at 58, and one before the last frame: at 78 of 80."""
    clip = panned(80, 48, 64, (2, 1), 8)
    clip[30] = 255 - clip[30] // 4
    clip[50:] = tinted(255 - clip[50:], (16, 9, 4))
    clip[58:] = clip[58:, ::-1, :, ::-1]
    clip[78:] = 255 - clip[78:]
    return clip


def faded():
    """One scene turns into another from 30 to 60, and no cut."""
    one, other = panned(90, 48, 64).astype("int64"), tinted(panned(90, 48, 64, (1, 5), 6), (16, 6, 2)).astype("int64")
    share = (numpy.arange(90) - 30).clip(0, 30)[:, None, None, None]
    return ((one * (30 - share) + other * share) // 30).astype("uint8")


def red():
    """Red, whose green and blue differ by a grey level that flips: hue about 0, from both sides."""
    clip = numpy.zeros((40, 48, 64, 3), "int64")
    clip[..., 0] = 200 + panned(40, 48, 64)[..., 0] // 8
    clip[..., 1:] = 10 + raw(9, 40, 48, 64, 2) // 86
    return clip.astype("uint8")


def wide():
    """640 pixels wide, with cuts at 20 and 45."""
    clip = panned(60, 60, 640, (12, 4), 10)
    clip[20:45] = tinted(clip[20:45, ::-1], (4, 16, 9))
    return clip


def broken():
    """The real clip with a hard cut at 48."""
    return cut(real())


# The faults of long videos, each on a clip of 96 frames.


def static(clip):
    return clip[:1].repeat(len(clip), 0)


def flicker(clip):
    """8 levels up and down in turn."""
    sign = numpy.where(numpy.arange(len(clip)) % 2, 8, -8)[:, None, None, None]
    return (clip.astype("int64") + sign).clip(0, 255).astype("uint8")


def drift(clip):
    """Red rises to 5/4, blue falls to 3/4."""
    at = numpy.arange(len(clip))[:, None, None, None]
    gains = 4 * len(clip) + at * numpy.array([1, 0, -1])
    return (clip.astype("int64") * gains // (4 * len(clip))).clip(0, 255).astype("uint8")


def seam(clip):
    """Every second window is a mirror image."""
    mirrored = numpy.arange(len(clip)) // WINDOW % 2 == 1
    return numpy.where(mirrored[:, None, None, None], clip[:, :, ::-1], clip)


def faint_seam(clip):
    """Every second window is lighter by 6 levels: hard to see but where it begins."""
    lighter = 6 * (numpy.arange(len(clip)) // WINDOW % 2)[:, None, None, None]
    return (clip.astype("int64") + lighter).clip(0, 255).astype("uint8")


def blur(clip):
    """The mean over a square that grows, 1 to 15 pixels wide, never where a window begins."""
    found = clip.copy()
    for t in range(len(clip)):
        r = 8 * t // len(clip)
        for axis in (0, 1) if r else ():
            pads = [(r, r) if axis == i else (0, 0) for i in range(3)]
            sums = numpy.pad(found[t].astype("int64"), pads, "edge").cumsum(axis)
            sums = numpy.concatenate((numpy.zeros_like(sums.take([0], axis)), sums), axis)
            n, side = 2 * r + 1, clip.shape[1 + axis]
            found[t] = (sums.take(range(n, n + side), axis) - sums.take(range(side), axis)) // n
    return found


def stutter(clip):
    """Each fourth frame is held for four."""
    at = numpy.arange(len(clip))
    return clip[at - at % 4]


def cut(clip, at=48):
    """Another scene from there on: upside down in other colours."""
    return numpy.concatenate((clip[:at], clip[at:, ::-1, :, ::-1] // 2 + 90))


def looks():
    """Clips of a few frames: small, larger than 512 pixels, and tall."""
    return real()[:96:40], panned(2, 340, 600), panned(2, 150, 60)
