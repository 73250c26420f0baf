"""The prompt timeline, back to text: what an editor changed, in the way of writing that the text already uses.

The opposite of timeline.py, which says what the ways are. What was not changed stays as it was typed: spaces, blank
lines, units, the form of the marks, the order of JSON keys. A changed time keeps its unit, with the fewest digits that
round to its pixel frame.

Where a way cannot say it, the next one is taken: equal parts -> lines -> JSON (equal parts have no times; a line cannot
hold every prompt). In lines, a line break before what reads as a time becomes a space. A text that is not in one of
these ways (it was pasted, see marks.py) stays while nothing is changed, and is then written anew in the nearest way.
"""

import json
import math
import re
from dataclasses import dataclass, field

from .marks import LOOKS_LIKE_TIME, TIMES, TimelineError, find_mark, read_mark
from .parts import Reading, borders, split_at
from .signs import fold
from .texts import normal
from .timeline import Event, equal_borders, frames_per, parse_timeline, read_timeline, read_times

WAYS = ("equal", "lines", "json")  # each can say what the one before it can
_STRING = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)


@dataclass(frozen=True)
class Edit:
    """One event of the changed timeline: its prompt, its first pixel frame, and the index of the event of the old text
    that it was (None: it is new)."""

    text: str
    start: int
    origin: int | None = None


@dataclass
class _Source:
    """The old text in pieces: prefix, (head, middle, body) of each event with a separator between them, suffix. A head
    is a time as typed, with its colon or brackets (JSON: the key); equal parts have none."""

    prefix: str = ""
    suffix: str = ""
    heads: list[str] = field(default_factory=list)
    middles: list[str] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    separators: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)  # which piece each event is: JSON need not be in order of time


@dataclass(frozen=True)
class Made:
    """A text made for a video of `length` and `fps`: its events, in pixel frames of the video to be written for."""

    events: list[Event]
    reading: Reading
    length: int
    fps: float


def write_timeline(text: str, edits: list[Edit], length: int, fps: float, made: Made | None = None) -> str:
    """`text` (blank, or readable) changed to say what `edits` say: events in order of time, the first at frame 0, each
    up to the start of the next, for `length` pixel frames at `fps`. made: where the text is for another video.

    Raises TimelineError, also for a `text` that cannot be read.
    """
    text = normal(text)
    if made is None:
        events, reading = read_timeline(text, length, fps) if text.strip() else ([], Reading("equal", True))
        made = Made(events, reading, length, fps)
    old, reading = made.events, made.reading
    _check(edits, len(old), length)
    wanted = [(_words(edit.text), edit.start) for edit in edits]
    same = (made.length, made.fps) == (length, fps) and wanted == [(_words(e.text), e.start) for e in old]
    if same and not reading.own:
        return text
    for way in WAYS[WAYS.index(reading.way) :]:
        if way == "equal" and [edit.start for edit in edits] != equal_borders(len(edits), length)[:-1]:
            continue
        kept = [_READ[way](text, made.length, made.fps)] if old and reading.own and way == reading.way else []
        for source in [*kept, _Source()]:
            written = _write(way, source, old, edits, length, fps)
            try:
                got = [(_words(event.text), event.start) for event in parse_timeline(written, length, fps)]
            except TimelineError:
                continue
            if got == wanted:
                return written
    raise TimelineError("events: these prompts cannot be written as a timeline.")


def _check(edits: list[Edit], count: int, length: int) -> None:
    if not edits:
        raise TimelineError("events: a timeline needs at least one event.")
    if edits[0].start != 0:
        raise TimelineError(f"events: the first event must start at frame 0, not {edits[0].start}.")
    for i, edit in enumerate(edits, 1):
        if not edit.text.strip():
            raise TimelineError(f"events: event {i} has no prompt. Write one, or delete the event.")
        if edit.origin is not None and not 0 <= edit.origin < count:
            raise TimelineError(f"events: event {i} was event {edit.origin} (from 0), but the text has {count}.")
        end = edits[i].start if i < len(edits) else length
        if not edit.start < end:
            raise TimelineError(
                f"events: event {i} starts at frame {edit.start} and ends at frame {end}; it needs at least one frame."
            )


def _words(text: str) -> str:
    return " ".join(text.split())


# Reading the pieces. The text is known to be readable, which keeps the patterns simple.


def _read_equal(text: str, length: int, fps: float) -> _Source:
    source = _Source()
    bars = borders(text)
    for i, part in enumerate(split_at(text, bars)):
        lead, body, trail = _split_space(part)
        if i:
            source.separators.append(f"{source.suffix}{text[bars[i - 1]]}{lead}")
        else:
            source.prefix = lead
        source.suffix = trail
        source.bodies.append(body)
    source.places = list(range(len(source.bodies)))
    return source


def _read_lines(text: str, length: int, fps: float) -> _Source:
    source = _Source()
    behind = ""  # what stands behind the last mark so far, or before the first

    def end_piece() -> str:
        middle, body, space = _split_space(behind)
        source.middles.append(middle)
        source.bodies.append(body)
        return space

    for line in text.split("\n"):
        if read_mark(line):
            indent, rest, _ = _split_space(line)
            head = read_mark(rest).group().rstrip()
            if source.heads:
                source.separators.append(end_piece() + indent)
            else:
                source.prefix = behind + indent
            source.heads.append(head)
            behind = line[len(indent) + len(head) :] + "\n"
        else:
            behind += line + "\n"
    source.suffix = end_piece()[:-1]  # the last line has no line break
    source.places = list(range(len(source.bodies)))
    return source


