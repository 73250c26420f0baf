"""Answers of language models in lines: labels, numbers, bullets, markdown, and sentences around them.

Where events are labelled or numbered, text before the first label and behind the last event's paragraph is talk. A
line without a label continues what is above it. Where nothing is labelled, every line is an event.
"""

import re
from dataclasses import dataclass, field

from . import loose
from .marks import HEAD, INLINE, LIKELY, Mark, find_mark
from .parts import MOST_EVENTS, consecutive
from .signs import fold

EXAMPLE = '{"global": "a red circle", "local": ["bouncing on a navy background", "spinning on a pink background"]}'
_LEAD = r"(?:[^\w|\[(]|_){0,12}[\[(]?(?P<number>\d{1,3}(?=\s?[.):]))?(?:\s?[.):]+\s{0,8}[*_`\"']{0,3})?"
_END = (
    r"[*_`\"'\])]{0,4}(?:\s?\([^()\n]{0,80}\))?[*_`\"']{0,4}\s?"
    r"(?:(?P<sign>[:=]+|(?<=\])(?=\s))|(?P<dash>-{1,2})(?=\s)|$)[*_`]{0,3}\s*"
)
_KIND = r"[\s_-]?(?:prompts?|descriptions?|texts?|parts?|events?|scenes?|setting)?"
_GLOBAL = re.compile(rf"{_LEAD}(?:the )?(?:global|shared|common|overall|\u5168\u5c40|\u5171\u4eab){_KIND}{_END}")
_LOCAL = re.compile(
    rf"{_LEAD}(?:the )?(?:locals?|events?|scenes?|shots?|segments?|clips?|prompts?|\u5c40\u90e8|\u4e8b\u4ef6)"
    rf"{_KIND}{_END}"
)
_ORDER_WORD = re.compile(
    r"\W{0,8}(?:first|second|third|then|next|after that|finally|last|lastly|beginning|start|middle|end|ending|opening"
    r"|intro|climax|outro)\W{0,3}:"
)
_BULLET = re.compile(r"\s{0,40}[-*+\u2022\u25aa\u25e6\u2023\xb7\u25cf]\s+")
_HEADING = re.compile(r"\s{0,8}(?:#{1,6}\s|\*\*[^*]{1,80}\*\*:?\s*$)")
_RULE = re.compile(r"[-*_=~`\s]+$|</?\w{1,20}>$|```\w*$")
_REMARK = re.compile(r"[^\w|]{0,8}(?:negative(?: prompts?)?|title|duration|length|notes?)[*_]{0,2}\s?:")
_TITLE = re.compile(r"\*\*[^*]{1,60}(?:\*\*\s?[:\u2013\u2014-]|:\s?\*\*)\s*(?=\S)")  # **Rolling:** it rolls
_EMPHASIS = ("**", "__", "*", "_", "`")
_TAG = re.compile(r"</(?:global|local|event|scene|prompt|shot)\w{0,20}>")
_YAML_TEXT = re.compile(r"[>|][+-]?$")
_TALK = re.compile(
    r"\W{0,6}(?:sure|certainly|of course|okay|ok|absolutely|great|here(?:'s| is| are| you| they)|let me know|feel free"
    r"|i hope|hope (?:this|that|these)|i(?:'ve|'ll|'m| have| can| will| made| kept| am)|would you|do you|if you|want me"
    r"|these prompts|end of (?:the )?(?:prompt|list|answer|event)s?|each (?:prompt|event)"
    r"|this (?:keeps|ensures|way|version)|note\b|you can|enjoy|thanks|happy to)\b"
)


class ReplyError(ValueError):
    """A reply that cannot be read; the message says what is wrong and what would work."""


@dataclass
class _Part:
    """The global prompt (`shared`), or an event with its number, if it has one."""

    number: int | None = None
    shared: bool = False
    rows: list[str] = field(default_factory=list)
    titled: bool = False  # what it has so far is a title, unless nothing follows


