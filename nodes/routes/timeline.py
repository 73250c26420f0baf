"""POST /longtake/timeline: what the timeline widget in the browser asks of the parser and the writer.

Request, JSON:  {"text": str, "length": int, "fps": number, "blend": int, "timing": str (window), "edit": null or
                 {"events": [{"text": str, "start": int, "origin": int or null}, ...], "equal": bool},
                 "windows": null or {"node": node id, "values": {widget: value}, "compression": int},
                 "was": null or {"length": int, "fps": number} (null), "global_prompt": null or str, for the report}
Answer, JSON:   {"text": str, "way": "equal" | "lines" | "json", "warning": str or null,
                 "events": [{"text": str, "start": int, "end": int}, ...],
                 "windows": null or [{"start": int, "end": int, "events": [[index, weight], ...]}, ...],
                 "unused": null or what unused.py says, "fits": null or {"clip": str, "scale": str},
                 "report": str, where there is a global prompt, empty or not}

Without `edit` the text comes back as it is, read. With it, the text is rewritten (samplers/prompts/writer.py); `equal`
spreads the events evenly, whatever their starts. Times are pixel frames. `windows` asks which prompts each window of a
node gets, with timing frame as shares of its frames: no event stands for the global prompt. A text that runs past the
end of the video is answered with a warning, the events that lie in the video, and the text in two ways to make it
fit (samplers/prompts/fit.py); `was` is the video that it was made for. {"reply": str} asks for the texts of a
Structured Prompt's reply, and is answered with {"global_prompt": str, "events": str}. Anything else is answered with
status 400 and {"error": str}.
"""

import json
import math

from ...samplers.adapters.syncos import NODE as SYNCOS
from ...samplers.adapters.syncos import ChunkSettings
from ...samplers.chart import MOST_INDICES
from ...samplers.checks import number
from ...samplers.prompts import fit, timeline, writer
from ...samplers.prompts.frame_times import by_frame, shares
from ...samplers.windows import (
    WindowSettings,
    latent_length,
    local_windows,
    most_windows,
    pixel_length,
    stretches,
    window_centre,
)
from .._checks import checked
from ..prompts import answered
from ..syncos import LongTakeSynCoSKSampler, LongTakeSynCoSSampler
from ..windows import LongTakeWindowScheduler, window_settings
from . import BadRequest, handler
from .unused import unused
from .windows import LIMITS

PATH = "/longtake/timeline"
MAX_BYTES = 1_000_000
MAX_LENGTH = fit.LONGEST
MAX_WINDOWS = 10_000
MAX_LOOKUPS = 2_000_000  # windows times events: under a second of work
CHUNKS = ("window_length", "stride")
WINDOW_NODES = {  # node, and its widgets that decide where the windows lie
    "LongTakeWindowScheduler": (
        LongTakeWindowScheduler, ("window_length", "overlap", "schedule", "shift_seed", "overlap_end", "closed_loop")
    ),
    "LongTakeSynCoSKSampler": (LongTakeSynCoSKSampler, CHUNKS),
    "LongTakeSynCoSSampler": (LongTakeSynCoSSampler, CHUNKS),
}


