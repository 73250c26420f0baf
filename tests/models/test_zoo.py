"""Every video class of the running core, tiny and random: plain sampling and sampling through the window engine."""

import comfy.sample
import comfy.samplers
import pytest
import torch
from longtake.samplers.adapters.hooks import CHUNKS
from longtake.samplers.adapters.noise import ReinitNoise, apply_noise
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.glc.noise import NoiseSettings
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.windows import WindowSettings, local_windows
from support import windows, zoo
from support.compare import difference
from support.windows import LENGTH, OVERLAP
from support.zoo_runs import DENOISE, FRAMES, NAMES, overridden, run

every_model = pytest.mark.parametrize("name", NAMES)

pytestmark = pytest.mark.usefixtures("one_thread")


def windowed(name, length=LENGTH, **settings):
    return windows.windowed(zoo.patcher(name), length, **settings)


def video_attention(q, k, count):
    """Whether a call is the video's attention: all its tokens, among themselves or with the text's."""
    return q.shape[-2] >= count and q.shape == k.shape


def test_the_core_has_all_models():
    assert list(zoo.zoo()) == NAMES


@every_model
def test_record_says_what_the_class_is(name):
    model, base = zoo.zoo()[name], zoo.patcher(name).model
    net = base.diffusion_model
    assert (type(net).__name__, base.latent_format.latent_channels) == (model.net, model.channels)
    assert base.get_dtype() == torch.float32 and base.manual_cast_dtype is None
    assert all(w.isfinite().all() and w.abs().max() > 0 for w in net.parameters())


@every_model
def test_record_says_how_the_class_attends(name):
    """Video tokens are those of the first joint call that a different noise changes."""
    model, calls = zoo.zoo()[name], []

    def record(func, q, k, v, *args, **kwargs):
        calls.append((q, k, v))
        return func(q, k, v, *args, **kwargs)

    count = model.video_tokens(FRAMES)
    first = []
    for seed in (5, 6):
        calls.clear()
        run(name, overridden(name, record), seed=seed, steps=1, cfg=1.0)
        own = [c for c in calls if video_attention(*c[:2], count)]
        assert len(own) == model.blocks
        first.append(own[0][2])
    text = first[0].shape[-2] - count
    assert (text > 0) == (model.joint != "self")
    changed = (first[0] - first[1]).abs().amax(dim=-1).flatten(0, -2).amax(dim=0) > 0
    expected = torch.ones(count + text, dtype=torch.bool)
    if model.joint == "video first":
        expected[count:] = False
    elif model.joint == "text first":
        expected[:text] = False
    assert torch.equal(changed, expected)


@every_model
def test_video_attention_matters(name):
    """Attending everywhere alike gives another video."""
    count = zoo.zoo()[name].video_tokens(FRAMES)

    def even(func, q, k, v, *args, **kwargs):
        return func(q * 0 if video_attention(q, k, count) else q, k, v, *args, **kwargs)

    assert difference(run(name), run(name, overridden(name, even))) > 1e-2


@every_model
def test_plain_sampling_depends_on_prompt_and_noise(name):
    plain = run(name)
    assert plain.shape == zoo.zoo()[name].latent(FRAMES).shape and plain.isfinite().all()
    assert 0.1 < plain.std() < 10
    assert difference(plain, run(name)) == 0.0
    assert difference(plain, run(name, prompt=3)) > 1e-2
    assert difference(plain, run(name, seed=6)) > 1e-2


@every_model
def test_one_window_equals_plain_sampling(name):
    assert difference(run(name, windowed(name, length=FRAMES)), run(name)) == 0.0


@every_model
@pytest.mark.parametrize("options", [{}, {"extra_path": GlobalPath(0.3), "first_latent": "anchor"}])
def test_windows_in_one_call_equal_windows_one_by_one(name, options):
    denoise = DENOISE.get(name, 1.0)
    one = run(name, windowed(name, window_batch=1, **options), denoise=denoise)
    assert one.isfinite().all()
    assert difference(one, run(name, denoise=denoise)) > 1e-2
    assert difference(run(name, windowed(name, window_batch=3, **options), denoise=denoise), one) < 1e-4


