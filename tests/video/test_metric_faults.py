"""What long videos suffer from, each made on a real clip: the metric that should see it does, and the others say less.

Windows of 32 frames; support/metric_clips.py makes the faults.
"""

import functools
import math

import pytest
import torch
from longtake.samplers.metrics import series, summary
from support import metric_clips

BOUNDARIES = [32, 64]
FAULTS = ("static", "flicker", "drift", "seam", "faint_seam", "blur", "stutter", "cut")


@pytest.fixture(autouse=True)
def on_one_thread(one_thread):
    yield


def collected(images, size=24):
    collector = series.Collector(rate=25.0)
    for part in images.split(size):
        collector.add(part)
    return collector.series()


def valued(found, boundaries=BOUNDARIES):
    return {result.metric: result.value for result in summary.results(found, boundaries)}


@functools.lru_cache(16)
def measured(fault):
    """{metric: value} of the real clip with a fault; "clean": without one."""
    clip = metric_clips.small()
    return valued(collected(metric_clips.image(clip if fault == "clean" else getattr(metric_clips, fault)(clip))))


def gap(metric, fault):
    """How much more the fault has than the clean clip."""
    return measured(fault)[metric] - measured("clean")[metric]


def test_the_clean_clip_moves_in_one_scene_without_a_seam():
    clean = measured("clean")
    assert clean["moving"] == 1 and 0.3 < clean["moving_share"] < 0.8 and 0.3 < clean["dynamic_degree"] < 3
    assert clean["scenes"] == 1 and clean["temporal_flicker"] > 0.985 and clean["motion_smoothness"] > 0.99
    assert clean["seam_change_worst"] < 1.5 and clean["seam_warp_worst"] < 1.5 and clean["seam_motion_worst"] < 2
    assert clean["colour_drift_end"] < 0.01 and 0.8 < clean["sharpness_ratio"] < 1.1
    smoother = 1 - clean["motion_smoothness"], 1 - clean["temporal_flicker"]
    assert smoother[0] < 0.8 * smoother[1]  # motion explains what lies between


def test_a_still_video_is_perfect_but_does_not_move():
    still = measured("static")
    assert still["moving"] == still["moving_share"] == 0 and still["dynamic_degree"] < 1e-3 and still["scenes"] == 1
    assert [still[name] for name in ("temporal_flicker", "motion_smoothness", "ssim_adjacent", "ssim_first",
                                     "window_consistency", "sharpness_ratio")] == pytest.approx([1] * 6, abs=1e-5)
    ratios = [value for name, value in still.items() if name.startswith("seam")]
    assert len(ratios) == 6 and ratios == pytest.approx([1] * 6, abs=1e-3)
    assert 0 <= still["colour_drift"] < 1e-5 and still["warping_error"] < 1e-6


def test_flicker_is_seen_by_what_compares_neighbours():
    for metric in ("temporal_flicker", "motion_smoothness"):
        assert gap(metric, "flicker") < -0.04
        assert all(measured("flicker")[metric] < measured(other)[metric] for other in FAULTS if other != "flicker")
    assert gap("warping_error", "flicker") > 0.03 and gap("ssim_adjacent", "flicker") < -0.01
    assert measured("flicker")["seam_change_worst"] < 1.5 and measured("flicker")["scenes"] == 1
    assert abs(gap("colour_drift_end", "flicker")) < 0.02 and abs(gap("sharpness_ratio", "flicker")) < 0.02


def test_drifting_colours_are_seen_by_histograms_alone():
    assert gap("colour_drift_end", "drift") > 0.03 and gap("colour_drift", "drift") > 0.02
    for other in ("static", "flicker", "seam", "faint_seam", "blur", "stutter"):
        assert measured("drift")["colour_drift_end"] > 1.5 * measured(other)["colour_drift_end"], other
    assert gap("saturation_slope", "drift") > 0.05
    assert abs(gap("temporal_flicker", "drift")) < 1e-3 and abs(gap("motion_smoothness", "drift")) < 1e-3
    assert abs(gap("ssim_adjacent", "drift")) < 2e-3 and abs(gap("seam_change", "drift")) < 0.1
    assert measured("drift")["scenes"] == 1


def test_seams_are_seen_by_the_ratios_at_them_and_hardly_by_means():
    seam = measured("seam")
    assert seam["seam_change"] > 10 and seam["seam_warp"] > 10 and seam["seam_motion"] > 30
    assert seam["scenes"] == 3 and seam["window_consistency"] < 0.6 * measured("clean")["window_consistency"]
    for metric in ("temporal_flicker", "motion_smoothness"):
        assert -0.01 < gap(metric, "seam") < -0.003
    for metric in ("seam_change", "seam_warp", "seam_motion"):
        assert seam[metric] == max(measured(name)[metric] for name in FAULTS)
        assert seam[metric] <= seam[f"{metric}_worst"]
    assert abs(gap("colour_drift_end", "seam")) < 0.01 and abs(gap("sharpness_ratio", "seam")) < 0.01


