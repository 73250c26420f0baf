"""Reference frames that stand in front of the video, in the latent itself: Wan VACE's reference image, Wan Animate's.

Such models were trained with them in front of every clip, and TrimVideoLatent takes them off in the end. So windows are
laid over the video behind them, and every window sees them in front; all but a step's first one drop what they predict
for them.
"""

import comfy.model_base
import torch

from ..windows import Window

ANIMATE = tuple(c for n in ("WAN22_Animate", "WAN_Animate2") if (c := getattr(comfy.model_base, n, None)) is not None)
VACE_MADE, VACE_MASK = slice(16, 32), slice(32, None)  # channels of a VACE context: what is to be made, and where
NOTHING = 1e-2  # most that is left of 0 in a latent of deviation 1 once it is bf16


def references(model, conds: list) -> int:
    """How many latent frames at the start of the video's latent are references.

    conds: preprocessed entries per CFG branch. Core's WanVaceToVideo puts the image's latent beside one of all zeros,
    with mask 0; a real frame that is kept has the latent of a gray picture there. Animate's nodes always add one.
    """
    if isinstance(model, ANIMATE):
        return 1
    contexts = [e["model_conds"].get("vace_context") for cond in conds if cond for e in cond if "model_conds" in e]
    return max((_leading(c.cond) for c in contexts if isinstance(getattr(c, "cond", None), torch.Tensor)), default=0)


def _leading(context: torch.Tensor) -> int:
    """Of a VACE context [B, layers, 96, F, H, W]; each VACE node in a row made a layer. Frame by frame, for the whole
    context is larger than the video."""
    layers = torch.ones(context.shape[1], dtype=torch.bool, device=context.device)  # whose frames so far are references
    for i, frame in enumerate(context.unbind(3)):
        made, mask = (frame[:, :, part].abs().amax((0, 2, 3, 4)) for part in (VACE_MADE, VACE_MASK))
        layers &= (made < NOTHING) & (mask == 0)
        if not layers.any():
            return i
    return 0


def behind(windows: list[Window], count: int) -> list[Window]:
    """Windows over the video alone as windows over the latent with `count` references in front, the first one's own."""
    if not count:
        return windows
    placed = [Window([i + count for i in window.indices], window.real, window.lead) for window in windows]
    placed[0] = Window([*range(count), *placed[0].indices], count + placed[0].real)
    return placed
