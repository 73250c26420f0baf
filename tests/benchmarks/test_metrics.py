"""The metrics of the quality benchmark on ground truth with one fault each: the right ones see it, others do not."""

import math
import random

import pytest
import torch
from longtake.backbone.demo import reader, world
from longtake.benchmarks.metrics import video as metrics

FRAMES = 145
BOUNDARIES = [21, 45, 69, 93]  # a demo model's static windows of 13 latent frames, stride 6
SCENE = world.change(world.sample_scene(random.Random(3), "green", "square", "circling", "gray"), size=0.15)


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def measure(video, scene=SCENE, spec=None):
    spec = spec or (scene.colour, scene.shape, scene.motion, scene.background)
    return metrics.measure(video, reader.read(video), spec, BOUNDARIES)


def moment(t, **attributes):
    """Frame t of the scene with some attributes as given."""
    return world.render(world.change(SCENE, **attributes), 1, start=t)


def mixed(rgb, other, share):
    return tuple(a + share * (b - a) for a, b in zip(rgb, other, strict=True))


def later(t):
    return t / (FRAMES - 1)


def seam(clean):
    """Every window goes on a fifth of a turn further."""
    starts = [0, *BOUNDARIES, FRAMES]
    skip = SCENE.period / 5
    parts = [world.render(SCENE, b - a, start=a + i * skip) for i, (a, b) in enumerate(zip(starts, starts[1:]))]  # noqa: B905
    return torch.cat(parts)


def colour(clean):
    return torch.cat([moment(t, colour_rgb=mixed(SCENE.colour_rgb, (0.3, 0.9, 0.5), later(t))) for t in range(FRAMES)])


def background(clean):
    return torch.cat(
        [moment(t, background_rgb=mixed(SCENE.background_rgb, (0.6, 0.5, 0.5), later(t))) for t in range(FRAMES)]
    )


def size(clean):
    return torch.cat([moment(t, size=SCENE.size * (1 - 0.4 * later(t))) for t in range(FRAMES)])


def shape(clean):
    return torch.cat((clean[:100], world.render(world.change(SCENE, shape="circle"), FRAMES - 100, start=100)))


def mark(clean):
    other = next(m for m in world.MARKS if m != SCENE.mark)
    return torch.cat((clean[:60], world.render(world.change(SCENE, mark=other), FRAMES - 60, start=60)))


def flicker(clean):
    return (clean + 0.04 * (-1.0) ** torch.arange(FRAMES)[:, None, None, None]).clamp(0, 1)


def blur(clean):
    frames = []
    for t, frame in enumerate(clean):
        sigma = 0.05 + 2 * later(t)
        kernel = torch.exp(-torch.arange(-6, 7).square() / (2 * sigma**2))
        kernel = (kernel[:, None] * kernel / kernel.sum() ** 2).expand(3, 1, 13, 13)
        padded = torch.nn.functional.pad(frame.permute(2, 0, 1)[None], (6, 6, 6, 6), mode="replicate")
        frames.append(torch.nn.functional.conv2d(padded, kernel, groups=3).permute(0, 2, 3, 1))
    return torch.cat(frames)


def duplicate(clean):
    """A second, smaller subject in a corner, in the last third."""
    video = clean.clone()
    video[97:, :16, :16] = moment(0, motion="still", x=0.13, y=0.13, size=0.09)[:, :16, :16]
    return video


