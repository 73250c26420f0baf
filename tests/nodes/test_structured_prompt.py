"""Structured prompts: every shape a language model's answer comes in, and clear errors for the rest."""

import contextlib
import json
import random

import pytest
from longtake.nodes.prompts import LongTakeStructuredPrompt
from longtake.samplers.prompts import loose, marks
from longtake.samplers.prompts.structured import EXAMPLE, ReplyError, instruction, parse_reply, timeline_text
from longtake.samplers.prompts.timeline import MOST_EVENTS, parse_timeline

SHARED, LOCAL = "a red circle", ["bouncing on a navy background", "spinning on a pink background"]


@pytest.mark.parametrize(
    "reply",
    [
        EXAMPLE,
        f"Sure! Here it is:\n\n```json\n{EXAMPLE}\n```\nLet me know if you want changes {{or not}}.",
        f"Here: {EXAMPLE} I hope that helps.",
        json.dumps({"Global Prompt": SHARED, "Local Prompts": LOCAL}),
        json.dumps({"global": SHARED, "local": {"1": LOCAL[0], "2": LOCAL[1]}}),
        json.dumps({"global": f"  {SHARED}\n", "local": [p.replace(" ", "\n ") for p in LOCAL]}),
        f"Global: {SHARED}\n1. {LOCAL[0]}\n2) {LOCAL[1]}",
        f"**Global prompt:** {SHARED}\n\nLocal prompts:\n- {LOCAL[0]}\n* {LOCAL[1]}",
        f"global: {SHARED}\r\nEvent 1: {LOCAL[0]}\r\nLocal prompt 2: {LOCAL[1]}",
        f'{{"global": "{SHARED}", "local": ["{LOCAL[0]}", "spinning\ton a pink background"]}}',
    ],
)
def test_replies_that_are_understood(reply):
    assert parse_reply(reply) == (SHARED, LOCAL)


def test_a_number_that_belongs_to_the_prompt_stays():
    assert parse_reply("3 dogs run\n16:9 film of a dog\n2. a dog sleeps")[1] == [
        "3 dogs run", "16:9 film of a dog", "a dog sleeps",
    ]  # fmt: skip
    assert parse_reply("a dog\na cat") == ("", ["a dog", "a cat"])


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("", "is empty"), ("  \n", "is empty"), ('{"global": "a", "local": ["b", ', "cut off"),
        ('{"global": "a" "local": []}', "not valid JSON: Expecting ',' delimiter in line 1"),
        ('{"global": "a"}', 'no "local" part (it has: global)'), ('{"global": "a", "local": []}', "no local prompt"),
        ('{"global": "a", "local": ["b", ""]}', "local prompt 2 of 2 is empty"),
        ('{"global": ["a"], "local": ["b"]}', '"global" must be one text, not a list'),
        ('{"global": "a", "local": ["b", 3]}', "it holds a number"), ('{"global": "a", "local": null}', 'no "local"'),
        ('{"global": "a", "local": [{"x": "b", "y": "c"}]}', "it holds an object"), ('["a", "b"]', "is a JSON list"),
        ("Global: a", "no local prompt"), ("Global: a\nGlobal: b\nc", "two lines"),
        ('{"global":' + '{"a":' * 100000 + '""' + "}" * 100000, "nested too deeply"),
    ],
)  # fmt: skip
def test_replies_that_are_not(reply, words):
    with pytest.raises(ReplyError) as error:
        parse_reply(reply)
    assert words in str(error.value)
    if reply.strip():
        said = LongTakeStructuredPrompt.validate_inputs(reply)
        assert said.startswith("Structured Prompt (LongTakeStructuredPrompt): reply ")
        with pytest.raises(ValueError, match="LongTakeStructuredPrompt"):
            LongTakeStructuredPrompt.execute("", 2, reply)