@pytest.mark.parametrize("name", [n for n in NAMES if not zoo.zoo()[n].video(FRAMES, 8)])
def test_windows_without_overlap_are_clips(name):
    """Each window has the positions of a clip of its own, whatever it is a part of."""
    model, denoise = zoo.zoo()[name], DENOISE.get(name, 1.0)
    noise = comfy.sample.prepare_noise(model.latent(2 * LENGTH), 5)

    def sampled(patcher, noise):
        return comfy.sample.sample(
            patcher, noise, 2, 2.0, "euler", "simple", model.conditioning(1, LENGTH), model.conditioning(2, LENGTH),
            torch.zeros_like(noise), denoise=denoise, disable_pbar=True, seed=5,
        )  # fmt: skip

    whole = sampled(windowed(name, overlap=0), noise)
    clips = [sampled(zoo.patcher(name), part) for part in noise.split(LENGTH, 2)]
    assert difference(whole, torch.cat(clips, 2)) < 1e-5


@every_model
def test_windows_of_a_whole_schedule_are_finite(name):
    assert run(name, windowed(name, window_batch=3)).isfinite().all()


@every_model
def test_windows_that_are_cut_off_may_be_one_frame(name):
    settings = {"length": 4, "overlap": 0, "schedule": "rolling_cut"}
    pieces = [local_windows(WindowSettings(**settings), FRAMES, 0, index) for index in range(2)]
    assert {len(w.indices) for w in pieces[0] + pieces[1]} >= {1, 4}
    sampled = run(name, windowed(name, window_batch=2, **settings))
    assert sampled.isfinite().all() and difference(sampled, run(name)) > 1e-2


def coupled(name, patcher, latent=None, mask=None):
    """A SynCoS run: one of two steps coupled."""
    model = zoo.zoo()[name]
    latent = model.latent(FRAMES) if latent is None else latent
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", 2)
    return comfy.sample.sample_custom(
        patcher, comfy.sample.prepare_noise(latent, 5), 2.0, windows.coupled(), sigmas,
        model.conditioning(1, FRAMES), model.conditioning(2, FRAMES), latent, noise_mask=mask, disable_pbar=True,
        seed=5,
    )  # fmt: skip


@every_model
def test_syncos_couples_every_class(name):
    video = coupled(name, windowed(name, window_batch=1))
    assert video.isfinite().all() and 0.1 < video.std() < 10
    assert difference(video, run(name, windowed(name, window_batch=1))) > 1e-2
    if name not in DENOISE:
        assert difference(video, coupled(name, windowed(name, window_batch=3))) < 1e-3


@every_model
def test_noise_reinit_and_vmcr_change_every_class(name):
    def sampled(patcher, sampler):
        model = zoo.zoo()[name]
        latent = model.latent(FRAMES)
        sigmas = comfy.samplers.KSampler(patcher, 2, "cpu", denoise=DENOISE.get(name)).sigmas
        return comfy.sample.sample_custom(
            patcher, comfy.sample.prepare_noise(latent, 5), 2.0, sampler, sigmas, model.conditioning(1, FRAMES),
            model.conditioning(2, FRAMES), latent, disable_pbar=True, seed=5,
        )  # fmt: skip

    euler = comfy.samplers.sampler_object("euler")
    windows = windowed(name, window_batch=1)
    noised = apply_noise(windows, ReinitNoise(0, NoiseSettings("shuffle_and_mix"), LENGTH, LENGTH - OVERLAP))
    plain, reinit = sampled(windows, euler), sampled(noised, euler)
    refined = sampled(noised, refine_sampler(euler, RefineSettings(omega=0.1, rescale=False)))
    assert reinit.isfinite().all() and difference(plain, reinit) > 1e-2
    assert refined.isfinite().all() and difference(refined, reinit) > 1e-4


@pytest.mark.parametrize("name", ["wan22_5b", "ltxv", "cosmos_predict2"])
def test_syncos_shows_a_given_first_frame_clean(name):
    """In coupled iterations as well: timestep 0, and the frame itself in place of noise."""
    model, seen = zoo.zoo()[name], []
    latent = model.latent(FRAMES)
    latent[:, :, :1] = zoo.randn(*latent[:, :, :1].shape, seed=21)
    mask = torch.ones(1, 1, FRAMES, model.side, model.side)
    mask[:, :, :1] = 0.0
    patcher = windowed(name, window_batch=1)

    def look(net, args, kwargs):
        seen.append((args[0].clone(), args[1].clone(), kwargs["transformer_options"]))

    with patcher.model.diffusion_model.register_forward_pre_hook(look, with_kwargs=True):
        result = coupled(name, patcher, latent, mask)
    assert difference(result[:, :, :1], latent[:, :, :1]) < 1e-3
    first = [s for s in seen if s[2]["longtake"]["windows"][0][0] == 0]
    both = {CHUNKS in s[2] for s in first}
    assert both == {True, False}
    frames = [s[0][0, : model.channels, 0] for s in first]
    assert all(difference(f, frames[0]) < 1e-5 for f in frames)
    assert all((s[1].reshape(len(s[1]), LENGTH, -1)[:, 0] == 0).all() for s in first)


