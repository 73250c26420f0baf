"""MEVG (arXiv 2312.04086, first called MTVG): clip after clip, one event each, begun from the last frame of the one
before. The names in brackets are those of the authors' code (kuai-lab/eccv24_MEVG).

A new clip's latent is made of that clean frame, repeated over the clip, and then sampled under its own event's prompt:

- Inversion (ddim_clean2noise_loop): the repeated frame goes up the noise levels by DDIM, with the empty text.
- Dynamic noise: on the way the noise of frame i is a mix of the inverted one and a fresh one, with kappa_i =
  exp(-10 (i - 1) / (f - 2)), so that later frames are free to move. Here its variance stays 1; the code has 1 / (1 +
  kappa^2) for the fresh part's deviation, where that would be its variance.
- Last-frame-aware inversion, LFAI (next_clean2noise_step): at each level the clip's first x0 is pulled to what the clip
  before predicted for its last frame at this level, as the paper has it. (The code takes its first frame.)
- Structure-guided sampling, SGS (next_noise2clean_step): at each step, for f = 0, 1, ..: every x0 up to frame f is
  pulled to the frame before it, frame 0 to the last x0 of the clip before at this step. As in the code, the neighbour
  is pulled as well (the target is not detached) and gradients add up over f (they are never set to 0).

Where the noisiest level holds nothing of the picture, inversion has nothing to hand on: its last move keeps the noise
alone. So it is on flow models (x = (1 - sigma) x0 + sigma eps, at sigma 1) and at zero terminal SNR (CogVideoX: 2e-4 of
x), while the authors' LVDM keeps 0.068. There BEGIN "renoise" takes its place: clips begin at a lower level of the
schedule (start_percent), from the repeated frame brought to that level at once, whose noise is frame 0's for all
frames, made dynamic in the same way. Nothing strays from the frame on that way, so LFAI belongs to "invert" alone.

Causal VAEs give a video's first latent frame one pixel frame only. With first_latent "anchor" a new clip's first frame
stands for the last one of the clip before, and is dropped; "as_is" appends whole clips, as the paper does.

The steps are deterministic (DDIM with eta 0, which is Euler); the authors have eta 1. The pulls are told in the
authors' numbers, which go with mean squares over their frame of 4 x 32 x 32 values; other sizes are pulled as much. SGS
pulls harder in longer clips, for its gradients add up: at 7 frame 0 goes 11 % of the way in 13 frames, 34 % in 33;
there it overshoots somewhere
between 20 and 30. Nothing here knows ComfyUI.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch

from .checks import held
from .windows import FIRST_LATENT, LONGEST, starts_count

DIM = 2  # frames of [batch, channels, frames, height, width]
BEGIN = ("renoise", "invert")
VALUES = 4 * 32 * 32  # of a frame in the authors' model
FADE = 10.0  # kappa falls from 1 to exp(-FADE) over a clip
LEAST_SIGNAL = 0.01  # share of the picture in a latent, below which inversion hands nothing on


@dataclass(frozen=True)
class MEVGSettings:
    """length: latent frames of a clip; the rest: see above. Raises ValueError."""

    length: int
    begin: str = "renoise"
    start_percent: float = 0.2
    shared_noise: float = 1.0
    lfai: float = 1000.0
    sgs: float = 7.0
    first_latent: str = "anchor"

    def __post_init__(self):
        held(
            self,
            {"length": (2, LONGEST, True), "start_percent": (0, 0.95), "shared_noise": (0, 10), "lfai": (0, 2048),
             "sgs": (0, 30)},
            {"begin": BEGIN, "first_latent": FIRST_LATENT},
        )  # fmt: skip


@dataclass(frozen=True)
class Clip:
    """The model sees the frames from `start` on; of these, new to end are the video's."""

    start: int
    new: int
    end: int

    def numbers(self, length: int) -> list[int]:
        """Whose prompt each of the clip's frames reads: those of its own frames."""
        return [min(max(i, self.new), self.end - 1) for i in range(self.start, self.start + length)]


def clips(settings: MEVGSettings, events: Sequence[Hashable]) -> list[Clip]:
    """The clips of a video whose frames show these events: none reaches over two of them. All are as long as the
    model's clip; what is left behind the end of an event or of the video is cut off."""
    out: list[Clip] = []
    new = 0
    while new < len(events):
        start = new - 1 if out and settings.first_latent == "anchor" else new
        whole = range(new, min(start + settings.length, len(events)))
        end = next((i for i in whole if events[i] != events[new]), whole.stop)
        out.append(Clip(start, new, end))
        new = end
    return out


def calls(settings: MEVGSettings, count: int, steps: int, first: int) -> tuple[int, int]:
    """(guided calls, calls with the empty text) of `count` clips, of which all but one begin at step `first`."""
    later = (count - 1) * (steps - first)
    return steps + later, later if settings.begin == "invert" else 0


