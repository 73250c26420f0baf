"""MUSIQ's image quality of frames, by the network beside an encoder in its folder.

VBench's imaging_quality is its mean over the frames, over 100, with the weights of the data set SPAQ. Frames are
prepared as VBench 0.1.5 prepares them: in 8 bits, the longer side made 512 at most, bilinear without antialiasing.
"""

import comfy.model_management
import comfy.model_patcher
import torch
from torchvision.transforms import functional as pictures

from ..metrics.musiq import Musiq
from ..metrics.summary import Result
from .metric_encoders import Encoder, Folder, read_weights

FILE = "musiq.safetensors"
BATCH = 2  # frames at a time: some 100 MB each
LONGEST = 512  # pixels
SCALE = 100.0  # of SPAQ's scores
VBENCH = (384, 1152, 14, 10)  # width, inner, layers, grid


class Imaging:
    """MUSIQ of the weights in `path`. Raises ValueError."""

    def __init__(self, path):
        weights = read_weights([path])
        try:
            model = Musiq.like(weights)
            model.load_state_dict(weights)
        except (KeyError, ValueError, RuntimeError) as error:
            fault = " ".join(str(error).split())[:200]
            raise ValueError(
                f"{path} holds no MUSIQ with a score of one number ({fault}); take the weights of SPAQ, as Load Metric "
                "Encoder's help says") from error  # fmt: skip
        self.path, self.model = path, model.eval().requires_grad_(False)
        devices = comfy.model_management.get_torch_device(), comfy.model_management.unet_offload_device()
        self.patcher = comfy.model_patcher.ModelPatcher(self.model, *devices)

    def scores(self, frames: torch.Tensor) -> torch.Tensor:
        """[n] float32 on the CPU, of frames [n, H, W, 3] (or 4 with alpha) in 0..1. Raises ValueError."""
        comfy.model_management.load_models_gpu([self.patcher])
        found = []
        for part in frames.split(BATCH):
            comfy.model_management.throw_exception_if_processing_interrupted()
            images = (part[..., :3].float().clamp(0, 1) * 255).round().byte().movedim(-1, 1)
            height, width = images.shape[2:]
            if max(height, width) > LONGEST:
                scale = LONGEST / max(height, width)
                size = [max(1, int(scale * side)) for side in (height, width)]
                images = pictures.resize(images, size, antialias=False)
            found.append(self.model(images.to(self.patcher.load_device).float() / 255).float().cpu())
        scores = torch.cat(found)
        if not scores.isfinite().all():
            raise ValueError(f"{self.path}: its scores are no numbers; the weights are broken, get them again")
        return scores


def of(encoder: Encoder | None) -> Imaging | None:
    """The MUSIQ in the encoder's folder; None where there is none. Raises ValueError."""
    if not (isinstance(encoder, Folder) and (encoder.path / FILE).is_file()):
        return None
    return Imaging(encoder.path / FILE)


def results(imaging: Imaging | None, scores: torch.Tensor) -> list[Result]:
    """imaging_quality, of all frames' scores [N]."""
    if imaging is None:
        return []
    name = f"MUSIQ (folder {imaging.path.parent.name})"
    about = "How sharp, clean and well exposed the frames look, by people's scores of photos (MUSIQ's over 100)"
    value, exact = scores.double().mean().item() / SCALE, imaging.model.sizes == VBENCH
    return [Result("imaging_quality", value, "about 0..1", 1, name, exact, about)]
