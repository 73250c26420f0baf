"""The demo model loads through ComfyUI's own loaders; its text encoder, VAE and world do what they say."""

import random

import comfy.latent_formats
import comfy.ldm.wan.vae
import comfy.model_base
import comfy.model_management
import pytest
import torch
from comfy.cli_args import args as cli_args
from longtake.backbone.demo import latent, loader, text, world
from longtake.backbone.demo.training import assemble, common, parallel_vae
from longtake.backbone.demo.training.vae import (
    cheap_norm,
    draw_images,
    encoder_loss,
    fuse_norms,
    half,
    heads,
    held_decoder,
    inflate,
    initialise,
    motion_only,
    picture_loss,
    videos,
)
from longtake.samplers.adapters import preview
from safetensors.torch import load_file

import nodes as core_nodes


@pytest.fixture(scope="module")
def backbone():
    return loader.load_model(), loader.load_clip(), loader.load_vae()


@pytest.fixture(scope="module")
def exact_vae():
    """ComfyUI's module with the shipped weights in float32, whatever the loader computes in here."""
    return common.new_vae(load_file(loader.OWN / "vae.safetensors"))


def encode(clip, prompt):
    return clip.encode_from_tokens_scheduled(clip.tokenize(prompt))


def test_comfyui_detects_a_wan_model_and_vae(backbone):
    model, _, vae = backbone
    assert isinstance(model.model, comfy.model_base.WAN21)
    assert isinstance(vae.first_stage_model, comfy.ldm.wan.vae.WanVAE)
    assert model.get_model_object("model_sampling").shift == loader.SHIFT
    assert model.model.diffusion_model.dim == 256 and len(model.model.diffusion_model.blocks) == 6


def test_prompts_become_rows_of_known_words(backbone):
    clip = backbone[1]
    cond, extra = encode(clip, "a red circle bouncing on a navy background")[0]
    assert cond.shape == (1, text.TOKENS, text.WIDTH) and extra["pooled_output"] is None
    assert (cond.abs().sum(-1) > 0).sum() == 4
    same = encode(clip, "A red circle on a navy background, bouncing, red")[0][0]  # order and repeats do not matter
    assert torch.equal(cond.sum(1), same.sum(1))
    assert torch.equal(encode(clip, "a red ball rolling")[0][0], encode(clip, "red circle sliding")[0][0])
    assert not encode(clip, "")[0][0].any()


def test_unknown_words_share_one_row_and_weights_scale(backbone, caplog):
    clip = backbone[1]
    encode(clip, "a zebra gallops, a (purple:1.2) zebra")
    assert "it does not know zebra, gallops (" in caplog.text
    unknown = encode(clip, "zebra gallops")[0][0]
    assert (unknown.abs().sum(-1) > 0).sum() == 1
    assert torch.equal(unknown, encode(clip, "quick brownish fox")[0][0])
    heavy, plain = encode(clip, "(red:1.5) circle")[0][0], encode(clip, "red circle")[0][0]
    assert torch.allclose(heavy[0, 0], 1.5 * plain[0, 0]) and torch.equal(heavy[0, 1], plain[0, 1])
    assert encode(clip, " ".join(text.VOCABULARY["words"]))[0][0].shape == (1, text.TOKENS, text.WIDTH)


def test_training_sees_the_same_numbers_as_the_clip(backbone):
    clip = backbone[1]
    prompts = ["a green ring spinning", "", "a zebra"]
    rows = text.encode(clip.cond_stage_model.embedding.float(), prompts)
    for row, prompt in zip(rows, prompts, strict=True):
        assert torch.equal(row, encode(clip, prompt)[0][0][0, :, : row.shape[1]])


