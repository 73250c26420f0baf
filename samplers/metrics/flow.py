"""Motion between frames, and what follows from it. A flow is [n, 2, H, W] in pixels (x, y): a(p) is b(p + flow(p))."""

import math

import torch
import torch.nn.functional as F

SIDE = 7  # pixels of the square around one that move with it; `box` adds up 2 + 4 + 1
ROUNDS = 3  # at each size
SMALLEST = 16  # pixels of the pyramid's smallest side
RIGID = 1e-4  # of the picture's grey range squared: what a place without structure is held by
PULL = 3e-6  # of the grey range squared per squared pixel: what a longer motion has to explain more
SHARE = 0.05  # of the largest motions (VBench, dynamic degree)


def grid(flow: torch.Tensor) -> torch.Tensor:
    """Where p + flow(p) lies, as grid_sample has it, [n, H, W, 2]."""
    height, width = flow.shape[2:]
    x = torch.arange(width, device=flow.device, dtype=flow.dtype) + flow[:, 0]
    y = torch.arange(height, device=flow.device, dtype=flow.dtype)[:, None] + flow[:, 1]
    return torch.stack((2 * x / max(width - 1, 1) - 1, 2 * y / max(height - 1, 1) - 1), -1)


def warp(images: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """images [n, C, H, W] at p + flow(p); the nearest pixel beyond the edge."""
    return F.grid_sample(images, grid(flow), mode="bilinear", padding_mode="border", align_corners=True)


def box(images: torch.Tensor) -> torch.Tensor:
    """Sum over the SIDE x SIDE square around each pixel, nothing beyond the edge; from sums of 2 and 4, for speed."""
    reach = SIDE // 2
    for dim, pad in ((-1, (reach, reach)), (-2, (0, 0, reach, reach))):
        one = F.pad(images, pad)
        size = images.shape[dim]
        two = one.narrow(dim, 0, size + SIDE - 2) + one.narrow(dim, 1, size + SIDE - 2)
        four = two.narrow(dim, 0, size) + two.narrow(dim, 2, size)
        images = four + two.narrow(dim, 4, size) + one.narrow(dim, 6, size)
    return images


def around(images: torch.Tensor) -> torch.Tensor:
    """Mean over the square around each pixel, of the pixels that there are."""
    return box(images) / box(torch.ones_like(images[:1, :1]))


def gradients(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """d/dx, d/dy of [n, 1, H, W], central differences."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    x = (padded[..., 1:-1, 2:] - padded[..., 1:-1, :-2]) / 2
    y = (padded[..., 2:, 1:-1] - padded[..., :-2, 1:-1]) / 2
    return x, y


def level(a: torch.Tensor, b: torch.Tensor, flow: torch.Tensor) -> torch.Tensor:
    """The flow [n, 2, H, W] of a, b [n, 1, H, W], begun at `flow`: Lucas-Kanade, each place's 2x2 system solved.

    A place then takes what explains it best of the flow found, the one begun at and none, so that what moves does not
    drag along what has no structure.
    """
    x, y = gradients(a)
    xx, xy, yy = around(torch.cat((x * x, x * y, y * y), 1)).split(1, 1)
    xx, yy = xx + RIGID, yy + RIGID
    determinant = xx * yy - xy * xy
    found = flow
    for _ in range(ROUNDS):
        error = a - warp(b, found)
        ex, ey = around(torch.cat((x * error, y * error), 1)).split(1, 1)
        step = torch.cat((yy * ex - xy * ey, xx * ey - xy * ex), 1) / determinant
        found = found + step.clamp(-1, 1)  # a step is right about a pixel around
    best, least = torch.zeros_like(flow), around((a - b) ** 2)
    for one in (flow, around(found)):
        cost = around((a - warp(b, one)) ** 2) + PULL * (one**2).sum(1, keepdim=True)
        best, least = torch.where(cost < least, one, best), torch.minimum(cost, least)
    return best


def lucas_kanade(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """The flow [n, 2, H, W] from a to b [n, H, W] in 0..1, from coarse to fine (Bouguet 2001).

    0 where nothing has structure. Small motions are overrated by a tenth or two, those beyond a sixth of the side are
    not found; a learned flow (RAFT) is better, and ten times as dear.
    """
    a, b = a[:, None], b[:, None]
    levels = [(a, b)]
    while min(levels[-1][0].shape[2:]) >= 2 * SMALLEST:
        size = [math.ceil(side / 2) for side in levels[-1][0].shape[2:]]
        levels.append(tuple(F.interpolate(image, size, mode="area") for image in levels[-1]))
    flow = a.new_zeros(len(a), 2, *levels[-1][0].shape[2:])
    for one, other in reversed(levels):
        size = one.shape[2:]
        if flow.shape[2:] != size:
            scale = flow.new_tensor([size[1] / flow.shape[3], size[0] / flow.shape[2]]).view(1, 2, 1, 1)
            flow = F.interpolate(flow, size, mode="bilinear", align_corners=False) * scale
        flow = level(one, other, flow)
    return flow


def occluded(forward: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
    """Where the two flows do not cancel [n, H, W]: |F + B(p + F)|^2 > 0.01 (|F|^2 + |B(p + F)|^2) + 0.5.

    Sundaram, Brox, Keutzer 2010, Eq. 5.
    """
    there = warp(backward, forward)
    square = (forward**2).sum(1) + (there**2).sum(1)
    return ((forward + there) ** 2).sum(1) > 0.01 * square + 0.5


def warping_error(
    a: torch.Tensor, b: torch.Tensor, forward: torch.Tensor, backward: torch.Tensor
) -> torch.Tensor:  # fmt: skip
    """Mean [n] over the places seen in both of |b(p + F(p)) - a(p)|, a, b [n, C, H, W]; NaN where none is."""
    error = (warp(b, forward) - a).abs().mean(1)
    seen = ~occluded(forward, backward)
    return (error * seen).sum((1, 2)) / torch.where(seen.any(2).any(1), seen.sum((1, 2)), math.nan)


def top_magnitude(flow: torch.Tensor, share: float = SHARE) -> torch.Tensor:
    """Mean length [n] in pixels of the largest `share` of the motions (VBench's dynamic degree)."""
    lengths = torch.hypot(*flow.unbind(1)).flatten(1)
    return lengths.topk(max(1, int(lengths.shape[1] * share)), 1).values.mean(1)


def midpoint(a: torch.Tensor, c: torch.Tensor, forward: torch.Tensor, backward: torch.Tensor) -> torch.Tensor:
    """The frame between a and c [n, C, H, W], both brought half the way: 1/2 a(p - F/2) + 1/2 c(p - B/2)."""
    return (warp(a, -forward / 2) + warp(c, -backward / 2)) / 2


def acceleration(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Mean [n] of |F_t - F_t-1| in pixels: how much the motion changes from one transition to the next."""
    return (after - before).norm(dim=1).mean((1, 2))
