"""The small world that the demo model knows: one coloured shape with a face that moves on a stage.

A `Scene` fixes everything about a clip; a prompt names at most four of its attributes (colour, shape, motion,
background). What no prompt ever names - exact shades, size, mark, place, period, direction, light - is what the windows
of a long video may disagree on, and so what consistency is measured by. Motion is a function of continuous time, so a
clip can be rendered at any length.
"""

import math
import random
from dataclasses import dataclass, replace

import torch

from . import scenery, subject
from .subject import MARKS, SHAPES

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
MOTIONS = ("still", "bouncing", "circling", "sliding", "pulsing", "spinning")
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
    """Combinations of attributes that the video model never sees in training: balanced over each, always the same."""
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


def render(scene: Scene, frames: int = FRAMES, start: float = 0.0, pixels: int = SIZE) -> torch.Tensor:
    """The clip as [T, H, W, 3] in 0..1 (ComfyUI's IMAGE layout), from pixel frame `start` on."""
    return draw(scene, pose(scene, start + torch.arange(frames, dtype=torch.float32)), pixels)


def draw(scene: Scene, at: tuple, pixels: int = SIZE) -> torch.Tensor:
    """Pictures [T, H, W, 3] in 0..1 of the scene with the subject `at` x, y, size, angle, [T] each."""
    x, y, size, angle = at
    light = scenery.lit(scene, x, y, size, pixels)
    dx, dy = subject.offsets(x, y, pixels)
    size = size[:, None, None]
    layers = subject.layers(scene.shape, scene.mark, *subject.turned(dx, dy, angle), size, pixels)
    colour, *others = subject.inks(torch.tensor([scene.colour_rgb]))[0]
    picture = (light * (1 - layers.sum(0)))[..., None] * torch.tensor(scene.background_rgb)
    picture += (layers[0] * subject.body_light(dx, dy, size))[..., None] * colour
    for layer, ink in zip(layers[1:], others, strict=True):
        picture += layer[..., None] * ink
    return picture.clamp(0, 1)


def change(scene: Scene, **attributes) -> Scene:
    """The same scene with named attributes changed (a new event in the same take)."""
    if "background" in attributes:
        attributes.setdefault("background_rgb", BACKGROUNDS[attributes["background"]])
    if "colour" in attributes:
        attributes.setdefault("colour_rgb", COLOURS[attributes["colour"]])
    return replace(scene, **attributes)
