"""MEVG: the pulls against autograd, the way up and down against the authors' DDIM loop, and which frames a clip has."""

import math

import pytest
import torch
from longtake.samplers.mevg import (
    MEVGSettings,
    calls,
    clips,
    cost_text,
    dynamic,
    inverted,
    last_frame_aware,
    sampled,
    step,
    structure_guided,
)  # fmt: skip
from support.mevg import autograd_sgs

F, SHAPE = 5, (4, 32, 32)  # frames; channels, height, width of the authors' frame: their pulls are means over it
ALPHAS = torch.linspace(0.97, 0.005, 9).double()  # from clean to noisy: cumulative, of DDIM


def drawn(seed, frames=F, shape=SHAPE):
    made = torch.randn(1, shape[0], frames, *shape[1:], generator=torch.Generator().manual_seed(seed))
    return made.double()


@pytest.mark.parametrize("frames", [1, 2, 5, 13])
@pytest.mark.parametrize("scale", [7.0, 30.0])
def test_structure_guidance_is_the_authors_gradients(frames, scale):
    x0, last = drawn(1, frames), drawn(2, 1)
    ours = structure_guided(x0, last, scale)
    torch.testing.assert_close(ours, autograd_sgs(x0, last, scale), rtol=0, atol=1e-10)
    assert (ours - x0).abs().max() > 1e-3 and torch.equal(x0, drawn(1, frames))
    assert (ours[:, :, :1] - last).norm() < (x0[:, :, :1] - last).norm()


def test_no_strength_overshoots_in_a_clip_of_wans_length():
    unit = [torch.eye(21)[i].view(1, 1, 21, 1, 1) for i in range(21)]
    moved = torch.stack([structure_guided(x, torch.zeros(1, 1, 1, 1, 1), 30.0).flatten() for x in unit], 1)
    assert torch.linalg.matrix_norm(moved, 2) < 1.01


def test_frames_of_another_size_are_pulled_as_much():
    shape = (16, 8, 6)
    x0, last = drawn(1, F, shape), drawn(2, 1, shape)
    scale = 7.0 * math.prod(shape) / math.prod(SHAPE)  # what undoes their smaller mean
    torch.testing.assert_close(structure_guided(x0, last, 7.0), autograd_sgs(x0, last, scale), rtol=0, atol=1e-10)


def test_last_frame_awareness_is_the_authors_gradient():
    x0, last = drawn(1), drawn(2, 1)
    leaf = x0.clone().requires_grad_(True)
    (leaf[:, :, 0] - last[:, :, 0]).square().mean().backward()
    torch.testing.assert_close(last_frame_aware(x0, last, 1000.0), x0 - 1000.0 * leaf.grad, rtol=0, atol=1e-10)
    torch.testing.assert_close(last_frame_aware(x0, last, 2048.0)[:, :, :1], last)  # all the way


def test_dynamic_noise_fades_from_the_first_frame_and_keeps_its_variance():
    own, fresh = drawn(1, 1).repeat(1, 1, 16, 1, 1), drawn(2, 16)
    mixed = dynamic(own, fresh, 1.0)
    assert torch.equal(mixed[:, :, 0], own[:, :, 0])
    for i in range(1, 16):
        kappa = math.exp(-10 * (i - 1) / 14)
        expected = kappa / math.sqrt(1 + kappa**2) * own[:, :, i] + fresh[:, :, i] / math.sqrt(1 + kappa**2)
        torch.testing.assert_close(mixed[:, :, i], expected, rtol=0, atol=1e-6)  # kappa is float32
        assert abs(mixed[:, :, i].std() - 1) < 0.05
    assert torch.equal(dynamic(own, fresh, 0.0)[:, :, 1:], fresh[:, :, 1:])
    stiller = dynamic(own, fresh, 3.0)
    assert (stiller[:, :, 1] - own[:, :, 1]).norm() < (mixed[:, :, 1] - own[:, :, 1]).norm()
    assert dynamic(own[:, :, :2], fresh[:, :, :2], 1.0).isfinite().all()


