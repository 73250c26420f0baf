"""What an image encoder says of a video: does it stay the same, and does it show its prompts. Features in, numbers out.

A feature is one vector per frame or text, of any length; cosines are taken here, in float64. A feature of zeros has
cosine 0 to everything, NaN stays NaN.
"""

import math

import torch
import torch.nn.functional as F


def unit(name: str, features: torch.Tensor) -> torch.Tensor:
    """[N, D] of length 1 in float64; rows of zeros stay zeros. Raises ValueError."""
    if features.ndim != 2:
        raise ValueError(f"{name} of the shape {list(features.shape)}; they must be [number, length of a feature]")
    return F.normalize(features.double(), dim=-1)


def paired(images: torch.Tensor, texts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """unit of both; one encoder made them. Raises ValueError."""
    images, texts = unit("images", images), unit("texts", texts)
    if images.shape[1] != texts.shape[1]:
        raise ValueError(
            f"images have {images.shape[1]} values to a feature, texts {texts.shape[1]}; one encoder must make both")
    return images, texts


def consistency(features: torch.Tensor) -> torch.Tensor:
    """[N - 1] in 0..1 of features [N, D]: how alike frame i = 1.. is to the frame before and to the first.

    (max(0, cos(f_i, f_i-1)) + max(0, cos(f_i, f_0))) / 2, whose mean is VBench's subject_consistency (features of DINO
    ViT-B/16) and background_consistency (of CLIP ViT-B/32), code 0.1.5. One frame: empty. float32.
    """
    found = unit("features", features)
    before = (found[1:] * found[:-1]).sum(-1).clamp(min=0)
    first = (found[1:] * found[:1]).sum(-1).clamp(min=0)
    return ((before + first) / 2).float()


def fidelity(images: torch.Tensor, texts: torch.Tensor, own: torch.Tensor) -> tuple[float, float, torch.Tensor]:
    """(local, accuracy, per_frame [N]) of frames [N, D], events' prompts [E, D] and each frame's event, own [N].

    per_frame: cos(frame, its event's prompt) in -1..1, float32; NaN where own is -1, a frame of no event, which counts
    nowhere. local: the mean over the events that have frames of the mean over their frames, so that a long event weighs
    no more than a short one. accuracy: the share of frames in 0..1 that are nearer to their own prompt than to every
    other; events of equal prompts count as one, and so accuracy is 1 where all are equal. A tie is no hit. Without a
    frame of any event both are NaN. Raises ValueError.

    These definitions are the pack's own: papers report local prompt fidelity (e.g. SynCoS, arXiv 2503.08605) without
    code. The term is CLIP score's, the raw cosine.
    """
    kinds, kind = torch.unique(texts, dim=0, return_inverse=True) if texts.ndim == 2 and len(texts) else (texts, texts)
    images, kinds = paired(images, kinds)
    if own.shape != images.shape[:1] or own.is_floating_point():
        raise ValueError(
            f"own has the shape {list(own.shape)} and type {own.dtype}; it must be a whole number for each of the "
            f"{len(images)} frames")  # fmt: skip
    wrong = own[(own < -1) | (own >= len(texts))]
    if len(wrong):
        raise ValueError(f"own has {int(wrong[0])}; it must be from 0 to {len(texts) - 1}, or -1 for no event")
    per_frame = torch.full((len(images),), math.nan, dtype=torch.float64)
    of_event = own >= 0
    if not of_event.any():
        return math.nan, math.nan, per_frame.float()
    events = own[of_event].long()
    cosines = images[of_event] @ kinds.T
    mine = kind[events][:, None]
    found = cosines.gather(1, mine)[:, 0]
    others = cosines.scatter(1, mine, -math.inf).amax(1)
    per_frame[of_event] = found
    means = [found[events == event].mean() for event in events.unique()]
    return float(torch.stack(means).mean()), float((found > others).double().mean()), per_frame.float()


def global_fidelity(images: torch.Tensor, text: torch.Tensor) -> tuple[float, torch.Tensor]:
    """(mean, per_frame [N], float32) of cos(frame, text) in -1..1 for frames [N, D] and one prompt [D] or [1, D].

    The mean is VBench's clip_score but for its frames: here all, there 8. NaN without a frame. Raises ValueError.
    """
    images, text = paired(images, text[None] if text.ndim == 1 else text)
    if len(text) != 1:
        raise ValueError(f"text has {len(text)} features; it must be one")
    per_frame = (images @ text.T)[:, 0]
    return float(per_frame.mean()), per_frame.float()
