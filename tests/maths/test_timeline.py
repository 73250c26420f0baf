"""Prompt timeline: the ways of writing, the weights, the report. Pasted texts: test_pasted_timelines.py; the node:
test_prompt_timeline.py."""

import json
import random

import pytest
import torch
from longtake.samplers.prompts import timeline
from longtake.samplers.prompts.timeline import Event, Span, TimelineError, parse_timeline, span_weights, spans

LENGTH, FPS = 96, 16.0  # 6 seconds


def brief(text, length=LENGTH, fps=FPS):
    return [(e.text, e.start, e.end) for e in parse_timeline(text, length, fps)]


THREE = [("a", 0, 32), ("b", 32, 64), ("c", 64, 96)]


@pytest.mark.parametrize(
    "text",
    [
        "a | b | c",
        "a|b\n|\r\nc\n",
        "[0-2s] a\n[2-4s] b\n[4-6s] c",
        "[0s-2s] a\n\n  [32f - 64f]: b\n[4s\u20136s]c",
        "0s: a\n2s: b\n4s: c",
        "0: a\r\n32: b\r\n64: c\r\n",
        "0F: a\n2 S : b\n66.7%: c",
        "0-2s: a\n32-64: b\n64: c",
        "[0] a\n[2s] b\n[64] c",
        '{"0": "a", "32": "b", "64": "c"}',
        '\ufeff { "4s": "c", "0-2s": "a",\n "33.3%": "b" }',
    ],
)
def test_dialects_agree(text):
    assert brief(text) == THREE


@pytest.mark.parametrize(
    "text",
    [
        "a red circle",
        "a man says: hello",
        "16:9 video of a cat",
        "12:30 pm, a street",
        "100% cotton, 3 dogs",
        "a (red:1.2) circle, [blue] sky",
        "(red:1.2) circle",
        "a street\nat night: rain",
        "\u05e2\u05d9\u05d2\u05d5\u05dc \u05d0\u05d3\u05d5\u05dd \U0001f534",
    ],
)
def test_plain_text_is_one_event(text):
    assert brief(text) == [(text, 0, LENGTH)]


def test_separators_inside_prompts_stay():
    assert brief('{"0": "a | b", "48": "3s: [x]"}') == [("a | b", 0, 48), ("3s: [x]", 48, 96)]
    assert brief("0s: a | b: c\n3s: d") == [("a | b: c", 0, 48), ("d", 48, 96)]
    assert brief("a \\| b | c") == [("a | b", 0, 48), ("c", 48, 96)]
    assert brief("0s: the man says: (hello:1.3)") == [("the man says: (hello:1.3)", 0, 96)]


def test_unmarked_lines_continue_the_prompt_above():
    assert brief("0s: a\nmore of a\n3s:\nb") == [("a\nmore of a", 0, 48), ("b", 48, 96)]


def test_gaps_are_filled_and_reported():
    events = parse_timeline("[1-2s] a\n[4-5s] b", LENGTH, FPS)
    assert events == [Event("a", 0, 64, (16, 32)), Event("b", 64, 96, (64, 80))]
    lines = timeline.report(events, ["g, a", "g,\nb | c"], "g", FPS).splitlines()
    assert lines[0] == "2 events in 96 pixel frames = 6.00 s at 16 fps"
    assert lines[2:4] == ["| event | frames | seconds | prompt |", "|---|---|---|---|"]  # Markdown
    assert lines[4:6] == ["| 1 | 0 - 63 | 0.00 - 4.00 | g, a |", "| 2 | 64 - 95 | 4.00 - 6.00 | g, b \\| c |"]
    assert [line.split(" was")[0] for line in lines[7:-1]] == ["- Event 1", "- Event 1", "- Event 2"]


def test_the_rounded_end_of_the_video_is_its_end():
    assert brief("0s: a\n[18-18.33s] b", 293, 16.0)[-1] == ("b", 288, 293)


