"""POST /longtake/timeline: what the timeline widget in the browser asks of the parser and the writer.

Request, JSON:  {"text": str, "length": int, "fps": number, "blend": int, "edit": null or
                 {"events": [{"text": str, "start": int, "origin": int or null}, ...], "equal": bool}}
Answer, JSON:   {"text": str, "way": "equal" | "lines" | "json", "warning": str or null,
                 "events": [{"text": str, "start": int, "end": int}, ...]}

Without `edit` the text comes back as it is, read. With it, the text is rewritten (samplers/timeline_writer.py); `equal`
spreads the events evenly, whatever their starts. Times are pixel frames. Anything else is answered with status 400 and
{"error": str}.
"""

import json
import math

from ..samplers import timeline, timeline_writer
from . import _route

PATH = "/longtake/timeline"
MAX_BYTES = 1_000_000
MAX_EVENTS = 5000
MAX_LENGTH = 1_000_000  # as in the node


class BadRequest(ValueError):
    """A request that is not as above; the message says where."""


def answer(body: bytes) -> dict:
    """The answer to a request's body. Raises BadRequest or timeline.TimelineError, both with a message for people."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested without end
        raise BadRequest("the request is not JSON.") from None
    if not isinstance(request, dict):
        raise BadRequest("the request is not a JSON object.")
    text = _get(request, "text", str)
    length = _get(request, "length", int, 1, MAX_LENGTH)
    fps = float(_get(request, "fps", (int, float), 0.01, 1000))
    blend = _get(request, "blend", int, 0, MAX_LENGTH)
    if request.get("edit") is not None:
        text = timeline_writer.write_timeline(text, _edits(request["edit"], length), length, fps)
    events = timeline.parse_timeline(text, length, fps)
    warning = None
    try:
        timeline.spans(events, blend)
    except timeline.TimelineError as e:
        warning = str(e)
    return {
        "text": text,
        "way": timeline_writer.way_of(text),
        "warning": warning,
        "events": [{"text": e.text, "start": e.start, "end": e.end} for e in events],
    }


def _edits(edit, length: int) -> list[timeline_writer.Edit]:
    if not isinstance(edit, dict):
        raise BadRequest("edit is not a JSON object.")
    events = _get(edit, "events", list)
    if not 1 <= len(events) <= min(MAX_EVENTS, length):
        raise BadRequest(f"edit has {len(events)} events; it can have 1 to {min(MAX_EVENTS, length)}.")
    borders = timeline.equal_borders(len(events), length)
    equal = _get(edit, "equal", bool)
    edits = []
    for i, event in enumerate(events):
        if not isinstance(event, dict):
            raise BadRequest(f"event {i + 1} is not a JSON object.")
        origin = event.get("origin")
        edits.append(
            timeline_writer.Edit(
                text=_get(event, "text", str),
                start=borders[i] if equal else _get(event, "start", int, 0, MAX_LENGTH),
                origin=None if origin is None else _get(event, "origin", int, 0, MAX_EVENTS),
            )
        )
    return edits


def _get(where: dict, name: str, kind, low: float = -math.inf, high: float = math.inf):
    value = where.get(name)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise BadRequest(f"{name} is missing or of the wrong type.")
    if isinstance(value, (int, float)) and not low <= value <= high:
        raise BadRequest(f"{name} is not within {low} to {high}.")
    return value


handle = _route.handler(answer, MAX_BYTES)
