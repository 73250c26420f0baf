"""Loading CogVideoX: folders, shards, single files, and what is refused."""

import importlib
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path

import comfy.sd
import comfy.utils
import longtake.backbone.cogvideox
import pytest
import torch
from comfy.ldm.lightricks.vae.causal_video_autoencoder import VideoVAE
from longtake.backbone.cogvideox import load as cogvideox
from longtake.backbone.cogvideox import text as cogvideox_text
from longtake.backbone.cogvideox.files import IN_FOLDER, model_folders, read_shapes, single_files
from longtake.nodes.models import LongTakeCogVideoXLoader
from safetensors.torch import load_file, save_file
from support import tiny_cogvideox, zoo
from support.tiny_cogvideox import TEXT, VARIANTS, image_conds, load, noise_of, sample

import nodes as core_nodes

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(autouse=True, scope="module")
def models(tmp_path_factory):
    with tiny_cogvideox.model_folders(tmp_path_factory.mktemp("models")) as root:
        yield root


@pytest.fixture
def broken(models):
    """A copy of the 2B folder to break."""
    path = models / "diffusers" / "broken"
    shutil.copytree(models / "diffusers" / "CogVideoX-2b", path)
    yield path
    shutil.rmtree(path)


def write_shards(folder, stem):
    """Split one safetensors file into two with an index, as diffusers and transformers do."""
    weights = load_file(folder / (stem + ".safetensors"))
    names = sorted(weights)
    shards = {f"{stem}-0000{i + 1}-of-00002.safetensors": names[i::2] for i in range(2)}
    for file, keys in shards.items():
        save_file({k: weights[k] for k in keys}, folder / file)
    index = {"weight_map": {k: file for file, keys in shards.items() for k in keys}}
    (folder / (stem + ".safetensors.index.json")).write_text(json.dumps(index))
    (folder / (stem + ".safetensors")).unlink()


def test_sharded_folder(models, broken):
    write_shards(broken / "transformer", "diffusion_pytorch_model")
    write_shards(broken / "text_encoder", "model")
    noise = noise_of("CogVideoX-2b")
    patcher, clip, _ = cogvideox.load("broken", IN_FOLDER, IN_FOLDER, "default")
    assert torch.equal(sample(patcher, noise, steps=1), sample(load("CogVideoX-2b")[0], noise, steps=1))
    assert torch.equal(clip.encode("a cat")[0], load("CogVideoX-2b")[1].encode("a cat")[0])


@pytest.mark.parametrize("name", [name for name in VARIANTS if name != "CogVideoX-2b"])
def test_sizes_of_a_single_file_are_read_from_its_weights(models, name):
    """But for the trained resolution, which no weight shows."""
    path = models / "diffusers" / name / "transformer"
    config = json.loads((path / "config.json").read_text())
    file = path / "diffusion_pytorch_model.safetensors"
    assert read_shapes(file) == {k: tuple(v.shape) for k, v in load_file(file).items()}
    guess = cogvideox._guess_network(read_shapes(file), path)
    trained = {"sample_height", "sample_width", "sample_frames"}
    assert {k: v for k, v in guess.items() if config[k] != v}.keys() <= trained
    assert {k: v for k, v in guess.items() if k in trained} == (
        {"sample_height": 96, "sample_width": 170, "sample_frames": 81} if "1.5" in name
        else {"sample_height": 60, "sample_width": 90, "sample_frames": 49}
    )  # fmt: skip
    assert cogvideox.Variant.of(guess).page == "THUDM/" + name


def test_published_values_of_the_2b():
    """Its weights have no trace of the schedule or the scale."""
    shapes = {
        "transformer_blocks.29.attn1.to_q.weight": (1920, 1920), "transformer_blocks.0.attn1.to_q.weight": (1920, 1920),
        "transformer_blocks.0.attn1.to_q.bias": (1920,), "transformer_blocks.0.attn1.norm_q.weight": (64,),
        "patch_embed.proj.weight": (1920, 16, 2, 2), "patch_embed.proj.bias": (1920,), "proj_out.weight": (64, 1920),
        "time_embedding.linear_1.weight": (512, 1920), "patch_embed.text_proj.weight": (1920, 4096),
    }  # fmt: skip
    network = cogvideox._guess_network(shapes, "")
    assert (network["num_layers"], network["use_rotary_positional_embeddings"]) == (30, False)
    variant = cogvideox.Variant.of(network)
    assert (variant.snr_shift_scale, variant.scaling_factor) == (3.0, 1.15258426)


