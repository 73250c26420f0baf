"""A video's metrics, frame by frame out of an IMAGE or a VIDEO: never all of it in memory."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import comfy.model_management
import comfy.model_patcher
import torch
import torch.nn.functional as F
from comfy.ldm.common_dit import pad_to_patch_size

from ..metrics.series import Collector, Flow, Series, by_luma
from ..metrics.summary import Result
from ..prompts.timeline import join_prompts, parse_timeline
from . import imaging
from .decoding import out_of_memory
from .side_by_side import Source

PIXELS = 1 << 20  # of the frames that are measured at once
MOST = 16  # frames at once
ROOM = 512 << 20  # bytes that are made free for them on a GPU
PLAIN = "Lucas-Kanade"
RAFT_SIDE, RAFT_STEP = 128, 8  # pixels that RAFT's pyramid needs; what its sides are multiples of


def pieces(source: Source) -> Iterator[torch.Tensor]:
    """All frames of a source in order, [n, H, W, 3]."""
    at = 0
    while at < source.count:
        comfy.model_management.throw_exception_if_processing_interrupted()
        first = source.frame(at)
        count = max(1, min(MOST, PIXELS // max(1, first.shape[0] * first.shape[1]), source.count - at))
        piece = [first]
        for i in range(1, count):
            frame = source.frame(at + i)
            if frame.shape != first.shape:  # of the next piece, which the collector refuses
                break
            piece.append(frame)
        yield torch.stack(piece)
        at += len(piece)


def raft(patcher) -> Flow:
    """The flow of core's OPTICAL_FLOW, torchvision's RAFT in a ModelPatcher. Raises ValueError."""
    if not isinstance(patcher, comfy.model_patcher.ModelPatcher):
        raise ValueError(
            f"optical_flow: not the model of ComfyUI's Load Optical Flow Model but {type(patcher).__name__}; link that "
            "node, or nothing")  # fmt: skip

    def flow(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        comfy.model_management.load_model_gpu(patcher)  # an encoder may have taken its place
        height, width = a.shape[2:]
        by = max(1.0, RAFT_SIDE / min(height, width))
        size = [-(-round(side * by) // RAFT_STEP) * RAFT_STEP for side in (height, width)]
        a, b = (F.interpolate(2 * images - 1, size, mode="bilinear", align_corners=False) for images in (a, b))
        found = [patcher.model(a[i : i + 1], b[i : i + 1])[-1] for i in range(len(a))]  # one at a time: memory
        scale = a.new_tensor([width / size[1], height / size[0]]).view(1, 2, 1, 1)
        return F.interpolate(torch.cat(found), (height, width), mode="bilinear", align_corners=False) * scale

    return flow


def interpolator(patcher) -> Flow:
    """The frames between others, by core's INTERP_MODEL (RIFE or FILM in a ModelPatcher). Raises ValueError."""
    if not isinstance(patcher, comfy.model_patcher.ModelPatcher):
        raise ValueError(
            f"interp_model: not the model of ComfyUI's Load Frame Interpolation Model but {type(patcher).__name__}; "
            "link that node, or nothing")  # fmt: skip

    def between(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        net, dtype = patcher.model, patcher.model_dtype()
        height, width = a.shape[2:]
        room = net.memory_used_forward((2, height, width, 3), dtype)
        comfy.model_management.load_models_gpu([patcher], memory_required=room)
        align = getattr(net, "pad_align", 1)
        found = []
        try:
            for pair in zip(a, b, strict=True):  # one at a time: memory
                given = (image[None].to(patcher.load_device, dtype) for image in pair)
                first, second = (pad_to_patch_size(image, (align, align), padding_mode="reflect") for image in given)
                half = first.new_full((1, 1, *first.shape[2:]), 0.5)
                found.append(net(first, second, timestep=half)[:, :, :height, :width].float().clamp(0, 1))
        except (RuntimeError, ArithmeticError) as error:  # pyramids and borders that the frame is too small for
            if out_of_memory(error):
                raise
            raise ValueError(
                f"interp_model: {type(net).__name__} cannot take frames of {width}x{height} ({error}); larger ones, or "
                "leave it out") from error  # fmt: skip
        return torch.cat(found).to(a.device)

    return between


@dataclass(frozen=True)
class Prompts:
    """Features of a video's prompt [1, D] and its events' [E, D], and each frame's event own [N]; None: not asked."""

    whole: torch.Tensor | None = None
    texts: torch.Tensor | None = None
    own: torch.Tensor | None = None

    @classmethod
    def of(cls, global_prompt: str, events: str, frames: int, rate: float, encoder) -> "Prompts":
        """events: the text of a Prompt Timeline; each counts together with the global prompt. Raises ValueError."""
        if not (global_prompt.strip() or events.strip()):
            return cls()
        if encoder is None:
            raise ValueError("global_prompt and events need an encoder: CLIP by Load Metric Encoder; or empty them")
        found = parse_timeline(events, frames, rate) if events.strip() else []
        try:
            whole = encoder.texts([global_prompt]) if global_prompt.strip() else None
            texts = encoder.texts(join_prompts(global_prompt, found)[1]) if found else None
        except ValueError as error:
            raise ValueError(f"global_prompt and events: {error}") from error
        own = torch.full((frames,), -1)
        for i, event in enumerate(found):
            own[event.start : event.end] = i
        return cls(whole, texts, own)


@dataclass(frozen=True)
class Measured:
    """A video's Series, what its motion and its frames between frames were found with, its frames' features [N, D]
    (None: no encoder), imaging_quality where the encoder's folder has the network for it, and the sha256 of the frames
    in 8 bits: the same video is told by it, however often it is measured."""

    series: Series
    backend: str
    between: str
    features: torch.Tensor | None
    imaging: list[Result]
    digest: str


@torch.no_grad()
def measured(
    source: Source, optical_flow=None, encoder=None, progress: Callable[[int, int], None] = lambda done, total: None,
    interp_model=None,
) -> Measured:  # fmt: skip
    """optical_flow, interp_model: core's OPTICAL_FLOW and INTERP_MODEL or None; encoder: metric_encoders.Encoder or
    None. Raises ValueError."""
    device = comfy.model_management.get_torch_device()
    flow, backend = (by_luma, PLAIN) if optical_flow is None else (raft(optical_flow), "RAFT (OPTICAL_FLOW)")
    if device.type != "cpu":
        comfy.model_management.free_memory(ROOM, device)  # a video model may fill it
    made, between = backend, None
    if interp_model is not None:
        between, made = interpolator(interp_model), f"{type(interp_model.model).__name__} (INTERP_MODEL)"
    collector, features, digest = Collector(flow, source.rate, between), None, hashlib.sha256()
    try:
        quality = imaging.of(encoder)
    except ValueError as error:
        raise ValueError(f"encoder: {error}") from error
    scores = torch.empty(source.count if quality else 0)
    for frames in pieces(source):
        try:
            at = collector.count
            collector.add(frames.to(device))
            if encoder is not None:
                part = encoder.images(frames)
                if features is None:
                    features = part.new_empty(source.count, part.shape[1])
                features[at : collector.count] = part
            if quality is not None:
                scores[at : collector.count] = quality.scores(frames)
        except ValueError as error:
            raise ValueError(f"{source.name}: {error}") from error
        digest.update((frames.cpu().float().clamp(0, 1) * 255).round().byte().contiguous().numpy())
        progress(collector.count, source.count)
    looks = imaging.results(quality, scores)
    return Measured(collector.series(), backend, made, features, looks, digest.hexdigest())
