"""What each window gets of a Prompt Timeline (adapter of prompts/timeline.py over ComfyUI's preprocessed conds).

A timeline is one entry for the global prompt (SPAN_KEY: None), then one per event (SPAN_KEY: its Span); a prompt can
have several entries, one per range of scheduled hooks. All other entries stay as they are.
"""

import torch

from ..prompts.follow import Plan
from ..prompts.frame_times import by_frame, frame_weights
from ..prompts.timeline import Span, TimelineError, span_weights
from ..windows import window_centre
from .event_texts import same_hooks, side_by_side
from .window import VideoFrames

NODE = "Prompt Timeline (LongTakePromptTimeline)"
SPAN_KEY = "longtake_span"
PART_KEY = "longtake_part"  # which prompt of the branch an entry is, the same number in every window
TIME_KEYS = ("start_percent", "end_percent", "timestep_start", "timestep_end")


def window_entries(cond: list[dict], frames: VideoFrames, path: str, compression: int) -> list[dict]:
    """The entries active in one window: of each timeline what this window gets, the others; each with its PART_KEY.

    A local window gets the event at its centre, in the place and time range of the timeline's global prompt; a window
    of another path gets the global prompt. Of a timeline with timing frame, a window of any path gets the events of its
    frames, side by side if they are several. Where the other CFG
    branch has an area, core adds an entry with that area and the inputs of this branch's global prompt: it gets what
    the timeline gets.
    """
    parts = _parts(cond)
    chosen = [_chosen(heads, events, frames, path, compression) for heads, events in parts]
    out = []
    for i, ((heads, _), entries) in enumerate(zip(parts, chosen, strict=True)):
        source = next((k for k, (own, _) in enumerate(parts) if _derived(heads[0], own[0])), None)
        if source is not None:
            entries = [_with_inputs(heads[0], part, parts[source][0]) for part in chosen[source]]
        out += [{**entry, PART_KEY: i} for entry in entries]
    return out


def over_video(conds: list, length: int) -> list:
    """The CFG branches, with each timeline that follows the video laid out over its `length` pixel frames."""
    if all(getattr(entry.get(SPAN_KEY), "plan", None) is None for cond in conds for entry in cond or ()):
        return conds
    known: dict[Plan, list[Span]] = {}

    def laid(entry: dict) -> dict:
        span = entry.get(SPAN_KEY)
        if getattr(span, "plan", None) is None:
            return entry
        if span.plan not in known:
            try:
                known[span.plan] = span.plan.spans(length)
            except TimelineError as error:
                raise ValueError(f"{NODE}: {error}") from None
        return {**entry, SPAN_KEY: known[span.plan][span.index]}

    return [None if cond is None else [laid(entry) for entry in cond] for cond in conds]


def _parts(cond: list[dict]) -> list[tuple[list[dict], list[dict]]]:
    """(global entries, events) of each timeline, or a single other entry and no events."""
    parts: list[tuple[list[dict], list[dict]]] = []
    timeline = None
    for entry in cond:
        if entry.get(SPAN_KEY) is not None and timeline is not None:
            timeline[1].append(entry)
        elif SPAN_KEY in entry and entry[SPAN_KEY] is None:
            if timeline is None or timeline[1]:
                timeline = ([], [])
                parts.append(timeline)
            timeline[0].append(entry)
        else:
            parts.append(([entry], []))
    return parts


def _chosen(heads: list[dict], events: list[dict], frames: VideoFrames, path: str, compression: int) -> list[dict]:
    by_index: dict[int, list[dict]] = {}
    for entry in events:
        by_index.setdefault(entry[SPAN_KEY].index, []).append(entry)
    spans = [entries[0][SPAN_KEY] for entries in by_index.values()]
    if by_frame(spans):
        told = _by_frame(by_index, heads, spans, frames, compression)
        if told is not None:
            return told
    if not events or path != "local":
        return heads
    centre = window_centre(frames.indices, compression, frames.total)
    weights = sorted(span_weights(spans, centre), key=lambda item: -item[1])
    chosen = []
    for event in by_index[weights[0][0]]:
        entry = _in_place(event, heads)
        if len(weights) == 1:
            chosen.append(entry)
            continue
        (_, near), (index, far) = weights
        other = _same_hooks(event, by_index[index])
        blended = _blend(event["model_conds"], other["model_conds"], far)
        if blended is not None:
            chosen.append({**entry, "model_conds": blended})
        else:  # prompts of different lengths: both are evaluated, and their predictions blended
            chosen.append(_scaled(entry, near))
            chosen.append(_scaled({**entry, "model_conds": other["model_conds"], "uuid": other["uuid"]}, far))
    return chosen