@pytest.mark.parametrize("name", ["wan22_5b", "ltxv", "cosmos_predict2"])
@pytest.mark.parametrize("window_batch", [1, 3])
def test_a_given_first_frame_has_its_own_timestep_in_its_window_only(name, window_batch):
    """These classes take a noise mask as a timestep per frame or token: 0 for what is given."""
    model, timesteps = zoo.zoo()[name], []
    latent = model.latent(FRAMES)
    latent[:, :, :1] = zoo.randn(*latent[:, :, :1].shape, seed=21)
    mask = torch.ones(1, 1, FRAMES, model.side, model.side)
    mask[:, :, :1] = 0.0
    patcher = windowed(name, window_batch=window_batch)

    def look(net, args):
        timesteps.append(args[1].reshape(len(args[1]), LENGTH, -1))

    with patcher.model.diffusion_model.register_forward_pre_hook(look):
        result = run(name, patcher, latent=latent, mask=mask, steps=1)
    assert result.isfinite().all()
    assert difference(result[:, :, :1], latent[:, :, :1]) < 1e-3
    rows = torch.cat([t.reshape(2, -1, *t.shape[1:]) for t in timesteps], dim=1)  # [CFG branch, window, frame, tokens]
    assert rows.shape[1] == 3
    assert (rows[:, 0, 0] == 0).all() and (rows[:, 0, 1:] > 0).all() and (rows[:, 1:] > 0).all()


@pytest.mark.parametrize("schedule", ["static", "random_shift"])
def test_two_experts_continue_one_schedule(schedule):
    """Wan 2.2 14B's flow: a second sampler with its own window settings takes over half-way. With the same model and
    settings in both, the windows' shifts included, that is one run."""
    model, settings = zoo.zoo()["wan21_t2v"], {"schedule": schedule, "extra_path": GlobalPath(0.1)}
    latent = model.latent(FRAMES)
    noise = comfy.sample.prepare_noise(latent, 5)

    def part(patcher, samples, noise, **steps):
        return comfy.sample.sample(
            patcher, noise, 4, 2.0, "euler", "simple", model.conditioning(1, FRAMES), model.conditioning(2, FRAMES),
            samples, disable_pbar=True, seed=5, **steps,
        )  # fmt: skip

    whole = part(windowed("wan21_t2v", **settings), latent, noise)
    half = part(windowed("wan21_t2v", **settings), latent, noise, last_step=2)
    zeros = torch.zeros_like(noise)
    both = part(windowed("wan21_t2v", **settings), half, zeros, start_step=2, disable_noise=True)
    assert difference(both, whole) < 1e-4
    other = part(windowed("wan21_t2v", length=7, **settings), half, zeros, start_step=2, disable_noise=True)
    assert other.isfinite().all() and difference(other, whole) > 1e-2


@pytest.mark.parametrize("extra", ["ref_latent", "guiding_frame_index"])
def test_hunyuan_image_conditions_one_window_at_a_time(extra):
    """Core's HunyuanVideo takes both for one row only (ids written in place, vectors of two kinds added): the engine
    then runs windows one by one, whatever window_batch says."""
    value = {"ref_latent": zoo.randn(1, 16, 1, 8, 8, seed=31), "guiding_frame_index": 0}[extra]
    result = run("hunyuan_video", windowed("hunyuan_video", window_batch=1), extra={extra: value})
    assert result.isfinite().all()
    assert difference(result, run("hunyuan_video", windowed("hunyuan_video", window_batch=1))) > 1e-2
    for batch in (0, 3):
        batched = run("hunyuan_video", windowed("hunyuan_video", window_batch=batch), extra={extra: value})
        assert difference(batched, result) == 0.0