@dataclass(frozen=True)
class _Row:
    kind: str  # global, heading, event, bullet, plain
    text: str
    number: int | None
    gap: bool  # an empty line stands before it
    titled: bool = False  # all of the line is bold, or a heading


def read_lines(text: str) -> tuple[str, list[str]]:
    """The global and the local prompts. Raises ReplyError."""
    if _TAG.search(fold(text)):
        raise ReplyError(f"has tags; write it as JSON, e.g. {EXAMPLE}")
    rows = _rows(text)
    events = [row for row in rows if row.kind == "event"]
    labelled = any(row.number == 1 for row in events) or len(events) > 1
    bulleted = any(row.kind == "bullet" for row in rows)
    if not labelled and bulleted and not events:
        rows = [_Row("event", row.text, None, row.gap) if row.kind == "bullet" else row for row in rows]
        labelled = True
    return _labelled(rows) if labelled else _unlabelled(rows)


def has_global(text: str) -> bool:
    """Whether a line is labelled as the global prompt."""
    return any(label and label["sign"] for label in map(_GLOBAL.match, fold(text).split("\n")))


def _rows(text: str) -> list[_Row]:
    rows, gap, timed, last = [], False, [], 0
    lines = [part for line in text.split("\n") for part in _split_inside(line)]
    for i, line in enumerate(lines):
        folded = fold(line)
        if not line.strip() or _RULE.match(folded) or _REMARK.match(folded):
            gap = True
            continue
        if folded.lstrip().startswith("|"):
            raise ReplyError(f"is a table; write it as JSON, e.g. {EXAMPLE}")
        row, rest = _row(line, folded, gap, last)
        rows.append(row)
        gap = False
        last = row.number if row.number is not None else last
        if rest is not None:
            timed.append((rest, line.strip()[:20]))
        if row.kind == "heading" and row.text.lstrip().startswith("["):
            listed = "\n".join([row.text, *lines[i + 1 :]])
            try:
                values, _ = loose.read(listed, fold(listed), 0)
            except ValueError:
                values = None
            if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
                raise ReplyError(f"has a list of events that cannot be read; write it as JSON, e.g. {EXAMPLE}")
            return [*rows[:-1], *(_Row("event", value, i, False) for i, value in enumerate(values, 1))]
    if len(timed) > 1 and any(mark.level >= LIKELY or mark.at_zero for mark, _ in timed):
        raise ReplyError(
            f"has times ({timed[0][1]}); paste its lines into Prompt Timeline's events, or leave the times out: the "
            f"events share the video in equal parts"
        )
    return rows


def _row(line: str, folded: str, gap: bool, last: int) -> tuple[_Row, Mark | None]:
    """A line behind one with the number `last`, and the time that it starts with, if so."""
    for kind, pattern in (("global", _GLOBAL), ("heading", _LOCAL)):
        label = pattern.match(folded)
        if label is not None and (label["sign"] is not None or label["dash"] or len(folded.rstrip()) == label.end()):
            rest = line[label.end() :].strip()
            rest = "" if _YAML_TEXT.match(rest) else _without_closing(line, label.end(), rest)
            number = int(label["number"]) if label["number"] else None
            if kind == "heading" and rest and not rest.startswith("["):
                return _Row("event", rest, number, gap), None
            return _Row(kind, rest, number, gap), None
    mark = find_mark(line, folded)
    if mark is not None and mark.times is not None and mark.order is None:
        return _Row("plain", line.strip(), None, gap), mark
    if mark is not None and mark.level < LIKELY and mark.order != last + 1:
        mark = None  # "3 - 5 dogs"
    if mark is not None:
        text = _without_closing(line, mark.end, line[mark.end :].strip())
        return _Row("event", text, mark.order, gap, bool(_HEADING.match(line))), None
    bullet = _BULLET.match(line)
    if bullet is not None:
        return _Row("bullet", line[bullet.end() :].strip(), None, gap), None
    return _Row("plain", line.lstrip(" >\t").strip(), None, gap), None


