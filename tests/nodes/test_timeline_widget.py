"""The timeline widget without a browser: the writer, the route that the widget asks, and the widget's pure part."""

import asyncio
import dataclasses
import json
import random

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer
from longtake.nodes.routes import timeline as timeline_route
from longtake.samplers.adapters.timeline import SPAN_KEY, window_entries
from longtake.samplers.adapters.window import VideoFrames
from longtake.samplers.prompts.timeline import (
    MOST_EVENTS,
    TimelineError,
    equal_borders,
    parse_timeline,
    read_timeline,
    spans,
)
from longtake.samplers.prompts.writer import Edit, write_timeline
from longtake.samplers.windows import WindowSettings, local_windows

LENGTH, FPS = 96, 16.0  # 6 seconds


def edits(text, length=LENGTH, fps=FPS):
    return [Edit(e.text, e.start, i) for i, e in enumerate(parse_timeline(text, length, fps))]


def changed(source, index, **values):
    out = edits(source)
    out[index] = dataclasses.replace(out[index], **values)
    return write_timeline(source, out, LENGTH, FPS)


TEXTS = [
    "a",
    " a\n more of a ",
    "a | b | c",
    "a|b\n|\n\nc\n",
    "a \\| x | b",
    "[0-2s] a\n[2-4s] b\n[4-6s] c",
    "\n [0s-2s] a\n\n  [32f - 64f]: b\n[4s\u20136s]c\n\n",
    "0s: a\n2s: b\n4s: c",
    "0F: a\n2 S : b\nsecond line\n\n  third  \n66.7%: c",
    "3s:\na\n\n4s:  b",
    "[1-2s] a\n[4-5s] b",
    '{"0": "a", "32": "b", "64": "c"}',
    ' { "4s": "c", "0-2s": "a",\n "33.3%"  : "b \\u00e9 \\" | 3s: x" }\n',
]


@pytest.mark.parametrize("text", TEXTS)
def test_nothing_changed_is_the_same_text(text):
    assert write_timeline(text, edits(text), LENGTH, FPS) == text


@pytest.mark.parametrize(
    "text, index, values, expected",
    [
        # prompts
        ("a | b|c", 1, {"text": "x\ny"}, "a | x\ny|c"),
        ("a", 0, {"text": "x | y"}, "x \\| y"),
        ("0s: a\n\n[2-6s]  b\n", 1, {"text": " x "}, "0s: a\n\n[2-6s]  x\n"),
        ("0s: a\n2s: b", 0, {"text": "x\n\n3 dogs\ny"}, "0s: x 3 dogs\ny\n2s: b"),
        ('{"3s": "b",\n  "0":  "a"}', 0, {"text": 'say "\u05d0"'}, '{"3s": "b",\n  "0":  "say \\"\u05d0\\""}'),
        # borders keep their unit
        ("0s: a\n2s: b\n4s: c", 1, {"start": 40}, "0s: a\n2.5s: b\n4s: c"),
        ("0s: a\n2s: b\n4s: c", 1, {"start": 33}, "0s: a\n2.06s: b\n4s: c"),
        ("0: a\n32f: b", 1, {"start": 40}, "0: a\n40f: b"),
        ("0: a\n 50% : b", 1, {"start": 40}, "0: a\n 42% : b"),
        ("[0-2s] a\n[2-4s] b\n[4-6s] c", 1, {"start": 40}, "[0-2.5s] a\n[2.5-4s] b\n[4-6s] c"),
        ("[0-32] a\n[32-64f] b", 1, {"start": 31}, "[0-31] a\n[31-64f] b"),
        ('{"4s": "c", "0-2s": "a", "2s": "b"}', 1, {"start": 8}, '{"4s": "c", "0-0.5s": "a", "0.5s": "b"}'),
        # gaps stay while they can
        ("[1-2s] a\n[4-5s] b", 1, {"start": 48}, "[1-2s] a\n[3-5s] b"),
        ("[1-2s] a\n[4-5s] b", 1, {"start": 24}, "[1-1.5s] a\n[1.5-5s] b"),
        ("[1-2s] a\n[4-5s] b", 1, {"start": 8}, "[0-0.5s] a\n[0.5-5s] b"),
        ("[1-2s] a\n[4-5s] b", 1, {"start": 90}, "[1-2s] a\n[5.6-6s] b"),
        # equal parts have no times, a line cannot hold everything
        ("a | b | c", 1, {"start": 40}, "0s: a\n2.5s: b\n4s: c"),
        ("a | b", 0, {"text": "3s: x"}, "0s: 3s: x\n3s: b"),
        ("a | b", 0, {"text": "{x}"}, "0s: {x}\n3s: b"),
        ("0s: a\n3s: b", 0, {"text": "x | 3s: y"}, '{\n  "0s": "x | 3s: y",\n  "3s": "b"\n}'),
    ],
)
def test_one_change(text, index, values, expected):
    assert changed(text, index, **values) == expected


