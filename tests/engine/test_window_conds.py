"""What the nets really get in each window: concat latents, masks, controls, references, audio, on the tensors."""

import itertools

import comfy.sample
import comfy.samplers
import pytest
import torch
from longtake.samplers.adapters import attention
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.adapters.noise import ReinitNoise, apply_noise
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.glc.noise import NoiseSettings
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.windows import WindowSettings
from support import zoo
from support.compare import difference
from support.shared import ditctrl, infinity
from support.window_inputs import (
    CASES,
    FRAMES,
    LENGTH,
    NO_ANCHORS,
    OVERLAP,
    STARTS,
    patcher,
    run,
    seen_by,
    windowed,
)
from support.windows import anchored, coupled
from support.zoo_runs import DENOISE

pytestmark = pytest.mark.usefixtures("one_thread")

# Inputs of the nets beside x: their frame axis and entries per latent frame; whole in every window; of windows that
# begin with the video's first frames.
FRAMED = {"vace_context": (3, 1), "camera_conditions": (2, 1), "control_video": (2, 1)}
AUDIO = {"wan22_s2v": (3, 4), "wan21_humo": (1, 1)}
WHOLE = ("clip_fea", "reference_latent", "time_dim_concat")
FIRST = ("guiding_frame_index", "reference_motion")


def check(name, whole, calls, retain=()):
    """Each window's inputs are its frames' share of what the net gets for the video in one piece."""
    channels = CASES[name].channels
    _, x, inputs = whole
    for note, part, own in calls:
        frames = list(note["frames"]) if note["anchor"] is None else [note["anchor"], *note["frames"]]
        shown = frames.copy()
        for i in retain:
            shown[i] = range(FRAMES)[i]
        assert part.shape[2] == len(frames)
        assert torch.equal(part[:, channels:], x[:, channels:, shown])
        for key, value in inputs.items():
            if key in FRAMED or key == "audio_embed":
                dim, rate = FRAMED.get(key) or AUDIO[name]
                of = frames if key == "audio_embed" else shown
                index = torch.tensor([f * rate + i for f in of for i in range(rate)])
                assert torch.equal(own[key], value.index_select(dim, index)), key
            elif key in WHOLE:
                assert torch.equal(own[key], value), key
            elif key in FIRST:
                assert (key in own) == (frames[0] == 0), key
            elif key == "time_dim_replace":
                given = list(itertools.takewhile(lambda f: f < 2, shown))
                assert torch.equal(own[key], value[:, :, given]) if given else key not in own


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize(
    "settings",
    [
        {"window_batch": 4}, {"first_latent": "anchor", "extra_path": GlobalPath()},
        {"window_batch": 4, "retain": (0, -1)},
        {"first_latent": "anchor", "extra_path": GlobalPath(), "retain": (0, 1)},
    ],
)  # fmt: skip
def test_windows_get_their_share_of_all_inputs(name, settings):
    whole = seen_by(name, patcher(name), steps=1)
    calls = seen_by(name, windowed(name, **settings), steps=1)
    assert len(whole) == 1 and [c[0]["frames"][0] for c in calls if c[0]["path"] == "local"] == STARTS
    assert ("global" in {c[0]["path"] for c in calls}) == ("extra_path" in settings)
    check(name, whole[0], calls, settings.get("retain", ()))
    if name not in DENOISE:  # x itself, at the first step the noise: the window's frames of it
        for note, part, _ in calls:
            own = part[:, : CASES[name].channels, part.shape[2] - len(note["frames"]) :]
            assert difference(own, whole[0][1][:, : own.shape[1], list(note["frames"])]) < 1e-5


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("retain", [(), (0, -1)])
def test_coupled_chunks_get_their_share_of_all_inputs(name, retain):
    calls = seen_by(name, windowed(name, retain=retain), sampler=coupled())
    assert {c[0]["chunk"] for c in calls} == {True, False}
    check(name, seen_by(name, patcher(name), steps=1)[0], calls, retain)


@pytest.mark.parametrize("name", [n for n in CASES if n not in zoo.zoo()])
def test_noise_reinit_and_vmcr_change_these_too(name):
    noised = apply_noise(windowed(name), ReinitNoise(0, NoiseSettings("shuffle_and_mix"), LENGTH, LENGTH - OVERLAP))
    refiner = refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings(omega=0.1, rescale=False))
    plain, reinit = (run(name, model, denoise=0.6) for model in (windowed(name), noised))
    refined = run(name, noised, sampler=refiner, denoise=0.6)
    assert refined.isfinite().all() and difference(plain, reinit) > 1e-2 and difference(refined, reinit) > 1e-4


