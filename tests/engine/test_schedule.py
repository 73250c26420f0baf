"""A sampler knows which part of the whole schedule it runs: two in a row do what one does."""

import comfy.sample
import comfy.samplers
import pytest
import torch
from longtake.samplers.adapters.schedule import first_index, place
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.freelong import BandBlend
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.syncos.coupling import SynCoSSettings
from support import tiny_wan, zoo
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread")
SAMPLING = {"flow": "wan21_t2v", "flow shifted": "hunyuan_video"}
SCHEDULERS = [n for n in comfy.samplers.SCHEDULER_NAMES]


def sampling_of(kind):
    return zoo.patcher(SAMPLING[kind]).get_model_object("model_sampling")


@pytest.mark.parametrize("kind", SAMPLING)
def test_place_is_the_inverse_of_percent_to_sigma(kind):
    sampling = sampling_of(kind)
    for percent in (0.01, 0.2, 0.5, 0.8, 0.99):
        assert place(sampling, float(sampling.percent_to_sigma(percent))) == pytest.approx(percent, abs=1e-4)
    assert place(sampling, float(sampling.sigma_max)) == pytest.approx(0, abs=1e-3)
    assert place(sampling, 0.0) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("kind", SAMPLING)
def test_every_part_of_cores_schedules_is_found(kind, scheduler):
    sampling = sampling_of(kind)
    sigmas = comfy.samplers.calculate_sigmas(sampling, scheduler, 20)
    steps = len(sigmas) - 1
    for start, end in ((0, steps), (0, 9), (5, steps), (6, 13), (11, steps)):
        assert first_index(sampling, sigmas[start : end + 1]) == start


def test_sigmas_of_no_schedule_are_placed_by_their_noise():
    sampling = sampling_of("flow")
    own = torch.tensor([float(sampling.percent_to_sigma(p)) for p in (0.4, 0.513, 0.6, 0.71, 0.8, 0.93)] + [0.0])
    assert first_index(sampling, own) == 4


def sampled(model, steps, cut=None, scheduler="simple", sampler="euler"):
    """One sampler over all steps, or two that meet at `cut`."""
    latent = tiny_wan.latent()
    noise = comfy.sample.prepare_noise(latent, 5)
    kwargs = dict(positive=tiny_wan.prompt(1), negative=tiny_wan.prompt(2), disable_pbar=True, seed=5)

    def part(noise, latent, **more):
        return comfy.sample.sample(
            model, noise, steps, 2.0, sampler, scheduler, latent_image=latent, **kwargs, **more
        )

    if cut is None:
        return part(noise, latent)
    half = part(noise, latent, last_step=cut)
    return part(torch.zeros_like(noise), half, start_step=cut, disable_noise=True)


@pytest.mark.parametrize("cut", [1, 3, 4])
@pytest.mark.parametrize("scheduler", ["simple", "karras", "beta"])
@pytest.mark.parametrize(
    "path",
    [GlobalPath(0.4, until=0.5), GlobalPath(0.4, every=2), GlobalPath(0.4, every=3, until=0.7),
     BandBlend(GlobalPath(1.0, 0.0, 2, 0.7))],
    ids=repr,
)  # fmt: skip
def test_two_samplers_in_a_row_are_one(path, scheduler, cut):
    model = windowed(tiny_wan.patcher(), schedule="random_shift", extra_path=path)
    whole = sampled(model, 6, scheduler=scheduler)
    assert (sampled(model, 6, cut, scheduler) - whole).abs().max() < 1e-4
    without = windowed(tiny_wan.patcher(), schedule="random_shift")
    assert (sampled(without, 6, scheduler=scheduler) - whole).abs().max() > 1e-3


@pytest.mark.parametrize("cut", [1, 3, 4])
@pytest.mark.parametrize("scheduler", ["simple", "karras"])
@pytest.mark.parametrize("windows", [
    {"schedule": "rolling"}, {"schedule": "rolling_cut", "overlap": 1}, {"overlap_end": 0},
    {"schedule": "random_shift", "overlap_end": 4, "closed_loop": True},
    {"schedule": "rolling", "fuse": "overlap-linear", "overlap_end": 4},
], ids=str)  # fmt: skip
def test_windows_of_two_samplers_in_a_row_are_those_of_one(windows, scheduler, cut):
    model = windowed(tiny_wan.patcher(), **windows)
    whole = sampled(model, 6, scheduler=scheduler)
    assert (sampled(model, 6, cut, scheduler) - whole).abs().max() < 1e-4
    assert (sampled(windowed(tiny_wan.patcher()), 6, scheduler=scheduler) - whole).abs().max() > 1e-3


def test_a_schedule_is_looked_for_once_in_a_run(monkeypatch):
    from longtake.samplers.adapters import schedule

    looked = []
    monkeypatch.setattr(schedule, "first_index", lambda *args: looked.append(1) or 0)
    tiny_wan.run(windowed(tiny_wan.patcher(), extra_path=GlobalPath(0.4, every=2)))
    tiny_wan.run(windowed(tiny_wan.patcher(), extra_path=GlobalPath(0.4)))
    assert looked == [1]


@pytest.mark.parametrize("cut", [1, 2, 4])
def test_two_coupled_samplers_in_a_row_are_one(cut):
    """max_coupled counts steps of the whole schedule."""
    model = windowed(tiny_wan.patcher(), schedule="random_shift")
    settings = SynCoSSettings(t_min=0.2, max_coupled=3, iters=2, chunks=2, optimizer="sgd", lr=1)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", 6)
    latent = tiny_wan.latent()
    noise = comfy.sample.prepare_noise(latent, 5)

    def part(noise, latent, sigmas):
        return comfy.sample.sample_custom(
            model, noise, 2.0, syncos_sampler(settings), sigmas, tiny_wan.prompt(1), tiny_wan.prompt(2), latent,
            disable_pbar=True, seed=5,
        )  # fmt: skip

    whole = part(noise, latent, sigmas)
    half = part(noise, latent, sigmas[: cut + 1])
    assert (part(torch.zeros_like(noise), half, sigmas[cut:]) - whole).abs().max() < 1e-4