def test_a_lora_changes_the_demo_model(backbone):
    import comfy.sd

    model, clip, _ = backbone
    key = "diffusion_model.blocks.0.self_attn.q"
    up, down = torch.randn(256, 2), torch.randn(2, 256)
    lora = {f"{key}.lora_up.weight": up, f"{key}.lora_down.weight": down, f"{key}.alpha": torch.tensor(2.0)}
    patched, _ = comfy.sd.load_lora_for_models(model, clip, lora, 1.0, 0.0)
    weight = model.model.diffusion_model.blocks[0].self_attn.q.weight.clone()
    patched.patch_model()
    try:
        assert torch.allclose(model.model.diffusion_model.blocks[0].self_attn.q.weight, weight + up @ down, atol=1e-4)
    finally:
        patched.unpatch_model()


def test_the_whole_clip_vae_equals_comfyuis_chunked_one(exact_vae):
    vae = exact_vae
    clip = world.render(world.sample_scene(random.Random(3)), 17).permute(3, 0, 1, 2)[None] * 2 - 1
    with torch.no_grad():
        latent = vae.encode(clip)
        assert torch.allclose(parallel_vae.encode(vae, clip), latent, atol=1e-4)
        assert torch.allclose(parallel_vae.decode(vae, latent), vae.decode(latent), atol=1e-4)


def test_a_vae_of_images_becomes_one_of_clips():
    """A convolution over one frame is its last tap; inflated, every frame of a clip is drawn like an image."""
    torch.manual_seed(0)
    vae = common.new_vae(dim=4)
    initialise(vae)
    z, pictures = torch.randn(3, 16, 1, 2, 2), torch.rand(3, 3, 1, 16, 16) * 2 - 1
    still = pictures.expand(-1, -1, 9, -1, -1)
    usual = comfy.ldm.wan.vae.CausalConv3d.forward
    with torch.no_grad():
        drawn, told = parallel_vae.decode(vae, z), parallel_vae.encode(vae, pictures)
        parallel_vae.one_frame()
        try:
            assert torch.allclose(parallel_vae.decode(vae, z), drawn, atol=1e-5)
            assert torch.allclose(parallel_vae.encode(vae, pictures), told, atol=1e-5)
        finally:
            comfy.ldm.wan.vae.CausalConv3d.forward = usual
        inflate(vae)
        clip = parallel_vae.decode(vae, z[:, :, 0].transpose(0, 1)[None])
        assert torch.allclose(clip[0, :, :1].transpose(0, 1), drawn[:1, :, 0], atol=1e-5)
        for i in (1, 2):
            frames = clip[0, :, 4 * i - 3:4 * i + 1]
            assert torch.allclose(frames, drawn[i].expand_as(frames), atol=1e-5)
        assert torch.allclose(parallel_vae.encode(vae, still), told.expand(-1, -1, 3, -1, -1), atol=1e-5)


def test_latents_tell_where_the_subject_is():
    """Place, size and angle in every pixel frame are solved for from the offsets that cells near the subject hold."""
    rng = random.Random(5)
    axis = (torch.arange(8) + 0.5) / 8
    v, u = torch.meshgrid(axis, axis, indexing="ij")
    for motion in world.MOTIONS:
        scene = world.sample_scene(rng, motion=motion)
        pose = world.pose(scene, torch.arange(17.0))
        z = latent.of_clip(scene, 17)
        back = torch.linalg.pinv(latent.waves() * torch.tensor(latent.OFFSET)[:, None])  # [4, 3]
        for k in range(1, 5):
            near = z[7, k].abs() / z[7, k].abs().max()
            where = near > 0.9
            places = torch.einsum("fk,kchw->fchw", back, z[10:, k].view(3, 2, 8, 8) / near)
            design = torch.stack((u[where], v[where], torch.ones(int(where.sum()))), 1)
            for f in range(4):
                a, b = torch.linalg.lstsq(design, places[f][:, where].T).solution.T  # u, v in the subject's frame
                x, y = torch.linalg.solve(torch.stack((a[:2], b[:2])), -torch.stack((a[2], b[2])))
                found = torch.stack((x, y, 1 / a[:2].norm(), torch.atan2(a[1], a[0])))
                told = torch.stack([p[4 * k - 3 + f] for p in pose])
                told[3] = torch.remainder(told[3] + torch.pi, 2 * torch.pi) - torch.pi
                assert torch.allclose(found, told, atol=0.02), (motion, k, f, found, told)


