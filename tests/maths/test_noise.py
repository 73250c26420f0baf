"""Noise reinitialisation: the shuffle, the filters, the mix and the moments."""

import cmath
import itertools
import math

import numpy as np
import pytest
import torch
from longtake.samplers.glc.noise import (
    FILTERS,
    MODES,
    VARIANCES,
    NoiseSettings,
    frequency_mix_,
    low_pass,
    reinitialise_,
    repeated,
    shuffled,
    spec_mix_,
)
from support.noise import LENGTH, SIZE, STRIDE, assert_standard, generator

pytestmark = pytest.mark.usefixtures("one_thread")


# ---- the shuffle ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("frames", "length", "stride"), [
    (20, 5, 3), (17, 5, 3), (21, 5, 5), (18, 6, 1), (6, 5, 5), (5, 5, 3), (3, 5, 3), (1, 5, 3), (9, 1, 1), (16, 4, 3),
])  # fmt: skip
def test_shuffle_is_freenoises_rule(frames, length, stride):
    """The literal loop of the rule, in place, frame by frame."""
    noise = torch.randn(2, 3, frames, 2, 2, generator=generator())
    expected, draws = noise.clone(), generator(4)
    for f in range(length, frames, stride):
        count = min(stride, frames - f)
        source = expected[:, :, f - length : f - length + count].clone()
        for i, j in enumerate(torch.randperm(count, generator=draws).tolist()):
            expected[:, :, f + i] = source[:, :, j]
    assert torch.equal(noise[:, :, shuffled(frames, length, stride, generator(4))], expected)
    assert torch.equal(reinitialise_(noise, None, NoiseSettings("shuffle"), length, stride, generator(4)), expected)


@pytest.mark.parametrize(("frames", "length", "stride"), [(40, 13, 6), (41, 13, 6), (74, 13, 7)])
def test_windows_share_the_unit_in_another_order(frames, length, stride):
    numbers = shuffled(frames, length, stride, generator(1))
    assert numbers[:length] == list(range(length))
    starts = [*range(0, frames - length + 1, stride), frames - length]
    windows = [numbers[start : start + length] for start in starts]
    assert all(sorted(w) == list(range(length)) for w in windows)
    assert len({tuple(w) for w in windows}) > 1
    assert repeated(frames, length) == [f % length for f in range(frames)]


@pytest.mark.parametrize("stride", [0, 6])
def test_a_stride_that_reads_what_is_not_there_is_refused(stride):
    with pytest.raises(ValueError, match=rf"stride \({stride}\) must be between 1 and the window length \(5\)"):
        shuffled(9, 5, stride, generator())


# ---- the filters and the mix ------------------------------------------------------------------------------------


def frequency_mix(low, high, h, variance):
    """The mix, not in place."""
    return frequency_mix_(low.clone(), high, h, variance)


def pass_of_a_bin(settings, f_t, f_h, f_w):
    """H at one frequency, each a fraction of Nyquist."""
    d_s, d_t = settings.d_s, settings.d_t
    d2 = (d_s / d_t * f_t) ** 2 + f_h**2 + f_w**2
    return {
        "butterworth": lambda: 1 / (1 + (d2 / d_s**2) ** settings.order),
        "gaussian": lambda: math.exp(-d2 / (2 * d_s**2)),
        "ideal": lambda: float(d2 <= d_s**2 + 1e-9),
        "box": lambda: float(abs(f_t) <= d_t + 1e-9 and abs(f_h) <= d_s + 1e-9 and abs(f_w) <= d_s + 1e-9),
    }[settings.filter]()


def dft(n, sign):
    return np.array([[cmath.exp(sign * 2j * math.pi * k * x / n) for x in range(n)] for k in range(n)])


def transform(x, sign):
    t, h, w = x.shape
    return np.einsum("at,bh,cw,thw->abc", dft(t, sign), dft(h, sign), dft(w, sign), x)


