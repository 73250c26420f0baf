"""What the MEVG Sampler cannot do is refused, by name and with what would work."""

import math
from dataclasses import replace

import pytest
import torch
from longtake.samplers.adapters.checkpoint import CheckpointSettings, apply_checkpoint, keep
from longtake.samplers.adapters.mevg import MEVGSampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from support import tiny_wan, windows, zoo
from support.compare import difference
from support.fifo_runs import CARRIED, FRAMES, WAN, euler, run, schedule
from support.mevg_runs import mevg

pytestmark = pytest.mark.usefixtures("one_thread")


def made(sampler=None, name=WAN, **given):
    sampler = sampler or mevg(name)
    return run(sampler, name, **{"sigmas": schedule(given.get("model") or zoo.patcher(name), 3), **given})


@pytest.mark.parametrize(("name", "key"), [
    ("wan21_i2v", "c(lip_fea|_concat)"), ("wan21_vace", "vace_context"), ("hunyuan_video15", "c_concat"),
])  # fmt: skip
def test_pictures_are_refused(name, key):
    with pytest.raises(ValueError, match=f"MEVG Sampler .*conditioning: {key} belongs to frames or to a picture"):
        made(name=name)


def test_latents_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="MEVG Sampler .*a video latent has 5 dimensions"):
        made(latent=torch.zeros(1, 16, 9, 8))


@pytest.mark.parametrize(("patch", "message"), [
    *CARRIED,
    (lambda m: windows.anchored(windows.windowed(m)), "model: carries windows .LongTakeContextHandler"),
    (lambda m: apply_checkpoint(m, CheckpointSettings()), "Checkpoint .*MEVGSampler is not one of ComfyUI's"),
])  # fmt: skip
def test_what_a_model_may_not_carry(patch, message):
    with pytest.raises(ValueError, match=message):
        made(model=patch(zoo.patcher(WAN).clone()))


def test_a_mask_is_refused_and_means_what_it_means_for_one_clip():
    mask = torch.ones(1, 1, FRAMES, 8, 8)
    mask[:, :, 0] = 0
    with pytest.raises(ValueError, match="MEVG Sampler .*latent_image: carries a noise mask"):
        made(mask=mask)
    assert difference(made(mevg(length=FRAMES), mask=mask), made(euler(), mask=mask)) == 0.0


def test_a_given_video_is_refused():
    latent = zoo.zoo()[WAN].latent(FRAMES)
    latent[:, :, 2] = 1.0
    with pytest.raises(ValueError, match="latent_image: holds a video, and each clip but the first begins from"):
        made(latent=latent)
    one = [made(sampler, latent=latent) for sampler in (mevg(length=FRAMES), euler())]
    assert difference(*one) == 0.0


@pytest.mark.parametrize("sigmas", [[1.0, 0.5, 0.2], [0.0, 0.5, 1.0], [math.nan, 0.5, 0.0]])
def test_a_part_of_a_schedule_is_refused(sigmas):
    with pytest.raises(ValueError, match=r"MEVG Sampler .*sigmas \(\[.* must fall from noise to 0"):
        made(sigmas=torch.tensor(sigmas))


def test_a_schedule_without_a_step_where_clips_begin_is_refused():
    with pytest.raises(ValueError, match=r"start_percent \(0.95\): the schedule has no step from there on"):
        made(mevg(start_percent=0.95), sigmas=torch.tensor([1.0, 0.9, 0.8, 0.0]))


def test_inversion_from_where_nothing_of_the_picture_is_left_is_refused():
    with pytest.raises(ValueError, match=r"begin \(invert\): where clips begin \(sigma 1\) this model's .* holds 0"):
        made(mevg(begin="invert", start_percent=0.0))


def test_samplers_around_it_refuse_it():
    with pytest.raises(ValueError, match="Checkpoint .*MEVGSampler is not one of ComfyUI's"):
        keep(mevg(), CheckpointSettings())
    with pytest.raises(ValueError, match="VMCR.*MEVGSampler"):
        refine_sampler(mevg(), RefineSettings())


def test_events_by_frame_need_a_model_that_reads_text_apart():
    positive = tiny_wan.timeline(4 * FRAMES - 3, [0, 13])
    text = zoo.zoo()["hunyuan_video"].conditioning(1, FRAMES)
    positive = [[text[0][0], {**text[0][1], **entry}] for _, entry in positive]
    for _, entry in positive[1:]:
        entry["longtake_span"] = replace(entry["longtake_span"], timing="frame")
    with pytest.raises(ValueError, match=r"timing \(frame\): HunyuanVideo does not read the text"):
        made(name="hunyuan_video", positive=positive)


@pytest.mark.parametrize("length", [1, 4])
def test_a_clip_of_one_latent_frame_is_refused(length):
    sampler = mevg()
    sampler.length = length
    with pytest.raises(ValueError, match=rf"window_length \({length}\) must be at least two latent frames, 5 pixel"):
        made(sampler)


@pytest.mark.parametrize(("name", "value"), [
    ("start_percent", math.nan), ("start_percent", 1.0), ("shared_noise", -0.1), ("lfai", math.inf), ("sgs", 31.0),
    ("begin", "again"), ("first_latent", ""),
])  # fmt: skip
def test_settings_are_checked_before_a_run(name, value):
    with pytest.raises(ValueError, match=name):
        mevg(**{name: value})
    with pytest.raises(ValueError, match="window_length"):
        MEVGSampler(0, begin="renoise")


def test_a_video_of_one_frame_is_made():
    assert difference(made(frames=1), made(euler(), frames=1)) == 0.0
