"""LAION's aesthetic score from CLIP's features of frames: a linear head beside the CLIP model in its folder.

The head (LAION-AI/aesthetic-predictor; for ViT-L/14 sa_0_4_vit_l_14_linear.pth) as safetensors: weight [1, D], bias
[1]. VBench's aesthetic_quality is its mean over the frames, over 10, with ViT-L/14.
"""

import torch
import torch.nn.functional as F

from ..metrics.summary import Result
from .metric_encoders import CLIP_LOOK, Encoder, Folder, like, read_weights

HEAD = "aesthetic.safetensors"
CLIP_L14 = {"hidden_size": 1024, "num_hidden_layers": 24, "patch_size": 14, "image_size": 224}
SCALE = 10.0  # of LAION's scores


def head_of(encoder: Encoder | None) -> tuple[torch.Tensor, torch.Tensor] | None:
    """(weight [1, D], bias [1]) in the encoder's folder; None where there is none. Raises ValueError."""
    if not (isinstance(encoder, Folder) and encoder.clip and (encoder.path / HEAD).is_file()):
        return None
    found, width = read_weights([encoder.path / HEAD]), encoder.model.config.projection_dim
    shapes = {name: tuple(tensor.shape) for name, tensor in found.items()}
    wanted = {"weight": (1, width), "bias": (1,)}
    if shapes != wanted:
        raise ValueError(
            f"{encoder.path / HEAD} has {shapes or 'nothing'}; the aesthetic head for this CLIP must have {wanted}: "
            "take the one made for its size")  # fmt: skip
    return found["weight"].float(), found["bias"].float()


def results(encoder: Encoder | None, features: torch.Tensor) -> list[Result]:
    """Of frames' features [N, D]: aesthetic_quality, where the encoder's folder holds the head. Raises ValueError."""
    head = head_of(encoder)
    if head is None:
        return []
    scores = F.linear(F.normalize(features.float(), dim=1), *head)[:, 0] / SCALE
    config = encoder.model.config.vision_config
    exact = like(config, CLIP_L14) and (encoder.look.mean, encoder.look.std) == CLIP_LOOK
    about = "How pleasing people find pictures like the frames (LAION's linear head on CLIP, over 10)"
    return [Result("aesthetic_quality", scores.double().mean().item(), "about 0..1", 1, encoder.name, exact, about)]
