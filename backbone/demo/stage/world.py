"""The small world that the next demo weights learn: a coloured shape with a face that moves on a stage.

Scenes, prompts, motions and held-out combinations are those of the shipped world, so old prompts keep their meaning and
the benchmarks their ground truth; what a scene looks like is new. A scene's mark is the subject's face.
"""

import math
import random
from dataclasses import replace

import torch

from .. import world as plain
from ..world import (  # noqa: F401  (the same in both worlds)
    BACKGROUNDS,
    COLOURS,
    FPS,
    FRAMES,
    MOTIONS,
    SIZE,
    Scene,
    all_prompts,
    change,
    held_out,
    pose,
    prompt,
)
from . import scenery, subject
from .subject import MARKS, SHAPES  # noqa: F401


def sample_scene(rng: random.Random, colour: str | None = None, shape: str | None = None, motion: str | None = None,
                 background: str | None = None) -> Scene:
    """A random scene; attributes that are given stay fixed."""
    scene = plain.sample_scene(rng, colour, shape, motion, background)
    return replace(scene, mark=MARKS[plain.MARKS.index(scene.mark)])


def render(scene: Scene, frames: int = FRAMES, start: float = 0.0, pixels: int = SIZE) -> torch.Tensor:
    """The clip as [T, H, W, 3] in 0..1 (ComfyUI's IMAGE layout), from pixel frame `start` on."""
    x, y, size, angle = pose(scene, start + torch.arange(frames, dtype=torch.float32))
    axis = (torch.arange(pixels) + 0.5) / pixels - 0.5
    light = 1 - scene.light_strength * (
        0.5 + axis[:, None] * math.sin(scene.light) + axis * math.cos(scene.light))
    light = light * scenery.texture(scene.background, pixels) * scenery.shadow(x, y, size, pixels)
    dx, dy = subject.offsets(x, y, pixels)
    size = size[:, None, None]
    layers = subject.layers(scene.shape, scene.mark, *subject.turned(dx, dy, angle), size, pixels)
    colour, *others = subject.inks(torch.tensor([scene.colour_rgb]))[0]
    picture = (light * (1 - layers.sum(0)))[..., None] * torch.tensor(scene.background_rgb)
    picture += (layers[0] * subject.body_light(dx, dy, size))[..., None] * colour
    for cover, ink in zip(layers[1:], others, strict=True):
        picture += cover[..., None] * ink
    return picture.clamp(0, 1)
