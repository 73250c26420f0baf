"""Noise reinitialisation as NOISE: the node's noise, and the same noise in real sampling runs."""

import math

import comfy.nested_tensor
import comfy.sample
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from comfy_extras.nodes_custom_sampler import (
    BasicScheduler,
    CFGGuider,
    DisableNoise,
    KSamplerSelect,
    RandomNoise,
    SamplerCustomAdvanced,
)
from longtake.backbone.demo import loader
from longtake.benchmarks import allocations
from longtake.nodes.noise import LongTakeNoiseReinit, LongTakeNoiseToModel
from longtake.samplers.adapters.noise import KEY, ReinitNoise
from longtake.samplers.glc.noise import MODES, NoiseSettings
from longtake.samplers.windows import WindowSettings
from support.noise import LENGTH, SIZE, STRIDE, assert_standard, generator

import nodes as core_nodes

WINDOWS = WindowSettings(length=5, overlap=2)

pytestmark = pytest.mark.usefixtures("one_thread")


def node(**kwargs):
    """The NOISE of the node with its defaults and `kwargs`."""
    inputs = {i.id: getattr(i, "default", None) for i in LongTakeNoiseReinit.define_schema().inputs}
    return LongTakeNoiseReinit.execute(**{**inputs, "noise_seed": 7, "windows": WINDOWS, **kwargs}).args[0]


def latent(*shape, **extra):
    return {"samples": torch.zeros(shape), **extra}


@pytest.mark.parametrize(("settings", "words"), [
    ({"mode": "swap"}, r"mode \(swap\) must be one of shuffle_and_mix, shuffle"),
    ({"filter": "sinc"}, r"filter \(sinc\) must be one of butterworth, gaussian"),
    ({"variance": "both"}, r"variance \(both\) must be one of per_frequency"),
    ({"d_s": 0.0}, r"d_s \(0.0\) must be between 0.01"), ({"d_t": -1.0}, r"d_t \(-1.0\) must be between"),
    ({"d_t": math.nan}, r"d_t \(nan\) must be between 0.01"), ({"order": 0}, r"order \(0\) must be between 1"),
])  # fmt: skip
def test_wrong_settings_are_refused_by_name(settings, words):
    with pytest.raises(ValueError, match=r"Noise Reinit \(LongTakeNoiseReinit\): " + words):
        node(**settings)


@pytest.mark.parametrize("mode", MODES)
def test_the_nodes_noise_is_standard(mode):
    windows = WindowSettings(length=LENGTH, overlap=LENGTH - STRIDE)
    assert_standard(node(mode=mode, windows=windows).generate_noise(latent(*SIZE)))


@pytest.mark.parametrize("seed", [0, 7, 2**32 + 5, 2**64 - 1])
@pytest.mark.parametrize("inputs", [
    latent(2, 4, 11, 3, 5), latent(9, 4, 3, 5), latent(3, 4, 6, 3, 5, batch_index=[4, 0, 4]), latent(1, 4, 50),
])  # fmt: skip
def test_random_is_randomnoise(seed, inputs):
    noise, core = node(mode="random", noise_seed=seed), RandomNoise.execute(seed).args[0]
    assert noise.seed == core.seed
    assert torch.equal(noise.generate_noise(inputs), core.generate_noise(inputs))


def test_random_is_randomnoise_for_video_with_audio():
    nested = {"samples": comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 6, 2, 2), torch.zeros(1, 4, 9)])}
    ours = node(mode="random").generate_noise(nested).unbind()
    core = RandomNoise.execute(7).args[0].generate_noise(nested).unbind()
    assert all(torch.equal(a, b) for a, b in zip(ours, core, strict=True))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("frames", [14, 5, 3])
def test_the_seed_decides_the_noise(mode, frames):
    inputs = latent(2, 4, frames, 3, 5)
    first = node(mode=mode).generate_noise(inputs)
    torch.rand(3)
    assert torch.equal(first, node(mode=mode).generate_noise(inputs))
    assert not torch.equal(first, node(mode=mode, noise_seed=8).generate_noise(inputs))
    assert first.shape == inputs["samples"].shape and first.dtype == inputs["samples"].dtype
    assert not inputs["samples"].any()


