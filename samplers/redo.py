"""A part of a finished video made anew, or a video made longer: which latent frames, and the mask that says so.

A mask over time is 1 where the video is made and 0 where it is kept, [1, 1, F, H, W] for a latent [B, C, F, H, W].
Sampling shows a model the kept frames at every step's noise level, so windows that reach over a border see them.
Windows without a frame that is made need not be evaluated: `touching`. Pure functions of tensors and numbers.
"""

from collections.abc import Sequence

import torch

from .windows import Window, latent_length

FALL = 5  # of the old video's share in a pull, from one made frame to the next
LEAST = 0.03  # a smaller share is none
ARRIVAL, RISE = 0.65, 8  # the old video's share in the last frame of an arrival, and by how much more than in the first


def latent_span(start: float, end: float, frames: int, compression: int) -> range:
    """The latent frames whose middle lies in the pixel frames [start, end); the nearest one, where none does.

    Latent frame 0 is pixel frame 0, i > 0 holds c (i - 1) + 1 .. c i. Raises ValueError for a span outside the video.
    """
    total = compression * (frames - 1) + 1
    if not 0 <= start < end or start >= total:
        raise ValueError(f"the span from pixel frame {start:g} to {end:g} is not within a video of {total}")
    centres = [0.0, *(compression * i - (compression - 1) / 2 for i in range(1, frames))]
    inside = [i for i, centre in enumerate(centres) if start <= centre < end]
    if not inside:
        middle = (start + min(end, total)) / 2
        inside = [min(range(frames), key=lambda i: abs(centres[i] - middle))]
    return range(inside[0], inside[-1] + 1)


def arrival_length(pixel_frames: int, made: range, frames: int, compression: int) -> int:
    """The latent frames of an arrival behind `made` in a video of `frames`, whose last one stays to come back to."""
    return max(min(-(-pixel_frames // compression), frames - 1 - made.stop), 0)


def mask_over_time(latent: torch.Tensor, made: range, pull: float = 0.0, arrival: int = 0) -> torch.Tensor:
    """pull: the share of what was there that the made frame next to a kept one gets at every step; a fifth of it the
    frame further in, and so on down to LEAST. So the new part sets out from the old one and arrives at it over two
    latent frames: drawn at every step, a frame that gets 0.5 ends up near the old one, one that gets 0.1 between both.
    arrival: so many frames behind `made` (see arrival_length) are made, too, in which the new part comes back to the
    old one; the pull is then at the beginning alone. Raises ValueError where nothing is left to make.
    """
    frames, stop = latent.shape[2], made.stop + arrival
    mask = torch.zeros(1, 1, *latent.shape[2:])
    mask[:, :, made.start : stop] = 1
    end = (ARRIVAL, RISE ** (1 / max(arrival - 1, 1)), range(made.stop, stop)) if arrival else (pull, FALL, made)
    for at, inward, share, fall, within in ((made.start, 1, pull, FALL, made), (stop - 1, -1, *end)):
        share = share if 0 <= at - inward < frames else 0.0  # the video's own ends are no borders
        while share >= LEAST and at in within:
            mask[:, :, at] = mask[:, :, at].clamp(max=1 - share)
            share, at = share / fall, at + inward
    if not mask[:, :, made.start : made.stop].any():
        raise ValueError(f"pull ({pull}): nothing is made of a span of {len(made)} latent frames; set it below 1")
    return mask


def longer(latent: torch.Tensor, pixel_frames: int, compression: int) -> torch.Tensor:
    """The latent with so many empty pixel frames behind it."""
    added = latent_length(pixel_frames + 1, compression) - 1
    return torch.cat([latent, latent.new_zeros(*latent.shape[:2], added, *latent.shape[3:])], dim=2)


def made_frames(mask: torch.Tensor) -> list[bool] | None:
    """Of a mask [B, C, F, H, W], which frames have anything that is made; None where none has, or all have."""
    made = (mask != 0).movedim(2, 0).flatten(1).any(1).tolist()
    return made if any(made) and not all(made) else None


def touching(windows: Sequence[Window], made: Sequence[bool] | None) -> list[int]:
    """The numbers of the windows that predict a frame that is made; None: all frames are."""
    if made is None:
        return list(range(len(windows)))
    return [i for i, window in enumerate(windows) if any(made[j] for j in window.own)]
