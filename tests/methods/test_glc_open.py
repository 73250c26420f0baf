"""What GLC-Diffusion leaves open, as settings: shifts per window, the dilation, its padding, Eq. 8. Each against its
definition in plain loops, in real sampling, and at its limit."""

import itertools

import pytest
import torch
from longtake.nodes.windows import chart, report, window_settings
from longtake.samplers.adapters.window import window_weights
from longtake.samplers.cost import run_cost
from longtake.samplers.freelong import SpectralBlend
from longtake.samplers.glc.paths import PADDINGS, GlobalPath, dilated_count, dilated_windows
from longtake.samplers.windows import WindowSettings, local_count, local_windows, most_windows
from support import tiny_wan
from support.compare import difference
from support.tiny_wan import CLOSE, FRAMES, run
from support.windows import LENGTH, OVERLAP, windowed

pytestmark = pytest.mark.usefixtures("one_thread")
SIZES = [(13, 5, 2), (14, 5, 2), (37, 13, 6), (74, 13, 12), (74, 13, 0), (7, 13, 6), (2, 5, 4)]


@pytest.fixture(scope="module")
def model():
    return tiny_wan.patcher()


@pytest.mark.parametrize("frames, length, overlap", SIZES)
@pytest.mark.parametrize("loop", [False, True])
def test_each_window_moves_by_its_own_offset(frames, length, overlap, loop):
    settings = WindowSettings(length, overlap, "random_shift_each", 3, closed_loop=loop)
    static = [w.indices[0] for w in local_windows(WindowSettings(length, overlap, closed_loop=loop), frames, 0)]
    most = overlap // 4
    moved = set()
    for key in range(60):
        windows = local_windows(settings, frames, key)
        starts = [w.indices[0] for w in windows]
        assert windows == local_windows(settings, frames, key)
        assert len(starts) == len(static) == local_count(settings, frames, key) == most_windows(settings, frames)
        assert {i for w in windows for i in w.indices} == set(range(frames))
        if not loop:
            assert starts[0] == 0 and starts[-1] == max(frames - length, 0) and starts == sorted(starts)
            if most <= (length - overlap) // 2:  # no window passes its neighbour
                assert all(abs(a - b) <= most for a, b in zip(starts, static, strict=True))
        moved.update(zip(range(len(starts)), starts, strict=True))
    if most and frames > 2 * length and not loop:  # every inner window has been at each of its places
        inner = [(i, s + j) for i, s in enumerate(static) for j in range(-most, most + 1) if 0 < i < len(static) - 1]
        if most <= (length - overlap) // 2:
            assert set(inner) <= moved | {(i, s) for i, s in inner if not 0 <= s <= frames - length}
    if not most:
        assert len(moved) == len(static)


def test_shifts_of_two_windows_are_independent():
    settings = WindowSettings(13, 6, "random_shift_each")
    offsets = []
    for key in range(900):
        starts = [w.indices[0] for w in local_windows(settings, 48, key)]
        offsets.append((starts[1] - 7, starts[2] - 14))
    counts = {pair: offsets.count(pair) for pair in itertools.product((-1, 0, 1), repeat=2)}
    assert sum(counts.values()) == 900 and min(counts.values()) > 60  # 100 expected, standard deviation 9.4