def test_what_each_mode_does():
    inputs = latent(2, 4, 14, 6, 8)
    base = RandomNoise.execute(7).args[0].generate_noise(inputs)
    unit = [base[:, :, i] for i in range(WINDOWS.length)]
    frames = node(mode="shuffle").generate_noise(inputs).unbind(2)
    assert all(torch.equal(f, u) for f, u in zip(frames, unit, strict=False))
    assert all(any(torch.equal(f, u) for u in unit) for f in frames)

    # An all-pass filter shows the low noise alone: the unit, shuffled or in order.
    everything = {"filter": "box", "d_s": 1.0, "d_t": 1.0}
    both = node(mode="shuffle_and_mix", **everything).generate_noise(inputs)
    torch.testing.assert_close(both, torch.stack(frames, 2), atol=1e-5, rtol=0)
    in_order = torch.stack([unit[f % WINDOWS.length] for f in range(14)], 2)
    torch.testing.assert_close(node(mode="mix", **everything).generate_noise(inputs), in_order, atol=1e-5, rtol=0)

    # SpecMix: the shuffled frames in the middle, less and less of them towards the ends, and nothing there.
    mixed = node(mode="spec_mix").generate_noise(inputs)
    pairs = zip(frames, mixed.unbind(2), strict=True)
    shared = [torch.corrcoef(torch.stack([f.flatten(), m.flatten()]))[0, 1] for f, m in pairs]
    assert min(shared[6:8]) > 0.98 and max(map(abs, (shared[0], shared[13]))) < 0.2
    assert min(shared[3], shared[10]) > 0.3 and max(shared[3], shared[10]) < 0.9
    idle = {"filter": "ideal", "d_s": 1.0, "d_t": 0.1, "order": 9, "variance": "none"}
    assert torch.equal(node(mode="spec_mix", **idle).generate_noise(inputs), mixed)

    # The tightest filter shows the fresh noise, all but each channel's mean: related to no frame of the base noise.
    fresh = node(mode="shuffle_and_mix", d_s=0.01, d_t=0.01).generate_noise(inputs)
    assert torch.corrcoef(torch.stack([fresh.flatten(), base.flatten()]))[0, 1].abs() < 0.06
    assert torch.corrcoef(fresh.movedim(2, 0).flatten(1)).fill_diagonal_(0).abs().max() < 0.25


@pytest.mark.parametrize("frames", [5, 4, 1])
def test_a_video_no_longer_than_the_window_is_its_own_unit(frames):
    inputs = latent(1, 4, frames, 3, 5)
    base = RandomNoise.execute(7).args[0].generate_noise(inputs)
    for mode in ("shuffle", "spec_mix"):
        assert torch.equal(node(mode=mode).generate_noise(inputs), base)
    mixed = [node(mode=mode).generate_noise(inputs) for mode in ("mix", "shuffle_and_mix")]
    assert torch.equal(*mixed) and not torch.equal(mixed[0], base)


@pytest.mark.parametrize("mode", ["shuffle", "mix", "shuffle_and_mix", "spec_mix"])
def test_frames_in_the_batch_are_frames(mode):
    """[T, C, H, W] is the video [1, C, T, H, W]."""
    noise = node(mode=mode)
    batch = torch.randn(11, 4, 3, 5, generator=generator(7))
    ours = noise.generate_noise(latent(11, 4, 3, 5))
    assert ours.shape == (11, 4, 3, 5) and ours.is_contiguous()
    if mode == "shuffle":
        assert torch.equal(ours[:5], batch[:5])
        assert all(any(torch.equal(f, u) for u in batch[:5]) for f in ours)
    elif mode == "spec_mix":
        middle = node(mode="shuffle").generate_noise(latent(11, 4, 3, 5))[5]
        assert torch.equal(ours[5], middle) and not torch.equal(ours[0], batch[0])
    else:
        everything = node(mode=mode, filter="box", d_s=1.0, d_t=1.0).generate_noise(latent(11, 4, 3, 5))
        torch.testing.assert_close(everything[:5], batch[:5], atol=1e-5, rtol=0)


