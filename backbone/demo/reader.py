"""Read a decoded video of the small world back: what is in every frame, and how it moves.

Analysis by synthesis, with the world's own formulas. Per frame: (1) the border tells the background's texture, and a
plane of light times that texture is fitted; what is evenly darker on the floor is the shadow; (2) what differs is the
subject, and its convex hull gives centre and scale; (3) the difference, resampled to polar coordinates, is correlated
with every shape, mark and angle, all layers at once; (4) the best match is refined by Gauss-Newton steps on centre,
size and angle.
"""

import functools
import itertools
import math

import torch
import torch.nn.functional as F

from . import reading, scenery, subject, world
from .reading import BACKGROUNDS, COLOURS, Reading, motion

__all__ = ["BACKGROUNDS", "COLOURS", "Reading", "motion", "read"]
HULL = {"circle": 1.0, "square": 0.87 * 4 / math.pi, "triangle": 0.7 * 3 * math.sqrt(3) / math.pi,
        "ring": subject.RING + subject.BAND}
SCALES = (0.9, 1.0, 1.1, 1.2)  # tried on the hull's radius; on a dark wall the outline is not seen
POLAR_PIXELS = 11  # the polar grid's sharpness, in grid cells per hull radius
SHADE_ROWS = 0.07  # half height of the rows that may be in shadow


def read(video: torch.Tensor) -> Reading:
    """Read `video` [T, H, W, 3] in 0..1 (H = W). Raises ValueError on another layout."""
    return reading.gather(video, _read)


def _read(video: torch.Tensor, bridge: bool) -> dict[str, torch.Tensor]:
    pixels = video.shape[1]
    plane, middle, light = _background(video)
    difference = video - plane
    smooth = F.avg_pool2d(difference.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False).norm(dim=1)  # [T, H, W]
    mask = smooth > reading.MIN_CONTRAST
    contrast = reading.masked_median(smooth[..., None], mask)[:, 0]
    mask = smooth > (0.45 * contrast).clamp_min(reading.MIN_CONTRAST)[:, None, None]
    labels = reading.components(mask, bridge)
    area, main = reading.largest(labels)
    area, main = area / pixels**2, (labels == main[:, None, None]) & mask
    colour = reading.typical(video, main)
    x, y, radius = reading.hull(main)
    x, y, radius = x.nan_to_num(0.5), y.nan_to_num(0.5), radius.nan_to_num(0.2)
    base = (plane * main[..., None]).sum((1, 2)) / main.sum((1, 2)).clamp_min(1)[:, None]
    tried = [_match(difference, x, y, scale * radius, colour, base) for scale in SCALES]
    gain, *found = (torch.stack(part) for part in zip(*tried, strict=True))
    best = gain.argmax(0)
    shape, mark, angle = (part[best, torch.arange(len(best))] for part in found)
    radius = radius * torch.tensor(SCALES)[best]
    size = radius / torch.tensor([HULL[s] for s in world.SHAPES])[shape]
    corner, (near, near_plane) = reading.crop(x, y, video, plane)
    scale = near.shape[1] / pixels  # the crop is a picture of its own, in which places and sizes are larger
    pose = torch.stack(((x - corner[:, 0]) / scale, (y - corner[:, 1]) / scale, size / scale, angle), 1)
    for step in range(4):
        pose, layers, lit, error = _refine(near, near_plane, colour, shape, mark, pose)
        if step < 2:  # the fitted shape tells the subject's own colour from edges and face; what is lit may be clipped
            inner = (layers[0] > 0.95) & (lit < 1)
            shade = reading.masked_median(near / lit[..., None], inner)
            colour = torch.where((inner.sum((1, 2)) > 8)[:, None], shade, colour)
    x, y = (corner + scale * pose[:, :2]).clamp(0, 1).unbind(1)
    size, angle = (scale * pose[:, 2]).clamp(0.03, 0.6), pose[:, 3]
    outside = difference.square().sum((1, 2, 3)) - (near - near_plane).square().sum((1, 2, 3))
    fit = 1 - (error + outside) / difference.square().sum((1, 2, 3)).clamp_min(1e-6)
    there = (area > reading.MIN_AREA) & (contrast > reading.MIN_CONTRAST)
    share = reading.SECOND if bridge else reading.SECOND_APART
    count = there * (1 + reading.others(mask, labels, main, shape, x, y, size, angle, share))
    gone = torch.where(there, 0.0, torch.nan)
    return {
        "colour_index": torch.where(there, reading.nearest(colour, world.COLOURS), -1),
        "shape_index": torch.where(there, shape, -1), "mark_index": torch.where(there, mark, -1),
        "background_index": reading.nearest(middle / reading.MEAN_LIGHT, world.BACKGROUNDS),
        "colour_rgb": colour + gone[:, None], "background_rgb": middle, "light": light,
        "x": x + gone, "y": y + gone, "size": size + gone,
        "angle": torch.remainder(angle, 2 * math.pi) + gone, "count": count,
        "contrast": torch.where(there, (colour - base).norm(dim=1), 0.0), "fit": torch.where(there, fit, 0.0),
    }


