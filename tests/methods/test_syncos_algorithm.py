"""Algorithm 1 alone, without ComfyUI: against a plain statement of it, and the memory it holds."""

import math
from dataclasses import replace

import pytest
import torch
from longtake.benchmarks import allocations
from longtake.samplers.syncos.coupling import CALL, SynCoSSettings, couple, picked_chunks, sample
from longtake.samplers.syncos.csd import AT_ONCE
from longtake.samplers.windows import WindowSettings, local_windows

LENGTH, OVERLAP = 5, 3


def believed(x, sigma, start):
    """A chunk's x0 in the eyes of a toy model whose prompt follows from the chunk's start."""
    return 0.8 * torch.tanh(x) + math.sin(start) * (1 - float(sigma))


class Flow:
    """A coupling.Step: x = (1 - sigma) * x0 + sigma * eps, and the toy model above."""

    mask, resumed = None, False

    def __init__(self, i, levels, coupled, windows):
        self.i, self.windows, self.coupled = i, windows, coupled
        self.sigma, self.following = levels[i], levels[i + 1]
        self.seen = []

    def fused(self, x):
        total, count = torch.zeros_like(x), torch.zeros(x.shape[2], dtype=x.dtype)
        for w in self.windows:
            total[:, :, list(w.indices)] += believed(x[:, :, list(w.indices)], self.sigma, w.indices[0])
            count[list(w.indices)] += 1
        return total / count.view(-1, 1, 1)

    def predict(self, x, sigma, windows, iteration):
        parts = [x[:, :, w.indices[0] : w.indices[-1] + 1] for w in windows]
        return torch.cat([believed(p, sigma, w.indices[0]) for p, w in zip(parts, windows, strict=True)], 2)

    def renoise(self, x0, eps, sigma):
        return (x0 * (1 - sigma)).add_(eps, alpha=float(sigma))

    def shown(self, x, eps, sigma):
        return x

    def kept(self, x0):
        return x0

    def levels(self, sigma):
        return 1 - float(sigma), float(sigma)

    def sigma_at(self, place):
        return torch.tensor(place)

    def draw(self, purpose, iteration=0):
        return torch.Generator().manual_seed(1000 * self.i + 100 * len(purpose) + iteration)

    def progress(self, iteration):
        self.seen.append(iteration)

    def done(self, x, x0):
        self.seen.append("done")


def steps_of(frames, settings, levels=(0.95, 0.9, 0.6, 0.3, 0.0), coupled=2):
    windows = local_windows(WindowSettings(LENGTH, OVERLAP), frames, 0)
    levels = torch.tensor(levels, dtype=torch.float64)
    return [Flow(i, levels, i < coupled, windows) for i in range(len(levels) - 1)]


