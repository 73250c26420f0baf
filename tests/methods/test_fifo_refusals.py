"""What the FIFO Sampler cannot do is refused, by name and with what would work."""

import math

import comfy.sample
import comfy.samplers
import pytest
import torch
from longtake.samplers.adapters.checkpoint import CheckpointSettings, apply_checkpoint, keep
from longtake.samplers.adapters.fifo import FIFOSampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.fifo import FIFOSettings
from support import zoo
from support.compare import difference
from support.fifo_runs import CARRIED, FRAMES, REFUSED, SEED, WAN, F, euler, fifo, run, schedule

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("name", REFUSED)
def test_classes_with_one_level_are_refused_by_name(name):
    with pytest.raises(ValueError, match=rf"{zoo.zoo()[name].net} takes one noise level.*works with Wan 2.1"):
        run(name=name)


def test_a_start_image_is_refused():
    with pytest.raises(ValueError, match="conditioning: c(lip_fea|_concat) belongs to frames or to a picture"):
        run(name="wan21_i2v")


def test_audio_beside_the_video_is_refused():
    models = zoo.audio_video()
    if "ltxav" not in models:  # 0.3.75 packs no latents of video and audio: the shape is told by a latent of audio
        with pytest.raises(ValueError, match="a video latent has 5 dimensions"):
            run(latent=torch.zeros(1, 16, 9, 8))
        return
    model = models["ltxav"]
    latent = model.latent(FRAMES)
    prompts = model.conditioning(1, FRAMES), model.conditioning(2, FRAMES)
    with pytest.raises(ValueError, match="a video latent has 5 dimensions"):
        comfy.sample.sample_custom(
            zoo.patcher("ltxav"), comfy.sample.prepare_noise(latent, SEED), 2.0, fifo(), schedule(zoo.patcher("ltxav")),
            *prompts, latent, disable_pbar=True, seed=SEED,
        )  # fmt: skip


@pytest.mark.parametrize(("patch", "message"), [
    *CARRIED,
    (lambda m: apply_checkpoint(m, CheckpointSettings()), "Checkpoint .*FIFOSampler is not one of ComfyUI's"),
])  # fmt: skip
def test_what_a_model_may_not_carry(patch, message):
    with pytest.raises(ValueError, match=message):
        run(model=patch(zoo.patcher(WAN).clone()))


def test_a_mask_is_refused_and_means_what_it_means_for_one_clip():
    mask = torch.ones(1, 1, FRAMES, 8, 8)
    mask[:, :, 0] = 0
    with pytest.raises(ValueError, match="latent_image: carries a noise mask"):
        run(mask=mask)
    assert difference(run(fifo(length=FRAMES), mask=mask), run(euler(), mask=mask)) == 0.0


@pytest.mark.parametrize("sigmas", [[1.0, 0.5, 0.2], [0.0, 0.5, 1.0], [math.nan, 0.5, 0.0]])
def test_a_part_of_a_schedule_is_refused(sigmas):
    with pytest.raises(ValueError, match=r"FIFO Sampler .*sigmas \(\[.* must fall from noise to 0"):
        run(sigmas=torch.tensor(sigmas))


def test_samplers_around_it_refuse_it():
    with pytest.raises(ValueError, match="Checkpoint .*FIFOSampler is not one of ComfyUI's"):
        keep(fifo(), CheckpointSettings())
    with pytest.raises(ValueError, match="VMCR.*FIFOSampler"):
        refine_sampler(fifo(), RefineSettings())


@pytest.mark.parametrize("length", [1, 4])
def test_a_clip_of_one_latent_frame_is_refused(length):
    with pytest.raises(ValueError, match=rf"window_length \({length}\) must be at least two latent frames, 5 pixel"):
        run(FIFOSampler(length, 2, True, "clip"))


def test_settings_are_checked_before_a_run():
    for wrong, name in (((0, 2, True, "clip"), "window_length"), ((13, 0, True, "clip"), "partitions")):
        with pytest.raises(ValueError, match=name):
            FIFOSampler(*wrong)
    assert FIFOSettings(F).slots == 4 * F
