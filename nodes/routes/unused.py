"""Events of a timeline that a run would not use, with what would bring each back: for the timeline widget."""

from dataclasses import replace

from ...samplers.adapters.timeline_notes import lost_events, unseen_events
from ...samplers.prompts.frame_times import by_frame, frame_centre
from ...samplers.prompts.remedies import lengthened
from ...samplers.prompts.timeline import Span
from ...samplers.windows import (
    WindowSettings,
    latent_length,
    local_windows,
    most_windows,
    pixel_length,
    window_centre,
)
from ..windows import REPORT_STEPS

SHORTEST = 3  # latent frames of a window that is offered
MOST_LOOKUPS = 500_000  # windows times events: a quarter of a second


def unused(settings: WindowSettings, spans: list[Span], stride: bool) -> dict | None:
    """{"events": indices, "lengthen": {index: [start, end]}, "shorter": {widget: value} or null}; None: all are used.

    lengthen: the pixel frames that an event would need. shorter: the longest shorter windows that leave no event out,
    as window_length and overlaps, or stride, in pixel frames. The offsets of random_shift are not known before a run:
    an event counts as unused if none of some examples uses it.
    """
    c = settings.compression
    frames = latent_length(spans[0].total, c)
    keys = range(REPORT_STEPS) if settings.moves else (0,)
    if by_frame(spans):
        events = [number - 1 for number in unseen_events(spans, frames, c)]
        centres = [frame_centre(frame, c) for frame in range(frames)]
    elif settings.whole(frames):
        events, centres = [span.index for span in spans], []
    elif _lookups(settings, spans, frames, keys) > MOST_LOOKUPS:
        return None
    else:
        events = [number - 1 for number in lost_events(spans, settings, frames, keys)]
        windows = (w for key in keys for w in local_windows(settings, frames, key, key, key / len(keys)))
        centres = [window_centre(w.indices, c, frames) for w in windows]
    if not events:
        return None
    grown = {index: lengthened(spans, index, centres) for index in events}
    return {
        "events": events,
        "lengthen": {index: list(span) for index, span in grown.items() if span is not None},
        "shorter": None if by_frame(spans) else _shorter(settings, spans, frames, keys, stride),
    }


def _lookups(settings: WindowSettings, spans: list[Span], frames: int, keys) -> int:
    return len(keys) * most_windows(settings, frames) * len(spans)


def _shorter(settings: WindowSettings, spans: list[Span], frames: int, keys, stride: bool) -> dict | None:
    c, budget = settings.compression, MOST_LOOKUPS
    for length in range(min(settings.length, frames) - 1, SHORTEST - 1, -1):
        overlap, end = settings.overlap * length // settings.length, settings.overlap_end
        end = None if end is None else end * length // settings.length
        tried = replace(settings, length=length, overlap=overlap, overlap_end=end)
        budget -= _lookups(tried, spans, frames, keys)
        if budget < 0:
            return None
        if not lost_events(spans, tried, frames, keys):
            rest = {"stride": (length - overlap) * c} if stride else {"overlap": overlap * c}
            rest |= {} if end is None else {"overlap_end": end * c}
            return {"window_length": pixel_length(length, c), **rest}
    return None
