"""Models that sample audio beside the video, and guide frames in the latent: windows as core cuts them, or refused."""

import functools

import comfy.nested_tensor
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_lt import LTXVAddGuide
from longtake.samplers.adapters.attention import apply_anchor
from longtake.samplers.adapters.noise import ReinitNoise, apply_noise
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.adapters.window import NEW_CORE
from longtake.samplers.freelong import BandBlend
from longtake.samplers.glc.noise import NoiseSettings
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.prompts.timeline import Span
from longtake.samplers.syncos.coupling import SynCoSSettings
from longtake.samplers.windows import WindowSettings
from support import windows, zoo
from support.compare import difference
from support.shared import ditctrl, infinity

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, LENGTH, OVERLAP, COMPRESSION = 8, 5, 2, 8
WINDOWS = [range(5), range(3, 8)]
OFF = {"start_percent": 1.0, "end_percent": 0.0}
SETTINGS = {"overlap": OVERLAP, "fuse": "flat", "compression": COMPRESSION}


def windowed(name, **settings):
    return windows.windowed(zoo.patcher(name), LENGTH, **{"window_batch": 0, **SETTINGS, **settings})


def core_windowed(name, anchor=False):
    return windows.core_windowed(zoo.patcher(name), "flat", LENGTH, OVERLAP, causal_window_fix=anchor)


def run(name, patcher, *, latent=None, noise=None, mask=None, conds=None, sampler=None, steps=2, frames=FRAMES):
    model = (zoo.zoo() | zoo.audio_video())[name]
    latent = model.latent(frames) if latent is None else latent
    noise = comfy.sample.prepare_noise(latent, 5) if noise is None else noise
    positive, negative = conds or (model.conditioning(1, frames), model.conditioning(2, frames))
    sigmas = comfy.samplers.calculate_sigmas(patcher.get_model_object("model_sampling"), "simple", steps)
    return comfy.sample.sample_custom(
        patcher, noise, 2.0, sampler or comfy.samplers.sampler_object("euler"), sigmas, positive, negative, latent,
        noise_mask=mask, disable_pbar=True, seed=5,
    )  # fmt: skip


def equal(a, b):
    return all(difference(x, y) == 0.0 for x, y in zip(a.unbind(), b.unbind(), strict=True))


def inputs_of(name, call):
    """What the net gets in each model call of `call()`: its positional arguments."""
    seen = []
    with zoo.patcher(name).model.diffusion_model.register_forward_pre_hook(lambda net, args: seen.append(args)):
        call()
    return seen


def test_the_core_has_all_models():
    assert list(zoo.audio_video()) == (["ltxav", "minimax_h3"] if NEW_CORE else [])


def test_an_audio_video_latent_needs_a_model_that_maps_windows_to_audio():
    """Before anything is evaluated, and on every core: a model whose core class has no such map."""
    nested = comfy.nested_tensor.NestedTensor((torch.zeros(1, 16, FRAMES, 8, 8), torch.zeros(1, 4, 9)))

    def sample():
        with pytest.raises(ValueError, match="LongTakeWindowScheduler.*WAN21 samples video and audio packed"):
            run("wan21_t2v", windowed("wan21_t2v", compression=4), latent=nested)

    assert inputs_of("wan21_t2v", sample) == []


def guided(name):
    """A video of one given guide frame at pixel frame 48 (latent frame 6), as LTXVAddGuide writes it."""
    model = (zoo.zoo() | zoo.audio_video())[name]
    video = torch.zeros(1, 128, FRAMES, model.side, model.side)
    guide = zoo.randn(1, 128, 1, model.side, model.side, seed=41)
    conds = model.conditioning(1, FRAMES), model.conditioning(2, FRAMES)
    *conds, latent, mask = LTXVAddGuide.append_keyframe(
        *conds, 48, video, torch.ones(1, 1, FRAMES, 1, 1), guide, 1.0, (8, 32, 32)
    )
    if NEW_CORE:
        from comfy_extras.nodes_lt import _append_guide_attention_entry

        conds = _append_guide_attention_entry(*conds, model.side**2, list(guide.shape[2:]))
    return {"conds": conds, "latent": latent, "mask": mask}


