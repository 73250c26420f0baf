"""The small world that the demo model knows: one coloured shape that moves on a plain background.

A `Scene` fixes everything about a clip; a prompt names at most four of its attributes (colour, shape, motion,
background). What no prompt ever names - exact shades, size, mark, place, period, direction, light - is what the windows
of a long video may disagree on, and so what consistency is measured by. Motion is a function of continuous time, so a
clip can be rendered at any length.
"""

import math
import random
from dataclasses import dataclass, replace

import torch

SIZE = 64  # pixels
FRAMES = 49  # pixel frames of a training clip = 13 latent frames
FPS = 16

COLOURS = {
    "red": (0.88, 0.10, 0.10), "green": (0.10, 0.70, 0.20), "blue": (0.15, 0.30, 0.95), "yellow": (0.95, 0.90, 0.10),
    "purple": (0.60, 0.20, 0.80), "orange": (1.00, 0.52, 0.05), "white": (0.95, 0.95, 0.95), "cyan": (0.10, 0.85, 0.90),
}
BACKGROUNDS = {
    "black": (0.05, 0.05, 0.07), "gray": (0.45, 0.45, 0.48), "navy": (0.05, 0.10, 0.35), "teal": (0.05, 0.40, 0.40),
    "brown": (0.35, 0.22, 0.12), "pink": (0.95, 0.70, 0.75),
}
SHAPES = ("circle", "square", "triangle", "ring")
MOTIONS = ("still", "bouncing", "circling", "sliding", "pulsing", "spinning")
MARKS = ("dot", "pale", "bar")  # dark dot, pale dot, dark bar: the pattern on the subject, never named
SHADE = 0.06  # half width of the shade jitter per RGB channel
TILT = 0.2  # most that a subject leans from upright (radians); only a spinning one may stand at any angle


@dataclass(frozen=True)
class Scene:
    """One clip. Lengths are fractions of the picture's side, angles radians, `period` pixel frames."""

    colour: str
    shape: str
    motion: str
    background: str
    colour_rgb: tuple[float, float, float]
    background_rgb: tuple[float, float, float]
    mark: str
    size: float
    x: float
    y: float
    angle: float
    phase: float
    period: float
    direction: int
    light: float  # direction that the background gets darker in
    light_strength: float

    @property
    def prompt(self) -> str:
        return prompt(self.colour, self.shape, self.motion, self.background)


def prompt(colour: str | None = None, shape: str | None = None, motion: str | None = None,
           background: str | None = None) -> str:
    """The sentence for the named attributes; None leaves an attribute open."""
    words = ["a", colour, shape or "shape", motion]
    if background:
        words += ["on a", background, "background"]
    return " ".join(w for w in words if w)


def all_prompts() -> list[tuple[str, str, str, str]]:
    return [(c, s, m, b) for c in COLOURS for s in SHAPES for m in MOTIONS for b in BACKGROUNDS]


def held_out(count: int = 60) -> list[tuple[str, str, str, str]]:
    """The attribute combinations that training never sees: balanced over every attribute, always the same."""
    rng = random.Random(2501)
    left = all_prompts()
    rng.shuffle(left)
    chosen: list[tuple[str, str, str, str]] = []
    used: dict[str, int] = {}
    while len(chosen) < count:  # always take the combination whose attributes were used least
        best = min(left, key=lambda spec: sum(used.get(w, 0) for w in spec))
        left.remove(best)
        chosen.append(best)
        for w in best:
            used[w] = used.get(w, 0) + 1
    return chosen


def jitter(rng: random.Random, rgb: tuple[float, float, float]) -> tuple[float, float, float]:
    return tuple(min(1.0, max(0.0, c + rng.uniform(-SHADE, SHADE))) for c in rgb)


def sample_scene(rng: random.Random, colour: str | None = None, shape: str | None = None, motion: str | None = None,
                 background: str | None = None) -> Scene:
    """A random scene; attributes that are given stay fixed."""
    colour = colour or rng.choice(list(COLOURS))
    background, motion = background or rng.choice(list(BACKGROUNDS)), motion or rng.choice(MOTIONS)
    tilt = math.pi if motion == "spinning" else TILT
    return Scene(
        colour=colour, shape=shape or rng.choice(SHAPES), motion=motion, background=background,
        colour_rgb=jitter(rng, COLOURS[colour]), background_rgb=jitter(rng, BACKGROUNDS[background]),
        mark=rng.choice(MARKS), size=rng.uniform(0.19, 0.24), x=rng.uniform(0.42, 0.58), y=rng.uniform(0.42, 0.58),
        angle=rng.uniform(-tilt, tilt), phase=rng.uniform(0, 2 * math.pi), period=rng.uniform(26, 40),
        direction=rng.choice((-1, 1)), light=rng.uniform(0, 2 * math.pi), light_strength=rng.uniform(0.1, 0.3),
    )


