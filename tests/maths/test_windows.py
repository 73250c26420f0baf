"""The windows' maths: coverage, fusion, the dilated path, gamma, the shift's draw, the cost."""

import math

import pytest
import torch
from comfy.context_windows import create_windows_static_standard
from longtake.samplers import windows
from longtake.samplers.cost import Details, cost_text, run_cost
from longtake.samplers.fusion import accumulate, frames_slice, normalised, sine_weights, triangular_weights
from longtake.samplers.glc.paths import GlobalPath, dilated_windows, gamma
from longtake.samplers.windows import (
    Window,
    WindowSettings,
    calls_count,
    group,
    latent_length,
    latent_overlap,
    local_count,
    local_windows,
    local_work,
    most_windows,
    pixel_length,
    planned_calls,
    rolling_offset,
    shift_offset,
    shifted_starts,
    step_paths,
    stretches,
    window_centre,
)

WINDOWS = [(1, 0), (2, 1), (5, 0), (13, 6), (13, 12), (21, 10)]
SIZES = [(f, n, o) for f in (1, 2, 5, 13, 14, 37, 74, 241) for n, o in WINDOWS]


class CoreHandler:
    def __init__(self, length, overlap):
        self.context_length, self.context_overlap = length, overlap


@pytest.mark.parametrize("frames,length,overlap", SIZES)
def test_static_windows_are_cores(frames, length, overlap):
    ours = [list(w.indices) for w in local_windows(WindowSettings(length, overlap), frames, key=0)]
    assert ours == create_windows_static_standard(frames, CoreHandler(length, overlap), {})


@pytest.mark.parametrize("frames,length,overlap", SIZES)
def test_every_offset_covers_every_frame_with_equal_windows(frames, length, overlap):
    stride = length - overlap
    for offset in range(stride):
        starts = shifted_starts(frames, min(length, frames), stride, offset)
        assert starts[0] == 0 and starts[-1] == max(frames - length, 0)
        assert len(set(starts)) == len(starts)
        assert {s + i for s in starts for i in range(min(length, frames))} == set(range(frames))


def test_shift_is_a_function_of_seed_and_step_and_uniform():
    draws = [shift_offset(7, key, 6) for key in range(3000)]
    assert draws == [shift_offset(7, key, 6) for key in range(3000)]
    assert draws != [shift_offset(8, key, 6) for key in range(3000)]
    counts = torch.bincount(torch.tensor(draws), minlength=6)
    assert counts.min() > 400 and counts.max() < 600  # 500 expected, standard deviation 20


def test_shift_leaves_torchs_own_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    shift_offset(1, 2, 7)
    assert torch.equal(torch.rand(1), expected)


@pytest.mark.parametrize("frames,length,overlap", SIZES)
def test_rolling_windows_are_those_of_some_shift(frames, length, overlap):
    settings = WindowSettings(length, overlap, "rolling")
    stride = length - overlap
    for index in range(17):
        starts = [w.indices[0] for w in local_windows(settings, frames, key=3, index=index)]
        offset = rolling_offset(index, stride)
        assert starts == shifted_starts(frames, min(length, frames), stride, offset)
        assert local_count(settings, frames, 3, index) == len(starts) <= most_windows(settings, frames)


def batched_shifted(frames, length, offset):
    """KJNodes' windows, in words: as many frames from the offset on, and what is left at both ends."""
    starts = [s for s in (0, *range(offset, frames, length)) if s < frames]
    return [list(range(a, b)) for a, b in zip(starts, [*starts[1:], frames], strict=True) if b > a]