PASTED = [  # text, its way, and how the nearest own way says it, with the first prompt changed to "x"
    ('"0" :"a",\n"48" :"b"\n', "lines", "0s: x\n3s: b"),
    ("0\uff1aa\n48\uff1ab", "lines", "0s: x\n3s: b"),
    ("- 0:00 a\n- 0:03 b", "lines", "0s: x\n3s: b"),
    ("0: (a), 48: (b)", "lines", "0s: x\n3s: b"),
    ("Scene 1 (0-2s): a\nScene 2 (2-6s): b | c", "lines", "0s: x\n2s: b | c"),
    ("1. a\n2. b\n3) c", "equal", "x | b | c"),
    ("**Scene 1:** a\n**Scene 2:** b {c|d}", "equal", "x | b {c|d}"),
    ('{"0 sec": "a", "48 frames": "b"}', "json", '{\n  "0s": "x",\n  "3s": "b"\n}'),
    ('{"1": "a", "2": "b"}', "equal", "x | b"),
    ("```\n0s: a\n3s: b\n```", "lines", "0s: x\n3s: b"),
]


@pytest.mark.parametrize(("text", "way", "expected"), PASTED)
def test_pasted_texts_stay_until_they_are_edited(text, way, expected):
    reading = read_timeline(text, LENGTH, FPS)[1]
    assert (reading.way, reading.own) == (way, False)
    assert write_timeline(text, edits(text), LENGTH, FPS) == text
    assert changed(text, 0, text="x") == expected
    assert ask(text=text)["way"] == way and ask(text=text)["text"] == text


def test_edits_never_write_numbers_that_read_as_a_list():
    assert changed("0: a\n40: b", 1, start=1) == "0s: a\n0.06s: b"
    assert changed('{"0": "a", "40": "b"}', 1, start=1) == '{\n  "0s": "a",\n  "0.06s": "b"\n}'
    assert changed("1: a\n40: b", 1, start=2) == "0s: a\n0.1s: b"
    assert changed("a {x|y} | b", 1, text="c") == "a {x|y} | c"
    assert changed("a\uff5cb | c", 1, text="x") == "a\uff5cx | c"


def test_add_delete_reorder():
    text = "[0-2s] a\n[2-4s] b\n\n[4-6s] c\n"
    a, b, c = edits(text)
    write = lambda *out: write_timeline(text, list(out), LENGTH, FPS)  # noqa: E731
    assert write(a, c) == "[0-4s] a\n[4-6s] c\n"
    assert write(Edit("b", 0, 1), c) == "[0-4s] b\n[4-6s] c\n"
    assert write(a, Edit("x", 16), b, c) == "[0-1s] a\n[1-2s] x\n\n[2-4s] b\n\n[4-6s] c\n"
    assert write(Edit("b", 0, 1), Edit("a", 32, 0), c) == "[0-2s] b\n[2-4s] a\n\n[4-6s] c\n"
    assert write_timeline("", [Edit("x", 0)], LENGTH, FPS) == "x"
    assert write_timeline("a | b", [Edit("a", 0, 0), Edit("b", 32, 1), Edit("x", 64)], 96, FPS) == "a | b | x"
    json_text = '{"4s": "c", "0": "a"}'
    a, c = edits(json_text)
    assert write_timeline(json_text, [a, Edit("x", 32), c], 96, FPS) == '{"4s": "c", "0": "a", "32": "x"}'
    assert write_timeline(json_text, [Edit("c", 0, 1), Edit("a", 32, 0)], 96, FPS) == '{"0s": "c", "32": "a"}'


