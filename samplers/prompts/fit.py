"""A timeline made for another video: laid out for this one, so that a shorter video, or other fps, lose no event.

clip: times stay as written; what lies behind the video's end is left out. scale: every event keeps its share of the
video. What the other video was is known, or guessed from the times: up to the last one, and as long again as an event.
"""

import math
from dataclasses import dataclass

from .parts import Reading
from .texts import normal, read_text
from .timeline import Event, TimelineError, read_timeline, read_times
from .writer import Edit, Made, write_timeline

FITS = ("clip", "scale")
LONGEST = 1_000_000  # pixel frames, as in the node


@dataclass(frozen=True)
class Video:
    length: int
    fps: float


def guessed(text: str, fps: float) -> Video:
    """A video that is long enough for all times of a text. Raises TimelineError where it cannot be read."""
    entries = read_text(normal(text)).entries or []
    times = [read_times(entry.times, entry.label, LONGEST, fps) for entry in entries if "%" not in entry.times]
    last = max((end if end is not None else start for start, end in times), default=0)
    open_ends = [start for start, end in times if end is None]
    if open_ends and max(open_ends) == last:  # the last event has no end: as long as the others on average
        last += max(1, math.ceil(last / max(1, len(times) - 1)))
    return Video(min(LONGEST, max(1, last)), fps)


def fitted(text: str, length: int, fps: float, fit: str, was: Video | None = None) -> str:
    """The text, laid out for this video. was: the one that it was made for, None: not known. Raises TimelineError."""
    made = _made(text, length, fps, fit, was)
    edits = [Edit(e.text, e.start, i) for i, e in enumerate(made.events) if e.start < length]
    return write_timeline(text, edits, length, fps, made)


def shown(text: str, length: int, fps: float, was: Video | None = None) -> tuple[list[Event], Reading]:
    """What of a text lies in this video. Raises TimelineError."""
    made = _made(text, length, fps, "clip", was)
    return [e for e in made.events if e.start < length], made.reading


def _made(text: str, length: int, fps: float, fit: str, was: Video | None) -> Made:
    """The text's events in this video's pixel frames, also those behind its end."""
    known = was is not None and (fit == "scale" or was.fps == fps)
    tries = [was] if known else [guessed(text, fps), was]
    for video in [video for video in [*tries, guessed(text, fps)] if video is not None]:
        try:
            events, reading = read_timeline(text, video.length, video.fps)
            break
        except TimelineError as error:
            refused = error
    else:
        raise refused
    if fit == "clip":
        ends = [min(e.end, length) if e.start < length else e.end for e in events]
        cut = [min(e.written[1], length) if e.written[1] is not None else None for e in events]
        laid = [Event(e.text, e.start, end, (e.written[0], w)) for e, end, w in zip(events, ends, cut, strict=True)]
    else:
        laid = _scaled(events, length / video.length, length)
    return Made(laid, reading, video.length, video.fps)


def _scaled(events: list[Event], ratio: float, length: int) -> list[Event]:
    if len(events) > length:
        raise TimelineError(f"events: {len(events)} events do not fit into {length} pixel frames; each needs one.")
    starts = [0]
    for i, event in enumerate(events[1:], 1):
        most = length - (len(events) - i)
        starts.append(min(most, max(starts[-1] + 1, math.floor(event.start * ratio + 0.5))))
    ends = [*starts[1:], length]

    def moved(event: Event, start: int, end: int) -> tuple[int, int | None]:
        """Where the event was written to be: a gap before or behind it is scaled, too."""
        first, last = event.written
        first = start if first == event.start else min(end - 1, math.floor(first * ratio + 0.5))
        if last is None or last == event.end:
            return first, None if last is None else end
        return first, min(end, max(first + 1, math.floor(last * ratio + 0.5)))

    return [Event(e.text, s, end, moved(e, s, end)) for e, s, end in zip(events, starts, ends, strict=True)]
