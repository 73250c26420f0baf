"""CSD's direction against a double loop and against autograd's statement of SVGD; SynCoS' plan of a run."""

import math

import pytest
import torch
from longtake.samplers.syncos.coupling import (
    PAPER_SNR,
    PRESETS,
    SynCoSSettings,
    coupled_steps,
    descend,
    evaluations,
    new_optimizer,
    picked_chunks,
    step_lr,
)
from longtake.samplers.syncos.csd import LEAST_SNR, NoisyChunks, add_direction, kernel
from longtake.samplers.windows import Window

SNR = 0.07


def chunks(n, batch=2, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(n, batch, 3, 4, 2, 5, generator=generator, dtype=dtype)


def direction(y, r, snr, exchange=0.0, scored=None):
    """Gradients of chunks that lie one after the other in a long video, noise amplitude 1: each is its chunk's own."""
    n, length = len(y), y.shape[3]
    windows = [Window(range(i * length, (i + 1) * length), length) for i in range(n)]
    x = torch.cat(list(y), 2)
    x0, g = torch.zeros_like(x), torch.zeros_like(x)
    scored = list(range(n)) if scored is None else scored
    add_direction(g, x0, -torch.cat(list(r), 2), NoisyChunks.of(x, snr, 1.0, windows, exchange), scored, len(r))
    return torch.stack(g.split(length, 2))


def by_loops(y, r, snr, exchange=0.0, scored=None):
    """Eq. 3 with the scores of all chunks (or those `scored`) and a kernel that repels, one number at a time."""
    n, batch = y.shape[:2]
    g = torch.zeros_like(y)
    for b in range(batch):
        squared = [[float(((y[i, b] - y[j, b]) ** 2).sum()) for j in range(n)] for i in range(n)]
        pairs = sorted(squared[i][j] for i in range(n) for j in range(i))
        median = pairs[(len(pairs) - 1) // 2] if pairs else 0.0
        gamma = math.log(1 / exchange if exchange else n + 1) / median if median else 0.0
        for i in range(n):
            for place, j in enumerate(range(n) if scored is None else scored):
                k = math.exp(-gamma * squared[i][j])
                g[i, b] += k * r[place, b] / len(r) - 2 * gamma / snr * k * (y[i, b] - y[j, b]) / len(r)
    return g


@pytest.mark.parametrize("exchange", [0.0, 0.05, 0.6, 1.0])
@pytest.mark.parametrize("n", [1, 2, 3, 4, 8])
def test_direction_equals_a_double_loop(n, exchange):
    y, r = chunks(n), chunks(n, seed=1)
    expected = by_loops(y, r, SNR, exchange)
    assert torch.isfinite(expected).all()
    assert (direction(y, r, SNR, exchange) - expected).abs().max() <= 1e-12 * expected.abs().max()


@pytest.mark.parametrize("exchange", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("scored", [[0, 1, 2, 3, 4, 5], [1, 4], [0, 3, 5], [2]])
def test_chunks_without_a_score_move_along(scored, exchange):
    y, r = chunks(6), chunks(len(scored), seed=1)
    expected = by_loops(y, r, SNR, exchange, scored)
    assert (direction(y, r, SNR, exchange, scored) - expected).abs().max() <= 1e-12 * expected.abs().max()
    if exchange == 1:
        assert (expected - r.mean(0)).abs().max() < 1e-12


def test_exchange_is_the_kernel_at_the_median_distance():
    y = chunks(3, batch=1)
    K, _ = kernel(y, 0.3)
    paper, _ = kernel(y)
    i, j = torch.tril_indices(3, 3, -1)
    assert K[0, i, j].median().item() == pytest.approx(0.3, abs=1e-12)  # of three, the middle one
    assert paper[0, i, j].median().item() == pytest.approx(1 / 4, abs=1e-12)


def test_with_all_exchanged_chunks_move_by_one_direction():
    y, r = chunks(4), chunks(4, seed=1)
    g = direction(y, r, SNR, 1.0)
    assert (g - r.mean(0)).abs().max() < 1e-12  # nothing repels, nothing sets one chunk apart
    apart = [direction(y, r, SNR, e).var(0).mean() for e in (0.0, 0.5, 0.9)]
    assert apart[0] > apart[1] > apart[2] > 0


def test_direction_is_minus_svgds():
    """SVGD: phi_i = 1/n sum_j K(y_j, y_i) score_j + grad_{y_j} K(y_j, y_i), with the score -snr * r of q(y)."""
    n, y, r = 5, chunks(5, batch=1), chunks(5, batch=1, seed=1)
    _, gamma = kernel(y)
    phi = torch.zeros_like(y)
    for i in range(n):
        for j in range(n):
            other = y[j].clone().requires_grad_()
            k = torch.exp(-gamma[0] * (other - y[i]).square().sum())
            k.backward()
            phi[i] += (k.detach() * -SNR * r[j] + other.grad) / n
    assert (SNR * direction(y, r, SNR) + phi).abs().max() <= 1e-12


@pytest.mark.parametrize("n", [1, 2, 3, 8])
def test_everything_is_finite(n):
    for y in (chunks(n), torch.zeros_like(chunks(n)), chunks(1).expand(n, -1, -1, -1, -1, -1)):
        for snr in (0.0, LEAST_SNR, 1.0, 1e4):
            assert torch.isfinite(direction(y, chunks(n, seed=3), snr)).all()


def test_half_precision_chunks_keep_float32_distances():
    y = chunks(4, dtype=torch.float32)
    K, gamma = kernel(y.bfloat16() * 300)  # the squared sum is far beyond what bfloat16 holds exactly
    expected, _ = kernel((y.bfloat16() * 300).double())
    assert K.dtype == torch.float32 and (K - expected).abs().max() < 1e-5


def test_chunks_spread_where_scores_agree():
    y = chunks(4, batch=1)
    g = direction(y, torch.zeros_like(y), SNR)
    before, after = (v.var(0).sum() for v in (y, y - 1e-3 * g))
    assert after > before
    alike = direction(y, torch.ones_like(y), SNR) - g  # the same score everywhere: all move the same way
    assert (alike > 0).all()


def test_scores_are_exchanged():
    y = torch.randn(4, 1, 3, 4, 20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    r = torch.zeros_like(y)
    moved = r.clone()
    moved[2] = 1
    change = direction(y, moved, SNR) - direction(y, r, SNR)
    K, _ = kernel(y)
    for i in range(4):
        assert torch.allclose(change[i], K[0, i, 2] / 4 * torch.ones_like(change[i]))
    off = K[0][~torch.eye(4, dtype=torch.bool)]
    assert (off - 1 / 5).abs().max() < 0.02  # about 1 / (n + 1) by choice of the bandwidth


def overlapping(seed=0, frames=11, length=5, starts=(0, 2, 3, 6), dtype=torch.float64):
    """A noisy video, its x0, chunks that overlap, and their predictions."""
    generator = torch.Generator().manual_seed(seed)
    x, x0 = (torch.randn(2, 3, frames, 2, 5, generator=generator, dtype=dtype) for _ in range(2))
    windows = [Window(range(s, s + length), length) for s in starts]
    return x, x0, windows, torch.randn(len(starts), 2, 3, length, 2, 5, generator=generator, dtype=dtype)


def cut(x, windows):
    return torch.stack([x[:, :, list(w.indices)] for w in windows])


@pytest.mark.parametrize("exchange", [0.0, 0.5])
def test_direction_of_a_video_is_the_mean_where_chunks_overlap(exchange):
    """With the chunks and the residuals cut out and put back one frame at a time."""
    x, x0, windows, predicted = overlapping()
    noise, g = 0.9, torch.zeros_like(x0)
    chunks = NoisyChunks.of(x, SNR * noise, noise, windows, exchange)
    add_direction(g, x0, torch.cat(list(predicted), 2), chunks, range(4), 4)
    each = by_loops(cut(x, windows) / noise, cut(x0, windows) - predicted, SNR, exchange)
    for f in range(11):
        values = [each[n][:, :, w.indices.index(f)] for n, w in enumerate(windows) if f in w.indices]
        assert (g[:, :, f] - sum(values) / len(values)).abs().max() <= 1e-12 * each.abs().max()


def test_frames_without_a_chunk_do_not_move():
    x, x0, windows, predicted = overlapping(starts=(0, 6))
    g = torch.zeros_like(x0)
    add_direction(g, x0, torch.cat(list(predicted), 2), NoisyChunks.of(x, SNR, 1.0, windows), range(2), 2)
    assert (g[:, :, 5] == 0).all() and (g[:, :, 4] != 0).all() and (g[:, :, 6] != 0).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_direction_in_parts_is_the_whole(dtype):
    """The chunks' predictions may come in several calls."""
    n = 40  # more chunks than are worked on at once
    x, x0, windows, predicted = overlapping(frames=2 * n + 3, starts=range(0, 2 * n, 2), dtype=dtype)
    chunks = NoisyChunks.of(x, SNR, 1.0, windows)
    whole, parts = torch.zeros_like(x0), torch.zeros_like(x0)
    add_direction(whole, x0, torch.cat(list(predicted), 2), chunks, range(n), n)
    for some in (range(0, 7), range(7, 15), range(15, n)):
        add_direction(parts, x0, torch.cat([predicted[j] for j in some], 2), chunks, some, n)
    tolerance = 1e-6 if dtype == torch.float32 else 1e-14
    assert 0 < (parts - whole).abs().max() <= tolerance * whole.abs().max()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"t_min": 1.2}, "t_min (1.2)"), ({"t_min": -0.1}, "t_min (-0.1)"), ({"lr": -0.5}, "lr (-0.5)"),
        ({"lr": float("nan")}, "lr (nan)"), ({"chunks": 0}, "chunks (0)"), ({"iters": -1}, "iters (-1)"),
        ({"optimizer": "lion"}, "adamw, sgd"), ({"stages": "third"}, "both, first, second"),
        ({"decay_rate": 0.0}, "decay_rate (0.0)"), ({"weight_decay": 1.0}, "weight_decay (1.0)"),
        ({"max_coupled": -1}, "max_coupled (-1)"),
        ({"exchange": 1.5}, "exchange (1.5)"), ({"exchange": float("nan")}, "exchange (nan)"),
        ({"beta1": 1.0}, "beta1 (1.0)"), ({"beta2": float("nan")}, "beta2 (nan)"), ({"eta": 1.5}, "eta (1.5)"),
        ({"eta": 0.5, "stages": "second"}, "eta (0.5): stages second"),
    ],
)  # fmt: skip
def test_bad_settings(changes, words):
    with pytest.raises(ValueError) as error:
        SynCoSSettings(**changes)
    assert words in str(error.value)