def start(frames, batch=1, seed=0, dtype=torch.float64):
    return torch.randn(batch, 2, frames, 3, 3, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def by_hand(x, steps, settings):
    """Algorithm 1 for a batch of one, chunk by chunk and frame by frame."""
    for step in steps:
        s, following = float(step.sigma), float(step.following)
        chunks = [list(w.indices) for w in step.windows]
        frames = range(x.shape[2])

        def fusion(parts, chunks=chunks, frames=frames, like=x):
            out = torch.zeros_like(like)
            for f in frames:
                there = [part[:, :, c.index(f)] for part, c in zip(parts, chunks, strict=True) if f in c]
                if there:
                    out[:, :, f] = sum(there) / len(there)
            return out

        def ddim(x0, eps, s=s, following=following, step=step):
            """DDIM's Eq. 12 and 16, in the variance-preserving coordinates that flow's are a scale of."""
            size, next_size = math.hypot(1 - s, s), math.hypot(1 - following, following)
            a, b = ((1 - s) / size) ** 2, ((1 - following) / next_size) ** 2
            new = settings.eta * math.sqrt((1 - b) / (1 - a)) * math.sqrt(1 - a / b)
            fresh = torch.randn(x0.shape, generator=step.draw("eta")).double()
            return next_size * (math.sqrt(b) * x0 + math.sqrt(max(1 - b - new**2, 0)) * eps + new * fresh)

        x0 = fusion([believed(x[:, :, c], s, c[0]) for c in chunks])
        if not step.coupled:
            eps = (x - (1 - s) * x0) / s
            x = ddim(x0, eps)
            continue
        eps = torch.randn(x.shape, generator=step.draw("noise")).double()
        picks, m, v = step.draw("chunks"), 0.0, 0.0
        for k in range(settings.iters):
            picked = [chunks[i] for i in picked_chunks(settings, len(chunks), picks)]
            n = len(picked)
            noisy = [(1 - s) * x0[:, :, c] + s * eps[:, :, c] for c in picked]
            r = [x0[:, :, c] - believed(y, s, c[0]) for y, c in zip(noisy, picked, strict=True)]
            y = [part / s for part in noisy]
            far = [[float(((a - b) ** 2).sum()) for b in y] for a in y]
            pairs = sorted(far[i][j] for i in range(n) for j in range(i))
            gamma = math.log(n + 1) / pairs[(len(pairs) - 1) // 2] if pairs else 0.0
            moves = []
            for i in range(n):
                g = torch.zeros_like(r[i])
                for j in range(n):
                    K = math.exp(-gamma * far[i][j])
                    g += (K * r[j] - 2 * gamma / ((1 - s) / s) * K * (y[i] - y[j])) / n
                moves.append(g)
            g = fusion(moves, chunks=picked)
            lr = settings.lr * settings.decay_rate ** (k // settings.decay_every)
            if settings.optimizer == "sgd":
                x0 = x0 - lr * g
            else:
                lr *= min(1, 0.0762 / ((1 - s) / s))
                b1, b2 = settings.beta1, settings.beta2
                m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g**2
                x0 = x0 * (1 - lr * settings.weight_decay)
                x0 = x0 - lr * (m / (1 - b1 ** (k + 1))) / ((v / (1 - b2 ** (k + 1))).sqrt() + 1e-8)
        x = ddim(x0, eps)
    return x


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "sgd", "lr": 1.5}, {"optimizer": "adamw", "lr": 0.5}, {"optimizer": "sgd", "pick": "spread"},
        {"optimizer": "sgd", "chunks": 1}, {"optimizer": "sgd", "chunks": 64}, {"optimizer": "adamw", "chunks": 64},
        {"beta1": 0.5}, {"beta1": 0.0, "beta2": 0.9}, {"weight_decay": 0.3}, {"eta": 1.0},
        {"eta": 0.4, "optimizer": "sgd"}, {"beta1": 0.7, "beta2": 0.99, "weight_decay": 0.05, "eta": 0.8},
    ],
)  # fmt: skip
def test_sample_is_algorithm_1(changes):
    settings = SynCoSSettings(**{"iters": 5, "chunks": 3, "decay_every": 2, "decay_rate": 0.7, **changes})
    x = start(27)  # 12 chunks, more than one call takes
    given = x.clone()
    ours, plain = sample(x, steps_of(27, settings), settings), by_hand(x, steps_of(27, settings), settings)
    assert torch.equal(x, given)
    assert len(steps_of(27, settings)[0].windows) == 12 > CALL
    assert (ours - plain).abs().max() <= 1e-6 * plain.abs().max()
    free = sample(x, steps_of(27, settings, coupled=0), settings)
    assert (free - plain).abs().max() > 1e-2
    assert (free - by_hand(x, steps_of(27, settings, coupled=0), settings)).abs().max() <= 1e-6
    default = replace(settings, beta1=0.9, beta2=0.999, weight_decay=0.0, eta=0.0)
    if default != settings:
        assert (sample(x, steps_of(27, settings), default) - ours).abs().max() > 1e-3


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_new_settings_at_their_defaults_draw_and_change_nothing(optimizer):
    """Nothing is drawn for eta 0, and sgd has no betas and no decay."""
    x, drawn = start(13), []

    class Noted(Flow):
        def draw(self, purpose, iteration=0):
            drawn.append(purpose)
            return super().draw(purpose, iteration)

    settings = SynCoSSettings(iters=2, chunks=2, optimizer=optimizer)
    levels, windows = torch.tensor([0.9, 0.5, 0.0]), steps_of(13, settings)[0].windows
    plain = sample(x, [Noted(i, levels, i < 1, windows) for i in range(2)], settings)
    assert set(drawn) == {"noise", "chunks", "places"} and plain.isfinite().all()
    changed = sample(x, steps_of(13, settings), replace(settings, beta1=0.1, beta2=0.5, weight_decay=0.5))
    same = (changed - sample(x, steps_of(13, settings), settings)).abs().max() == 0
    assert bool(same) == (optimizer == "sgd")


