"""Timelines as people have them from other tools, subtitles, lists and language models; and plain prompts that must not
be taken for one."""

import random

import pytest
from longtake.samplers.prompts import marks, timeline
from longtake.samplers.prompts.timeline import MOST_EVENTS, TimelineError, parse_timeline

LENGTH, FPS = 97, 16.0


def brief(text):
    return [(event.text, event.start) for event in parse_timeline(text, LENGTH, FPS)]


TIMED = [("day", 0), ("night", 48)]
LISTED = [("day", 0), ("night", 49)]

SCHEDULES = [
    '"0" :"day",\n"48" :"night"', '"0": "day", "48": "night"', '"0": "day"\n"48": "night"',
    "'0': 'day', '48': 'night',", "\u201c0\u201d: \u201cday\u201d,\n\u201c48\u201d: \u201cnight\u201d",
    "\xab0\xbb: \xabday\xbb, \xab48\xbb: \xabnight\xbb", '"0":"day";"48":"night"',
    ' "0" : "day" ,\r\n "48" : "night" ,\r\n', '"0s": "day", "3s": "night"', '"0s: day",\n"3s: night"',
    "0: (day), 48: (night)", "0:(day), 48:(night)", "0: (day),\n48: (night)", '0: "day",\n48: "night"',
    "0: day, 48: night", "0: day; 48: night", "0s: day, 3s: night", "0s: day / 3s: night", "0s: day -> 3s: night",
    "0 -> day, 48 -> night", "(0) day, (48) night", "0:day\n48:night", "0=day\n48=night", "0\tday\n48\tnight",
    "0s,day\n3s,night", "0s | day\n3s | night", "0 -> day\n48 -> night", "frame 0: day, frame 48: night",
    '0 s: "day", 3 s: "night"',
]  # fmt: skip
SIGNS = [
    "0s\uff1aday\n3s\uff1anight", "\uff3b0-3s\uff3d day\n\uff3b3-6s\uff3d night",
    "\uff08\uff10\u79d2\uff09day\n\uff08\uff13\u79d2\uff09night", "\u30100s\u3011day\n\u30103s\u3011night",
    "\uff10\uff1aday\n\uff14\uff18\uff1anight", "\u0660s: day\n\u0663s: night", "0s\u2236 day\n3s\u2236 night",
    "0\xa0sec:\xa0day\n3\xa0sec:\xa0night", "\u202f0s: day\n\u200b3s: night", "0s: day\u20283s: night",
    "0s: day\r\n3s: night\r\n", "0\u79d2\uff1aday\n3\u79d2\uff1anight",
    "\u7b2c0\u5e27\uff1aday\n\u7b2c48\u5e27\uff1anight", "0s \u2013 3s: day\n3s \u2014 6s: night",
    "0s \u2192 3s: day\n3s \u2192 6s: night",
]  # fmt: skip
UNITS = [
    "0 sec: day\n3 sec: night", "0 seconds: day\n3 seconds: night", "0 Sec. day\n3 Sec. night",
    "0 frames: day\n48 frames: night", "0 percent: day\n49.5 percent: night", "0 %: day\n49.5 %: night",
    "0ms: day\n3000 ms: night", "0 sec: day\n48 frames: night", "0s day\n3s night", "frame 0: day\nframe 48: night",
    "Frames 0-47: day\nFrames 48-96: night", "Frame 0 - day\nFrame 48 - night", "Frame 0\nday\nFrame 48\nnight",
    "frame_0: day\nframe_48: night", "F0: day\nF48: night", "[frame 0] day\n[frame 48] night",
    "keyframe 0: day\nkeyframe 48: night", "second 0: day\nsecond 3: night", "at 0s: day\nat 3s: night",
    "@0s day\n@3s night", "At 0s: day, at 3s: night", "From 0s to 3s: day\nFrom 3s to 6s: night",
    "0 to 3 seconds: day\n3 to 6 seconds: night", "From frame 0 to frame 48: day\nFrom frame 48 to frame 97: night",
    "0s ~ 3s: day\n3s ~ 6s: night", "0s..3s: day\n3s..6s: night", "time: 0s - day\ntime: 3s - night",
    "t=0s day\nt=3s night", "T+0s: day\nT+3s: night", "0'00\" day\n0'03\" night", "0,0s: day\n3,0s: night",
]  # fmt: skip
CLOCKS = [
    "0:00 day\n0:03 night", "00:00 - day\n00:03 - night", "00:00:00 day\n00:00:03.0 night", "0:00: day\n0:03: night",
    "[00:00] day\n[00:03] night", "(0:00) day\n(0:03) night", "[0:00-0:03] day\n[0:03-0:06] night",
    "[00:00.00]day\n[00:03.00]night", "0m0s: day\n0m3s: night", "0 min 0 s: day\n0 min 3 s: night",
    "0:00 day, 0:03 night", "0:00\u20130:03 day\n0:03\u20130:06 night",
    "1\n00:00:00,000 --> 00:00:03,000\nday\n\n2\n00:00:03,000 --> 00:00:06,000\nnight\n",
    "WEBVTT\n\n00:00.000 --> 00:03.000\nday\n\n00:03.000 --> 00:06.000 align:start\nnight",
]  # fmt: skip
MARKDOWN = [
    "- 0s: day\n- 3s: night", "* 0s: day\n* 3s: night", "\u2022 0s: day\n\u2022 3s: night",
    "- [ ] 0s: day\n- [x] 3s: night", "> 0s: day\n> 3s: night", "**0s:** day\n**3s:** night",
    "**0s**: day\n**3s**: night", "__0s__ day\n__3s__ night", "`0s` day\n`3s` night", "**0s: day**\n**3s: night**",
    "## 0s\nday\n## 3s\nnight", "### 0s - 3s\nday\n\n### 3s - 6s\nnight",
    "- **0:00\u20130:03:** day\n- **0:03\u20130:06:** night", "```\n0s: day\n3s: night\n```",
    '```json\n{"0": "day", "48": "night"}\n```', "\u23f1 0s: day\n\u23f1 3s: night", "0s - day\n3s - night",
    "0s \u2013 day\n3s \u2014 night", "0s-day\n3s-night", "0 - day\n48 - night", "[0-48] day [48-97] night",
    "[0-48]\nday\n[48-97]\nnight", "(0-3s) day\n(3-6s) night", "<0s> day\n<3s> night", "0s) day\n3s) night",
]  # fmt: skip
SCENES_WITH_TIMES = [
    "Scene 1 (0-3s): day\nScene 2 (3-6s): night", "Shot 1, 0:00-0:03: day\nShot 2, 0:03-0:06: night",
    "Scene 1: 0-3s: day\nScene 2: 3-6s: night", "Scene 1\n0-3s: day\nScene 2\n3-6s: night",
    "Scene 1:\n**Time:** 0-3s\nday\nScene 2:\n**Time:** 3-6s\nnight",
    "**Scene 1 (0:00\u20130:03)**\nday\n\n**Scene 2 (0:03\u20130:06)**\nnight", "1. (0s-3s) day\n2. (3s-6s) night",
    "1) 0:00-0:03 day\n2) 0:03-0:06 night", "1. **0-3s**: day\n2. **3-6s**: night",
    "Segment 1 [0-48]: day\nSegment 2 [48-97]: night", "Clip 1 (frames 0-48): day\nClip 2 (frames 48-97): night",
    '{"0 sec": "day", "3 sec": "night"}', '{"0:00": "day", "0:03": "night"}',
    '{"frame 48": "night", "frame 0": "day"}',
]  # fmt: skip