def _read_json(text: str, length: int, fps: float) -> _Source:
    strings = list(_STRING.finditer(text))
    between = [text[a.end() : b.start()] for a, b in zip(strings, strings[1:], strict=False)]
    heads = [json.loads(key.group()) for key in strings[0::2]]
    starts = [read_times(TIMES.fullmatch(head).groups(), "", length, fps)[0] for head in heads]
    return _Source(
        prefix=text[: strings[0].start()],
        suffix=text[strings[-1].end() :],
        heads=heads,
        middles=between[0::2],
        bodies=[value.group() for value in strings[1::2]],
        separators=between[1::2],
        places=sorted(range(len(heads)), key=starts.__getitem__),
    )


def _split_space(text: str) -> tuple[str, str, str]:
    """White space before, the text, white space behind."""
    body = text.strip()
    start = text.index(body)
    return text[:start], body, text[start + len(body) :]


_READ = {"equal": _read_equal, "lines": _read_lines, "json": _read_json}


# Writing.


def _write(way: str, source: _Source, old: list[Event], edits: list[Edit], length: int, fps: float) -> str:
    pieces: list[tuple[float, str]] = []  # (place in the old text, text)
    known = bool(source.bodies)
    for i, edit in enumerate(edits):
        event = old[edit.origin] if known and edit.origin is not None else None
        place = source.places[edit.origin] if event else None
        same = event and edit.text.strip() == event.text
        body = source.bodies[place] if same else _body(way, edit.text.strip())
        if way == "equal":
            pieces.append((i, body))
            continue
        like = place if event else _neighbour(edits, i, source)
        head, middle = "0s" if way == "json" else "0s:", ": " if way == "json" else " "
        if like is not None:
            head, middle = source.heads[like], source.middles[like]
        end = edits[i + 1].start if i + 1 < len(edits) else length
        head = _retime(head, event, edit.start, end, length, fps)
        before = pieces[-1][0] if pieces else -1.0
        quoted = json.dumps(head, ensure_ascii=False) if way == "json" else head
        pieces.append((before if place is None else place, quoted + middle + body))
    kept = [edit.origin for edit in edits if edit.origin is not None]
    if way == "json" and kept == sorted(kept):  # not reordered: keys stay where they were typed
        pieces.sort(key=lambda piece: piece[0])
    return _join(way, source, [text for _, text in pieces])


def _neighbour(edits: list[Edit], i: int, source: _Source) -> int | None:
    """The piece whose form a new event takes: that of the event before it, or else the first after it."""
    for edit in [*reversed(edits[:i]), *edits[i + 1 :]]:
        if source.bodies and edit.origin is not None:
            return source.places[edit.origin]
    return None


def _body(way: str, text: str) -> str:
    if way == "json":
        return json.dumps(text, ensure_ascii=False)
    if way == "equal":
        for place in reversed(borders(text)):
            text = f"{text[:place]}\\{text[place:]}"
        return text
    first, *more = (line.strip() for line in text.split("\n") if line.strip())
    return first + "".join((" " if _starts_like_a_mark(line) else "\n") + line for line in more)


def _starts_like_a_mark(line: str) -> bool:
    return bool(LOOKS_LIKE_TIME.match(line) or find_mark(line, fold(line)))


def _retime(head: str, event: Event | None, start: int, end: int, length: int, fps: float) -> str:
    """`head` with the times of an event at [start, end): `event` is the one whose head it is, None for a new one."""
    mark = TIMES.search(head)
    number, unit, number_2, unit_2 = mark.groups()
    written_start, written_end = event.written if event else (None, None)
    if event and start == event.start == 0 < written_start < end:
        start = written_start  # the first event, written to start late, still does: it fills the gap
    if written_end is not None and written_end != event.end and start < written_end < end:
        end = written_end  # a gap behind it stays
    if event is None or not _says(number, unit or unit_2, start, length, fps):
        number = _number(start, unit or unit_2, length, fps)
    if number_2 is None:
        return head[: mark.start(1)] + number + head[mark.end(1) :]
    if event is None or not _says(number_2, unit_2 or unit, end, length, fps):
        number_2 = _number(end, unit_2 or unit, length, fps)
    return head[: mark.start(1)] + number + head[mark.end(1) : mark.start(3)] + number_2 + head[mark.end(3) :]


def _says(number: str, unit: str | None, frame: int, length: int, fps: float) -> bool:
    """Whether a typed number still means this pixel frame."""
    frames = float(number) * frames_per((unit or "f").lower(), length, fps)
    return frames <= length + 0.5 and min(length, math.floor(frames + 0.5)) == frame


def _number(frame: int, unit: str | None, length: int, fps: float) -> str:
    """The shortest number of `unit` that is rounded to `frame`."""
    per = frames_per((unit or "f").lower(), length, fps)
    for digits in range(13):
        number = f"{frame / per:.{digits}f}"
        if float(number) * per <= length + 0.5 and math.floor(float(number) * per + 0.5) == frame:
            return number
    return number


def _join(way: str, source: _Source, pieces: list[str]) -> str:
    prefix, suffix = source.prefix, source.suffix
    between = {"equal": " | ", "lines": "\n", "json": "," + (prefix.lstrip()[1:] or " ")}[way]
    if way == "json" and not source.bodies:
        prefix, between, suffix = "{\n  ", ",\n  ", "\n}"
    between = source.separators[-1] if source.separators else between
    missing = len(pieces) - 1 - len(source.separators)
    separators = source.separators[: len(pieces) - 1] + [between] * missing + [suffix]
    return prefix + "".join(piece + space for piece, space in zip(pieces, separators, strict=True))