@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("shape", [(5, 7, 9), (3, 5, 6), (4, 6, 8), (1, 3, 2), (7, 1, 1)])
@pytest.mark.parametrize(("d_s", "d_t", "order"), [(0.25, 0.25, 4), (0.6, 0.3, 2), (0.5, 1.0, 1)])
@pytest.mark.parametrize("variance", ["none", "per_frequency"])
def test_the_mix_equals_an_explicit_fourier_sum(filter, shape, d_s, d_t, order, variance):
    """Every frequency by itself, with explicit DFT matrices in float64."""
    settings = NoiseSettings(filter=filter, d_s=d_s, d_t=d_t, order=order)
    low, high = torch.randn(2, 1, 2, *shape, generator=generator()).unbind()
    ours = frequency_mix(low, high, low_pass(shape, settings), variance)
    for c in range(2):
        a, b = transform(low[0, c].numpy(), -1), transform(high[0, c].numpy(), -1)
        for bins in itertools.product(*map(range, shape)):
            # bin k of n is the frequency k / n cycles a sample, or (k - n) / n in the upper half; Nyquist is 1/2
            h = pass_of_a_bin(settings, *(2 * min(k, n - k) / n for k, n in zip(bins, shape, strict=True)))
            norm = math.sqrt(h**2 + (1 - h) ** 2) if variance == "per_frequency" else 1
            a[bins] = (a[bins] * h + b[bins] * (1 - h)) / norm
        expected = transform(a, 1) / math.prod(shape)
        assert abs(expected.imag).max() < 1e-12
        np.testing.assert_allclose(ours[0, c].numpy(), expected.real, atol=2e-6)


@pytest.mark.parametrize(("filter", "d_s", "d_t", "order", "expected"), [
    ("butterworth", 0.25, 0.25, 4,
     [-1.003186, -0.959289, -0.923116, -0.879308, -0.843042, -0.799281, -0.763108, -0.719265]),
    ("butterworth", 0.7, 0.4, 2,
     [-0.717477, -0.392809, -0.610401, -0.316799, -0.544231, -0.217045, -0.457878, -0.161739]),
    ("gaussian", 0.25, 0.25, 4,
     [-0.990931, -0.908984, -0.906129, -0.829541, -0.823476, -0.749104, -0.748235, -0.668568]),
    ("gaussian", 0.7, 0.4, 2,
     [-0.664619, -0.301198, -0.552018, -0.221844, -0.485386, -0.108559, -0.397605, -0.063633]),
])  # fmt: skip
def test_even_sizes_equal_diffusers(filter, d_s, d_t, order, expected):
    """The numbers are what diffusers 0.42.1's FreeInitMixin makes of the same two signals."""
    low, high = (((torch.arange(192) * a) % 101 / 50 - 1).view(1, 1, 4, 6, 8) for a in (37, 59))
    h = low_pass((4, 6, 8), NoiseSettings(filter=filter, d_s=d_s, d_t=d_t, order=order))
    mixed = frequency_mix(low, high, h, "none").flatten()[::24]
    torch.testing.assert_close(mixed, torch.tensor(expected), atol=2e-6, rtol=0)


@pytest.mark.parametrize("filter", FILTERS)
def test_limits_of_the_filter(filter):
    """Everything passes: the low noise; nothing but the mean passes: the high noise with the low one's mean."""
    low, high = torch.randn(2, 2, 2, 5, 6, 7, generator=generator()).unbind()
    tight = low_pass((5, 6, 7), NoiseSettings(filter=filter, d_s=0.02, d_t=0.02))
    mixed = frequency_mix(low, high, tight, "per_frequency")
    mean = (low - high).mean(dim=(2, 3, 4), keepdim=True)
    torch.testing.assert_close(mixed, high + mean, atol=1e-5, rtol=0)
    if filter in ("ideal", "box"):
        wide = low_pass((5, 6, 7), NoiseSettings(filter=filter, d_s=2.0, d_t=2.0))
        torch.testing.assert_close(frequency_mix(low, high, wide, "none"), low, atol=1e-5, rtol=0)


def spectra_mixed(base, residual):
    """SpecMix as the paper prints it: each frame's spectrum over height and width, by numpy in complex double."""
    frames, out = base.shape[2], torch.empty(base.shape)
    for t in range(frames):
        theta = math.pi / 2 * abs(t - (frames - 1) / 2) / ((frames - 1) / 2)
        kept, added = (np.fft.fft2(x[:, :, t].double().numpy()) for x in (base, residual))
        out[:, :, t] = torch.from_numpy(np.fft.ifft2(math.cos(theta) * kept + math.sin(theta) * added).real)
    return out