def _by_frame(by_index: dict, heads: list[dict], spans: list[Span], seen: VideoFrames, compression: int) -> list | None:
    """With timing frame: the event of all frames, or the texts of several events and which frame reads which.

    None where these events have hooks of their own, which one evaluation cannot serve. An anchor frame, which is
    dropped afterwards, reads its own event, but alone is no second one. References read what comes after them.
    """
    frames = [frame_weights(spans, i, compression) for i in seen.indices]
    shown = sorted({index for frame in frames for index, _ in frame})
    if not same_hooks([by_index[index] for index in shown]):
        return None
    if len(shown) == 1:
        return [_in_place(event, heads) for event in by_index[shown[0]]]
    if seen.anchor is not None:
        front = frame_weights(spans, seen.anchor, compression)
        both = sorted({*shown, *(index for index, _ in front)})
        fits = same_hooks([by_index[index] for index in both])
        frames.insert(0, front if fits else frames[0])
        shown = both if fits else shown
    frames = frames[:1] * seen.references + frames
    places = {index: n for n, index in enumerate(shown)}
    numbered = [[(places[index], weight) for index, weight in frame] for frame in frames]
    middle = by_index[shown[len(shown) // 2]]  # what is not text is one event's
    return [
        side_by_side(_in_place(event, heads), [_same_hooks(event, by_index[index]) for index in shown], numbered)
        for event in middle
    ]


def _in_place(event: dict, heads: list[dict]) -> dict:
    """The event's entry in the time range of the global prompt."""
    head = _same_hooks(event, heads)
    entry = {k: v for k, v in event.items() if k not in TIME_KEYS}
    return entry | {k: head[k] for k in TIME_KEYS if k in head}


def _same_hooks(entry: dict, others: list[dict]) -> dict:
    """The entry of another prompt that belongs to the same range of scheduled hooks."""
    keys = ("clip_start_percent", "clip_end_percent")
    return next((o for o in others if all(o.get(k) == entry.get(k) for k in keys)), others[0])


def _scaled(entry: dict, share: float) -> dict:
    return {**entry, "strength": entry.get("strength", 1.0) * share}


def _blend(a: dict, b: dict, weight: float) -> dict | None:
    """model_conds a + weight * (b - a) of float tensors, what is equal as it is; None where the two do not fit."""
    out = {}
    for key, value in a.items():
        other = b.get(key)
        x, y = getattr(value, "cond", None), getattr(other, "cond", None)
        out[key] = value
        if value is other or not (isinstance(x, torch.Tensor) and isinstance(y, torch.Tensor)) or x is y:
            continue
        if type(value) is not type(other) or x.shape != y.shape:
            return None
        if x.is_floating_point():
            out[key] = value._copy_with(torch.lerp(x, y, weight))
        elif not torch.equal(x, y):  # the mask of a text's tokens
            return None
    return out if a.keys() == b.keys() else None


def _derived(entry: dict, head: dict) -> bool:
    """Whether core made `entry` of a timeline's global entry `head`: another area with the very same inputs."""
    if SPAN_KEY in entry or head.get(SPAN_KEY, 0) is not None:
        return False
    inputs, own = entry["model_conds"], head["model_conds"]
    return inputs.keys() == own.keys() and all(inputs[k] is own[k] for k in own)


def _with_inputs(entry: dict, chosen: dict, heads: list[dict]) -> dict:
    """A derived entry with the inputs, and the share, of one of those that its timeline gets here."""
    share = chosen.get("strength", 1.0) / _same_hooks(chosen, heads).get("strength", 1.0)
    return _scaled({**entry, "model_conds": chosen["model_conds"]}, share)