# GG, AA and BB stand for a global prompt and two events, JJ for a whole answer in JSON.
WAYS = [
    "Global: GG\n1. **Rolling**: AA\n2. **Stopping:** BB",
    "=== Global ===\nGG\n=== Event 1 ===\nAA\n=== Event 2 ===\nBB", '"Global: GG"\n"Event 1: AA"\n"Event 2: BB"',
    "Title: x\nGlobal: GG\nNegative: blurry\n1. AA\n2. BB", '{"global": """GG""", "local": ["AA", "BB"]}',
    "Global: GG\n```\n1. AA\n2. BB\n```", "```\nGlobal: GG\n```\n\n```\n1. AA\n2. BB\n```",
    "Here are the prompts:\n\nGlobal: GG\n1. AA\n2. BB\n\nLet me know if you want changes!",
    "**Global:** GG\n**Event 1:** AA\n**Event 2:** BB", "Global: GG\nScene 1: AA\nScene 2: BB",
    "## Global\nGG\n\n## Event 1\nAA\n\n## Event 2\nBB", "# Global Prompt\n\nGG\n\n# Local Prompts\n\n1. AA\n2. BB\n",
    "### Global prompt\nGG\n### Local prompts\n- AA\n- BB", "### Global prompt\nGG\n### Local prompts\nAA\nBB",
    '<think>maybe {x: 1} or {"global": "bad", "local": ["no"]}</think>\nJJ',
    "<think>Global: bad\n1. no</think>\nGlobal: GG\n1. AA\n2. BB", "hmm {a} </think>\nJJ", "<thinking>x</thinking>JJ",
    "JJ\nJJ", '{"global": "draft", "local": ["x"]}\nBetter:\nJJ', 'JJ\n{"note": "done"}', '{"note": "x"} JJ',
    'JJ\nor the short form {"a": 1}', "```\nJJ\n```", "```json\nJJ\n```\nBye", "```\nGlobal: GG\n1. AA\n2. BB\n```",
    "Text\n```text\nGlobal: GG\n1. AA\n2. BB\n```\nmore", "{'global': 'GG', 'local': ['AA', 'BB']}",
    "{\u201dglobal\u201d: \u201dGG\u201d, \u201dlocal\u201d: [\u201dAA\u201d, \u201dBB\u201d]}",
    "{\u201cglobal\u201d: \u201cGG\u201d, \u201clocal\u201d: [\u201cAA\u201d, \u201cBB\u201d]}",
    "{\u2018global\u2019: \u2018GG\u2019, \u2018local\u2019: [\u2018AA\u2019, \u2018BB\u2019]}",
    "{\xabglobal\xbb: \xabGG\xbb, \xablocal\xbb: [\xabAA\xbb, \xabBB\xbb]}",
    '{"global": "GG", // x\n"local": ["AA", /* y */ "BB",],\n}',
    '{\n  # c\n  global: "GG",\n  local: ["AA", "BB"]\n}', '{"Global Prompt": "GG", "localPrompts": ["AA", "BB"]}',
    '{"globalPrompt": "GG", "events": ["AA", "BB"]}', '{"global_description": "GG", "scenes": ["AA", "BB"]}',
    '{"shared": "GG", "event_1": "AA", "event_2": "BB"}', '{"global": "GG", "1": "AA", "2": "BB"}',
    '{"global": "GG", "local": {"2": "BB", "1": "AA"}}',
    '{"global": "GG", "local": [{"event": 1, "prompt": "AA"}, {"event": 2, "prompt": "BB"}]}',
    '{"global": "GG", "local": [{"event_1": "AA"}, {"event_2": "BB"}]}', '{"result": JJ}', '{"prompts": JJ}', "[JJ]",
    '{"global": "GG", "local": ["1. AA", "2. BB"]}',
    '{"global": "Global: GG", "local": ["Event 1: AA", "Event 2: BB"]}',
    '{"global": "GG", "local": ["**Event 1:** AA", "**Event 2:** BB"]}',
    "\uff5b\u201cglobal\u201d\uff1a\u201cGG\u201d\uff0c\u201clocal\u201d\uff1a\uff3b\u201cAA\u201d\uff0c\u201cBB\u201d\uff3d\uff5d",
    'Global: "GG"\n1. "AA"\n2. "BB"', "Global: GG\nEvent 1 - AA\nEvent 2 - BB",
    "Global: GG\n\nEvent 1:\nAA\n\nEvent 2:\nBB", "Global:\nGG\n\nLocal:\n1. AA\n2. BB",
    "global: GG\nlocal:\n  - AA\n  - BB", "global: >\n  GG\nlocal:\n  - AA\n  - BB",
    'global_prompt = "GG"\nlocal_prompts = ["AA", "BB"]', 'Global: GG\nLocal: ["AA", "BB"]',
    "- Global: GG\n- Event 1: AA\n- Event 2: BB", "1. Global: GG\n2. AA\n3. BB",
    "1. Global prompt: GG\n2. Local prompts:\n   1. AA\n   2. BB",
    "**Global prompt**: GG\n\n**Local prompts**:\n\n1. **AA**\n2. **BB**", "Global: GG Event 1: AA Event 2: BB",
    "Global: GG\nLocal 1: AA\nLocal 2: BB", "Global: GG\nLocal prompt 1: AA\nLocal prompt 2: BB",
    "Global: GG\nPrompt 1: AA\nPrompt 2: BB", "Global: GG\nShot 1: AA\nShot 2: BB",
    "Sure! Here is it:\n**Global:**\n> GG\n\n**Scene 1:**\n> AA\n\n**Scene 2:**\n> BB\n\nHope this helps!",
    "Global: GG\n---\nScene 1: AA\n---\nScene 2: BB", "Global: GG\n(1) AA\n(2) BB", "Global: GG\n1: AA\n2: BB",
    "Global: GG\n\u2022 AA\n\u2022 BB", "Global: GG\nAA\nBB", "Global: GG\n\nAA\nBB\n\nLet me know!",
    "Global: GG\nEvent: AA\nEvent: BB", "Shared: GG\nEvent 1: AA\nEvent 2: BB",
    "Global (constant): GG\nEvent 1 (start): AA\nEvent 2 (end): BB", "GLOBAL: GG\nEVENT 1: AA\nEVENT 2: BB",
    "*Global:* GG\n*Event 1:* AA\n*Event 2:* BB", "__Global:__ GG\n__Event 1:__ AA\n__Event 2:__ BB",
    "**Global: GG**\n**Event 1: AA**\n**Event 2: BB**", "Global\uff1aGG\nEvent 1\uff1aAA\nEvent 2\uff1aBB",
    "\u5168\u5c40\uff1aGG\n\u573a\u666f1\uff1aAA\n\u573a\u666f2\uff1aBB",
    "Global: GG\r\nScene 1: AA\r\nScene 2: BB\r\n", "<answer>\nGlobal: GG\n1. AA\n2. BB\n</answer>",
    "Global: GG\n\n**Event 1: Rolling**\nAA\n\n**Event 2: Bouncing**\nBB",
    "Global: GG\nLocal prompts:\nEvent 1: AA\nEvent 2: BB", '{\'global\': \'GG\', \'local\': [\'AA\', "BB"]}',
    "Global prompt: GG\nEvent 1 prompt: AA\nEvent 2 prompt: BB", '{"global": "GG", "local": "1. AA\\n2. BB"}',
    '"global": "GG", "local": ["AA", "BB"]', '"global": "GG",\n"local": [\n"AA",\n"BB"\n]',
    '{"global": "...", "local": ["...", "..."]}\nJJ', "Global: GG\n1) AA; 2) BB", "Global: GG\nI. AA\nII. BB",
    "Global: GG\na) AA\nb) BB", "Global - GG\nEvent 1 - AA\nEvent 2 - BB",
    "Global: GG\n\n1. AA\n\n2. BB\n\nNote: keep it short.",
    "Video prompt\nGlobal: GG\nEvent 1: AA\nEvent 2: BB\nEnd of prompts.", "Global: GG\n\n1. AA\n\n2. BB",
    'Here is the JSON you asked for:\nJJ\nThe "local" part has {2} events.',
    '{"Global": "GG", "Local": ["AA", "BB"]}', '{"GLOBAL": "GG", "LOCAL": ["AA", "BB"]}',
    '{"global prompt": "GG", "local prompts": ["AA", "BB"]}',
    '{"global-prompt": "GG", "local-prompts": ["AA", "BB"]}', "```json5\nJJ\n```", "~~~\nJJ\n~~~", "```\nJJ",
    "User: make it\nAssistant: JJ", "Global: GG\nEvent 1: AA\n\nEvent 2: BB\n\nBoth events keep the ball red.",
    "Global:GG\nEvent 1:AA\nEvent 2:BB", "GLOBAL PROMPT\nGG\n\nLOCAL PROMPTS\n1. AA\n2. BB",
    "**GLOBAL PROMPT**\nGG\n\n**LOCAL PROMPT 1**\nAA\n\n**LOCAL PROMPT 2**\nBB",
    'Global: "GG",\nLocal: [\n  "AA",\n  "BB"\n]', "- **Global**: GG\n- **Local**:\n  - AA\n  - BB",
    "* **Global:** GG\n* **Local:**\n  1. AA\n  2. BB", "Global: GG\nEvents:\n1. AA\n2. BB",
    "Global: GG\nScene One: AA\nScene Two: BB", "Global: GG\nStep 1: AA\nStep 2: BB",
    "Global: GG\nEvent A: AA\nEvent B: BB", "\u2022 Global: GG\n\u2022 Scene 1: AA\n\u2022 Scene 2: BB",
    "\U0001f30d Global: GG\n\U0001f3ac Scene 1: AA\n\U0001f3ac Scene 2: BB",
    "Global: GG\nScene 1 \u2013 AA\nScene 2 \u2013 BB", "Global \u2014 GG\nScene 1 \u2014 AA\nScene 2 \u2014 BB",
    "[Global] GG\n[Event 1] AA\n[Event 2] BB", "[Global]: GG\n[Event 1]: AA\n[Event 2]: BB",
    "<think>\nlet me {see}\n</think>\n\n**Global:** GG\n\n**Event 1:** AA\n\n**Event 2:** BB", "<|think|>x\nJJ",
    "Thinking...\nI need {two} events.\n...done thinking.\n\nJJ",
    '{\n"global": "a red\nball, 3 cats",\n"local": ["AA", "BB"]}', '{"data": {"response": JJ}}',
    '{"global": "GG", "locals": ["AA", "BB"]}', '{"global": "GG", "event1": "AA", "event2": "BB"}',
    '{"global": "GG", "local_1": "AA", "local_2": "BB"}',
    '{"global": "GG", "local": [{"id": 1, "text": "AA"}, {"id": 2, "text": "BB"}]}',
    "Global: GG\n\nLocal 1\nAA\n\nLocal 2\nBB", "Global: GG\nEvent 1. AA\nEvent 2. BB",
    "Global: GG\nEvent 1) AA\nEvent 2) BB", "Global: GG\nEvent #1: AA\nEvent #2: BB", "Global: GG\n1/2: AA\n2/2: BB",
    "Global: GG\n1 - AA\n2 - BB", "Global: GG\n1\nAA\n2\nBB",
]  # fmt: skip


