"""The Window Scheduler's optional latent: report and chart are of the video that is sampled, whatever length says."""

import pytest
import torch
from longtake.nodes.windows import LongTakeWindowScheduler
from support import tiny_wan


def run(length, latent=None):
    inputs = LongTakeWindowScheduler.define_schema().inputs
    values = {i.id: i.default for i in inputs if i.id not in ("model", "latent")}
    values |= {"model": tiny_wan.patcher(), "length": length, "latent": latent}
    return LongTakeWindowScheduler.execute(**values).args


@pytest.mark.parametrize("length", [0, 97, 1000])
def test_the_latent_says_the_length(length):
    given = run(length, {"samples": torch.zeros(1, 16, 41, 4, 4)})
    own = run(161)
    assert given[2] == own[2] and torch.equal(given[3], own[3])
    assert run(97)[2] != own[2]


def test_a_picture_is_refused_by_name():
    with pytest.raises(ValueError, match=r"LongTakeWindowScheduler.*latent: its shape is \(1, 16, 4, 4\)"):
        run(0, {"samples": torch.zeros(1, 16, 4, 4)})


def test_of_a_latent_with_audio_it_is_the_video():
    from comfy.nested_tensor import NestedTensor

    video, audio = torch.zeros(1, 16, 41, 4, 4), torch.zeros(1, 8, 100, 16)
    assert run(0, {"samples": NestedTensor((video, audio))})[2] == run(161)[2]
