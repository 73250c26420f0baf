"""Consistency and prompt fidelity of features: by slow counting, by hand, and against VBench's own numbers."""

import math

import pytest
import torch
from longtake.samplers.metrics.features import consistency, fidelity, global_fidelity


def randn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def cosine(a, b):
    a, b = a.tolist(), b.tolist()
    lengths = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths if lengths else 0.0


def drifting():
    """[12, 16]: away from the first, with one step back against the one before."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(1, 16, generator=generator)
    found = first + torch.linspace(0, 3, 12)[:, None] * torch.randn(12, 16, generator=generator)
    found[8] = -found[7]
    return found


# ---- consistency -------------------------------------------------------------------------------------------------


def test_consistency_is_vbenchs():
    """Made once with the wheel vbench 0.1.5: subject_consistency(model, ["a.mp4"], "cpu", False) of its module of that
    name, and background_consistency likewise, with load_video and the transforms exchanged for ones that hand on the
    frames' numbers, and a model that answers with drifting()'s row of that number. Both gave this value."""
    assert float(consistency(drifting()).double().mean()) == pytest.approx(0.4314059689640999, abs=1e-6)


@pytest.mark.parametrize("frames", [1, 2, 3, 40])
@pytest.mark.parametrize("length", [1, 7])
def test_consistency_is_counted_frame_by_frame(frames, length):
    features = randn(frames, length, seed=frames)
    wanted = [
        (max(0.0, cosine(features[i], features[i - 1])) + max(0.0, cosine(features[i], features[0]))) / 2
        for i in range(1, frames)
    ]
    found = consistency(features)
    assert found.shape == (frames - 1,) and found.dtype == torch.float32
    assert found.tolist() == pytest.approx(wanted, abs=1e-6)


def test_a_still_video_is_one_and_length_of_a_feature_is_nothing():
    still = randn(1, 8).expand(5, 8) * torch.tensor([1.0, 1e-6, 1e6, 3.0, 0.5])[:, None]
    assert consistency(still).tolist() == pytest.approx([1.0] * 4)
    assert consistency(drifting().half() * 64).tolist() == pytest.approx(consistency(drifting()).tolist(), abs=2e-3)


def test_opposite_frames_are_zero_and_not_less():
    one = randn(1, 8)
    assert consistency(torch.cat([one, -one, one])).tolist() == pytest.approx([0.0, 0.5])


def test_a_frame_without_a_feature_is_like_none_and_nan_is_seen():
    features = randn(1, 8).repeat(5, 1)
    features[2] = 0
    assert consistency(features).tolist() == pytest.approx([1.0, 0.0, 0.5, 1.0])
    features[2] = math.nan
    found = consistency(features)
    assert found.isnan().tolist() == [False, True, True, False]


@pytest.mark.parametrize("shape", [(4,), (2, 3, 4)])
def test_features_of_another_shape_are_refused(shape):
    with pytest.raises(ValueError, match="features of the shape .* must be"):
        consistency(torch.ones(shape))


# ---- fidelity ----------------------------------------------------------------------------------------------------


def counted(images, texts, own):
    """local, accuracy, per frame, by the words of fidelity's docstring."""
    per_frame, hits, by_event = [], [], {}
    for image, event in zip(images, own.tolist(), strict=True):
        if event < 0:
            per_frame.append(math.nan)
            continue
        mine = cosine(image, texts[event])
        per_frame.append(mine)
        by_event.setdefault(event, []).append(mine)
        other = [text for text in texts if not torch.equal(text, texts[event])]
        hits.append(all(mine > cosine(image, text) for text in other))
    means = [sum(values) / len(values) for values in by_event.values()]
    return sum(means) / len(means), sum(hits) / len(hits), per_frame