TIMES_ELSEWHERE = [*SCHEDULES, *SIGNS, *UNITS, *CLOCKS, *MARKDOWN, *SCENES_WITH_TIMES]
LISTS = [
    "1. day\n2. night", "1) day\n2) night", "(1) day\n(2) night", "[1] day\n[2] night", "1: day\n2: night",
    "1 - day\n2 - night", "1.day\n2.night", "\uff11\uff0e day\n\uff12\uff0e night", "1\u3001day\n2\u3001night",
    "\u2460 day\n\u2461 night", "1\ufe0f\u20e3 day\n2\ufe0f\u20e3 night", "#1 day\n#2 night",
    "1/2: day\n2/2: night", "1. day\n1. night", "0. day\n1. night", "1st: day\n2nd: night", "a) day\nb) night",
    "I. day\nII. night", "1) day 2) night", "1. day, 2. night", "1. day | 2. night", "1. day |\n2. night",
    "1\nday\n2\nnight", '"1": "day", "2": "night"', '{"2": "night", "1": "day"}', "Frame 1: day\nFrame 2: night",
    "Scene 1: day\nScene 2: night", "SHOT 1: day\nSHOT 2: night", "Scene 1 - day\nScene 2 - night",
    "Scene1: day\nScene2: night", "Scene #1: day\nScene #2: night", "Scene 1/2: day\nScene 2/2: night",
    "Scene 1\nday\n\nScene 2\nnight", "[Scene 1] day\n[Scene 2] night", "## Scene 1\nday\n\n## Scene 2\nnight",
    "**Scene 1:** day\n**Scene 2:** night", "- Scene 1: day\n- Scene 2: night",
    "Scene 1: day\n---\nScene 2: night", "Scene one: day\nScene two: night", "Scene I: day\nScene II: night",
    "Part A: day\nPart B: night", "First scene: day\nSecond scene: night",
    "Scene 1 (at home): day\nScene 2 (away): night", "Event 1: day\nEvent 2: night",
    "Local prompt 1: day\nLocal prompt 2: night", "Scene 1: day Scene 2: night", "Scene 1: day | Scene 2: night",
    "\u573a\u666f1\uff1aday\n\u573a\u666f2\uff1anight",
    "\u7b2c\u4e00\u5e55\uff1aday\n\u7b2c\u4e8c\u5e55\uff1anight", '{"Scene 1": "day", "Scene 2": "night"}',
    "day\uff5cnight",
]  # fmt: skip