def test_an_encoder_is_trained_through_a_decoder_which_stays(tmp_path):
    """What the decoder draws of what the encoder tells counts beside the latent, and its error reaches the encoder."""
    torch.manual_seed(0)
    given = {k: v.bfloat16() for k, v in half("decoder", 4).state_dict().items()}
    common.save_weights(given, tmp_path / "decoder.safetensors")
    decoder, vae = held_decoder(tmp_path / "decoder.safetensors", 4), half("encoder", 4).bfloat16()
    clip, z = videos(random.Random(0), 1, 5)
    (told, _), (through, error) = encoder_loss(vae, clip, z), encoder_loss(vae, clip, z, decoder)
    drawn, squared = picture_loss(parallel_vae.decode(decoder, parallel_vae.encode(vae, clip.bfloat16())), clip, z)
    assert torch.equal(through, told + drawn) and torch.equal(error, squared)
    drawn.backward()
    assert all(p.grad.any() for p in vae.parameters()) and all(p.grad is None for p in decoder.parameters())
    assert all(torch.equal(v, given[k]) for k, v in decoder.state_dict().items())


@pytest.mark.parametrize("chosen", [None, "fp32_vae", "fp16_vae", "bf16_vae", "force_fp32"])
def test_the_vae_computes_in_bf16_where_a_cpu_does_and_nobody_chose(chosen, monkeypatch):
    def choose(device, quick):
        """quick: what torch says of the CPU; None: it has no word for it."""
        monkeypatch.setattr(comfy.model_management, "vae_device", lambda: torch.device(device))
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: quick, raising=False)
        if quick is None:
            monkeypatch.delattr(torch.cpu, "_is_avx512_bf16_supported")
        return loader._vae_dtype()

    if chosen:
        monkeypatch.setattr(cli_args, chosen, True)
    assert choose("cpu", True) == (None if chosen else torch.bfloat16)
    assert choose("cpu", False) is None and choose("cpu", None) is None and choose("cuda", True) is None


@pytest.mark.parametrize("dtype, error", [(torch.bfloat16, 1e-5), (torch.float32, 1e-10)])
def test_either_precision_gives_the_same_pictures(exact_vae, monkeypatch, dtype, error):
    """bfloat16 within 50 dB, float32 to rounding, there and back."""
    monkeypatch.setattr(loader, "_vae_dtype", lambda: dtype)
    vae, clip = loader.load_vae(), world.render(world.sample_scene(random.Random(4)), 9)
    assert vae.vae_dtype == dtype and next(vae.first_stage_model.parameters()).dtype == dtype
    with torch.no_grad():
        exact = exact_vae.decode(exact_vae.encode(clip.permute(3, 0, 1, 2)[None] * 2 - 1))
    exact = (exact[0].permute(1, 2, 3, 0) / 2 + 0.5).clamp(0, 1)
    assert (vae.decode(vae.encode(clip))[0] - exact).square().mean() < error


@pytest.mark.parametrize("shape", [(6, 20), (20, 6)])
def test_muon_steps_are_near_orthogonal(shape):
    torch.manual_seed(0)
    assert (torch.linalg.svdvals(common.orthogonal(torch.randn(shape))) - 1).abs().max() < 0.35


@pytest.mark.parametrize("fused", [True, False])
def test_quicker_norms_are_cores(exact_vae, monkeypatch, fused):
    """What is compiled, computed without the compiler."""
    clip = torch.rand(1, 3, 9, 64, 64) * 2 - 1
    with torch.inference_mode():
        plain = exact_vae.decode(exact_vae.encode(clip))
    norm = comfy.ldm.wan.vae.RMS_norm
    monkeypatch.setattr(norm, "forward", norm.forward if fused else cheap_norm)
    quicker = common.new_vae(exact_vae.state_dict())
    if fused:
        monkeypatch.setattr(torch, "compile", lambda function, **options: function)
        fuse_norms(quicker)
        assert norm.forward.__module__ == fuse_norms.__module__
    with torch.inference_mode():
        torch.testing.assert_close(quicker.decode(quicker.encode(clip)), plain, rtol=1e-4, atol=1e-4)