@pytest.mark.parametrize("frames,length,overlap", SIZES)
def test_windows_that_are_cut_off_at_the_ends(frames, length, overlap):
    settings, stride = WindowSettings(length, overlap, "rolling_cut"), length - overlap
    for index in range(17):
        windows = local_windows(settings, frames, key=3, index=index)
        lengths = [len(w.indices) for w in windows]
        assert len(windows) == local_count(settings, frames, 3, index) <= most_windows(settings, frames)
        assert sum(lengths) / min(length, frames) == pytest.approx(local_work(settings, frames, 3, index))
        assert windows[0].indices[0] == 0 and windows[-1].indices[-1] == frames - 1
        for a, b in zip(windows, windows[1:], strict=False):  # neighbours share the overlap, no more and no less
            assert a.indices[-1] + 1 - b.indices[0] == overlap
        assert all(overlap < n <= length for n in lengths) or frames <= length
        assert {min(length, frames)} >= set(lengths[1:-1])
        if overlap == 0:
            theirs = batched_shifted(frames, length, (-rolling_offset(index, stride)) % length)
            assert frames <= length or [list(w.indices) for w in windows] == theirs


def test_windows_that_are_cut_compute_each_frame_once():
    cost = run_cost(WindowSettings(13, 0, "rolling_cut"), 74, range(20), 2)
    assert cost.evaluations == round(74 / 13 * 20 * 2) == round(cost.once)
    cut, loop = (WindowSettings(13, 0, "rolling_cut", closed_loop=closed) for closed in (False, True))
    assert "local windows of at most 13" in cost_text(cut, 74, range(20), 2)
    assert all("windows of 13" in cost_text(*of, range(20), 2) for of in ((loop, 74), (cut, 13)))


def test_rolling_seams_lie_far_apart():
    """Multiples of the golden ratio: of any n steps in a row no two are nearer than 0.38 / n of the stride."""
    offsets = [rolling_offset(i, 10**6) for i in range(1000)]
    assert all(abs(a - 10**6 * (i * (math.sqrt(5) - 1) / 2 % 1)) < 2 for i, a in enumerate(offsets))
    for n in (2, 3, 4, 8, 13):
        for i in range(1000 - n):
            some = sorted(offsets[i : i + n])
            gaps = [b - a for a, b in zip(some, [*some[1:], some[0] + 10**6], strict=True)]
            assert min(gaps) >= 0.38 / n * 10**6


def test_overlap_falls_evenly_with_the_noise():
    settings = WindowSettings(13, 7, overlap_end=1)
    assert [settings.at(p).overlap for p in (0.0, 0.25, 0.5, 1.0)] == [7, 6, 4, 1]
    assert settings.at(0.5).at(0.9).overlap == 4  # decided for the step
    counts = [local_count(settings, 74, 0, i, i / 8) for i in range(9)]
    assert counts == sorted(counts, reverse=True) and counts[0] == 12 and counts[-1] == 7
    assert most_windows(settings, 74) >= 12 and settings.moves and not WindowSettings(13, 7, overlap_end=7).moves
    with pytest.raises(ValueError, match="overlap_end \\(13\\)"):
        WindowSettings(13, 7, overlap_end=13)