def test_plan_of_a_run():
    sigmas = [1.0, 0.95, 0.9, 0.7, 0.4]
    assert coupled_steps(SynCoSSettings(), sigmas, 0.8) == [True, True, True, False, False]
    assert coupled_steps(SynCoSSettings(max_coupled=2), sigmas, 0.8) == [True, True, False, False, False]
    # The second of two samplers in a row: steps 2 to 4 of the whole schedule.
    assert coupled_steps(SynCoSSettings(max_coupled=3), sigmas[2:], 0.5, 2) == [True, False, False]
    assert coupled_steps(SynCoSSettings(max_coupled=0), sigmas, 0.5) == [True, True, True, True, False]
    assert coupled_steps(SynCoSSettings(iters=0), sigmas, 0.0) == [False] * 5
    assert coupled_steps(SynCoSSettings(stages="first"), sigmas, 0.0) == [False] * 5
    assert coupled_steps(SynCoSSettings(stages="second"), sigmas, 0.9) == [True] * 5
    assert coupled_steps(SynCoSSettings(t_min=1.0), sigmas, 1.0) == [False] * 5


def test_the_papers_cost():
    """B = 4 chunks, 20 iterations and 10 of 50 steps fit the paper's 55 against 21 minutes at N = 10 chunks."""
    plan = [i < 10 for i in range(50)]
    first, second = evaluations(PRESETS["paper"], plan, [10] * 50)
    assert (first, second) == (500, 800)
    assert (first + second) / first == pytest.approx(2.6)
    assert evaluations(PRESETS["paper"], plan, [3] * 50)[1] == 10 * 20 * 3  # B larger than the chunks there are