def test_told_latents_become_cores_raw_ones_and_the_picture_stays():
    torch.manual_seed(0)
    vae = common.new_vae(dim=4)
    initialise(vae)
    mean, std, clip = torch.randn(16), torch.rand(16) + 0.5, torch.rand(1, 3, 5, 16, 16) * 2 - 1
    shape = (1, 16, 1, 1, 1)
    with torch.no_grad():
        z = parallel_vae.encode(vae, clip)
        picture = parallel_vae.decode(vae, z)
        assemble.to_raw(vae, mean, std)
        raw = parallel_vae.encode(vae, clip)
        assert torch.allclose(raw, z * std.view(shape) + mean.view(shape), atol=1e-4)
        assert torch.allclose(parallel_vae.decode(vae, raw), picture, atol=1e-3)


def test_motion_is_learned_without_a_change_to_what_images_taught():
    """Only older taps, time convolutions, the head and the latent's own convolution have a gradient."""
    torch.manual_seed(0)
    vae = common.new_vae(dim=4)
    initialise(vae)
    motion_only(vae)
    parallel_vae.decode(vae, parallel_vae.encode(vae, torch.rand(1, 3, 9, 16, 16))).square().mean().backward()
    for name, p in vae.named_parameters():
        if p.grad is None:
            assert p.ndim < 5 or p.shape[2] == 1, name
        elif "time_conv" not in name and "head" not in name and p.shape[2] == 3:
            assert p.grad[:, :, -1].eq(0).all() and p.grad[:, :, :-1].any(), name
    assert vae.decoder.head[2].weight.grad[:, :, -1].any() and vae.conv2.weight.grad.any()


def test_heads_draw_whole_pictures():
    torch.manual_seed(0)
    vae = common.new_vae(dim=4)
    initialise(vae)
    vae.heads = heads(4)
    z = torch.randn(2, 16, 1, 8, 8)
    with torch.no_grad():
        pictures = draw_images(vae, z)
        assert [p.shape for p in pictures] == [(2, 3, 1, 64, 64)] * 4
        assert torch.equal(pictures[0], parallel_vae.decode(vae, z))
        for head, picture, cells in zip(vae.heads, pictures[1:], (8, 16, 32), strict=True):
            head.weight.zero_()  # what is left is the bias: the same in every cell
            flat = draw_images(vae, z)[1 + (8, 16, 32).index(cells)]
            side = 64 // cells
            assert torch.equal(flat[..., :side, :side].repeat(1, 1, 1, cells, cells), flat)
            assert not torch.equal(flat, picture)


def test_the_shipped_vae_sees_what_scenes_tell(backbone, exact_vae):
    """Its latents are the told ones, turned for the previews."""
    vae, latent_format = exact_vae, backbone[0].model.latent_format
    clip, z = videos(random.Random(2), 12, 9)
    with torch.no_grad():
        seen = latent_format.process_in(parallel_vae.encode(vae, clip))
    z, seen = z.transpose(0, 1).flatten(1), seen.transpose(0, 1).flatten(1)
    left = seen - assemble.procrustes(seen, z) @ z
    assert left.square().mean() < 0.02 * z.square().mean()


