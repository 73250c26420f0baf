"""Synchronized coupled sampling: Algorithm 1 of SynCoS (arXiv 2503.08605), and what its settings decide.

`sample` is the algorithm, `couple` its second stage. One step at noise level t of a long video:
1. x0' = fused prediction over all chunks, each with its own prompt;
2. while t > t_min: one noise eps for the whole video; `iters` times: B random chunks of x0', noised with eps to the
   same t, predicted, and x0' moved along the CSD direction (csd.py);
3. x0' noised with eps to the next level; after t_min ordinary DDIM.

Differs from the paper, or settles what it leaves open:
- t_min is a place in the schedule (1 = all noise, 0 = clean), as t/1000 is for the paper's models. The shifted
  schedules of flow models stay at high noise for many steps, so the number of coupled steps has a limit as well;
- the optimiser is AdamW (Appendix B), not SGD (Algorithm 1), new at every step; its betas and weight decay are not
  given: PyTorch's betas, and no decay, which at lr 1 would shrink x0' by as much in every iteration;
- eta of DDIM is the paper's 0; above it a share of the noise is drawn anew in every step, coupled or not: see
  mixed_noise;
- AdamW moves each value of x0' by up to lr whatever the gradient. In x_t that is lr * snr, harmless at the paper's
  noise levels. Where a model's schedule has more signal at its coupled steps, lr falls in proportion: see step_lr;
- exchange is ours. At 1, with SGD and lr 1, an iteration moves all chunks by the mean residual of the B predicted ones;
- Algorithm 1's eps of the steps below t_min is never drawn there; they are DDIM with the noise that x_t holds.

Memory: beside one call of the model, a coupled iteration holds the long video four times (x0', eps, x_t, the gradient),
with AdamW six times (its two moments), however many chunks there are.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch

from ..checks import held
from ..windows import Window, group
from .csd import NoisyChunks, add_direction

OPTIMIZERS = ("adamw", "sgd")
TIMESTEPS = ("grounded", "free")
NOISES = ("baseline", "fresh")
STAGES = ("both", "first", "second")
PICKS = ("random", "spread")
FREE_RANGE = (0.02, 0.98)  # places in the schedule that free timesteps come from
CALL = 8  # most chunks of one call of the model: memory follows it
PIECES = 16  # of x0', one after the other through the optimiser: its temporaries are as small
PAPER_SNR = 0.0762  # CogVideoX-2B at t = 800 (sqrt(abar) 0.076): the paper's models have no more at coupled steps


@dataclass(frozen=True)
class SynCoSSettings:
    """How stage 2 couples the chunks.

    t_min: coupled while the place in the schedule (1 = all noise) is above; max_coupled: most coupled steps of a run
    (0 = no limit); iters per step, B = `chunks` per iteration (all, where the video has fewer); lr of the optimizer,
    times decay_rate every decay_every iterations; pick: B chunks at random, or evenly spread from a random start;
    cond_only: stage 2 predicts without CFG, at half the cost; exchange: how much of another chunk's score a chunk takes
    over, see csd.kernel; above 0 all chunks move along with the B predicted ones (0: the paper's 1 / (B + 1), and those
    B alone); beta1, beta2 and weight_decay of AdamW; eta of DDIM. Ablations of the paper: timestep free (a random one
    per iteration), noise fresh (per iteration), stages first (= Gen-L-Video) or second (= CSD: coupled at every step).
    Raises ValueError for values that make no sense.
    """

    t_min: float = 0.8
    max_coupled: int = 10
    iters: int = 20
    chunks: int = 4
    lr: float = 0.5
    optimizer: str = "adamw"
    decay_every: int = 20
    decay_rate: float = 0.9
    weight_decay: float = 0.0
    timestep: str = "grounded"
    noise: str = "baseline"
    stages: str = "both"
    pick: str = "random"
    cond_only: bool = False
    exchange: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    eta: float = 0.0

    def __post_init__(self):
        held(
            self,
            {"t_min": (0.0, 1.0), "max_coupled": (0, 1000, True), "iters": (0, 500, True), "chunks": (1, 64, True),
             "lr": (1e-6, 100.0), "decay_every": (1, 500, True), "decay_rate": (0.01, 1.0), "exchange": (0.0, 1.0),
             "weight_decay": (0.0, 0.99), "beta1": (0.0, 0.9999), "beta2": (0.0, 0.99999), "eta": (0.0, 1.0)},
            {"optimizer": OPTIMIZERS, "timestep": TIMESTEPS, "noise": NOISES, "stages": STAGES, "pick": PICKS},
        )  # fmt: skip
        if self.eta and self.stages == "second":
            raise ValueError(
                f"eta ({self.eta:g}): stages second carries no noise from step to step that could be renewed; use 0"
            )

    @property
    def couples(self) -> bool:
        return self.stages != "first" and self.iters > 0


PAPER = SynCoSSettings()
PRESETS = {
    "paper": PAPER,
    "balanced": replace(PAPER, iters=4, max_coupled=5, optimizer="sgd", lr=2.5, pick="spread"),
    "fast": replace(PAPER, iters=2, max_coupled=4, optimizer="sgd", lr=2.5, pick="spread", cond_only=True),
}


def coupled_steps(
    settings: SynCoSSettings, sigmas: list[float], t_min_sigma: float, index: int = 0
) -> list[bool]:
    """Per step whether stage 2 runs: sigma above that of t_min, within the first max_coupled steps of the whole
    schedule, of which these begin at step `index`.

    Stage 2 alone (CSD) has nothing else to make the video with: it runs at every step.
    """
    if not settings.couples:
        return [False] * len(sigmas)
    if settings.stages == "second":
        return [True] * len(sigmas)
    most = settings.max_coupled or math.inf
    return [sigma > t_min_sigma and index + i < most for i, sigma in enumerate(sigmas)]


def picked_chunks(settings: SynCoSSettings, count: int, generator: torch.Generator) -> list[int]:
    """Indices, ascending, of the B chunks of one iteration, out of `count`."""
    n = min(settings.chunks, count)
    if settings.pick == "random":
        return sorted(torch.randperm(count, generator=generator)[:n].tolist())
    start = int(torch.randint(count, (1,), generator=generator))
    return sorted({(start + i * count // n) % count for i in range(n)})


def step_lr(settings: SynCoSSettings, snr: float, iteration: int) -> float:
    """Learning rate of one iteration: lr * decay; for AdamW times min(1, PAPER_SNR / snr).

    snr: signal over noise amplitude of the step. SGD moves x0' in proportion to what the prediction says: no rule.
    """
    lr = settings.lr * settings.decay_rate ** (iteration // settings.decay_every)
    return lr * min(1.0, PAPER_SNR / snr) if settings.optimizer == "adamw" and snr > 0 else lr


def new_optimizer(settings: SynCoSSettings, x0: torch.Tensor) -> torch.optim.Optimizer:
    """The optimiser of one step; descend has it change x0 (contiguous) in place, in pieces."""
    pieces = x0.view(-1).split(piece_size(x0))
    options = {"lr": settings.lr, "foreach": False}  # foreach would make the temporaries of all pieces at once
    if settings.optimizer == "sgd":
        return torch.optim.SGD(pieces, **options)
    betas = (settings.beta1, settings.beta2)
    return torch.optim.AdamW(pieces, betas=betas, weight_decay=settings.weight_decay, **options)


def piece_size(x0: torch.Tensor) -> int:
    """Values of a piece: a multiple of any vector register, so that pieces are rounded as the whole would be."""
    return -(-x0.numel() // (PIECES * 1024)) * 1024


def descend(optimizer: torch.optim.Optimizer, gradient: torch.Tensor, lr: float) -> None:
    """One update of the x0 that the optimiser was made for, by a gradient of the same shape."""
    (options,) = optimizer.param_groups
    options["lr"] = lr
    for piece, part in zip(options["params"], gradient.view(-1).split(piece_size(gradient)), strict=True):
        piece.grad = part
    optimizer.step()
    optimizer.zero_grad()


def evaluations(settings: SynCoSSettings, coupled: list[bool], windows: list[int]) -> tuple[int, int]:
    """Window predictions (each one model evaluation per CFG branch) of stage 1 and stage 2 of a run.

    windows: how many chunks the video has at each step.
    """
    first = 0 if settings.stages == "second" else sum(windows)
    second = sum(settings.iters * min(settings.chunks, n) for on, n in zip(coupled, windows, strict=True) if on)
    return first, second


class Step(Protocol):
    """One step of a run as Algorithm 1 sees it: the model, its noise schedule, the draws. adapters/syncos.py has
    ComfyUI's. Videos are [B, C, F, H, W]; a noise level is whatever the schedule's own functions take."""

    sigma: torch.Tensor  # noise level t of the step
    following: torch.Tensor  # that of the next one
    coupled: bool  # t > t_min, see coupled_steps
    windows: Sequence[Window]  # the chunks, all of the same length
    mask: torch.Tensor | None  # 1 where the video is made, 0 where it is kept
    resumed: bool  # fused gave what stage 2 had made of it in an earlier run: it is not to run again

    def fused(self, x: torch.Tensor) -> torch.Tensor:
        """Fused prediction x0' of the noisy video x over all chunks."""

    def predict(self, x: torch.Tensor, sigma: torch.Tensor, windows: Sequence[Window], iteration: int) -> torch.Tensor:
        """x0_hat of single chunks of x, one after the other in the frame axis."""

    def renoise(self, x0: torch.Tensor, eps: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """AddNoise: x0 with the noise eps at level sigma."""

    def shown(self, x: torch.Tensor, eps: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """x as the model is to see it: with what the mask keeps, at level sigma. May change x."""

    def kept(self, x0: torch.Tensor) -> torch.Tensor:
        """x0 with the given video where a mask keeps it."""

    def levels(self, sigma: torch.Tensor) -> tuple[float, float]:
        """Amplitudes of x0 and eps in what renoise makes."""

    def sigma_at(self, place: float) -> torch.Tensor:
        """Noise level at a place in the schedule (1 = all noise, 0 = clean)."""

    def draw(self, purpose: str, iteration: int = 0) -> torch.Generator:
        """The same however the run reached this step, and another one for every purpose and iteration."""

    def progress(self, iteration: int) -> None:
        """Stage 1 (0) or an iteration of stage 2 (1 ..) is done. Raises to cancel."""

    def done(self, x: torch.Tensor, x0: torch.Tensor) -> None:
        """x, at the step's noise level, gave x0."""


def noise_of(step: Step, like: torch.Tensor, iteration: int = 0) -> torch.Tensor:
    """eps for the whole video; iteration 0: the baseline noise. Drawn on the CPU."""
    return torch.randn(like.shape, generator=step.draw("noise", iteration)).to(like)


def mixed_noise(eps: torch.Tensor, step: Step, eta: float) -> torch.Tensor:
    """The noise of the next level, eps~ of the paper's Eq. 1: sqrt(1 - r^2) eps + r times new noise. DDIM's
    r = eta sqrt(1 - (s' / s)^2), with s and s' the noise over signal amplitude of the step and of the next one."""
    if eta == 0:
        return eps
    (signal, noise), (next_signal, next_noise) = step.levels(step.sigma), step.levels(step.following)
    kept = next_noise * signal / (next_signal * noise) if next_signal else 1.0  # s' / s
    r = eta * math.sqrt(max(1 - kept**2, 0.0))
    fresh = torch.randn(eps.shape, generator=step.draw("eta")).to(eps)
    return fresh.mul_(r).add_(eps, alpha=math.sqrt(1 - r * r))


@torch.no_grad()
def sample(x: torch.Tensor, steps: Iterable[Step], settings: SynCoSSettings) -> torch.Tensor:
    """Algorithm 1: the noisy video x [B, C, F, H, W] of the first step brought to the noise level that the last step
    ends at."""
    x0 = None
    for step in steps:
        if settings.stages != "second":
            x0 = step.fused(x)  # stage 1
        elif x0 is None:
            x0 = step.kept(x / step.levels(step.sigma)[1])  # CSD alone starts from noise
        step.progress(0)
        if step.coupled:
            del x  # not looked at again: from here on x_t is made of x0' and eps
            eps = None if settings.noise == "fresh" else noise_of(step, x0)  # fixed baseline noise
            x0 = x0.clone(memory_format=torch.contiguous_format)
            if not step.resumed:
                couple(x0, eps, step, settings)  # stage 2
            if eps is None:
                eps = noise_of(step, x0, settings.iters + 1)
            step.done(step.renoise(x0, eps, step.sigma), x0)
            x = step.renoise(x0, mixed_noise(eps, step, settings.eta), step.following)  # stage 3
            del eps
        else:
            step.done(x, x0)
            if settings.eta:
                signal, noise = step.levels(step.sigma)
                eps = (x - signal * x0).div_(noise)
                x = step.renoise(x0, mixed_noise(eps, step, settings.eta), step.following)
                continue
            # DDIM with the noise that x holds: x + (x - x0) / sigma * (following - sigma)
            x = (x - x0).div_(step.sigma).mul_(step.following - step.sigma).add_(x)
        if settings.stages != "second":
            x0 = None
    return x


@torch.no_grad()
def couple(x0: torch.Tensor, eps: torch.Tensor | None, step: Step, settings: SynCoSSettings) -> None:
    """Stage 2 of Algorithm 1: `iters` iterations at one step, which change x0 (x0', contiguous) in place.

    eps: the noise of all of them (None: each draws its own). Both [B, C, F, H, W].
    """
    optimizer = new_optimizer(settings, x0)
    picks, places = step.draw("chunks"), step.draw("places")
    sigma, (signal, noise) = step.sigma, step.levels(step.sigma)  # grounded timestep
    for k in range(settings.iters):
        if settings.timestep == "free":
            low, high = FREE_RANGE
            sigma = step.sigma_at(low + (high - low) * float(torch.rand(1, generator=places)))
            signal, noise = step.levels(sigma)
        if settings.noise == "fresh":
            eps = noise_of(step, x0, k + 1)
        picked = picked_chunks(settings, len(step.windows), picks)
        moved = range(len(step.windows)) if settings.exchange else picked
        windows, scored = [step.windows[i] for i in moved], [moved.index(i) for i in picked]

        x = step.shown(step.renoise(x0, eps, sigma), eps, sigma)
        chunks = NoisyChunks.of(x, signal, noise, windows, settings.exchange)
        g = None
        for part in group(len(scored), CALL):
            some = [scored[i] for i in part]
            predicted = step.predict(x, sigma, [windows[j] for j in some], k + 1)
            g = torch.zeros_like(x0) if g is None else g  # not held while the model works
            add_direction(g, x0, predicted, chunks, some, len(scored))
            del predicted
        del x, chunks
        if step.mask is not None:
            g *= step.mask
        descend(optimizer, g, step_lr(settings, signal / noise, k))
        del g
        step.progress(k + 1)
