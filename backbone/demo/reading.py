"""What reading a video back needs besides the picture's formulas (see reader.py): groups of pixels, hulls, motion."""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from . import subject, world

COLOURS, BACKGROUNDS = tuple(world.COLOURS), tuple(world.BACKGROUNDS)
MIN_AREA = 0.010  # of the picture: less than this is no subject
SECOND = 0.12  # of the subject's area: what lies apart from it and is at least this large is another subject
SECOND_APART = 0.35  # the same where no gap is bridged, for then a mark may cut a piece off
POOR = 0.7  # fit below which a frame may show two subjects close together
CROP = 0.69  # of the side: room for the largest subject but a corner
MIN_CONTRAST = 0.08  # distance in RGB
MEAN_LIGHT = 0.9  # the background's usual brightness in the middle of the picture, see Scene.light_strength
RADII, ANGLES, REACH = 14, 72, 1.35  # polar grid; reach in mean hull radii
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
    """Of colours [T, 3] the index of the nearest in `table` [T]."""
    return torch.cdist(rgb, torch.tensor(list(table.values()))).argmin(1)


def _read_again(video: torch.Tensor, read_frames) -> dict[str, torch.Tensor]:
    """The rows, read again for frames that one shape does not explain: their parts may be subjects close together."""
    rows = read_frames(video, bridge=True)
    poor = (rows["count"] > 0) & (rows["fit"] < POOR)
    if poor.any():
        for name, value in read_frames(video[poor], bridge=False).items():
            rows[name][poor] = value
    return rows


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
    axis = (torch.arange(pixels) + 0.5) / pixels
    left = torch.where(mask, axis, torch.inf).amin(2)  # [T, H], each row's ends
    right = torch.where(mask, axis, -torch.inf).amax(2)
    theta = torch.arange(ANGLES) * (2 * math.pi / ANGLES)
    c, s = torch.cos(theta)[:, None], torch.sin(theta)[:, None]
    ends = torch.where(c >= 0, right[:, None], left[:, None])  # [T, A, H]
    support = torch.where(mask.any(2)[:, None], c * ends.nan_to_num(0, 0, 0) + s * axis, -torch.inf).amax(2)
    support = support.masked_fill(support.isinf(), torch.nan)
    return (2 * (support * c[:, 0]).mean(1), 2 * (support * s[:, 0]).mean(1),
            support.mean(1) + 0.35 / pixels)  # a pixel's own extent


def crop(x, y, *videos):
    """The surroundings of every frame's subject: their corner [T, 2] (of the side) and the videos' parts."""
    frames, pixels = videos[0].shape[:2]
    side = round(CROP * pixels)
    corner = (torch.stack((x, y), 1) * pixels - side / 2).round().clamp(0, pixels - side).long()
    steps = torch.arange(side)
    rows, columns = corner[:, 1, None] + steps, corner[:, 0, None] + steps
    each = torch.arange(frames)[:, None, None]
    return corner / pixels, [v[each, rows[:, :, None], columns[:, None]] for v in videos]


def others(mask, labels, main, shape, x, y, size, angle, share: float) -> torch.Tensor:
    """Number of further subjects [T]: groups apart from the main one, or a large piece of it outside the shape."""
    pixels = mask.shape[1]
    u, v = subject.turned(*subject.offsets(x, y, pixels), angle)
    outside = torch.zeros_like(mask)
    for s in set(shape.tolist()):
        rows, r = shape == s, size[shape == s, None, None]
        solid = "circle" if world.SHAPES[s] == "ring" else world.SHAPES[s]
        grown = (subject.RING + subject.BAND) * r if world.SHAPES[s] == "ring" else r
        outside[rows] = subject.shape_distance(solid, u[rows], v[rows], grown) > 2.0 / pixels
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
