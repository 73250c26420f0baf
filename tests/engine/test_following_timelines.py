"""A timeline without a length of its own (length 0): laid out over the video that is sampled."""

import pytest
import torch
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.prompts.follow import following
from longtake.samplers.prompts.timeline import TimelineError, parse_timeline, spans
from longtake.samplers.syncos.coupling import PRESETS
from support import tiny_wan
from support.tiny_wan import FRAMES, TOTAL, prompt, run
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread")


def conditioning(found):
    entries = prompt(1, longtake_span=None)
    for span in found:
        entries += prompt(10 + span.index, longtake_span=span, start_percent=1.0, end_percent=0.0)
    return entries


def known(text, length=TOTAL, blend=0, timing="window", border="linear"):
    return conditioning(spans(parse_timeline(text, length, 16.0), blend, timing, border))


def follows(text, blend=0, timing="window", border="linear"):
    return conditioning(following(text, 16.0, blend, timing, border)[1])


@pytest.mark.parametrize("text", ["0s: a\n27f: b", "a | b | c", "a", '{"50%": "b", "0": "a"}', "0s: a\n50%: b\n40f: c"])
@pytest.mark.parametrize("blend", [0, 8])
def test_it_is_the_timeline_of_the_video(text, blend):
    model = windowed(tiny_wan.patcher())
    got = run(model, positive=follows(text, blend), negative=follows(text, blend))
    assert torch.equal(got, run(model, positive=known(text, blend=blend), negative=known(text, blend=blend)))
    if "|" in text:
        other = run(model, positive=known(text, 3 * TOTAL, blend))
        assert not torch.equal(run(model, positive=follows(text, blend)), other)


def test_of_any_length():
    model = windowed(tiny_wan.patcher())
    entries = follows("a | b | c")
    for frames in (FRAMES, FRAMES + 7, FRAMES):  # the entries are not changed by a run
        wanted = known("a | b | c", 4 * (frames - 1) + 1)
        assert torch.equal(run(model, frames, positive=entries), run(model, frames, positive=wanted))


def test_frame_by_frame_and_coupled():
    model, text = windowed(tiny_wan.patcher()), "0s: a\n27f: b"
    frame = {"blend": 8, "timing": "frame", "border": "gaussian"}
    assert torch.equal(run(model, positive=follows(text, **frame)), run(model, positive=known(text, **frame)))
    sampler = syncos_sampler(PRESETS["fast"])
    assert torch.equal(*[run(model, positive=e, sampler=sampler, steps=4) for e in (follows(text), known(text))])


def test_what_does_not_fit_the_video_is_refused_by_name():
    model = windowed(tiny_wan.patcher())
    for text, blend, words in (("0s: a\n60s: b", 0, "past the end"), ("0f: a\n3f: b", 20, "blend")):
        with pytest.raises(ValueError, match=f"Prompt Timeline .LongTakePromptTimeline.: .*{words}"):
            run(model, positive=follows(text, blend))
    with pytest.raises(TimelineError):
        following("0s: a\n-3s: b", 16.0, 0, "window", "linear")
    with pytest.raises(ValueError, match="must not depend on the video's length"):
        run(model, positive=follows('{"50%": "b", "0": "a", "2s": "c"}'))  # 50% of these 53 frames come before 2 s
