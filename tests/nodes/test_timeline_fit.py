"""A timeline that does not fit: made for a longer video, or with events that no window uses; and the way out."""

import json
import random

import pytest
from longtake.nodes.routes import timeline as timeline_route
from longtake.samplers.prompts.fit import FITS, Video, fitted
from longtake.samplers.prompts.timeline import TimelineError, parse_timeline, span_weights, spans
from longtake.samplers.windows import WindowSettings, local_windows, window_centre

LONG = Video(321, 16.0)


def ask(text, length=321, fps=16.0, blend=0, **more):
    values = {"text": text, "length": length, "fps": fps, "blend": blend, "edit": None, **more}
    return timeline_route.answer(json.dumps(values).encode())


@pytest.mark.parametrize(
    ("text", "length", "fps", "clip", "scale"),
    [
        ("0s: a\n6s: b\n12s: c", 161, 16.0, "0s: a\n6s: b", "0s: a\n3s: b\n6s: c"),
        ("[0-6s] a\n[6-12s] b\n[12-20s] c", 161, 16.0, "[0-6s] a\n[6-10.06s] b", "[0-3s] a\n[3-6s] b\n[6-10s] c"),
        ('{"0": "a", "192": "c", "96": "b"}', 161, 16.0, '{"0": "a", "96": "b"}', '{"0": "a", "96": "c", "48": "b"}'),
        ("[1-2s] a\n[4-5s] b\n[15s-18s] c", 321, 24.0,
         "[1-2s] a\n[4-5s] b", "[0.67-1.33s] a\n[2.67-3.33s] b\n[10s-12s] c"),
        ("- 0:00 a\n- 0:03 b\n- 0:18 c", 161, 16.0, "0s: a\n3s: b", "0s: a\n1.5s: b\n9s: c"),
        ("0s: a\n50%: b\n16s: c", 161, 16.0, "0s: a", "0s: a\n50%: b\n8s: c"),
    ],  # fmt: skip
)
def test_a_longer_video_s_timeline_is_clipped_or_scaled(text, length, fps, clip, scale):
    with pytest.raises(TimelineError):
        parse_timeline(text, length, fps)
    assert [fitted(text, length, fps, way, LONG) for way in FITS] == [clip, scale]
    answer = ask(text, length, fps, was={"length": LONG.length, "fps": LONG.fps})
    assert answer["fits"] == {"clip": clip, "scale": scale} and "video" in answer["warning"]
    shown = [(e["text"], e["start"], e["end"]) for e in answer["events"]]
    assert shown == [(e.text, e.start, e.end) for e in parse_timeline(clip, length, fps)]


def test_the_video_that_a_timeline_was_made_for_is_guessed():
    """After a reload nobody knows it: up to the last time, and an event more where that one has no end."""
    assert ask("[0-6s] a\n[6-12s] b", 97)["fits"]["scale"] == "[0-3.06s] a\n[3.06-6.06s] b"
    assert parse_timeline(ask("0s: a\n6s: b\n12s: c", 161)["fits"]["scale"], 161, 16)[2].start == 107  # of 288, 192
    for text in ("0s: a\n6s: ", "[0-3s] a\n[2-30s] b", "0s: a\n-30s: b"):  # wrong in any video
        with pytest.raises(TimelineError):
            ask(text, 97)


def test_what_fits_says_what_was_meant():
    """Random timelines of a longer video: clip keeps every time, scale every share and every event."""
    rng = random.Random(3)
    for _ in range(300):
        length, fps = rng.randint(60, 900), rng.choice([8.0, 16.0, 23.976])
        starts = sorted({0, *rng.sample(range(1, length), rng.randint(1, 5))})
        form = rng.choice(["{}f: p{}", "[{}f] p{}"])
        text = "\n".join(form.format(start, i) for i, start in enumerate(starts))
        short = rng.randint(max(len(starts), 2), length)
        was = Video(length, fps)
        clipped = parse_timeline(fitted(text, short, fps, "clip", was), short, fps)
        assert [(e.text, e.start) for e in clipped] == [(f"p{i}", s) for i, s in enumerate(starts) if s < short]
        scaled = parse_timeline(fitted(text, short, fps, "scale", was), short, fps)
        assert [e.text for e in scaled] == [f"p{i}" for i in range(len(starts))]
        room = min(b - a for a, b in zip(starts, [*starts[1:], length], strict=True)) * short / length
        if room > 2:
            assert all(abs(e.start - s * short / length) <= 0.5 for e, s in zip(scaled, starts, strict=True))