def test_guide_frames_that_core_does_not_cut_are_refused():
    def sample():
        with pytest.raises(ValueError, match="LongTakeWindowScheduler.*guide frames.*cannot be cut"):
            run("ltxv", windowed("ltxv"), **guided("ltxv"))

    assert run("ltxv", zoo.patcher("ltxv"), **guided("ltxv")).isfinite().all()
    assert inputs_of("ltxv", sample) == []


if NEW_CORE:

    @pytest.mark.parametrize("anchor", [False, True])
    def test_windows_over_audio_and_video_equal_cores(anchor):
        ours = run("ltxav", windowed("ltxav", first_latent="anchor" if anchor else "as_is"))
        assert all(t.isfinite().all() for t in ours.unbind())
        assert equal(ours, run("ltxav", core_windowed("ltxav", anchor)))
        plain = run("ltxav", zoo.patcher("ltxav"))
        assert all(difference(a, b) > 1e-2 for a, b in zip(ours.unbind(), plain.unbind(), strict=True))

    def test_each_window_gets_its_own_audio():
        noise = comfy.sample.prepare_noise(zoo.audio_video()["ltxav"].latent(FRAMES), 5)
        model = windowed("ltxav", schedule="static")
        seen = inputs_of("ltxav", lambda: run("ltxav", model, noise=noise, steps=1))
        video, audio = noise.unbind()
        per_frame = audio.shape[2] / FRAMES
        assert len(seen) == len(WINDOWS)
        for (x, *_), window in zip(seen, WINDOWS, strict=True):
            own = range(round(window[0] * per_frame), round((window[-1] + 1) * per_frame))
            assert difference(x[0][:1], video[:, :, window]) < 1e-5 and difference(x[1][:1], audio[:, :, own]) < 1e-5

    def test_each_window_gets_its_prompt():
        model, texts = zoo.audio_video()["ltxav"], []
        entries = [
            (zoo.t5(2 * zoo.WIDTH)(20 + i)[0], {**OFF, "pooled_output": None, "longtake_span": Span(i, a, b, 0, 57)})
            for i, (a, b) in enumerate([(0, 25), (25, 57)], start=1)
        ]
        (head, options), = model.conditioning(1, FRAMES)
        timeline = [[head, {**options, "longtake_span": None}], *(list(entry) for entry in entries)]

        def look(net, args, inputs):
            texts.append(inputs["context"][inputs["transformer_options"]["cond_or_uncond"].index(0)].clone())

        with zoo.patcher("ltxav").model.diffusion_model.register_forward_pre_hook(look, with_kwargs=True):
            run("ltxav", windowed("ltxav"), conds=(timeline, model.conditioning(2, FRAMES)), steps=1)
        assert len(texts) == 2 and all(difference(t, e[0][0]) == 0 for t, e in zip(texts, entries, strict=True))

    @pytest.mark.parametrize("settings", [
        {"schedule": "random_shift", "shift_seed": 3}, {"schedule": "rolling_cut"},
        {"fuse": "pyramid"}, {"fuse": "overlap-linear"},
    ])
    def test_window_settings_matter_for_audio_too(settings):
        plain, other = run("ltxav", windowed("ltxav")), run("ltxav", windowed("ltxav", **settings))
        for a, b in zip(plain.unbind(), other.unbind(), strict=True):
            assert b.isfinite().all() and difference(a, b) > 1e-4

    def test_one_window_is_plain_sampling():
        assert equal(run("ltxav", windowed("ltxav"), frames=LENGTH), run("ltxav", zoo.patcher("ltxav"), frames=LENGTH))

    def test_a_batch_of_two_is_the_two_videos():
        latent = zoo.audio_video()["ltxav"].latent(FRAMES, batch=2)
        noise = comfy.sample.prepare_noise(latent, 5)
        both = run("ltxav", windowed("ltxav"), latent=latent, noise=noise)
        for i in (0, 1):
            one = comfy.nested_tensor.NestedTensor([t[i : i + 1] for t in noise.unbind()])
            alone = run("ltxav", windowed("ltxav"), noise=one)
            for a, b in zip(both.unbind(), alone.unbind(), strict=True):
                assert difference(a[i : i + 1], b) < 1e-4

    def test_given_frames_and_sounds_stay_and_have_their_own_timestep():
        latent = zoo.audio_video()["ltxav"].latent(FRAMES)
        video, audio = (zoo.randn(*t.shape, seed=51) for t in latent.unbind())
        masks = [torch.ones_like(video[:, :1]), torch.ones_like(audio)]
        masks[0][:, :, :1] = 0.0
        masks[1][:, :, :8] = 0.0
        given, mask = (comfy.nested_tensor.NestedTensor(t) for t in ((video, audio), masks))
        patcher = windowed("ltxav")
        timesteps = []
        seen = inputs_of(
            "ltxav", lambda: timesteps.append(run("ltxav", patcher, latent=given, mask=mask, steps=1).unbind())
        )
        (out_video, out_audio), = timesteps
        assert difference(out_video[:, :, :1], video[:, :, :1]) < 1e-3
        assert difference(out_audio[:, :, :8], audio[:, :, :8]) < 1e-3
        first, second = (call[1] for call in seen)
        assert (first[0].reshape(2, LENGTH, -1)[:, 0] == 0).all() and (first[0].reshape(2, LENGTH, -1)[:, 1:] > 0).all()
        assert (second[0] > 0).all() and (second[1] > 0).all()
        assert (first[1].flatten(1)[:, :8] == 0).all() and (first[1].flatten(1)[:, 8:] > 0).all()

    def test_guide_frames_of_ltx2_go_with_their_window():
        sample = functools.partial(run, "ltxav", **guided("ltxav"))
        ours = sample(windowed("ltxav"))
        assert ours.shape[2] == FRAMES + 1 and difference(ours, sample(core_windowed("ltxav"))) < 1e-5
        seen = inputs_of("ltxav", lambda: sample(windowed("ltxav")))
        assert [call[0][0].shape[2] for call in seen] == 2 * [LENGTH, LENGTH + 1]

    def refusals():
        def ksampler(patcher):
            run("ltxav", patcher)

        windows = WindowSettings(LENGTH, **SETTINGS)
        coupled = syncos_sampler(SynCoSSettings(t_min=0.0, max_coupled=1, iters=1))
        refined = refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings())
        noise, bands = ReinitNoise(0, NoiseSettings(), windows.length, windows.stride), BandBlend(GlobalPath())
        return {
            "LongTakeWindowScheduler.*global_path": lambda: ksampler(windowed("ltxav", extra_path=GlobalPath())),
            "LongTakeWindowScheduler.: global_path": lambda: ksampler(windowed("ltxav", extra_path=bands)),
            "LongTakeABAM.*LTXAVModel": lambda: apply_anchor(windowed("ltxav"), 0.3, 0, -1, 0.0, 1.0, "gpu"),
            "LongTakeDiTCtrl.*LTXAVModel": lambda: ditctrl(windowed("ltxav")),
            "LongTakeVideoInfinity.*LTXAVModel": lambda: infinity(windowed("ltxav")),
            "LongTakeVMCR.*audio": lambda: run("ltxav", windowed("ltxav"), sampler=refined),
            "LongTakeSynCoS.*audio": lambda: run("ltxav", windowed("ltxav"), sampler=coupled),
            "LongTakeNoiseToModel.*audio": lambda: ksampler(apply_noise(windowed("ltxav"), noise)),
        }

    @pytest.mark.parametrize("words", list(refusals()))
    def test_what_audio_cannot_have_is_refused_before_sampling(words):
        def sample():
            with pytest.raises(ValueError, match=words):
                refusals()[words]()

        assert inputs_of("ltxav", sample) == []

    def test_minimax_h3_is_refused_by_name_and_left_alone():
        """Core has no map from its windows to its audio, and its latent frames hold 1, 4, 4, 4 and 4 pixel frames."""

        def sample():
            with pytest.raises(ValueError, match="LongTakeWindowScheduler.*MiniMaxH3.*bypass"):
                run("minimax_h3", windowed("minimax_h3", compression=4))

        assert inputs_of("minimax_h3", sample) == []
        assert all(t.isfinite().all() for t in run("minimax_h3", zoo.patcher("minimax_h3")).unbind())