def test_eta_without_a_signal_or_at_the_end():
    """Where two levels are pure noise nothing of it is renewed; a step to no noise has none to renew."""
    levels = (1.0, 1.0, 0.9, 0.0)
    settings = SynCoSSettings(iters=1, chunks=2, optimizer="sgd", eta=1.0)
    out = sample(start(9), steps_of(9, settings, levels, coupled=2), settings)
    assert out.isfinite().all()


def test_couple_moves_chunks_towards_what_the_model_says():
    """Where the model is right and its chunks agree, stage 2 brings x0 there, and leaves it there."""
    settings = SynCoSSettings(iters=60, chunks=2, optimizer="sgd", lr=1.0, decay_rate=1.0)
    truth = start(LENGTH, seed=3).repeat(1, 1, 3, 1, 1)
    (step, *_) = steps_of(3 * LENGTH, settings)
    step.windows = local_windows(WindowSettings(LENGTH, 0), 3 * LENGTH, 0)
    step.predict = lambda x, sigma, windows, k: torch.cat([truth[:, :, list(w.indices)] for w in windows], 2)
    step.levels = lambda sigma: (0.0, 1.0)  # no repulsion
    eps = start(3 * LENGTH, seed=1)
    x0 = start(3 * LENGTH)
    couple(x0, eps, step, settings)
    assert (x0 - truth).abs().max() < 1e-6
    there = truth.clone()
    couple(there, eps, step, settings)
    assert torch.equal(there, truth)
    assert step.seen[:60] == list(range(1, 61))


def test_progress_is_told_of_every_part():
    settings = SynCoSSettings(iters=3)
    first, *_, last = steps = steps_of(20, settings)
    sample(start(20), steps, settings)
    assert first.seen == [0, 1, 2, 3, "done"] and last.seen == [0, "done"]


def held(settings, frames):
    """Peak of stage 2 in latents, with x0' and eps, which it is given."""
    (step, *_) = steps_of(frames, settings)
    shape = (1, 16, frames, 8, 8)

    def stage_2():
        couple(torch.ones(shape), torch.ones(shape), step, settings)

    return allocations.measure(stage_2).bytes / (4 * math.prod(shape))


@pytest.mark.parametrize(("optimizer", "videos"), [("sgd", 4), ("adamw", 6)])
def test_memory_is_a_few_videos_however_many_chunks(optimizer, videos):
    """x0', eps, x_t and the gradient, with AdamW two moments, and the chunks of one call: not of the iteration."""
    settings = SynCoSSettings(iters=2, chunks=3 * CALL, optimizer=optimizer)
    frames = 80
    few = held(replace(settings, chunks=CALL), frames)
    assert held(settings, frames) <= 1.01 * few
    assert held(replace(settings, exchange=0.5, chunks=CALL), frames) <= 1.01 * few
    rest = (CALL * LENGTH + 7 * AT_ONCE) / frames  # the predictions, and what is made a few frames at a time
    assert videos <= few <= 1.01 * (videos + rest)
    assert held(settings, 4 * frames) <= 1.01 * (videos + rest / 4)