def pose(scene: Scene, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Centre x, centre y, size and angle at times `t` [T] (pixel frames, may be fractional)."""
    w = scene.direction * 2 * math.pi / scene.period
    s, c = torch.sin(w * t + scene.phase), torch.cos(w * t + scene.phase)
    x, y = torch.full_like(t, scene.x), torch.full_like(t, scene.y)
    size, angle = torch.full_like(t, scene.size), torch.full_like(t, scene.angle)
    if scene.motion == "bouncing":
        y = 0.68 - 0.34 * torch.abs(torch.sin((w * t + scene.phase) / 2))
    elif scene.motion == "circling":
        x, y = 0.5 + 0.17 * c, 0.5 + 0.17 * s
    elif scene.motion == "sliding":
        x = 0.5 + 0.20 * s
    elif scene.motion == "pulsing":
        size = size * (0.95 + 0.3 * s)
    elif scene.motion == "spinning":
        angle = angle + w * t
    return x, y, size, angle


def shape_distance(shape: str, u: torch.Tensor, v: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Signed distance to the shape's edge in its own frame (u right, v down), negative inside."""
    radius = torch.sqrt(u * u + v * v)
    if shape == "circle":
        return radius - size
    if shape == "ring":
        return torch.abs(radius - size * 0.8) - size * 0.3
    if shape == "square":
        return torch.maximum(u.abs(), v.abs()) - size * 0.87
    return torch.maximum(v - size * 0.7, u.abs() * 0.866 - v * 0.5 - size * 0.7)  # triangle, apex at -v


def mark_distance(shape: str, mark: str, u: torch.Tensor, v: torch.Tensor, size: torch.Tensor) -> torch.Tensor:
    """Signed distance to the mark, which sits off centre (towards -v) so that turning can be seen."""
    at = size * {"ring": -0.8, "triangle": -0.4}.get(shape, -0.5)
    if mark == "bar":
        return torch.abs(v - at) - size * 0.17
    return torch.sqrt(u * u + (v - at) ** 2) - size * 0.3


def mark_rgb(mark: str, rgb: torch.Tensor) -> torch.Tensor:
    """The mark's colour; a pale mark on a white subject is light gray, or nothing would show."""
    if mark != "pale":
        return 0.25 * rgb
    return 0.7 * rgb if rgb.min() > 0.8 else 0.35 * rgb + 0.65


def frame_grid(x, y, angle, pixels: int):
    """Pixel coordinates in the subject's own frame: u, v [T, H, W]."""
    axis = (torch.arange(pixels, dtype=x.dtype) + 0.5) / pixels
    dy, dx = torch.meshgrid(axis, axis, indexing="ij")
    dx, dy = dx[None] - x[:, None, None], dy[None] - y[:, None, None]
    ca, sa = torch.cos(angle)[:, None, None], torch.sin(angle)[:, None, None]
    return ca * dx + sa * dy, -sa * dx + ca * dy


def render(scene: Scene, frames: int = FRAMES, start: float = 0.0, pixels: int = SIZE) -> torch.Tensor:
    """The clip as [T, H, W, 3] in 0..1 (ComfyUI's IMAGE layout), from pixel frame `start` on."""
    t = start + torch.arange(frames, dtype=torch.float32)
    x, y, size, angle = pose(scene, t)
    u, v = frame_grid(x, y, angle, pixels)
    size = size[:, None, None]
    soft = pixels * 1.5
    alpha = torch.sigmoid(-shape_distance(scene.shape, u, v, size) * soft)[..., None]
    mark = torch.sigmoid(-mark_distance(scene.shape, scene.mark, u, v, size) * soft)[..., None] * alpha
    axis = (torch.arange(pixels) + 0.5) / pixels - 0.5
    shade = 1 - scene.light_strength * (
        0.5 + axis[None, :, None] * math.sin(scene.light) + axis[None, None, :] * math.cos(scene.light))
    colour = torch.tensor(scene.colour_rgb)
    picture = torch.tensor(scene.background_rgb) * shade[..., None] * (1 - alpha) + colour * alpha
    ink = mark_rgb(scene.mark, colour)
    return (picture * (1 - mark) + ink * mark).clamp(0, 1)


def change(scene: Scene, **attributes) -> Scene:
    """The same scene with named attributes changed (a new event in the same take)."""
    if "background" in attributes:
        attributes.setdefault("background_rgb", BACKGROUNDS[attributes["background"]])
    if "colour" in attributes:
        attributes.setdefault("colour_rgb", COLOURS[attributes["colour"]])
    return replace(scene, **attributes)
