"""What the latents hold, told by the scene: VAE and video model learn these numbers, not ones of their own.

A latent cell (8 x 8 pixels, four frames) holds the background's colour with its light and shadow, and, near the
subject, the subject's colour, shape and mark and where the cell lies in the subject's own frame. Such an offset is
linear in space, so a decoder gets every pixel's place in the subject by interpolation and draws its edges as sharply at
any place, angle or size. What was meant to be decided early in sampling has much of the latent (background, colour,
place), what late little (the mark, changes of pace).
"""

import math

import torch

from . import scenery
from .subject import MARKS, SHAPES, offsets, turned
from .world import SIZE
from .world import pose as pose_at

CELL = 8  # pixels
SHAPE_CODE = torch.tensor([[1.0, 1.0], [-1.0, 1.0], [-1.0, -1.0], [1.0, -1.0]])  # of SHAPES; alike ones are neighbours
MARK_CODE = torch.tensor([[math.cos(a), math.sin(a)] for a in (0, 2 * math.pi / 3, 4 * math.pi / 3)])
OFFSET = (1.0, 2.5, 4.0)  # of the offset's mean over four frames, its slope, its bend
NEAR, FADE = 1.0, 0.2  # the subject's surroundings: whole up to NEAR sizes, gone FADE sides further out
SHAPE, MARK, COLOUR, BACKGROUND = 1.0, 0.7, 2.2, 2.5  # of the others


def fours(x: torch.Tensor) -> torch.Tensor:
    """[4n + 1] by pixel frame -> [n + 1, 4] by latent frame; the first pixel frame fills the first."""
    return torch.cat((x[:1].expand(1, 4), x[1:].view(-1, 4)))


def waves() -> torch.Tensor:
    """The mean, slope and bend of four numbers, as a matrix [3, 4] (the first waves of a cosine transform)."""
    n = torch.arange(4) + 0.5
    basis = torch.stack([torch.cos(n * k * math.pi / 4) for k in range(3)])
    return basis / basis.square().sum(1, keepdim=True).sqrt() / torch.tensor([2.0, 1.0, 1.0])[:, None]


def near(distance: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """How much a cell at `distance` from the centre of a subject of `size` tells of it, all of the side: 1 to 0."""
    out = ((distance - NEAR * size) / FADE).clamp(0, 1)
    return 0.5 + 0.5 * torch.cos(math.pi * out)


def near_subject(z: torch.Tensor) -> torch.Tensor:
    """Which cells of told latents [B, 16, n, h, w] lie near the subject: 0 or 1, [B, 1, n, h, w]."""
    return (z[:, 6:7].abs() > 0.3 * SHAPE).float()


def subject_colour(z: torch.Tensor) -> torch.Tensor:
    """What colour told latents [B, 16, n, h, w] have their subject in, in 0..1 [B, 3, n, h, w]; far from it grey."""
    here = z[:, 6:8].norm(dim=1, keepdim=True) / (SHAPE * 2**0.5)  # 0..1: a shape's code is two numbers of 1
    return (z[:, 3:6] / COLOUR / here.clamp_min(0.05) + 0.5).clamp(0, 1)


def by_pixel(cells: torch.Tensor) -> torch.Tensor:
    """[B, C, n + 1, h, w] by cell -> [B, C, 4n + 1, 8h, 8w] by pixel."""
    cells = cells.repeat_interleave(CELL, 3).repeat_interleave(CELL, 4)
    return torch.cat((cells[:, :, :1], cells[:, :, 1:].repeat_interleave(4, 2)), 2)


def told(scene, pose: tuple, pixels: int = SIZE) -> torch.Tensor:
    """Latent [16, n, h, w] of `scene` at `pose`: x, y, size, angle [n, 4] by latent frame and pixel frame in it."""
    x, y, size, angle = (a.flatten() for a in pose)
    n, cells = len(pose[0]), pixels // CELL
    light = scenery.lit(scene, x, y, size, pixels)
    light = torch.nn.functional.avg_pool2d(light.view(n, 4, pixels, pixels).mean(1)[:, None], CELL)  # [n, 1, h, w]
    background = light * torch.tensor(scene.background_rgb).view(1, 3, 1, 1) - 0.25

    dx, dy = offsets(x, y, cells)
    place = torch.stack(turned(dx, dy, angle), 1) / size[:, None, None, None]
    place = place.view(n, 4, 2, cells, cells)
    place = torch.einsum("kf,nfchw->nkchw", waves() * torch.tensor(OFFSET)[:, None], place).flatten(1, 2)
    x, y, size = (a.mean(1) for a in pose[:3])
    dx, dy = offsets(x, y, cells)
    here = near(torch.hypot(dx, dy), size[:, None, None])[:, None]  # [n, 1, h, w]
    facts = torch.cat((COLOUR * (torch.tensor(scene.colour_rgb) - 0.5), SHAPE * SHAPE_CODE[SHAPES.index(scene.shape)],
                       MARK * MARK_CODE[MARKS.index(scene.mark)]))[:, None, None]
    channels = BACKGROUND * background, here * facts, here * place
    return torch.cat(channels, 1).transpose(0, 1)


def of_clip(scene, frames: int, start: float = 0.0) -> torch.Tensor:
    """Latent [16, n + 1, h, w] of the scene's clip of frames = 4n + 1 pixel frames, from pixel frame `start` on."""
    times = start + torch.arange(frames, dtype=torch.float32)
    return told(scene, [fours(a) for a in pose_at(scene, times)])