def test_a_seam_too_faint_for_a_mean_or_a_cut_is_seen_by_its_ratios():
    faint = measured("faint_seam")
    assert faint["scenes"] == 1 and abs(gap("temporal_flicker", "faint_seam")) < 1e-3
    for metric in ("seam_change", "seam_warp", "seam_motion"):
        assert faint[metric] > 2 * measured("clean")[metric]
        assert measured("seam")[metric] > 5 * faint[metric]


def test_a_seam_is_seen_at_the_boundaries_it_is_at():
    clip = metric_clips.small()[24:72]
    found = collected(metric_clips.image(metric_clips.seam(clip)))
    assert valued(found, [32])["seam_change"] > 10
    for off in (31, 33):
        assert valued(found, [off])["seam_change"] < 1.5 and valued(found, [off])["seam_warp"] < 1.5


def test_growing_blur_is_seen_by_sharpness_and_flatters_the_rest():
    assert measured("blur")["sharpness_ratio"] < 0.02
    assert all(measured("blur")["sharpness"] < 0.5 * measured(name)["sharpness"] for name in FAULTS if name != "blur")
    for metric in ("temporal_flicker", "motion_smoothness", "ssim_adjacent"):
        assert gap(metric, "blur") > 0
    assert measured("blur")["seam_change_worst"] < 2 and measured("blur")["scenes"] == 1


def test_stutter_fools_the_ratio_of_changes_and_motion_tells_it_from_a_seam():
    """Each fourth transition moves four times as far; the windows begin at such ones."""
    stutter, seam = measured("stutter"), measured("seam")
    assert stutter["seam_change"] > 8 and gap("temporal_flicker", "stutter") > 0
    assert seam["seam_motion"] > 5 * stutter["seam_motion"] and stutter["scenes"] == 1
    assert seam["seam_change"] < 3 * stutter["seam_change"]  # the ratio of changes tells less
    assert gap("motion_smoothness", "stutter") < 0 < gap("temporal_flicker", "stutter")
    assert gap("moving_share", "stutter") < 0


def test_a_hard_cut_is_a_scene_and_no_seam():
    cut = measured("cut")
    assert cut["scenes"] == 2 and cut["seam_change_worst"] < 1.5 and cut["seam_motion_worst"] < 2
    assert cut["window_consistency"] < 0.6 * measured("clean")["window_consistency"]
    assert cut["colour_drift_end"] > 2 * measured("drift")["colour_drift_end"]
    found = collected(metric_clips.image(metric_clips.cut(metric_clips.small(), 47)[30:66]))
    assert valued(found, [17])["seam_change"] > 10 > 2 > valued(found, [18])["seam_change"]


def test_the_pieces_that_a_real_clip_comes_in_change_nothing():
    images = metric_clips.image(metric_clips.seam(metric_clips.small())[20:44])
    whole = collected(images, len(images))
    for size in (1, 7):
        parts = collected(images, size)
        for name in series.Series.__dataclass_fields__:
            if name != "side":
                one, other = getattr(whole, name), getattr(parts, name)
                tolerance = 1e-5 if name in ("warp", "motion", "acceleration", "middle") else 1e-6
                assert torch.allclose(one, other, rtol=1e-6, atol=tolerance, equal_nan=True), (name, size)


# What is not a usual video: a value that is stated, or an error that says what was given


@pytest.mark.parametrize("level", [0.0, 0.5, 1.0])
def test_a_video_of_one_colour_is_still_and_perfect(level):
    found = valued(collected(torch.full((40, 24, 32, 3), level)), [16, 32])
    assert found["temporal_flicker"] == found["motion_smoothness"] == found["scenes"] == 1 and found["moving"] == 0
    assert found["ssim_adjacent"] == found["ssim_first"] == pytest.approx(1, abs=1e-4)
    assert found["warping_error"] == found["dynamic_degree"] == found["saturation_slope"] == 0
    assert found["seam_change"] == found["seam_warp_worst"] == found["seam_motion"] == 1
    assert found["sharpness"] < 1e-3 and 0 <= found["colour_drift"] < 1e-5
    assert math.isnan(found["sharpness_ratio"]) or found["sharpness_ratio"] == pytest.approx(1)
    assert found["window_consistency"] == pytest.approx(1)


