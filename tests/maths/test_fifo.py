"""FIFO-Diffusion's queue: against a plain statement of the authors' loop, diffusers' DDIM, and nets whose result is
known."""

import math

import pytest
import torch
from diffusers import DDIMScheduler
from longtake.samplers.checks import whole_schedule
from longtake.samplers.fifo import FIFOSettings, cost_text, first_queue, resampled, rounds, step

SHAPE = (2, 3, 2)  # channels, height, width
CASES = [(f, n, lookahead) for f in (2, 4, 6) for n in (1, 2, 3) for lookahead in (False, True)]
ODD = [(3, 2), (5, 1), (5, 3), (13, 4)]


def levels(count):
    return torch.linspace(0.95, 0, count + 1).double() ** 1.5


def drawn(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def net(x, sigma):
    """x0 of [1, C, F, H, W]: each frame leans on its neighbours, its level and its place in the call."""
    place = torch.arange(x.shape[2], dtype=x.dtype).view(1, 1, -1, 1, 1)
    sigma = sigma.view(1, 1, -1, 1, 1)
    return 0.6 * x + 0.3 * x.roll(1, 2) * (1 - sigma) + 0.2 * x.mean(2, keepdim=True) + 0.05 * torch.sin(place + sigma)


def run(settings, frames, predict, base=None, sigmas=None):
    """The video's frames [1, C, F, H, W] in float64, from noise drawn by the frames' numbers."""
    sigmas = levels(settings.slots) if sigmas is None else sigmas
    base = drawn(1, 1, 2, settings.length, 3, 2) if base is None else base

    def noised(x, sigma):
        return (1 - sigma).view(-1, 1, 1) * x + sigma.view(-1, 1, 1) * drawn(2, *x.shape)

    queue = first_queue(settings, base, sigmas, noised)
    leaving = rounds(settings, queue, sigmas, predict, lambda number: drawn(100 + number, 1, 2, 1, 3, 2))
    left = [next(leaving) for _ in range(settings.warm_up + frames)]
    return torch.cat(left[settings.warm_up :], 2)


def authors(f, n, lookahead, frames):
    """The authors' loop (fifo_ddim_sampling), slot by slot, for flow: x at level s is (1 - s) x0 + s noise."""
    sigmas = levels(n * f).flip(0)  # clean to noise: index 0 is clean, slot k is at k + 1
    base, steps = drawn(1, 1, 2, f, 3, 2), n * f
    front = f // 2 if lookahead else 0
    index = [0] * front + list(range(steps))
    eps, latents = drawn(2, 1, 2, front + steps, 3, 2), []
    for place, i in enumerate(index):
        frame = 0 if place < front else max(0, i - (steps - f))
        latents.append((1 - sigmas[i + 1]) * base[:, :, frame] + sigmas[i + 1] * eps[:, :, place])
    video = []
    for out in range(frames + steps - f):
        for rank in reversed(range(2 * n if lookahead else n)):
            start = rank * (f // 2) if lookahead else rank * f
            at = [sigmas[i + 1] for i in index[start : start + f]]
            x0 = net(torch.stack(latents[start : start + f], 2), torch.stack(at))
            for j in range(f // 2 if lookahead else 0, f):
                k = index[start + j]
                v = (latents[start + j] - x0[:, :, j]) / sigmas[k + 1]
                latents[start + j] = latents[start + j] + (sigmas[k] - sigmas[k + 1]) * v
        video.append(latents[front])
        latents = latents[1:] + [drawn(100 + out + f, 1, 2, 1, 3, 2)[:, :, 0]]
    return torch.stack(video[steps - f :], 2)


@pytest.mark.parametrize(("f", "n", "lookahead"), CASES)
def test_it_is_the_authors_loop(f, n, lookahead):
    ours = run(FIFOSettings(f, n, lookahead, "copies"), 7, lambda x, sigma, numbers, made: net(x, sigma))
    torch.testing.assert_close(ours, authors(f, n, lookahead, 7), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("lookahead", [False, True])
@pytest.mark.parametrize("start", ["clip", "copies"])
def test_one_partition_is_one_diagonal(lookahead, start):
    """n = 1 without lookahead: each call is the whole queue, its frames one level apart."""
    seen = []

    def predict(x, sigma, numbers, made):
        seen.append((sigma, list(numbers), x.shape[2]))
        return net(x, sigma)

    settings = FIFOSettings(4, 1, lookahead, start)
    run(settings, 5, predict)
    assert all(count == 4 for _, _, count in seen)
    if not lookahead:
        assert [numbers for _, numbers, _ in seen] == [list(range(i, i + 4)) for i in range(5)]
        assert all(torch.equal(sigma, levels(4)[:4].flip(0)) for sigma, _, _ in seen)


def by_number(f, n, frames):
    """START "clip" with lookahead, told by the frames' numbers: a frame is made beside those from f // 2 before it on,
    but none before the video's first."""
    steps, sigmas = n * f, levels(n * f)
    frame = {i: (1 - sigmas[steps - 1 - k]) * drawn(1, 1, 2, f, 3, 2)[:, :, i] + sigmas[steps - 1 - k] * noise
             for i, k, noise in ((i, steps - f + i, drawn(2, 1, 2, f // 2 + steps, 3, 2)[:, :, f // 2 + steps - f + i])
                                 for i in range(f))}  # fmt: skip
    edges = [math.ceil(b * f / 2) for b in range(2 * n + 1)]
    for head in range(f - steps, frames):
        at = {i: sigmas[steps - 1 - max(i - head, 0)] for i in frame}
        to = {i: sigmas[steps - max(i - head, 0)] for i in frame}
        before = dict(frame)
        for low, high in zip(edges, edges[1:], strict=False):
            first = max(head + high - f, 0)
            seen = range(first, first + f)
            if head + high <= 0:
                continue
            x = torch.stack([before[i] for i in seen], 2)
            x0 = net(x, torch.stack([at[i] for i in seen]))
            for i in range(max(head + low, 0), head + high):
                y = x0[:, :, i - first]
                frame[i] = y + (before[i] - y) * to[i] / at[i]
        frame[head + steps] = drawn(100 + head + steps, 1, 2, 1, 3, 2)[:, :, 0]
    return torch.stack([frame[i] for i in range(frames)], 2)


@pytest.mark.parametrize(("f", "n"), [(4, 1), (4, 2), *ODD[:3]])
def test_no_call_reaches_in_front_of_the_first_frame(f, n):
    seen = set()

    def predict(x, sigma, numbers, made):
        seen.update(numbers)
        return net(x, sigma)

    ours = run(FIFOSettings(f, n), 9, predict)
    torch.testing.assert_close(ours, by_number(f, n, 9), rtol=1e-9, atol=1e-12)
    assert min(seen) == 0


@pytest.mark.parametrize("start", ["clip", "copies"])
@pytest.mark.parametrize(("f", "n", "lookahead"), [*CASES, *((f, n, x) for f, n in ODD for x in (False, True))])
def test_each_frame_makes_one_step_a_round_beside_cleaner_ones(f, n, lookahead, start):
    settings = FIFOSettings(f, n, lookahead, start)
    for head in range(-settings.warm_up, f):
        first = max(-head, 0) if start == "clip" else 0  # of the slots that hold the video's frames
        clips = settings.clips(head)
        made = sorted(slot for clip in clips for slot in range(clip.keep, clip.made))
        assert made == list(range(first, settings.slots))
        for clip in clips:
            assert clip.end - clip.start == f and -settings.ahead <= clip.start <= clip.keep < clip.made <= clip.end
            cleaner = clip.keep - clip.start
            assert cleaner >= (f // 2 if lookahead and clip.start > max(-head, -settings.ahead) else 0)


@pytest.mark.parametrize("start", ["clip", "copies"])
@pytest.mark.parametrize(("f", "n", "lookahead"), [(4, 2, True), (5, 3, True), (6, 2, False)])
def test_a_net_that_ignores_all_but_the_number_is_followed_exactly(f, n, lookahead, start):
    def truth(number):
        return drawn(500 + number, 1, 2, 1, 3, 2)

    def predict(x, sigma, numbers, made):
        return torch.cat([truth(number) for number in numbers], 2)

    video = run(FIFOSettings(f, n, lookahead, start), 8, predict)
    assert torch.equal(video, torch.cat([truth(i) for i in range(8)], 2))


def test_a_net_of_single_values_gives_the_product_of_its_steps():
    """x0 = a x: each step multiplies by a + (1 - a) s' / s. Frames from the queue's end have made all of them."""
    settings, a = FIFOSettings(4, 3), 0.7
    video, s = run(settings, 9, lambda x, sigma, numbers, made: a * x), levels(12)
    factor = math.prod(float(a + (1 - a) * s[i + 1] / s[i]) for i in range(12))
    for frame in range(4, 9):
        torch.testing.assert_close(video[:, :, frame : frame + 1], factor * drawn(100 + frame, 1, 2, 1, 3, 2))


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
def test_a_step_is_diffusers_ddim_frame_by_frame(prediction):
    """x / sqrt(1 + s^2) is diffusers' sample at the training step whose level is s."""
    scheduler = DDIMScheduler(prediction_type=prediction, clip_sample=False, set_alpha_to_one=True)
    scheduler.set_timesteps(20)
    places = [3, 0, 19, 11]
    times = scheduler.timesteps[places]
    alphas = scheduler.alphas_cumprod.double()
    following = [alphas[t - 50] if t >= 50 else torch.ones(()).double() for t in times]
    sigma = torch.stack([((1 - alphas[t]) / alphas[t]).sqrt() for t in times])
    to = torch.stack([((1 - a) / a).sqrt() for a in following])
    sample, output = drawn(7, 2, 1, 2, 4, 3, 2)
    scale = (1 + sigma**2).sqrt().view(-1, 1, 1)
    x = sample * scale
    x0 = x - sigma.view(-1, 1, 1) * output
    if prediction == "v_prediction":
        x0 = sample / scale - sigma.view(-1, 1, 1) / scale * output
    ours = step(x, x0, sigma, to) / (1 + to**2).sqrt().view(-1, 1, 1)
    for i, t in enumerate(times):
        expected = scheduler.step(output[:, :, i], t, sample[:, :, i], eta=0.0).prev_sample
        torch.testing.assert_close(ours[:, :, i], expected, rtol=1e-5, atol=1e-6)


def test_a_step_of_flow_is_eulers():
    x, v = drawn(8, 2, 1, 2, 3, 3, 2)
    sigma, to = torch.tensor([0.9, 0.5, 0.1]).double(), torch.tensor([0.8, 0.45, 0.0]).double()
    ours = step(x, x - sigma.view(-1, 1, 1) * v, sigma, to)
    torch.testing.assert_close(ours, x + (to - sigma).view(-1, 1, 1) * v)


def test_the_queue_begins_with_the_base_clip_at_its_levels():
    settings = FIFOSettings(4, 2)
    base = torch.arange(4.0).view(1, 1, 4, 1, 1)
    queue = first_queue(settings, base, levels(8), lambda x, sigma: torch.cat([x, sigma.view(1, 1, -1, 1, 1)], 1))
    assert queue[0, 0].flatten().tolist() == [0, 0, 0, 0, 0, 0, 0, 1, 2, 3]
    assert queue[0, 1].flatten().tolist() == [levels(8)[i] for i in (7, 7, 7, 6, 5, 4, 3, 2, 1, 0)]


def test_a_schedule_of_other_steps_is_the_same_curve():
    assert resampled([3.0, 1.0, 0.0], 2) == [3.0, 1.0, 0.0]
    assert resampled([3.0, 1.0, 0.0], 4) == [3.0, 2.0, 1.0, 0.5, 0.0]
    assert resampled([3.0, 2.0, 1.0, 0.5, 0.0], 2) == [3.0, 1.0, 0.0]
    fine = resampled([14.6, 5.0, 1.0, 0.03, 0.0], 52)
    assert len(fine) == 53 and fine[0] == 14.6 and fine[-1] == 0 and sorted(fine, reverse=True) == fine


@pytest.mark.parametrize("sigmas", [
    [], [1.0], [1.0, 0.5], [0.0, 0.5, 1.0], [1.0, 0.0, 0.0], [1.0, 0.2, 0.4, 0.0], [math.nan, 0.5, 0.0],
    [math.inf, 1.0, 0.0],
])  # fmt: skip
def test_a_schedule_that_does_not_fall_to_0_is_refused(sigmas):
    with pytest.raises(ValueError, match="sigmas"):
        whole_schedule(sigmas)
    whole_schedule([1.0, 0.5, 0.5, 0.0])


@pytest.mark.parametrize("start", ["clip", "copies"])
@pytest.mark.parametrize(("f", "n", "lookahead"), [(4, 2, True), (5, 3, True), (6, 2, False), (3, 1, True)])
@pytest.mark.parametrize("frames", [1, 2, 9])
def test_the_calls_are_counted_before_the_run(f, n, lookahead, start, frames):
    settings, calls = FIFOSettings(f, n, lookahead, start), 0

    def predict(x, sigma, numbers, made):
        nonlocal calls
        calls += 1
        return x

    run(settings, frames, predict)
    assert settings.calls(frames) == settings.slots + calls


def test_the_cost_is_said_beside_plain_windows():
    text = cost_text(FIFOSettings(13, 4, True, "copies"), 37, 24, 2)
    assert "52 steps (24 steps given, their noise levels interpolated)" in text and "8 calls of the model" in text
    assert f"{52 + (37 + 39) * 8} x 2 CFG branches = {2 * (52 + (37 + 39) * 8)} window evaluations" in text
    assert f"5.50x plain windows of half overlap in 24 steps ({5 * 24 * 2})" in text


@pytest.mark.parametrize("wrong", [{"length": 1}, {"partitions": 0}, {"partitions": 65}, {"start": "noise"}])
def test_settings_name_what_is_wrong(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        FIFOSettings(**{"length": 4, **wrong})