@pytest.mark.parametrize("name", ["wan21_i2v", "hunyuan_i2v", "hunyuan_video15"])
@pytest.mark.parametrize("retain", [(), (0,)])
def test_the_start_image_belongs_to_the_first_window_unless_retained(name, retain):
    """Later windows see neither the image nor a mask that calls one of their frames given; or both, in front."""
    case, mark = CASES[name], 97.0
    image = torch.zeros(1, case.channels, FRAMES, case.side, case.side)
    image[:, :, 0] = mark
    calls = seen_by(name, windowed(name, retain=retain), steps=1, concat_latent_image=image)
    hidden = seen_by(name, patcher(name), steps=1, concat_latent_image=image)[0][1][:, case.channels :]
    bright = hidden[:, :, 0].abs().amax((0, 2, 3)) > 10
    assert int(bright.sum()) == case.channels
    for note, part, _ in calls:
        concat = part[:, case.channels :]
        first = note["frames"][0] == 0 or bool(retain)
        assert bool(concat[:, :, 0].abs().amax() > 10) == first
        given = (concat[:, ~bright] == 1).flatten(3).all(-1).any(1)[0]
        assert given.tolist() == [first] + [False] * (LENGTH - 1)


def test_hunyuans_given_frame_is_said_of_the_first_window_only():
    calls = []
    model = zoo.zoo()["hunyuan_video"]
    windows = apply_windows(zoo.patcher("hunyuan_video"), WindowSettings(LENGTH, OVERLAP, window_batch=4))

    def look(net, args, inputs):
        calls.append((inputs["transformer_options"]["longtake"]["windows"], "guiding_frame_index" in inputs))

    conds = [model.conditioning(i, FRAMES, guiding_frame_index=0) for i in (1, 2)]
    latent = model.latent(FRAMES)
    with windows.model.diffusion_model.register_forward_pre_hook(look, with_kwargs=True):
        comfy.sample.sample(windows, comfy.sample.prepare_noise(latent, 5), 1, 1.0, "euler", "simple", *conds, latent)
    assert [(w[0][0], said) for w, said in calls] == [(0, True), (1, False), (2, False), (3, False)]


@pytest.mark.parametrize(("name", "shape", "words"), [
    ("wan22_s2v", (1, 25, 1024, 4 * FRAMES - 8), "audio ends after 6 of the video's 8 latent frames"),
    ("wan21_humo", (1, FRAMES - 1, 8, 5, 1280), "audio ends after 7 of the video's 8 latent frames"),
    ("wan21_humo", (1, 4 * FRAMES, 35), r"audio of the shape \(1, 32, 35\)"),
])  # fmt: skip
def test_audio_that_cannot_be_cut_is_refused_by_name(name, shape, words):
    with pytest.raises(ValueError, match=f"LongTakeWindowScheduler.*{words}"):
        run(name, windowed(name), audio_embed=zoo.randn(*shape, seed=1))


def test_infinitetalk_is_refused_by_name():
    model = windowed("wan21_i2v")
    model.model_options["transformer_options"]["audio_embeds"] = torch.zeros(1, 29, 32, 768)
    with pytest.raises(ValueError, match="LongTakeWindowScheduler.*InfiniteTalk.*bypass"):
        run("wan21_i2v", model)


@pytest.mark.parametrize("name", [n for n in CASES if n not in NO_ANCHORS])
def test_anchors_are_the_videos_tokens_behind_those_of_a_reference(name, monkeypatch):
    spans, blend = set(), attention.AnchorForward._blend

    def record(self, k, v, layer, start):
        spans.add((start, self.tokens))
        blend(self, k, v, layer, start)

    plain = run(name, windowed(name), denoise=0.6)
    monkeypatch.setattr(attention.AnchorForward, "_blend", record)
    video = run(name, anchored(windowed(name)), denoise=0.6)
    assert {count for _, count in spans} == {CASES[name].video_tokens(LENGTH)}
    if name.startswith("wan"):
        assert {start for start, _ in spans} == {16 if name == "wan21_fun_control" else 0}
    assert video.isfinite().all() and difference(video, plain) > 1e-3


@pytest.mark.parametrize("name", NO_ANCHORS)
def test_models_with_tokens_elsewhere_have_no_anchors(name):
    with pytest.raises((ValueError, RuntimeError), match="LongTakeABAM.*(not a model whose|add tokens to the video)"):
        run(name, anchored(windowed(name)))
    for method, node in ((ditctrl, "LongTakeDiTCtrl"), (infinity, "LongTakeVideoInfinity")):
        with pytest.raises((ValueError, RuntimeError), match=f"{node}.*(not a model whose|add tokens to the video)"):
            run(name, method(windowed(name)))


@pytest.mark.parametrize("name", [n for n in CASES if n not in NO_ANCHORS])
@pytest.mark.parametrize("method", [ditctrl, infinity])
def test_windows_share_beside_what_else_a_model_gets(name, method):
    """Reference tokens before the video's, start images, controls: batched or not."""
    plain = run(name, windowed(name, window_batch=1), denoise=0.6)
    one = run(name, method(windowed(name, window_batch=1)), denoise=0.6)
    assert one.isfinite().all() and difference(one, plain) > 1e-3
    assert difference(run(name, method(windowed(name, window_batch=3)), denoise=0.6), one) < 1e-3