@pytest.mark.parametrize("schedule", ["static", "random_shift", "rolling", "rolling_cut"])
@pytest.mark.parametrize(
    "frames,length,overlap", [(13, 13, 6), (37, 13, 6), (74, 13, 0), (74, 13, 7), (9, 13, 6), (2, 5, 1)]
)
def test_a_closed_loop_has_no_ends(frames, length, overlap, schedule):
    """Windows all around, nowhere farther apart than the stride, each of consecutive frames."""
    settings = WindowSettings(length, overlap, schedule, closed_loop=True)
    size = min(length, frames)
    for index in range(12):
        windows = local_windows(settings, frames, key=index, index=index)
        assert len(windows) == local_count(settings, frames, index, index) <= most_windows(settings, frames)
        assert {i for w in windows for i in w.indices} == set(range(frames))
        for window in windows:
            assert window.real == len(window.indices) == size
            assert [(window.indices[0] + i) % frames for i in range(size)] == list(window.indices)
        starts = sorted(w.indices[0] for w in windows)
        gaps = [b - a for a, b in zip(starts, [*starts[1:], starts[0] + frames], strict=True)]
        assert len(windows) >= 2 and max(gaps) <= max(length - overlap, -(-frames // 2))


@pytest.mark.parametrize("frames,length,overlap", [(13, 13, 7), (37, 13, 7), (74, 13, 0)])
def test_windows_all_around_a_loop_begin_everywhere_as_often(frames, length, overlap):
    settings, steps = WindowSettings(length, overlap, "rolling_cut", closed_loop=True), 400
    starts = [w.indices[0] for i in range(steps) for w in local_windows(settings, frames, key=i, index=i)]
    even = len(starts) / frames
    assert all(abs(starts.count(frame) - even) < 0.05 * even + 5 for frame in range(frames))


def test_a_window_around_the_end_has_its_centre_there():
    c, frames = 4, 20  # 77 pixel frames
    assert window_centre([18, 19, 0, 1], c, frames) == window_centre(range(18, 22), c)
    assert window_centre([19, 0, 1, 2, 3, 4], c, frames) == window_centre(range(19, 25), c) - 77
    assert window_centre(range(4, 8), c, frames) == window_centre(range(4, 8), c)
    assert stretches([18, 19, 0, 1]) == [(18, 19), (0, 1)] and stretches(range(3, 9)) == [(3, 8)]


def test_largest_seed_draws():
    assert 0 <= shift_offset(0xFFFFFFFFFFFFFFFF, 0xFFFFFFFF, 7) < 7


@pytest.mark.parametrize("frames,length", [(14, 13), (37, 13), (39, 13), (74, 13), (241, 13), (22, 21), (5, 2), (3, 1)])
def test_dilated_windows_visit_each_frame_once(frames, length):
    windows = dilated_windows(frames, length)
    d = math.ceil(frames / length)
    assert len(windows) == d
    assert all(len(w.indices) == length and all(0 <= i < frames for i in w.indices) for w in windows)
    real = [i for w in windows for i in w.indices[: w.real]]
    assert sorted(real) == list(range(frames))
    for start, w in enumerate(windows):
        assert list(w.indices[: w.real]) == list(range(start, frames, d))


def test_dilated_padding_reflects_the_end():
    # F = 14, L = 5: d = 3, positions 12 and 13 are real, 14 lies behind the end and mirrors 12
    assert dilated_windows(14, 5) == [
        Window((0, 3, 6, 9, 12), 5),
        Window((1, 4, 7, 10, 13), 5),
        Window((2, 5, 8, 11, 12), 4),
    ]


def loop_fuse(windows, weights, parts, frames):
    """Frame by frame, the definition: sum of weight * prediction over the sum of weights."""
    fused = torch.zeros(parts[0].shape[0], frames, *parts[0].shape[2:], dtype=torch.float64)
    for frame in range(frames):
        top, bottom = 0, 0
        for window, w, part in zip(windows, weights, parts, strict=True):
            for position in range(window.real):
                if window.indices[position] == frame:
                    top, bottom = top + w[position] * part[:, position].double(), bottom + w[position]
        fused[:, frame] = top / bottom
    return fused


@pytest.mark.parametrize("weights", [lambda n: [1.0] * n, triangular_weights, sine_weights])
@pytest.mark.parametrize("path", ["local", "global"])
def test_fusion_equals_the_loop_and_weights_sum_to_one(weights, path):
    frames, length = 23, 5
    settings = WindowSettings(length, 3, schedule="random_shift", shift_seed=5)
    windows = local_windows(settings, frames, key=3) if path == "local" else dilated_windows(frames, length)
    raw = [weights(length) for _ in windows]
    parts = [torch.randn(2, length, 3) for _ in windows]
    normal = normalised(windows, raw, frames)
    ones, fused = torch.zeros(2, frames, 3), torch.zeros(2, frames, 3)
    for window, part, w in zip(windows, parts, normal, strict=True):
        accumulate(ones, torch.ones_like(part), window, w, 1)
        accumulate(fused, part, window, w, 1)
    torch.testing.assert_close(ones, torch.ones_like(ones), atol=1e-6, rtol=0)
    torch.testing.assert_close(fused.double(), loop_fuse(windows, raw, parts, frames), atol=1e-6, rtol=0)


def test_padding_of_a_dilated_window_never_reaches_the_result():
    window = dilated_windows(14, 5)[2]
    part = torch.tensor([1.0, 1.0, 1.0, 1.0, math.nan]).view(1, 5)
    out = torch.zeros(1, 14)
    accumulate(out, part, window, torch.ones(window.real), 1)
    assert torch.equal(out.nonzero()[:, 1], torch.tensor([2, 5, 8, 11]))


def test_uncovered_frames_are_an_error():
    with pytest.raises(ValueError, match=r"\[4\]"):
        normalised([Window((0, 1, 2, 3), 4)], [[1.0] * 4], 5)


def test_gamma_is_the_papers_and_clamped():
    assert gamma(0, 0.005, 5e-4) == 0.005
    assert gamma(1000, 0.005, 5e-4) == pytest.approx(0.005 * math.exp(0.5))
    assert gamma(1000, 0.9, 0.01) == 1.0


def test_paths_of_a_step():
    settings = WindowSettings(13, 6, extra_path=GlobalPath(every=3, until=0.5))
    active = [s for s in range(20) if settings.extra_path.active(s, s / 20)]
    assert active == [0, 3, 6, 9]
    local, dilated = step_paths(settings, 74, index=0, place=0.0, t=1000.0, key=0)
    assert (local.name, dilated.name) == ("local", "global")
    assert dilated.share == gamma(1000.0, 0.005, 5e-4) and local.share == 1 - dilated.share
    assert [p.name for p in step_paths(settings, 74, index=1, place=0.05, t=1000.0, key=0)] == ["local"]
    only = WindowSettings(13, 6, extra_path=GlobalPath(gamma0=1.0))
    assert [p.name for p in step_paths(only, 74, index=0, place=0.0, t=0.0, key=0)] == ["global"]


def test_cost_counts_windows_steps_and_branches():
    cost = run_cost(WindowSettings(13, 6, extra_path=GlobalPath(until=0.5)), 74, range(20), 2)
    # starts 0, 7, .. 56, 61: 10 windows; d = 6 in 10 of 20 steps
    assert (cost.local, cost.extra, cost.extra_steps) == (10, 6, 10)
    assert cost.plain == 10 * 20 * 2
    assert cost.evaluations == (10 * 20 + 6 * 10) * 2
    assert run_cost(WindowSettings(13, 6, extra_path=GlobalPath()), 13, range(20), 2).evaluations == 40


@pytest.mark.parametrize("schedule", ["static", "random_shift"])
@pytest.mark.parametrize("frames,length,overlap", SIZES)
def test_cost_without_windows_is_the_count_of_windows(frames, length, overlap, schedule):
    """The closed form against windows that are built and counted, with a path that comes and goes."""
    path = GlobalPath(gamma0=0.5, beta=8e-4, every=2, until=0.8)  # all of the weight at high noise
    settings = WindowSettings(length, overlap, schedule, shift_seed=3, extra_path=path)
    keys, times = range(7), [1000 * (1 - i / 7) for i in range(7)]
    paths = [
        step_paths(settings, frames, index=i, place=i / 7, t=t, key=key)
        for i, (key, t) in enumerate(zip(keys, times, strict=True))
    ]
    counted = sum(len(p.windows) for step in paths for p in step) if frames > length else 7
    assert run_cost(settings, frames, keys, 2).evaluations == 2 * counted
    for limit in (1, 2, 3, 8):  # the first window again in every call of some steps
        repeats = [i in (0, 1, 4) for i in range(7)]
        again = sum(
            len(planned_calls([length] * len(p.windows), limit, 0)) - 1
            for step, on in zip(paths, repeats, strict=True) if on for p in step if len(p.windows) > 1
        )  # fmt: skip
        cost = run_cost(settings, frames, keys, 2, Details(times, [i / 7 for i in range(7)], repeats, 0, limit))
        assert cost.evaluations == 2 * (counted + (again if frames > length else 0))


def test_cost_builds_nothing(monkeypatch):
    """A million frames, a window at every latent frame: counted, not made."""
    monkeypatch.setattr(windows, "shifted_starts", None)
    cost = run_cost(WindowSettings(4096, 4095, "random_shift"), 250_000, range(50), 2)
    assert cost.plain == 245_905 * 50 * 2 and cost.evaluations == cost.plain


@pytest.mark.parametrize("companion", [None, 0, 2])
@pytest.mark.parametrize("limit", [1, 2, 3, 5, 64])
@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_calls_hold_every_window_once_and_the_companion_always(count, limit, companion):
    if companion is not None and companion >= count:
        return
    calls = planned_calls([13] * count, limit, companion)
    assert all(len(call) <= (limit if companion is None else max(limit, 2)) for call in calls)
    others = sorted(i for call in calls for i in call if i != companion)
    assert others == [i for i in range(count) if i != companion]
    if companion is not None:
        assert all(call[0] == companion for call in calls)
        assert len(calls) == calls_count(count, limit)


def test_longer_windows_have_calls_of_their_own():
    calls = planned_calls([5, 6, 6, 5, 6], 2)
    assert calls == [[0, 3], [1, 2], [4]] or calls == [[0, 3], [1], [2, 4]]
    assert planned_calls([3, 5, 5, 4], 2) == [[0], [3], [1, 2]]


@pytest.mark.parametrize("count,limit", [(0, 4), (1, 4), (9, 4), (9, 1), (8, 4), (3, 64)])
def test_groups_are_few_and_even(count, limit):
    groups = group(count, limit)
    assert [i for g in groups for i in g] == list(range(count))
    assert len(groups) == math.ceil(count / limit)
    assert not groups or max(map(len, groups)) - min(map(len, groups)) <= 1


def test_pixel_and_latent_lengths():
    assert [latent_length(p, 4) for p in (1, 4, 5, 49, 81, 293)] == [1, 1, 2, 13, 21, 74]
    assert pixel_length(74, 4) == 293
    assert [latent_overlap(p, 13, 4) for p in (0, 1, 2, 24, 28, 48, 400)] == [0, 0, 1, 6, 7, 12, 12]
    # latent frame i > 0 covers pixel frames 4(i-1)+1 .. 4i
    assert window_centre([0], 4) == 0
    assert window_centre([1], 4) == 2.5
    assert window_centre(range(13), 4) == 24
    assert window_centre(range(61, 74), 4) == (4 * 60 + 1 + 4 * 73) / 2


@pytest.mark.parametrize(
    "kwargs,message",
    [
        ({"length": 0, "overlap": 0}, "length"),
        ({"length": 5, "overlap": 5}, "overlap"),
        ({"length": 5, "overlap": -1}, "overlap"),
        ({"length": 5, "overlap": 1, "schedule": "spiral"}, "schedule"),
        ({"length": 5, "overlap": 1, "first_latent": "x"}, "first_latent"),
    ],
)
def test_settings_that_make_no_windows(kwargs, message):
    with pytest.raises(ValueError, match=message):
        WindowSettings(**kwargs)


def test_a_global_path_at_no_step_is_an_error():
    with pytest.raises(ValueError, match="global_every"):
        GlobalPath(every=0)


@pytest.mark.parametrize(
    "indices,place",
    [
        ((3,), slice(3, 4, 1)), (range(2, 7), slice(2, 7, 1)), ((0, 3, 6), slice(0, 7, 3)), ((1, 2, 4), None),
        ((4, 5, 4), None), ((5, 4, 3), None), ((2, 2), None),
    ],
)  # fmt: skip
def test_slices_of_a_frame_axis(indices, place):
    assert frames_slice(indices) == place
    if place is not None:
        assert list(range(9)[place]) == list(indices)
