"""Load the embedded demo model through ComfyUI's own loaders, so that every hook meets the code of a real Wan."""

import hashlib
import re
from pathlib import Path

import comfy.model_management
import comfy.sd
import comfy.utils
import torch
from comfy.cli_args import args as cli_args
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from . import text

FOLDER = OWN = Path(__file__).parent
DIGESTS = "weights.sha256"  # of a folder's weights, as sha256sum writes and checks them
COLOURS = "latent_rgb.safetensors"  # of previews
SHIFT = 3.0  # of the flow schedule


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def write_digests(folder: Path) -> None:
    """Name the weights in `folder`: from then on they load only as they are now."""
    lines = [f"{digest(path)}  {path.name}\n" for path in sorted(folder.glob("*.safetensors"))]
    (folder / DIGESTS).write_text("".join(lines), encoding="utf-8", newline="\n")


def _expected(name: str) -> str | None:
    """The digest that weight file `name` must have, "" where the folder's list does not name it; None in a folder of
    weights in training, which has no list."""
    try:
        lines = (FOLDER / DIGESTS).read_text(encoding="utf-8-sig", errors="replace")
    except FileNotFoundError:
        if FOLDER == OWN:
            raise
        return None
    return {file: value for value, file in re.findall(r"^([0-9a-f]{64}) [ *](.+)$", lines, re.MULTILINE)}.get(name, "")


def read(name: str) -> dict[str, torch.Tensor]:
    """The weight file `name` of the folder, if it is the one that its list of digests names."""
    where = f"Demo Video Model: {name} in the folder {FOLDER}"
    again = "Install the pack again." if FOLDER == OWN else "Assemble these weights again."
    try:
        found, expected = digest(FOLDER / name), _expected(name)
    except FileNotFoundError as error:
        missing = Path(error.filename).name
        raise FileNotFoundError(
            f"Demo Video Model: {missing} is missing from the folder {FOLDER}. {again}") from error
    except OSError as error:
        raise OSError(f"{where} cannot be read ({error}). {again}") from error
    if expected == "":
        raise ValueError(f"{where} is not named in {DIGESTS} there, which tells whether it is whole. {again}")
    if expected and found != expected:
        came = "this version of the pack came with" if FOLDER == OWN else f"{DIGESTS} there names"
        raise ValueError(
            f"{where} is not the file that {came} "
            f"(sha256 {found[:12]}..., expected {expected[:12]}...): truncated, damaged or of another version. {again}")
    try:
        return comfy.utils.load_torch_file(str(FOLDER / name), safe_load=True)
    except Exception as error:
        raise ValueError(f"{where} cannot be read ({error}). {again}") from error


def load_model():
    """MODEL: ComfyUI detects a Wan 2.1 text-to-video model; the schedule's shift is set to the trained one."""
    model = comfy.sd.load_diffusion_model_state_dict(read("video_model.safetensors"))
    if model is None:
        raise ValueError("Demo Video Model: this ComfyUI does not recognise video_model.safetensors as a Wan 2.1.")
    if FOLDER == OWN or (FOLDER / COLOURS).exists():  # older weights have none
        colours, latent_format = read(COLOURS), model.get_model_object("latent_format")
        latent_format.latent_rgb_factors = colours["factors"].tolist()  # of this model alone, not of all Wans
        latent_format.latent_rgb_factors_bias = colours["bias"].tolist()
    return ModelSamplingSD3().patch(model, SHIFT)[0]


class _Target:
    params: dict = {}
    clip = text.WordEncoder
    tokenizer = text.Tokenizer


def load_clip():
    """CLIP: the word-level encoder of text.py."""
    weights = read("text.safetensors")
    clip = comfy.sd.CLIP(_Target, embedding_directory=None, parameters=comfy.utils.calculate_parameters(weights))
    clip.load_sd(weights)
    return clip


def _vae_dtype() -> torch.dtype | None:
    """bfloat16 on a CPU that computes in it: float32's pictures to 50 dB and more, in a third of the time. None:
    ComfyUI chooses, as on every GPU, and where it was started with a precision."""
    chosen = cli_args.fp16_vae or cli_args.bf16_vae or cli_args.fp32_vae or cli_args.force_fp32
    if chosen or comfy.model_management.vae_device().type != "cpu":
        return None
    asked = getattr(torch.cpu, "_is_avx512_bf16_supported", None)  # private: torch has no public name for it
    return torch.bfloat16 if asked and asked() else None


def load_vae():
    """VAE: ComfyUI detects a Wan 2.1 VAE of dim 16."""
    vae = comfy.sd.VAE(sd=read("vae.safetensors"), dtype=_vae_dtype())
    vae.throw_exception_if_invalid()
    return vae
