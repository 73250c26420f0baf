"""Read a decoded video of the small world back: what is in every frame, and how it moves.

Analysis by synthesis, with the world's own formulas. Per frame: (1) a plane of light is fitted to the background;
(2) what differs from it is the subject, and its convex hull gives centre and scale, whatever the mark cuts out;
(3) the difference, resampled to polar coordinates, is correlated with every shape, mark and angle (turning is a shift);
(4) the best match is refined by Gauss-Newton steps on centre, size and angle.
A mark that has the background's colour is no special case: it is part of the picture that is compared.
"""

import functools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from . import world

COLOURS, BACKGROUNDS = tuple(world.COLOURS), tuple(world.BACKGROUNDS)
MIN_AREA = 0.010  # of the picture: less than this is no subject
SECOND = 0.12  # of the subject's area: what lies apart from it and is at least this large is another subject
SECOND_APART = 0.35  # the same where no gap is bridged, for then a mark may cut a piece off
POOR = 0.7  # fit below which a frame may show two subjects close together
CROP = 0.69  # of the side: room for the largest subject but a corner
MIN_CONTRAST = 0.08  # distance in RGB
MEAN_LIGHT = 0.9  # the background's usual brightness in the middle of the picture, see Scene.light_strength
RADII, ANGLES, REACH = 14, 72, 1.35  # polar grid; reach in mean hull radii
HULL = {"circle": 1.0, "square": 0.87 * 4 / math.pi, "triangle": 0.7 * 3 * math.sqrt(3) / math.pi, "ring": 1.1}
SCALES = (0.9, 1.0, 1.1)  # tried on the hull's radius
MOVES, GROWS = 0.08, 0.13  # ranges from which a place (of the side) or a size (of itself) counts as changing
CHUNK = 64  # frames at a time


@dataclass(frozen=True)
class Reading:
    """What a video shows. The three names are votes over its frames; None where no frame shows a subject.

    Tensors have one row per frame. Indices count in COLOURS, world.SHAPES, BACKGROUNDS, world.MARKS, -1 = no subject;
    places and sizes are fractions of the picture's side, angles radians, NaN = no subject.
    """

    colour: str | None
    shape: str | None
    background: str
    colour_index: torch.Tensor
    shape_index: torch.Tensor
    background_index: torch.Tensor
    mark_index: torch.Tensor
    colour_rgb: torch.Tensor  # [T, 3]
    background_rgb: torch.Tensor  # [T, 3], in the middle of the picture
    light: torch.Tensor  # [T, 2], the background's relative rise in brightness from edge to edge, along x and y
    x: torch.Tensor
    y: torch.Tensor
    size: torch.Tensor
    angle: torch.Tensor
    count: torch.Tensor  # number of subjects
    contrast: torch.Tensor  # RGB distance of subject and background
    fit: torch.Tensor  # 1 = the template explains all that differs from the background

    def __len__(self) -> int:
        return len(self.count)


def read(video: torch.Tensor) -> Reading:
    """Read `video` [T, H, W, 3] in 0..1 (H = W). Raises ValueError on another layout."""
    return gather(video, _read)


def gather(video: torch.Tensor, read_frames) -> Reading:
    """The Reading of `video`, from the rows that read_frames(frames, bridge) gives of some frames at a time."""
    if video.ndim != 4 or video.shape[-1] != 3 or video.shape[1] != video.shape[2] or not len(video):
        raise ValueError(f"reader: expected a square video [T, H, W, 3], got {tuple(video.shape)}.")
    video = video.detach().float().cpu().nan_to_num(0).clamp(0, 1)
    parts = [_read_again(chunk, read_frames) for chunk in video.split(CHUNK)]
    rows = {name: torch.cat([p[name] for p in parts]) for name in parts[0]}
    return Reading(colour=_vote(rows["colour_index"], COLOURS), shape=_vote(rows["shape_index"], world.SHAPES),
                   background=_vote(rows["background_index"], BACKGROUNDS), **rows)


def _vote(indices: torch.Tensor, names: tuple[str, ...]) -> str | None:
    indices = indices[indices >= 0]
    return names[int(indices.bincount().argmax())] if len(indices) else None


def nearest(rgb: torch.Tensor, table: dict) -> torch.Tensor:
    return torch.cdist(rgb, torch.tensor(list(table.values()))).argmin(1)


