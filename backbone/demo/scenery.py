"""The backgrounds: a wall and a floor that meet at a horizon, each with its own texture, and the subject's shadow.

A background is its colour times a plane of light times a fixed texture. Textures repeat every 8 or 16 pixels, one or
two cells of the latent, and the horizon lies on a cell's edge: so a small decoder can draw them crisply.
"""

import functools
import math

import torch

HORIZON = 0.75  # of the side, from the top
SHADOW_Y, SHADOW_HEIGHT = 0.885, 0.034  # the shadow's centre and half height, of the side
SHADOW_DARK = 0.35  # most that the shadow takes away
GROUND, AIR = 0.68, 0.4  # y of a subject that touches the ground; height over it at which the shadow is faintest


def cover(distance: torch.Tensor, pixels: int) -> torch.Tensor:
    """How much of a pixel lies inside an edge at signed `distance` (of the side, negative inside): a box filter."""
    return (0.5 - distance * pixels).clamp(0, 1)


def _apart(x: torch.Tensor, period: float, at: float = 0.0) -> torch.Tensor:
    """Distance to the nearest of the places at + n period."""
    return (torch.remainder(x - at + period / 2, period) - period / 2).abs()


def _lines(x: torch.Tensor, period: float, at: float, pixels: int, width: float = 1 / 64) -> torch.Tensor:
    return cover(_apart(x, period, at) - width / 2, pixels)


def _dots(x: torch.Tensor, y: torch.Tensor, period: float, at: tuple[float, float], radius: float, pixels: int):
    return cover(torch.hypot(_apart(x, period, at[0]), _apart(y, period, at[1])) - radius, pixels)


@functools.cache
def texture(background: str, pixels: int) -> torch.Tensor:
    """What the background's colour is multiplied with, [H, W]; about 1 on the wall."""
    axis = (torch.arange(pixels) + 0.5) / pixels
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    cell = 1 / 8  # of the side
    low = (y / HORIZON).clamp(0, 1)  # 0 at the top of the wall, 1 at the horizon
    into = ((y - HORIZON) / (1 - HORIZON)).clamp(0, 1)  # 0 at the horizon, 1 at the bottom
    wall, floor = torch.ones_like(x), 1 + 0.15 * into
    if background == "black":  # night
        stars = [(0.047, 0.055, 0.018), (0.170, 0.172, 0.013)]
        wall = 1 + 5 * sum(_dots(x, y, 2 * cell, (a, b), r, pixels) for a, b, r in stars)
        floor = 1.7 * floor
    elif background == "navy":  # a glow over the sea
        wall = 0.85 + 0.45 * low**2
        floor = 0.62 * floor + 0.45 * _lines(y, cell / 2, cell / 4, pixels)
    elif background == "gray":  # bricks
        row = torch.floor(y / cell)
        wall = 1.04 - 0.2 * torch.maximum(
            _lines(y, cell, 0.0, pixels, 1 / 32), _lines(x + cell * torch.remainder(row, 2), 2 * cell, 0.0, pixels))
        floor = 0.72 * floor
    elif background == "teal":  # curtains over tiles
        wall = 1 + 0.13 * torch.cos(x * (2 * torch.pi / cell))
        floor = 0.7 * floor + 0.18 * torch.maximum(
            _lines(x, 2 * cell, 0.0, pixels), _lines(y, cell, HORIZON + cell / 2, pixels))
    elif background == "brown":  # boards
        wall = 1.03 - 0.26 * _lines(x, cell, cell / 2, pixels)
        floor = 1.3 * floor - 0.3 * _lines(y, cell, HORIZON + cell / 2, pixels)
    elif background == "pink":  # dotted paper
        both = (_dots(x, y, 2 * cell, (at, at), 0.035, pixels) for at in (cell / 2, 1.5 * cell))
        wall = 1.02 - 0.13 * sum(both)
        floor = 0.8 * floor
    return torch.where(y < HORIZON, wall, floor)


def shadow(x: torch.Tensor, y: torch.Tensor, size: torch.Tensor, pixels: int) -> torch.Tensor:
    """What is left of the light, [T, H, W], under subjects at x, y [T]: a soft ellipse, fainter for what is higher."""
    axis = (torch.arange(pixels) + 0.5) / pixels
    height = ((GROUND - y) / AIR).clamp(0, 1)[:, None, None]
    across = (axis - x[:, None, None]) / (size[:, None, None] * (1 - 0.3 * height))
    along = (axis[:, None] - SHADOW_Y) / SHADOW_HEIGHT
    inside = (1.2 - across.square() - along.square()).clamp(0, 1)
    return 1 - SHADOW_DARK * (1 - 0.65 * height) * inside


def lit(scene, x: torch.Tensor, y: torch.Tensor, size: torch.Tensor, pixels: int) -> torch.Tensor:
    """What the background's colour is multiplied with, [T, H, W]: its light and texture, and the subject's shadow."""
    axis = (torch.arange(pixels) + 0.5) / pixels - 0.5
    light = 1 - scene.light_strength * (0.5 + axis[:, None] * math.sin(scene.light) + axis * math.cos(scene.light))
    return light * texture(scene.background, pixels) * shadow(x, y, size, pixels)