@pytest.mark.parametrize("seed", range(8))
def test_fidelity_is_counted_event_by_event(seed):
    generator = torch.Generator().manual_seed(seed)
    texts = randn(6, 12, seed=seed)
    texts[4] = texts[1]  # an event that comes again
    own = torch.randint(-1, 6, (50,), generator=generator)
    own[own == 2] = -1  # an event without frames
    images = texts[own.clamp(min=0)] + 1.5 * torch.randn(50, 12, generator=generator)
    local, accuracy, per_frame = fidelity(images, texts, own)
    wanted = counted(images, texts, own)
    assert (local, accuracy) == pytest.approx(wanted[:2], abs=1e-6) and 0.2 < accuracy < 1
    assert per_frame.tolist() == pytest.approx(wanted[2], abs=1e-6, nan_ok=True)
    assert per_frame.dtype == torch.float32 and 0 < int(per_frame.isnan().sum()) < 50


def test_a_long_event_weighs_no_more_than_a_short_one():
    texts = torch.eye(3)
    images = torch.tensor([[1.0, 0, 0]] * 9 + [[0, 0, 1.0]])
    local, accuracy, _ = fidelity(images, texts, torch.tensor([0] * 9 + [1]))
    assert (local, accuracy) == pytest.approx((0.5, 0.9))


def test_equal_prompts_are_one_and_a_prompt_that_leaks_is_seen():
    texts = torch.eye(2)[[0, 1, 0]]
    images = torch.eye(2)[[0, 0, 1, 0]]
    assert fidelity(images, texts, torch.tensor([0, 2, 1, 2]))[1] == 1.0
    assert fidelity(images, texts, torch.tensor([0, 2, 1, 1]))[1] == 0.75
    assert fidelity(images, texts[:1].repeat(3, 1), torch.tensor([0, 2, 1, 1]))[1] == 1.0


def test_a_tie_is_no_hit_and_zeros_are_like_nothing():
    texts, own = torch.eye(2), torch.tensor([0, 1, 0])
    images = torch.tensor([[1.0, 1.0], [0.0, 0.0], [2.0, 0.0]])
    local, accuracy, per_frame = fidelity(images, texts, own)
    assert accuracy == pytest.approx(1 / 3) and per_frame.tolist() == pytest.approx([0.5**0.5, 0.0, 1.0])
    assert local == pytest.approx(((0.5**0.5 + 1) / 2 + 0) / 2)
    images[1] = math.nan
    local, accuracy, per_frame = fidelity(images, texts, own)
    assert math.isnan(local) and accuracy == pytest.approx(1 / 3) and per_frame.isnan().tolist() == [False, True, False]


def test_a_video_of_no_event_has_no_fidelity():
    local, accuracy, per_frame = fidelity(randn(3, 4), randn(2, 4), torch.full((3,), -1))
    assert math.isnan(local) and math.isnan(accuracy) and bool(per_frame.isnan().all()) and per_frame.shape == (3,)


@pytest.mark.parametrize(("images", "texts", "own", "words"), [
    ((3, 4), (2, 5), [0, 0, 0], "images have 4 values to a feature, texts 5"),
    ((3, 4), (4,), [0, 0, 0], "texts of the shape"), ((4,), (2, 4), [0, 0, 0], "images of the shape"),
    ((3, 4), (2, 4), [0, 0], "own has the shape .2."), ((3, 4), (2, 4), [0.0, 1.0, 0.0], "own has .*float32"),
    ((3, 4), (2, 4), [0, 1, 2], "own has 2; it must be from 0 to 1, or -1"),
    ((3, 4), (2, 4), [0, -2, 1], "own has -2"),
])  # fmt: skip
def test_what_does_not_go_together_is_refused(images, texts, own, words):
    with pytest.raises(ValueError, match=words):
        fidelity(torch.ones(images), torch.ones(texts), torch.tensor(own))


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_global_fidelity_is_the_mean_over_all_frames(shape):
    images, text = randn(7, 5), randn(*shape, seed=1)
    mean, per_frame = global_fidelity(images, text)
    wanted = [cosine(image, text.flatten()) for image in images]
    assert per_frame.tolist() == pytest.approx(wanted, abs=1e-6) and mean == pytest.approx(sum(wanted) / 7, abs=1e-6)
    assert min(wanted) < 0 < max(wanted)


def test_global_fidelity_takes_one_prompt():
    with pytest.raises(ValueError, match="text has 2 features"):
        global_fidelity(randn(3, 4), randn(2, 4))
    assert math.isnan(global_fidelity(randn(0, 4), randn(4))[0])
