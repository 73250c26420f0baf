"""Videos beside each other: which frame at what time, and where; by slow counting."""

import itertools

import pytest
from longtake.samplers.side_by_side import BAND, BLOCK, GAP, WIDEST, Clip, arranged, frame_of, moments, shared_frames


def clip(count=10, rate=16.0, width=64, height=64):
    return Clip(count, rate, width, height)


def test_at_one_rate_every_frame_is_itself_and_the_shorter_one_holds_its_last():
    long, short = clip(1225), clip(300)
    assert shared_frames([long, short]) == [1225, 300]
    assert [frame_of(long, at, 16.0) for at in range(1225)] == list(range(1225))
    assert [frame_of(short, at, 16.0) for at in (0, 299, 300, 1224)] == [0, 299, 299, 299]


@pytest.mark.parametrize("rate", [8.0, 12.0, 15.0, 23.976, 29.97, 24.0, 30.0, 60.0])
def test_at_two_rates_the_frame_is_the_one_of_that_moment(rate):
    slow, fast = clip(50, rate), clip(400, 60.0)
    lengths = shared_frames([slow, fast])
    assert abs(lengths[0] / 60.0 - 50 / rate) < 1 / 60.0 + 1e-9
    for at in range(lengths[0]):
        wanted = max(i for i in range(50) if i / rate <= at / 60.0 + 1e-6)
        assert frame_of(slow, at, 60.0) == wanted
    assert {frame_of(slow, at, 60.0) for at in range(lengths[0])} == set(range(50))  # none is left out


def test_one_frame_is_a_video():
    assert shared_frames([clip(1), clip(5)]) == [1, 5] and frame_of(clip(1), 4, 16.0) == 0


@pytest.mark.parametrize("sizes", [
    [(64, 64)], [(832, 480), (480, 832)], [(1920, 1080)] * 6, [(5000, 20), (64, 64)], [(1, 1), (4096, 3)],
    [(20, 4000), (833, 479)],
])  # fmt: skip
@pytest.mark.parametrize("height", [64, 320, 1080])
def test_boxes_lie_apart_at_one_height_with_even_sides_and_their_own_shape(sizes, height):
    layout = arranged([clip(width=w, height=h) for w, h in sizes], height)
    assert layout.width <= WIDEST and layout.width % 2 == layout.height % 2 == 0
    tall = {box[3] for box in layout.boxes}
    assert len(tall) == 1 and tall.pop() <= height
    for (w, h), (x, y, width, box_height) in zip(sizes, layout.boxes, strict=True):
        assert x % BLOCK == 0 and y % BLOCK == 0 and y >= BAND and width % 2 == box_height % 2 == 0
        assert abs(width - max(2, box_height * w / h)) <= 1.0 + 1e-9 and x + width <= layout.width
        assert y + box_height <= layout.height
    for (x, y, w, h), (x2, y2, w2, h2) in itertools.combinations(layout.boxes, 2):
        assert x + w + GAP <= x2 or x2 + w2 + GAP <= x or y + h + BAND <= y2 or y2 + h2 + BAND <= y


def test_moments_are_evenly_spread_from_the_first_to_the_last():
    assert moments(97, 5) == [0, 24, 48, 72, 96]
    assert moments(3, 8) == [0, 1, 2] and moments(1, 8) == [0] and moments(50, 1) == [0]
    for frames, columns in itertools.product(range(1, 40), range(1, 25)):
        found = moments(frames, columns)
        assert found == sorted(set(found)) and len(found) == min(frames, columns) and found[-1] <= frames - 1