@pytest.mark.parametrize("reply", WAYS, ids=ascii)
def test_answers_as_they_are_pasted(reply):
    reply = reply.replace("JJ", json.dumps({"global": "GG", "local": ["AA", "BB"]}))
    for short, text in (("GG", "a red ball, 3 cats"), ("AA", "it rolls: 1 metre"), ("BB", "2 dogs: it stops")):
        reply = reply.replace(short, text)
    assert parse_reply(reply) == ("a red ball, 3 cats", ["it rolls: 1 metre", "2 dogs: it stops"])


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("<think>only", "thoughts"), ("<think>a</think> ", "thoughts"), ("| Global | a |\n| 1 | b |", "is a table"),
        ("<global>a</global>\n<event>b</event>", "has tags"), ("Global: a\n0s: b\n3s: c", "has times (0s: b)"),
        ("Global: a\nScene 1 (0-3s): b\nScene 2 (3-6s): c", "has times"), ("Global: a\n0:00 b\n0:03 c", "has times"),
        ("Global: a\nFirst: b\nThen: c", "has a label inside local prompt 1"),
        ("Global: a\n1. b\n3. c", "the numbers 1, 3"), ("A story.\n1. a\n2. b", "text before the first event"),
        ("Global: a\n1. b\n\nIt waits.\n\n2. c", "belongs to no event"),
        ('{"global": "a", "local": ["b" "c"]}', "not valid JSON"),
        ('{"global": "a", "local": ["b", "it bou', "cut off"),
        ('{"global": "a", "local": [{"prompt": "b"}, {"prompt": "c', "cut off"),
        ('{"global": "a", "local": ["b"]\n', "cut off"),
        ('{"global": "a", "local": ["b"], "style": "film"}', 'neither "global" nor "local" (style)'),
        ('{"scene": "a", "events": ["b"]}', 'neither "global" nor "local" (scene)'),
        ("{global: a, local: [b]}", "not valid JSON"),
        ('{"global": "a", "local": [["b"], ["c"]]}', "it holds a list"),
        ('{"global": "a", "1": "b", "3": "c"}', "the numbers 1, 3"),
        ('{"global": "a", "local": [{"time": "0-3s", "text": "b"}]}', "it holds an object"),
        ('[{"type": "text"}]', 'no "local"'), ('{"local": "Global: b"}', "no local prompt"),
        ('{"global": "a", "local": ["b", "Event 2: c"]}', "label inside local prompt 2"),
        ('{"global": "a", "shared": "b", "local": ["c"]}', "several parts"),
        ("Global: a\nLocal: [b, c", "cannot be read"),
        (json.dumps({"global": "a", "local": ["b"] * (MOST_EVENTS + 1)}), f"has {MOST_EVENTS + 1} events; a timeline"),
    ],
)  # fmt: skip
def test_answers_that_cannot_be_told_apart(reply, words):
    with pytest.raises(ReplyError) as error:
        parse_reply(reply)
    assert words in str(error.value) and len(str(error.value)) < 400


