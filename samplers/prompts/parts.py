"""Prompts in equal parts, `a | b | c`, and what all ways of writing a timeline share: entries, numbers, messages."""

import re
from dataclasses import dataclass

from .marks import HEAD, LIKELY, SURE, Mark, TimelineError, find_mark
from .signs import fold

# An event shorter than a latent frame (4 pixel frames) cannot be seen; the longest videos that this is meant for have
# 2000. A text takes up to 8.4 MB (umt5: 512 tokens of 4096 float32), on the CPU.
MOST_EVENTS = 500

EXAMPLE_LINES = "0s: a red circle\n6s: a blue circle"
EXAMPLE_JSON = '{"0": "a red circle", "6s": "a blue circle", "60%": "a green circle"}'

_ESCAPED_BAR = re.compile(r"\\([|\uff5c\u2502])")
_PAIRS = {"{": "}", "[": "]", "(": ")"}


@dataclass(frozen=True)
class Entry:
    """A prompt with its times (see Mark); `label` is what error messages call it."""

    label: str
    text: str
    times: tuple


@dataclass(frozen=True)
class Reading:
    """Equal `parts`, or else `entries`, in which way they are written, and whether all of it is `own` (see texts.py).
    `counted`: the times are 0, 1, 2, ... without a unit, which may be the numbers of a list."""

    way: str
    own: bool
    parts: list[str] | None = None
    entries: list[Entry] | None = None
    counted: bool = False


def borders(text: str) -> list[int]:
    """Places of the `|` that separate prompts: not escaped, not inside brackets that are closed."""
    folded = fold(text)
    found: list[int] = []
    opened: list[tuple[str, int]] = []  # closing bracket, number of bars before it
    count = dict.fromkeys(_PAIRS.values(), 0)
    escaped = False
    for i, char in enumerate(folded):
        if escaped:
            escaped = False
        elif char == "\\":
            escaped = True
        elif char == "|":
            found.append(i)
        elif char in _PAIRS:
            opened.append((_PAIRS[char], len(found)))
            count[_PAIRS[char]] += 1
        elif count.get(char):
            while True:
                bracket, before = opened.pop()
                count[bracket] -= 1
                if bracket == char:
                    break
            del found[before:]
    return found


def split_at(text: str, places: list[int]) -> list[str]:
    """The texts before, between and behind characters of a text."""
    return [text[a + 1 : b] for a, b in zip([-1, *places], [*places, len(text)], strict=True)]


def plain(text: str) -> str:
    return _ESCAPED_BAR.sub(r"\1", text).strip()


def read_parts(text: str, bars: list[int], own: bool) -> Reading:
    parts = split_at(text, bars)
    refuse_times(parts)
    marks = [_mark_of(part) for part in parts]
    if all(mark is not None and mark.times is None for mark in marks):
        if not consecutive([mark.order for mark in marks]):
            if any(mark.level < LIKELY for mark in marks):
                return Reading("equal", own, [plain(part) for part in parts])
            raise bad_numbers([(mark.order, part) for mark, part in zip(marks, parts, strict=True)])
        parts = [part.lstrip()[mark.end :] for mark, part in zip(marks, parts, strict=True)]
        own = False
    elif marks[0] is not None and marks[0].times is None:
        numbered = [mark for mark in map(_mark_of, text.split("\n")) if mark is not None and mark.times is None]
        if len(numbered) > 1:
            raise TimelineError("events: numbers and '|' do not mix. Write one numbered event a line, without '|'.")
    return Reading("equal", own, [plain(part) for part in parts])


def _mark_of(part: str) -> Mark | None:
    part = part.lstrip()[:HEAD]
    return find_mark(part, fold(part))


def refuse_times(parts: list[str]) -> None:
    marks = [_mark_of(part) for part in parts]
    timed = [mark is not None and mark.times is not None for mark in marks]
    ends = [has and mark.end >= len(part.strip()) for part, mark, has in zip(parts, marks, timed, strict=True)]
    first = next((mark for part, mark in zip(parts, marks, strict=True) if part.strip()), None)
    if len(ends) > sum(ends) > 1 and first is marks[ends.index(True)] and first.at_zero:
        raise TimelineError(f"events: times stand between '|'. Write one timed prompt a line:\n{EXAMPLE_LINES}")
    together = all(timed) and marks[0].at_zero and not any(ends)
    for part, mark, has_time in zip(parts[1:], marks[1:], timed[1:], strict=True):
        if has_time and (mark.level == SURE or together):
            raise TimelineError(
                f"events: {short(part)} has a time behind a '|'. Write either prompts with '|' between them (equal "
                f"parts), or one timed prompt a line:\n{EXAMPLE_LINES}"
            )


# Numbers of a list.


def counts_from_zero(orders: list) -> bool:
    return len(orders) > 1 and orders == list(range(len(orders)))


def consecutive(orders: list) -> bool:
    return orders in (list(range(1, len(orders) + 1)), list(range(len(orders))))


def bad_numbers(pieces: list[tuple[int, str]]) -> TimelineError:
    """For pieces that are not consecutive: (number, text) of each."""
    before = [0, *(number for number, _ in pieces)]
    wrong = next(i for i, (number, _) in enumerate(pieces) if number != before[i] + 1)
    number, text = pieces[wrong]
    return TimelineError(
        f"events: {short(text)} is number {number}, but {before[wrong] + 1} was expected. Number the events 1, 2, 3 "
        f"(they get equal parts of the video), write '|' between them, or give them times:\n{EXAMPLE_LINES}"
    )


# Messages.


def bad_time(label: str) -> TimelineError:
    return TimelineError(
        f"events: {label} starts like a time but cannot be read as one. Times are 3s (seconds), 48 or 48f (pixel "
        f"frames) or 30%, as '3s: prompt', '[0-3s] prompt' or a JSON key. A prompt that really starts so goes "
        f'into JSON: {{"0": "..."}}'
    )


def short(text: str) -> str:
    text = " ".join(text[:200].split())
    return repr(text if len(text) <= 40 else text[:37] + "...")
