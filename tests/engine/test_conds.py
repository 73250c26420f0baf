"""Conditioning of windows by itself, on tensors alone."""

import comfy.conds
import pytest
import torch
from longtake.samplers.adapters.conds import frames_of, merge_windows


@pytest.mark.parametrize("indices", [
    [0, 1, 2], [4, 5, 6], [5], [0, 3, 6], [6, 7], [0, 4, 5, 6], [6, 0], [2, 2, 3], [0, 5, 6, 7, 1],
])  # fmt: skip
@pytest.mark.parametrize("dim", [1, 2, 3])
def test_frames_of_a_tensor(indices, dim):
    whole = torch.arange(8 * 8 * 8 * 2).view(1, 8, 8, 8, 2)
    part = frames_of(whole, dim, indices)
    assert torch.equal(part, whole.index_select(dim, torch.tensor(indices)))
    evenly = len({b - a for a, b in zip(indices, indices[1:], strict=False)}) < 2 and indices == sorted(set(indices))
    assert (part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()) == evenly


def entry(value, **raw):
    return [{"model_conds": {"c": comfy.conds.CONDRegular(torch.full((1, 2), float(value)))}, "uuid": value, **raw}]


def test_windows_whose_prompts_hold_other_tensors_are_one_batch():
    """Raw tensors were read before: as they are, or in lists (VACE, references)."""
    a, b = torch.zeros(1, 4), torch.ones(1, 4)
    for x, y in ((a, b), ([a], [b]), ([a], [a, b]), ([[a]], [[b]])):
        merged = merge_windows([entry(1, given=x), entry(2, given=y)], 1)
        assert merged[0]["model_conds"]["c"].cond.tolist() == [[1, 1], [2, 2]]


def test_windows_that_core_treats_otherwise_are_not():
    a, b = torch.zeros(1, 4), torch.ones(1, 4)
    for x, y in (
        ({"strength": 0.5}, {}), ({"area": (1, 1, 0, 0)}, {"area": (1, 1, 1, 0)}), ({"mask": a}, {"mask": b}),
        ({"given": a}, {}), ({"given": [a]}, {"given": [0.5]}), ({"control": 1}, {"control": 1}),
    ):  # fmt: skip
        assert merge_windows([entry(1, **x), entry(2, **y)], 1) is None