def _read_again(video: torch.Tensor, read_frames) -> dict[str, torch.Tensor]:
    """The rows, read again for frames that one shape does not explain: their parts may be subjects close together."""
    rows = read_frames(video, bridge=True)
    poor = (rows["count"] > 0) & (rows["fit"] < POOR)
    if poor.any():
        for name, value in read_frames(video[poor], bridge=False).items():
            rows[name][poor] = value
    return rows


def _read(video: torch.Tensor, bridge: bool) -> dict[str, torch.Tensor]:
    pixels = video.shape[1]
    plane, middle, light = _background(video)
    difference = video - plane
    smooth = F.avg_pool2d(difference.permute(0, 3, 1, 2), 3, 1, 1, count_include_pad=False).norm(dim=1)  # [T, H, W]
    mask = smooth > MIN_CONTRAST
    contrast = masked_median(smooth[..., None], mask)[:, 0]
    mask = smooth > (0.45 * contrast).clamp_min(MIN_CONTRAST)[:, None, None]
    labels = components(mask, bridge)
    area, main = largest(labels)
    area, main = area / pixels**2, (labels == main[:, None, None]) & mask
    colour = typical(video, main)
    x, y, radius = hull(main)
    x, y, radius = x.nan_to_num(0.5), y.nan_to_num(0.5), radius.nan_to_num(0.2)
    base = (plane * main[..., None]).sum((1, 2)) / main.sum((1, 2)).clamp_min(1)[:, None]
    tried = [_match(difference, x, y, scale * radius, colour, base) for scale in SCALES]
    gain, *found = (torch.stack(part) for part in zip(*tried, strict=True))
    best = gain.argmax(0)
    shape, mark, angle = (part[best, torch.arange(len(best))] for part in found)
    radius = radius * torch.tensor(SCALES)[best]
    size = radius / torch.tensor([HULL[s] for s in world.SHAPES])[shape]
    corner, (near, near_plane) = crop(x, y, video, plane)
    scale = near.shape[1] / pixels  # the crop is a picture of its own, in which places and sizes are larger
    pose = torch.stack(((x - corner[:, 0]) / scale, (y - corner[:, 1]) / scale, size / scale, angle), 1)
    for step in range(3):
        pose, alpha, ink, error = _refine(near, near_plane, colour, shape, mark, pose)
        if step == 0:  # the fitted shape tells the subject's own colour from edges and mark
            inner = (alpha > 0.9) & (ink < 0.1)
            colour = torch.where((inner.sum((1, 2)) > 8)[:, None], masked_median(near, inner), colour)
    x, y = (corner + scale * pose[:, :2]).clamp(0, 1).unbind(1)
    size, angle = (scale * pose[:, 2]).clamp(0.03, 0.6), pose[:, 3]
    outside = difference.square().sum((1, 2, 3)) - (near - near_plane).square().sum((1, 2, 3))
    fit = 1 - (error + outside) / difference.square().sum((1, 2, 3)).clamp_min(1e-6)
    there = (area > MIN_AREA) & (contrast > MIN_CONTRAST)
    count = there * (1 + others(mask, labels, main, shape, x, y, size, angle, SECOND if bridge else SECOND_APART))
    gone = torch.where(there, 0.0, torch.nan)
    return {
        "colour_index": torch.where(there, nearest(colour, world.COLOURS), -1),
        "shape_index": torch.where(there, shape, -1), "mark_index": torch.where(there, mark, -1),
        "background_index": nearest(middle / MEAN_LIGHT, world.BACKGROUNDS),
        "colour_rgb": colour + gone[:, None], "background_rgb": middle, "light": light,
        "x": x + gone, "y": y + gone, "size": size + gone,
        "angle": torch.remainder(angle, 2 * math.pi) + gone, "count": count,
        "contrast": torch.where(there, (colour - base).norm(dim=1), 0.0), "fit": torch.where(there, fit, 0.0),
    }


def _axis(pixels: int) -> torch.Tensor:
    return (torch.arange(pixels) + 0.5) / pixels


