"""What SynCoS leaves open, as widgets: AdamW's betas and decay, DDIM's eta; in real sampling of a tiny Wan."""

from dataclasses import replace

import comfy.samplers
import pytest
import torch
from longtake.nodes.syncos import LongTakeSynCoSKSampler, LongTakeSynCoSSampler
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.syncos.coupling import PRESETS, SynCoSSettings
from support import tiny_wan
from support.compare import difference
from support.tiny_wan import run
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread")
COUPLED = SynCoSSettings(t_min=0.0, max_coupled=2, iters=3, chunks=3)
DEFAULTS = {"beta1": 0.9, "beta2": 0.999, "weight_decay": 0.0, "eta": 0.0}
LATER = {"beta1": 0.5, "beta2": 0.9, "weight_decay": 0.1, "eta": 0.3}


@pytest.fixture(scope="module")
def model():
    return windowed(tiny_wan.patcher())


def widgets(node) -> dict:
    """The node's widgets at their defaults, but those that came later."""
    inputs = {i.id: getattr(i, "default", None) for i in node.define_schema().inputs}
    return {name: value for name, value in inputs.items() if value is not None and name not in DEFAULTS}


def settings(preset, **extra):
    values = {**widgets(LongTakeSynCoSSampler), "preset": preset, **extra}
    return LongTakeSynCoSSampler.execute(**values).args[0].extra_options["settings"]


def test_they_are_optional_and_presets_take_eta_alone():
    assert settings("custom") == settings("custom", **DEFAULTS)
    assert all(getattr(settings("custom", **LATER), name) == value for name, value in LATER.items())
    assert settings("balanced", **LATER) == replace(PRESETS["balanced"], eta=0.3)
    with pytest.raises(ValueError, match=r"LongTakeSynCoSSampler.*eta \(0.3\): stages second"):
        settings("custom", stages="second", eta=0.3)


def test_both_nodes_take_them(model):
    prompts = {"positive": tiny_wan.prompt(1), "negative": tiny_wan.prompt(2)}
    values = {**widgets(LongTakeSynCoSKSampler), **prompts, "preset": "custom", "steps": 2, "iters": 3, "seed": 5}

    def made(**extra):
        latent = {"samples": tiny_wan.latent()}
        return LongTakeSynCoSKSampler.execute(model=model, latent_image=latent, **values, **extra).args[0]["samples"]

    plain = made()
    assert difference(made(**DEFAULTS), plain) == 0.0
    for name, value in LATER.items():
        assert difference(made(**{name: value}), plain) > 1e-3


def test_eta_renews_noise_and_a_seed_is_a_video(model):
    """Drawn on a generator of its own for each step: a split run draws what a whole one does."""
    renewed = replace(COUPLED, eta=1.0, max_coupled=0, t_min=0.5)
    whole = run(model, sampler=syncos_sampler(renewed))
    assert difference(run(model, sampler=syncos_sampler(renewed)), whole) == 0.0
    assert difference(run(model, sampler=syncos_sampler(replace(renewed, eta=0.0))), whole) > 1e-2
    assert difference(run(model, sampler=syncos_sampler(renewed), seed=6), whole) > 1e-2
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", tiny_wan.STEPS)
    start = tiny_wan.latent()
    noise = comfy.sample.prepare_noise(start, 5)

    def part(sigmas, noise, latent):
        return comfy.sample.sample_custom(
            model, noise, tiny_wan.CFG, syncos_sampler(renewed), sigmas, tiny_wan.prompt(1), tiny_wan.prompt(2), latent,
            disable_pbar=True, seed=5,
        )  # fmt: skip

    half = part(sigmas[:2], noise, start)
    assert difference(part(sigmas[1:], torch.zeros_like(noise), half), whole) < 1e-3  # adamw makes more of rounding
