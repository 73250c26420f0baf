"""FreeLong's spectral blend: against numpy, against a loop over its definition in real sampling, and its limits."""

import comfy.sample
import numpy
import pytest
import torch
from longtake.nodes.windows import window_settings
from longtake.samplers.adapters.window import window_weights
from longtake.samplers.cost import run_cost
from longtake.samplers.freelong import SpectralBlend
from longtake.samplers.glc.paths import GlobalPath, dilated_windows
from longtake.samplers.windows import WindowSettings, local_windows, step_paths
from support import tiny_wan
from support.compare import difference
from support.tiny_wan import CLOSE, FRAMES, run
from support.windows import LENGTH, OVERLAP, anchored, windowed

pytestmark = pytest.mark.usefixtures("one_thread")
WHOLE = GlobalPath(1.0, 0.0)


def join(blend, local, whole):
    return blend.join(local, whole, blend.response(tuple(local.shape[2:])))


@pytest.fixture(scope="module")
def model():
    return tiny_wan.patcher()


def by_hand(local, whole, cut):
    """The blend in numpy's complex FFT over time, height and width, in float64."""
    local, whole = (part.double().numpy() for part in (local, whole))
    f = numpy.stack(numpy.meshgrid(*(2 * numpy.fft.fftfreq(n) for n in local.shape[2:]), indexing="ij"))
    h = numpy.exp(-(f**2).sum(0) / (2 * cut**2))
    axes = (2, 3, 4)
    mixed = numpy.fft.fftn(whole, axes=axes) * h + numpy.fft.fftn(local, axes=axes) * (1 - h)
    return torch.from_numpy(numpy.fft.ifftn(mixed, axes=axes).real).float()


@pytest.mark.parametrize("shape", [(1, 2, 7, 4, 6), (2, 1, 8, 5, 3), (1, 1, 3, 1, 1)])
@pytest.mark.parametrize("cut", [0.05, 0.25, 0.9])
def test_the_blend_is_numpys(shape, cut):
    local, whole = torch.randn(2, *shape, generator=torch.Generator().manual_seed(1))
    expected = by_hand(local, whole, cut)
    assert (join(SpectralBlend(WHOLE, cut), local, whole.clone()) - expected).abs().max() < 1e-5


def test_means_come_from_the_whole_and_what_is_alike_stays():
    local, whole = torch.randn(2, 1, 2, 9, 4, 4, generator=torch.Generator().manual_seed(2))
    blend = SpectralBlend(WHOLE)
    joined = join(blend, local, whole.clone())
    torch.testing.assert_close(joined.mean((2, 3, 4)), whole.mean((2, 3, 4)))  # H is 1 at 0
    torch.testing.assert_close(join(blend, local, local.clone()), local)


def test_a_part_of_a_latent_is_joined_in_place():
    local, whole = torch.randn(2, 1, 2, 9, 4, 4, generator=torch.Generator().manual_seed(3))
    before, expected = whole.clone(), by_hand(local[:, :, 2:], whole[:, :, 2:], 0.25)
    joined = join(SpectralBlend(WHOLE), local[:, :, 2:], whole[:, :, 2:])
    assert (joined - expected).abs().max() < 1e-5 and joined.data_ptr() == whole[:, :, 2:].data_ptr()
    assert torch.equal(whole[:, :, :2], before[:, :, :2])


@pytest.mark.parametrize("cut", [-0.1, 1.1, float("nan"), "a"])
def test_a_cut_that_is_none_is_refused(cut):
    with pytest.raises(ValueError, match="global_cut"):
        SpectralBlend(WHOLE, cut)


