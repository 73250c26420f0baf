"""A video's metrics, frame by frame out of an IMAGE or a VIDEO: never all of it in memory."""

from collections.abc import Callable, Iterator

import comfy.model_management
import torch
import torch.nn.functional as F

from ..metrics.series import Collector, Flow, Series, by_luma
from .side_by_side import Source

PIXELS = 1 << 21  # of the frames that are measured at once
MOST = 16  # frames at once
PLAIN = "Lucas-Kanade"
RAFT_SIDE, RAFT_STEP = 128, 8  # pixels that RAFT's pyramid needs; what its sides are multiples of


def pieces(source: Source) -> Iterator[torch.Tensor]:
    """All frames of a source in order, [n, H, W, 3]."""
    at = 0
    while at < source.count:
        comfy.model_management.throw_exception_if_processing_interrupted()
        first = source.frame(at)
        count = max(1, min(MOST, PIXELS // max(1, first.shape[0] * first.shape[1]), source.count - at))
        yield torch.stack([first, *(source.frame(at + i) for i in range(1, count))])
        at += count


def raft(patcher) -> Flow:
    """The flow of core's OPTICAL_FLOW, torchvision's RAFT in a ModelPatcher."""
    comfy.model_management.load_model_gpu(patcher)

    def flow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        height, width = a.shape[2:]
        by = max(1.0, RAFT_SIDE / min(height, width))
        size = [-(-round(side * by) // RAFT_STEP) * RAFT_STEP for side in (height, width)]
        a, b = (F.interpolate(2 * images - 1, size, mode="bilinear", align_corners=False) for images in (a, b))
        found = [patcher.model(a[i : i + 1], b[i : i + 1])[-1] for i in range(len(a))]  # one at a time: memory
        scale = a.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)
        return F.interpolate(torch.cat(found), (height, width), mode="bilinear", align_corners=False) * scale

    return flow


@torch.no_grad()
def measured(
    source: Source, optical_flow=None, encoder=None, progress: Callable[[int, int], None] = lambda done, total: None
) -> tuple[Series, str, torch.Tensor | None]:
    """The Series of a source, what its motion was found with, and its frames' features [N, D] by the encoder.

    optical_flow: core's OPTICAL_FLOW or None; encoder: metric_encoders.Encoder or None. Raises ValueError.
    """
    device = comfy.model_management.get_torch_device()
    flow, backend = (by_luma, PLAIN) if optical_flow is None else (raft(optical_flow), "RAFT (OPTICAL_FLOW)")
    collector, features = Collector(flow), []
    try:
        for frames in pieces(source):
            collector.add(frames.to(device))
            if encoder is not None:
                features.append(encoder.images(frames))
            progress(collector.count, source.count)
    except ValueError as error:
        raise ValueError(f"{source.name}: {error}") from error
    return collector.series(), backend, torch.cat(features) if features else None

