"""Prompt timeline: which prompt describes which stretch of a long video.

Each window takes the prompt under its centre; SynCoS (arXiv 2503.08605, sec. 4.2) writes every local prompt as the
global description plus the local event. SynCoS does not say how chunks map to prompts: the mapping by the window's
centre is ours, and so is the linear cross-fade at a border.

The text is read in one of four ways, recognised by how it starts:

    JSON      {"0": "a", "3s": "b", "60%": "c"}          the text starts with `{`
    lines     [0-3s] a   |  [3s-6s] b  |  6s: c           the first line starts with a time (one event a line)
    equal     a | b | c                                   no line starts with a time, and there is a `|`
    single    a                                           anything else: one event over the whole video

A time is a number with a unit: s (seconds), f or nothing (pixel frames), % (of the video); units may be mixed. In a
range a bare number takes the unit of the other one ([3-6s] is 3 s to 6 s). A colon after a bare number needs a
space behind it ("16:9 video" is text). Rules:

- Times are rounded to whole pixel frames. An event without an end runs to the next start, or to the video's end.
- Gaps: the previous prompt continues into the gap; the first prompt starts early, at frame 0.
- Errors: overlaps, two events at one start, an event shorter than one frame, times below 0 or past the end.
- Lines must be in order of time. JSON objects have no order: their events are sorted.
- Among lines with times, a line without one continues the prompt above, unless it starts with a number or a bracket
  and a number (then it is a mistyped time: an error). Times and `|` between events do not mix. `\\|` is a plain `|`.
"""

import json
import math
import re
from dataclasses import dataclass

EXAMPLE_LINES = "0s: a red circle\n6s: a blue circle"
EXAMPLE_JSON = '{"0": "a red circle", "6s": "a blue circle", "60%": "a green circle"}'

_TIME = r"(-?(?:\d+(?:\.\d*)?|\.\d+))(?:\s*([sSfF%]))?"
_RANGE = _TIME + "(?:\\s*[-\u2013\u2014]\\s*" + _TIME + ")?"
TIMES = re.compile(rf"\s*{_RANGE}\s*")
_BRACKET_MARK = re.compile(rf"\s*\[\s*{_RANGE}\s*\]\s*:?")
_COLON_MARK = re.compile(rf"\s*{_RANGE}\s*:(?:(?=\s|$)|(?<=[sSfF%]:))")
LOOKS_LIKE_TIME = re.compile(r"\s*\[?\s*-?\.?\d")
_LOOKS_LIKE_BRACKET_MARK = re.compile(r"\s*\[\s*-?\.?\d")
_LOOKS_LIKE_JSON_LIST = re.compile(r"\s*\[\s*[\"{\[]")
BAR = re.compile(r"(?<!\\)\|")


class TimelineError(ValueError):
    """A timeline that cannot be read; the message starts with the input's name and says what would work."""


@dataclass(frozen=True)
class Event:
    """One prompt in time. Pixel frames [start, end) after the rules above; `written` is what the text said (end None
    when it said none)."""

    text: str
    start: int
    end: int
    written: tuple[int, int | None]


@dataclass(frozen=True)
class Span:
    """Where an event acts: event `index` (from 0), pixel frames [start, end) of a video of `total` pixel frames, and
    `blend`, the pixel frames over which neighbours cross-fade, centred on their border."""

    index: int
    start: float
    end: float
    blend: float
    total: int


@dataclass(frozen=True)
class _Entry:
    label: str  # what error messages call this event
    text: str
    start: int
    end: int | None


def parse_timeline(text: str, length: int, fps: float) -> list[Event]:
    """Read `text` for a video of `length` pixel frames at `fps` frames a second: events that cover [0, length).

    Raises TimelineError.
    """
    if length < 1:
        raise TimelineError(f"length ({length} pixel frames) must be at least 1.")
    if not (math.isfinite(fps) and fps > 0):
        raise TimelineError(f"fps ({fps}) must be greater than 0.")
    text = text.replace("\r\n", "\n").replace("\r", "\n").lstrip("\ufeff")
    if not text.strip():
        raise TimelineError(f"events is empty. Write at least one prompt, for example:\n{EXAMPLE_LINES}")
    if text.lstrip().startswith("{"):
        return _lay_out(sorted(_read_json(text, length, fps), key=lambda entry: entry.start), length, fps)
    if _LOOKS_LIKE_JSON_LIST.match(text):
        raise TimelineError(f"events is a JSON list; write an object from times to prompts: {EXAMPLE_JSON}")

    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    marked = [number for number, line in lines if read_mark(line)]
    if marked and marked[0] != lines[0][0]:
        raise TimelineError(
            f"events: line {marked[0]} starts with a time, but the text before it has none. Give the first line "
            f"a time too, for example:\n{EXAMPLE_LINES}"
        )
    if marked:
        return _lay_out(_read_lines(lines, length, fps), length, fps)
    for number, line in lines:
        if _LOOKS_LIKE_BRACKET_MARK.match(line):
            raise _bad_time(f"line {number} ({_short(line)})")
    return _split_equally([part.replace("\\|", "|").strip() for part in _split_bars(text)], length)


