"""What a run does not show of a Prompt Timeline, in words for the log and the page."""

from collections.abc import Iterable, Sequence

from ..prompts.frame_times import by_frame, frame_weights
from ..prompts.timeline import Span, span_weights
from ..windows import WindowSettings, latent_length, local_windows, most_windows, pixel_length, window_centre
from .event_texts import same_hooks
from .timeline import NODE, SPAN_KEY

Located = tuple[Sequence[float], int]  # steps' places in the whole noise schedule, and the index of the first
MOST_LOOKUPS = 2_000_000  # windows of all steps: about a second


def timelines(conds: list) -> Iterable[list[Span]]:
    """The spans of each timeline among the CFG branches, one of each event."""
    for cond in conds:
        spans = {}
        for entry in cond or ():
            if isinstance(span := entry.get(SPAN_KEY), Span):
                spans[span.index] = span
        if spans:
            yield [spans[i] for i in sorted(spans)]


def without_windows(conds: list) -> str | None:
    """Where no LongTake windows pick the events of a run."""
    count = max((len(spans) for spans in timelines(conds)), default=0)
    return unpicked(f"none of its {count} events is used") if count else None


def unpicked(what: str) -> str:
    return (
        f"{NODE}: {what}: events act through LongTake windows only, and the model samples "
        f"without them or with those of another node; the whole video gets the global prompt. Put a Global/Local "
        f"Window Scheduler last before the sampler"
    )


def one_window(conds: list, frames: int, settings: WindowSettings) -> str | None:
    """Where the whole video is one window."""
    count = max((len(spans) for spans in timelines(conds)), default=0)
    if count < 2:
        return None
    length, video = pixel_length(settings.length, settings.compression), pixel_length(frames, settings.compression)
    return (
        f"{NODE}: none of its {count} events is used: the video ({video} pixel frames) is one window ({length}), which "
        f"gets the global prompt. Make window_length smaller or the video longer"
    )


def lost_events(
    spans: list[Span], settings: WindowSettings, frames: int, keys: Sequence[int], located: Located | None = None
) -> list[int]:
    """Numbers, from 1, of the events that no window of any step gets; keys: one per step. located: where these steps
    are in the whole schedule (see schedule.located); without it they are the whole schedule, evenly spaced."""
    missing, seen = {span.index for span in spans}, set()
    places, index = located or ([step / len(keys) for step in range(len(keys))], 0)
    for step, (key, place) in enumerate(zip(keys, places, strict=True)):
        for window in local_windows(settings, frames, key, index + step, place):
            ends = window.indices[0], len(window.indices)
            if ends not in seen:
                seen.add(ends)
                centre = window_centre(window.indices, settings.compression, frames)
                missing -= {index for index, weight in span_weights(spans, centre) if weight > 0}
        if not missing:
            break
    return sorted(index + 1 for index in missing)


def unseen_events(spans: list[Span], frames: int, compression: int) -> list[int]:
    """Where events are told by frames: numbers, from 1, of the events within the video that are no latent frame's."""
    shown = {index for frame in range(frames) for index, _ in frame_weights(spans, frame, compression)}
    video = pixel_length(frames, compression)
    return [span.index + 1 for span in spans if span.index not in shown and span.start < video]


def unseen(spans: list[Span], frames: int, compression: int) -> list[str]:
    """unseen_events in words."""
    lost = unseen_events(spans, frames, compression)
    if not lost:
        return []
    return [
        f"{NODE}: no latent frame has event{'s' if len(lost) > 1 else ''} {', '.join(map(str, lost))} of {len(spans)}: "
        f"one is {compression} pixel frames. Make such events longer"
    ]


def hooked(conds: list) -> bool:
    """Whether events of a timeline with timing frame have hooks that others of it have not."""
    for cond in conds:
        events: dict[int, list[dict]] = {}
        for entry in cond or ():
            if isinstance(span := entry.get(SPAN_KEY), Span) and span.timing == "frame":
                events.setdefault(span.index, []).append(entry)
        if not same_hooks(list(events.values())):
            return True
    return False


def other_lengths(conds: list, frames: int, compression: int) -> list[str]:
    """Of timelines that were made for a video of another length."""
    out, video = [], pixel_length(frames, compression)
    for total in (spans[0].total for spans in timelines(conds)):
        if latent_length(total, compression) != frames:
            what = "events after its end stay unused" if total > video else "its last event extends to the end"
            out.append(f"{NODE}: made for {total} pixel frames, the video has {video}: {what}")
    return out


def notes(
    conds: list, settings: WindowSettings, frames: int, keys: Sequence[int], located: Located | None = None
) -> list[str]:
    """Everything that is worth a warning when a run with windows begins. keys, located: see lost_events."""
    out = []
    if hooked(conds):
        out.append(
            f"{NODE}: timing (frame): a window whose events have different hooks takes the event at its centre for all "
            f"of its frames, as with timing window: one evaluation of the model has one set of hooks"
        )
    out += other_lengths(conds, frames, settings.compression)
    for spans in timelines(conds):
        if by_frame(spans):
            out += unseen(spans, frames, settings.compression)
            continue
        if len(spans) < 2 or len(keys) * most_windows(settings, frames) * len(spans) > MOST_LOOKUPS:
            continue
        lost = lost_events(spans, settings, frames, keys, located)
        if lost:
            every = ""
            if settings.schedule == "static":
                every = f", and one starts every {settings.stride * settings.compression} pixel frames"
            out.append(
                f"{NODE}: no window gets event{'s' if len(lost) > 1 else ''} {', '.join(map(str, lost))} of "
                f"{len(spans)}: a window takes the event at its centre{every}. Make such events longer, window_length "
                f"smaller or overlap larger"
            )
    return out