@pytest.mark.parametrize(
    "text, words",
    [
        ("", ["events is empty", "0s:"]),
        (" \r\n\t", ["events is empty"]),
        ("a || b", ["prompt 2 of the 3", "empty"]),
        ("a | b |", ["prompt 3 of the 3", "empty"]),
        (" | ".join("x" * 97), ["97 prompts", "96 pixel frames"]),
        ("0s: a\n3s:", ["line 2", "no prompt"]),
        ("[0-3s] a\n[2-5s] b", ["line 1", "line 2", "overlap", "48", "32"]),
        ("[0-3s] a\n1s: b", ["line 1", "line 2", "overlap"]),
        ("3s: a\n0s: b", ["line 2", "frame 0", "line 1", "frame 48"]),
        ("3s: a\n48: b", ["line 2", "frame 48", "line 1"]),
        ("0s: a\n7s: b", ["line 2", "'7s'", "past the end", "96 pixel frames = 6.00 s"]),
        ("0s: a\n[3s-6.5s] b", ["line 2", "'6.5s'", "past the end"]),
        ("0: a\n101%: b", ["line 2", "'101%'", "past the end"]),
        ("0s: a\n6s: b", ["line 2", "starts at the end"]),
        ("0s: a\n" + "9" * 5000 + ": b", ["past the end"]),
        ("-1s: a", ["line 1", "before the video"]),
        ("[3-2s] a", ["line 1", "ends at frame 32", "frame 48"]),
        ("a\n3s: b", ["line 2", "before it has none"]),
        ("0s: a | 3s: b", ["'3s: b'", "behind a '|'"]),
        ("0s: a\n| 3s: b", ["'3s: b'", "behind a '|'"]),
        ("a | 3s: b", ["'3s: b'", "behind a '|'"]),
        ("[0-3s] a\n[3-6x] b", ["line 2", "cannot be read"]),
        ("[0-3x] a", ["line 1", "cannot be read"]),
        ("0s: a\n3m: b", ["line 2", "cannot be read"]),
        ('{"0": "a", "48": }', ["line 1, column 18", '"6s"']),
        ('\n{"0": "a",\n 48: "b"}', ["line 3, column 2"]),
        ("\n0s: a\n\n9s: b", ["line 4"]),
        ('{"0": "a",\n 48: "b"}', ["line 2, column 2", '"6s"']),
        ("{red|blue} car", ["line 1, column 2"]),
        ("{}", ["empty JSON object"]),
        ('["a", "b"]', ["JSON list"]),
        ('{"0": 3}', ["time '0'", "not a text"]),
        ('{"0": {"1": "a"}}', ["time '0'", "not a text"]),
        ('{"0": " "}', ["time '0'", "no prompt"]),
        ('{"soon": "a"}', ["time 'soon'", "cannot be read"]),
        ('{"0": "a", "0": "b"}', ["time '0'", "frame 0"]),
        ('{"0": "a", "200": "b"}', ["time '200'", "past the end"]),
        ('{"0-3s": "a", "32": "b"}', ["time '0-3s'", "time '32'", "overlap"]),
        ('{"0":' * 100_000, ["JSON"]),
        ('{"0": ' + "9" * 5000 + "}", ["JSON"]),
    ],
)
def test_errors_say_what_is_wrong(text, words):
    with pytest.raises(TimelineError) as e:
        parse_timeline(text, LENGTH, FPS)
    assert str(e.value).startswith("events")
    assert [word for word in words if word not in str(e.value)] == []
    assert len(str(e.value)) < 500


@pytest.mark.parametrize("length, fps, word", [(0, 16, "length"), (9, 0, "fps"), (9, float("nan"), "fps")])
def test_bad_length_and_fps(length, fps, word):
    with pytest.raises(TimelineError, match=f"^{word} "):
        parse_timeline("a", length, fps)


def test_equal_spans_cover_every_frame_once():
    for length in (1, 2, 7, 49, 293, 1001):
        for n in range(1, min(length, 60) + 1):
            events = parse_timeline("|".join("a" * n), length, FPS)
            frames = [f for e in events for f in range(e.start, e.end)]
            assert frames == list(range(length))
            sizes = {e.end - e.start for e in events}
            assert max(sizes) - min(sizes) <= 1


