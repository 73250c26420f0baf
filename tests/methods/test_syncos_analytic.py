"""SynCoS against exact denoisers: the same trajectory in every parameterisation, and what exchange does."""

from dataclasses import replace

import comfy.model_sampling
import pytest
import torch
from longtake.samplers.adapters import syncos as adapter
from longtake.samplers.adapters.engine import LongTakeContextHandler
from longtake.samplers.adapters.hooks import CHUNKS
from longtake.samplers.syncos.coupling import PRESETS, SynCoSSettings
from longtake.samplers.windows import WindowSettings

pytestmark = pytest.mark.usefixtures("one_thread")


def sampling_of(kind, config=None):
    """A model_sampling as core builds it: eps, v, v with zero terminal SNR, flow."""
    bases = {
        "eps": (comfy.model_sampling.EPS, comfy.model_sampling.ModelSamplingDiscrete),
        "v": (comfy.model_sampling.V_PREDICTION, comfy.model_sampling.ModelSamplingDiscrete),
        "zsnr": (comfy.model_sampling.V_PREDICTION, comfy.model_sampling.ModelSamplingDiscrete),
        "flow": (comfy.model_sampling.CONST, comfy.model_sampling.ModelSamplingDiscreteFlow),
    }[kind]
    made = type("Sampling", bases, {})()
    if kind == "zsnr":
        made.set_sigmas(comfy.model_sampling.rescale_zero_terminal_snr_sigmas(made.sigmas))
    return made


def sample(guider, sampling, levels, noise, settings, overlap, seed=0, callback=None):
    """sample_syncos of a latent of noise, with a denoiser in place of the guider, in windows of 5 frames."""
    guider.inner_model = type("Inner", (), {"model_sampling": sampling})
    model = lambda x, sigma, **extra: guider(x, sigma, extra["model_options"], 0)  # noqa: E731
    model.inner_model = guider
    handler = LongTakeContextHandler(WindowSettings(5, overlap, fuse="flat"))
    options = {"context_handler": handler, "transformer_options": {"sample_sigmas": levels}}
    return adapter.sample_syncos(
        model, sampling.noise_scaling(levels[0], noise, torch.zeros_like(noise)), levels,
        {"model_options": options, "seed": seed}, callback, True, settings=settings, chunks=None,
    )  # fmt: skip


@pytest.mark.parametrize("start", [12.0, 4500.0])
@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_every_parameterisation_gives_the_same_trajectory(start, optimizer, monkeypatch):
    """One Gaussian denoiser, E[x0 | x] for x0 ~ N(m, v) per frame, at the same signal-to-noise ratios."""
    ratios = torch.tensor([start, 6.0, 3.0, 1.0, 0.3], dtype=torch.float64)  # noise over signal
    shape = (1, 2, 11, 3, 3)
    generator = torch.Generator().manual_seed(0)
    m, noise = (torch.randn(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    v = 0.3 + torch.rand(shape, generator=generator, dtype=torch.float64)

    def draw(self, purpose, key, iteration=0):  # by order: the step keys are sigmas, which differ
        keys = vars(self).setdefault("keys", [])
        if key not in keys:
            keys.append(key)
        return torch.Generator().manual_seed(1000 * keys.index(key) + 10 * iteration + len(purpose))

    monkeypatch.setattr(adapter._Run, "draw", draw)
    settings = SynCoSSettings(
        t_min=0.0, max_coupled=0, iters=4, chunks=3, optimizer=optimizer, lr=0.5 if optimizer == "adamw" else 2.0,
    )  # fmt: skip
    trajectories = {}
    for kind in ("eps", "v", "zsnr", "flow"):
        sampling = sampling_of(kind)
        levels = ratios / (1 + ratios) if kind == "flow" else ratios
        levels = torch.cat([levels, levels.new_zeros(1)])

        def guider(x, sigma, model_options, seed, kind=kind, sampling=sampling):
            chunks = model_options["transformer_options"].get(CHUNKS)
            frames = range(11) if chunks is None else [i for w in chunks.windows for i in w.indices]
            s = sigma.view(-1, 1, 1, 1, 1)
            a = 1 - s if kind == "flow" else torch.ones_like(s)
            mean, var = m[:, :, list(frames)], v[:, :, list(frames)]
            truth = mean + a * var / (a**2 * var + s**2) * (x - a * mean)
            # as the network would say it, and back: what the parameterisation does to a prediction
            scaled = sampling.calculate_input(s, x)
            data = 0.5
            if kind == "flow" or kind == "eps":
                output = (x - truth) / s
            else:
                output = (x * data**2 / (s**2 + data**2) - truth) * (s**2 + data**2) ** 0.5 / (s * data)
            assert scaled.shape == x.shape
            sampling.sigma_data = data if kind in ("v", "zsnr") else getattr(sampling, "sigma_data", 1.0)
            return sampling.calculate_denoised(s, output, x)

        steps = []
        sample(guider, sampling, levels, noise, settings, 2,
               callback=lambda info, steps=steps: steps.append(info["denoised"].clone()))  # fmt: skip
        trajectories[kind] = torch.stack(steps)
    plain = trajectories.pop("eps")
    assert torch.isfinite(plain).all()
    for other in trajectories.values():
        assert (other - plain).abs().max() <= 1e-6 * plain.abs().max()


def agreement(settings, seeds=range(24), chunks=4):
    """Share of runs whose chunks all choose alike: each is all +1 or all -1, as likely, which its exact denoiser
    E[x0 | x] finds out from its own noise."""
    sampling = sampling_of("flow")
    levels = torch.cat([torch.linspace(1, 0.6, 9), torch.tensor([0.4, 0.2, 0.0])]).double()

    def guider(x, sigma, model_options, seed):
        s = sigma.view(-1, 1, 1, 1, 1)
        blocks = x.split(5, 2)
        evidence = [((1 - s) / s**2 * b).sum((1, 2, 3, 4), keepdim=True) for b in blocks]
        return torch.cat([e.tanh().expand_as(b) for e, b in zip(evidence, blocks, strict=True)], 2)

    alike = []
    for seed in seeds:
        noise = torch.randn(1, 2, chunks * 5, 3, 3, generator=torch.Generator().manual_seed(seed)).double()
        out = sample(guider, sampling, levels, noise, settings, 0, seed)
        signs = torch.stack([b.mean().sign() for b in out.split(5, 2)])
        assert (out.abs() - 1).abs().max() < 1e-3  # every chunk has made its choice
        alike.append(bool((signs == signs[0]).all()))
    return sum(alike) / len(alike)


def test_exchange_makes_chunks_choose_alike():
    """What nothing but noise decides: four chunks alone agree in one run of eight."""
    sgd = replace(PRESETS["paper"], optimizer="sgd", lr=1.0, iters=4, t_min=0.0, max_coupled=3)
    alone, paper, whole = (agreement(s) for s in (replace(sgd, stages="first"), sgd, replace(sgd, exchange=1.0)))
    assert max(alone, paper) <= 0.15 and whole >= 0.25
