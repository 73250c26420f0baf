"""CogVideoX against diffusers' own pipelines, VAE and text encoder, and among ComfyUI's samplers, LoRA and windows."""

import comfy.lora
import comfy.sample
import comfy.sd
import pytest
import torch
from comfy.ldm.modules.attention import attention_pytorch
from comfy_extras.nodes_torch_compile import TorchCompileModel
from diffusers import (
    AutoencoderKLCogVideoX,
    CogVideoXDDIMScheduler,
    CogVideoXImageToVideoPipeline,
    CogVideoXPipeline,
    CogVideoXTransformer3DModel,
)
from longtake.backbone.cogvideox import load as cogvideox
from longtake.backbone.cogvideox import text as cogvideox_text
from longtake.backbone.cogvideox.files import IN_FOLDER
from longtake.backbone.cogvideox.vae import preview_colours
from longtake.samplers.adapters.latents import temporal_compression
from support import zoo
from support.compare import distance
from support.shared import ditctrl, infinity
from support.tiny_cogvideox import (
    CFG,
    HEIGHT,
    STEPS,
    TEXT,
    VARIANTS,
    WIDTH,
    image_conds,
    load,
    model_folders,
    noise_of,
    prompts,
    sample,
    start_image,
)
from support.windows import anchored, windowed
from transformers import T5EncoderModel

pytestmark = pytest.mark.usefixtures("one_thread")

every_variant = pytest.mark.parametrize("name", VARIANTS)


@pytest.fixture(autouse=True, scope="module")
def models(tmp_path_factory):
    with model_folders(tmp_path_factory.mktemp("models")) as root:
        yield root


