"""VMCR's loss and gradient: against autograd and the formula as printed."""

import math

import pytest
import torch
from longtake.samplers.glc import motion
from longtake.samplers.glc.motion import MotionSettings, gradient_chunks, motion_gradient, motion_loss, rescale_factor
from support.motion import autograd, brute_force

SIZES = [(6, 7), (5, 4), (8, 8), (1, 3), (3, 1), (2, 2)]
ONE_WEIGHT = [(0, 0, 0), (0, 1, 0), (1, 0, 0), (1, 0, 1), (0.2, 0.001, 1)]

pytestmark = pytest.mark.usefixtures("one_thread")


def latent(frames=6, size=(6, 7), batch=2, seed=0, scale=1.0):
    generator = torch.Generator().manual_seed(seed)
    return scale * torch.randn(batch, 3, frames, *size, generator=generator, dtype=torch.float64)


@pytest.mark.parametrize("phase", ["wrapped", "raw"])
@pytest.mark.parametrize("weights", ONE_WEIGHT)
@pytest.mark.parametrize("size", SIZES)
def test_gradient_equals_autograd(size, weights, phase):
    settings = MotionSettings(*weights, phase)
    x0 = latent(size=size)
    expected = autograd(x0, settings)
    assert (motion_gradient(x0, settings) - expected).abs().max() <= 1e-8 * expected.abs().max()


@pytest.mark.parametrize("phase", ["wrapped", "raw"])
@pytest.mark.parametrize("size", SIZES)
def test_loss_equals_the_formula(size, phase):
    settings = MotionSettings(0.7, 0.3, 0.9, phase)
    x0 = latent(size=size)
    loss = brute_force(x0, settings)
    if phase == "wrapped":
        torch.testing.assert_close(motion_loss(x0, settings), loss, rtol=1e-10, atol=0)
    else:  # where a spectrum is real, the sign of a rounding error decides between +pi and -pi
        turns = (motion_loss(x0, settings) - loss) / (0.7 * 0.9 * 2 * math.pi)
        assert abs(turns - turns.round()) < 1e-9


def test_masked_phases_are_left_out():
    settings = MotionSettings(phase_floor=1.0)
    x0 = latent(scale=1.0)
    expected = autograd(x0, settings)
    assert (motion_gradient(x0, settings) - expected).abs().max() <= 1e-8 * expected.abs().max()
    assert (expected - autograd(x0, MotionSettings())).abs().max() > 1e-2


@pytest.mark.parametrize("chunk", [1, 2, 3, 100])
@pytest.mark.parametrize("frames", [3, 4, 5, 8])
def test_streaming_equals_all_at_once(frames, chunk):
    x0, settings = latent(frames), MotionSettings()
    expected = autograd(x0, settings)
    assert (motion_gradient(x0, settings, chunk) - expected).abs().max() <= 1e-8 * expected.abs().max()
    torch.testing.assert_close(motion_loss(x0, settings, chunk), brute_force(x0, settings), rtol=1e-10, atol=0)
    parts = [(i, part.shape[2]) for i, part in gradient_chunks(x0, settings, chunk)]
    assert [f for i, n in parts for f in range(i, i + n)] == list(range(frames))


def test_memory_is_that_of_a_few_frames(monkeypatch):
    seen = []

    def pair_gradient(p, q, settings):
        seen.append(p.numel())
        return p * 0, q * 0

    monkeypatch.setattr(motion, "pair_gradient", pair_gradient)
    for _ in gradient_chunks(torch.zeros(1, 16, 1, 60, 104, dtype=torch.float16).expand(-1, -1, 1000, -1, -1)):
        pass
    assert sum(seen) == 998 * 16 * 60 * 104 and max(seen) <= motion.CHUNK_VALUES


@pytest.mark.parametrize("phase", ["wrapped", "raw"])
@pytest.mark.parametrize("weights", ONE_WEIGHT)
def test_loss_falls_along_the_negative_gradient(weights, phase):
    settings, x0 = MotionSettings(*weights, phase), latent(8)
    gradient = motion_gradient(x0, settings)
    step = 1e-7 / gradient.norm()
    fall = motion_loss(x0, settings) - motion_loss(x0 - step * gradient, settings)
    torch.testing.assert_close(fall, step * gradient.square().sum(), rtol=1e-3, atol=0)


def test_the_papers_step_lowers_the_loss_of_a_full_size_latent():
    x0 = torch.randn(1, 16, 8, 60, 90, generator=torch.Generator().manual_seed(0))
    gradient = motion_gradient(x0)
    assert motion_loss(x0 - 2e-5 * gradient) < motion_loss(x0)
    assert 3e-4 < (2e-5 * gradient).square().mean().sqrt() < 8e-4  # research on the paper's omega: 5.3e-4


@pytest.mark.parametrize("frames", [1, 2])
def test_fewer_than_three_frames_have_no_gradient(frames):
    x0 = latent(frames)
    assert motion_gradient(x0).abs().max() == 0 and motion_loss(x0) == 0 and not list(gradient_chunks(x0))


@pytest.mark.parametrize("still", [0.0, 1e-6])
def test_still_frames_stay_finite_and_small(still):
    x0 = latent(1, (60, 90), 1).float().expand(-1, -1, 6, -1, -1).clone()
    x0 += still * latent(6, (60, 90), 1, seed=1).float()
    x0[:, :, 4] += 0.1 * latent(1, (60, 90), 1, seed=2).float()[:, :, 0]
    gradient = motion_gradient(x0)
    assert gradient.isfinite().all() and (2e-5 * gradient).abs().max() < 0.01


def test_half_precision_is_computed_in_float32():
    x0 = latent().half()
    gradient = motion_gradient(x0)
    assert gradient.dtype == torch.float32
    torch.testing.assert_close(gradient, motion_gradient(x0.float()), rtol=0, atol=0)


def test_rescale_keeps_the_step_per_pixel():
    assert rescale_factor(60, 90) == 1.0
    small, large = (motion_gradient(torch.randn(1, 4, 6, n, n)).square().mean().sqrt() for n in (16, 64))
    assert 0.8 < (small * rescale_factor(16, 16)) / (large * rescale_factor(64, 64)) < 1.25
