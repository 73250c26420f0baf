"""What the nets really get in each window: concat latents, masks, controls, references, audio, on the tensors."""

import functools
import itertools

import comfy.sample
import comfy.samplers
import pytest
import torch
import zoo
from longtake.samplers.adapters import attention
from longtake.samplers.adapters.engine import CHUNKS, apply_windows
from longtake.samplers.adapters.noise import ReinitNoise, apply_noise
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.adapters.window import NEW_CORE
from longtake.samplers.glc.noise import NoiseSettings
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.syncos.coupling import SynCoSSettings
from longtake.samplers.windows import WindowSettings
from test_zoo import DENOISE, difference

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, LENGTH, OVERLAP = 8, 5, 4  # windows start at 0, 1, 2 and 3; FRAMES is also a height and a size of HuMo's audio
STARTS = [0, 1, 2, 3]


def control_video(frames, side):
    """Wan Fun Control: a control video and a start image, both as latents, and a reference image."""
    return {
        "concat_latent_image": zoo.randn(1, 32, frames, side, side, seed=61),
        "reference_latents": [zoo.randn(1, 16, 1, side, side, seed=62)],
    }


def subjects(frames, side):
    """Wan Phantom: pictures of subjects as frames after the video, here as many as the video has."""
    return {"time_dim_concat": zoo.randn(1, 16, frames, side, side, seed=63)}


def camera(frames, side):
    still = zoo.start_image(16, (257, 1280))(frames, side)
    return still | {"camera_conditions": zoo.randn(1, 24, frames, 8 * side, 8 * side, seed=64)}


def speech(frames, side):
    """Wan S2V: 4 audio entries per latent frame, a reference image, the motion before the video, a pose video."""
    return {
        "audio_embed": zoo.randn(1, 25, 1024, 4 * frames, seed=65),
        "reference_latents": [zoo.randn(1, 16, 1, side, side, seed=66)],
        "reference_motion": zoo.randn(1, 16, 19, side, side, seed=67),
        "control_video": zoo.randn(1, 16, frames, side, side, seed=68),
    }


def human(frames, side):
    return {
        "audio_embed": zoo.randn(1, frames, 8, 5, 1280, seed=69),
        "reference_latents": [zoo.randn(1, 16, 1, side, side, seed=70)],
    }


def first_frames(frames, side):
    """Kandinsky 5: two given latent frames."""
    mask = torch.ones(1, 1, frames, side, side)
    mask[:, :, :2] = 0.0
    return {"time_dim_replace": zoo.randn(1, 16, 2, side, side, seed=71), "concat_mask": mask}


def given_image(channels):
    def video(frames, side):
        image = zoo.start_image(channels, (7, 8))(frames, side)
        return {key: image[key] for key in ("concat_latent_image", "concat_mask")}

    return video


def variant(name, build, text, video, base="wan21_t2v"):
    model = zoo.zoo()[base]
    return zoo.Model(name, model.net, 16, (1, 2, 2), zoo.DEPTH, "self", build, text, video)


WAN, LLAMA = zoo.t5(4096), zoo.llama(4096, pooled=768)
CASES = {
    "wan21_i2v": zoo.zoo()["wan21_i2v"],
    "wan21_vace": zoo.zoo()["wan21_vace"],
    "hunyuan_video15": zoo.zoo()["hunyuan_video15"],
    "wan21_fun_control": variant(
        "wan21_fun_control", functools.partial(zoo.wan, model_type="i2v", in_dim=48, in_dim_ref_conv=16), WAN,
        control_video,
    ),
    "wan21_phantom": variant("wan21_phantom", zoo.wan, WAN, subjects),
    "wan21_camera": variant("wan21_camera", functools.partial(zoo.wan, "CameraWanModel", in_dim=32), WAN, camera),
    "wan22_s2v": variant(
        "wan22_s2v", functools.partial(zoo.wan, "WanModel_S2V", audio_inject_layers=[0]), WAN, speech
    ),
    "wan21_humo": variant("wan21_humo", functools.partial(zoo.wan, "HumoWanModel"), WAN, human),
    "hunyuan_i2v": variant("hunyuan_i2v", functools.partial(zoo.hunyuan, in_channels=33), LLAMA, given_image(16)),
}  # fmt: skip
if NEW_CORE:
    CASES["kandinsky5_i2v"] = variant(
        "kandinsky5_i2v", zoo.kandinsky5, zoo.llama(3584, pooled=768), first_frames, "kandinsky5"
    )
    CASES["cogvideox_i2v"] = variant(
        "cogvideox_i2v", functools.partial(zoo.cogvideox, None, in_channels=32), WAN, given_image(16), "cogvideox"
    )

