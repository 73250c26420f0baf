"""From a timeline's text to prompts with times, or in equal parts; timeline.py says what the ways of writing are.

A text is own where all of it is written in this timeline's own ways, which the writer can keep. Everything else that
begins like times is read as far as it can be told apart, and otherwise refused with an example; it is never one prompt
with the times inside.
"""

import json
import re

from .lines import find_pieces, read_pieces
from .marks import HEAD, LOOKS_LIKE_BRACKET_MARK, TimelineError, times_inside, whole_time
from .parts import (
    EXAMPLE_JSON,
    EXAMPLE_LINES,
    Entry,
    Reading,
    bad_time,
    borders,
    counts_from_zero,
    plain,
    read_parts,
    short,
)
from .signs import fold

_LOOKS_LIKE_JSON_LIST = re.compile(r"\s*\[\s*[\"{\[]")
_STARTS_WITH_NUMBER = re.compile(r"[^\w|$]{0,8}(\d{1,9}(?:\.\d{1,9})?(?::\d{1,9}){0,4})\s?([^\W\d]{0,20})\s?(:?)")
_PROMPT_EDITING = re.compile(r"\[[^\[\]:]{0,200}:[^\[\]:]{0,200}:\s?\d{0,4}\.?\d{1,4}\s?\]")
# "For 3 seconds:", "next 24 frames:", "key at frame 24:"
_SPAN_IN_WORDS = re.compile(
    r"\W{0,8}(?:(?:[a-z]{1,12} ){1,3}\d[\d.]{0,8}\s?(?:s|secs?|seconds?|frames?|min(?:ute)?s?|%)"
    r"|(?:[a-z]{1,12} ){0,2}(?:key|frame|time|second|keyframe|at)s? (?:[a-z]{1,12} ){0,2}\d[\d.]{0,8})\s?:"
)
_PAIR_INSIDE = re.compile(r"[\"']\s?\d[^\"'\n]{0,20}[\"']\s?:\s?[\"']")


def normal(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")


def read_text(text: str) -> Reading:
    """A text that is normal(). Raises TimelineError."""
    text, fenced = _without_fence(text)
    folded = fold(text)
    if not folded.strip():
        raise TimelineError(f"events is empty. Write at least one prompt, for example:\n{EXAMPLE_LINES}")
    if text.lstrip().startswith("{"):
        return _read_json(text, not fenced)
    if _LOOKS_LIKE_JSON_LIST.match(text):
        raise TimelineError(f"events is a JSON list; write an object from times to prompts: {EXAMPLE_JSON}")
    lines, at = [], 0
    for number, line in enumerate(folded.split("\n"), 1):
        if line.strip():
            lines.append((number, text[at : at + len(line)], line))
        at += len(line) + 1
    bars = borders(text)
    pieces = find_pieces(_without_subtitle_signs(lines), bool(bars))
    if pieces:
        reading = read_pieces(pieces, not fenced and folded.count("\n") == text.count("\n"))
        if reading is not None:
            return reading
    for number, line, _ in lines:
        if LOOKS_LIKE_BRACKET_MARK.match(line):
            raise bad_time(f"line {number} ({short(line)})")
    if bars:
        return read_parts(text, bars, not fenced)
    _refuse_unread_times(folded, lines)
    return Reading("equal", not fenced, [plain(text)])


def _without_fence(text: str) -> tuple[str, bool]:
    """The text inside a code fence that is around all of it."""
    lines = text.strip().split("\n")
    if len(lines) > 2 and lines[0].startswith("```") and lines[-1].strip() == "```":
        return "\n".join(lines[1:-1]), True
    return text, False


def _without_subtitle_signs(lines: list[tuple]) -> list[tuple]:
    return lines[1:] if len(lines) > 1 and lines[0][2].strip().startswith("webvtt") else lines


def _read_json(text: str, own: bool) -> Reading:
    try:
        # Pairs, not a dict: a time that is written twice must not vanish.
        pairs = json.loads(text, object_pairs_hook=tuple)
    except json.JSONDecodeError as e:
        raise TimelineError(
            f"events starts with '{{' but is not valid JSON: {e.msg} at line {e.lineno}, column {e.colno}. "
            f"Example: {EXAMPLE_JSON}"
        ) from None
    except (ValueError, RecursionError):  # a number of thousands of digits, thousands of nested brackets
        raise TimelineError(f"events is not a JSON object from times to prompts. Example: {EXAMPLE_JSON}") from None
    if not pairs:
        raise TimelineError(f"events is an empty JSON object. Example: {EXAMPLE_JSON}")
    marks, entries = [], []
    for key, value in pairs:
        label = f"time {short(key)}"
        mark = whole_time(key)
        if mark is None:
            raise bad_time(label)
        if not isinstance(value, str):
            raise TimelineError(f"events: the prompt at {label} is not a text in quotes. Example: {EXAMPLE_JSON}")
        marks.append(mark)
        entries.append(Entry(label, value.strip(), mark.times))
    orders = [mark.order for mark in marks]
    listed = sorted((order, i) for i, order in enumerate(orders) if order is not None)
    numbers = [order for order, _ in listed]
    scenes = all(mark.times is None for mark in marks)
    if len(listed) == len(marks) and (scenes or len(marks) > 1) and numbers == list(range(1, len(marks) + 1)):
        for entry in entries:
            if not entry.text:
                raise TimelineError(f"events: {entry.label} has no prompt.")
        return Reading("equal", False, [entries[i].text for _, i in listed])
    for mark, entry in zip(marks, entries, strict=True):
        if mark.times is None:
            raise bad_time(entry.label)
    own = own and all(mark.own for mark in marks)
    return Reading("json", own, entries=entries, counted=len(listed) == len(marks) and counts_from_zero(numbers))


def _refuse_unread_times(folded: str, lines: list[tuple]) -> None:
    """Lines that all begin with numbers that grow like times (from 0, or with one word and a colon behind them), and
    what other tools write inside a prompt for times."""
    starts = [_STARTS_WITH_NUMBER.match(line) for _, _, line in lines]
    top = len(starts) > 2 and starts[0] is None  # the names of the columns
    starts = starts[top:]
    if len(starts) > 1 and all(starts):
        numbers = [[float(part) for part in start.group(1).split(":")] for start in starts]
        grow = all(a < b for a, b in zip(numbers, numbers[1:], strict=False))
        words = {start.group(2)[:3] for start in starts}
        same = len(words) == 1 and words != {""} and all(start.group(3) for start in starts)
        if grow and (same or numbers[0][0] == 0):
            raise bad_time(f"line {lines[top][0]} ({short(lines[top][1])})")
    each = [_SPAN_IN_WORDS.match(line) or times_inside(line[-HEAD:]) for _, _, line in lines]
    if (len(each) > 1 and all(each)) or len(times_inside(folded)) > 1:
        raise TimelineError(f"events: times stand behind other words. Write when each prompt begins:\n{EXAMPLE_LINES}")
    inside = _PAIR_INSIDE.search(folded)
    if inside:
        raise TimelineError(
            f"events: {short(inside.group())} looks like a time inside a prompt. Begin with the first time, for "
            f"example:\n{EXAMPLE_LINES}"
        )
    editing = _PROMPT_EDITING.search(folded)
    if editing:
        raise TimelineError(
            f"events: {short(editing.group())} is prompt editing over sampling steps, which does not exist here. Write "
            f"when each prompt begins in the video:\n{EXAMPLE_LINES}"
        )
