"""Load the embedded demo model through ComfyUI's own loaders, so that every hook meets the code of a real Wan."""

from pathlib import Path

import comfy.sd
import comfy.utils
from comfy_extras.nodes_model_advanced import ModelSamplingSD3

from . import text

FOLDER = Path(__file__).parent
SHIFT = 3.0  # of the flow schedule


def _read(name: str):
    path = FOLDER / name
    try:
        return comfy.utils.load_torch_file(str(path), safe_load=True)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"Demo Video Model: {name} is missing from the pack's folder backbone/. Install the pack again.") from error
    except Exception as error:
        raise ValueError(
            f"Demo Video Model: {name} in the pack's folder backbone/ cannot be read ({error}). It may be truncated: "
            "install the pack again.") from error


def load_model():
    """MODEL: ComfyUI detects a Wan 2.1 text-to-video model; the schedule's shift is set to the trained one."""
    model = comfy.sd.load_diffusion_model_state_dict(_read("video_model.safetensors"))
    if model is None:
        raise ValueError("Demo Video Model: this ComfyUI does not recognise video_model.safetensors as a Wan 2.1.")
    return ModelSamplingSD3().patch(model, SHIFT)[0]


class _Target:
    params: dict = {}
    clip = text.WordEncoder
    tokenizer = text.Tokenizer


def load_clip():
    """CLIP: the word-level encoder of text.py."""
    weights = _read("text.safetensors")
    clip = comfy.sd.CLIP(_Target, embedding_directory=None, parameters=comfy.utils.calculate_parameters(weights))
    clip.load_sd(weights)
    return clip


def load_vae():
    """VAE: ComfyUI detects a Wan 2.1 VAE of dim 8."""
    vae = comfy.sd.VAE(sd=_read("vae.safetensors"))
    vae.throw_exception_if_invalid()
    return vae