# Inputs of the nets beside x: their frame axis and entries per latent frame; whole in every window; of windows that
# begin with the video's first frames.
FRAMED = {"vace_context": (3, 1), "camera_conditions": (2, 1), "control_video": (2, 1)}
AUDIO = {"wan22_s2v": (3, 4), "wan21_humo": (1, 1)}
WHOLE = ("clip_fea", "reference_latent", "time_dim_concat")
FIRST = ("guiding_frame_index", "reference_motion")


@functools.cache
def patcher(name):
    return CASES[name].build()


def run(name, model, *, sampler="euler", steps=2, denoise=1.0, **extra):
    case = CASES[name]
    latent = case.latent(FRAMES)
    sigmas = comfy.samplers.KSampler(model, steps, "cpu", denoise=denoise).sigmas
    return comfy.sample.sample_custom(
        model, comfy.sample.prepare_noise(latent, 5), 1.0,
        comfy.samplers.sampler_object(sampler) if isinstance(sampler, str) else sampler, sigmas,
        case.conditioning(1, FRAMES, **extra), case.conditioning(2, FRAMES, **extra), latent, disable_pbar=True, seed=5,
    )  # fmt: skip


def seen_by(name, model, **kwargs):
    """Each window of each model call: (the note of the engine, its row of x, the net's other inputs)."""
    calls = []

    def look(net, args, inputs):
        note = inputs["transformer_options"].get("longtake", {"windows": [tuple(range(FRAMES))], "anchor": (None,)})
        tensors = {k: v for k, v in inputs.items() if isinstance(v, torch.Tensor)}
        count = len(note["windows"])
        for i in range(count):
            rows = {k: v[i : i + 1] if v.shape[0] == count else v for k, v in tensors.items()}
            chunk = CHUNKS in inputs["transformer_options"]
            calls.append(({**note, "frames": note["windows"][i], "anchor": note["anchor"][i], "chunk": chunk},
                          args[0][i : i + 1].clone(), {k: v.clone() for k, v in rows.items()}))  # fmt: skip

    hook = patcher(name).model.diffusion_model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        assert run(name, model, **kwargs).isfinite().all()
    finally:
        hook.remove()
    return calls


def windowed(name, **settings):
    return apply_windows(patcher(name), WindowSettings(LENGTH, OVERLAP, **{"window_batch": 1, **settings}))


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


def coupled():
    return syncos_sampler(SynCoSSettings(t_min=0.0, max_coupled=1, iters=2, chunks=2, optimizer="sgd", lr=1))


@pytest.mark.parametrize("name", list(CASES))
@pytest.mark.parametrize("retain", [(), (0, -1)])
def test_coupled_chunks_get_their_share_of_all_inputs(name, retain):
    calls = seen_by(name, windowed(name, retain=retain), sampler=coupled())
    assert {c[0]["chunk"] for c in calls} == {True, False}
    check(name, seen_by(name, patcher(name), steps=1)[0], calls, retain)


@pytest.mark.parametrize("name", [n for n in CASES if n not in zoo.zoo()])
def test_noise_reinit_and_vmcr_change_these_too(name):
    noised = apply_noise(windowed(name), ReinitNoise(0, NoiseSettings("shuffle_and_mix"), LENGTH, LENGTH - OVERLAP))
    refiner = refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings(omega=1.0, rescale=False))
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

    hook = windows.model.diffusion_model.register_forward_pre_hook(look, with_kwargs=True)
    conds = [model.conditioning(i, FRAMES, guiding_frame_index=0) for i in (1, 2)]
    latent = model.latent(FRAMES)
    try:
        comfy.sample.sample(windows, comfy.sample.prepare_noise(latent, 5), 1, 1.0, "euler", "simple", *conds, latent)
    finally:
        hook.remove()
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


NO_ANCHORS = ("wan22_s2v", "wan21_humo", "wan21_phantom")


def anchored(name):
    return attention.apply_anchor(windowed(name), 0.3, 0, -1, 0.0, 1.0, "gpu")


@pytest.mark.parametrize("name", [n for n in CASES if n not in NO_ANCHORS])
def test_anchors_are_the_videos_tokens_behind_those_of_a_reference(name, monkeypatch):
    spans, blend = set(), attention.Forward._blend

    def record(self, k, v, layer, start):
        spans.add((start, self.tokens))
        blend(self, k, v, layer, start)

    plain = run(name, windowed(name), denoise=0.6)
    monkeypatch.setattr(attention.Forward, "_blend", record)
    video = run(name, anchored(name), denoise=0.6)
    assert {count for _, count in spans} == {CASES[name].video_tokens(LENGTH)}
    if name.startswith("wan"):
        assert {start for start, _ in spans} == {16 if name == "wan21_fun_control" else 0}
    assert video.isfinite().all() and difference(video, plain) > 1e-3


@pytest.mark.parametrize("name", NO_ANCHORS)
def test_models_with_tokens_elsewhere_have_no_anchors(name):
    with pytest.raises((ValueError, RuntimeError), match="LongTakeABAM.*(not a model whose|add tokens to the video)"):
        run(name, anchored(name))