def brute_dilated(frames, length, rate, padding):
    """(frames seen, which of them count) of each window, from a video padded far beyond both ends."""
    d, length = rate or -(-frames // length), min(length, frames)

    def seen(p):
        while not 0 <= p < frames:  # reflection, or the last frame again
            p = frames - 1 if padding == "repeat" else -p if p < 0 else 2 * (frames - 1) - p
        return p

    found = []
    for i in range(d):
        own = [p for p in range(frames) if p % d == i]
        begins = [0]
        while begins[-1] + length < len(own):
            begins.append(min(begins[-1] + length, len(own) - length))
        for begin in begins:
            before = (max(length - len(own), 0) + 1) // 2 if padding == "both_ends" else 0
            positions = [i + d * (begin - before + k) for k in range(length)]
            found.append(([seen(p) for p in positions], [0 <= p < frames for p in positions]))
    return found


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("frames, length", [(14, 5), (13, 5), (39, 13), (40, 13), (5, 5), (3, 5), (2, 1), (23, 4)])
def test_dilated_windows_are_their_definition(frames, length, padding):
    for rate in range(frames):
        windows = dilated_windows(frames, length, rate, padding)
        assert dilated_count(frames, length, rate) == len(windows)
        for window, (seen, real) in zip(windows, brute_dilated(frames, length, rate, padding), strict=True):
            assert list(window.indices) == seen
            assert [window.lead <= k < window.lead + window.real for k in range(len(seen))] == real
        assert {i for w in windows for i in w.own} == set(range(frames))


def test_the_dilation_of_old_is_the_default():
    assert dilated_windows(14, 5, 3) == dilated_windows(14, 5, 0) == dilated_windows(14, 5)
    assert [w.own for w in dilated_windows(14, 5)] == [(0, 3, 6, 9, 12), (1, 4, 7, 10, 13), (2, 5, 8, 11)]


@pytest.mark.parametrize("rate", [0, 1, 2, 4])
@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize("fuse", ["flat", "pyramid"])
def test_one_evaluation_equals_eq_8_and_9(model, pooled, fuse, rate):
    """Both paths cut, predicted and fused by hand: each by itself, or as the least squares of Eq. 8."""
    share = 0.3
    path = GlobalPath(share, 0.0, rate=rate, padding="both_ends", pooled=pooled)
    settings = WindowSettings(LENGTH, OVERLAP, fuse=fuse)
    seen = {}

    def look(args):
        for name, key in (("x", "input"), ("cond", "cond_denoised"), ("sigma", "sigma")):
            seen.setdefault(name, args[key].clone())
        return args["denoised"]

    ours = windowed(model, extra_path=path, fuse=fuse)
    ours.set_model_sampler_post_cfg_function(look)
    run(ours, steps=2)

    def predicted(windows):
        with torch.no_grad():
            return [model.model.apply_model(seen["x"][:, :, list(w.indices)], seen["sigma"],
                                            c_crossattn=tiny_wan.prompt(1)[0][0]) for w in windows]  # fmt: skip

    local, whole = local_windows(settings, FRAMES, 0), dilated_windows(FRAMES, LENGTH, rate, "both_ends")
    weigh = {w: window_weights(settings, w, FRAMES, None) for w in local}
    terms = [[], []]  # per path (frame, weight, prediction)
    for w, part in zip(local, predicted(local), strict=True):
        mean = sum(weigh[w]) / LENGTH
        terms[0] += [(f, v / mean, part[:, :, k]) for k, (f, v) in enumerate(zip(w.indices, weigh[w], strict=True))]
    for w, part in zip(whole, predicted(whole), strict=True):
        terms[1] += [(f, 1.0, part[:, :, w.lead + k]) for k, f in enumerate(w.own)]

    def average(shares):
        top, bottom = torch.zeros_like(seen["x"]), torch.zeros(FRAMES)
        for path_share, of_path in zip(shares, terms, strict=True):
            for frame, weight, part in of_path if path_share else ():
                top[:, :, frame] += path_share * weight * part
                bottom[frame] += path_share * weight
        return top / bottom.view(1, 1, -1, 1, 1)

    eq_8 = average((1 - share, share))
    eq_9 = (1 - share) * average((1, 0)) + share * average((0, 1))
    assert difference(eq_8, eq_9) > 1e-3
    torch.testing.assert_close(seen["cond"], eq_8 if pooled else eq_9, atol=CLOSE, rtol=0)


def test_eq_8_is_eq_9_where_both_paths_see_a_frame_once(model):
    more = dict(length=7, overlap=0, fuse="flat")
    one = run(windowed(model, extra_path=GlobalPath(0.3, pooled=True), **more))
    assert difference(one, run(windowed(model, extra_path=GlobalPath(0.3), **more))) < CLOSE
    assert difference(one, run(windowed(model, **more))) > 1e-3


@pytest.mark.parametrize("more", [{"pooled": True}, {"rate": 2}, {"padding": "both_ends"}, {"padding": "repeat"}])
def test_limits_are_bit_for_bit(model, more):
    plain = run(windowed(model))
    assert difference(run(windowed(model, extra_path=GlobalPath(0.0, **more))), plain) == 0.0
    moved = run(windowed(model, extra_path=GlobalPath(0.3, **more)))
    assert difference(moved, run(windowed(model, extra_path=GlobalPath(0.3)))) > 1e-4
    one = run(windowed(model, extra_path=GlobalPath(0.3, **more)), LENGTH)
    assert difference(one, run(model, LENGTH)) == 0.0
    default = GlobalPath(0.3, pooled=False, rate=0, padding="end")
    assert difference(run(windowed(model, extra_path=default)), run(windowed(model, extra_path=GlobalPath(0.3)))) == 0.0


def test_shifts_per_window_in_a_run(model):
    """Overlap below 4 leaves no room to move: the static windows, bit for bit. More moves them."""
    each = dict(schedule="random_shift_each", shift_seed=2)
    assert difference(run(windowed(model, **each)), run(windowed(model))) == 0.0
    wide = dict(overlap=4)
    moved = run(windowed(model, **each, **wide))
    assert difference(moved, run(windowed(model, **wide))) > 1e-4
    assert difference(moved, run(windowed(model, **each, **wide))) == 0.0
    assert difference(run(windowed(model, LENGTH, 4, schedule="random_shift_each"), LENGTH), run(model, LENGTH)) == 0.0


@pytest.mark.parametrize("path", [
    GlobalPath(0.3, rate=2), GlobalPath(0.3, rate=5, padding="both_ends"), GlobalPath(0.3, pooled=True, every=2),
    SpectralBlend(GlobalPath(1.0, 0.0, rate=2)),
], ids=repr)  # fmt: skip
def test_the_cost_is_what_is_evaluated(model, path):
    settings = WindowSettings(LENGTH, 4, "random_shift_each", extra_path=path, window_batch=1)
    recorder, calls = tiny_wan.record(windowed(model, overlap=4, schedule="random_shift_each", extra_path=path))
    run(recorder, steps=4)
    assert sum(shape[0] for shape, *_ in calls) == run_cost(settings, FRAMES, range(4), 2).evaluations


def test_a_dilation_as_long_as_the_video_is_refused(model):
    wrong = r"Window Scheduler.*dilation \(14\) must be smaller than the video's 14 latent frames; 0 takes 3"
    with pytest.raises(ValueError, match=wrong):
        run(windowed(model, extra_path=GlobalPath(0.3, rate=14)))
    settings = window_settings(17, 8, 4, global_path=True, dilation=14)
    for show in (lambda: report(settings, 17, 8, 53), lambda: chart(settings, 53)):
        with pytest.raises(ValueError, match=r"dilation \(14\)"):
            show()


def test_the_nodes_widgets_make_them():
    made = window_settings(17, 8, 4, global_path=True, global_mix="least_squares", dilation=2, global_padding="repeat")
    assert made.extra_path == GlobalPath(rate=2, padding="repeat", pooled=True)
    blend = window_settings(17, 8, 4, global_path=True, global_mix="frequencies", dilation=2)
    assert blend.extra_path == SpectralBlend(GlobalPath(1.0, 0.0, rate=2))
    for values in ({"dilation": -1}, {"global_padding": "x"}, {"dilation": float("nan")}):
        with pytest.raises(ValueError, match=f"Window Scheduler.*{next(iter(values))}"):
            window_settings(17, 8, 4, global_path=True, **values)


def test_the_chart_and_the_report_follow():
    each = window_settings(49, 28, 4, schedule="random_shift_each")
    data = chart(each, 293)
    assert data["examples"] and "shifts are examples" in data["notes"] and not data["about"]
    assert len(data["layouts"]) > 5 and len({len(layout) for layout in data["layouts"]}) == 1
    assert data["cost"]["ratio"] == 1.0 and "1.00x plain windows" in report(each, 49, 28, 293)
    dilated = window_settings(49, 28, 4, global_path=True, dilation=3)
    assert chart(dilated, 293)["dilated"] == [{"windows": dilated_count(74, 13, 3), "first": list(range(0, 39, 3))}]