@pytest.mark.parametrize("pick", ["random", "spread"])
@pytest.mark.parametrize(("chunks", "count"), [(4, 12), (3, 3), (8, 5), (1, 6), (5, 7)])
def test_picked_chunks(pick, chunks, count):
    settings, generator = SynCoSSettings(pick=pick, chunks=chunks), torch.Generator().manual_seed(0)
    seen = set()
    for _ in range(200):
        picked = picked_chunks(settings, count, generator)
        assert picked == sorted(set(picked)) and len(picked) == min(chunks, count)
        assert all(0 <= i < count for i in picked)
        seen |= set(picked)
        if pick == "spread" and 1 < chunks < count:
            gaps = [(b - a) % count for a, b in zip(picked, picked[1:] + picked[:1], strict=True)]
            assert max(gaps) - min(gaps) <= 1
    assert seen == set(range(count))


def test_learning_rate():
    paper = SynCoSSettings(lr=0.5, decay_every=10, decay_rate=0.8)
    assert step_lr(paper, PAPER_SNR / 2, 0) == 0.5
    assert step_lr(paper, PAPER_SNR * 4, 0) == pytest.approx(0.125)
    assert step_lr(paper, 0.0, 25) == pytest.approx(0.5 * 0.8**2)
    assert step_lr(SynCoSSettings(lr=2.0, optimizer="sgd"), 10.0, 0) == 2.0


def test_optimizers_work_under_inference_mode():
    for name, expected in (("adamw", 0.5), ("sgd", 0.5 * 0.25)):
        with torch.inference_mode():
            x0 = torch.zeros(1, 2, 3, 1, 1) + 0.0
            optimizer = new_optimizer(SynCoSSettings(optimizer=name, lr=0.5), x0)
            descend(optimizer, torch.full_like(x0, 0.25), 0.5)
        assert torch.allclose(x0, torch.full_like(x0, -expected), atol=1e-6)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
@pytest.mark.parametrize("shape", [(1, 16, 14, 8, 8), (2, 5, 7, 3, 3)])
def test_optimizers_in_pieces_are_the_whole(name, shape):
    generator = torch.Generator().manual_seed(0)
    x0 = torch.randn(shape, generator=generator)
    whole = x0.clone()
    ours = new_optimizer(SynCoSSettings(optimizer=name), x0)
    plain = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}[name]([whole], lr=1.0, weight_decay=0.0)
    for lr in (0.5, 0.4, 0.3):
        g = torch.randn(shape, generator=generator)
        descend(ours, g, lr)
        plain.param_groups[0]["lr"], whole.grad = lr, g
        plain.step()
    assert torch.equal(x0, whole)