@pytest.mark.parametrize("mode", ["shuffle", "mix", "shuffle_and_mix", "spec_mix"])
def test_batch_index_picks_videos_of_the_whole_batch(mode):
    whole = node(mode=mode).generate_noise(latent(3, 4, 11, 3, 5, batch_index=[0, 1, 2]))
    picked = node(mode=mode).generate_noise(latent(2, 4, 11, 3, 5, batch_index=[2, 1]))
    torch.testing.assert_close(picked, whole[[2, 1]], atol=1e-6, rtol=0)


@pytest.mark.parametrize("samples", [
    torch.zeros(1, 4, 50), torch.zeros(4, 6),
    comfy.nested_tensor.NestedTensor([torch.zeros(1, 4, 6, 2, 2), torch.zeros(1, 4, 9)]),
])  # fmt: skip
def test_other_latents_are_refused_by_name(samples):
    with pytest.raises(ValueError, match=r"LongTakeNoiseReinit.*latent_image.*\((1, )?4, .*RandomNoise"):
        node().generate_noise({"samples": samples})


def test_windows_of_the_scheduler_set_unit_and_block():
    noise = node(windows=WindowSettings(length=13, overlap=4))
    assert (noise.length, noise.stride) == (13, 9)
    assert noise == ReinitNoise(7, NoiseSettings(), 13, 9)


@pytest.mark.parametrize(("settings", "most"), [
    ({"mode": "shuffle"}, 1.2), ({"mode": "spec_mix"}, 2.2), ({"mode": "mix"}, 2.5), ({"mode": "shuffle_and_mix"}, 2.5),
    ({"mode": "shuffle_and_mix", "variance": "renormalise"}, 3.4),
])  # fmt: skip
@pytest.mark.parametrize("frames_in_batch", [False, True])
def test_memory_is_the_noises_and_a_few_channels(settings, most, frames_in_batch):
    """In latents, of real size: the base noise, the fresh one, and what a channel of 16 needs."""
    inputs = latent(90, 16, 60, 104) if frames_in_batch else latent(1, 16, 90, 60, 104)
    noise = node(**settings)
    peak = allocations.measure(lambda: noise.generate_noise(inputs))
    assert peak.bytes < most * inputs["samples"].nbytes


def test_half_precision_needs_no_whole_video_in_float32():
    """Beside what core needs to draw one noise (newer ones draw it in float32): the other noise, and a few channels."""
    inputs = {"samples": torch.zeros(1, 16, 90, 60, 104, dtype=torch.float16)}
    drawn = allocations.measure(lambda: comfy.sample.prepare_noise(inputs["samples"], 1)).bytes
    peak = allocations.measure(lambda: node().generate_noise(inputs))
    assert peak.bytes < max(drawn, 2 * inputs["samples"].nbytes) + 1.1 * inputs["samples"].nbytes


# ---- real sampling ----------------------------------------------------------------------------------------------

FRAMES, STEPS, SEED = 9, 3, 11


@pytest.fixture(scope="module")
def model():
    return loader.load_model()


@pytest.fixture(scope="module")
def prompts():
    clip = loader.load_clip()
    return [clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in ("a red circle bouncing", "")]


def video(**extra):
    return latent(1, 16, FRAMES, 4, 4, **extra)


def advanced(model, prompts, noise):
    guider = CFGGuider.execute(model, *prompts, 4.0).args[0]
    sampler = KSamplerSelect.execute("euler").args[0]
    sigmas = BasicScheduler.execute(model, "simple", STEPS, 1.0).args[0]
    return SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, video()).args[0]["samples"]


def ksampler(model, prompts, seed=SEED, **extra):
    args = (model, seed, STEPS, 4.0, "euler", "simple", *prompts, video(**extra))
    return core_nodes.KSampler().sample(*args)[0]["samples"]


def to_model(model, noise):
    return LongTakeNoiseToModel.execute(model, noise).args[0]