def net(x, t):
    """eps of a DDPM latent."""
    return torch.tanh(x + 0.1 * t) * 0.8 + 0.1 * x.mean(2, keepdim=True)


def ddim_by_hand(settings, frame, first, before, fresh):
    """The authors' two loops over cumulative alphas, in DDPM's scale, with eta 0: (clip, last x0 by step)."""
    up = [1.0, *ALPHAS.tolist()]
    x, steps = frame.repeat(1, 1, F, 1, 1), len(ALPHAS)
    for t in range(1, steps - first + 1):
        i = steps - t  # the sampler's step at this level
        eps = net(x, i)
        eps = torch.stack([
            eps[:, :, 0],
            *((k * eps[:, :, j] + fresh(i)[:, :, j]) / math.sqrt(1 + k * k)
              for j in range(1, F) for k in [settings.shared_noise * math.exp(-10 * (j - 1) / (F - 2))]),
        ], 2)  # fmt: skip
        x0 = ((x - math.sqrt(1 - up[t - 1]) * eps) / math.sqrt(up[t - 1])).requires_grad_(True)
        (x0[:, :, 0] - before[i][:, :, 0]).square().mean().backward()
        x0 = (x0 - settings.lfai * x0.grad).detach()
        x = math.sqrt(up[t]) * x0 + math.sqrt(1 - up[t]) * eps
    begun, lasts = x, {}
    for i in range(first, steps):
        t = steps - i
        eps = net(x, i)
        x0 = autograd_sgs((x - math.sqrt(1 - up[t]) * eps) / math.sqrt(up[t]), before[i], settings.sgs)
        x = math.sqrt(up[t - 1]) * x0 + math.sqrt(1 - up[t - 1]) * eps
        lasts[i] = x0[:, :, F - 2 : F - 1]
    return begun, x, lasts


@pytest.mark.parametrize("first", [0, 3])
def test_down_and_up_is_the_authors_ddim(first):
    """In ComfyUI's scale (x = x0 + sigma * eps) what they write in DDPM's."""
    settings = MEVGSettings(F, "invert", shared_noise=0.7)
    sigmas = torch.cat([((1 - ALPHAS) / ALPHAS).sqrt().flip(0), torch.zeros(1).double()])
    before = {i: drawn(20 + i, 1) for i in range(len(ALPHAS))}
    frame = drawn(3, 1)

    def predict(x, sigma, i):
        return x - sigma * net(x / (1 + sigma**2).sqrt(), i)

    def levels(sigma):
        return 1.0, float(sigma)

    def fresh(i):
        return drawn(50 + i)

    begun, expected, lasts = ddim_by_hand(settings, frame, first, before, fresh)
    x = inverted(settings, frame, sigmas, first, predict, levels, fresh, before)
    scale = (1 + sigmas[first] ** 2).sqrt()
    torch.testing.assert_close(x / scale, begun, rtol=0, atol=1e-5)  # kappa is float32
    shown = []
    clean, own = sampled(
        settings, x, sigmas, first, predict, levels, before, F - 2, lambda i, x0: shown.append((i, x0))
    )
    torch.testing.assert_close(clean, expected, rtol=0, atol=1e-4)
    assert own.keys() == lasts.keys() and [i for i, _ in shown] == sorted(lasts)
    for i in lasts:
        torch.testing.assert_close(own[i], lasts[i], rtol=0, atol=1e-4)
    torch.testing.assert_close(shown[-1][1], clean, rtol=0, atol=1e-8)


