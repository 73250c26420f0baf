"""The subject: a shape with an outline and a face, drawn as layers that do not overlap.

Distances are of the picture's side. u points right and v down in the subject's own frame; the face sits off centre,
towards -v, so that turning can be seen.
"""

import torch

from .scenery import cover

SHAPES = ("circle", "square", "triangle", "ring")
MARKS = ("eyes", "eye", "mask")  # two eyes, one large eye, pale eyes in a dark band: the identity, never named
LAYERS = ("body", "outline", "pale", "dark")
OUTLINE = 0.13  # width, of the size
RING, BAND = 0.75, 0.36  # the ring's radius and half of its width, of the size
FACE = {"circle": -0.3, "square": -0.25, "triangle": -0.05, "ring": -RING}  # where the eyes are along v, of the size
APART = 0.29  # half the distance between two eyes, of the size
LIGHT = (-0.09, -0.15)  # rise in the body's brightness per size along x and y: light from above and the left


def shape_distance(shape: str, u: torch.Tensor, v: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Signed distance to the shape's edge, negative inside."""
    if shape == "square":
        return torch.maximum(u.abs(), v.abs()) - size * 0.87
    if shape == "triangle":  # apex at -v
        return torch.maximum(v - size * 0.7, u.abs() * 0.866 - v * 0.5 - size * 0.7)
    radius = torch.sqrt(u * u + v * v)
    return radius - size if shape == "circle" else torch.abs(radius - size * RING) - size * BAND


def layers(shape: str, mark: str, u: torch.Tensor, v: torch.Tensor, size: torch.Tensor, pixels) -> torch.Tensor:
    """The cover of each of LAYERS, [4, *u.shape]; edges are one pixel wide. Their sum is the subject's whole cover."""
    distance = shape_distance(shape, u, v, size)
    whole, inner = cover(distance, pixels), cover(distance + OUTLINE * size, pixels)
    down = v - FACE[shape] * size
    small = 0.75 if shape == "ring" else 1.0  # its band is narrow
    if mark == "eye":
        radius = torch.hypot(u, down)
        white, black = cover(radius - 0.40 * small * size, pixels), cover(radius - 0.21 * small * size, pixels)
    else:
        radius = torch.hypot(u.abs() - APART * size, down)
        white = cover(radius - (0.25 if mark == "eyes" else 0.17) * small * size, pixels)
        black = (cover(radius - 0.14 * small * size, pixels) if mark == "eyes"
                 else (cover(down.abs() - 0.27 * small * size, pixels) - white).clamp_min(0))
    dark = black * inner
    pale = (white * inner - dark).clamp_min(0) if mark != "mask" else white * inner
    return torch.stack((inner - pale - dark, whole - inner, pale, dark))


def inks(colour: torch.Tensor) -> torch.Tensor:
    """The colour of each layer on subjects of `colour` [T, 3] -> [T, 4, 3]. What is pale on white is light blue."""
    pale = torch.where(colour.amin(1, keepdim=True) > 0.8, torch.tensor([0.62, 0.74, 0.88]),
                       torch.tensor([0.97, 0.97, 0.95]))
    dark = torch.tensor([0.07, 0.06, 0.09]).expand_as(colour)
    return torch.stack((colour, 0.3 * colour, pale, dark), 1)


def body_light(dx: torch.Tensor, dy: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """What the body's colour is multiplied with at dx, dy from its centre (in the picture, not turned)."""
    return 1 + ((LIGHT[0] * dx + LIGHT[1] * dy) / size).clamp(-0.25, 0.25)


def offsets(x: torch.Tensor, y: torch.Tensor, pixels: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Distance of every pixel from places x, y [T], along x and along y: [T, 1, W] and [T, H, 1]."""
    axis = (torch.arange(pixels, dtype=x.dtype) + 0.5) / pixels
    return axis - x[:, None, None], axis[:, None] - y[:, None, None]


def turned(dx: torch.Tensor, dy: torch.Tensor, angle: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Offsets in the frame of subjects that are turned by `angle` [T]: u, v [T, H, W]."""
    ca, sa = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return ca * dx + sa * dy, -sa * dx + ca * dy
