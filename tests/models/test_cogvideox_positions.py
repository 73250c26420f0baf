"""The sine positions of CogVideoX-2B: diffusers' own to the bit, made once per size and run."""

import contextlib

import comfy.model_management
import pytest
import torch
from longtake.backbone.cogvideox import load as cogvideox
from longtake.backbone.cogvideox.files import IN_FOLDER
from support.compare import distance
from support.tiny_cogvideox import HEIGHT, WIDTH, load, model_folders, noise_of, prompts, sample
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True, scope="module")
def models(tmp_path_factory):
    with model_folders(tmp_path_factory.mktemp("models"), ["CogVideoX-2b"]) as root:
        yield root


@contextlib.contextmanager
def made_by(patcher):
    """The sizes (height, width, pixel frames) that positions are made for."""
    embed, sizes = patcher.model.diffusion_model.patch_embed, []
    make = embed._get_positional_embeddings

    def spy(height, width, frames, device=None):
        sizes.append((height, width, frames))
        return make(height, width, frames, device=device)

    embed._get_positional_embeddings = spy
    yield sizes
    del embed._get_positional_embeddings


def apply(patcher, noise):
    with torch.inference_mode():
        timestep = torch.tensor([5.0])
        return patcher.model.apply_model(noise, timestep, c_crossattn=prompts()[0], transformer_options={})


@pytest.mark.parametrize("dtype", ["default", "bf16", "fp16"])
def test_positions_are_diffusers_to_the_bit(models, dtype):
    patcher = cogvideox.load("CogVideoX-2b", IN_FOLDER, IN_FOLDER, dtype)[0]
    noise, network = noise_of("CogVideoX-2b"), patcher.model.diffusion_model
    ours = [apply(patcher, noise) for _ in range(2)]  # made, and kept
    embed = network.patch_embed
    embed._forward_hooks.clear()
    embed.use_positional_embeddings, embed.sample_frames = True, 0  # diffusers' own way, made in this call
    assert torch.equal(ours[0], apply(patcher, noise)) and torch.equal(*ours)
    embed.use_positional_embeddings = False
    assert distance(ours[0], apply(patcher, noise)) > 1e-2


@pytest.mark.parametrize("fails", [False, True])
def test_positions_are_made_once_per_size_and_run(models, fails):
    """Windows of one size, and of one more with an anchor frame in front; nothing is kept after the run."""
    patcher = load("CogVideoX-2b")[0]
    windows = windowed(patcher, 4, 2, first_latent="anchor", window_batch=1)
    network, kept = patcher.model.diffusion_model, []

    def look(apply_model, args):
        out = apply_model(args["input"], args["timestep"], **args["c"])
        kept.append(len(network.positions.made))
        if fails and len(kept) == 5:
            raise comfy.model_management.InterruptProcessingException()
        return out

    windows.set_model_unet_function_wrapper(look)
    network.positions.forget()
    with made_by(patcher) as sizes:
        for _ in range(2):
            try:
                sample(windows, noise_of("CogVideoX-2b", 10), steps=2)
            except comfy.model_management.InterruptProcessingException:
                assert fails
            assert not network.positions.made
    assert sorted(set(sizes)) == [(HEIGHT, WIDTH, 13), (HEIGHT, WIDTH, 17)]
    assert len(sizes) == 4 and max(kept) == 2
    assert not any("pos" in name for name in network.state_dict())


def test_positions_are_kept_of_few_sizes(models):
    patcher = load("CogVideoX-2b")[0]
    positions = patcher.model.diffusion_model.positions
    with made_by(patcher) as sizes:
        for frames in (2, 3, 4, 3, 4, 2):
            apply(patcher, noise_of("CogVideoX-2b", frames))
            assert len(positions.made) <= 2
    assert [(n - 1) // 4 + 1 for _, _, n in sizes] == [2, 3, 4, 2]
    positions.forget()