def test_one_frame_has_what_one_frame_can_have():
    found = valued(collected(metric_clips.image(metric_clips.small()[:1])), [])
    nothing = {"temporal_flicker", "motion_smoothness", "warping_error", "dynamic_degree", "moving_share", "moving",
               "colour_drift", "saturation_slope", "ssim_adjacent", "ssim_first"}  # fmt: skip
    assert {name for name, value in found.items() if math.isnan(value)} == nothing
    assert found["scenes"] == found["sharpness_ratio"] == 1 and 0 <= found["colour_drift_end"] < 1e-6
    assert found["sharpness"] > 100
    with_seams = valued(collected(metric_clips.image(metric_clips.small()[:1])), [1, 32])
    assert all(math.isnan(value) for name, value in with_seams.items() if name.startswith("seam"))


def test_two_frames_have_all_but_a_frame_between():
    found = valued(collected(metric_clips.image(metric_clips.small()[:2])), [])
    nothing = {name for name, value in found.items() if math.isnan(value)}
    assert {"motion_smoothness"} <= nothing <= {"motion_smoothness", "colour_drift", "moving", "moving_share"}
    assert found["scenes"] == 1 and 0.9 < found["temporal_flicker"] < 1
    assert found["ssim_first"] == pytest.approx(found["ssim_adjacent"], abs=1e-6) and found["ssim_first"] < 1
    three = valued(collected(metric_clips.image(metric_clips.small()[:3])), [1])
    assert three["motion_smoothness"] > 0.97 and not math.isnan(three["seam_change"])


@pytest.mark.parametrize("height, width", [(1, 1), (2, 3), (1, 50), (9, 70), (10, 11)])
def test_frames_of_any_size_are_measured(height, width):
    images = torch.from_numpy(metric_clips.raw(1, 6, height, width, 3)).float() / 255
    found = valued(collected(images, 2), [3])
    assert not [name for name, value in found.items() if math.isinf(value)]
    assert 0 < found["temporal_flicker"] < 1 and found["ssim_adjacent"] < 0.95 and found["colour_drift"] > 0


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("at", [0, 3, 9])
def test_what_is_no_number_is_refused_with_its_frame(bad, at):
    images = torch.rand(10, 16, 20, 3, generator=torch.Generator().manual_seed(0))
    images[at, 5, 5, 1] = bad
    for size in (1, 4, 10):
        with pytest.raises(ValueError, match=rf"frame {at} has values that are no numbers \(NaN or infinite\)"):
            collected(images, size)


@pytest.mark.parametrize("images, words", [
    (torch.zeros(3, 16, 20, 1), r"\[3, 16, 20, 1\]; they must be \[frames, height, width, 3\]"),
    (torch.zeros(3, 3, 16, 20), r"\[3, 3, 16, 20\]; they must be"),
    (torch.zeros(16, 20, 3), r"\[16, 20, 3\]; they must be"),
    (torch.zeros(0, 16, 20, 3), r"\[0, 16, 20, 3\]; they must be"),
    (torch.zeros(3, 0, 20, 3), r"\[3, 0, 20, 3\]; they must be"),
    (torch.zeros(3, 16, 20, 3, dtype=torch.uint8), "uint8; they must be floating point"),
])  # fmt: skip
def test_what_is_no_video_is_refused(images, words):
    with pytest.raises(ValueError, match=words):
        series.Collector().add(images)


def test_frames_of_another_size_and_none_at_all_are_refused():
    collector = series.Collector(rate=25.0)
    with pytest.raises(ValueError, match="no frames"):
        collector.series()
    collector.add(torch.zeros(3, 16, 20, 3))
    with pytest.raises(ValueError, match="frame 3 is 22x16 after frames of 20x16"):
        collector.add(torch.zeros(1, 16, 22, 3))
    collector.add(torch.zeros(1, 16, 20, 3))
    assert len(collector.series()) == 4


def test_alpha_and_what_lies_beyond_0_to_1_change_nothing():
    images = metric_clips.image(metric_clips.small()[:6])
    plain = collected(images)
    alpha = collected(torch.cat((images, torch.rand(6, 72, 128, 1)), -1).double())
    over, cut = images * 1.5 - 0.2, (images * 1.5 - 0.2).clamp(0, 1)
    for one, other in ((plain, alpha), (collected(cut), collected(over))):
        for name in ("change", "histogram", "saturation", "warp", "sharpness"):
            assert torch.equal(getattr(one, name), getattr(other, name))
    assert over.min() < 0 and over.max() > 1
