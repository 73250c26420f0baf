"""Structured prompts: every shape a language model's answer comes in, and clear errors for the rest."""

import json

import pytest
from longtake.nodes.prompts import LongTakeStructuredPrompt, reply_error
from longtake.samplers.prompts.structured import EXAMPLE, ReplyError, instruction, parse_reply, timeline_text
from longtake.samplers.prompts.timeline import parse_timeline

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
        ('{"global": "a", "local": [{"prompt": "b"}]}', "it holds an object"), ('["a", "b"]', "is a JSON list"),
        ("Global: a", "no local prompt"), ("Global: a\nGlobal: b\nc", "two lines"),
        ('{"global":' + '{"a":' * 100000 + '""' + "}" * 100000, "nested too deeply"),
    ],
)  # fmt: skip
def test_replies_that_are_not(reply, words):
    with pytest.raises(ReplyError) as error:
        parse_reply(reply)
    assert words in str(error.value)
    if reply.strip():
        assert reply_error(reply).startswith("Structured Prompt (LongTakeStructuredPrompt): reply ")
        with pytest.raises(ValueError, match="LongTakeStructuredPrompt"):
            LongTakeStructuredPrompt.execute("", 2, reply)


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
    assert LongTakeStructuredPrompt.validate_inputs() is True and reply_error(EXAMPLE) is None