def _without_closing(line: str, end: int, rest: str) -> str:
    """Without the bold sign or quote that was opened before a label and ends behind the text: **Event 1: it rolls**."""
    rest, before = rest.strip("=").strip(), fold(line[:end])
    signs = [sign for sign in (*_EMPHASIS, '"', "'") if before.count(sign) % 2 and fold(rest).endswith(sign)]
    sign = signs[0] if signs else ""
    odd = sign and not fold(rest)[: -len(sign)].count(sign) % 2
    return rest[: len(rest) - len(sign)].strip() if odd else rest


def _split_inside(line: str) -> list[str]:
    """A line with a label, cut before labels of events inside it: Global: a ball. Event 1: it rolls. Event 2: ..."""
    folded = fold(line)
    first = find_mark(line, folded)
    if not (_GLOBAL.match(folded) or (first is not None and first.times is None)):
        return [line]
    cuts, last = [0], first
    for candidate in INLINE.finditer(folded, 1):
        at = candidate.start()
        mark = find_mark(line[at : at + HEAD], folded[at : at + HEAD])
        if mark is None or mark.times is not None or not any(sign.isalnum() for sign in line[cuts[-1] : at]):
            continue
        if mark.kind == "list":
            believed = last is not None and last.kind == "list" and mark.order == last.order + 1
        else:
            believed = folded[at : at + mark.end].rstrip(" *_`").endswith(":")
        if believed:
            cuts.append(at)
            last = mark
    return [line[a:b].rstrip(" |;,") if b else line[a:] for a, b in zip(cuts, [*cuts[1:], None], strict=True)]


def _labelled(rows: list[_Row]) -> tuple[str, list[str]]:
    parts: list[_Part] = []
    before, pending = [], []
    has_global = any(row.kind == "global" for row in rows)
    numbered = any(row.number is not None for row in rows if row.kind == "event")
    current = None
    for row in rows:
        if row.kind in ("global", "heading", "event"):
            _refuse_between(pending)
            pending = []
            current = None
            if row.kind != "heading":
                texts = [row.text] if row.text else []
                current = _Part(row.number, row.kind == "global", texts, bool(texts) and row.titled)
                parts.append(current)
            elif row.text:
                raise ReplyError(f"has a list of events that cannot be read; write it as JSON, e.g. {EXAMPLE}")
        elif current is None:
            before += [] if parts else [row]
            if parts:
                pending.append(row)
        elif not current.rows or (not row.gap and not pending):
            if current.titled:
                current.rows, current.titled = [], False
            if not (row is rows[-1] and current.rows and _TALK.match(fold(row.text))):
                current.rows.append(row.text)
        else:
            pending.append(row)
    if not has_global:
        for row in before:
            if not (_TALK.match(fold(row.text)) or row.text.endswith((":", "\uff1a")) or _HEADING.match(row.text)):
                shown = row.text[:40]
                raise ReplyError(f'has text before the first event ("{shown}"); label it "Global:", or remove it')
    events = [part for part in parts if not part.shared]
    shared = [part for part in parts if part.shared]
    if len(shared) > 1:
        raise ReplyError('has two lines that start with "Global:"; keep one')
    numbers = [part.number for part in events]
    if numbered:
        _check_numbers(numbers, shared[0].number if shared else None)
    texts = [" ".join(part.rows) for part in events]
    return checked(" ".join(shared[0].rows) if shared else "", texts)


def _refuse_between(rows: list[_Row]) -> None:
    for row in rows:
        if not (_TALK.match(fold(row.text)) or _HEADING.match(row.text)):
            raise ReplyError(
                f'has a line that belongs to no event ("{row.text[:40]}"); join it to the event above, or remove it'
            )


