"""Clips for training: rendered as they are drawn, or many of them beforehand by several processes.

On one core rendering is a hundredth of a step's work; a GPU would wait for it.
"""

import concurrent.futures
import multiprocessing
import random

import torch

from ..worlds import WORLDS

PART = 32  # clips that a process renders at a time


def _render(name: str, scenes: list, starts: list[float], frames: int) -> torch.Tensor:
    torch.set_num_threads(1)
    shown = WORLDS[name].world
    clips = [shown.render(scene, frames, start) for scene, start in zip(scenes, starts, strict=True)]
    return (torch.stack(clips) * 255).round().byte()


def render(name: str, scenes: list, starts: list[float], frames: int, workers: int) -> torch.Tensor:
    """Clips of the world `name`, one per scene, from its pixel frame on: uint8 [N, frames, H, W, 3].

    workers: processes that render; 0: this one alone.
    """
    if not workers:
        threads = torch.get_num_threads()
        try:
            return _render(name, scenes, starts, frames)
        finally:
            torch.set_num_threads(threads)
    spans = range(0, len(scenes), PART)
    with concurrent.futures.ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        parts = [pool.submit(_render, name, scenes[i:i + PART], starts[i:i + PART], frames) for i in spans]
        return torch.cat([torch.from_numpy(part.result().numpy()) for part in parts])


def normalised(clips: torch.Tensor) -> torch.Tensor:
    """uint8 [N, T, H, W, 3] -> [N, 3, T, H, W] in -1..1, as a VAE takes it."""
    clips = clips.permute(0, 4, 1, 2, 3).float() / 127.5 - 1
    return clips.contiguous(memory_format=torch.channels_last_3d)


class Source:
    """Random clips of the world `name`: each new, or windows of `count` clips that are rendered at the start."""

    def __init__(self, name: str, seed: int, device: str, count: int = 0, frames: int = 49, workers: int = 0):
        self.name, self.device = name, device
        self.clips = self._new(random.Random(seed), count, frames, workers).to(device) if count else None

    def _new(self, rng: random.Random, count: int, frames: int, workers: int = 0) -> torch.Tensor:
        scenes = [WORLDS[self.name].world.sample_scene(rng) for _ in range(count)]
        return render(self.name, scenes, [rng.uniform(0, 100) for _ in scenes], frames, workers)

    def batch(self, rng: random.Random, count: int, frames: int) -> torch.Tensor:
        """[count, 3, frames, H, W] in -1..1."""
        if self.clips is None:
            return normalised(self._new(rng, count, frames).to(self.device))
        first = [rng.randint(0, self.clips.shape[1] - frames) for _ in range(count)]
        rows = torch.tensor(rng.choices(range(len(self.clips)), k=count), device=self.device)
        columns = torch.tensor(first, device=self.device)[:, None] + torch.arange(frames, device=self.device)
        return normalised(self.clips[rows[:, None], columns])