def answer(body: bytes) -> dict:
    """The answer to a request's body. Raises BadRequest or timeline.TimelineError, both with a message for people."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):  # not UTF-8, not JSON, or nested without end
        raise BadRequest("the request is not JSON.") from None
    if not isinstance(request, dict):
        raise BadRequest("the request is not a JSON object.")
    if "reply" in request:
        return dict(zip(("global_prompt", "events"), answered(_get(request, "reply", str)), strict=True))
    text = _get(request, "text", str)
    length = _get(request, "length", int, 1, MAX_LENGTH)
    fps = float(_get(request, "fps", (int, float), 0.01, 1000))
    blend = _get(request, "blend", int, 0, MAX_LENGTH)
    timing = request.get("timing", "window")
    if timing not in timeline.TIMINGS:
        raise BadRequest(f"timing is not one of {', '.join(timeline.TIMINGS)}.")
    if request.get("edit") is not None:
        text = writer.write_timeline(text, _edits(request["edit"], length), length, fps)
    try:
        events, reading = timeline.read_timeline(text, length, fps)
    except timeline.TimelineError as error:
        return _fits(text, length, fps, request.get("was"), error)
    spans, warning = None, None
    try:
        spans = timeline.spans(events, blend, timing)
    except timeline.TimelineError as e:
        warning = str(e)
    windows, lost = None, None
    if spans is not None and request.get("windows") is not None:
        settings, stride = _window_settings(_get(request, "windows", dict))
        windows, lost = window_events(settings, spans), unused(settings, spans, stride)
    found = {"windows": windows, "unused": lost}
    if request.get("global_prompt") is not None:
        ordinary, prompts = timeline.join_prompts(_get(request, "global_prompt", str), events)
        found["report"] = timeline.report(events, prompts, ordinary, fps, blend, timing)
    return _answer(text, events, reading.way, warning) | found


def _answer(text: str, events: list[timeline.Event], way: str, warning: str | None) -> dict:
    shown = [{"text": e.text, "start": e.start, "end": e.end} for e in events]
    none = dict.fromkeys(("windows", "unused", "fits"))
    return {"text": text, "way": way, "warning": warning, "events": shown, **none}


def _fits(text: str, length: int, fps: float, was, error: timeline.TimelineError) -> dict:
    """The answer for a text that can only be read for a longer video. Raises `error` for any other text."""
    video = None
    if was is not None:
        was = _get({"was": was}, "was", dict)
        video = fit.Video(_get(was, "length", int, 1, MAX_LENGTH), float(_get(was, "fps", (int, float), 0.01, 1000)))
    try:
        events, reading = fit.shown(text, length, fps, video)
        fits = {way: fit.fitted(text, length, fps, way, video) for way in fit.FITS}
    except timeline.TimelineError:
        raise error from None
    return _answer(text, events, reading.way, str(error)) | {"fits": fits}


def window_events(settings: WindowSettings, spans: list[timeline.Span]) -> list[dict]:
    """The first step's local windows over the spans' video, and the events of each one. Raises BadRequest."""
    c = settings.compression
    frames = latent_length(spans[0].total, c)
    if settings.whole(frames) and not by_frame(spans):  # sampled without windows
        return [{"start": 0, "end": pixel_length(frames, c), "events": []}]
    count = most_windows(settings, frames)
    lookups = count * len(spans) * (settings.length if by_frame(spans) else 1)
    if count > MAX_WINDOWS or count * settings.length > MOST_INDICES or lookups > MAX_LOOKUPS:
        raise BadRequest(f"about {count} windows of {settings.length} latent frames are too many to draw.")
    out = []
    for window in local_windows(settings, frames, 0):
        if by_frame(spans):
            events = shares(spans, window.indices, c)
        else:
            events = timeline.span_weights(spans, window_centre(window.indices, c, frames))
        shown = [[index, round(weight, 3)] for index, weight in events]
        for first, last in stretches(window.indices):
            out.append({"start": pixel_length(first, c) if first else 0, "end": pixel_length(last + 1, c),
                        "events": shown})  # fmt: skip
    return sorted(out, key=lambda place: place["start"])


def _window_settings(request: dict) -> tuple[WindowSettings, bool]:
    """The windows of a node's widgets, missing ones by default, and whether a widget is their stride. Raises ValueError
    for people."""
    name, given = _get(request, "node", str), _get(request, "values", dict)
    if name not in WINDOW_NODES:
        raise BadRequest(f"windows of this node are not known; known: {', '.join(WINDOW_NODES)}.")
    node, widgets = WINDOW_NODES[name]
    inputs = {i.id: i for i in node.define_schema().inputs}
    values = {widget: checked(inputs[widget], given.get(widget, inputs[widget].default)) for widget in widgets}
    low, high, default = LIMITS["compression"]
    compression = number("compression", request.get("compression", default), low, high, True)
    if widgets is not CHUNKS:
        return window_settings(compression=compression, **values), False
    try:
        return ChunkSettings(values["window_length"], values["stride"]).windows(compression), True
    except ValueError as error:
        raise BadRequest(f"{SYNCOS}: {error}") from error


def _edits(edit, length: int) -> list[writer.Edit]:
    if not isinstance(edit, dict):
        raise BadRequest("edit is not a JSON object.")
    events = _get(edit, "events", list)
    most = min(timeline.MOST_EVENTS, length)
    if not 1 <= len(events) <= most:
        raise BadRequest(f"edit has {len(events)} events; it can have 1 to {most}.")
    borders = timeline.equal_borders(len(events), length)
    equal = _get(edit, "equal", bool)
    edits = []
    for i, event in enumerate(events):
        if not isinstance(event, dict):
            raise BadRequest(f"event {i + 1} is not a JSON object.")
        origin = event.get("origin")
        edits.append(
            writer.Edit(
                text=_get(event, "text", str),
                start=borders[i] if equal else _get(event, "start", int, 0, MAX_LENGTH),
                origin=None if origin is None else _get(event, "origin", int, 0, timeline.MOST_EVENTS),
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


handle = handler(answer, MAX_BYTES)