def stutter(clean):
    return clean[torch.arange(FRAMES) // 4 * 4]


def still(clean):
    return clean[:1].expand_as(clean)


def motion(clean):
    """From the second span on it slides."""
    return torch.cat((clean[:49], world.render(world.change(SCENE, motion="sliding"), FRAMES - 49, start=49)))


# Which metrics must see a fault, and from what value on (as a string: down to what); which others it may move, for it
# really changes them.
FAULTS = {
    seam: ({"seam_mae": 2, "seam_mae_max": 2, "seam_track": 10, "seam_track_max": 10, "jerk": 0.01},
           {"speed"}),
    colour: ({"colour_drift": 0.15}, {"sharpness", "sharpness_ratio"}),
    background: ({"background_drift": 0.06}, {"sharpness", "sharpness_ratio"}),
    size: ({"size_drift": 0.2}, {"sharpness", "sharpness_ratio", "colour_drift"}),
    shape: ({"shape_drift": 0.4, "prompt_shape": "0.67", "prompt": "0.92"}, {"sharpness", "sharpness_ratio"}),
    mark: ({"mark_drift": 0.8}, {"sharpness", "sharpness_ratio"}),
    flicker: ({"flicker": "0.93"}, {"colour_drift", "background_drift"}),
    # so wide edges mislead the reader a little
    blur: ({"sharpness_ratio": "0.2", "sharpness": "400"}, {"colour_drift", "background_drift", "jerk", "size_jerk"}),
    duplicate: ({"duplicates": 0.33}, {"sharpness", "sharpness_ratio"}),
    stutter: ({"jerk": 0.05, "seam_track": 10}, {"seam_track_max"}),
    still: ({"speed": "0.0001", "prompt": "0.75", "prompt_motion": "0"}, {"jerk", "flicker", "sharpness"}),
    motion: ({"prompt_motion": "0.34", "prompt": "0.84"}, {"speed", "jerk", "seam_mae_max", "seam_track_max"}),
}  # fmt: skip

# How far a metric may move while it counts as calm.
CALM = {
    "colour_drift": 0.01, "size_drift": 0.02, "shape_drift": 0, "mark_drift": 0.01, "background_drift": 0.005,
    "seam_mae": 0.15, "seam_mae_max": 0.15, "seam_track": 0.3, "seam_track_max": 0.7, "jerk": 1e-3, "size_jerk": 2e-3,
    "flicker": 0.008, "sharpness": 20, "sharpness_ratio": 0.02, "duplicates": 0, "speed": 4e-3, "prompt": 0,
    "prompt_colour": 0, "prompt_shape": 0, "prompt_motion": 0, "prompt_background": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def clean():
    video = world.render(SCENE, FRAMES)
    return video, measure(video)


@pytest.mark.parametrize("motion", world.MOTIONS)
def test_ground_truth_is_faultless(motion):
    scene = world.sample_scene(random.Random(5), motion=motion)
    found = measure(world.render(scene, FRAMES), scene)
    assert found.keys() == metrics.METRICS.keys()
    for name in ("colour_drift", "size_drift", "shape_drift", "mark_drift", "background_drift", "duplicates"):
        assert found[name] < 0.015, name
    assert found["sharpness_ratio"] == pytest.approx(1, abs=0.05)
    assert all(found[name] == 1 for name in found if name.startswith("prompt"))
    assert found["size_jerk"] < 1e-3
    assert found["jerk"] < (1e-2 if motion == "bouncing" else 2e-3)  # a bounce is a kink
    assert found["seam_mae"] < 1.6
    assert found["seam_track"] < (5 if motion == "bouncing" else 1.6)
    assert (found["speed"] < 1e-3) == (motion == "still")


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_the_right_metrics_see_a_fault(fault, clean):
    video, before = clean
    sees, may = FAULTS[fault]
    after = measure(fault(video))
    for name, limit in sees.items():
        falls = isinstance(limit, str)
        assert after[name] <= float(limit) if falls else after[name] >= limit, (name, after[name])
    for name, value in after.items():
        if name not in sees.keys() | may:
            assert abs(value - before[name]) <= CALM[name] + 1e-9, (name, before[name], value)


def test_seam_score_by_hand():
    signal = torch.full((100,), 0.02)
    signal[39] = 0.1  # into frame 40
    signal[63] = 0.5  # another boundary, within reach of none
    signal[50] = 9.0  # a wild one does not move a median
    scores = metrics.boundary_ratios(signal, [40, 64, 90])
    eps = 0.5 / 255
    assert scores.tolist() == pytest.approx([(0.1 + eps) / (0.02 + eps), (0.5 + eps) / (0.02 + eps), 1.0])
    close = metrics.boundary_ratios(signal, [36, 40])  # neighbours at 35 and 39 are left out of each other's median
    assert close.tolist() == pytest.approx([1.0, (0.1 + eps) / (0.02 + eps)])
    assert len(metrics.boundary_ratios(signal, [])) == 0


def test_formulas_by_hand():
    video = torch.zeros(3, 8, 8, 3)
    video[1] = 0.3
    assert metrics.frame_differences(video).tolist() == pytest.approx([0.3, 0.3])
    t = torch.arange(20.0)[:, None]
    assert metrics.jerk(t**2) == pytest.approx(0, abs=1e-4)
    assert metrics.jerk(t**3) == pytest.approx(6)
    values = torch.zeros(98, 3)
    values[49:, 0], values[49:, 1] = 0.3, 0.4
    values[60:70] = math.nan
    assert metrics.vector_drift(values) == pytest.approx(0.5)
    assert metrics.class_drift(torch.tensor([2] * 49 + [2] * 10 + [-1] * 20 + [1] * 30)) == pytest.approx(0.75)
    x = torch.rand(1, 6, 6, 3)
    kernel = torch.tensor([[0.0, 1, 0], [1, -4, 1], [0, 1, 0]])
    edges = torch.nn.functional.conv2d(255 * x.permute(3, 0, 1, 2), kernel[None, None])
    expected = edges.var((1, 2, 3), correction=0).mean().item()
    assert metrics.laplacian_variance(x).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("frames, expected", [
    (30, [(0, 30)]), (49, [(0, 49)]), (145, [(0, 49), (49, 98), (98, 145)]),
    (100, [(0, 49), (49, 100)]), (293, [*((i * 49, i * 49 + 49) for i in range(5)), (245, 293)]),
])  # fmt: skip
def test_spans(frames, expected):
    assert metrics.spans(frames) == expected


def test_no_subject_at_all():
    found = measure(torch.full((100, 64, 64, 3), 0.46))
    assert found["duplicates"] == 1
    assert (found["prompt_colour"], found["prompt_motion"], found["prompt_background"]) == (0, 0, 1)
    assert all(math.isnan(found[name]) for name in ("colour_drift", "size_drift", "shape_drift", "jerk", "speed"))


def test_open_attributes_are_not_judged(clean):
    video, _ = clean
    found = measure(video, spec=(None, "circle", None, "gray"))
    assert found["prompt"] == pytest.approx(0.5)
    assert math.isnan(found["prompt_colour"])
