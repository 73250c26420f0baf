"""Sampling runs that are kept and cut off: a tiny Wan in ComfyUI's own loop, the runs in a folder of the test."""

import contextlib

import comfy.sample
import comfy.samplers
import folder_paths
import pytest
import torch
from longtake.samplers.adapters.checkpoint import CheckpointSettings, keep

from . import zoo
from .tiny_wan import prompt

FRAMES, STEPS, SEED = 5, 6, 5


class Cut(Exception):
    """What ends a run in the middle."""


@pytest.fixture
def output(tmp_path, monkeypatch):
    """ComfyUI's output folder."""
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))
    return tmp_path


@contextlib.contextmanager
def calls(model, cut=None):
    """Notes the calls of the network, and ends the run in call number `cut`. Nothing of it is in the model's options,
    which a run is known by."""
    noted = []

    def hook(net, args):
        noted.append(len(noted))
        if noted[-1] == cut:
            raise Cut

    handle = model.model.diffusion_model.register_forward_pre_hook(hook)
    try:
        yield noted
    finally:
        handle.remove()


def cut_off(model, sampler, cut, **kwargs):
    with pytest.raises(Cut), calls(model, cut):
        sample(model, sampler, **kwargs)


def counted(model, sampler, **kwargs):
    """(video, calls of the network)."""
    with calls(model) as noted:
        return sample(model, sampler, **kwargs), len(noted)


def sample(
    model, sampler="euler", *, settings=None, frames=FRAMES, steps=STEPS, seed=SEED, mask=None, start=None,
    positive=None, cfg=3.0, callback=None, scheduler="simple",
):  # fmt: skip
    """What SamplerCustom makes; kept where there are settings."""
    if isinstance(sampler, str):
        sampler = comfy.samplers.sampler_object(sampler)
    if settings is not None:
        sampler = keep(sampler, settings)
    start = torch.zeros(1, 16, frames, 4, 4) if start is None else start
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), scheduler, steps)
    noise = comfy.sample.prepare_noise(start, seed)
    with torch.inference_mode():
        return comfy.sample.sample_custom(
            model, noise, cfg, sampler, sigmas, positive or prompt(1), prompt(2), start, noise_mask=mask,
            callback=callback, disable_pbar=True, seed=seed,
        )  # fmt: skip


def wan():
    return zoo.wan(num_layers=1)


EVERY = CheckpointSettings(every=1)