@pytest.fixture
def single(models, monkeypatch):
    """The 1.5 I2V's parts as single files, with a T5 as small as the folder's."""
    name, file = "CogVideoX1.5-5B-I2V", "diffusion_pytorch_model.safetensors"
    small = {"d_ff": 64, "d_kv": 8, "d_model": TEXT, "num_heads": 4, "num_layers": 2, "vocab_size": 32128}
    monkeypatch.setattr(cogvideox_text, "T5_XXL", small)
    parts = {"diffusion_models": ("transformer", file), "vae": ("vae", file)}
    for category, (part, source) in {**parts, "text_encoders": ("text_encoder", "model.safetensors")}.items():
        shutil.copy(models / "diffusers" / name / part / source, models / category / "one.safetensors")
    yield name
    for category in ("diffusion_models", "vae", "text_encoders"):
        (models / category / "one.safetensors").unlink()


def test_single_files(models, single):
    assert [single_files(c) for c in ("diffusion_models", "vae", "text_encoders")] == [["one.safetensors"]] * 3
    patcher, clip, vae = cogvideox.load(*["one.safetensors"] * 3, "default")
    noise, theirs, image = noise_of(single), load(single), image_conds(vae)
    assert torch.equal(sample(patcher, noise, steps=2, **image), sample(theirs[0], noise, steps=2, **image))
    assert torch.equal(clip.encode("a cat")[0], theirs[1].encode("a cat")[0])
    with pytest.raises(ValueError, match="vae: one.safetensors is a single file"):
        cogvideox.load("one.safetensors", IN_FOLDER, "one.safetensors", "default")


@pytest.mark.parametrize("kind", ["single files", "folder"])
def test_weights_are_read_once(models, single, monkeypatch, kind):
    read = []

    def spy(path, **kwargs):
        read.append(Path(path).relative_to(models).as_posix())
        return load_torch_file(path, **kwargs)

    load_torch_file = comfy.utils.load_torch_file
    monkeypatch.setattr(comfy.utils, "load_torch_file", spy)
    names = ["one.safetensors"] * 3 if kind == "single files" else [single, IN_FOLDER, IN_FOLDER]
    cogvideox.load(*names, "default")
    assert len(read) == len(set(read)) == 3


def test_a_folder_with_a_text_encoder_from_elsewhere(models, broken, single):
    shutil.rmtree(broken / "text_encoder")
    with pytest.raises(FileNotFoundError, match="config.json is missing from .*text_encoder.*THUDM/CogVideoX-2b"):
        cogvideox.load("broken", IN_FOLDER, IN_FOLDER, "default")
    assert cogvideox.load("broken", IN_FOLDER, "one.safetensors", "default")[1].encode("a cat").shape == (1, 226, TEXT)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


class Trap:
    """Makes a folder when it is read as a pickle."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def to_pickle(path, suffix=".bin"):
    """In the place of the weights, a pickle that leaves a mark in the model's folder when it is read."""
    path.unlink()
    torch.save({"x": Trap(path.parents[1] / "sprung")}, path.with_suffix(suffix))


def drop_tensor(path, name):
    weights = load_file(path)
    del weights[name]
    save_file(weights, path)


def index(path, name):
    path.rename(path.parent / "moved")
    (path.parent / (path.name + ".index.json")).write_text(json.dumps({"weight_map": {"x": name}}))


def link_out(path):
    """A file or folder of a diffusers folder is moved out of the model folders, and a link left in its place."""
    base = path.parents[4 if path.is_file() else 3]
    outside = Path(tempfile.mkdtemp(dir=base)) / path.name
    path.replace(outside)
    path.symlink_to(outside)