def _background(video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The empty stage [T, H, W, 3] with its shadow, its colour in the middle [T, 3], its light's slope [T, 2].

    Two textures, each times a plane of light, for a background may be faint or fade into another. Reweighted least
    squares: the border tells which two, then border, then all that looks like background.
    """
    frames, pixels = video.shape[:2]
    axis = (torch.arange(pixels) + 0.5) / pixels - 0.5
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    flat = video.reshape(frames, -1, 3)
    edge = torch.maximum(u.abs(), v.abs()).view(-1) > 0.5 - 3 / pixels
    pairs = _pairs(pixels)
    losses, some = [], edge.nonzero()[::3, 0]
    for design in pairs[:, some]:
        terms = _solve(design.expand(frames, -1, -1), flat[:, some], (0.15, 0.08))
        losses.append(((flat[:, some] - design @ terms).square().sum(-1) / 0.05**2).log1p().mean(1))
    design = pairs[torch.stack(losses).argmin(0)]  # [T, P, 6]
    terms = _solve(design[:, edge], flat[:, edge], (0.15, 0.08, 0.05))
    terms = _solve(design, flat, (0.06, 0.04), terms, 0.05 + edge.float())
    plane = (design @ terms).view_as(video)
    terms = terms[:, :3] + terms[:, 3:]
    light = terms[:, 1:].mean(2) / terms[:, :1].mean(2).clamp_min(0.02)
    rows = ((axis + 0.5 - scenery.SHADOW_Y).abs() < SHADE_ROWS).view(1, -1, 1)
    lit = F.avg_pool2d(torch.stack(((video * plane).sum(-1), plane.square().sum(-1)), 1), 3, 1, 1)
    left = (lit[:, 0] / lit[:, 1].clamp_min(1e-6)).clamp(1 - 1.1 * scenery.SHADOW_DARK, 1)
    return plane * torch.where(rows, left, 1.0)[..., None], terms[:, 0], light


@functools.cache
def _pairs(pixels: int) -> torch.Tensor:
    """Every two textures, no texture among them (then one is faint), each times 1, u and v: [pairs, P, 6]."""
    axis = (torch.arange(pixels) + 0.5) / pixels - 0.5
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    planes = torch.stack((torch.ones_like(u), u, v), -1)
    textures = [torch.ones_like(u), *(scenery.texture(name, pixels) for name in BACKGROUNDS)]
    lit = [(texture[..., None] * planes).view(-1, 3) for texture in textures]
    return torch.stack([torch.cat(pair, 1) for pair in itertools.combinations(lit, 2)])


def _solve(design, values, widths, terms=None, prior=None):
    """Reweighted least squares of values [T, P, C] on design [T, P, n] -> [T, n, C]; `widths`: what counts as near."""
    weight = torch.ones(design.shape[:2])
    for width in ((None, *widths) if terms is None else widths):
        if width is not None:
            error = (values - design @ terms).square().sum(-1) / width**2
            weight = 1 / (1 + error).square() * (1 if prior is None else prior)
        weighted = (design * weight[..., None]).transpose(1, 2)
        terms = torch.linalg.solve(weighted @ design + 1e-3 * torch.eye(design.shape[-1]), weighted @ values)
    return terms


@functools.cache
def _templates() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every shape and mark on the polar grid, hull of mean radius 1.

    Returns the layers' covers as spectra over the angle, times a grid cell's area [shapes, marks, 4, R, A / 2 + 1], the
    sums of the products of two layers [shapes, marks, 4, 4], and the grid's radii [R, 1].
    """
    r = (torch.arange(reading.RADII) + 0.5)[:, None] * reading.REACH / reading.RADII
    theta = torch.arange(reading.ANGLES)[None] * (2 * math.pi / reading.ANGLES)
    u, v = r * torch.cos(theta), r * torch.sin(theta)
    covers = torch.stack([
        torch.stack([subject.layers(s, m, u, v, torch.tensor(1 / HULL[s]), POLAR_PIXELS) for m in world.MARKS])
        for s in world.SHAPES
    ])
    area = r / r.sum()
    products = torch.einsum("smlra,smkra,ra->smlk", covers, covers, area.expand_as(u))
    return torch.fft.rfft(covers * area).conj(), products, r


def _match(difference, x, y, radius, colour, base):
    """Shape, mark and angle that explain the difference to the background best, and the squared error they save."""
    spectra, products, r = _templates()
    theta = torch.arange(reading.ANGLES) * (2 * math.pi / reading.ANGLES)
    ring = torch.stack((r * torch.cos(theta), r * torch.sin(theta)), -1)  # [R, A, 2]
    grid = 2 * (torch.stack((x, y), -1)[:, None, None] + radius[:, None, None, None] * ring) - 1
    polar = F.grid_sample(difference.permute(0, 3, 1, 2), grid, padding_mode="border", align_corners=False)
    ink = subject.inks(colour) - base[:, None]  # [T, 4, 3]
    seen = torch.fft.rfft(torch.einsum("tcra,tlc->tlra", polar, ink))
    product = torch.einsum("tlra,smlra->tsma", seen, spectra)
    product = torch.fft.irfft(product, n=reading.ANGLES)  # [T, shapes, marks, A]
    norm = torch.einsum("smlk,tlc,tkc->tsm", products, ink, ink)
    gain, best = (2 * product - norm[..., None]).flatten(1).max(1)
    per_shape = len(world.MARKS) * reading.ANGLES
    angle = (best % reading.ANGLES) * (2 * math.pi / reading.ANGLES)
    return gain * radius**2, best // per_shape, best % per_shape // reading.ANGLES, angle


def _draw(plane, colour, shape, mark, pose) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The subjects at `pose` [T, 4] = x, y, size, angle over `plane` [T, H, W, 3].

    Also their layers [4, T, H, W] and the light on their bodies [T, H, W].
    """
    pixels = plane.shape[1]
    x, y, size, angle = pose.unbind(1)
    dx, dy = subject.offsets(x, y, pixels)
    u, v = subject.turned(dx, dy, angle)
    layers = torch.zeros(len(subject.LAYERS), *u.shape)
    for s, m in {*zip(shape.tolist(), mark.tolist(), strict=True)}:
        rows = (shape == s) & (mark == m)
        layers[:, rows] = subject.layers(world.SHAPES[s], world.MARKS[m], u[rows], v[rows], size[rows, None, None],
                                         pixels)
    ink = subject.inks(colour)
    lit = subject.body_light(dx, dy, size[:, None, None])
    weights = torch.cat((layers[:1] * lit, layers[1:]))
    picture = plane * (1 - layers.sum(0))[..., None] + torch.einsum("lthw,tlc->thwc", weights, ink)
    return picture.clamp(0, 1), layers, lit


def _refine(video, plane, colour, shape, mark, pose):
    """One robust Gauss-Newton step on `pose` [T, 4] = x, y, size, angle.

    Also the layers [4, T, H, W], the bodies' light [T, H, W] and the squared error [T] before the step.
    """
    pixels = video.shape[1]
    picture, layers, lit = _draw(plane, colour, shape, mark, pose)
    error = video - picture
    square = error.square().sum(-1)
    weight = 1 / (1 + square / 0.3**2)
    deltas = (0.25 / pixels, 0.25 / pixels, 0.25 / pixels, 0.02)
    slopes = []
    for i, delta in enumerate(deltas):
        moved = pose.clone()
        moved[:, i] += delta
        slopes.append(_draw(plane, colour, shape, mark, moved)[0] - picture)
    slopes = torch.stack(slopes, 1).flatten(2)  # [T, 4, P * 3], change of the picture per delta
    weighted = slopes * weight[..., None].expand_as(video).flatten(1)[:, None]
    normal = weighted @ slopes.transpose(1, 2)
    right = weighted @ error.flatten(1)[..., None]
    damp = 0.01 * normal.diagonal(dim1=1, dim2=2) + 1e-4
    step = torch.linalg.solve(normal + torch.diag_embed(damp), right)[..., 0].clamp(-8, 8) * torch.tensor(deltas)
    return pose + step, layers, lit, square.sum((1, 2))
