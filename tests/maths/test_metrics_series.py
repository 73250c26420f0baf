"""A video measured in one pass: each number is that of its own frames, and the results are what the series say."""

import math

import pytest
import torch
from longtake.samplers.metrics import flow as motion
from longtake.samplers.metrics import frames as look
from longtake.samplers.metrics import scenes, series, summary
from support.metric_clips import image, panned, raw

FIELDS = [name for name in series.Series.__dataclass_fields__ if name != "side"]
clip = panned(14, 24, 40, (3, 2), 11)


@pytest.fixture(autouse=True)
def on_one_thread(one_thread):
    yield


def collected(frames, size=None, **how):
    collector = series.Collector(**how)
    for part in frames.split(size or len(frames)):
        collector.add(part)
    return collector.series()


def known(frames=96, **numbers):
    """A Series of a still grey video but for the numbers given."""
    n = frames - 1
    plain = dict(
        change=torch.zeros(n), ssim=torch.ones(n), scene=torch.zeros(n), warp=torch.zeros(n), motion=torch.zeros(n),
        acceleration=torch.zeros(n), sampled=torch.zeros(n), middle=torch.zeros(n // 2), ssim_first=torch.ones(frames),
        sharpness=torch.ones(frames), saturation=torch.zeros(frames), side=256,
        histogram=torch.full((frames, 3, 32), 1 / 32),
        grid=torch.full((frames, 12), 0.3))  # fmt: skip
    return series.Series(**plain | {k: v if k == "side" else torch.as_tensor(v).float() for k, v in numbers.items()})


def result(name, found, boundaries=()):
    (one,) = [r for r in summary.results(found, list(boundaries)) if r.metric == name]
    return one.value


def by_brightness(a, b):
    """A flow that tells its frames: everywhere (100 times how much lighter b is, 0)."""
    gain = 100 * (b.mean((1, 2, 3)) - a.mean((1, 2, 3)))
    return torch.stack((gain, 0 * gain), 1)[..., None, None].expand(-1, -1, *a.shape[2:])


def test_each_number_is_that_of_its_own_frames():
    frames = image(clip)
    found = collected(frames)
    assert len(found) == 14 and found.side == 24 and all(getattr(found, n).dtype == torch.float32 for n in FIELDS)
    pairs = [(frames[t : t + 1], frames[t + 1 : t + 2]) for t in range(13)]
    images = frames.movedim(-1, 1)
    grey = look.luma(frames)
    there = [motion.lucas_kanade(grey[t : t + 1], grey[t + 1 : t + 2]) for t in range(13)]
    back = [motion.lucas_kanade(grey[t + 1 : t + 2], grey[t : t + 1]) for t in range(13)]
    wanted = {
        "change": [look.change(a, b) for a, b in pairs],
        "ssim": [look.ssim(a, b) for a, b in pairs],
        "scene": [scenes.hsv_change(a, b) for a, b in pairs],
        "warp": [motion.warping_error(images[t : t + 1], images[t + 1 : t + 2], there[t], back[t]) for t in range(13)],
        "motion": [motion.top_magnitude(flow) for flow in there],
        "ssim_first": [look.ssim(frames[:1], frames[t : t + 1]) for t in range(14)],
        "sharpness": [look.laplacian_variance(frames[t : t + 1]) for t in range(14)],
        "saturation": [look.saturation(frames[t : t + 1]) for t in range(14)],
        "histogram": [look.histograms(frames[t : t + 1]) for t in range(14)],
    }
    for name, values in wanted.items():
        rough = 1e-4 if name in ("warp", "motion", "sharpness") else 1e-6
        assert torch.allclose(getattr(found, name), torch.cat(values), rtol=rough, atol=rough), name
    gains = torch.cat([motion.acceleration(there[t - 1], there[t]) for t in range(1, 13)])
    assert found.acceleration[0].isnan() and torch.allclose(found.acceleration[1:], gains, atol=1e-3)
    middles = []
    for t in range(1, 13, 2):
        sides = grey[t - 1 : t], grey[t + 1 : t + 2]
        flows = motion.lucas_kanade(*sides), motion.lucas_kanade(*reversed(sides))
        made = motion.midpoint(images[t - 1 : t], images[t + 1 : t + 2], *flows)
        middles.append((made - images[t : t + 1]).abs().mean())
    assert torch.allclose(found.middle, torch.stack(middles), atol=1e-4)


def test_numbers_of_motion_stand_at_their_transitions():
    levels = torch.from_numpy(raw(20, 12)).float() / 255
    frames = levels.view(-1, 1, 1, 1).expand(-1, 20, 24, 3)
    found = collected(frames, 5, flow=by_brightness)
    gains = 100 * levels.diff()
    assert torch.allclose(found.motion, gains.abs(), atol=1e-3)
    assert torch.allclose(found.acceleration[1:], gains.diff().abs(), atol=1e-3) and found.acceleration[0].isnan()
    assert torch.allclose(found.change, levels.diff().abs(), atol=1e-6)
    between = ((levels[:-2:2] + levels[2::2]) / 2 - levels[1:-1:2]).abs()
    assert len(found.middle) == 5 and torch.allclose(found.middle, between, atol=1e-5)


@pytest.mark.parametrize("frames", [2, 3, 4, 5, 13, 14])
def test_the_pieces_that_frames_come_in_change_nothing(frames):
    whole = collected(image(clip[:frames]))
    for size in (1, 2, 3, 7):
        parts = collected(image(clip[:frames]), size)
        for name in FIELDS:
            one, other = getattr(whole, name), getattr(parts, name)
            assert one.shape == other.shape, (name, size)
            tolerance = 1e-3 if name == "sharpness" else 1e-5
            assert torch.allclose(one, other, rtol=1e-6, atol=tolerance, equal_nan=True), (name, size)


def test_what_is_given_is_not_kept():
    """A loader may use its memory again."""
    buffer = torch.empty(1, 24, 40, 3)
    collector = series.Collector()
    for frame in image(clip):
        buffer[0] = frame
        collector.add(buffer)
        buffer.fill_(0.5)
    found, whole = collector.series(), collected(image(clip))
    for name in FIELDS:
        assert torch.allclose(getattr(found, name), getattr(whole, name), rtol=1e-3, atol=1e-3, equal_nan=True), name


def test_large_frames_are_measured_at_256_pixels_of_the_shorter_side():
    sizes = []

    def flow(a, b):
        sizes.append(tuple(a.shape))
        return by_brightness(a, b)

    frames = torch.linspace(0, 1, 4).view(4, 1, 1, 1).expand(-1, 300, 600, 3)
    assert collected(frames, flow=flow).side == 256
    assert set(sizes) == {(3, 3, 256, 512), (1, 3, 256, 512)}


def test_the_grid_is_of_16_by_16_mean_colours():
    frames = torch.from_numpy(raw(24, 2, 32, 48, 3)).float() / 255
    cells = frames.view(2, 16, 2, 16, 3, 3).mean((2, 4))
    assert torch.allclose(collected(frames).grid, cells.movedim(-1, 1).flatten(1), atol=1e-6)


def test_without_a_flow_the_rest_is_the_same():
    without, found = collected(image(clip), 5, flow=None), collected(image(clip), 5)
    assert without.warp.isnan().all() and without.motion.isnan().all() and without.acceleration.isnan().all()
    assert len(without.warp) == 13
    for name in set(FIELDS) - {"warp", "motion", "acceleration", "sampled", "middle"}:
        assert torch.equal(getattr(without, name), getattr(found, name))
    assert math.isnan(result("motion_smoothness", without)) and math.isnan(result("moving", without))


# What the series say


def test_results_are_means_in_vbench_s_direction():
    numbers = torch.arange(95) / 1000
    found = known(change=numbers, middle=numbers[:47], warp=numbers, motion=numbers, ssim=numbers)
    assert result("temporal_flicker", found) == pytest.approx(1 - 0.047)
    assert result("motion_smoothness", found) == pytest.approx(1 - 0.023)
    assert result("warping_error", found) == result("ssim_adjacent", found) == pytest.approx(0.047)
    assert result("dynamic_degree", found) == pytest.approx(0.047)
    hidden = numbers.clone()
    hidden[50:] = math.nan
    assert result("warping_error", known(warp=hidden)) == pytest.approx(numbers[:50].mean().item())


@pytest.mark.parametrize("rate, step", [(8, 1), (11.9, 1), (16, 2), (24, 3), (25, 3), (30, 4), (60, 8), (1, 1)])
@pytest.mark.parametrize("size", [1, 5, 40])
def test_motion_is_sampled_in_steps_of_an_eighth_of_a_second(rate, step, size):
    """As VBench's dynamic degree takes every max(1, round(rate / 8))-th frame: between these, not added up."""
    levels = 0.5 + 0.4 * torch.sin(torch.arange(40) ** 1.5)
    frames = levels.view(-1, 1, 1, 1).expand(-1, 16, 16, 3)
    found = collected(frames, size, flow=by_brightness, rate=rate)
    wanted = 100 * levels[::step].diff().abs()
    torch.testing.assert_close(found.sampled, wanted, atol=1e-3, rtol=0)
    moves = int((wanted > 6 * 16 / 256).sum())
    assert result("moving_share", found) == pytest.approx(moves / len(wanted))


@pytest.mark.parametrize("pairs", [1, 2, 5, 40])
def test_a_video_moves_where_enough_of_its_steps_do(pairs):
    for moves in range(pairs + 1):
        lengths = torch.zeros(pairs)
        lengths[:moves] = 6.01
        found = known(sampled=lengths)
        assert result("moving_share", found) == pytest.approx(moves / pairs)
        assert result("moving", found) == (moves >= max(1, round(4 * (pairs + 1) / 16)))
    lengths = torch.full((pairs,), 5.99)
    assert result("moving_share", known(sampled=lengths)) == 0
    assert result("moving_share", known(sampled=lengths, side=128)) == 1


def test_one_boundary_is_read_at_the_transition_into_it():
    for name, field in (("seam_change", "change"), ("seam_warp", "warp"), ("seam_motion", "acceleration")):
        eps = 0.05 if name == "seam_motion" else 0.5 / 255
        signal = torch.full((95,), 0.1)
        signal[31], signal[63] = 0.9, 0.2
        found = known(**{field: signal})
        high, low = (0.9 + eps) / (0.1 + eps), (0.2 + eps) / (0.1 + eps)
        assert result(name, found, [32, 64]) == pytest.approx((high + low) / 2)
        assert result(f"{name}_worst", found, [32, 64]) == pytest.approx(high)
        assert result(name, found, [33, 62]) == pytest.approx(1)
    assert not [r for r in summary.results(known(), []) if r.metric.startswith("seam")]


def test_drift_is_measured_against_the_first_window():
    histogram = torch.zeros(96, 3, 32)
    histogram[:32, :, 0] = histogram[32:64, :, 5] = histogram[64:, :, 0] = 1
    found = known(histogram=histogram)
    assert result("colour_drift", found, [32, 64]) == pytest.approx(0.5)
    assert result("colour_drift_end", found, [32, 64]) == 0
    histogram[64:80] = histogram[32]
    assert result("colour_drift_end", known(histogram=histogram), [32, 64]) == pytest.approx(0.5)
    histogram[64:80] = histogram[0]
    histogram[:, 1:] = histogram[:1, 1:]  # one channel of three
    assert result("colour_drift", known(histogram=histogram), [32, 64]) == pytest.approx(0.5 / 3)
    sharpness = torch.ones(96)
    sharpness[:32], sharpness[64:] = 8.0, 2.0
    found = known(sharpness=sharpness)
    assert result("sharpness_ratio", found, [32, 64]) == pytest.approx(0.25)
    assert result("sharpness", found, [32, 64]) == pytest.approx(11 / 3)
    assert result("sharpness_ratio", found, [48]) == pytest.approx((16 + 2 * 32) / (8 * 32 + 16))


def test_the_slope_of_saturation_is_its_rise_over_the_video():
    rise = torch.linspace(0.2, 0.5, 96)
    assert result("saturation_slope", known(saturation=rise)) == pytest.approx(0.3, rel=1e-5)
    assert result("saturation_slope", known(saturation=rise.flip(0))) == pytest.approx(-0.3, rel=1e-5)
    assert result("saturation_slope", known(saturation=torch.full((96,), 0.7))) == pytest.approx(0, abs=1e-6)


def test_scenes_are_cuts_and_one():
    scene = torch.full((95,), 2.0)
    assert result("scenes", known(scene=scene)) == 1
    scene[[30, 60]] = 60.0
    assert result("scenes", known(scene=scene)) == 3


def test_windows_are_alike_by_their_first_frames():
    grid = torch.full((96, 12), 0.5)
    grid[:, 0] = 1.0
    grid[10:30, 0] = 0.0  # no window begins here
    assert result("window_consistency", known(grid=grid), [32, 64]) == pytest.approx(1)
    grid[64, 0], grid[64, 1] = 0.5, 1.0  # one of three, across the others: one pair of three is alike
    assert result("window_consistency", known(grid=grid), [32, 64]) == pytest.approx(1 / 3)
    grid[64, 1], grid[64, 0] = 0.5, 0.0  # opposite counts as across
    assert result("window_consistency", known(grid=grid), [32, 64]) == pytest.approx(1 / 3)


def test_boundaries_beyond_the_video_count_nowhere():
    spots = torch.from_numpy(raw(21, 95)).float() / 255
    found = known(change=spots, grid=torch.from_numpy(raw(22, 96, 12)).float() / 255)
    wanted = {r.metric: r.value for r in summary.results(found, [32, 64])}
    given = {r.metric: r.value for r in summary.results(found, [32, 64, 96, 400])}
    assert given == pytest.approx(wanted, nan_ok=True) and wanted["seam_change"] != 1


def test_without_boundaries_drift_is_measured_against_16_frames():
    sharpness, histogram = torch.ones(96), torch.zeros(96, 3, 32)
    sharpness[:16], sharpness[80:] = 8.0, 2.0
    histogram[:16, :, 0] = histogram[16:48, :, 1] = histogram[48:, :, 0] = 1
    found = known(sharpness=sharpness, histogram=histogram)
    assert result("sharpness_ratio", found) == 0.25 and result("colour_drift", found) == pytest.approx(32 / 80)


def test_only_what_is_vbench_s_own_value_is_called_so():
    found = summary.results(known(), [32])
    assert [r.metric for r in found if r.vbench_exact] == ["temporal_flicker"]
    assert len({r.metric for r in found}) == len(found) and all(r.unit and r.backend and r.about for r in found)
    named = summary.results(known(), [32], backend="RAFT of my own")
    assert [r.metric for r in named if "RAFT of my own" in r.backend] == [
        r.metric for r in found if "Lucas-Kanade" in r.backend]  # fmt: skip