def test_a_flow_goes_up_and_down_as_the_same_noise_model():
    """x = (1 - t) x0 + t eps is x0 + sigma eps, times 1 - t, for sigma = t / (1 - t): a change of scale alone."""
    settings, frame = MEVGSettings(F, "invert"), drawn(3, 1)
    times = torch.linspace(0.95, 0, 7).double()
    sigmas = times / (1 - times)
    before = {i: drawn(20 + i, 1) for i in range(6)}

    def way(sigmas, predict, levels):
        x = inverted(settings, frame, sigmas, 0, predict, levels, lambda i: drawn(50 + i), before)
        return x, sampled(settings, x, sigmas, 0, predict, levels, before, F - 1, lambda i, x0: None)[0]

    def noise_model(x, sigma, i):
        return x - sigma * net(x / (1 + sigma**2).sqrt(), i)

    def flow(x, t, i):
        return noise_model(x / (1 - t), t / (1 - t), i)

    up, down = way(sigmas, noise_model, lambda sigma: (1.0, float(sigma)))
    flow_up, flow_down = way(times, flow, lambda t: (1 - float(t), float(t)))
    torch.testing.assert_close(flow_up, up * (1 - times[0]), rtol=0, atol=1e-9)
    torch.testing.assert_close(flow_down, down, rtol=0, atol=1e-8)


def test_without_pulls_a_step_is_eulers():
    x, x0 = drawn(1), drawn(2)
    sigma, following = torch.tensor(0.9), torch.tensor(0.8)
    d = (x - x0) / sigma
    assert torch.equal(step(x, x0, sigma, following), x + d * (following - sigma))


# ---- which frames a clip has -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("first_latent", ["anchor", "as_is"])
@pytest.mark.parametrize("length", [2, 4, 7])
def test_clips_cover_the_video_once_and_hold_one_event_each(length, first_latent):
    generator = torch.Generator().manual_seed(0)
    for frames in range(1, 25):
        for most in (1, 2, 5):
            events = torch.randint(0, most, (frames,), generator=generator).sort().values.tolist()
            found = clips(MEVGSettings(length, first_latent=first_latent), events)
            assert [i for clip in found for i in range(clip.new, clip.end)] == list(range(frames))
            for clip, before in zip(found, [None, *found], strict=False):
                ahead = before is not None and first_latent == "anchor"
                assert clip.start == clip.new - ahead and clip.end <= clip.start + length
                assert len({events[i] for i in range(clip.new, clip.end)}) == 1
                full = clip.end == min(clip.start + length, frames)
                assert full or events[clip.end] != events[clip.new]
                numbers = clip.numbers(length)
                assert len(numbers) == length and set(numbers) == set(range(clip.new, clip.end))


def test_the_layout_of_a_paper_and_of_a_causal_vae():
    events = [0] * 4 + [1] * 6
    paper = clips(MEVGSettings(4, first_latent="as_is"), events)
    assert [(c.start, c.new, c.end) for c in paper] == [(0, 0, 4), (4, 4, 8), (8, 8, 10)]
    causal = clips(MEVGSettings(4), events)
    assert [(c.start, c.new, c.end) for c in causal] == [(0, 0, 4), (3, 4, 7), (6, 7, 10)]
    assert causal[1].numbers(4) == [4, 4, 5, 6]


def test_the_cost_is_said_beside_plain_windows():
    settings = MEVGSettings(13, "invert")
    assert calls(settings, 3, 24, 5) == (24 + 2 * 19, 2 * 19)
    assert calls(MEVGSettings(13), 3, 24, 0) == (72, 0)
    text = cost_text(settings, 3, 37, 24, 5, 2)
    assert f"62 x 2 CFG branches + 38 with the empty text = {62 * 2 + 38} window evaluations" in text
    assert f"{162 / 240:.2f}x plain windows of half overlap (240)" in text and "3 clips of 13" in text


@pytest.mark.parametrize("wrong", [
    {"length": 1}, {"begin": "again"}, {"start_percent": 1.0}, {"shared_noise": -1}, {"lfai": math.nan},
    {"sgs": math.inf}, {"first_latent": "none"},
])  # fmt: skip
def test_settings_name_what_is_wrong(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MEVGSettings(**{"length": 4, **wrong})