@pytest.mark.parametrize("text", TIMES_ELSEWHERE, ids=ascii)
def test_times_of_other_tools(text):
    assert brief(text) == TIMED


@pytest.mark.parametrize("text", LISTS, ids=ascii)
def test_numbers_of_a_list_are_equal_parts(text):
    assert brief(text) == LISTED


@pytest.mark.parametrize(
    ("day", "night"),
    [
        ("3 dogs: run, 2 cats", "16:9 film, 4 cats."), ("day 1", "night 2"), ("1. FC wins", "2 dogs - 3 cats"),
        ("a man says: 'go', then (red:1.2) [x]", "5 minutes later, he sits; 80s look"),
        ("part 2 of it", "scene by the sea"),
    ],
)  # fmt: skip
def test_no_prompt_is_taken_for_a_time(day, night):
    """Whatever the prompts, each way to write times gives both of them whole, or an error."""
    read = 0
    for text, starts in [(t, TIMED) for t in TIMES_ELSEWHERE] + [(t, LISTED) for t in LISTS if t != "1.day\n2.night"]:
        text = text.replace("day", "DAY").replace("night", "NIGHT").replace("DAY", day).replace("NIGHT", night)
        try:
            assert brief(text) == [(day, starts[0][1]), (night, starts[1][1])], text
            read += 1
        except TimelineError:
            pass
    assert read > 160


def test_times_round_to_the_same_frames_in_every_form():
    rng = random.Random(0)
    for _ in range(200):
        length, fps = rng.randint(3, 400), rng.choice([8.0, 16.0, 23.976])
        starts = sorted({0, *rng.sample(range(2, length), min(length - 2, rng.randint(1, 5)))})
        said = [(f"p{i}: x", start) for i, start in enumerate(starts)]
        pairs = ",\n".join(f'"{start}" :"{text}"' for text, start in said)
        clock = "\n".join(f"- **{int(s / fps) // 60}:{s / fps % 60:06.3f}** - {text}" for text, s in said)
        words = "\n".join(f"{100 * start / length:.4f} percent - {text}" for text, start in said)
        for text in (pairs, clock, words):
            assert [(e.text, e.start) for e in parse_timeline(text, length, fps)] == said


def test_three_in_a_list_and_what_belongs_to_its_prompts():
    assert brief("1: day\n2: night\n3: dawn") == [("day", 0), ("night", 32), ("dawn", 65)]
    assert brief("1. **a** dog\n   and\n   3 cats\n2. 16:9 film") == [("**a** dog\nand\n3 cats", 0), ("16:9 film", 49)]
    assert brief("1: 3 dogs\n2: 4 cats") == [("3 dogs", 0), ("4 cats", 49)]
    assert brief("1 - day\n2 - 2 dogs") == brief("1: day\n2: 2 dogs") == [("day", 0), ("2 dogs", 49)]
    assert brief("Scene 1:3 dogs\nScene 2:4 cats") == [("3 dogs", 0), ("4 cats", 49)]
    assert brief("0 - 3 dogs\n48 - 4 cats") == [("3 dogs", 0), ("4 cats", 48)]
    assert brief("1f: a\n2f: b") == [("a", 0), ("b", 2)]  # a unit: frames
    assert brief("1: a\n3: b") == [("a", 0), ("b", 3)]