SCHEDULER = {"window_length": 81, "overlap": 40, "schedule": "static", "shift_seed": 0}


def windows(node="LongTakeWindowScheduler", **values):
    return {"node": node, "values": {**SCHEDULER, **values}, "compression": 4}


def used(text, length, settings):
    line = spans(parse_timeline(text, length, 16))
    centres = [window_centre(w.indices, 4) for w in local_windows(settings, (length - 1) // 4 + 1, 0)]
    return {index for centre in centres for index, weight in span_weights(line, centre) if weight > 0}


def test_unused_events_come_with_ways_out():
    text = "0s: a\n4s: b\n4.5s: c\n12s: d"
    assert used(text, 321, WindowSettings(21, 10)) == {0, 2, 3}
    lost = ask(text, windows=windows())["unused"]
    assert lost["events"] == [1]
    start, end = lost["lengthen"][1]
    longer = text.replace("4s: b", f"{start}f: b").replace("4.5s: c", f"{end}f: c")
    assert used(longer, 321, WindowSettings(21, 10)) == {0, 1, 2, 3}
    shorter = lost["shorter"]
    settings = WindowSettings((shorter["window_length"] - 1) // 4 + 1, shorter["overlap"] // 4)
    assert settings.length < 21 and used(text, 321, settings) == {0, 1, 2, 3}
    assert ask(text, windows=windows(**shorter))["unused"] is None
    assert ask(text, windows=windows(), timing="frame")["unused"] is None
    chunks = {"node": "LongTakeSynCoSKSampler", "values": {"window_length": 81, "stride": 40}, "compression": 4}
    found = ask(text, windows=chunks)["unused"]
    assert found["events"] == [1]
    assert ask(text, windows={**chunks, "values": found["shorter"]})["unused"] is None


def test_a_moving_window_uses_more():
    """random_shift: an event is used if a window of any step has its centre there, not of the first step alone."""
    text = "0s: a\n4s: b\n4.5s: c\n12s: d"
    for values in ({"schedule": "random_shift"}, {"schedule": "rolling"}, {"overlap_end": 72}):
        assert ask(text, windows=windows(**values))["unused"] is None


def test_shorter_windows_keep_a_moving_overlap():
    lost = ask("a | b | c", 81, windows=windows(overlap_end=60))["unused"]
    shorter = lost["shorter"]
    assert 0 < shorter["overlap_end"] < shorter["window_length"] < 81
    assert ask("a | b | c", 81, windows=windows(**shorter))["unused"] is None


def test_a_closed_loop_of_one_window_uses_events():
    assert ask("a", 81, windows=windows(closed_loop=True))["unused"] is None


def test_no_event_is_robbed_for_another():
    text = "\n".join(f"{i * 10}f: p{i}" for i in range(32))  # windows start every 40 frames: 3 of 4 are lost
    lost = ask(text, windows=windows())["unused"]
    for index, (start, end) in ((int(i), span) for i, span in lost["lengthen"].items()):
        times = [i * 10 for i in range(32)]
        times[index] = start
        if index + 1 < 32:
            times[index + 1] = end
        longer = "\n".join(f"{time}f: p{i}" for i, time in enumerate(times))
        before, after = (used(t, 321, WindowSettings(21, 10)) for t in (text, longer))
        assert after == before | {index}


def test_one_window_uses_no_event():
    lost = ask("a | b", 81, windows=windows())["unused"]
    assert lost["events"] == [0, 1] and lost["lengthen"] == {} and lost["shorter"]["window_length"] < 81
    assert ask("a", 81, windows=windows())["unused"]["events"] == [0]


def test_frame_timing_loses_events_shorter_than_a_latent_frame():
    text = "0f: a\n40f: b\n41f: c"
    lost = ask(text, timing="frame", windows=windows())["unused"]
    assert lost["events"] == [1] and lost["shorter"] is None
    start, end = lost["lengthen"][1]
    longer = f"0f: a\n{start}f: b\n{end}f: c"
    assert ask(longer, timing="frame", windows=windows())["unused"] is None