def test_text_in_json_stays_as_it_is():
    hard = ["it's 3:00", 'she says "go", then runs', "a {b|c} d", "1 dog", "16:9 // film /* x */", "\u00e9\U0001f600"]
    hard += ["a\\b", "- x"]
    assert parse_reply(json.dumps({"global": "a: b", "local": hard})) == ("a: b", hard)
    assert parse_reply(json.dumps({"global": "a: b", "local": hard}, ensure_ascii=False) + ",") == ("a: b", hard)
    loose = "{'global': 'it\\'s red', 'local': ['it's a \"ball\", it rolls', \"\\u00e9\\ud83d\\ude00\"],}"
    assert parse_reply(loose) == ("it's red", ["it's a \"ball\", it rolls", "\u00e9\U0001f600"])
    assert parse_reply("Global: a {red|blue} ball\n1. it says: go") == ("a {red|blue} ball", ["it says: go"])


PIECES = [
    *"ab {}[]:,.\"'\\\n-*#_|()<>=/1230", '{"global": "a", ', '"local": ["b", ', '"c"]}', "Global: ", "\nEvent 1: ",
    "\nScene 2: ", "\n1. ", "\n2) ", "\n- ", "**", "```json\n", "\n```\n", "<think>", "</think>", "\n\n",
    "Local prompts:\n", "\u201c", "\u201d", "\u2019", "\uff1a", "// x\n", "/*", "*/", "0s: ", "Here is it:\n",
    "\ud800", "\U0001f600", "\u0130", "\x00", "9" * 30, "\\u12", "Local: [",
]  # fmt: skip