def pipeline(models, name, noise, transformer=None, image=None):
    """What diffusers makes of `noise`."""
    path = models / "diffusers" / name
    cls = CogVideoXPipeline if image is None else CogVideoXImageToVideoPipeline
    pipe = cls(
        None, None, AutoencoderKLCogVideoX.from_pretrained(path / "vae"),
        transformer or CogVideoXTransformer3DModel.from_pretrained(path / "transformer"),
        CogVideoXDDIMScheduler.from_pretrained(path / "scheduler"),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    positive, negative = prompts()
    extra = {} if image is None else {"image": image.movedim(-1, 1)}
    return pipe(
        height=8 * HEIGHT, width=8 * WIDTH, num_frames=4 * noise.shape[2] - 3, num_inference_steps=STEPS,
        guidance_scale=CFG, latents=noise.transpose(1, 2), prompt_embeds=positive, negative_prompt_embeds=negative,
        output_type="latent", **extra,
    ).frames.transpose(1, 2)  # fmt: skip


# ---- against diffusers -------------------------------------------------------------------------------------------


@every_variant
def test_equals_diffusers_pipeline(models, name):
    patcher, _, vae = load(name)
    noise, image = noise_of(name), start_image() if name.endswith("I2V") else None
    extra = {} if image is None else image_conds(vae)
    assert distance(sample(patcher, noise, **extra), pipeline(models, name, noise, image=image)) < 1e-3


def test_the_image_matters(models):
    patcher, _, vae = load("CogVideoX-5b-I2V")
    noise = noise_of("CogVideoX-5b-I2V")
    assert distance(sample(patcher, noise, **image_conds(vae)), sample(patcher, noise)) > 1e-2


@pytest.mark.parametrize("name", ["CogVideoX-5b-I2V", "CogVideoX1.5-5B-I2V"])
def test_a_masked_image_is_the_image_alone(models, name):
    """As WanImageToVideo writes it: latents of a whole video, of which the mask (0) leaves the first."""
    patcher, _, vae = load(name)
    noise, image = noise_of(name, 4), image_conds(vae)["concat_latent_image"]
    video = torch.cat([image, zoo.randn(1, 16, 3, HEIGHT, WIDTH, seed=6)], dim=2)
    mask = torch.ones(1, 1, 4, HEIGHT, WIDTH)
    mask[:, :, 0] = 0.0
    wan = {"concat_latent_image": video, "concat_mask": mask}
    assert torch.equal(sample(patcher, noise, steps=2, **wan), sample(patcher, noise, steps=2, **image_conds(vae)))


@pytest.mark.parametrize("name", ["CogVideoX-2b", "CogVideoX-5b"])
def test_sigmas_are_the_schedulers(models, name):
    """But for the last, where ComfyUI's would be infinite."""
    scheduler = CogVideoXDDIMScheduler.from_pretrained(models / "diffusers" / name / "scheduler")
    sigmas = load(name)[0].get_model_object("model_sampling").sigmas
    alpha_bar = scheduler.alphas_cumprod
    assert torch.allclose(sigmas[:-1], ((1 - alpha_bar) / alpha_bar).sqrt()[:-1].float(), rtol=1e-4)
    assert float(alpha_bar[-1]) == 0.0 and float(sigmas[-1]) == pytest.approx(4518.8, rel=1e-3)


def frames_of(seed, frames=9):
    return torch.rand(frames, 32, 48, 3, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("frames", [1, 9, 21])
def test_vae_encode_equals_diffusers(models, frames):
    pixels = frames_of(7, frames)
    theirs = AutoencoderKLCogVideoX.from_pretrained(models / "diffusers" / "CogVideoX-2b" / "vae")
    with torch.no_grad():
        expected = theirs.encode(pixels.movedim(-1, 0)[None] * 2 - 1).latent_dist.mode()
    ours = load("CogVideoX-2b")[2].encode(pixels)
    assert ours.shape == (1, 16, (frames + 3) // 4, 4, 6) and distance(ours, expected) < 1e-4


@pytest.mark.parametrize("frames", [1, 3, 5])
def test_vae_decode_equals_diffusers(models, frames):
    latents = zoo.randn(1, 16, frames, 4, 6, seed=8)
    theirs = AutoencoderKLCogVideoX.from_pretrained(models / "diffusers" / "CogVideoX-2b" / "vae")
    with torch.no_grad():
        expected = (theirs.decode(latents).sample / 2 + 0.5).clamp(0, 1).movedim(1, -1)
    ours = load("CogVideoX-2b")[2].decode(latents)
    assert ours.shape == (1, 4 * frames - 3, 32, 48, 3) and distance(ours, expected) < 1e-4


def test_vae_with_an_even_number_of_latent_frames(models):
    """Decodes to 4n-3 frames; those before the last chunk are those of the longer video."""
    vae, latents = load("CogVideoX1.5-5B")[2], zoo.randn(1, 16, 6, 4, 6, seed=8)
    ours, longer = vae.decode(latents), vae.decode(torch.cat([latents, latents[:, :, :1]], dim=2))
    assert ours.shape[1] == 21 and torch.allclose(ours[:, :17], longer[:, :17], atol=1e-5)


def test_vae_leaves_out_frames_past_4n_plus_1(models):
    vae, pixels = load("CogVideoX-2b")[2], frames_of(7, 12)
    assert torch.equal(vae.encode(pixels), vae.encode(pixels[:9]))


def test_vae_tiled(models):
    vae, latents = load("CogVideoX-2b")[2], zoo.randn(1, 16, 5, 8, 8, seed=9)
    with torch.inference_mode():  # as ComfyUI runs nodes
        whole = vae.decode(latents)
        tiled = vae.decode_tiled(latents, tile_x=6, tile_y=6, overlap=2, tile_t=3, overlap_t=1)
    assert tiled.shape == whole.shape and distance(tiled, whole) < 0.5
    pixels = frames_of(7, 9)
    assert vae.encode_tiled(pixels, tile_x=32, tile_y=32, overlap=8).shape == vae.encode(pixels).shape


@pytest.mark.parametrize("prompt", ["a cat", "", "a very long prompt " * 100])
def test_clip_equals_the_text_encoder_on_226_tokens(models, prompt):
    clip = load("CogVideoX-2b")[1]
    tokens = clip.tokenize(prompt)
    ids = [token for token, _ in tokens["t5xxl"][0]]
    assert len(ids) == cogvideox_text.TOKENS and ids.count(1) == 1  # one end token
    theirs = T5EncoderModel.from_pretrained(models / "diffusers" / "CogVideoX-2b" / "text_encoder")
    with torch.no_grad():
        expected = theirs(torch.tensor([ids]))[0]
    cond = clip.encode_from_tokens_scheduled(tokens)[0][0]
    assert cond.shape == (1, 226, TEXT) and distance(cond, expected) < 1e-4


# ---- in ComfyUI --------------------------------------------------------------------------------------------------


def lora_weights(seed=10):
    weights = {}
    for i, name in enumerate(["attn1.to_q", "attn1.to_out.0", "ff.net.0.proj"]):
        wide = 512 if name.startswith("ff") else 128
        key = f"transformer.transformer_blocks.1.{name}"
        weights[key + ".lora_A.weight"] = zoo.randn(4, 128, seed=seed + i) / 8
        weights[key + ".lora_B.weight"] = zoo.randn(wide, 4, seed=seed + 10 + i) / 4
    return weights


def test_a_lora_in_diffusers_format_applies(models):
    name, lora = "CogVideoX-5b", lora_weights()
    merged = CogVideoXTransformer3DModel.from_pretrained(models / "diffusers" / name / "transformer")
    for key in {k.split(".lora_")[0] for k in lora}:
        layer = merged.get_submodule(key.removeprefix("transformer."))
        layer.weight.data += lora[key + ".lora_B.weight"] @ lora[key + ".lora_A.weight"]
    noise, patcher = noise_of(name), load(name)[0]
    plain = sample(patcher, noise)
    with_lora, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0.0)
    ours = sample(with_lora, noise)
    assert distance(ours, pipeline(models, name, noise, merged)) < 1e-3
    assert distance(ours, plain) > 1e-2
    assert torch.equal(sample(patcher, noise), plain)  # the loaded model stays as it was


@pytest.mark.parametrize("prefix", ["", "transformer.", "diffusion_model."])
def test_lora_names(models, prefix):
    names = comfy.lora.model_lora_keys_unet(load("CogVideoX-2b")[0].model, {})
    assert names[prefix + "transformer_blocks.0.attn1.to_k"] == "diffusion_model.transformer_blocks.0.attn1.to_k.weight"


@every_variant
def test_two_windows_without_overlap_are_two_clips(models, name):
    """Positions start at 0 in each, and the start image belongs to the first."""
    patcher, _, vae = load(name)
    image = image_conds(vae) if name.endswith("I2V") else {}
    noise = noise_of(name, 8)
    together = sample(windowed(patcher, 4, 0), noise, steps=2, **image)
    first = sample(patcher, noise[:, :, :4], steps=2, **image)
    second = sample(patcher, noise[:, :, 4:], steps=2)
    assert distance(together, torch.cat([first, second], dim=2)) < 1e-5


def test_windows_overlap_and_any_sampler(models):
    noise = noise_of("CogVideoX-2b", 8)
    out = sample(windowed(load("CogVideoX-2b")[0], 5, 2, schedule="random_shift"), noise, "dpmpp_2m", 3)
    assert out.shape == noise.shape and out.isfinite().all()


def test_abam_anchors_the_video_tokens(models):
    """Against an override that notes the first window's keys and values and mixes them into the second's."""
    patcher, a, kept = load("CogVideoX-2b")[0], 0.3, {}
    noise = noise_of("CogVideoX-2b", 8)

    def by_hand(func, q, k, v, *args, **kwargs):
        options = kwargs["transformer_options"]
        key = (options["block_index"], tuple(options["cond_or_uncond"]))
        if options["longtake"]["windows"][0][0] == 0:
            kept[key] = (k, v)
        else:
            k, v = k.clone(), v.clone()
            for own, first in zip((k, v), kept[key], strict=True):
                own[..., 226:, :] = (1 - a) * own[..., 226:, :] + a * first[..., 226:, :]
        return func(q, k, v, *args, **kwargs)

    override = windowed(patcher, 4, 0)
    override.model_options["transformer_options"]["optimized_attention_override"] = by_hand
    plain, expected = sample(windowed(patcher, 4, 0), noise, steps=2), sample(override, noise, steps=2)
    ours = sample(anchored(windowed(patcher, 4, 0), a), noise, steps=2)
    assert distance(ours, expected) < 1e-4 and distance(ours, plain) > 1e-3
    assert {block for block, _ in kept} == {0, 1}


def test_ditctrl_shares_text_and_video_tokens(models):
    """Two windows are a source and a target, each evaluated once: against an override that hands over all keys."""
    patcher, kept, noise = load("CogVideoX-2b")[0], {}, noise_of("CogVideoX-2b", 8)

    def by_hand(func, q, k, v, *args, **kwargs):
        options = kwargs["transformer_options"]
        key = (options["block_index"], tuple(options["cond_or_uncond"]))
        if options["longtake"]["windows"][0][0] == 0:
            kept[key] = (k, v)
        elif options["block_index"] == 1:
            k, v = kept[key]
        return func(q, k, v, *args, **kwargs)

    override = windowed(patcher, 4, 0)
    override.model_options["transformer_options"]["optimized_attention_override"] = by_hand
    plain, expected = sample(windowed(patcher, 4, 0), noise, steps=2), sample(override, noise, steps=2)
    ours = sample(ditctrl(windowed(patcher, 4, 0)), noise, steps=2)
    assert distance(ours, expected) < 1e-4 and distance(ours, plain) > 1e-3
    batched = sample(ditctrl(windowed(patcher, 4, 0, window_batch=2)), noise, steps=2)
    assert distance(batched, ours) < 1e-4


@pytest.mark.parametrize("name", ["CogVideoX-2b", "CogVideoX1.5-5B"])
def test_spread_frames_are_attended_to(models, name):
    """In 1.5 a token holds two latent frames."""
    patcher, noise = load(name)[0], noise_of(name, 8)
    ours = sample(infinity(windowed(patcher, 4, 2), frames=2), noise, steps=2)
    assert distance(ours, sample(windowed(patcher, 4, 2), noise, steps=2)) > 1e-3
    batched = sample(infinity(windowed(patcher, 4, 2, window_batch=4), frames=2), noise, steps=2)
    assert distance(batched, ours) < 1e-4


def test_every_weight_can_be_offloaded_and_cast(models):
    model = load("CogVideoX-5b")[0].model
    owners = [m for m in model.diffusion_model.modules() if list(m.parameters(recurse=False))]
    assert owners and all(hasattr(m, "comfy_cast_weights") for m in owners)


def test_a_model_loaded_in_part_is_the_model_with_its_lora(models):
    """Weights that ComfyUI leaves outside the GPU are cast, and patched, as they are used."""
    fresh = cogvideox.load("CogVideoX-5b", IN_FOLDER, IN_FOLDER, "default")[0]
    patcher, _ = comfy.sd.load_lora_for_models(fresh, None, lora_weights(), 1.0, 0.0)
    cpu, x, context = torch.device("cpu"), noise_of("CogVideoX-5b"), prompts()[0]

    def apply(**kwargs):
        patcher.patch_model(cpu, **kwargs)
        try:
            with torch.inference_mode():
                out = patcher.model.apply_model(x, torch.tensor([5.0]), c_crossattn=context, transformer_options={})
            return out, sum(getattr(m, "comfy_cast_weights", False) for m in patcher.model.modules())
        finally:
            patcher.unpatch_model(cpu)

    (whole, none), (part, some) = apply(), apply(lowvram_model_memory=64)
    assert none == 0 < some and distance(part, whole) < 1e-5


def test_weight_dtype(models):
    patcher = load("CogVideoX-5b-I2V", weight_dtype="fp8_e4m3fn")[0]
    noise, plain = noise_of("CogVideoX-5b-I2V"), load("CogVideoX-5b-I2V")[0]
    assert patcher.model.get_dtype() == torch.float8_e4m3fn
    assert 0 < distance(sample(patcher, noise, steps=2), sample(plain, noise, steps=2)) < 0.5


@pytest.mark.parametrize(("name", "expected"), [
    ("CogVideoX-5b", 1), ("CogVideoX-2b", 2),  # one that makes the positions, one that has them
])  # fmt: skip
def test_more_windows_compile_no_more(models, name, expected):
    graphs = []

    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward

    def attend(func, *args, **kwargs):  # on a CPU core attends in pieces, of which each would be a graph
        return attention_pytorch(*args, **kwargs)

    torch._dynamo.reset()
    patcher = load(name)[0].clone()
    patcher.model_options["transformer_options"]["optimized_attention_override"] = attend
    patcher = TorchCompileModel.execute(patcher, backend).args[0]
    sample(windowed(patcher, 4, 2), noise_of(name, 6), steps=2)
    assert len(graphs) == expected
    noise = noise_of(name, 10)
    ours, plain = (sample(windowed(p, 4, 2), noise, "euler", steps=2) for p in (patcher, load(name)[0]))
    assert len(graphs) == expected and distance(ours, plain) < 1e-4


def test_sizes_that_are_no_multiple_of_the_patch(models):
    noise = torch.zeros(1, 16, 3, 7, 9)
    assert sample(load("CogVideoX-5b")[0], noise, steps=1).shape == noise.shape


def test_latent_format(models):
    latent = load("CogVideoX-2b")[0].model.latent_format
    assert temporal_compression(latent) == 4 and latent.scale_factor == 1.15258426
    factors, bias = torch.tensor(latent.latent_rgb_factors), torch.tensor(latent.latent_rgb_factors_bias)
    assert factors.shape == (16, 3) and bias.shape == (3,) and factors.isfinite().all()


def test_preview_colours_are_exact_where_latents_are_linear_in_colour():
    mix = zoo.randn(16, 3, seed=11)

    class Linear:
        def encode(self, pixels):
            colours = torch.nn.functional.avg_pool2d(pixels.movedim(-1, 1), 8) * 2 - 1
            return torch.einsum("lc,bchw->blhw", mix, colours)[:, :, None] + 0.3

    factors, bias = (torch.tensor(t) for t in preview_colours(Linear(), 0.7))
    colours = torch.rand(5, 3, generator=torch.Generator().manual_seed(12)) * 2 - 1
    latents = (colours @ mix.T + 0.3) * 0.7
    assert torch.allclose(latents @ factors + bias, colours, atol=1e-4)


def test_what_the_model_cannot_do_is_an_error(models):
    with pytest.raises(ValueError, match="pairs of latent frames.*has 5 .17 pixel.*13 or 21"):
        sample(load("CogVideoX1.5-5B")[0], noise_of("CogVideoX-5b", 5), steps=1)
    with pytest.raises(ValueError, match="learned positions for 96x64 pixels and up to 17 frames.*96x64 and 21"):
        sample(load("CogVideoX-5b-I2V")[0], noise_of("CogVideoX-5b", 6), steps=1)
    with pytest.raises(ValueError, match="learned positions"):
        sample(load("CogVideoX-5b-I2V")[0], torch.zeros(1, 16, 3, 8, 8), steps=1)
    with pytest.raises(ValueError, match="the start image's latent"):
        image = {"concat_latent_image": torch.zeros(1, 4, 8, 12)}
        sample(load("CogVideoX-5b-I2V")[0], noise_of("CogVideoX-5b"), steps=1, **image)
    short = [[zoo.randn(1, 128, TEXT, seed=2), {}]]
    noise = noise_of("CogVideoX-2b")
    with pytest.raises(ValueError, match="the prompt has 128 tokens.*takes 226"):
        comfy.sample.sample(
            load("CogVideoX-2b")[0], noise, 1, 1.0, "ddim", "simple", short, short, noise, disable_pbar=True, seed=0
        )
