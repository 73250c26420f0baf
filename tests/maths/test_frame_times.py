"""Which events a latent frame shows, and their weights at a soft border."""

import math

import pytest
from longtake.samplers.prompts.frame_times import by_frame, frame_centre, frame_weights
from longtake.samplers.prompts.timeline import parse_timeline, spans

FOUR = "0f: a\n24f: b\n36f: c\n61f: d"


def weights(text, length, frame, compression=4, **options):
    return frame_weights(spans(parse_timeline(text, length, 16), timing="frame", **options), frame, compression)


def test_a_latent_frame_stands_at_the_centre_of_its_pixel_frames():
    assert [frame_centre(i, 4) for i in range(4)] == [0.0, 2.5, 6.5, 10.5]
    assert [frame_centre(i, 8) for i in range(3)] == [0.0, 4.5, 12.5]
    assert [frame_centre(i, 1) for i in range(3)] == [0.0, 1.0, 2.0]


@pytest.mark.parametrize("border", ["linear", "gaussian"])
def test_without_blend_each_frame_shows_the_event_that_most_of_its_pixel_frames_have(border):
    found = [weights(FOUR, 97, i, border=border) for i in range(25)]
    assert all(len(frame) == 1 and frame[0][1] == 1.0 for frame in found)
    starts = [0, 24, 36, 61]
    for i, ((event, _),) in enumerate(found):
        pixels = range(4 * i - 3, 4 * i + 1) if i else range(1)
        own = [max(n for n, start in enumerate(starts) if start <= p) for p in pixels]
        assert own.count(event) * 2 >= len(own)


def test_a_linear_border_is_the_ramp_that_windows_have():
    # The border at 24, blend 12: frames centred at 18.5, 22.5, 26.5 and 30.5.
    found = [dict(weights(FOUR, 97, i, blend=12)) for i in (4, 5, 6, 7, 8)]
    assert found[0] == {0: 1.0} and found[4] == {1: 0.96, 2: 0.04} or found[4].keys() <= {1, 2}
    for frame, centre in zip(found[1:4], (18.5, 22.5, 26.5), strict=True):
        share = (centre - 24) / 12 + 0.5
        assert frame == pytest.approx({0: 1 - share, 1: share})


def test_a_gaussian_border_is_prompt_relays_penalty_made_to_sum_to_one():
    # Event a ends and b begins at 24; tails of 12. Latent frame 6 is outside of b by 24 - 22.5 = 1.5, of a by -1.5.
    frame = dict(weights("0f: a\n24f: b", 97, 6, blend=24, border="gaussian"))
    sigma = 12 / math.sqrt(2 * math.log(1000))  # 0.001 at the border
    a, b = (math.exp(-((d + 12) ** 2) / (2 * sigma**2)) for d in (-1.5, 1.5))
    assert frame == pytest.approx({0: a / (a + b), 1: b / (a + b)})
    assert b / a == pytest.approx(1e-3 ** (8 * 1.5 / 24))
    even = dict(frame_weights(spans(parse_timeline("0f: a\n27f: b", 97, 16), 8, "frame", "gaussian"), 7, 4))
    assert even[0] > 0.5  # 26.5 is half a frame before the border
    assert dict(weights(FOUR, 97, 0, blend=12, border="gaussian")) == {0: 1.0}  # the video's start is no border
    assert dict(weights(FOUR, 97, 24, blend=12, border="gaussian")) == {3: 1.0}


@pytest.mark.parametrize("border", ["linear", "gaussian"])
@pytest.mark.parametrize("blend", [0, 5, 12])
def test_weights_sum_to_one_and_belong_to_neighbours(blend, border):
    for i in range(30):  # five frames behind the end, as a longer latent has them
        frame = weights(FOUR, 97, i, blend=blend, border=border)
        assert sum(w for _, w in frame) == pytest.approx(1.0)
        events = [event for event, _ in frame]
        assert events == list(range(events[0], events[-1] + 1)) and all(w > 0 for _, w in frame)


def test_one_event_is_not_told_by_frames():
    assert not by_frame(spans(parse_timeline("a", 97, 16), timing="frame"))
    assert by_frame(spans(parse_timeline("a | b", 97, 16), timing="frame"))
    assert not by_frame(spans(parse_timeline("a | b", 97, 16)))