@pytest.mark.parametrize("mode", MODES)
def test_ksampler_starts_from_the_noise(model, prompts, mode):
    noise = node(mode=mode, noise_seed=SEED)
    plain = ksampler(model, prompts)
    expected = advanced(model, prompts, noise)
    patched = to_model(model, node(mode=mode, noise_seed=5))  # the sampler's seed counts
    assert torch.equal(ksampler(patched, prompts), expected)
    assert torch.equal(expected, plain) == (mode == "random")
    assert torch.isfinite(expected).all()
    assert torch.equal(advanced(patched, prompts, RandomNoise.execute(SEED).args[0]), expected)
    assert torch.equal(ksampler(model, prompts), plain)
    assert not model.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)


def test_another_packs_noise_keeps_its_own_seed(model, prompts):
    other = RandomNoise.execute(3).args[0]
    patched = to_model(model, other)
    assert torch.equal(ksampler(patched, prompts), ksampler(model, prompts, seed=3))


def test_the_last_noise_counts_and_each_model_keeps_its_own(model, prompts):
    first = to_model(model, node(mode="shuffle"))
    second = to_model(first, node(mode="random"))
    assert len(second.get_wrappers(WrappersMP.OUTER_SAMPLE, KEY)) == 1
    assert torch.equal(ksampler(second, prompts), ksampler(model, prompts))
    assert not torch.equal(ksampler(first, prompts), ksampler(model, prompts))


def test_a_sampler_without_noise_gets_none(model, prompts):
    """KSampler (Advanced) in two parts: the second continues the first one's latent."""
    patched = to_model(model, node(mode="shuffle"))

    def part(model, samples, add_noise, start, end):
        args = (model, add_noise, SEED, STEPS, 4.0, "euler", "simple", *prompts, samples, start, end)
        leftover = "enable" if end < STEPS else "disable"
        return core_nodes.KSamplerAdvanced().sample(*args, leftover)[0]

    half = part(patched, video(), "enable", 0, 2)
    whole = part(patched, half, "disable", 2, STEPS)["samples"]
    torch.testing.assert_close(whole, ksampler(patched, prompts), atol=1e-4, rtol=0)
    assert torch.equal(whole, part(model, half, "disable", 2, STEPS)["samples"])
    silence = DisableNoise.execute().args[0]
    assert torch.equal(advanced(patched, prompts, silence), advanced(model, prompts, silence))


def test_a_half_precision_latent_gets_noise_of_its_type(model):
    seen = []

    def spy(executor, noise, *args, **kwargs):
        seen.append(noise)
        return noise

    patched = to_model(model, node(mode="shuffle_and_mix"))
    patched.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, "zz_spy", spy)
    half = {"samples": torch.zeros(1, 16, FRAMES, 4, 4, dtype=torch.float16)}
    core_nodes.KSampler().sample(patched, SEED, 1, 1.0, "euler", "simple", [], [], half)
    expected = node(mode="shuffle_and_mix", noise_seed=SEED).generate_noise(half)
    assert seen[0].dtype == torch.float16 and seen[0].device == half["samples"].device
    assert torch.equal(seen[0], expected)


class WrongNoise:
    seed = 0

    def generate_noise(self, input_latent):
        return torch.ones(1, 2)


def test_noise_that_does_not_fit_is_refused_by_name(model, prompts):
    with pytest.raises(ValueError, match=r"LongTakeNoiseToModel.*noise.*\(1, 2\).*\(1, 16, 9, 4, 4\)"):
        ksampler(to_model(model, WrongNoise()), prompts)


def test_packed_latents_are_refused_by_name(model):
    nested = comfy.nested_tensor.NestedTensor([torch.zeros(1, 16, 6, 2, 2), torch.zeros(1, 4, 9)])
    patched = to_model(model, node())
    with pytest.raises(ValueError, match=r"LongTakeNoiseToModel.*\(1, 16, 6, 2, 2\), \(1, 4, 9\)"):
        noise = comfy.sample.prepare_noise(nested, 0)
        comfy.sample.sample(patched, noise, 1, 1.0, "euler", "simple", [], [], nested, seed=0)
