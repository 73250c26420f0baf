"""The small worlds, each with its reader: what the shipped weights know, and what the next ones learn."""

from typing import NamedTuple

from . import reader, stage, world


class World(NamedTuple):
    world: object  # the module with sample_scene and render
    reader: object  # the module with read and motion


WORLDS = {"shipped": World(world, reader), "stage": World(stage.world, stage.reader)}
