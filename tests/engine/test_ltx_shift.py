"""LTX-Video's noise shift by the whole video's tokens is said, with what to connect; by one window's it is not."""

import logging

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_lt import LTXVScheduler, ModelSamplingLTXV
from support import zoo
from support.windows import LENGTH, windowed

FRAMES, STEPS = 13, 4


def said(caplog, *, scheduler=None, patched=None):
    """Warnings of a run whose scheduler, or model sampling, was given so many latent frames."""
    case = zoo.zoo()["ltxv"]
    model, latent = zoo.patcher("ltxv"), case.latent(FRAMES)
    if patched:
        (model,) = ModelSamplingLTXV.execute(model, 2.05, 0.95, {"samples": case.latent(patched)}).result
    sigmas = comfy.samplers.KSampler(model, STEPS, "cpu").sigmas
    if scheduler:
        (sigmas,) = LTXVScheduler.execute(STEPS, 2.05, 0.95, True, 0.1, {"samples": case.latent(scheduler)}).result
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        comfy.sample.sample_custom(
            windowed(model, compression=8), comfy.sample.prepare_noise(latent, 5), 1.0,
            comfy.samplers.sampler_object("euler"), sigmas, case.conditioning(1, FRAMES),
            case.conditioning(2, FRAMES), latent, disable_pbar=True, seed=5,
        )  # fmt: skip
    return [r.getMessage() for r in caplog.records if "LTXV" in r.getMessage()]


@pytest.mark.parametrize(("given", "node"), [
    ({"scheduler": FRAMES}, "LTXVScheduler"), ({"patched": FRAMES}, "ModelSamplingLTXV"),
])  # fmt: skip
def test_the_whole_videos_shift_is_said(caplog, given, node):
    (text,) = said(caplog, **given)
    assert text.startswith(f"{node}: latent:") and f"{8 * LENGTH - 7} frames" in text


@pytest.mark.parametrize("given", [{"scheduler": LENGTH}, {"patched": LENGTH}, {}], ids=str)
def test_one_windows_shift_is_not(caplog, given):
    assert said(caplog, **given) == []


def test_it_is_the_published_difference():
    """385 frames against 97 of 512x768, as core's node computes them."""
    frames, side = {97: 13, 385: 49}, (16, 24)
    sigma = [
        LTXVScheduler.execute(20, 2.05, 0.95, True, 0.1, {"samples": torch.empty(1, 128, n, *side)}).result[0][15]
        for n in frames.values()
    ]
    assert [round(float(s), 3) for s in sigma] == [0.692, 0.856]