def test_dialects_round_trip():
    rng = random.Random(0)
    for _ in range(300):
        length, fps = rng.randint(1, 400), rng.choice([8.0, 16.0, 23.976, 30.0])
        starts = sorted({0, *rng.sample(range(length), min(length, rng.randint(1, 6)))})
        expected = [(f"p{i}: x", s, e) for i, (s, e) in enumerate(zip(starts, [*starts[1:], length], strict=True))]
        as_seconds = "\n".join(f"{s / fps:.4f}s: {t}" for t, s, _ in expected)
        as_ranges = "\n".join(f"[{s}-{e}] {t}" for t, s, e in expected)
        as_percent = json.dumps({f"{100 * s / length:.5f}%": t for t, s, _ in reversed(expected)})
        for text in (as_seconds, as_ranges, as_percent):
            assert brief(text, length, fps) == expected


def test_random_text_never_breaks_it():
    rng = random.Random(1)
    pieces = [*'abc 0123456789.:|-[]{}"\\%sf\n\r\t,()', "[0-3s] ", "\n3s: ", '{"0": "a"', '"48": ', "\u0663",
              "\u017f", "\u2013", "\U0001f534", "\u05d0", "nan", "1e9", "\u2028", "\x00", "9" * 30,
              "null", "\\ud800"]  # fmt: skip
    accepted = 0
    for _ in range(6000):
        text = "".join(rng.choices(pieces, k=rng.randint(0, 25)))
        try:
            events = parse_timeline(text, 48, 16.0)
        except TimelineError:
            continue
        accepted += 1
        assert events[0].start == 0 and events[-1].end == 48
        assert all(e.text.strip() and e.end > e.start for e in events)
        assert all(a.end == b.start for a, b in zip(events, events[1:], strict=False))
        for centre in (-1.0, 0.0, 13.3, 48.0):
            assert sum(w for _, w in span_weights(spans(events, 1), centre)) == pytest.approx(1)
    assert 1000 < accepted < 5900


def test_span_weights():
    events = parse_timeline("a | b | c", LENGTH, FPS)
    hard = spans(events)
    assert hard[1] == Span(index=1, start=32, end=64, blend=0, total=96)
    assert [span_weights(hard, c) for c in (-5, 0, 31.9, 32, 63.9, 64, 96, 200)] == [
        [(i, 1.0)] for i in (0, 0, 0, 1, 1, 2, 2, 2)
    ]
    soft = spans(events, 8)
    assert span_weights(soft, 28) == [(0, 1.0)]
    assert span_weights(soft, 30) == [(0, 0.75), (1, 0.25)]
    assert span_weights(soft, 32) == [(0, 0.5), (1, 0.5)]
    assert span_weights(soft, 36) == [(1, 1.0)]
    assert span_weights(soft, 62) == [(1, 0.75), (2, 0.25)]
    with pytest.raises(ValueError, match="spans"):
        span_weights([], 0)


def test_weights_sum_to_one_and_change_smoothly():
    for blend in (1, 5, 32):
        s = spans(parse_timeline("a | b | c", LENGTH, FPS), blend)
        rows = []
        for step in range(-8, 4 * LENGTH + 8):
            weights = dict(span_weights(s, step / 4))
            assert 1 <= len(weights) <= 2 and all(0 < w <= 1 for w in weights.values())
            assert sum(weights.values()) == pytest.approx(1)
            rows.append([weights.get(i, 0.0) for i in range(3)])
        jumps = (torch.tensor(rows).diff(dim=0)).abs().max().item()
        assert jumps == pytest.approx(0.25 / blend, abs=1e-6)


@pytest.mark.parametrize("blend", [-1, 33, float("nan")])
def test_blend_must_fit_the_shortest_event(blend):
    with pytest.raises(TimelineError, match="^blend .* 0 to 32"):
        spans(parse_timeline("a | b | c", LENGTH, FPS), blend)


@pytest.mark.parametrize(
    "global_prompt, ordinary, locals_",
    [
        ("a city. ", "a city. ", ["a city, day", "a city, night"]),
        ("", "day, night", ["day", "night"]),
        (" \n", "day, night", ["day", "night"]),
        ("...", "...", ["day", "night"]),
    ],
)
def test_join_prompts(global_prompt, ordinary, locals_):
    assert timeline.join_prompts(global_prompt, parse_timeline("day | night", LENGTH, FPS)) == (ordinary, locals_)
