"""A video measured in one pass, a few frames at a time: what is kept are numbers per frame, never the frames."""

import array
from collections.abc import Callable
from dataclasses import dataclass, fields

import torch
import torch.nn.functional as F

from . import flow as motion
from . import frames as look
from . import scenes

FLOW_SIDE = 256  # pixels of the shorter side that motion is found at, as VBench's dynamic degree reckons
SAMPLED = 8.0  # frames per second that VBench's dynamic degree looks at
CELLS = 16  # of the colour grid to each side
Flow = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]


def by_luma(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The flow [n, 2, H, W] from a to b [n, 3, H, W], without a network."""
    return motion.lucas_kanade(*(look.luma(images.movedim(1, -1)) for images in (a, b)))


@dataclass
class Series:
    """Numbers of a video of N frames, float32 on the CPU; a transition t leads from frame t to t + 1.

    change, ssim, scene, warp, motion, acceleration: [N - 1] per transition, acceleration[0] NaN (of the motion before);
    sampled: motion from one to the next of the frames 0, s, 2 s, ..., s = max(1, round(rate / SAMPLED));
    middle: [(N - 1) // 2] of frames 1, 3, ...: mean |frame - the one made of its neighbours|;
    ssim_first, sharpness, saturation: [N]; histogram [N, 3, BINS]; grid [N, D] colours.
    Motions in pixels at a shorter side of FLOW_SIDE or less: `side`.
    """

    change: torch.Tensor
    ssim: torch.Tensor
    scene: torch.Tensor
    warp: torch.Tensor
    motion: torch.Tensor
    acceleration: torch.Tensor
    sampled: torch.Tensor
    middle: torch.Tensor
    ssim_first: torch.Tensor
    sharpness: torch.Tensor
    saturation: torch.Tensor
    histogram: torch.Tensor
    grid: torch.Tensor
    side: int = 0

    def __len__(self) -> int:
        return len(self.sharpness)


def checked(frames: torch.Tensor, at: int) -> torch.Tensor:
    """[n, H, W, 3] in 0..1 of [n, H, W, 3 or 4]; at: the number of the first. Raises ValueError."""
    if frames.ndim != 4 or frames.shape[-1] not in (3, 4) or not frames[..., 0].numel():
        raise ValueError(f"frames of the shape {list(frames.shape)}; they must be [frames, height, width, 3]")
    if not frames.is_floating_point():
        raise ValueError(f"frames of the type {frames.dtype}; they must be floating point, 0 to 1")
    frames = frames[..., :3].float()
    fine = frames.isfinite().flatten(1).all(1)
    if not fine.all():
        first = at + int((~fine).nonzero()[0])
        raise ValueError(f"frame {first} has values that are no numbers (NaN or infinite)")
    return frames.clamp(0, 1)


def to_flow_size(frames: torch.Tensor) -> torch.Tensor:
    """[n, 3, h, w] whose shorter side is FLOW_SIDE at most."""
    images = frames.movedim(-1, 1)
    height, width = images.shape[2:]
    by = FLOW_SIDE / min(height, width)
    if by >= 1:
        return images
    return F.interpolate(images, (max(1, round(height * by)), max(1, round(width * by))), mode="area")


def colour_grid(frames: torch.Tensor) -> torch.Tensor:
    """[n, 3 CELLS^2]: the frame in CELLS x CELLS colours."""
    return F.adaptive_avg_pool2d(frames.movedim(-1, 1), CELLS).flatten(1)


class Collector:
    """Takes a video's frames in their order, in pieces of any size, and gives its Series.

    flow(a, b) of images [n, 3, H, W] -> [n, 2, H, W] (see flow.py); None leaves out all that follows from motion (NaN).
    between(a, b) -> the images [n, 3, H, W] in the middle of such in the video's own size; None: made by the flow.
    rate: frames per second.
    """

    def __init__(self, flow: Flow | None = by_luma, rate: float = SAMPLED, between: Flow | None = None):
        self.flow, self.between, self.count, self.step = flow, between, 0, max(1, round(rate / SAMPLED))
        # Numbers, not tensors: these would lie between the frames' memory, and keep the C library from using it again.
        self.found: dict[str, array.array] = {f.name: array.array("f") for f in fields(Series) if f.name != "side"}
        self.shapes: dict[str, torch.Size] = {}
        self.first = self.last = self.before = self.last_flow = self.last_sampled = None
        self.shape: torch.Size | None = None

    def add(self, frames: torch.Tensor) -> None:
        """The next frames [n, H, W, 3 or 4], all of one size. Raises ValueError."""
        frames = checked(frames, self.count)
        if self.first is None:
            self.shape, self.first = frames.shape[1:], look.structure(frames[:1])
        if frames.shape[1:] != self.shape:
            (h, w), (height, width) = frames.shape[1:3], self.shape[:2]
            raise ValueError(f"frame {self.count} is {w}x{h} after frames of {width}x{height}; all must be of one size")
        both = frames if self.last is None else torch.cat((self.last, frames))
        seen = look.structure(both)
        self.keep(
            ssim_first=look.ssim_of(self.first, [part[-len(frames) :] for part in seen]),
            sharpness=look.laplacian_variance(frames), saturation=look.saturation(frames),
            histogram=look.histograms(frames), grid=colour_grid(frames),
        )  # fmt: skip
        if len(both) > 1:
            small = scenes.to_width(both)
            self.keep(
                change=look.change(both[:-1], both[1:]), scene=scenes.hsv_change(small[:-1], small[1:]),
                ssim=look.ssim_of([part[:-1] for part in seen], [part[1:] for part in seen]),
            )  # fmt: skip
        images = to_flow_size(both)
        self.sample(images[-len(frames) :])
        if len(both) > 1:
            self.move(images)
            if self.flow is not None or self.between is not None:
                self.halve(both.movedim(-1, 1) if self.between is not None else images)
        self.last = frames[-1:].clone()
        self.count += len(frames)

    def keep(self, **values: torch.Tensor) -> None:
        for name, value in values.items():
            self.shapes[name] = value.shape[1:]
            self.found[name].extend(value.flatten().tolist())

    def sample(self, images: torch.Tensor) -> None:
        """Of the next images [n, 3, h, w]; where every frame is sampled, `move` finds it."""
        if self.flow is None or self.step == 1:
            return
        picked = images[-self.count % self.step :: self.step]
        run = picked if self.last_sampled is None else torch.cat((self.last_sampled, picked))
        if len(run) > 1:
            self.keep(sampled=motion.top_magnitude(self.flow(run[:-1], run[1:])))
        self.last_sampled = run[-1:].clone()

    def move(self, images: torch.Tensor) -> None:
        """Of images [n, 3, h, w], the first of which was the last one of the call before, if there was one."""
        none = images.new_full((len(images) - 1,), torch.nan)
        if self.flow is None:
            self.keep(warp=none, motion=none, acceleration=none)
            return
        a, b = images[:-1], images[1:]
        forward, backward = self.flow(a, b), self.flow(b, a)
        flows = forward if self.last_flow is None else torch.cat((self.last_flow, forward))
        bends = motion.acceleration(flows[:-1], flows[1:])
        self.keep(
            warp=motion.warping_error(a, b, forward, backward), motion=motion.top_magnitude(forward),
            acceleration=bends if self.last_flow is not None else torch.cat((none[:1], bends)))  # fmt: skip
        self.last_flow = forward[-1:].clone()

    def halve(self, images: torch.Tensor) -> None:
        """Odd frames from the even ones beside them, of images as `move` has them. before: the frame before these
        images where their first is odd."""
        run = images if self.before is None else torch.cat((self.before, images))
        left, middle, right = run[:-2:2], run[1:-1:2], run[2::2]
        if len(right):
            if self.between is not None:
                made = self.between(left, right)
            else:
                made = motion.midpoint(left, right, self.flow(left, right), self.flow(right, left))
            self.keep(middle=(made - middle).abs().mean((1, 2, 3)))
        end = self.count + len(images) - (self.last is not None) - 1  # the last frame's number
        self.before = run[-2:-1].clone() if end % 2 else None

    def series(self) -> Series:
        """Of all frames so far. Raises ValueError where there were none."""
        if not self.count:
            raise ValueError("no frames; it takes one at least")
        found = {name: torch.tensor(part).view(-1, *self.shapes.get(name, ())) for name, part in self.found.items()}
        if self.step == 1:
            found["sampled"] = found["motion"]
        return Series(**found, side=min(FLOW_SIDE, *self.shape[:2]))
