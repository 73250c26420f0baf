"""FreeLong's spectral blend and FreeLong++'s bands: against numpy, against a loop over their definition in real
sampling, and their limits."""

import itertools

import comfy.sample
import numpy
import pytest
import torch
from longtake.nodes.windows import MIXES, chart, chart_image, report, window_settings
from longtake.samplers.adapters.window import window_weights
from longtake.samplers.cost import cost_text, run_cost
from longtake.samplers.freelong import BandBlend, SpectralBlend
from longtake.samplers.glc.paths import GlobalPath, dilated_windows
from longtake.samplers.windows import Window, WindowSettings, local_windows, step_paths
from support import tiny_wan
from support.compare import difference
from support.tiny_wan import CLOSE, FRAMES, run
from support.windows import LENGTH, OVERLAP, anchored, windowed

pytestmark = pytest.mark.usefixtures("one_thread")
WHOLE = GlobalPath(1.0, 0.0)


def join(blend, local, whole):
    return blend.join(local, [whole], blend.response(tuple(local.shape[2:]), LENGTH))


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


def watched(model, settings, frames):
    """(what the first step of a run saw and made, for one CFG branch; what windows of its x predict, fused by hand)."""
    seen = {}

    def look(args):
        for name, key in (("x", "input"), ("cond", "cond_denoised"), ("sigma", "sigma")):
            seen.setdefault(name, args[key].clone())
        return args["denoised"]

    ours = windowed(model, extra_path=settings.extra_path)
    ours.set_model_sampler_post_cfg_function(look)
    run(ours, frames, steps=2)

    def fused(windows, weigh=lambda w: [1.0] * LENGTH):
        top, bottom = torch.zeros_like(seen["x"]), torch.zeros(frames)
        for w in windows:
            part = model.model.apply_model(
                seen["x"][:, :, list(w.indices)], seen["sigma"], c_crossattn=tiny_wan.prompt(1)[0][0])
            for weight, position, frame in zip(weigh(w), range(LENGTH), w.indices[: w.real], strict=False):
                top[:, :, frame] += weight * part[:, :, position]
                bottom[frame] += weight
        return top / bottom.view(1, 1, -1, 1, 1)

    return seen, fused


def test_one_evaluation_equals_its_definition(model):
    """Local and dilated windows cut, predicted, fused and joined by hand, for one CFG branch."""
    settings = WindowSettings(LENGTH, OVERLAP, extra_path=SpectralBlend(WHOLE, 0.3), window_batch=1)
    seen, fused = watched(model, settings, FRAMES)
    with torch.no_grad():
        local = fused(local_windows(settings, FRAMES, 0), lambda w: window_weights(settings, w, FRAMES, None))
        whole = fused(dilated_windows(FRAMES, LENGTH))
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


# ---- FreeLong++: bands ------------------------------------------------------------------------------------------

LONG = 20  # frames: four windows of five
BANDS = BandBlend(WHOLE)


def bands_by_hand(local, looks, spans):
    """Each prediction's own band of temporal frequencies, bin by bin, in numpy's complex FFT of both signs, float64."""
    frames = local.shape[2]
    parts = {1: local, **dict(zip(spans, looks, strict=True))}
    longest_first = sorted(parts, reverse=True)
    spectra = {a: numpy.fft.fft(part.double().numpy(), axis=2) for a, part in parts.items()}
    mixed = numpy.zeros_like(spectra[1])
    for k in range(frames):
        cycles = min(k, frames - k)  # in the whole video
        # The longest look whose band's upper edge, pi / 2a radians per frame, is not below this frequency.
        a = next((a for a in longest_first if a > 1 and 4 * a * cycles <= frames), 1)
        mixed[:, :, k] = spectra[a][:, :, k]
    return torch.from_numpy(numpy.fft.ifft(mixed, axis=2).real).float()


@pytest.mark.parametrize("frames, length, rate, spans", [
    (20, 5, 0, [2, 4]), (40, 5, 0, [2, 4, 8]), (15, 5, 0, [3]), (30, 5, 0, [3, 6]), (45, 5, 0, [2, 4, 9]),
    (21, 5, 0, [2, 5]), (6, 5, 0, [2]), (5, 5, 0, []), (3, 5, 0, []), (1, 1, 0, []), (4, 1, 0, [3]),
    (40, 5, 4, [2, 4]), (40, 5, 6, [3, 6]), (40, 5, 1, []), (20, 5, 9, [2, 4]), (74, 13, 0, [3, 6]),
    (81, 21, 0, [2, 4]),
])  # fmt: skip
def test_the_looks_halve_from_the_whole_video_down(frames, length, rate, spans):
    blend = BandBlend(GlobalPath(1.0, 0.0, rate=rate))
    looks = blend.windows(frames, length)
    assert blend.spans(frames, length) == spans and list(looks) == [f"span{a}" for a in spans]
    assert blend.count(frames, length) == {name: len(windows) for name, windows in looks.items()}
    for a, windows in zip(spans, looks.values(), strict=True):
        assert {i for w in windows for i in w.own} == set(range(frames))
        for w in windows:
            assert len(w.indices) == min(length, frames)
            assert all(j - i == a for i, j in itertools.pairwise(w.own))