def _split_bars(text: str) -> list[str]:
    parts = BAR.split(text)
    for part in parts[1:]:
        if read_mark(part):
            raise TimelineError(
                f"events: {_short(part)} has a time behind a '|'. Write either prompts with '|' between them (equal "
                f"parts), or one timed prompt a line:\n{EXAMPLE_LINES}"
            )
    return parts


def _split_equally(parts: list[str], length: int) -> list[Event]:
    n = len(parts)
    for i, part in enumerate(parts, 1):
        if not part:
            raise TimelineError(f"events: prompt {i} of the {n} between '|' is empty. Remove a '|' or write a prompt.")
    if n > length:
        raise TimelineError(f"events: {n} prompts do not fit into {length} pixel frames; each needs at least one.")
    border = equal_borders(n, length)
    return [Event(part, border[i], border[i + 1], (border[i], border[i + 1])) for i, part in enumerate(parts)]


def equal_borders(n: int, length: int) -> list[int]:
    """The n + 1 borders, in pixel frames, of n equal parts."""
    return [math.floor(i * length / n + 0.5) for i in range(n + 1)]


def _read_lines(lines: list[tuple[int, str]], length: int, fps: float) -> list[_Entry]:
    entries: list[_Entry] = []
    for number, line in lines:
        label = f"line {number} ({_short(line)})"
        mark = read_mark(line)
        if mark:
            start, end = read_times(mark.groups(), label, length, fps)
            rest = line[mark.end() :]
            _split_bars(rest)  # only to refuse "a | 3s: b"
            entries.append(_Entry(label, rest.strip(), start, end))
        elif LOOKS_LIKE_TIME.match(line):
            raise _bad_time(label)
        else:
            _split_bars(line)
            last = entries[-1]
            entries[-1] = _Entry(last.label, f"{last.text}\n{line.strip()}".strip(), last.start, last.end)
    return entries


def _read_json(text: str, length: int, fps: float) -> list[_Entry]:
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
    entries = []
    for key, value in pairs:
        label = f"time {_short(key)}"
        mark = TIMES.fullmatch(key)
        if not mark:
            raise _bad_time(label)
        if not isinstance(value, str):
            raise TimelineError(f"events: the prompt at {label} is not a text in quotes. Example: {EXAMPLE_JSON}")
        entries.append(_Entry(label, value.strip(), *read_times(mark.groups(), label, length, fps)))
    return entries


def _lay_out(entries: list[_Entry], length: int, fps: float) -> list[Event]:
    """Check the order of the events and close the gaps between them."""
    for entry in entries:
        if not entry.text:
            raise TimelineError(f"events: {entry.label} has no prompt. Write one behind the time, or remove the time.")
        if entry.start >= length:
            raise TimelineError(
                f"events: {entry.label} starts at the end of the video ({_clock(length, fps)}) or so close to it that "
                f"not one frame is left. Start earlier, or raise length."
            )
        if entry.end is not None and entry.end <= entry.start:
            raise TimelineError(
                f"events: {entry.label} ends at frame {entry.end}, not after its start at frame {entry.start} (times "
                f"are rounded to whole frames)."
            )
    for a, b in zip(entries, entries[1:], strict=False):
        if b.start <= a.start:
            raise TimelineError(
                f"events: {b.label} starts at frame {b.start}, but {a.label} above it starts at frame {a.start}. "
                f"Each event must start later than the one before it."
            )
        if a.end is not None and a.end > b.start:
            raise TimelineError(
                f"events: {a.label} and {b.label} overlap: the first ends at frame {a.end}, the second starts at frame "
                f"{b.start}. To cross-fade between prompts, let them touch and use blend."
            )
    starts = [0] + [entry.start for entry in entries[1:]] + [length]
    return [Event(e.text, starts[i], starts[i + 1], (e.start, e.end)) for i, e in enumerate(entries)]


def read_mark(line: str) -> re.Match | None:
    """The time that a line starts with: groups number, unit, number, unit (None where not written)."""
    return _BRACKET_MARK.match(line) or _COLON_MARK.match(line)


def read_times(groups: tuple, label: str, length: int, fps: float) -> tuple[int, int | None]:
    """Start and end (None where not written) in pixel frames, from a mark's groups. Raises TimelineError."""
    a, a_unit, b, b_unit = groups
    start = _frame(a, a_unit or b_unit, label, length, fps)
    return start, None if b is None else _frame(b, b_unit or a_unit, label, length, fps)


