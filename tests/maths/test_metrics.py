"""Metrics of one frame or two, flow, cuts and seams: by slow counting and in closed form."""

import colorsys
import itertools
import math

import numpy
import pytest
import torch
from longtake.samplers.metrics import flow as motion
from longtake.samplers.metrics import frames as look
from longtake.samplers.metrics import scenes, seams
from support.metric_clips import raw


def noise(seed, *shape):
    """In 0..1, the same on every machine."""
    return torch.from_numpy(raw(seed, *shape)).float() / 255


def flat(colour, n=1, height=16, width=20):
    return torch.tensor(colour, dtype=torch.float32).expand(n, height, width, 3)


def grey(level):
    return flat([level / 255] * 3)


# One frame, or two


def test_luma_is_bt_601():
    assert look.luma(torch.eye(3)[None, None])[0, 0].tolist() == pytest.approx([0.299, 0.587, 0.114])
    assert look.luma(noise(1, 2, 5, 7, 3)).shape == (2, 5, 7)


@pytest.mark.parametrize("k", [0, 1, 8, 100])
def test_change_counts_every_level_of_every_pixel(k):
    a, b = flat([0.5, 0.5, 0.5], 3), flat([0.5, 0.5, 0.5], 3) + torch.tensor([k / 255, -k / 255, 0])
    assert look.change(a, b).tolist() == pytest.approx([2 * k / 3 / 255] * 3, abs=1e-7)
    pair = noise(2, 2, 2, 6, 5, 3)
    assert torch.allclose(look.change(*pair), torch.stack([(pair[0, i] - pair[1, i]).abs().mean() for i in (0, 1)]))