def test_what_wraps_a_prompt_goes_and_what_is_in_it_stays():
    quoted = '"0" :"it is \\"x\\", a {red|blue} ball",\n"48" :"b: (c:1.2)"'
    assert brief(quoted) == [('it is "x", a {red|blue} ball', 0), ("b: (c:1.2)", 48)]
    assert brief('"0": "a\nred ball",\n"48": "b"') == [("a\nred ball", 0), ("b", 48)]
    assert brief("0: (a:1.2), 48: (b)") == [("(a:1.2)", 0), ("b", 48)]
    assert brief("0s: a, 1 dog, 3s: b") == [("a, 1 dog", 0), ("b", 48)]
    assert brief("0s: at 0:03 he runs, 0:04 he falls\n3s: b") == [("at 0:03 he runs, 0:04 he falls", 0), ("b", 48)]
    assert brief("0s: a ratio, 16:9\n3s: (b)") == [("a ratio, 16:9", 0), ("(b)", 48)]
    assert brief('0s: "a"\n3s: "b",') == [('"a"', 0), ('"b",', 48)]  # an own way: as typed
    assert brief("0s: line\n3s: see scene 2: go") == [("line", 0), ("see scene 2: go", 48)]
    assert brief("- 0s: **a** dog\n- 3s: b") == [("**a** dog", 0), ("b", 48)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a {red|blue} ball", ["a {red|blue} ball"]), ("a [cat|dog] runs | a bird", ["a [cat|dog] runs", "a bird"]),
        ("(a|b:1.2) c | d", ["(a|b:1.2) c", "d"]), ("a {x|{y|z}} | b", ["a {x|{y|z}}", "b"]),
        ("a :( | b", ["a :(", "b"]), ("a ) | b (", ["a )", "b ("]), ("a \\( | b \\)", ["a \\(", "b \\)"]),
        ("[a (b] | c)", ["[a (b]", "c)"]), ("a \uff5bx\uff5cy\uff5d\uff5c b", ["a \uff5bx\uff5cy\uff5d", "b"]),
        ("a \\| {b|c} | d", ["a | {b|c}", "d"]), ("80s car | 90s bus", ["80s car", "90s bus"]),
        ("9:16 film | 16:9 film", ["9:16 film", "16:9 film"]), ("2 dogs | 3 cats", ["2 dogs", "3 cats"]),
        ("50% grey | 80% grey", ["50% grey", "80% grey"]),
    ],
)  # fmt: skip
def test_bars_inside_brackets_are_no_borders(text, parts):
    assert [event.text for event in parse_timeline(text, LENGTH, FPS)] == parts


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0 day\n48 night", "starts like a time"), ("0,day\n48,night", "starts like a time"),
        ("0-48 day\n48-97 night", "starts like a time"), ("0 beats: day\n3 beats: night", "starts like a time"),
        ("1 segundo: day\n3 segundos: night", "starts like a time"), ("7 am: day\n8 am: night", "starts like a time"),
        ("00:00:00:00 day\n00:00:03:00 night", "starts like a time"), ("0m: day\n1m: night", "starts like a time"),
        ("For 3 seconds: day\nFor 3 seconds: night", "behind other words"),
        ("day (0-3s)\nnight (3-6s)", "behind other words"), ("day - 0s\nnight - 3s", "behind other words"),
        ("day @0s\nnight @3s", "behind other words"), ("Keyframe at 0: a\nKeyframe at 48: b", "behind other words"),
        ("time,prompt\n0,day\n48,night", "line 2"), ("1. 0:00 day\n2. 0:03 night", "behind other words"),
        ("#0 a\n#48 b", "is number 0"), ('"0": "a --neg b", "48": "c"', "--neg"),
        ('"0": "a `(sin(t))`", "48": "c"', "another tool"), ("0:3 dogs\n48:4 cats", "starts like a time"),
        ("(0s: day)\n(3s: night)", "starts like"), ("a [0-3s] b [3-6s]", "behind other words"),
        ("Scene 1: day (0-3s)\nScene 2: night (3-6s)", "behind other words"), ("t=0: day\nt=3: night", "no unit"),
        ("0: day\n1: night\n2: dawn", "may be frames, seconds or a list"), ('{"0": "a", "1": "b"}', "may be frames"),
        ("frame 0: a\nframe 1: b", "may be frames"), ("1. day\n3. night", "is number 3, but 2 was expected"),
        ("2. a\n1. b", "is number 2, but 1"), ("Scene 1: day\nScene 3: night", "is number 3"),
        ("1. a | 3. b", "is number 3"), ("1. a | b\n2. c", "do not mix"), ("1. a\n2.", "no prompt"),
        ("0s: day 3s: night", "second time"), ("0:00 day 0:03 night", "second time"), ("(0) a (48) b", "second time"),
        ("1. day 2. night", "second"), ("0s: count 1, 2, 3: go\n3s: stop", "second time"),
        ("A story\n0 sec: a\n3 sec: b", "line 2"), ("Here:\n- 0:00 a\n- 0:03 b", "line 2"),
        ("Parts:\n1. a\n2. b", "line 2"), ("0s: a\nScene 2: b", "has a number, but other lines have times"),
        ("0s day | 3s night", "behind a '|'"), ("0:00 day | 0:03 night", "behind a '|'"),
        ("| 0s | day |\n| 3s | night |", "between '|'"), ("[day:night:0.5]", "prompt editing"),
        ("a [cat:dog:0.5] runs", "prompt editing"), ('Here: {"0": "a", "48": "b"}', "inside a prompt"),
        ('"0": "a", "max_f": "b"', "starts like a time"), ("80s car\n90s look", "past the end"),
        ("12:30 pm, a street\n12:45 pm, rain", "past the end"), ("3 seconds: a\n3 seconds: b", "starts at frame"),
        ("[0-50]", "no prompt"), ("0 sec:\n3 sec: b", "no prompt"), ("0:\n3s: b", "no prompt"),
        ("\u201c0\u201d: \u201ca\u201d\n\u201c9s\u201d: \u201cb\u201d", "past the end"), ("1\n2", "no prompt"),
        ("{\u201c0\u201d: \u201ca\u201d}", "not valid JSON"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_apart_is_an_error(text, words):
    with pytest.raises(TimelineError) as error:
        parse_timeline(text, LENGTH, FPS)
    assert words in str(error.value) and str(error.value).startswith("events")
    assert len(str(error.value)) < 500


@pytest.mark.parametrize(
    "text",
    [
        "16:9 video of 3 cats", "9:16 vertical video", "9:16 vertical video\nof a red car", "2 dogs run",
        "2 dogs run\n3 cats sleep", "1980s car", "1980s car\n1990s bus", "80s car", "50% grey wall",
        "100% cotton, 3 dogs", "12:30 pm, a street", "a street\n12:30 pm", "4K, 8K, HDR\n35mm film",
        "3D render\n2D art", "24 fps\n16 frames", "35mm film\n50mm lens", "2.39:1 anamorphic\n24fps",
        "1girl, solo\n2boys", "5 seconds of silence\nthen a bang", "(red:1.2) circle\n(blue:1.3) square",
        "(2 dogs:1.3) run\n(3 cats:1.2)", "1920x1080 video\nof a cat", "1920 x 1080, 24 fps, 4K",
        "Subject: a cat\nStyle: 1980s\nCamera: 35mm", "- a red car\n- a blue car",
        "Person 1: a man\nPerson 2: a woman", "Camera 1: wide\nCamera 2: close", "0 gravity", "0 gravity\n0 noise",
        "3 - 5 dogs\n6 - 8 cats", "2, 3 or 4 dogs\n5, 6 cats", "7-eleven store\n7-up can", "Scene 1: day",
        "Act 1 of Hamlet, a stage", "1. a red ball", "1. FC Koeln plays", "F150 truck\nF250 truck", "F1 car\nF2 car",
        "$5: a\n$10: b", "10 dancers\n20 drummers\n30 singers", "1 cat\n2 cats\n3 cats", "2x speed\n3x zoom",
        "5-year-old girl\n3-legged dog", "a 3s pause, then 5s of rain", "2 dogs: one red\n3 cats: all black",
        "1.5x zoom\n0.5x zoom", "a cat. 0:03 on the clock", '"quoted" prompt', '"a" and "b"\n"c"', "'80s car, neon",
        "take a walk\ncut a cake", "part 2 of a film\na red car\npart 3 of it", "first a dog\nsecond a cat",
        "time: night\nplace: forest", "one: a\ntwo: b", "1/2 moon\n3/4 view", "2024-05-01 a day\n2024-05-02 a day",
        "5,000 dogs\n6,000 cats", "Route 66: a road\nRoute 67: b", "a man says: hello\nthe woman: 3 times",
        "frame of a door\nframe of a window", "a (red:1.2) circle, [blue] sky", "a\n\nb\n\nc", "24h diner\n48h party",
        "4 seasons: spring\nsummer", "$5 bill\n$10 bill", "red car, 24 fps\nblue car, 24 fps",
        "grey wall (50%)\nblue wall (30%)", "0:00 day", "a watch at 10:10, f/1.8, ISO 100",
        "Apollo 11: a rocket\nlifts off", "Top 10: cars\nTop 20: bikes", "I. Newton, a portrait",
    ],
    ids=ascii,
)  # fmt: skip
def test_plain_prompts_stay_one_prompt(text):
    assert brief(text) == [(text, 0)]


def test_a_limit_on_events():
    most = "|".join("x" * MOST_EVENTS)
    assert len(parse_timeline(most, 10_000, FPS)) == MOST_EVENTS
    lines = "\n".join(f"{i}f: x" for i in range(MOST_EVENTS + 1))
    listed = "\n".join(f"{i}. x" for i in range(1, MOST_EVENTS + 2))
    for text in (f"{most}|x", lines, listed.replace(". x", ": x")):
        with pytest.raises(TimelineError, match=f"events: {MOST_EVENTS + 1} events; .* at most {MOST_EVENTS}"):
            parse_timeline(text, 10_000, FPS)


PIECES = [
    *"ab 0123456789.:|-[](){}<>\"'\\%sf\n\r\t,;*#_>=/@", "[0-3s] ", "\n3s: ", '"48": "', "\n- ", "0:03 ", "Scene 2: ",
    "\nScene 1: ", "2. ", "\n1. ", "frame 48: ", " sec: ", "\uff1a", "\uff5c", "\u201c", "\u201d", "\u2013", "\u2192",
    "\u2028", "\xa0", "\u200b", "\u0663", "\u017f", "\u212a", "\u0130", "\u2460", "\u3007", "\u4e94", "\u7b2c",
    "\u5e55", "\U0001f534", "\ud800", "\x00", "9" * 30, "```", " --> ", "WEBVTT", "t=", "at ", "1/3: ",
]  # fmt: skip


def test_random_texts_are_read_or_refused():
    rng = random.Random(3)
    count = {"read": 0, "refused": 0, "many": 0}
    for _ in range(6000):
        text = "".join(rng.choices(PIECES, k=rng.randint(1, 22)))
        length = rng.choice([1, 2, 48, 97])
        try:
            events = parse_timeline(text, length, FPS)
        except TimelineError as error:
            assert str(error).startswith("events") and len(str(error)) < 600
            count["refused"] += 1
            continue
        count["read"] += 1
        count["many"] += len(events) > 1
        assert events[0].start == 0 and events[-1].end == length
        assert all(e.text.strip() and e.end > e.start for e in events)
        assert all(a.end == b.start for a, b in zip(events, events[1:], strict=False))
    assert min(count.values()) > 150


LONG = 100_000


@pytest.mark.parametrize(
    "text",
    [
        "0s" + " " * LONG + ":x", "0s: a" + ", 1s" * (LONG // 4), "(" * LONG,
        "([{" * (LONG // 3) + "|" + "])}" * (LONG // 3), "- 0s: a\n" * (LONG // 8), '"0": "' + '"1": ' * (LONG // 5),
        "Scene 1: a " + "scene 2 " * (LONG // 8), "[a:" * (LONG // 3), "'1: " * (LONG // 4), "9" * LONG + ": x",
        "*" * LONG + "0s: x", "1. " * (LONG // 3), "0s: " + "frame " * (LONG // 6),
        "0s: a\n3s: b" + " " * LONG + "c,", "0: (" + "(" * LONG + "), 48: (b)",
        "0:00 --> 0:03 " + "align:" * (LONG // 6) + " x\n0:03 b", "\u3000" * LONG + "0\u79d2\uff1aa",
        '"0s: ' + "a\n" * (LONG // 2) + '"',
    ],
    ids=range(18),
)  # fmt: skip
def test_long_texts_cost_what_they_are_long(text, monkeypatch):
    """Counted, not timed: marks are looked for at no more places than there are characters, on HEAD characters each."""
    seen = []
    read = marks._foreign
    monkeypatch.setattr(marks, "_foreign", lambda s: seen.append(len(s)) or read(s))
    try:
        timeline.parse_timeline(text, 10**6, FPS)
    except TimelineError as error:
        assert len(str(error)) < 600
    assert max(seen, default=0) <= marks.HEAD + 1 and len(seen) <= len(text)