@pytest.mark.parametrize(
    "out, words",
    [
        ([], "at least one event"),
        ([Edit("a", 1)], "must start at frame 0"),
        ([Edit(" ", 0)], "event 1 has no prompt"),
        ([Edit("a", 0, 2)], "the text has 2"),
        ([Edit("a", 0), Edit("b", 0)], "event 1 starts at frame 0 and ends at frame 0"),
        ([Edit("a", 0), Edit("b", 96)], "event 2"),
    ],
)
def test_writer_refuses(out, words):
    with pytest.raises(TimelineError, match=words):
        write_timeline("a | b", out, LENGTH, FPS)


def test_any_edit_reads_back_as_it_was_meant():
    """Random texts of all ways, random edits: the written text says exactly what was asked for."""
    rng = random.Random(5)
    words = ["a", "red circle", "3 dogs", "x: y", "\u05d0\u05d1 \U0001f534", "(b:1.2)", "100%", "[blue]", "a | b",
             "\n\nmore", "{", '"', "\\", "3s:", "16:9", "\u2028", "[0-2] z"]  # fmt: skip
    ways = set()
    for _ in range(1500):
        length, fps = rng.choice([(96, 16.0), (293, 16.0), (10_000, 23.976), (7, 1000.0), (500, 0.01)])
        text = rng.choice(TEXTS)
        try:
            old = parse_timeline(text, length, fps)
        except TimelineError:
            text, old = "", []
        n = rng.randint(1, 6)
        starts = [0, *sorted(rng.sample(range(1, length), n - 1))]
        if rng.random() < 0.3:
            starts = equal_borders(n, length)[:-1]
        out = []
        for start in starts:
            origin = rng.randrange(len(old)) if old and rng.random() < 0.7 else None
            keeps = origin is not None and rng.random() < 0.6
            prompt = old[origin].text if keeps else " ".join(rng.choices(words, k=rng.randint(1, 3)))
            out.append(Edit(prompt if prompt.strip() else "a", start, origin))
        written = write_timeline(text, out, length, fps)
        got = [(e.text.split(), e.start) for e in parse_timeline(written, length, fps)]
        assert got == [(e.text.split(), e.start) for e in out]
        before = read_timeline(text, length, fps)[1].way if text else "equal"
        ways.add((before, read_timeline(written, length, fps)[1].way))
    assert {("equal", "equal"), ("equal", "lines"), ("lines", "lines"), ("json", "json")} <= ways
    assert ("json", "lines") not in ways and ("lines", "equal") not in ways


# The route.


def request(**values):
    return {"text": "a | b", "length": LENGTH, "fps": FPS, "blend": 0, "edit": None, **values}


def ask(**values):
    return timeline_route.answer(json.dumps(request(**values)).encode())


def test_route_reads_and_writes():
    assert ask() == {
        "windows": None,
        "unused": None,
        "fits": None,
        "text": "a | b",
        "way": "equal",
        "warning": None,
        "events": [{"text": "a", "start": 0, "end": 48}, {"text": "b", "start": 48, "end": 96}],
    }
    events = [{"text": "a", "start": 0, "origin": 0}, {"text": "b", "start": 32, "origin": 1}]
    moved = {"events": events, "equal": False}
    assert ask(edit=moved)["text"] == "0s: a\n2s: b"
    assert ask(edit={**moved, "equal": True})["text"] == "a | b"
    assert ask(text="0: a\n9: b", edit={**moved, "equal": True})["text"] == "0: a\n48: b"
    assert "blend (49" in ask(blend=49)["warning"]


SCHEDULER = {"window_length": 49, "overlap": 24, "schedule": "static", "shift_seed": 0}
CHUNKS = {"window_length": 49, "stride": 24}


def windows(node="LongTakeWindowScheduler", compression=4, **values):
    return {"node": node, "values": values, "compression": compression}