def frames_per(unit: str, length: int, fps: float) -> float:
    """Pixel frames in one unit of time: s, f or %."""
    return {"s": fps, "f": 1.0, "%": length / 100}[unit]


def _frame(number: str, unit: str | None, label: str, length: int, fps: float) -> int:
    unit = (unit or "f").lower()
    frames = float(number) * frames_per(unit, length, fps)
    if frames < 0:
        raise TimelineError(f"events: {label}: {_short(number + unit)} is before the video; times start at 0.")
    if frames > length + 0.5:  # what rounds to the end is the end: nobody types 18.3125 s
        raise TimelineError(
            f"events: {label}: {_short(number + unit)} is past the end of the video, which has {_clock(length, fps)}. "
            f"Use an earlier time, or raise length."
        )
    return min(length, math.floor(frames + 0.5))


def _bad_time(label: str) -> TimelineError:
    return TimelineError(
        f"events: {label} starts like a time but cannot be read as one. Times are 3s (seconds), 48 or 48f (pixel "
        f"frames) or 30%, as '3s: prompt', '[0-3s] prompt' or a JSON key. A prompt that really starts so goes "
        f'into JSON: {{"0": "..."}}'
    )


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 40 else text[:37] + "...")


def _clock(frames: int, fps: float) -> str:
    return f"{frames} pixel frames = {frames / fps:.2f} s at {fps:g} fps"


def spans(events: list[Event], blend: float = 0) -> list[Span]:
    """The events' spans, borders cross-faded over `blend` pixel frames. Raises TimelineError for a blend that is
    negative or wider than the shortest event (two cross-fades would meet)."""
    shortest = min(event.end - event.start for event in events)
    if not 0 <= blend <= shortest:
        raise TimelineError(f"blend ({blend} pixel frames) must be 0 to {shortest}, the length of the shortest event.")
    return [Span(i, e.start, e.end, blend, events[-1].end) for i, e in enumerate(events)]


def span_weights(spans: list[Span], centre: float) -> list[tuple[int, float]]:
    """The events of a window whose centre is at pixel frame `centre`: [(Span.index, weight)], weights sum to 1.

    One event, or two within blend / 2 of their border, where the later one's weight rises linearly from 0 to 1.
    Before the first start the first event, after the last end the last. `spans` in order of time, touching.
    """
    if not spans:
        raise ValueError("spans is empty.")
    for a, b in zip(spans, spans[1:], strict=False):
        if centre < b.start + b.blend / 2:
            if b.blend == 0 or centre <= b.start - b.blend / 2:
                return [(a.index, 1.0)]
            weight = (centre - b.start) / b.blend + 0.5
            return [(a.index, 1.0 - weight), (b.index, weight)]
    return [(spans[-1].index, 1.0)]


def join_prompts(global_prompt: str, events: list[Event]) -> tuple[str, list[str]]:
    """(the ordinary prompt, one text per event): global + ", " + local; an empty global leaves the locals, and their
    list as the ordinary prompt. The ordinary prompt is the global prompt as typed, so that it encodes as usual."""
    if not global_prompt.strip():
        return ", ".join(event.text for event in events), [event.text for event in events]
    shared = global_prompt.strip().rstrip(" .,\n")
    return global_prompt, [f"{shared}, {event.text}" if shared else event.text for event in events]


def report(events: list[Event], prompts: list[str], ordinary: str, fps: float, blend: float = 0) -> str:
    """A table frames, seconds -> prompt, and what the gap rule changed."""
    length = events[-1].end
    rows = [("frames", "seconds", "prompt")]
    notes = []
    for i, (event, prompt) in enumerate(zip(events, prompts, strict=True), 1):
        seconds = f"{event.start / fps:.2f} - {event.end / fps:.2f}"
        rows.append((f"{event.start} - {event.end - 1}", seconds, " ".join(prompt.split())))
        start, end = event.written
        if event.start < start:
            notes.append(f"Event {i} was set to start at frame {start}; nothing comes before it, so it starts at 0.")
        if end is not None and event.end > end:
            notes.append(f"Event {i} was set to end before frame {end}; nothing follows at once, so it continues.")
    widths = [max(len(row[column]) for row in rows) for column in (0, 1)]
    fade = f", cross-fade {blend:g} frames" if blend else ""
    return "\n".join(
        [f"{len(events)} event{'s' if len(events) > 1 else ''} in {_clock(length, fps)}{fade}"]
        + [f"{frames:<{widths[0]}}  {seconds:<{widths[1]}}  {prompt}" for frames, seconds, prompt in rows]
        + [f"Without LongTake windows, and on the global path: {' '.join(ordinary.split())}"]
        + notes
    )
