"""Synchronized coupled sampling: what a SynCoS step decides apart from the model (arXiv 2503.08605, Algorithm 1).

One step at noise level t of a long video:
1. x0' = fused prediction over all chunks, each with its own prompt;
2. while t > t_min: one noise eps for the whole video; `iters` times: B random chunks of x0', noised with eps to the
   same t, predicted, and x0' moved along the CSD direction (csd.py);
3. x0' noised with eps to the next level; after t_min ordinary DDIM.

Differs from the paper, or settles what it leaves open:
- t_min is a place in the schedule (1 = all noise, 0 = clean), as t/1000 is for the paper's models. The shifted
  schedules of flow models stay at high noise for many steps, so the number of coupled steps has a limit as well;
- the optimiser is AdamW (Appendix B), not SGD (Algorithm 1), new at every step, without weight decay;
- AdamW moves each value of x0' by up to lr whatever the gradient. In x_t that is lr * snr, harmless at the paper's
  noise levels. Where a model's schedule has more signal at its coupled steps, lr falls in proportion: see step_lr;
- exchange is ours. At 1, with SGD and lr 1, an iteration moves all chunks by the mean residual of the B predicted ones;
- Algorithm 1's eps of the steps below t_min is never drawn there; they are DDIM with the noise that x_t holds.
"""

from dataclasses import dataclass, replace

import torch

OPTIMIZERS = ("adamw", "sgd")
TIMESTEPS = ("grounded", "free")
NOISES = ("baseline", "fresh")
STAGES = ("both", "first", "second")
PICKS = ("random", "spread")
PAPER_SNR = 0.0762  # CogVideoX-2B at t = 800 (sqrt(abar) 0.076): the paper's models have no more at coupled steps


@dataclass(frozen=True)
class SynCoSSettings:
    """How stage 2 couples the chunks.

    t_min: coupled while the place in the schedule (1 = all noise) is above; max_coupled: most coupled steps of a run
    (0 = no limit); iters per step, B = `chunks` per iteration (all, where the video has fewer); lr of the optimizer,
    times decay_rate every decay_every iterations; pick: B chunks at random, or evenly spread from a random start;
    cond_only: stage 2 predicts without CFG, at half the cost; exchange: how much of another chunk's score a chunk takes
    over, see csd.kernel; above 0 all chunks move along with the B predicted ones (0: the paper's 1 / (B + 1), and those
    B alone). Ablations of the paper: timestep free (a random one per iteration), noise fresh (per iteration), stages
    first (= Gen-L-Video) or second (= CSD: coupled at every step).
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

    def __post_init__(self):
        if not 0 <= self.t_min <= 1:
            raise ValueError(f"t_min ({self.t_min}) must be from 0 (couple all steps) to 1 (none), e.g. 0.8")
        for name, least in (("max_coupled", 0), ("iters", 0), ("chunks", 1), ("decay_every", 1)):
            if getattr(self, name) < least:
                raise ValueError(f"{name} ({getattr(self, name)}) must be at least {least}")
        if not 0 < self.lr < float("inf"):
            raise ValueError(f"lr ({self.lr}) must be above 0, e.g. 0.5")
        if not 0 < self.decay_rate <= 1:
            raise ValueError(f"decay_rate ({self.decay_rate}) must be above 0 and at most 1, e.g. 0.9")
        if not 0 <= self.exchange <= 1:
            raise ValueError(f"exchange ({self.exchange}) must be from 0 (the paper's 1 / (chunks + 1)) to 1 (all)")
        if not 0 <= self.weight_decay < 1:
            raise ValueError(f"weight_decay ({self.weight_decay}) must be at least 0 and below 1")
        for name, options in (
            ("optimizer", OPTIMIZERS), ("timestep", TIMESTEPS), ("noise", NOISES), ("stages", STAGES), ("pick", PICKS),
        ):  # fmt: skip
            if getattr(self, name) not in options:
                raise ValueError(f"{name} ({getattr(self, name)}) must be one of {', '.join(options)}")

    @property
    def couples(self) -> bool:
        return self.stages != "first" and self.iters > 0


PAPER = SynCoSSettings()
PRESETS = {
    "paper": PAPER,
    "balanced": replace(PAPER, iters=4, max_coupled=5, optimizer="sgd", lr=2.5, pick="spread"),
    "fast": replace(PAPER, iters=2, max_coupled=4, optimizer="sgd", lr=2.5, pick="spread", cond_only=True),
}


def coupled_steps(settings: SynCoSSettings, sigmas: list[float], t_min_sigma: float) -> list[bool]:
    """Per step whether stage 2 runs: sigma above that of t_min, and no more than max_coupled of them.

    Stage 2 alone (CSD) has nothing else to make the video with: it runs at every step.
    """
    if not settings.couples:
        return [False] * len(sigmas)
    if settings.stages == "second":
        return [True] * len(sigmas)
    most = settings.max_coupled or len(sigmas)
    above = [i for i, sigma in enumerate(sigmas) if sigma > t_min_sigma]
    return [i in above[:most] for i in range(len(sigmas))]


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
    """The optimiser of one step; it changes x0 in place, by x0.grad."""
    if settings.optimizer == "sgd":
        return torch.optim.SGD([x0], lr=settings.lr, weight_decay=settings.weight_decay)
    return torch.optim.AdamW([x0], lr=settings.lr, weight_decay=settings.weight_decay)


def evaluations(settings: SynCoSSettings, coupled: list[bool], windows: list[int]) -> tuple[int, int]:
    """Window predictions (each one model evaluation per CFG branch) of stage 1 and stage 2 of a run.

    windows: how many chunks the video has at each step.
    """
    first = 0 if settings.stages == "second" else sum(windows)
    second = sum(settings.iters * min(settings.chunks, n) for on, n in zip(coupled, windows, strict=True) if on)
    return first, second
