"""A decode in pieces gives the pixels of core's whole decode, for each class of VAE, and leaves the VAE as it was."""

import functools

import comfy.model_management
import comfy.sd
import pytest
import torch
from longtake.nodes.video import NODE
from longtake.samplers.adapters import vae_streams
from longtake.samplers.adapters.decoding import Decoding, videos
from longtake.samplers.adapters.vae_windows import Windows
from support.tiny_vaes import VAES, around, built
from support.zoo import random_weights

pytestmark = pytest.mark.usefixtures("as_core_runs_nodes")

LOOKS_BACK = [name for name in VAES if name.split("_")[0] in ("wan21", "wan22", "mochi", "cosmos")]
LTX = [name for name in VAES if name.startswith("ltx")]
CARRIED = hasattr(vae_streams, "LTX") and hasattr(built("ltx").first_stage_model.decoder, "run_up")
EXACT = [*LOOKS_BACK, *(LTX if CARRIED else [])]
WHOLE = [name for name in VAES if name.startswith("hunyuan")] + ([] if CARRIED else ["ltx"])


def streamed(decoding, pixel=0):
    return torch.cat(list(decoding.frames(pixel)))


def core(vae, latent):
    torch.manual_seed(vae_streams.LTX.SEED)  # of the noise that some LTX decoders add; core draws it anew each time
    return vae.decode(latent.clone())[0]


@pytest.mark.parametrize("name", EXACT)
@pytest.mark.parametrize("frames", [1, 2, 5])
def test_the_pixels_are_those_of_the_whole_decode(name, frames):
    vae, latent = built(name), VAES[name].latent(frames)
    decoding = Decoding(vae, latent)
    found, whole = streamed(decoding), core(vae, latent)
    assert decoding.exact and found.shape == whole.shape and len(found) == decoding.count
    assert (found - whole).abs().max() <= 1e-4 and whole.std() > 0.05


@pytest.mark.parametrize("name", [n for n in EXACT if n in ("wan21", "wan22")])
def test_wan_is_core_s_own_decode_bit_for_bit(name):
    vae, latent = built(name), VAES[name].latent(6)
    assert torch.equal(streamed(Decoding(vae, latent)), core(vae, latent))


@pytest.mark.parametrize("name", ["wan21", *(["ltx"] if CARRIED else []), "mochi"])
def test_a_later_start_gives_the_same_pixels_bit_for_bit(name):
    vae = built(name)
    memory = Decoding(vae, VAES[name].latent(2)).kind.memory(vae)
    latent = VAES[name].latent(memory + 14, 1, 2)
    decoding = Decoding(vae, latent)
    pixel = VAES[name].rate * (memory + 9) + 3
    assert decoding.kind.start_for(vae, latent.shape[2], pixel) > 2  # the test would show nothing otherwise
    assert torch.equal(streamed(decoding, pixel), streamed(decoding)[pixel:])


def test_the_reach_of_a_class_is_no_less_than_it_is():
    """Another first latent frame is seen as far as it can be: no further than `memory` says."""
    for name in ("wan21", "mochi"):
        vae = built(name)
        memory = Decoding(vae, VAES[name].latent(2)).kind.memory(vae)
        latent = VAES[name].latent(memory + 4, 2, 2)
        other = latent.clone()
        other[:, :, 0] += 1
        differs = (streamed(Decoding(vae, latent)) - streamed(Decoding(vae, other))).abs().flatten(1).amax(1)
        last = differs.nonzero().max().item()
        assert memory / 3 <= last / VAES[name].rate <= memory + 1


@pytest.mark.parametrize("name", WHOLE)
def test_classes_that_see_the_whole_are_decoded_whole_or_as_core_s_tiles(name):
    vae, latent = built(name), VAES[name].latent(7, 1, 2)
    assert torch.allclose(streamed(Decoding(vae, latent)), core(vae, latent), atol=1e-6)
    decoding = Decoding(vae, latent, window=4, overlap=2)
    tiled = vae.decode_tiled(latent.clone(), tile_x=64, tile_y=64, overlap=0, tile_t=4, overlap_t=2)[0]
    found = streamed(decoding)
    assert decoding.kind is Windows and not decoding.exact
    assert (found - tiled).abs().max() <= 1e-5 and (found - core(vae, latent)).abs().max() > 1e-3
    for pixel in (7, 12):
        assert torch.allclose(streamed(decoding, pixel), found[pixel:], atol=1e-6)