@pytest.mark.parametrize("frames, length", [(20, 5), (21, 5), (30, 5), (40, 5), (75, 5), (6, 5), (161, 21)])
def test_the_bands_are_the_papers_and_share_no_frequency(frames, length):
    bands = BANDS.response((frames, 3, 4), length)
    spans = BANDS.spans(frames, length)
    assert bands.shape == (len(spans), frames // 2 + 1) and set(bands.unique().tolist()) <= {0.0, 1.0}
    finest = 1 - bands.sum(0)
    assert set(finest.tolist()) <= {0.0, 1.0}  # all bands sum to 1
    assert bands[-1, 0] == 1  # the mean is the longest look's
    if spans == [2, 4]:  # [0, pi/8], [pi/8, pi/4], [pi/4, pi]
        radians = torch.arange(frames // 2 + 1) * 2 * torch.pi / frames
        edges = [torch.pi / 8 + 1e-6, torch.pi / 4 + 1e-6]
        expected = [(radians > edges[0]) & (radians <= edges[1]), radians <= edges[0], radians > edges[1]]
        assert torch.equal(torch.stack([*bands, finest]), torch.stack(expected).float())


@pytest.mark.parametrize("frames", [20, 21, 30, 41])
def test_the_bands_join_as_numpys(frames):
    spans = BANDS.spans(frames, LENGTH)
    local, *looks = torch.randn(1 + len(spans), 2, 3, frames, 4, 2, generator=torch.Generator().manual_seed(4))
    expected = bands_by_hand(local, looks, spans)
    made = BANDS.join(local, [look.clone() for look in looks], BANDS.response((frames, 4, 2), LENGTH))
    assert (made - expected).abs().max() < 1e-5
    assert (made - local).abs().max() > 0.1


def test_equal_predictions_stay_bit_for_bit():
    local = torch.randn(2, 3, LONG, 4, 4, generator=torch.Generator().manual_seed(5))
    bands = BANDS.response((LONG, 4, 4), LENGTH)
    assert difference(BANDS.join(local, [local.clone(), local.clone()], bands), local) == 0.0


def test_one_evaluation_of_bands_equals_its_definition(model):
    """Local and dilated windows cut, predicted, fused and joined by hand, for one CFG branch."""
    settings = WindowSettings(LENGTH, OVERLAP, extra_path=BANDS, window_batch=1)
    seen, fused = watched(model, settings, LONG)
    with torch.no_grad():
        local = fused(local_windows(settings, LONG, 0), lambda w: window_weights(settings, w, LONG, None))
        # every frame of a look, by its distance to the next, in rows of five, without the code's own windows
        rows = [[range(i + 5 * a * n, i + 5 * a * (n + 1), a) for i in range(a) for n in range(4 // a)] for a in (2, 4)]
        looks = [fused([Window(row, LENGTH) for row in some]) for some in rows]
    assert min((local - looked).abs().max() for looked in looks) > 1e-2
    torch.testing.assert_close(seen["cond"], bands_by_hand(local, looks, [2, 4]), atol=CLOSE, rtol=0)


@pytest.mark.parametrize("more", [
    {}, {"schedule": "random_shift", "closed_loop": True}, {"first_latent": "anchor", "overlap_end": 0},
])  # fmt: skip
def test_the_limit_of_bands_is_windows_alone(model, more):
    """Bit for bit: with one look left it is the local windows, of one window a plain sampler."""
    plain = run(windowed(model, **more), LONG)
    alone = BandBlend(GlobalPath(1.0, 0.0, rate=1))
    assert difference(run(windowed(model, extra_path=alone, **more), LONG), plain) == 0.0
    made = run(windowed(model, extra_path=BANDS, **more), LONG)
    assert difference(made, plain) > 1e-2
    assert difference(made, run(windowed(model, extra_path=SpectralBlend(WHOLE), **more), LONG)) > 1e-2
    never = BandBlend(GlobalPath(1.0, 0.0, until=0.0))
    assert difference(run(windowed(model, extra_path=never, **more), LONG), plain) == 0.0
    if "closed_loop" not in more:
        assert difference(run(windowed(model, extra_path=BANDS, **more), LENGTH), run(model, LENGTH)) == 0.0
    else:
        one = run(windowed(model, extra_path=BANDS, **more), LENGTH)
        assert difference(one, run(windowed(model, **more), LENGTH)) == 0.0


def test_bands_beside_batches_anchors_and_their_cost(model):
    one = run(windowed(model, extra_path=BANDS), LONG, batch=2)
    assert difference(run(windowed(model, extra_path=BANDS, window_batch=3), LONG, batch=2), one) < 1e-4
    assert difference(run(anchored(windowed(model, extra_path=BANDS)), LONG), one[:1]) > 1e-3
    path = BandBlend(GlobalPath(1.0, 0.0, 2, 0.7, padding="both_ends"))
    settings = WindowSettings(LENGTH, OVERLAP, extra_path=path, window_batch=1)
    recorder, calls = tiny_wan.record(windowed(model, extra_path=path))
    run(recorder, LONG, steps=6)
    cost = run_cost(settings, LONG, range(6), 2)
    assert sum(shape[0] for shape, *_ in calls) == cost.evaluations
    assert (cost.extra, cost.extra_steps, cost.looks) == (8, 3, {"span2": 4, "span4": 4})
    assert "local windows of 5 (stride 3) per step + 4 span2 + 4 span4 in 3 of 6 steps" in cost_text(
        settings, LONG, range(6), 2)
    names = [note["path"] for _, note, *_ in calls]
    per_step = [{n for n, (_, note, *_) in zip(names, calls, strict=True) if note["step"] == s} for s in range(6)]
    assert per_step == [{"local", "span2", "span4"} if s in (0, 2, 4) else {"local"} for s in range(6)]


def test_the_node_makes_bands_and_shows_every_look():
    made = window_settings(49, 28, 4, global_path=True, global_mix="bands", gamma0=0.0, dilation=6, global_until=0.5)
    assert made.extra_path == BandBlend(GlobalPath(1.0, 0.0, 1, 0.5, 6))
    assert window_settings(49, 28, 4, global_mix="bands").extra_path is None
    assert MIXES == ("weight", "frequencies", "least_squares", "bands")  # saved graphs name them; new ones at the end
    data = chart(made, 293)
    firsts = [w.own for a in (3, 6) for w in dilated_windows(74, 13, a)[:1]]
    assert data["dilated"] == [{"windows": 6, "first": list(own)} for own in firsts]
    assert "+ 6 + 6 global" in data["title"] and "+ 6 + 6 global" in report(made, 49, 28, 293)
    shown = {tuple(pixel) for pixel in (chart_image(made, 293)[0] * 255).round().int().reshape(-1, 3).tolist()}
    assert (0x7E, 0xD9, 0x85) in shown


def test_a_longest_look_as_long_as_the_video_is_refused(model):
    wrong = r"Window Scheduler.*dilation \(20\) must be smaller than the video's 20 latent frames; 0 takes 4"
    with pytest.raises(ValueError, match=wrong):
        run(windowed(model, extra_path=BandBlend(GlobalPath(1.0, 0.0, rate=20))), LONG)
    settings = window_settings(17, 8, 4, global_path=True, global_mix="bands", dilation=20)
    for show in (lambda: report(settings, 17, 8, 77), lambda: chart(settings, 77)):
        with pytest.raises(ValueError, match=r"dilation \(20\)"):
            show()


def test_bands_of_a_redone_span_ask_every_window(model):
    mask = torch.zeros(1, 1, LONG, 4, 4)
    mask[:, :, 6:8] = 1
    recorder, calls = tiny_wan.record(windowed(model, extra_path=BANDS))
    start, noise = run(model, LONG), comfy.sample.prepare_noise(tiny_wan.latent(LONG), 9)
    rest = dict(latent_image=start, noise_mask=mask, disable_pbar=True, seed=9)
    made = comfy.sample.sample(
        recorder, noise, 2, 1.0, "euler", "simple", tiny_wan.prompt(1), tiny_wan.prompt(2), **rest)
    kept = [i for i in range(LONG) if i not in (6, 7)]
    assert torch.equal(made[:, :, kept], start[:, :, kept])
    settings = WindowSettings(LENGTH, OVERLAP, extra_path=BANDS)
    assert len(calls) == 2 * (len(local_windows(settings, LONG, 0)) + 8)


def test_every_look_takes_the_global_prompt(model):
    """Local windows the event at their centre, at conditioning of their own."""
    starts, total = [0, 33], 4 * (LONG - 1) + 1
    recorder, calls = tiny_wan.record(windowed(model, extra_path=BANDS))
    run(recorder, LONG, positive=tiny_wan.timeline(total, starts), cfg=1.0, steps=1)
    prompts = {"local": {10, 11}, "span2": {1}, "span4": {1}}
    for name, seeds in prompts.items():
        texts = [text for _, note, text, _ in calls if note["path"] == name]
        known = {seed: tiny_wan.rows(seed) for seed in (1, 2, 10, 11)}
        assert {seed for text in texts for seed, rows in known.items() if torch.equal(text, rows)} == seeds, name