def test_random_answers_are_read_or_refused():
    rng = random.Random(2)
    count = {"read": 0, "refused": 0}
    for _ in range(6000):
        reply = "".join(rng.choices(PIECES, k=rng.randint(1, 20)))
        try:
            shared, local = parse_reply(reply)
        except ReplyError as error:
            assert str(error) and len(str(error)) < 500
            count["refused"] += 1
            continue
        count["read"] += 1
        assert isinstance(shared, str) and local and all(prompt.strip() for prompt in local)
    assert min(count.values()) > 500


@pytest.mark.parametrize(
    "reply",
    [
        "{" * 100_000, '{"a' * 33_000, '{"a": ' * 16_000, '{"a": "' + '" ' * 50_000, '{"a": "' + "\\" * 100_000 + '"',
        '{"a": /*' * 12_000, "<think>" * 14_000, "Global: a " + "Event 1: x " * 9000, "Local: [\n" * 11_000,
        "1. a " * 20_000, "Global " + "(" * 100_000,
    ],
    ids=range(11),
)  # fmt: skip
def test_long_answers_cost_what_they_are_long(reply, monkeypatch):
    """Counted, not timed: few objects are tried, and marks are looked for on HEAD characters."""
    tries, seen = [], []
    read, find = loose.read, marks._foreign
    monkeypatch.setattr(loose, "read", lambda *args: tries.append(1) or read(*args))
    monkeypatch.setattr(marks, "_foreign", lambda s: seen.append(len(s)) or find(s))
    with contextlib.suppress(ReplyError):
        parse_reply(reply)
    assert len(tries) <= loose.MOST_TRIES and max(seen, default=0) <= marks.HEAD and len(seen) <= len(reply)


@pytest.mark.parametrize("count", [1, 2, 3, 4, 7])
def test_local_prompts_become_equal_parts_of_the_timeline(count):
    hard = ['a | b', '0s: "quoted"', "{braces}", "line\\|bar", "emoji \U0001f600", "[0-3s] x", "50%: y"][:count]
    events = parse_timeline(timeline_text(hard), 293, 16.0)
    assert [e.text for e in events] == hard
    assert events[0].start == 0 and events[-1].end == 293
    assert all(abs(e.start - 293 * i / count) <= 1 for i, e in enumerate(events))


def test_node():
    shared, events, ask = LongTakeStructuredPrompt.execute("a circle\n bounces, then spins", 2, EXAMPLE).args
    assert shared == SHARED and [e.text for e in parse_timeline(events, 97, 16.0)] == LOCAL
    assert "Scenario: a circle bounces, then spins" in ask and "exactly 2 events" in ask
    assert parse_reply(ask.split("JSON only:\n")[1].split("\n")[0]) == ("...", ["...", "..."])
    assert LongTakeStructuredPrompt.execute("story {with} braces", 3, " ").args[:2] == ("", "")
    assert "story {with} braces" in instruction("story {with} braces", 3)
    assert all(LongTakeStructuredPrompt.validate_inputs(reply) is True for reply in (None, "", EXAMPLE))