WEIGHTS, TEXT_WEIGHTS = "diffusion_pytorch_model.safetensors", "model.safetensors"
PAGE = "THUDM/CogVideoX-2b on the Hugging Face hub"
BREAKS = {
    "no transformer": (lambda f: (f / "transformer" / WEIGHTS).unlink(), f"{WEIGHTS} .*missing.*transformer.*{PAGE}"),
    "no vae": (lambda f: shutil.rmtree(f / "vae"), f"config.json is missing from .*vae.*{PAGE}"),
    "no scheduler": (lambda f: shutil.rmtree(f / "scheduler"), f"scheduler_config.json is missing.*{PAGE}"),
    "no text encoder": (lambda f: (f / "text_encoder" / TEXT_WEIGHTS).unlink(), f"{TEXT_WEIGHTS} .*missing.*{PAGE}"),
    "truncated": (lambda f: truncate(f / "transformer" / WEIGHTS), f"{WEIGHTS} cannot be read as safetensors.*{PAGE}"),
    "truncated text": (lambda f: truncate(f / "text_encoder" / TEXT_WEIGHTS), "cannot be read as safetensors"),
    "no weights": (lambda f: (f / "vae" / WEIGHTS).write_bytes(b""), "cannot be read as safetensors"),
    "no JSON": (lambda f: (f / "vae" / "config.json").write_text("{"), "is not readable JSON"),
    "a list": (lambda f: (f / "vae" / "config.json").write_text("[]"), "is not a configuration"),
    "another model": (
        lambda f: edit(f / "transformer" / "config.json", _class_name="FluxTransformer2DModel"),
        "is the configuration of FluxTransformer2DModel, not of CogVideoXTransformer3DModel",
    ),
    "another VAE": (
        lambda f: edit(f / "vae" / "config.json", _class_name="AutoencoderKLLTXVideo"),
        "is the configuration of AutoencoderKLLTXVideo, not of AutoencoderKLCogVideoX",
    ),
    "another text": (lambda f: edit(f / "text_encoder" / "config.json", model_type="llama"), "of llama, not of T5"),
    "another size": (lambda f: edit(f / "transformer" / "config.json", num_layers=3), "it has no transformer_blocks.2"),
    "another width": (lambda f: edit(f / "transformer" / "config.json", time_embed_dim=32), "has the shape"),
    "more tensors": (lambda f: edit(f / "transformer" / "config.json", num_layers=1), "which the model has not"),
    "a tensor gone": (
        lambda f: drop_tensor(f / "text_encoder" / TEXT_WEIGHTS, "encoder.final_layer_norm.weight"),
        "it has no encoder.final_layer_norm.weight",
    ),
    "another latent": (lambda f: edit(f / "vae" / "config.json", latent_channels=8), "has the shape"),
    "another kind": (lambda f: edit(f / "transformer" / "config.json", in_channels=48), "takes 48 channels"),
    "a newer setting": (lambda f: edit(f / "transformer" / "config.json", flux_capacitor=1), "update it"),
    "eps prediction": (
        lambda f: edit(f / "scheduler" / "scheduler_config.json", prediction_type="epsilon"),
        "has prediction_type 'epsilon', CogVideoX has 'v_prediction'",
    ),
    "pickle": (lambda f: to_pickle(f / "transformer" / WEIGHTS), "diffusion_pytorch_model.bin is a pickle"),
    "pickle in disguise": (
        lambda f: to_pickle(f / "vae" / WEIGHTS, ".safetensors"), f"{WEIGHTS} cannot be read as safetensors",
    ),
    "pickle of text": (lambda f: to_pickle(f / "text_encoder" / TEXT_WEIGHTS), "model.bin is a pickle"),
    "shard gone": (lambda f: index(f / "vae" / WEIGHTS, "gone.safetensors"), "gone.safetensors is missing from .*vae"),
    "shard above": (lambda f: index(f / "vae" / WEIGHTS, "../../secret.safetensors"), "not a file in its folder"),
    "pickle shard": (lambda f: index(f / "vae" / WEIGHTS, "moved"), "no safetensors"),
    "link out": (lambda f: link_out(f / "vae" / WEIGHTS), "is a link to .*outside ComfyUI's model folders"),
    "config link out": (lambda f: link_out(f / "vae" / "config.json"), "is a link to .*outside ComfyUI's model"),
    "index link out": (
        lambda f: (index(f / "vae" / WEIGHTS, "moved"), link_out(f / "vae" / (WEIGHTS + ".index.json"))),
        "index.json is a link to .*outside ComfyUI's model",
    ),
    "folder link out": (lambda f: link_out(f / "transformer"), "config.json is a link to .*outside ComfyUI's model"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BREAKS)
def test_a_broken_folder_is_an_error_that_says_what_to_do(broken, kind):
    damage, message = BREAKS[kind]
    damage(broken)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        cogvideox.load("broken", IN_FOLDER, IN_FOLDER, "default")
    assert "LongTakeCogVideoXLoader" in str(error.value)
    assert not (broken / "sprung").exists()


def test_a_folder_that_is_a_link_out_is_refused(models, tmp_path):
    shutil.copytree(models / "diffusers" / "CogVideoX-2b", tmp_path / "CogVideoX-2b")
    link = models / "diffusers" / "linked"
    link.symlink_to(tmp_path / "CogVideoX-2b")
    try:
        assert "linked" in model_folders()
        with pytest.raises(ValueError, match="is a link to .*outside ComfyUI's model folders"):
            cogvideox.load("linked", IN_FOLDER, IN_FOLDER, "default")
    finally:
        link.unlink()


@pytest.mark.parametrize("name", ["../diffusers/CogVideoX-2b", "/etc", "a/../../b", "..\\x", "C:\\x", ""])
@pytest.mark.parametrize("place", [0, 1, 2])
def test_names_that_leave_the_model_folders_are_refused(models, name, place):
    names = ["CogVideoX-2b", IN_FOLDER, IN_FOLDER]
    names[place] = name + ".safetensors" * (place > 0 and name != "")
    with pytest.raises(ValueError, match="is not a name inside ComfyUI's model folders"):
        cogvideox.load(*names, "default")


def test_single_files_that_are_something_else(models, monkeypatch):
    file = models / "diffusion_models" / "other.safetensors"
    save_file({"x": torch.zeros(1)}, file)
    with pytest.raises(ValueError, match="not a CogVideoX transformer in diffusers' format: it has no"):
        cogvideox.load("other.safetensors", "v", "t", "default")
    shutil.copy(file, models / "vae" / "ltx.safetensors")
    with pytest.raises(ValueError, match="not a CogVideoX VAE in diffusers' format"):
        cogvideox.load("CogVideoX-2b", "ltx.safetensors", IN_FOLDER, "default")
    shutil.copy(file, models / "text_encoders" / "clip_l.safetensors")
    with pytest.raises(ValueError, match="clip_l.safetensors do not fit CogVideoX: it has no shared.weight"):
        cogvideox.load("CogVideoX-2b", IN_FOLDER, "clip_l.safetensors", "default")
    torch.save(Trap(models / "sprung"), models / "diffusion_models" / "model.ckpt")
    with pytest.raises(ValueError, match="model.ckpt is a pickle"):
        cogvideox.load("model.ckpt", "v", "t", "default")
    assert not (models / "sprung").exists()
    with pytest.raises(FileNotFoundError, match="there is no folder nothing"):
        cogvideox.load("nothing", IN_FOLDER, IN_FOLDER, "default")
    with pytest.raises(FileNotFoundError, match="there is no file nothing.safetensors in .*vae"):
        cogvideox.load("CogVideoX-2b", "nothing.safetensors", IN_FOLDER, "default")
    with pytest.raises(ValueError, match="weight_dtype \\(int8\\) must be one of"):
        cogvideox.load("CogVideoX-2b", IN_FOLDER, IN_FOLDER, "int8")


def test_the_trap_of_these_tests_springs(tmp_path):
    torch.save(Trap(tmp_path / "sprung"), tmp_path / "model.ckpt")
    torch.load(tmp_path / "model.ckpt", weights_only=False)
    assert (tmp_path / "sprung").is_dir()


@pytest.fixture
def ltx_vae(models):
    """The smallest VAE of LTX-Video that core builds, and its file."""
    config = {
        "dims": 3, "latent_channels": 128, "blocks": [["res_x", 1]], "norm_layer": "pixel_norm", "patch_size": 4,
        "latent_log_var": "uniform",
    }  # fmt: skip
    weights = zoo.random_weights(VideoVAE(config=config).state_dict())
    save_file(weights, models / "vae" / "ltxv.safetensors")
    yield comfy.sd.VAE(sd=weights, metadata={"config": json.dumps({"vae": config})}), "ltxv.safetensors"
    (models / "vae" / "ltxv.safetensors").unlink()


def test_the_vae_of_another_model(models, ltx_vae):
    """Of LTX-Video, whose latents have 128 channels, in the place of CogVideoX's, and with a Wan latent, and back."""
    vae, name = ltx_vae
    with pytest.raises(ValueError, match="ltxv.safetensors is not a CogVideoX VAE in diffusers' format.*THUDM"):
        cogvideox.load("CogVideoX-2b", name, IN_FOLDER, "default")
    wan, ltx = torch.zeros(1, 16, 3, 8, 8), torch.zeros(1, 128, 3, 4, 4)
    with torch.inference_mode():
        assert core_nodes.VAEDecode().decode(vae, {"samples": ltx})[0].shape[-1] == 3
        with pytest.raises(RuntimeError, match="16.*128"):  # core's own words
            core_nodes.VAEDecode().decode(vae, {"samples": wan})
        with pytest.raises(ValueError, match="latents of the shape .batch, 16, frames.*not .1, 128, 3, 4, 4"):
            core_nodes.VAEDecode().decode(load("CogVideoX-2b")[2], {"samples": ltx})
        with pytest.raises(ValueError, match="not .1, 4, 8, 8"):
            core_nodes.VAEDecodeTiled().decode(load("CogVideoX-2b")[2], {"samples": torch.zeros(1, 4, 8, 8)}, 64)
    image = {"concat_latent_image": vae.encode(torch.rand(1, 64, 96, 3))}
    with pytest.raises(ValueError, match="start image's latent has the shape .1, 128"):
        sample(load("CogVideoX-5b-I2V")[0], noise_of("CogVideoX-5b-I2V"), steps=1, **image)


def test_without_diffusers(models, monkeypatch):
    for module in ("network", "vae"):
        monkeypatch.delitem(sys.modules, f"longtake.backbone.cogvideox.{module}")
        monkeypatch.delattr(longtake.backbone.cogvideox, module)
    for module in [m for m in sys.modules if m.split(".")[0] == "diffusers"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "diffusers", None)
    importlib.reload(cogvideox)  # the pack itself loads
    with pytest.raises(ImportError, match="pip install .*diffusers"):
        cogvideox.load("CogVideoX-2b", IN_FOLDER, IN_FOLDER, "default")


def test_node(models):
    inputs = {i.id: i for i in LongTakeCogVideoXLoader.define_schema().inputs}
    assert set(VARIANTS) <= set(inputs["model"].options) and inputs["vae"].options[0] == IN_FOLDER
    with torch.inference_mode():  # as ComfyUI runs nodes
        patcher, clip, vae = LongTakeCogVideoXLoader.execute("CogVideoX-2b", IN_FOLDER, IN_FOLDER, "fp32").args
        video = vae.decode(sample(patcher, noise_of("CogVideoX-2b"), steps=1))
    assert video.shape == (1, 17, 64, 96, 3)
    assert isinstance(vae, comfy.sd.VAE) and isinstance(clip, comfy.sd.CLIP)
    assert patcher.model.get_dtype() == torch.float32


@pytest.mark.parametrize("widget", ["model", "vae", "text_encoder"])
@pytest.mark.parametrize("name", [0, True, None, "x" * 5000, "x" * 300, "a\0b", "", {}, ["a"]])
def test_names_that_are_none_are_refused(models, widget, name):
    names = {"model": "CogVideoX-2b", "vae": IN_FOLDER, "text_encoder": IN_FOLDER} | {widget: name}
    with pytest.raises((ValueError, FileNotFoundError), match=rf"LongTakeCogVideoXLoader\): {widget}\b") as refused:
        cogvideox.load(**names, weight_dtype="default")
    assert len(str(refused.value)) < 1000


@pytest.mark.parametrize("file", [
    "transformer/config.json", "vae/config.json", "text_encoder/config.json", "scheduler/scheduler_config.json",
])  # fmt: skip
@pytest.mark.parametrize("text", ['{"a":' * 100_000 + "1" + "}" * 100_000, "[" * 100_000, "9" * 5000, "[]", "null"])
def test_configurations_that_are_none_are_refused(broken, file, text):
    (broken / file).write_text(text)
    with pytest.raises(ValueError, match=rf"LongTakeCogVideoXLoader\): .*{file}"):
        cogvideox.load("broken", IN_FOLDER, IN_FOLDER, "default")


@pytest.mark.parametrize(("file", "key", "value"), [
    ("transformer/config.json", "num_layers", "2"), ("transformer/config.json", "attention_head_dim", 10**9),
    ("transformer/config.json", "use_rotary_positional_embeddings", "no"), ("vae/config.json", "scaling_factor", None),
    ("vae/config.json", "block_out_channels", []), ("vae/config.json", "layers_per_block", -1),
    ("text_encoder/config.json", "d_model", 1.5), ("text_encoder/config.json", "num_layers", True),
    ("scheduler/scheduler_config.json", "beta_start", "low"), ("scheduler/scheduler_config.json", "beta_end", math.nan),
    ("scheduler/scheduler_config.json", "rescale_betas_zero_snr", 1),
])  # fmt: skip
def test_settings_of_another_kind_are_refused(broken, file, key, value):
    path = broken / file
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: value}))
    with pytest.raises(ValueError, match=rf"LongTakeCogVideoXLoader\): .*{file} has {key} .* should be like"):
        cogvideox.load("broken", IN_FOLDER, IN_FOLDER, "default")