@pytest.mark.parametrize("name", ["wan21", "mochi"])
def test_tiles_of_the_picture_are_core_s(name):
    vae, latent = built(name), VAES[name].latent(3, 10, 12)
    found = streamed(Decoding(vae, latent, tile=8 * VAES[name].space))
    tiled = vae.decode_tiled(latent.clone(), tile_x=8, tile_y=8, overlap=2, tile_t=99, overlap_t=1)[0]
    assert (found - tiled).abs().max() <= 1e-5
    assert (found - core(vae, latent)).abs().max() > 1e-3


@pytest.mark.parametrize("frames", [1, 2, 5, 6])
def test_cogvideox_is_decoded_as_it_was_released(frames):
    """By diffusers, two latent frames at a time: with its own VAE, and with core's where it has one (whose whole decode
    normalises over the whole video instead)."""
    vae, latent = diffusers_cogvideox(), torch.randn(1, 16, frames, 4, 4)
    assert (streamed(Decoding(vae, latent)) - core(vae, latent)).abs().max() <= 1e-4
    if "cogvideox" in VAES:
        vae = built("cogvideox")
        whole = vae.process_output(vae.first_stage_model._decode_batched(latent))[0].movedim(0, -1)
        assert (streamed(Decoding(vae, latent)) - whole).abs().max() <= 1e-4


@functools.cache
def diffusers_cogvideox():
    from diffusers import AutoencoderKLCogVideoX
    from longtake.backbone.cogvideox.vae import CogVideoXVAE

    with torch.inference_mode(False):
        net = AutoencoderKLCogVideoX(block_out_channels=(32, 32, 32, 32), layers_per_block=1)
        return CogVideoXVAE(dict(net.config), random_weights(net.state_dict()))