def test_turning_the_latent_changes_neither_the_pictures_nor_the_model(backbone, exact_vae):
    """Rotated weights on rotated latents give the same pictures and rotated predictions."""
    model, vae = backbone[0], exact_vae
    wan = model.model.diffusion_model
    latent_format = model.model.latent_format
    mean, std = latent_format.latents_mean.flatten(), latent_format.latents_std.flatten()
    torch.manual_seed(0)
    r = torch.linalg.qr(torch.randn(16, 16)).Q
    clip = world.render(world.sample_scene(random.Random(3)), 9).permute(3, 0, 1, 2)[None] * 2 - 1
    z, t, context = torch.randn(1, 16, 3, 8, 8), torch.tensor([500.0]), torch.randn(1, 16, 4096)

    def turn(x):
        return torch.einsum("ci,bithw->bcthw", r, x)

    with torch.no_grad():
        raw, v = parallel_vae.encode(vae, clip), wan(z, t, context)
        picture = parallel_vae.decode(vae, raw)
        before = [{k: x.clone() for k, x in module.state_dict().items()} for module in (vae, wan)]
        try:
            vae.load_state_dict(assemble.rotate_vae(before[0], r, mean, std))
            wan.load_state_dict(assemble.rotate_model(before[1], r))
            turned = parallel_vae.encode(vae, clip)
            assert torch.allclose(latent_format.process_in(turned), turn(latent_format.process_in(raw)), atol=1e-3)
            assert torch.allclose(parallel_vae.decode(vae, turned), picture, atol=1e-3)
            assert torch.allclose(wan(turn(z), t, context), turn(v), atol=1e-3)
        finally:
            vae.load_state_dict(before[0])
            wan.load_state_dict(before[1])


def test_a_clip_samples_and_decodes(backbone):
    model, clip, vae = backbone
    latent = {"samples": torch.zeros(1, 16, 13, 8, 8)}
    out = core_nodes.common_ksampler(model, 1, 2, 4.0, "euler", "simple", encode(clip, "a red circle bouncing"),
                                     encode(clip, ""), latent)[0]
    assert vae.decode(out["samples"]).shape[-4:] == (49, 64, 64, 3)


def test_previews_show_the_models_own_colours(backbone):
    """Drawn from latents by ComfyUI, the subject is nearer to its own colour and the wall to the clip's than by core's
    factors of all Wans, and the subject than by a flat colour; another Wan's stay core's."""
    model, _, vae = backbone
    own, core = model.get_model_object("latent_format"), comfy.latent_formats.Wan21()
    assert own.latent_rgb_factors != core.latent_rgb_factors
    subject, wall = [], []
    for i, spec in enumerate(world.held_out(12)):
        scene = world.sample_scene(random.Random(i), *spec)
        clip = world.render(scene, 17)
        with torch.inference_mode():
            latent = own.process_in(vae.encode(clip))
        cells = torch.nn.functional.avg_pool2d(clip[::4].movedim(-1, 1), 8).movedim(1, -1)
        apart = (cells - cells.flatten(1, 2).median(1).values[:, None, None]).abs().amax(-1) > 0.15
        shown = [preview.frames_of(latent, of).float() / 255 for of in (own, core)] + [cells.mean((1, 2), keepdim=True)]
        own_colour = torch.tensor(scene.colour_rgb)
        subject.append([(f - own_colour).abs().mean(-1).expand_as(apart)[apart].mean() for f in shown])
        wall.append([(f - cells).abs().mean(-1)[~apart].mean() for f in shown])
    ours, cores, flat = torch.tensor(subject).mean(0)
    assert ours < 0.8 * cores and ours < 0.8 * flat
    ours, cores, _ = torch.tensor(wall).mean(0)
    assert ours < 0.75 * cores


def test_the_world_is_continuous_in_time():
    for seed in range(12):
        scene = world.sample_scene(random.Random(seed))
        video = world.render(scene, 60)
        assert torch.equal(world.render(scene, 20, start=40), video[40:])
        assert torch.equal(world.render(scene, 60), video)
        assert (video[1:] - video[:-1]).abs().mean() < 0.04


def test_held_out_prompts_are_balanced_and_never_trained():
    from longtake.backbone.demo.training.model import training_scene

    held = world.held_out()
    assert len(set(held)) == 60
    for position, names in enumerate((world.COLOURS, world.SHAPES, world.MOTIONS, world.BACKGROUNDS)):
        counts = [sum(spec[position] == n for spec in held) for n in names]
        assert max(counts) - min(counts) <= 4
    rng = random.Random(0)
    scenes = [training_scene(rng) for _ in range(500)]
    assert not {(s.colour, s.shape, s.motion, s.background) for s in scenes} & set(held)
