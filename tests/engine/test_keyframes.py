"""Event Keyframes: core's own conditioning where core has a node for it, and to each window the images in it."""

import functools

import comfy.clip_vision
import comfy.sample
import comfy.samplers
import comfy.utils
import pytest
import torch
from comfy_extras.nodes_wan import WanFirstLastFrameToVideo, WanImageToVideo, WanVaceToVideo
from longtake.backbone.demo import loader
from longtake.nodes.keyframes import LongTakeEventKeyframes
from longtake.samplers.keyframes import chosen, event_numbers, holding, image_mask, shown_at, vace_mask
from longtake.samplers.prompts.follow import following
from support import tiny_vaes, zoo
from support.refusals import refusal
from support.tiny_wan import prompt, timeline
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread")
WIDTH, HEIGHT = 32, 16
IMAGES = ("concat_latent_image", "concat_mask")


@pytest.fixture(autouse=True)
def as_core_runs_nodes():
    with torch.inference_mode():
        yield


@functools.cache
def vae():
    return loader.load_vae()


def pictures(count, width=60, height=50, channels=3, seed=1):
    """Of other sizes than the video."""
    return zoo.randn(count, height, width, channels, seed=seed).sigmoid()


def empty(frames, channels=16):
    return {"samples": torch.zeros(1, channels, frames, HEIGHT // 8, WIDTH // 8)}


def given(frames, images, starts=(0, 9), **values):
    """What the node puts into (positive, negative), for a timeline of events at these pixel frames."""
    widgets = {"model": "i2v", "events": "", "last": False, "strength": 1.0} | values
    positive = widgets.pop("positive", None) or timeline(4 * frames - 3, list(starts))
    samples = widgets.pop("samples", None) or empty(frames)
    *conds, latent, report = LongTakeEventKeyframes.execute(
        positive, widgets.pop("negative", prompt(2)), widgets.pop("vae", vae()), samples, images, **widgets).args
    assert latent is samples
    return *conds, report


def core_prompts():
    return prompt(1), prompt(2)


def inputs_of(name, conds, frames):
    """What core's model class makes of the conditioning of both prompts: (the net's inputs of an entry) each."""
    model, latent = zoo.patcher(name).model, empty(frames)["samples"]
    return [
        {key: value.cond for key, value in model.extra_conds(
            **entry, cross_attn=text, noise=torch.zeros_like(latent), device="cpu", latent_image=latent).items()}
        for cond in conds for text, entry in cond
    ]  # fmt: skip


def close(a, b):
    """Equal but for rounding, in which convolutions of pieces differ from those of the whole on some CPUs."""
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=1e-5)


def same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert close(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key], key


def scaled(images):
    return comfy.utils.common_upscale(images.movedim(-1, 1), WIDTH, HEIGHT, "bilinear", "center").movedim(1, -1)


@pytest.mark.parametrize("channels", [3, 4])
def test_one_image_at_the_first_event_is_core_s_image_to_video(channels):
    images, seen = pictures(1, channels=channels), zoo.clip_vision(257, 1280)
    *ours, report = given(9, images, clip_vision_output=seen)
    *core, _ = WanImageToVideo.execute(*core_prompts(), vae(), WIDTH, HEIGHT, 33, 1, images, seen).args
    assert report == "images at event 1: pixel frame 0 (latent 0)"
    for mine, its in zip(ours, core, strict=True):
        for _, entry in mine:
            assert close(entry["concat_latent_image"], its[0][1]["concat_latent_image"])
            assert torch.equal(entry["concat_mask"], its[0][1]["concat_mask"].expand(-1, 4, -1, -1, -1))
            assert entry["clip_vision_output"] is seen
    (net, *_), (expected, *_) = inputs_of("wan21_i2v", ours, 9), inputs_of("wan21_i2v", core, 9)
    same({key: net[key] for key in ("c_concat", "clip_fea")}, {key: expected[key] for key in ("c_concat", "clip_fea")})
    assert net["c_concat"][:, :4, 0].min() == 1 and net["c_concat"][:, :4, 1:].abs().max() == 0


def test_the_first_and_the_last_image_are_core_s_first_last_frame():
    images, views = pictures(2), [zoo.clip_vision(257, 1280) for _ in range(2)]
    views[1].penultimate_hidden_states = views[1].penultimate_hidden_states + 1
    both = comfy.clip_vision.Output()
    both.penultimate_hidden_states = torch.cat([view.penultimate_hidden_states for view in views])
    *ours, report = given(9, images, last=True, clip_vision_output=both)
    *core, _ = WanFirstLastFrameToVideo.execute(
        *core_prompts(), vae(), WIDTH, HEIGHT, 33, 1, images[:1], images[1:], *views).args
    assert report == "images at event 1: pixel frame 0 (latent 0), the end: pixel frame 32 (latent 8)"
    for mine, its in zip(ours, core, strict=True):
        for _, entry in mine:
            assert all(close(entry[key], its[0][1][key]) for key in IMAGES)
            assert torch.equal(*(e["clip_vision_output"].penultimate_hidden_states for e in (entry, its[0][1])))


def test_the_last_image_alone():
    *ours, _ = given(9, pictures(1), last=True)
    *core, _ = WanFirstLastFrameToVideo.execute(
        *core_prompts(), vae(), WIDTH, HEIGHT, 33, 1, end_image=pictures(1)).args
    assert all(close(ours[0][0][1][key], core[0][0][1][key]) for key in IMAGES)


def test_images_between_are_core_s_encode_of_a_grey_video_with_them():
    images = pictures(3)
    (text, entry), *_ = given(9, images, (0, 6, 21))[0]
    pixels = torch.full((33, HEIGHT, WIDTH, 3), 0.5)
    pixels[[0, 8, 24]] = scaled(images)
    assert close(entry["concat_latent_image"], vae().encode(pixels))
    made = entry["concat_mask"][0, :, :, 1, 1]
    assert made.T.reshape(-1).nonzero().flatten().tolist() == [
        n + 3 for n in range(33) if n not in (0, 8, 24)]  # latent frame 0 has its one frame four times


@pytest.mark.parametrize(("frames", "starts", "values"), [
    (9, (0, 6, 21), {}), (11, (0, 6, 21), {"events": "3", "last": True}), (1, (0,), {}),
    (53, (0, 90, 150), {"strength": 0.7}),  # longer than the VAE looks back
])  # fmt: skip
def test_vace_is_core_s_node_with_the_control_video_by_hand(frames, starts, values):
    count = 4 * frames - 3
    numbers = [int(n) - 1 for n in values.get("events", "").split()] or range(len(starts))
    at = [4 * -(-starts[i] // 4) for i in numbers] + [count - 1] * values.get("last", False)
    images = pictures(len(at))
    *ours, report = given(frames, images, starts, model="vace", **values)
    control, mask = torch.full((count, HEIGHT, WIDTH, 3), 0.5), torch.ones(count, HEIGHT, WIDTH)
    control[at], mask[at] = scaled(images), 0.0
    *core, _, _ = WanVaceToVideo.execute(
        *core_prompts(), vae(), WIDTH, HEIGHT, count, 1, values.get("strength", 1.0), control, mask).args
    for mine, its in zip(ours, core, strict=True):
        for _, entry in mine:
            for key in ("vace_frames", "vace_mask"):
                assert close(entry[key][0], its[0][1][key][0]), key
            assert entry["vace_strength"] == its[0][1]["vace_strength"]
    assert all(f"pixel frame {place} " in report for place in at)


def test_vace_after_vace_is_another_layer_as_core_s():
    before = WanVaceToVideo.execute(*timeline_and_negative(33), vae(), WIDTH, HEIGHT, 33, 1, 0.5).args
    positive, negative, _ = given(9, pictures(1), positive=before[0], negative=before[1], model="vace")
    for cond in (positive, negative):
        assert all(entry["vace_strength"] == [0.5, 1.0] and len(entry["vace_frames"]) == 2 for _, entry in cond)


def timeline_and_negative(total):
    return timeline(total, [0, 9]), prompt(2)


@pytest.mark.parametrize(("pixel", "latent", "shown"), [
    (0, 0, 0), (1, 1, 4), (2, 1, 4), (4, 1, 4), (5, 2, 8), (8, 2, 8), (9, 3, 12), (32, 8, 32),
])  # fmt: skip
def test_the_latent_frame_that_holds_an_event_s_start(pixel, latent, shown):
    assert holding(pixel, 4) == latent and shown_at(latent, 4) == shown
    starts = (0, pixel) if pixel else (0,)
    report = given(9, pictures(1), starts, events=str(len(starts)))[2]
    assert report == f"images at event {len(starts)}: pixel frame {shown} (latent {latent})"


@pytest.mark.parametrize("frames", [2, 21, 41, 307])
def test_vace_s_mask_never_marks_a_frame_without_an_image(frames):
    for i in range(frames):
        kept = (vace_mask([i], frames, 4).flatten() == 0).nonzero().flatten().tolist()
        assert kept in ([], [i])
        assert image_mask([i], frames, 4)[0, :, :, 0, 0].logical_not().sum((0,)).nonzero().flatten().tolist() == [i]


def test_pixels_are_made_and_encoded_piece_by_piece():
    """Twice for VACE, and the grey half only until all that follow are equal."""
    pieces, frames = [], 60
    handle = vae().first_stage_model.encoder.register_forward_pre_hook(lambda net, x: pieces.append(x[0].shape[2]))
    with handle:
        given(frames, pictures(2), (0, 100), model="vace")
    assert max(pieces) <= 4 and 237 < sum(pieces) < 2 * 237 - 40


def test_a_timeline_that_follows_the_video():
    entries = prompt(1, longtake_span=None)
    for span in following("0f: a\n9f: b", 16.0, 0, "window", "linear")[1]:
        entries += prompt(10 + span.index, longtake_span=span)
    report = given(9, pictures(2), positive=entries)[2]
    assert report == "images at event 1: pixel frame 0 (latent 0), event 2: pixel frame 12 (latent 3)"


def run(name, conds, frames, seen=None, windows=True, steps=2):
    """The sampled latent; `seen` collects (frames, the net's x and vace_context) of each window."""
    patcher, latent = zoo.patcher(name), empty(frames)["samples"]
    model = windowed(patcher) if windows else patcher
    sigmas = comfy.samplers.KSampler(model, steps, "cpu").sigmas

    def look(net, args, inputs):
        note = inputs["transformer_options"].get("longtake", {"windows": (tuple(range(frames)),)})["windows"]
        count, context = len(note), inputs.get("vace_context")
        parts = [None] * count if context is None else context.chunk(count)
        seen.extend(zip(note, args[0].clone().chunk(count), parts, strict=False))

    handle = patcher.model.diffusion_model.register_forward_pre_hook(look, with_kwargs=True)
    try:
        return comfy.sample.sample_custom(
            model, comfy.sample.prepare_noise(latent, 5), 1.0, comfy.samplers.sampler_object("euler"), sigmas, *conds,
            latent, disable_pbar=True, seed=5)  # fmt: skip
    finally:
        handle.remove()


@pytest.mark.parametrize("name", ["wan21_i2v", "wan21_vace"])
def test_each_window_sees_the_images_in_it(name):
    conds = given(14, pictures(3), (0, 17, 38), model=name[6:])[:2]
    whole, windows = [], []
    run(name, conds, 14, whole, windows=False, steps=1)
    assert run(name, conds, 14, windows, steps=1).isfinite().all()
    assert {frames for frames, *_ in windows} == {tuple(range(s, s + 5)) for s in (0, 3, 6, 9)}
    (_, x, context), *_ = whole
    for frames, part, own in windows:
        if name == "wan21_vace":
            assert torch.equal(own, context[:, :, :, list(frames)])
            continue
        assert torch.equal(part[:, 16:], x[:, 16:, list(frames)])
        kept = part[0, 16:20].amax((0, 2, 3)).nonzero().flatten().tolist()
        assert [frames[i] for i in kept] == [i for i in frames if i in (0, 5, 10)]


@pytest.mark.parametrize("name", ["wan21_i2v", "wan21_vace"])
def test_an_image_moves_its_own_windows_alone(name):
    """Another image at the second event: the video differs in the windows over it and nowhere else."""
    images = pictures(2)
    other = torch.cat([images[:1], 1 - images[1:]])
    one, two = (run(name, given(14, batch, (0, 41), model=name[6:])[:2], 14, [], steps=1) for batch in (images, other))
    differ = (one - two).abs().amax((0, 1, 3, 4)) > 0
    # windows 0..4, 3..7, 6..10, 9..13; the image is in latent frame 11
    assert differ.tolist() == [False] * 9 + [True] * 5


def test_all_prompts_share_the_images():
    positive, negative, _ = given(9, pictures(2), model="vace")
    entries = [entry for cond in (positive, negative) for _, entry in cond]
    assert len(entries) == 4 and len({id(entry["vace_frames"][0]) for entry in entries}) == 1
    assert [entry.get("longtake_span") for entry in entries] == [
        *(entry["longtake_span"] for _, entry in timeline(33, [0, 9])), None]


@pytest.mark.parametrize(("values", "words"), [
    ({"images": pictures(3)}, "images: 3 for the 2 events of the timeline at positive"),
    ({"images": pictures(4), "last": True}, "images: 3 for the 2 events"),
    ({"images": pictures(3)[:0]}, "images: has none"),
    ({"events": "1"}, "events: names 1 events, but images has 2 for them"),
    ({"events": "1, 2", "last": True}, "events: names 2 events, but images has 1 for them"),
    ({"events": "1, 3"}, "events: there is no event 3; the timeline at positive has the events 1 to 2"),
    ({"events": "0, 1"}, "events: there is no event 0"),
    ({"events": "2, 2"}, "events (2, 2): event 2 is named twice"),
    ({"events": "1; 2"}, "events (1; 2): must be numbers"), ({"events": "-1"}, "events (-1): must be numbers"),
    ({"positive": prompt(1)}, "positive: has no events; connect a Prompt Timeline"),
    ({"positive": timeline(97, [0, 9])}, "samples: the latent has 33 pixel frames, the timeline at positive 97"),
    ({"starts": (0, 5, 7), "events": "2, 3"}, "images: those of event 2 and event 3 fall into the same latent frame"),
    ({"starts": (0, 30), "images": pictures(3), "last": True}, "images: those of event 2 and the end fall into"),
    ({"samples": {"samples": torch.zeros(1, 16, 4, 4)}}, "samples: is (1, 16, 4, 4); a video latent is"),
    ({"samples": empty(9, 48)}, "samples: has 48 channels, the latents of the VAE have 16"),
    ({"strength": float("nan"), "model": "vace"}, "strength"), ({"model": "wan"}, "model"),
    ({"clip_vision_output": zoo.clip_vision(257, 1280)}, ""),
])  # fmt: skip
def test_what_cannot_be_is_refused_by_name(values, words):
    images = values.get("images", pictures(2))
    rest = {key: value for key, value in values.items() if key != "images"}
    if "clip_vision_output" in rest:
        states = rest["clip_vision_output"].penultimate_hidden_states
        rest["clip_vision_output"].penultimate_hidden_states = states.expand(3, -1, -1)
        words = "clip_vision_output: is of 3 images"
    with pytest.raises(ValueError, match=r"^Event Keyframes \(LongTakeEventKeyframes\): ") as caught:
        given(9, images, **rest)
    assert words in str(caught.value)


def test_vaes_of_other_models_are_refused():
    with pytest.raises(ValueError, match="vae: is a AutoencoderKL of another model"):
        given(9, pictures(1), vae=tiny_vaes.built("hunyuan"))
    with pytest.raises(ValueError, match="model .vace.: needs the VAE of Wan 2.1"):
        given(9, pictures(1), vae=tiny_vaes.built("wan22"), samples=empty(9, 48), model="vace")


def test_the_vae_of_wan_22():
    ours, *_ = given(9, pictures(2), vae=tiny_vaes.built("wan22"), samples=empty(9, 48))
    pixels = torch.full((33, 2 * HEIGHT, 2 * WIDTH, 3), 0.5)
    images = pictures(2).movedim(-1, 1)
    images = comfy.utils.common_upscale(images, 2 * WIDTH, 2 * HEIGHT, "bilinear", "center").movedim(1, -1)
    pixels[[0, 12]] = images
    whole = tiny_vaes.built("wan22").encode(pixels)
    assert (ours[0][1]["concat_latent_image"] - whole).abs().max() < 1e-4


def test_wrong_numbers_show_before_the_run():
    assert refusal("LongTakeEventKeyframes", events="1, 3") is None
    assert "events (one): must be numbers" in refusal("LongTakeEventKeyframes", events="one")["details"]
    assert event_numbers(" 1, 3 4 ") == [1, 3, 4] and chosen([], 2, 5) == [1, 2]