def slow_ssim(a, b):
    at = numpy.arange(11) - 5
    weights = numpy.exp(-(at[:, None] ** 2 + at**2) / (2 * 1.5**2))
    weights /= weights.sum()
    found = []
    for y, x in itertools.product(range(a.shape[0] - 10), range(a.shape[1] - 10)):
        p, q = a[y : y + 11, x : x + 11], b[y : y + 11, x : x + 11]
        mp, mq = (weights * p).sum(), (weights * q).sum()
        vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
        both = (weights * (p - mp) * (q - mq)).sum()
        found.append((2 * mp * mq + 1e-4) * (2 * both + 9e-4) / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return numpy.mean(found)


def test_ssim_by_slow_counting():
    a, b = noise(3, 2, 14, 17, 3), noise(4, 2, 14, 17, 3)
    b[1] = a[1] * 0.7 + 0.1 * b[1]
    wanted = [slow_ssim(*(look.luma(side)[i].double().numpy() for side in (a, b))) for i in (0, 1)]
    assert look.ssim(a, b).tolist() == pytest.approx(wanted, abs=1e-5) and wanted[1] > 0.5 > wanted[0]


def test_ssim_in_closed_form():
    x = noise(5, 1, 16, 16, 3)
    assert look.ssim(x, x).item() == pytest.approx(1, abs=1e-6) and look.ssim(x, 1 - x).item() < -0.5
    one, other = grey(51), grey(204)  # without structure: the means' term alone
    assert look.ssim(one, other).item() == pytest.approx((2 * 0.2 * 0.8 + 1e-4) / (0.2**2 + 0.8**2 + 1e-4), abs=1e-4)


def test_the_laplacian_by_slow_counting():
    x = noise(6, 2, 7, 9, 3)
    for i in (0, 1):
        p = 255 * look.luma(x)[i].double().numpy()
        values = [p[r - 1, c] + p[r + 1, c] + p[r, c - 1] + p[r, c + 1] - 4 * p[r, c]
                  for r in range(1, 6) for c in range(1, 8)]  # fmt: skip
        assert look.laplacian_variance(x)[i].item() == pytest.approx(numpy.var(values), rel=1e-5)
    ramp = torch.linspace(0, 1, 20).expand(16, 20)[None, ..., None].expand(-1, -1, -1, 3)
    assert look.laplacian_variance(ramp).item() < 1e-6 and look.laplacian_variance(grey(77)).item() < 1e-6


def test_lab_in_closed_form():
    for level, lightness in ((255, 100), (0, 0), (119, 50.03)):
        light, a, b = look.lab(grey(level))[0, 0, 0].tolist()
        assert light == pytest.approx(lightness, abs=0.02) and max(abs(a), abs(b)) < 0.02
    wanted = ((53.24, 80.09, 67.20), (87.73, -86.18, 83.18), (32.30, 79.19, -107.86))  # the primaries of sRGB
    assert torch.allclose(look.lab(torch.eye(3)[None, None])[0, 0], torch.tensor(wanted), atol=0.02)


def test_histograms_are_shares_and_know_no_places():
    x = noise(7, 2, 12, 10, 3)
    found = look.histograms(x)
    assert found.shape == (2, 3, 32) and torch.allclose(found.sum(-1), torch.ones(2, 3), atol=1e-6) and found.min() >= 0
    moved = x.flatten(1, 2)[:, torch.from_numpy(numpy.argsort(raw(8, 120), kind="stable"))].view_as(x)
    assert torch.allclose(look.histograms(moved), found, atol=1e-6)
    light = found @ torch.arange(32.0)  # bins are ordered and evenly spaced: their mean follows the colours' mean
    colours = look.lab(x).mean((1, 2))
    assert torch.allclose(light[0] - light[1], (colours[0] - colours[1]) * torch.tensor([0.32, 0.125, 0.125]), atol=0.2)


def test_drift_in_closed_form():
    black, white = (look.histograms(grey(level)) for level in (0, 255))
    half = look.histograms(torch.cat((grey(0), grey(255)), 1))
    assert 0 <= look.histogram_drift(black, black).item() < 1e-6
    for seed in range(9):  # rounding makes it no less than 0
        assert look.histogram_drift(*[look.histograms(noise(seed, 1, 8, 8, 3))] * 2).item() >= 0
    assert look.histogram_drift(black, white).item() == pytest.approx(1 / 3, abs=1e-3)  # L* alone differs
    assert look.histogram_drift(black, half).item() == pytest.approx((1 - math.sqrt(0.5)) / 3, abs=1e-3)
    blue, yellow = look.histograms(flat([0, 0, 1.0])), look.histograms(flat([1.0, 1.0, 0]))
    assert look.histogram_drift(blue, yellow).item() == pytest.approx(1, abs=1e-3)
    both = look.histogram_drift(black, torch.cat((black, white)))
    assert both.shape == (2,) and both[0] < both[1]


@pytest.mark.parametrize("level", [20, 128, 235])
def test_a_grey_level_too_little_to_be_seen_is_no_drift(level):
    seen = look.histograms(grey(level))
    for near in itertools.product((level - 1, level, level + 1), repeat=3):
        assert look.histogram_drift(seen, look.histograms(flat([v / 255 for v in near]))).item() < 0.1, near


def test_saturation_is_that_of_hsv():
    x = noise(9, 2, 4, 5, 3)
    wanted = [numpy.mean([colorsys.rgb_to_hsv(*pixel)[1] for pixel in frame.view(-1, 3).tolist()]) for frame in x]
    assert look.saturation(x).tolist() == pytest.approx(wanted, abs=1e-6)
    some = torch.cat((grey(0), grey(9), flat([1.0, 0, 0]), flat([0.01, 0.005, 0.008])))
    assert look.saturation(some).tolist() == pytest.approx([0, 0, 1, 0.5])


# Flow


def waves(x, y):
    """A smooth picture at any place."""
    parts = numpy.sin(x / 3.1), numpy.cos(y / 2.7), numpy.sin((x + y) / 5.3), numpy.cos((x - 2 * y) / 7)
    return 0.5 + 0.12 * sum(parts)


def moved(dx, dy, height=48, width=64):
    """A pair whose content moves by (dx, dy) from a to b."""
    y, x = numpy.mgrid[:height, :width].astype("float64")
    return (torch.from_numpy(waves(x - sx, y - sy)).float()[None] for sx, sy in ((0, 0), (dx, dy)))


def constant(x, y, height=48, width=64):
    return torch.tensor([x, y], dtype=torch.float32).view(1, 2, 1, 1).expand(1, 2, height, width)


def test_warp_by_slow_counting():
    images, flow = noise(10, 2, 3, 5, 6), 6 * noise(11, 2, 2, 5, 6) - 3
    found = motion.warp(images, flow)
    for n, y, x in itertools.product(range(2), range(5), range(6)):
        px = min(max(x + flow[n, 0, y, x].item(), 0), 5)
        py = min(max(y + flow[n, 1, y, x].item(), 0), 4)
        x0, y0 = min(int(px), 4), min(int(py), 3)
        u, v, p = px - x0, py - y0, images[n].double()
        wanted = (1 - v) * ((1 - u) * p[:, y0, x0] + u * p[:, y0, x0 + 1])
        wanted = wanted + v * ((1 - u) * p[:, y0 + 1, x0] + u * p[:, y0 + 1, x0 + 1])
        assert torch.allclose(found[n, :, y, x].double(), wanted, atol=1e-5)


@pytest.mark.parametrize("dx, dy", [(0, 0), (1, 0), (0, -1), (0.25, 0.5), (-1.5, 0.75), (5, 3), (-4, -6)])
def test_a_known_shift_is_found_with_its_sign(dx, dy):
    a, b = moved(dx, dy)
    flow = motion.lucas_kanade(a, b)
    inside = flow[0, :, 9:-9, 9:-9].flatten(1)
    assert flow.shape == (1, 2, 48, 64)
    assert (inside.median(1).values - torch.tensor([float(dx), float(dy)])).abs().max() < 0.15
    off = (motion.warp(b[None], flow)[0] - a).abs()[:, 9:-9, 9:-9].mean()
    if (dx, dy) != (0, 0):
        assert off < 0.1 * (b - a).abs().mean() < (motion.warp(b[None], -flow)[0] - a).abs().mean()


def test_motion_of_one_pair_knows_nothing_of_another():
    pairs = [tuple(moved(*by)) for by in ((2, 1), (-1, 0), (0, 0))]
    together = motion.lucas_kanade(*(torch.cat(side) for side in zip(*pairs, strict=True)))
    for pair, found in zip(pairs, together, strict=True):
        assert torch.allclose(motion.lucas_kanade(*pair)[0], found, atol=1e-4)


def test_what_moves_does_not_drag_along_what_stands_or_is_flat():
    (a, b), still = moved(3, 1), next(moved(0, 0))
    for ground in (torch.full_like(still, 0.5), still):
        one, other = ground.clone(), ground.clone()
        one[..., 40:], other[..., 40:] = a[..., 40:], b[..., 40:]
        flow = motion.lucas_kanade(one, other)[0]
        assert flow[..., :28].norm(dim=0).mean() < 0.1 and flow[0, 9:-9, 48:-6].median() > 2.5


def test_the_mean_around_is_of_the_pixels_that_there_are():
    x = noise(23, 1, 1, 9, 12)
    found = motion.around(x)
    for r, c in itertools.product(range(9), range(12)):
        near = x[0, 0, max(r - 3, 0) : r + 4, max(c - 3, 0) : c + 4]
        assert found[0, 0, r, c].item() == pytest.approx(near.mean().item(), abs=1e-5)


@pytest.mark.parametrize("height, width", [(1, 1), (2, 3), (1, 40), (40, 1), (17, 33), (31, 90)])
def test_motion_of_any_size_and_of_nothing_is_finite(height, width):
    still = torch.full((2, height, width), 0.5)
    assert motion.lucas_kanade(still, still).abs().max() == 0
    seen = noise(12, 2, height, width)
    assert motion.lucas_kanade(seen, seen).abs().max() < 1e-4
    found = motion.lucas_kanade(seen, seen.flip(0))
    assert found.shape == (2, 2, height, width) and found.isfinite().all()


def test_flows_that_cancel_see_both_and_others_are_occluded():
    for off, hidden in ((0.0, False), (1.48, False), (1.5, True), (5.0, True)):  # 0.01 (10^2 + (10 - off)^2) + 0.5
        found = motion.occluded(constant(10, 0), constant(-10 + off, 0))
        assert found.dtype == torch.bool and found.shape == (1, 48, 64) and found.all() == found.any() == hidden
    backward = constant(-2, 0).clone()
    backward[:, :, :, :20] = 6.0  # where the forward flow leads to there, from two places further left
    found = motion.occluded(constant(2, 0), backward)
    assert found[..., :18].all() and not found[..., 18:].any()


def test_the_warping_error_is_of_places_seen_in_both():
    x = noise(13, 1, 3, 48, 64)
    a, b, forward, backward = x, torch.roll(x, 2, 3), constant(2, 0), constant(-2, 0).clone()
    edge = (b[..., -1:] - a[..., -2:]).abs().mean() * 2 / 64  # the two columns that leave the picture
    assert motion.warping_error(a, b, forward, backward).item() == pytest.approx(edge.item(), rel=1e-4)
    b = b.clone()
    b[..., 10:20] += 0.25
    worse = motion.warping_error(a, b, forward, backward).item()
    assert worse == pytest.approx(edge.item() + 0.25 * 10 / 64, rel=1e-4)
    backward[..., 10:20] = 9.0  # now they are known to be hidden
    found = motion.warping_error(a, b, forward, backward).item()
    assert found == pytest.approx(edge.item() * 64 / 54, rel=1e-4)
    wrong = motion.warping_error(a, b, -forward, backward).item()
    assert math.isnan(motion.warping_error(a, b, forward, constant(9, 9)).item()) and not wrong < 2 * found


def test_the_largest_motions_by_sorting():
    flow = 8 * noise(14, 3, 2, 10, 14) - 4
    for share, count in ((0.05, 7), (0.5, 70), (1.0, 140), (0.0001, 1)):
        wanted = [sorted((math.hypot(*v) for v in f.flatten(1).T.tolist()), reverse=True)[:count] for f in flow]
        assert motion.top_magnitude(flow, share).tolist() == pytest.approx([numpy.mean(w) for w in wanted], rel=1e-5)
    assert torch.equal(motion.top_magnitude(flow), motion.top_magnitude(flow, 0.05))


@pytest.mark.parametrize("dx, dy", [(4, 0), (0, -3), (2.5, 1.5)])
def test_the_frame_between_is_half_the_way(dx, dy):
    a, c = (side[None] for side in moved(dx, dy))
    _, between = moved(dx / 2, dy / 2)
    found = motion.midpoint(a, c, constant(dx, dy), constant(-dx, -dy))[0]
    inside = (slice(None), slice(6, -6), slice(6, -6))
    assert (found - between)[inside].abs().max() < 0.015 < (motion.midpoint(a, c, constant(-dx, -dy), constant(dx, dy))[
        0] - between)[inside].abs().max()  # fmt: skip
    still = motion.midpoint(a, c, constant(0, 0), constant(0, 0))
    assert torch.allclose(still, (a + c) / 2, atol=1e-5)


def test_acceleration_is_the_length_of_what_the_motion_gains():
    assert motion.acceleration(constant(1, 2), constant(1, 2)).item() == 0
    assert motion.acceleration(constant(1, 2), constant(4, -2)).item() == pytest.approx(5)
    half = constant(0, 0).clone()
    half[..., :32] = 3.0
    assert motion.acceleration(constant(0, 0), half).item() == pytest.approx(math.hypot(3, 3) / 2)


# Cuts


def slow_hsv(pixel):
    h, s, v = colorsys.rgb_to_hsv(*(round(255 * p) for p in pixel))
    return math.floor(h * 180 + 0.5) % 180, math.floor(255 * s + 0.5), v


def test_the_change_of_a_scene_by_slow_counting():
    a, b = noise(15, 2, 5, 6, 3), noise(16, 2, 5, 6, 3)
    for i in (0, 1):
        pixels = zip(a[i].view(-1, 3).tolist(), b[i].view(-1, 3).tolist(), strict=True)
        wanted = numpy.mean([[abs(p - q) for p, q in zip(slow_hsv(x), slow_hsv(y), strict=True)] for x, y in pixels])
        assert scenes.hsv_change(a, b)[i].item() == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize("one, other, wanted", [
    ([0, 0, 0], [255, 255, 255], 255 / 3), ([255, 0, 0], [0, 255, 0], 60 / 3), ([255, 0, 0], [0, 0, 255], 120 / 3),
    ([255, 10, 11], [255, 10, 10], 0), ([255, 0, 5], [255, 5, 0], 178 / 3), ([0, 0, 0], [255, 0, 0], 510 / 3),
])  # fmt: skip
def test_the_change_of_a_scene_in_closed_form(one, other, wanted):
    """As OpenCV has hue in 8 bits: 0..179, and no circle."""
    found = scenes.hsv_change(*(flat([v / 255 for v in colour]) for colour in (one, other)))
    assert found.item() == pytest.approx(wanted, abs=1e-3)


def test_wide_frames_are_brought_to_256_pixels_and_others_left():
    assert scenes.to_width(noise(17, 2, 30, 640, 3)).shape == (2, 12, 256, 3)
    assert scenes.to_width(noise(17, 1, 1, 600, 3)).shape == (1, 1, 256, 3)
    ramp = torch.linspace(0, 1, 512).expand(4, 512)[None, ..., None].expand(-1, -1, -1, 3)
    assert (scenes.to_width(ramp)[0, 0, :, 0].diff() - 1 / 255.5).abs().max() < 1e-3
    small = noise(18, 2, 300, 256, 3)
    assert torch.equal(scenes.to_width(small), small)


def streamed(scores):
    """AdaptiveDetector a frame at a time, with the first frame's score of 0."""
    buffer, found, last = [], [], 0
    for frame, score in enumerate([0.0, *scores]):
        buffer = [*buffer, (frame, score)][-5:]
        if len(buffer) < 5:
            continue
        target, value = buffer[2]
        mean = sum(score for at, (_, score) in enumerate(buffer) if at != 2) / 4
        ratio = min(value / mean, 255) if mean >= 1e-5 else 255 if value >= 15 else 0
        if ratio >= 3 and value >= 15 and target - last >= 15:
            found, last = [*found, target], target
    return found


def test_cuts_by_a_frame_at_a_time():
    some = 0
    for seed in range(200):
        numbers = raw(seed, 70)
        scores = (numbers % 61 * numpy.where(raw(seed + 999, 70) > 215, 8, 1) / 12).tolist()
        assert scenes.cuts(scores) == streamed(scores)
        some += len(streamed(scores))
    assert some > 100 and scenes.cuts([]) == scenes.cuts([99.0]) == []


def test_a_cut_is_the_frame_that_a_scene_begins_with():
    for frame in range(1, 60):
        scores = [4.0] * 59
        scores[frame - 1] = 40.0
        assert scenes.cuts(scores) == ([frame] if 15 <= frame <= 57 else [])
    for value, mean, found in ((15.0, 5.0, [30]), (14.9, 1.0, []), (15.0, 5.1, []), (15.0, 0.0, [30])):
        scores = [mean] * 59
        scores[29] = value
        assert scenes.cuts(scores) == found
    close = [1.0] * 59
    close[19] = close[33] = 90.0
    assert scenes.cuts(close) == [20]  # 34 is 14 frames off
    close[34] = close[35] = 90.0
    assert scenes.cuts(close) == [20]  # 35 is between two as large: twice their mean
    close[33] = close[35] = 1.0
    assert scenes.cuts(close) == [20, 35]


# Seams


def slow_ratio(signal, at, boundaries, first, eps):
    t = at - first
    taken = [b - first for b in boundaries]
    near = sorted(signal[i] for i in range(len(signal)) if abs(i - t) <= 12 and i not in taken)
    return (signal[t] + eps) / (near[(len(near) - 1) // 2] + eps)


@pytest.mark.parametrize("first", [1, 2])
def test_ratios_at_boundaries_by_slow_counting(first):
    signal = (raw(19, 96) / 255).tolist()
    boundaries = [first, 8, 16, 30, 31, 64, 94 + first]
    for eps in (seams.EPS, 0.05):
        found = seams.boundary_ratios(torch.tensor(signal), boundaries, first, eps=eps)
        wanted = [slow_ratio(signal, b, boundaries, first, eps) for b in boundaries]
        assert found.tolist() == pytest.approx(wanted, rel=1e-5)
    assert seams.boundary_ratios(torch.tensor(signal), [30])[0].item() == pytest.approx(
        slow_ratio(signal, 30, [30], 1, 0.5 / 255), rel=1e-5)  # fmt: skip


def test_a_seam_is_seen_at_its_own_transition_alone():
    for at in range(40, 60):
        signal = torch.full((95,), 0.02)
        signal[at] = 0.5
        (found,) = seams.boundary_ratios(signal, [50]).tolist()
        assert found == pytest.approx((0.5 + 0.5 / 255) / (0.02 + 0.5 / 255) if at == 49 else 1, rel=1e-5)
    still = seams.boundary_ratios(torch.zeros(95), [32, 64])
    assert still.tolist() == [1, 1]


def test_other_seams_are_not_what_a_seam_is_compared_with():
    signal = torch.full((95,), 0.01)
    every = list(range(2, 94, 2))
    signal[[b - 1 for b in every]] = 0.4
    assert seams.boundary_ratios(signal, every).min() > 30


def test_where_no_ratio_can_be_said_it_is_no_number():
    signal = torch.full((20,), 0.1)
    found = seams.boundary_ratios(signal, [0, -3, 21, 99, 10])
    assert found.isnan().tolist() == [True] * 4 + [False]
    signal[9] = math.nan
    assert seams.boundary_ratios(signal, [10]).isnan().all() and seams.boundary_ratios(signal, [9]).item() == 1
    assert seams.boundary_ratios(torch.zeros(0), [1]).isnan().all() and len(seams.boundary_ratios(signal, [])) == 0
    assert seams.boundary_ratios(torch.full((3,), 0.1), [1, 2, 3]).isnan().all()  # nothing but boundaries