@pytest.mark.parametrize("frames", [2, 3, 8, 9])
def test_specmix_is_its_formula_on_spectra(frames):
    base, residual = torch.randn(2, 2, 3, frames, 5, 6, generator=generator()).unbind()
    before = residual.clone()
    made = spec_mix_(base.clone(), residual)
    torch.testing.assert_close(made, spectra_mixed(base, residual), atol=1e-6, rtol=0)
    torch.testing.assert_close(made[:, :, [0, -1]], residual[:, :, [0, -1]], atol=1e-6, rtol=0)
    assert torch.equal(residual, before)
    if frames % 2:
        assert torch.equal(made[:, :, frames // 2], base[:, :, frames // 2])


def test_specmix_of_one_frame_is_that_frame():
    base, residual = torch.randn(2, 1, 3, 1, 5, 6, generator=generator()).unbind()
    assert torch.equal(spec_mix_(base.clone(), residual), base)


# ---- moments ----------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def noises():
    base, fresh = torch.randn(2, *SIZE, generator=generator(1)).unbind()
    frames = SIZE[2]
    orders = {"shuffle": shuffled(frames, LENGTH, STRIDE, generator(2)), "repeat": repeated(frames, LENGTH)}
    return {unit: base[:, :, order] for unit, order in orders.items()}, fresh


@pytest.mark.parametrize("unit", ["shuffle", "repeat"])
@pytest.mark.parametrize("filter", FILTERS)
@pytest.mark.parametrize("variance", ["per_frequency", "renormalise"])
def test_mean_0_and_variance_1(noises, unit, filter, variance):
    low, fresh = noises
    h = low_pass(SIZE[2:], NoiseSettings(filter=filter))
    assert_standard(frequency_mix(low[unit], fresh, h, variance))


@pytest.mark.parametrize(("filter", "std"), [("butterworth", 0.996), ("gaussian", 0.980), ("ideal", 1.0)])
def test_the_printed_mix_is_too_weak(noises, filter, std):
    low, fresh = noises
    mixed = frequency_mix(low["shuffle"], fresh, low_pass(SIZE[2:], NoiseSettings(filter=filter)), "none")
    assert float(mixed.std()) == pytest.approx(std, abs=0.002)


def test_renormalising_is_exact_for_each_frame():
    low, high = torch.randn(2, 2, 3, 5, 6, 7, generator=generator()).unbind()
    low[0], high[0] = low[0] * 3, high[0] * 3
    mixed = frequency_mix(low, high, low_pass((5, 6, 7), NoiseSettings()), "renormalise")
    torch.testing.assert_close(mixed.square().mean(dim=(1, 3, 4)), torch.ones(2, 5))


# ---- in place ---------------------------------------------------------------------------------------------------


def at_once(base, fresh, settings, length, stride, draws):
    """All the noise of a mode from whole tensors in float32, nothing in place."""
    frames = base.shape[2]
    order = shuffled(frames, length, stride, draws) if settings.shuffles else repeated(frames, length)
    low = base if settings.mode == "random" else base[:, :, order]
    if settings.mode == "spec_mix":
        return spectra_mixed(low, fresh).to(base)
    if not settings.mixes:
        return low
    h = low_pass(base.shape[2:], settings)
    norm = (h**2 + (1 - h) ** 2).sqrt() if settings.variance == "per_frequency" else 1
    parts = [torch.fft.rfftn(x.float(), dim=(2, 3, 4)) * gain for x, gain in ((low, h / norm), (fresh, (1 - h) / norm))]
    mixed = torch.fft.irfftn(sum(parts), s=base.shape[2:], dim=(2, 3, 4))
    if settings.variance == "renormalise":
        mixed /= mixed.square().mean(dim=(1, 3, 4), keepdim=True).sqrt()
    return mixed.to(base)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("layout", ["video", "frames in the batch"])
@pytest.mark.parametrize("variance", VARIANCES)
@pytest.mark.parametrize("mode", MODES)
def test_in_place_equals_all_at_once(mode, variance, layout, dtype):
    settings = NoiseSettings(mode, variance=variance, d_s=0.5, d_t=0.5)
    base, fresh = torch.randn(2, 2, 3, 14, 6, 7, generator=generator()).to(dtype).unbind()
    expected = at_once(base, fresh, settings, 5, 3, generator(4))
    if layout != "video":
        base, fresh = (x.movedim(2, 0).contiguous().movedim(0, 2) for x in (base, fresh))
    kept, fresh_before = base, fresh.clone()
    noise = reinitialise_(base, fresh, settings, 5, 3, generator(4))
    assert noise is kept and torch.equal(fresh, fresh_before)
    rounding = 1e-6 if dtype == torch.float32 else torch.finfo(dtype).eps
    torch.testing.assert_close(noise, expected, atol=4 * rounding, rtol=rounding)