def _background(video: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A plane of light per frame and channel [T, H, W, 3], its value in the middle [T, 3], its relative slope [T, 2].

    Reweighted least squares, first on the border, then on all that looks like background.
    """
    frames, pixels = video.shape[:2]
    axis = _axis(pixels) - 0.5
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    design = torch.stack((torch.ones_like(u), u, v), -1).view(-1, 3)  # [P, 3]
    flat = video.reshape(frames, -1, 3)
    edge = torch.maximum(u.abs(), v.abs()).view(-1) > 0.5 - 3 / pixels
    squares = (design[:, :, None] * design[:, None]).view(-1, 9)
    eye = 1e-6 * torch.eye(3)

    def solve(rows, weight):
        normal = (weight @ squares[rows]).view(frames, 3, 3)
        right = design[rows].T @ (weight[..., None] * flat[:, rows])
        return torch.linalg.solve(normal + eye, right)  # [T, 3 terms, 3 channels]

    weight = torch.ones(frames, int(edge.sum()))
    for width in (0.15, 0.08, 0.05):
        terms = solve(edge, weight)
        weight = 1 / (1 + ((flat[:, edge] - design[edge] @ terms).square().sum(-1) / width**2)).square()
    every = slice(None)
    for width in (0.06, 0.04):
        error = (flat - design @ terms).square().sum(-1) / width**2
        terms = solve(every, 1 / (1 + error).square() * (0.05 + edge.float()))
    light = (terms[:, 1:].mean(2)) / terms[:, :1].mean(2).clamp_min(0.02)
    return (design @ terms).view_as(video), terms[:, 0], light


def masked_median(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Median over [T, H, W, C] where `mask` [T, H, W] holds -> [T, C]; 0 where it never does."""
    return values.masked_fill(~mask[..., None], torch.nan).flatten(1, 2).nanmedian(1).values.nan_to_num(0)


def typical(video: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The commonest colour under the mask [T, 3]: a mode, sought from the median; mark and edges do not count."""
    colour = masked_median(video, mask)
    for width in (0.3, 0.15, 0.1):
        weight = mask / (1 + (video - colour[:, None, None]).square().sum(-1) / width**2).square()
        total = weight.sum((1, 2)).clamp_min(1e-6)
        colour = torch.einsum("thw,thwc->tc", weight, video) / total[:, None]
    return colour


def components(mask: torch.Tensor, bridge: bool) -> torch.Tensor:
    """Labels [T, H, W] (0 = nothing) of connected groups; gaps of a mark's width do not part a bridged one."""
    cell = max(1, mask.shape[1] // 32) if bridge else 1
    coarse = F.max_pool2d(mask[:, None].float(), cell)
    wide = F.max_pool2d(coarse, 5, 1, 2) if bridge else coarse
    labels = (1 + torch.arange(wide[0].numel(), dtype=torch.float32)).view(1, *wide.shape[1:]) * wide
    while True:  # labels flood their group, some steps between two looks
        before = labels
        for _ in range(8):
            labels = F.max_pool2d(labels, 3, 1, 1) * wide
        if torch.equal(before, labels):
            break
    labels = F.interpolate(labels, size=mask.shape[1:], mode="nearest")[:, 0]
    return labels.long() * mask


def largest(labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Area in pixels and label of every frame's largest group."""
    area = _areas(labels)
    best = area.max(1)
    return best.values, torch.where(best.values > 0, best.indices, -1)


def _areas(labels: torch.Tensor) -> torch.Tensor:
    """Pixels of every label [T, highest label + 1]; label 0, the background, counts as none."""
    flat = labels.flatten(1)
    area = torch.zeros(len(flat), int(labels.max()) + 1).scatter_add_(1, flat, torch.ones(flat.shape))
    area[:, 0] = 0
    return area


def hull(mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Steiner point x, y and mean radius of the mask's convex hull, from its support function; NaN where empty."""
    pixels = mask.shape[1]
    axis = _axis(pixels)
    left = torch.where(mask, axis, torch.inf).amin(2)  # [T, H], each row's ends
    right = torch.where(mask, axis, -torch.inf).amax(2)
    theta = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
    c, s = torch.cos(theta)[:, None], torch.sin(theta)[:, None]
    ends = torch.where(c >= 0, right[:, None], left[:, None])  # [T, A, H]
    support = torch.where(mask.any(2)[:, None], c * ends.nan_to_num(0, 0, 0) + s * axis, -torch.inf).amax(2)
    support = support.masked_fill(support.isinf(), torch.nan)
    return (2 * (support * c[:, 0]).mean(1), 2 * (support * s[:, 0]).mean(1),
            support.mean(1) + 0.35 / pixels)  # a pixel's own extent


def _inks(colour: torch.Tensor) -> torch.Tensor:
    """The colour of each kind of mark on subjects of `colour` [T, 3] -> [T, 3 marks, 3]: world.mark_rgb, by frames."""
    dark = 0.25 * colour
    pale = torch.where(colour.amin(1, keepdim=True) > 0.8, 0.7 * colour, 0.35 * colour + 0.65)
    return torch.stack([pale if mark == "pale" else dark for mark in world.MARKS], 1)


@functools.cache
def _templates() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Every shape and mark on the polar grid, hull of mean radius 1.

    Returns the body's and the mark's cover, as spectra over the angle times the area of a grid cell
    [shapes, marks, R, A / 2 + 1], and the sums of body^2, 2 body mark, mark^2 [3, shapes, marks], the area [R, 1].
    """
    r = (torch.arange(RADII) + 0.5)[:, None] * REACH / RADII
    theta = torch.arange(ANGLES)[None] * (2 * math.pi / ANGLES)
    u, v = r * torch.cos(theta), r * torch.sin(theta)
    body, mark = [], []
    for shape in world.SHAPES:
        size = torch.tensor(1 / HULL[shape])
        alpha = torch.sigmoid(-15 * world.shape_distance(shape, u, v, size))
        ink = [torch.sigmoid(-15 * world.mark_distance(shape, m, u, v, size)) * alpha for m in world.MARKS]
        mark.append(torch.stack(ink))
        body.append(alpha - mark[-1])
    body, mark = torch.stack(body), torch.stack(mark)
    area = r / r.sum()
    norms = torch.stack([(area * p).sum((2, 3)) for p in (body**2, 2 * body * mark, mark**2)])
    return torch.fft.rfft(body * area).conj(), torch.fft.rfft(mark * area).conj(), norms, r


def _match(difference, x, y, radius, colour, base):
    """Shape, mark and angle that explain the difference to the background best, and the squared error they save."""
    body, mark, norms, r = _templates()
    theta = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
    ring = torch.stack((r * torch.cos(theta), r * torch.sin(theta)), -1)  # [R, A, 2]
    grid = 2 * (torch.stack((x, y), -1)[:, None, None] + radius[:, None, None, None] * ring) - 1
    polar = F.grid_sample(difference.permute(0, 3, 1, 2), grid, padding_mode="border", align_corners=False)
    c, k = colour - base, _inks(colour) - base[:, None]  # [T, 3], [T, marks, 3]
    on_body = torch.fft.rfft(torch.einsum("tcra,tc->tra", polar, c))
    on_mark = torch.fft.rfft(torch.einsum("tcra,tmc->tmra", polar, k))
    product = torch.einsum("tra,smra->tsma", on_body, body) + torch.einsum("tmra,smra->tsma", on_mark, mark)
    product = torch.fft.irfft(product, n=ANGLES)  # [T, shapes, marks, A]
    norm = (norms[0] * c.square().sum(-1)[:, None, None] + norms[1] * (k * c[:, None]).sum(-1)[:, None]
            + norms[2] * k.square().sum(-1)[:, None])
    gain, best = (2 * product - norm[..., None]).flatten(1).max(1)
    shape, best = best // (len(world.MARKS) * ANGLES), best % (len(world.MARKS) * ANGLES)
    return gain * radius**2, shape, best // ANGLES, (best % ANGLES) * (2 * math.pi / ANGLES)


def _cover(shape, mark, x, y, size, angle, pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """The subject's and its mark's cover [T, H, W], as world.render draws them."""
    alpha, ink = torch.zeros(2, len(x), pixels, pixels)
    for s, m in {*zip(shape.tolist(), mark.tolist(), strict=True)}:
        rows = (shape == s) & (mark == m)
        u, v = world.frame_grid(x[rows], y[rows], angle[rows], pixels)
        r = size[rows, None, None]
        a = torch.sigmoid(-1.5 * pixels * world.shape_distance(world.SHAPES[s], u, v, r))
        alpha[rows] = a
        ink[rows] = torch.sigmoid(-1.5 * pixels * world.mark_distance(world.SHAPES[s], world.MARKS[m], u, v, r)) * a
    return alpha, ink


def crop(x, y, *videos):
    """The surroundings of every frame's subject: their corner [T, 2] (of the side) and the videos' parts."""
    frames, pixels = videos[0].shape[:2]
    side = round(CROP * pixels)
    corner = (torch.stack((x, y), 1) * pixels - side / 2).round().clamp(0, pixels - side).long()
    steps = torch.arange(side)
    rows, columns = corner[:, 1, None] + steps, corner[:, 0, None] + steps
    each = torch.arange(frames)[:, None, None]
    return corner / pixels, [v[each, rows[:, :, None], columns[:, None]] for v in videos]


def _refine(video, plane, colour, shape, mark, pose):
    """One robust Gauss-Newton step on `pose` [T, 4] = x, y, size, angle.

    Also the covers [T, H, W] and the squared error [T] before the step.
    """
    pixels = video.shape[1]
    alpha, ink = _cover(shape, mark, *pose.unbind(1), pixels)
    body = colour[:, None, None] - plane  # [T, H, W, 3]
    paint = (_inks(colour)[torch.arange(len(pose)), mark] - colour)[:, None, None]
    error = video - plane - alpha[..., None] * body - ink[..., None] * paint
    square = error.square().sum(-1)
    weight = 1 / (1 + square / 0.3**2)
    deltas = (0.25 / pixels, 0.25 / pixels, 0.25 / pixels, 0.02)
    slopes = []
    for i, delta in enumerate(deltas):
        moved = pose.clone()
        moved[:, i] += delta
        a, b = _cover(shape, mark, *moved.unbind(1), pixels)
        slopes.append((a - alpha)[..., None] * body + (b - ink)[..., None] * paint)
    slopes = torch.stack(slopes, 1).flatten(2)  # [T, 4, P * 3], change of the picture per delta
    weighted = slopes * weight[..., None].expand_as(video).flatten(1)[:, None]
    normal = weighted @ slopes.transpose(1, 2)
    right = weighted @ error.flatten(1)[..., None]
    damp = 0.01 * normal.diagonal(dim1=1, dim2=2) + 1e-4
    step = torch.linalg.solve(normal + torch.diag_embed(damp), right)[..., 0].clamp(-8, 8) * torch.tensor(deltas)
    return pose + step, alpha, ink, square.sum((1, 2))


def others(mask, labels, main, shape, x, y, size, angle, share: float) -> torch.Tensor:
    """Number of further subjects [T]: groups apart from the main one, or a large piece of it outside the shape."""
    pixels = mask.shape[1]
    u, v = world.frame_grid(x, y, angle, pixels)
    outside = torch.zeros_like(mask)
    for s in set(shape.tolist()):
        rows, r = shape == s, size[shape == s, None, None]
        solid = "circle" if world.SHAPES[s] == "ring" else world.SHAPES[s]
        grown = 1.1 * r if world.SHAPES[s] == "ring" else r
        outside[rows] = world.shape_distance(solid, u[rows], v[rows], grown) > 2.0 / pixels
    limit = (share * main.sum((1, 2))).clamp_min(0.6 * MIN_AREA * pixels**2)
    apart = (_areas(labels * ~main) > limit[:, None]).sum(1)
    return apart + ((main & outside).sum((1, 2)) > 2 * limit)


def motion(reading: Reading, start: int = 0, end: int | None = None) -> str | None:
    """The motion class of frames [start, end), at least some 24 of them; None if most of them show no subject."""
    rows = torch.arange(len(reading))[start:end]
    rows = rows[reading.count[rows] > 0]
    if len(rows) < max(3, 0.5 * len(range(*slice(start, end).indices(len(reading))))):
        return None
    x, y, size = _range(reading.x[rows]), _range(reading.y[rows]), _range(reading.size[rows])
    size /= reading.size[rows].median().item()
    if max(x, y) > MOVES:
        if min(x, y) > 0.4 * max(x, y):
            return "circling"
        return "sliding" if x > y else "bouncing"
    turning = _turning(reading, rows)
    if size > GROWS and (size > 0.3 or not turning):
        return "pulsing"
    return "spinning" if turning else "still"


def _range(track: torch.Tensor) -> float:
    """Width of a track, less its wildest frames and its frame-to-frame noise."""
    middle = torch.stack((track[:-2], track[1:-1], track[2:])).median(0).values
    low, high = middle.quantile(torch.tensor([0.04, 0.96])).tolist()
    return high - low


def _turning(reading: Reading, rows: torch.Tensor) -> bool:
    """Whether the angle advances: exp(i angle) has its line at a turn in 18..60 frames rather than at rest."""
    best = {"rest": 0.0, "turn": 0.0}
    fold = {"square": 4, "triangle": 3}.get(_vote(reading.shape_index[rows], world.SHAPES), 1)
    for n in {1, fold}:  # by the mark; by the outline, which repeats every 1 / fold of a turn
        rate = 2 * math.pi / torch.tensor([*range(18, 61)])
        rate = torch.cat((rate, -rate))
        slow = torch.linspace(-0.04, 0.04, 9)
        line = torch.exp(1j * n * (reading.angle[rows] - torch.cat((rate, slow))[:, None] * rows)).mean(1).abs()
        best["turn"] = max(best["turn"], line[:len(rate)].max().item())
        best["rest"] = max(best["rest"], line[len(rate):].max().item())
    return best["turn"] > best["rest"]
