"""The classes whose nets get more than a prompt (concat latents, masks, controls, references, audio), and what each
window shows of them to the net."""

import functools

import comfy.sample
import comfy.samplers
import torch
from longtake.samplers.adapters.hooks import CHUNKS
from longtake.samplers.adapters.window import NEW_CORE

from . import windows, zoo

FRAMES, LENGTH, OVERLAP = 8, 5, 4  # windows start at 0, 1, 2 and 3; FRAMES is also a height and a size of HuMo's audio
STARTS = [0, 1, 2, 3]
NO_ANCHORS = ("wan22_s2v", "wan21_humo", "wan21_phantom")  # tokens that are not the video's stand elsewhere


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

    with patcher(name).model.diffusion_model.register_forward_pre_hook(look, with_kwargs=True):
        assert run(name, model, **kwargs).isfinite().all()
    return calls


def windowed(name, **settings):
    return windows.windowed(patcher(name), LENGTH, OVERLAP, **settings)