def _check_numbers(numbers: list, before: int | None) -> None:
    if None not in numbers and (consecutive(numbers) or set(numbers) == {1}):
        return
    if before is not None and numbers == list(range(before + 1, before + 1 + len(numbers))):
        return
    given = ", ".join("none" if number is None else str(number) for number in numbers[:9])
    raise ReplyError(f"has events with the numbers {given}; number them 1, 2, 3, without gaps")


def _unlabelled(rows: list[_Row]) -> tuple[str, list[str]]:
    shared, local, empty = None, [], False
    for i, row in enumerate(rows):
        if row.kind == "global":
            if shared is not None:
                raise ReplyError('has two lines that start with "Global:"; keep one')
            shared, empty = row.text, not row.text
        elif row.kind == "heading":
            empty = False
        elif empty:
            shared, empty = row.text, False
        elif not (_is_talk(row, i, rows)):
            local.append(row.text)
    return checked(shared or "", local)


def _is_talk(row: _Row, i: int, rows: list[_Row]) -> bool:
    introduces = row.text.endswith((":", "\uff1a")) and i + 1 < len(rows)
    return i in (0, len(rows) - 1) and len(rows) > 1 and bool(_TALK.match(fold(row.text)) or (i == 0 and introduces))


def without_labels(shared: str, local: list[str]) -> tuple[str, list[str]]:
    """Prompts of a JSON answer without the labels that a model writes into them."""
    label = _GLOBAL.match(fold(shared))
    shared = shared[label.end() :] if label and label["sign"] else shared
    marks = [find_mark(prompt.strip(), fold(prompt.strip())) for prompt in local]
    if marks and all(mark is not None and mark.order is not None for mark in marks) and (
        consecutive([mark.order for mark in marks]) and (len(marks) > 1 or marks[0].times is None)
    ):
        local = [prompt.strip()[mark.end :] for prompt, mark in zip(local, marks, strict=True)]
    return shared, local


def checked(shared: str, local: list[str]) -> tuple[str, list[str]]:
    """In one line each, without quotes around them. Raises ReplyError for empty ones, and for labels that are left."""
    shared, local = _clean(shared), [_clean(prompt) for prompt in local]
    if not local:
        raise ReplyError(f"has no local prompt; write one per event, e.g. {EXAMPLE}")
    if len(local) > MOST_EVENTS:
        raise ReplyError(f"has {len(local)} events; a timeline holds at most {MOST_EVENTS}")
    for i, prompt in enumerate(local, 1):
        if not prompt:
            raise ReplyError(f"local prompt {i} of {len(local)} is empty; every event needs a text")
    for name, prompt in [("the global prompt", shared), *((f"local prompt {i}", p) for i, p in enumerate(local, 1))]:
        folded = fold(prompt)
        label = _GLOBAL.match(folded) or _LOCAL.match(folded)
        mark = find_mark(prompt, folded)
        numbered = mark and mark.times is None and mark.kind != "list" and ":" in folded[: mark.end]
        if (label and label["sign"]) or numbered or _ORDER_WORD.match(folded):
            raise ReplyError(f'has a label inside {name} ("{prompt[:40]}"); write it as JSON, e.g. {EXAMPLE}')
    return shared, local


def _clean(text: str) -> str:
    text = " ".join(text.split())
    title = _TITLE.match(text)
    text = text[title.end() :] if title else text
    bare = text.rstrip(",;").rstrip()
    folded = fold(bare)
    if len(bare) > 3 and folded[:2] == folded[-2:] == '""':  # three quotes, of which JSON took one
        return bare[2:-2].strip()
    if len(bare) > 1 and folded[0] in "\"'" and folded[-1] == folded[0] and folded[0] not in folded[1:-1]:
        return bare[1:-1].strip()
    for sign in _EMPHASIS:
        if len(text) > 2 * len(sign) and text.startswith(sign) and text.endswith(sign) and text.count(sign) == 2:
            return text[len(sign) : -len(sign)].strip()
    return text
