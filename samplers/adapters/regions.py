"""What a cond entry says outside its model_conds, for one window: where its prompt acts (area, mask).

Core resolves both before sampling. An area is sizes, then starts: of height and width, or of frames, height and width;
a mask is [n, F or 1, H, W]. Core's own windows cut a mask wherever one of its sizes happens to be the video's number of
frames, and know no area in time. Here each window gets its own frames of both, and the prompt has the weight that it
has without windows.
"""

import torch
from comfy.model_management import cast_to_device

from ..fusion import frames_of

FUZZ = 8  # core's get_area_and_mult: latent frames, rows and columns over which an area's border fades


def window_regions(entries: list[dict], seen: list[int], x: torch.Tensor) -> list[dict]:
    """The entries that act in a window, with its frames of their area and mask.

    seen: the window's latent frames in their order; x: the video, [B, C, F, H, W]. Raw tensors of nodes, from
    which model_conds were made, are left out: nothing reads them any more, and core would cut them all.
    """
    out = []
    for entry in entries:
        entry = {k: v for k, v in entry.items() if k == "mask" or not isinstance(v, torch.Tensor)}
        mask, area = entry.get("mask"), entry.get("area")
        if mask is not None and mask.ndim == x.ndim - 1 and mask.shape[1] == x.shape[2]:
            entry["mask"] = frames_of(mask, 1, seen)
        if area is not None and len(area) == 2 * len(x.shape[2:]):
            entry = _in_time(entry, seen, x)
        if entry is not None:
            out.append(entry)
    return out


def _in_time(entry: dict, seen: list[int], x: torch.Tensor) -> dict | None:
    """An entry with an area over frames, height and width; None where no frame of the window is in it."""
    sizes, starts = entry["area"][:3], entry["area"][3:]
    ends = [min(start + size, whole) for size, start, whole in zip(sizes, starts, x.shape[2:], strict=True)]
    inside = [i for i, frame in enumerate(seen) if starts[0] <= frame < ends[0]]
    if not inside:
        return None
    # Mostly they lie side by side. Where a window goes around a closed loop, or has a frame of elsewhere in front, a
    # mask leaves out what lies between.
    first, last = inside[0], inside[-1]
    entry = {**entry, "area": (last + 1 - first, *sizes[1:], first, *starts[1:])}
    if "mask" in entry:
        if len(inside) < last + 1 - first:
            within = torch.tensor([float(starts[0] <= frame < ends[0]) for frame in seen]).to(entry["mask"])
            entry["mask"] = entry["mask"] * within[:, None, None]
    else:  # core fades the area's own border; the window's border inside it is none
        ramps = [_ramp(start, end, whole) for start, end, whole in zip(starts, ends, x.shape[2:], strict=True)]
        ramps[0] = ramps[0][seen]
        t, h, w = ramps
        mask = (t[:, None, None] * h[:, None] * w)[None]
        entry["mask"] = cast_to_device(mask, x.device, mask.dtype)  # without waiting for it, where core can
    return entry


def _ramp(start: int, end: int, whole: int) -> torch.Tensor:
    """Core's weight of an area along one axis: 1, falling towards a border that is not the video's; 0 outside."""
    size = end - start
    inside = torch.ones(size)
    steps = min(FUZZ, size // 4)
    for t in range(steps):
        if start != 0:
            inside[t] *= (t + 1) / steps
        if end < whole:
            inside[size - 1 - t] *= (t + 1) / steps
    ramp = torch.zeros(whole)
    ramp[start:end] = inside
    return ramp