def cost_text(settings: MEVGSettings, count: int, frames: int, steps: int, first: int, branches: int) -> str:
    """One line: what a video of `frames` latent frames takes, compared with plain windows."""
    f, (guided, empty) = settings.length, calls(settings, count, steps, first)
    plain, mine = starts_count(frames, f, f - f // 2, 0) * steps * branches, guided * branches + empty
    told = f"{guided} x {branches} CFG branches" + (f" + {empty} with the empty text" if empty else "")
    return (
        f"{frames} latent frames in {count} clips of {f}, {steps} steps for the first, {steps - first} for each later "
        f"one; {told} = {mine} window evaluations, {mine / plain:.2f}x plain windows of half overlap ({plain})"
    )


def step(x: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """Core's euler, in its order of rounding."""
    return x + (x - x0) / sigma * (following - sigma)


def dynamic(eps: torch.Tensor, fresh: torch.Tensor, shared: float) -> torch.Tensor:
    """Noise [B, C, f, H, W] whose frames are ever less `eps` and more `fresh`; frame 0 is that of eps."""
    kappa = shared * torch.exp(-torch.linspace(0, FADE, eps.shape[DIM] - 1)).to(eps).view(-1, 1, 1)
    later = (kappa * eps[:, :, 1:] + fresh[:, :, 1:]) / (1 + kappa**2).sqrt()
    return torch.cat([eps[:, :, :1], later], DIM)


def last_frame_aware(x0: torch.Tensor, last: torch.Tensor, lfai: float) -> torch.Tensor:
    """LFAI: x0 - lfai * the gradient of mean (x0[0] - last)^2."""
    pulled = x0[:, :, :1] - 2 * lfai / VALUES * (x0[:, :, :1] - last)
    return torch.cat([pulled, x0[:, :, 1:]], DIM)


def structure_guided(x0: torch.Tensor, last: torch.Tensor, sgs: float) -> torch.Tensor:
    """SGS: for f = 0, 1, ..: x0 -= sgs * the sum of all gradients so far of mean over the frames j <= f of
    (x0[j] - x0[j - 1])^2, where x0[-1] is `last`."""
    x0, gradient = x0.clone(), torch.zeros_like(x0)
    for f in range(x0.shape[DIM]):
        upto = x0[:, :, : f + 1]
        apart = upto - torch.cat([last, upto[:, :, :-1]], DIM)
        apart[:, :, :-1] -= apart[:, :, 1:].clone()  # each is its follower's target, too
        gradient[:, :, : f + 1] += 2 / (VALUES * (f + 1)) * apart
        upto -= sgs * gradient[:, :, : f + 1]
    return x0


Predict = Callable[[torch.Tensor, torch.Tensor, int], torch.Tensor]  # x0 of x [B, C, f, H, W] at a sigma, in a step
Levels = Callable[[torch.Tensor], tuple[float, float]]  # how much x0 and how much noise is in x at a sigma
Lasts = dict[int, torch.Tensor]  # x0 of a clip's last frame [B, C, 1, H, W], by step


def inverted(
    settings: MEVGSettings, frame: torch.Tensor, sigmas: torch.Tensor, first: int, predict: Predict, levels: Levels,
    fresh: Callable[[int], torch.Tensor], lasts: Lasts,
) -> torch.Tensor:  # fmt: skip
    """A clip's latent at sigmas[first] of its clean first frame [B, C, 1, H, W]: DDIM from level to level, by what the
    model says, with the empty text, of the latent at the higher one (as in the code, which leaves its variance)."""
    x = frame.repeat(1, 1, settings.length, 1, 1)
    for i in range(len(sigmas) - 2, first - 1, -1):
        (signal, noise), (higher_signal, higher_noise) = levels(sigmas[i + 1]), levels(sigmas[i])
        seen = x * (math.hypot(higher_signal, higher_noise) / math.hypot(signal, noise))
        eps = (seen - higher_signal * predict(seen, sigmas[i], i)) / higher_noise
        eps = dynamic(eps, fresh(i), settings.shared_noise)
        x0 = last_frame_aware((x - noise * eps) / signal, lasts[i], settings.lfai)
        x = higher_signal * x0 + higher_noise * eps
    return x


def sampled(
    settings: MEVGSettings, x: torch.Tensor, sigmas: torch.Tensor, first: int, predict: Predict, levels: Levels,
    before: Lasts | None, last: int, shown: Callable[[int, torch.Tensor], None],
) -> tuple[torch.Tensor, Lasts]:  # fmt: skip
    """(clean clip, its own Lasts) of a clip's latent x at sigmas[first]; before: of the clip before (None: there is
    none, and nothing pulls); last: which of its frames the next clip begins from; shown(step, x0): after each."""
    lasts: Lasts = {}
    for i in range(first, len(sigmas) - 1):
        x0 = predict(x, sigmas[i], i)
        following = step(x, x0, sigmas[i], sigmas[i + 1])
        if before is not None and settings.sgs:
            pulled = structure_guided(x0, before[i], settings.sgs)
            following += levels(sigmas[i + 1])[0] * (pulled - x0)  # the noise stays the predicted one
            x0 = pulled
        x, lasts[i] = following, x0[:, :, last : last + 1].clone()
        shown(i, x0)
    return x, lasts