def test_an_image_vae_s_batch_is_a_video():
    from comfy.ldm.models.autoencoder import AutoencoderKL

    sizes = {"double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32,
             "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
    config = {"params": {"ddconfig": sizes, "embed_dim": 4}}
    weights = random_weights(AutoencoderKL(**config["params"]).state_dict())
    vae = comfy.sd.VAE(sd=weights, config=config)
    latent = torch.randn(6, 4, 4, 4)
    (video,) = videos(NODE, {"samples": latent}, vae)
    assert (streamed(Decoding(vae, video)) - vae.decode(latent)).abs().max() <= 1e-4


def video_decoder():
    """Core's VAE of SVD, small: a VAE of images whose decoder has layers over time."""
    from comfy.ldm.models.autoencoder import AutoencodingEngine

    sizes = {"double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32,
             "ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}  # fmt: skip
    net = AutoencodingEngine(
        regularizer_config={"target": "comfy.ldm.models.autoencoder.DiagonalGaussianRegularizer"},
        encoder_config={"target": "comfy.ldm.modules.diffusionmodules.model.Encoder", "params": sizes},
        decoder_config={"target": "comfy.ldm.modules.temporal_ae.VideoDecoder",
                        "params": {**sizes, "video_kernel_size": [3, 1, 1], "alpha": 0.0}},
    )  # fmt: skip
    vae = around(net, 4, 1, 8)
    vae.latent_dim, vae.upscale_ratio, vae.downscale_ratio = 2, 8, 8
    vae.memory_used_decode = lambda shape, dtype: shape[0] * shape[2] * shape[3]
    return vae


def test_the_vae_of_a_u_net_sees_frames_together():
    """It takes a batch for a video: in overlapping windows, blended, and whole where they fit in one."""
    vae = video_decoder()
    latent = torch.randn(11, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    (video,) = videos(NODE, {"samples": latent}, vae)
    with torch.no_grad():
        whole = vae.process_output(vae.first_stage_model.decode(latent)).movedim(1, -1)
        apart = vae.process_output(vae.first_stage_model.decode(latent[:4])).movedim(1, -1)
        parts = [vae.first_stage_model.decode(latent[i : i + 6]) for i in (0, 4, 8)]
    assert (apart[-1] - whole[3]).abs().max() > 1e-2  # a border within the video is seen
    one = Decoding(vae, video)
    assert one.exact and (streamed(one) - whole).abs().max() <= 1e-4
    some = Decoding(vae, video, window=6, overlap=2)
    assert not some.exact
    total, weights = torch.zeros(11, 3, 32, 32), torch.zeros(11, 1, 1, 1)
    for first, part in zip((0, 4, 8), parts, strict=True):
        w = torch.ones(len(part))
        for i in range(min(2, len(part) - 1)):
            w[i], w[-1 - i] = w[i] * (i + 1) / 2, w[-1 - i] * (i + 1) / 2
        total[first : first + len(part)] += part * w.view(-1, 1, 1, 1)
        weights[first : first + len(part)] += w.view(-1, 1, 1, 1)
    expected = vae.process_output(total / weights).movedim(1, -1)
    assert (streamed(some) - expected).abs().max() <= 1e-4
    assert torch.equal(torch.cat(list(Decoding(vae, video, window=6, overlap=2).frames(7))), streamed(some)[7:])


@pytest.mark.parametrize("name", VAES)
def test_the_vae_is_left_as_it_was(name):
    vae = built(name)
    layers = dict(vae.first_stage_model.named_modules())

    def state():
        weights = {key: (value.data_ptr(), value.clone()) for key, value in vae.first_stage_model.state_dict().items()}
        return weights, {key: (type(layer), set(vars(layer))) for key, layer in layers.items()}

    core(vae, VAES[name].latent(1, 1, 2))  # core marks what it loads
    weights, kinds = state()
    stream = Decoding(vae, VAES[name].latent(5, 2, 2)).frames()
    next(stream)
    stream.close()  # cancelled
    now, kinds_now = state()
    assert kinds_now == kinds and dict(vae.first_stage_model.named_modules()) == layers
    assert all(now[key][0] == value[0] and torch.equal(now[key][1], value[1]) for key, value in weights.items())
    assert not any(getattr(layer, "temporal_cache_state", None) or hasattr(layer, "past") for layer in layers.values())


@pytest.mark.parametrize(("shape", "words"), [
    ((1, 48, 3, 4, 4), "does not fit the VAE"), ((3, 16, 4, 4), r"\(3, 16, 4, 4\)"),
])  # fmt: skip
def test_what_does_not_fit_is_named(shape, words):
    with pytest.raises(ValueError, match=rf"Decode to Video \(LongTakeDecodeToVideo\): samples.*{words}"):
        videos(NODE, {"samples": torch.zeros(shape)}, built("wan21"))


def test_another_pack_s_vae_is_refused_by_name():
    class TheirVAE(comfy.sd.VAE):
        pass

    theirs = TheirVAE.__new__(TheirVAE)
    theirs.__dict__ = dict(built("wan21").__dict__)
    with pytest.raises(ValueError, match=r"Decode to Video \(LongTakeDecodeToVideo\): vae: TheirVAE is another pack's"):
        videos(NODE, {"samples": torch.zeros(1, 16, 3, 4, 4)}, theirs)


def test_a_batch_is_several_videos_and_sound_beside_a_video_is_left():
    from comfy.nested_tensor import NestedTensor

    assert [v.shape[0] for v in videos("X", {"samples": torch.zeros(2, 16, 3, 4, 4)}, built("wan21"))] == [1, 1]
    both = NestedTensor([torch.zeros(1, 16, 3, 4, 4), torch.zeros(1, 8, 5, 16)])
    assert videos("X", {"samples": both}, built("wan21"))[0].shape == (1, 16, 3, 4, 4)


def test_out_of_memory_goes_on_in_tiles(monkeypatch, caplog):
    vae, latent = built("wan21"), VAES["wan21"].latent(4, 40, 40)
    decode, sizes = vae_streams.Wan.push, []

    def short(self, z, last):  # as a GPU would: only tiles fit
        sizes.append(z.shape[-1])
        if z.shape[-1] > 32:
            raise comfy.model_management.OOM_EXCEPTION("CUDA out of memory")
        return decode(self, z, last)

    monkeypatch.setattr(vae_streams.Wan, "push", short)
    found = streamed(Decoding(vae, latent))
    monkeypatch.undo()
    tiled = vae.decode_tiled(latent.clone(), tile_x=32, tile_y=32, overlap=8, tile_t=99, overlap_t=1)[0]
    assert torch.allclose(found, tiled, atol=1e-5) and sizes[0] == 40
    assert "out of memory" in caplog.text


def test_the_memory_does_not_grow_with_the_length():
    from longtake.benchmarks import allocations

    vae, peaks = built("wan21"), []
    for frames in (5, 15):
        decoding = Decoding(vae, VAES["wan21"].latent(frames, 1, 1))

        def run(decoding=decoding):
            for _ in decoding.frames():
                pass

        peaks.append(allocations.measure(run).bytes)
    assert peaks[1] <= 1.05 * peaks[0]
