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
  and a number (then it is a mistyped time: an error). Times and `|` between events do not mix. `\\|` is a plain `|`,
  and so is one inside brackets or braces that are closed.

What people paste from elsewhere is read, too (marks.py, lines.py): times in words, clock times, bullets, bold,
schedules of quoted pairs, full-width signs. Numbers that count events (1. 2. 3., "Scene 1:") stand for equal parts, not
for frames 1, 2, 3. Two or more lines that all begin like a time are a timeline or an error, never one prompt.
"""

import math
from dataclasses import dataclass

from .marks import TimelineError
from .parts import MOST_EVENTS, Entry, Reading, bad_time, short
from .texts import normal, read_text

TIMINGS = ("window", "frame")  # what is told a prompt: a window, or each frame its own event's (frame_times.py)
BORDERS = ("linear", "gaussian")


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
    `blend`, the pixel frames over which neighbours cross-fade, centred on their border; timing and border as in
    frame_times.py. plan: follow.py's Plan where the video is not known yet; start, end and total are then no times."""

    index: int
    start: float
    end: float
    blend: float
    total: int
    timing: str = "window"
    border: str = "linear"
    plan: object = None


@dataclass(frozen=True)
class _Placed:
    label: str
    text: str
    start: int
    end: int | None


def parse_timeline(text: str, length: int, fps: float) -> list[Event]:
    """Read `text` for a video of `length` pixel frames at `fps` frames a second: events that cover [0, length).

    Raises TimelineError.
    """
    return read_timeline(text, length, fps)[0]


def read_timeline(text: str, length: int, fps: float) -> tuple[list[Event], Reading]:
    """The events, and how the text is written."""
    if length < 1:
        raise TimelineError(f"length ({length} pixel frames) must be at least 1.")
    if not (math.isfinite(fps) and fps > 0):
        raise TimelineError(f"fps ({fps}) must be greater than 0.")
    reading = read_text(normal(text))
    count = len(reading.parts or reading.entries)
    if count > MOST_EVENTS:
        raise TimelineError(
            f"events: {count} events; a timeline holds at most {MOST_EVENTS}. Put neighbours together, or make the "
            f"video in parts."
        )
    if reading.parts is not None:
        return _split_equally(reading.parts, length), reading
    if reading.counted and count < length:
        raise TimelineError(
            f"events: the times 0, 1{', ...' if count > 2 else ''} may be frames, seconds or a list's numbers. Write "
            f"frames as 0f: 1f:, seconds as 0s: 1s:, or a list from 1 or with '|' between the prompts (equal parts)."
        )
    placed = [_place(entry, length, fps) for entry in reading.entries]
    if reading.way == "json":
        placed.sort(key=lambda entry: entry.start)
    return _lay_out(placed, length, fps), reading


def _place(entry: Entry, length: int, fps: float) -> _Placed:
    return _Placed(entry.label, entry.text, *read_times(entry.times, entry.label, length, fps))


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


def _lay_out(entries: list[_Placed], length: int, fps: float) -> list[Event]:
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


def read_times(groups: tuple, label: str, length: int, fps: float) -> tuple[int, int | None]:
    """Start and end (None where not written) in pixel frames, from a mark's groups. Raises TimelineError."""
    a, a_unit, b, b_unit = groups
    start = _frame(a, a_unit or b_unit, label, length, fps)
    return start, None if b is None else _frame(b, b_unit or a_unit, label, length, fps)


def frames_per(unit: str, length: int, fps: float) -> float:
    """Pixel frames in one unit of time: s, f or %."""
    return {"s": fps, "f": 1.0, "%": length / 100}[unit]


def _frame(number: str, unit: str | None, label: str, length: int, fps: float) -> int:
    if unit == "?":
        raise bad_time(f"{label}: the number {number} has no unit and")
    unit = (unit or "f").lower()
    frames = float(number) * frames_per(unit, length, fps)
    if frames < 0:
        raise TimelineError(f"events: {label}: {short(number + unit)} is before the video; times start at 0.")
    if frames > length + 0.5:  # what rounds to the end is the end: nobody types 18.3125 s
        raise TimelineError(
            f"events: {label}: {short(number + unit)} is past the end of the video, which has {_clock(length, fps)}. "
            f"Use an earlier time, or raise length."
        )
    return min(length, math.floor(frames + 0.5))


def _clock(frames: int, fps: float) -> str:
    return f"{frames} pixel frames = {frames / fps:.2f} s at {fps:g} fps"


def spans(events: list[Event], blend: float = 0, timing: str = "window", border: str = "linear") -> list[Span]:
    """The events' spans, borders cross-faded over `blend` pixel frames. Raises TimelineError for a blend that is
    negative or wider than the shortest event (two cross-fades would meet), or a timing or border that is none."""
    for name, value, known in (("timing", timing, TIMINGS), ("border", border, BORDERS)):
        if value not in known:
            raise TimelineError(f"{name} ({value}) must be one of {', '.join(known)}.")
    shortest = min(event.end - event.start for event in events)
    if not 0 <= blend <= shortest:
        raise TimelineError(f"blend ({blend} pixel frames) must be 0 to {shortest}, the length of the shortest event.")
    return [Span(i, e.start, e.end, blend, events[-1].end, timing, border) for i, e in enumerate(events)]


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


def report(
    events: list[Event], prompts: list[str], ordinary: str, fps: float, blend: float = 0, timing: str = "window"
) -> str:
    """Markdown: a table event, frames, seconds -> prompt, and what the gap rule changed."""
    length = events[-1].end
    rows, notes = [], []
    for i, (event, prompt) in enumerate(zip(events, prompts, strict=True), 1):
        text = " ".join(prompt.split()).replace("|", "\\|")
        seconds = f"{event.start / fps:.2f} - {event.end / fps:.2f}"
        rows.append(f"| {i} | {event.start} - {event.end - 1} | {seconds} | {text} |")
        start, end = event.written
        if event.start < start:
            notes.append(f"- Event {i} was set to start at frame {start}; nothing comes before it, so it starts at 0.")
        if end is not None and event.end > end:
            notes.append(f"- Event {i} was set to end before frame {end}; nothing follows at once, so it continues.")
    fade = f", cross-fade {blend:g} frames" if blend else ""
    by_frame = timing == "frame" and len(events) > 1
    fade += ", each frame with its own event's prompt" if by_frame else ""
    other = "" if by_frame else ", and on the global path"
    return "\n".join(
        [f"{len(events)} event{'s' if len(events) > 1 else ''} in {_clock(length, fps)}{fade}", ""]
        + ["| event | frames | seconds | prompt |", "|---|---|---|---|", *rows, "", *notes]
        + [f"- Without LongTake windows{other}: {' '.join(ordinary.split())}"]
    )
