"""Cuts, by the rule of PySceneDetect's AdaptiveDetector: a change large by itself and beside its neighbours'."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F

WIDTH = 256  # pixels that frames are brought to
LEAST = 15.0  # change of a cut, in levels of 255
RATIO = 3.0  # over the mean change around it
AROUND = 2  # transitions to each side
APART = 15  # frames between two cuts


def to_width(frames: torch.Tensor) -> torch.Tensor:
    """[n, H, W, 3] -> [n, h, WIDTH, 3], where they are wider."""
    height, width = frames.shape[1:3]
    if width <= WIDTH:
        return frames
    size = (max(1, round(height * WIDTH / width)), WIDTH)
    small = F.interpolate(frames.movedim(-1, 1), size, mode="bilinear", align_corners=False)
    return small.movedim(1, -1)


def hsv(frames: torch.Tensor) -> torch.Tensor:
    """Hue 0..179, saturation and value 0..255, in whole numbers as OpenCV has them in 8 bits."""
    frames = (255 * frames).round()
    most, where = frames.max(-1)
    spread = most - frames.amin(-1)
    r, g, b = frames.unbind(-1)
    by = spread.clamp(min=1e-6)
    hue = torch.where(where == 0, (g - b) / by, torch.where(where == 1, 2 + (b - r) / by, 4 + (r - g) / by))
    hue = (torch.where(spread > 0, hue, 0) * 30 + 0.5).floor() % 180
    return torch.stack((hue, (255 * spread / most.clamp(min=1) + 0.5).floor(), most), -1)


def hsv_change(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """Mean [n] over hue, saturation, value and pixels of |a - b|, in levels; the frames as `to_width` gives them."""
    return (hsv(a) - hsv(b)).abs().mean((1, 2, 3))


def cuts(scores: Sequence[float]) -> list[int]:
    """The frames that a new scene begins with; scores[t] is the change into frame t + 1, as `hsv_change`.

    AdaptiveDetector: |change| >= LEAST and >= RATIO times the mean of the AROUND changes to each side, not within APART
    frames of the last cut (or of the start); the last AROUND frames cannot be cuts.
    """
    found, last = [], 0
    for t in range(AROUND, len(scores) - AROUND):
        frame = t + 1
        near = [scores[i] for i in range(t - AROUND, t + AROUND + 1) if i != t]
        mean = sum(near) / len(near)
        ratio = min(scores[t] / mean, 255.0) if mean > 1e-5 else 255.0
        if scores[t] >= LEAST and ratio >= RATIO and frame - last >= APART:
            found.append(frame)
            last = frame
    return found