def test_route_says_which_window_gets_which_prompt():
    def got(text, length=97, blend=0, **asked):
        found = ask(text=text, length=length, blend=blend, windows=windows(**asked))["windows"]
        return [(w["start"], w["end"], w["events"]) for w in found]

    assert got("a | b", **SCHEDULER) == [
        (0, 49, [[0, 1.0]]), (25, 77, [[1, 1.0]]), (45, 97, [[1, 1.0]]),
    ]  # fmt: skip
    assert got("a | b", blend=8, **SCHEDULER)[1] == (25, 77, [[0, 0.312], [1, 0.688]])  # centre at 50.5, border at 49
    assert got("a | b", node="LongTakeSynCoSSampler", window_length=49, stride=28) == got("a | b", **SCHEDULER)
    assert got("a | b", node="LongTakeSynCoSKSampler", compression=8, window_length=49, stride=24)[0][:2] == (0, 49)
    assert got("a | b", length=49, **SCHEDULER) == [(0, 49, [])]  # one window: sampled with the global prompt
    shifted = got("a", length=293, **{**SCHEDULER, "schedule": "random_shift", "shift_seed": 5})
    assert shifted[1][0] != 25 and shifted[-1][1] == 293
    loop = got("a | b", **SCHEDULER, closed_loop=True)
    assert [w[:2] for w in loop] == [(0, 49), (0, 21), (21, 73), (45, 97), (69, 97)]  # the last one around the end
    assert loop[1][2] == loop[-1][2]
    assert ask(windows=windows(**SCHEDULER), blend=90)["windows"] is None  # a timeline that cannot run
    assert len(got(" | ".join("ab" * 100), length=10_000, window_length=81, overlap=80)) > 2400


@pytest.mark.parametrize("blend", [0, 12])
def test_windows_get_the_prompts_that_sampling_gives_them(blend):
    settings = WindowSettings(13, 6)
    line = spans(parse_timeline("0: a\n40: b\n60: c\n63: d\n150: e" if not blend else "a | b | c | d", 293, FPS), blend)
    shown = timeline_route.window_events(settings, line)
    entries = [{SPAN_KEY: None}, *({SPAN_KEY: span, "model_conds": {}} for span in line)]
    real = local_windows(settings, 74, 0)
    assert len(shown) == len(real) > 5
    for window, place in zip(real, shown, strict=True):
        (entry,) = window_entries(entries, VideoFrames(window.indices), "local", 4)
        assert max(place["events"], key=lambda event: event[1])[0] == entry[SPAN_KEY].index
        assert sum(weight for _, weight in place["events"]) == pytest.approx(1)
    assert any(len(place["events"]) == 2 for place in shown) == bool(blend)


BAD = [
    b"", b"null", b"[]", b"{}", b"{", b"\xff\xfe", b"[" * 100_000, b'{"text": ' + b"9" * 6000 + b"}",
    *(
        json.dumps(request(**values)).encode()
        for values in (
            {"text": 3}, {"text": None}, {"text": ""}, {"text": "0s: a\n-9s: b"}, {"length": 0}, {"length": 1e3},
            {"length": 10**400}, {"length": True}, {"length": "96"}, {"fps": 0}, {"fps": float("nan")},
            {"fps": float("inf")}, {"blend": -1}, {"edit": 3}, {"edit": []}, {"edit": {}},
            {"edit": {"events": [], "equal": False}}, {"edit": {"events": [3], "equal": False}},
            {"edit": {"events": [{"text": "a", "start": 0}], "equal": 1}},
            {"edit": {"events": [{"text": "a", "start": 1}], "equal": False}},
            {"edit": {"events": [{"text": "a", "start": 0, "origin": 9}], "equal": False}},
            {"edit": {"events": [{"text": "a", "start": 0}] * 6000, "equal": True}},
            {"edit": {"events": [{"text": "a", "start": 0}] * (MOST_EVENTS + 1), "equal": True}, "length": 10_000},
            {"windows": 3}, {"windows": []}, {"windows": {}}, {"windows": windows("KSampler")},
            {"windows": windows("LongTakeSynCoSSampler", window_length=24, stride=25)},
            *({"windows": windows(**{**SCHEDULER, name: value})} for name, value in (
                ("window_length", 0), ("window_length", "49"), ("window_length", 10**9), ("overlap", 49),
                ("overlap", 1.5), ("schedule", "none"), ("schedule", []), ("shift_seed", -1), ("shift_seed", None),
            )),
            *({"windows": windows(compression=value, **SCHEDULER)} for value in (0, 65, 4.0, None, "4")),
            {"windows": windows(window_length=1, overlap=0), "length": 45_000},
            {"windows": windows(window_length=49, overlap=48), "length": 1_000_000},
            {"windows": windows(window_length=16384, overlap=16380), "length": 30_000},
            {"windows": windows(window_length=5, overlap=4), "text": "a |" * 499 + "b", "length": 30_000},
            {"text": "a |" * MOST_EVENTS + "b", "length": 30_000},
        )
    ),
    b" " * (timeline_route.MAX_BYTES + 1),
]  # fmt: skip