def test_one_evaluation_equals_its_definition(model):
    """Local and dilated windows cut, predicted, fused and joined by hand, for one CFG branch."""
    settings = WindowSettings(LENGTH, OVERLAP, extra_path=SpectralBlend(WHOLE, 0.3), window_batch=1)
    seen = {}

    def look(args):
        for name, key in (("x", "input"), ("cond", "cond_denoised"), ("sigma", "sigma")):
            seen.setdefault(name, args[key].clone())
        return args["denoised"]

    ours = windowed(model, extra_path=settings.extra_path)
    ours.set_model_sampler_post_cfg_function(look)
    run(ours, steps=2)

    def fused(windows, weigh):
        top, bottom = torch.zeros_like(seen["x"]), torch.zeros(FRAMES)
        for w in windows:
            part = model.model.apply_model(
                seen["x"][:, :, list(w.indices)], seen["sigma"], c_crossattn=tiny_wan.prompt(1)[0][0])
            for weight, position, frame in zip(weigh(w), range(LENGTH), w.indices[: w.real], strict=False):
                top[:, :, frame] += weight * part[:, :, position]
                bottom[frame] += weight
        return top / bottom.view(1, 1, -1, 1, 1)

    with torch.no_grad():
        local = fused(local_windows(settings, FRAMES, 0), lambda w: window_weights(settings, w, FRAMES, None))
        whole = fused(dilated_windows(FRAMES, LENGTH), lambda w: [1.0] * LENGTH)
    assert (local - whole).abs().max() > 1e-2
    torch.testing.assert_close(seen["cond"], by_hand(local, whole, 0.3), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("more", [{}, {"schedule": "random_shift", "closed_loop": True}, {"first_latent": "anchor"}])
def test_its_limits_are_the_plainer_methods(model, more):
    """Bit for bit: cut 0 is local windows alone, cut 1 the global path alone, one window a plain sampler."""
    plain, whole = run(windowed(model, **more)), run(windowed(model, extra_path=WHOLE, **more))
    assert difference(run(windowed(model, extra_path=SpectralBlend(WHOLE, 0.0), **more)), plain) == 0.0
    assert difference(run(windowed(model, extra_path=SpectralBlend(WHOLE, 1.0), **more)), whole) == 0.0
    blended = run(windowed(model, extra_path=SpectralBlend(WHOLE), **more))
    assert difference(blended, plain) > 1e-2 and difference(blended, whole) > 1e-2
    if "closed_loop" not in more:
        one = run(windowed(model, extra_path=SpectralBlend(WHOLE), **more), LENGTH)
        assert difference(one, run(model, LENGTH)) == 0.0


def test_batched_windows_agree_and_a_seed_is_a_video(model):
    path = SpectralBlend(WHOLE)
    one = run(windowed(model, extra_path=path), batch=2)
    assert difference(run(windowed(model, extra_path=path), batch=2), one) == 0.0
    assert difference(run(windowed(model, extra_path=path, window_batch=3), batch=2), one) < 1e-4
    assert difference(run(anchored(windowed(model, extra_path=path))), run(windowed(model, extra_path=path))) > 1e-3


@pytest.mark.parametrize("every, until", [(1, 1.0), (2, 1.0), (3, 0.5)])
def test_the_cost_is_what_is_evaluated(model, every, until):
    path = SpectralBlend(GlobalPath(1.0, 0.0, every, until))
    settings = WindowSettings(LENGTH, OVERLAP, extra_path=path, window_batch=1)
    recorder, calls = tiny_wan.record(windowed(model, extra_path=path))
    run(recorder, steps=6)
    evaluated = sum(shape[0] for shape, *_ in calls)
    assert evaluated == run_cost(settings, FRAMES, range(6), 2).evaluations
    names = [note["path"] for _, note, *_ in calls]
    per_step = [{n for n, (_, note, *_) in zip(names, calls, strict=True) if note["step"] == s} for s in range(6)]
    assert per_step == [{"local", "global"} if path.active(s, s / 6) else {"local"} for s in range(6)]


def test_a_redone_span_joins_what_is_whole(model):
    """Windows that touch nothing new are asked too: what they predict is in the low frequencies everywhere."""
    mask = torch.zeros(1, 1, FRAMES, 4, 4)
    mask[:, :, 6:8] = 1
    path = SpectralBlend(WHOLE)
    recorder, calls = tiny_wan.record(windowed(model, extra_path=path))
    start, noise = run(model), comfy.sample.prepare_noise(tiny_wan.latent(), 9)
    rest = dict(latent_image=start, noise_mask=mask, disable_pbar=True, seed=9)
    made = comfy.sample.sample(
        recorder, noise, 2, 1.0, "euler", "simple", tiny_wan.prompt(1), tiny_wan.prompt(2), **rest)
    kept = [i for i in range(FRAMES) if i not in (6, 7)]
    assert torch.equal(made[:, :, kept], start[:, :, kept])
    settings = WindowSettings(LENGTH, OVERLAP, extra_path=path)
    count = len(local_windows(settings, FRAMES, 0)) + len(dilated_windows(FRAMES, LENGTH))
    assert len(calls) == 2 * count


def test_the_paths_of_a_step_say_how_they_are_joined():
    for cut, expected in ((0.0, [("local", 1.0)]), (0.25, [("local", 1.0), ("global", 1.0)]), (1.0, [("global", 1.0)])):
        settings = WindowSettings(LENGTH, OVERLAP, extra_path=SpectralBlend(WHOLE, cut))
        paths = step_paths(settings, FRAMES, index=0, place=0.0, t=1000.0, key=0)
        assert [(path.name, path.share) for path in paths] == expected


def test_the_nodes_widgets_make_it():
    made = window_settings(17, 8, 4, global_path=True, global_mix="frequencies", global_cut=0.3, global_until=0.5)
    assert made.extra_path == SpectralBlend(GlobalPath(1.0, 0.0, 1, 0.5), 0.3)
    assert window_settings(17, 8, 4, global_path=True, gamma0=0.1).extra_path == GlobalPath(0.1)
    assert window_settings(17, 8, 4, global_mix="frequencies").extra_path is None
    for values, what in (({"global_mix": "x"}, "global_mix"), ({"global_mix": "frequencies", "global_cut": 2}, "cut")):
        with pytest.raises(ValueError, match=f"Window Scheduler.*{what}"):
            window_settings(17, 8, 4, global_path=True, **values)
