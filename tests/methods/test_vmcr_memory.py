"""VMCR refines in place: what it needs beside the latent, and what it must not touch."""

import gc
import weakref

import comfy.sample
import comfy.samplers
import pytest
import torch
from longtake.benchmarks import allocations
from longtake.samplers.adapters.vmcr import RefineSettings, refine_, refine_sampler
from support import zoo
from support.tiny_wan import prompt

STEPS, FRAMES = 4, 5

pytestmark = pytest.mark.usefixtures("one_thread")


def run(sampler, omega=1e-3, end_percent=1.0, callback=None):
    model, latent = zoo.patcher("wan21_t2v"), torch.zeros(1, 16, FRAMES, 4, 4)
    sampler = refine_sampler(sampler, RefineSettings(omega, end_percent=end_percent))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", STEPS)
    return comfy.sample.sample_custom(
        model, comfy.sample.prepare_noise(latent, 5), 3.0, sampler, sigmas, prompt(1), prompt(2), latent,
        callback=callback, disable_pbar=True, seed=5,
    )  # fmt: skip


def test_the_refinement_needs_a_few_frames():
    """Beyond x, which is refined in place, and x0, which stays: the same for any length, in latents of real size."""
    peaks = []
    for frames in (20, 60):
        x, x0 = (zoo.randn(1, 16, frames, 60, 104, seed=seed) for seed in (1, 2))
        before = x.clone(), x0.clone()
        peaks.append(allocations.measure(lambda x=x, x0=x0: refine_(x, x0, RefineSettings(), None)).bytes)
        assert torch.equal(x0, before[1]) and not torch.equal(x, before[0])
    assert peaks[1] < 1.01 * peaks[0] and peaks[0] < 40 * x[:, :, 0].nbytes


@pytest.mark.parametrize("gives", ["a new latent", "its x0", "the x it was given", "the x it reports", "a view of x0"])
def test_what_others_hold_is_not_refined(gives):
    """Latents that a callback keeps, and the sampler's own x0, stay as they were reported."""
    held = []

    def steps(model, x, sigmas, extra_args=None, callback=None, **kwargs):
        for i, (sigma, following) in enumerate(zip(sigmas, sigmas[1:], strict=False)):
            x0 = model(x, sigma * x.new_ones(len(x)), **extra_args)
            new = x + (x - x0) / sigma * (following - sigma)
            reported = new if gives == "the x it reports" else x
            held.extend((t, t.clone()) for t in (x, x0, reported))
            if callback is not None:
                callback({"x": reported, "denoised": x0, "i": i, "sigma": sigma, "sigma_hat": sigma})
            x = {"a view of x0": x0.view_as(x0), "its x0": x0, "the x it was given": x}.get(gives, new)
        return x

    plain, refined = (run(comfy.samplers.KSAMPLER(steps), omega) for omega in (0.0, 1e-3))
    assert len(held) == 2 * 3 * STEPS and all(torch.equal(*pair) for pair in held)
    assert (plain - refined).abs().max() > 1e-4


@pytest.mark.parametrize("name", ["euler", "heun", "lcm"])
@pytest.mark.parametrize("end", [1.0, 0.6])
def test_nothing_of_a_step_lives_in_the_next(name, end):
    """The x0 of a step is gone when the next one reports its own, without Python's collector."""
    last, gone = [], []

    def look(step, x0, x, total):
        gone.extend(ref() is None for ref in last)
        last[:] = [weakref.ref(x0)]

    gc.collect()
    gc.disable()
    try:
        run(comfy.samplers.sampler_object(name), end_percent=end, callback=look)
    finally:
        gc.enable()
    assert len(gone) == STEPS - 1 and all(gone)