def post_all(bodies):
    """(status, answer) of each body, from a real HTTP server with the route."""

    async def run():
        app = web.Application()
        app.router.add_post(timeline_route.PATH, timeline_route.handle)
        async with TestClient(TestServer(app)) as client:
            out = []
            for body in bodies:
                async with client.post(timeline_route.PATH, data=body) as response:
                    out.append((response.status, await response.json()))
            return out

    return asyncio.run(run())


def test_route_refuses_with_a_message():
    for body, (status, reply) in zip(BAD, post_all(BAD), strict=True):
        assert status == 400 and 10 < len(reply["error"]) < 600, body[:200]


def test_route_never_fails_on_random_requests():
    """10,000 requests, from valid to noise: 200 with a readable text, or 400 with a message."""
    rng = random.Random(7)
    pieces = [*'ab |:[]{}"\\%sf\n-.0123456789', "[0-3s] ", "\n3s: ", '{"0": "a"', ', "48": "b"}', "\ufeff", "\u2013",
              "\u0663", "\U0001f534", "\u05d0", "\ud800", "9" * 40, "\x00", "\u2028"]  # fmt: skip
    odd = [None, True, False, -1, 0, 1, 1.5, 7, 48, 96, 10**9, 10**30, "", "x", [], {}, [[]], float("nan"), 1e308]

    def text():
        return rng.choice(TEXTS) if rng.random() < 0.5 else "".join(rng.choices(pieces, k=rng.randint(0, 20)))

    def body():
        values = request(text=text(), length=rng.choice([1, 2, 48, 96, 96, 96, 293]))
        if rng.random() < 0.7:
            n = rng.randint(1, 4)
            starts = sorted(rng.sample(range(96), n)) if rng.random() < 0.5 else [0, 16, 40, 50][:n]
            events = [{"text": text() or "a", "start": s, "origin": rng.choice([None, 0, 1, 2])} for s in starts]
            values["edit"] = {"events": events, "equal": rng.random() < 0.3}
            if rng.random() < 0.2:
                key = rng.choice(["events", "equal", "text", "start", "origin"])
                rng.choice([values["edit"], *events])[key] = rng.choice(odd)
        if rng.random() < 0.4:
            asked = windows(**SCHEDULER) if rng.random() < 0.6 else windows("LongTakeSynCoSSampler", **CHUNKS)
            values["windows"] = asked
            if rng.random() < 0.4:
                where = rng.choice([asked, asked["values"]])
                where[rng.choice(list(where))] = rng.choice([*odd, 13, 25, "random_shift", "LongTakeSynCoSKSampler"])
        if rng.random() < 0.2:
            values[rng.choice(list(values))] = rng.choice(odd)
        data = bytearray(json.dumps(values).encode())
        if rng.random() < 0.15:
            for _ in range(rng.randint(1, 5)):
                data[rng.randrange(len(data))] = rng.randrange(256)
        return bytes(data)

    statuses, drawn = {200: 0, 400: 0}, 0
    for status, reply in post_all([body() for _ in range(10_000)]):
        statuses[status] += 1  # KeyError: any other status
        if status == 200:
            assert reply["events"][0]["start"] == 0 and reply["text"].strip()
            drawn += bool(reply["windows"])
        else:
            assert reply["error"]
    assert min(statuses.values()) > 1500 and drawn > 500


def test_server_answers_the_route(comfy_server):
    status, reply = comfy_server.request(timeline_route.PATH, request())
    assert status == 200 and [e["start"] for e in reply["events"]] == [0, 48]
    status, reply = comfy_server.request(timeline_route.PATH, request(fps=0))
    assert status == 400 and "fps" in str(reply)


def test_route_answers_with_the_report_where_it_is_given_a_global_prompt():
    def ask(**more):
        body = {"text": "a | b", "length": 97, "fps": 4, "blend": 0, **more}
        return timeline_route.answer(json.dumps(body).encode())

    assert "report" not in ask()
    assert "| 1 | 0 - 48 | 0.00 - 12.25 | g, a |" in ask(global_prompt="g")["report"].splitlines()
    with pytest.raises(ValueError, match="global_prompt is missing or of the wrong type"):
        ask(global_prompt=3)
