"""A timeline without a length: it is laid out over whatever video is sampled, once that is known."""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from .fit import LONGEST, guessed
from .timeline import Event, Span, TimelineError, read_timeline, spans


@dataclass(frozen=True)
class Plan:
    """What a timeline's widgets say, but for the length; texts: of its events, in order."""

    text: str
    fps: float
    blend: float
    timing: str
    border: str
    texts: tuple[str, ...]

    def spans(self, length: int) -> list[Span]:
        """The events in a video of `length` pixel frames. Raises TimelineError."""
        events = read_timeline(self.text, length, self.fps)[0]
        if tuple(event.text for event in events) != self.texts:
            raise TimelineError(
                "events: with length 0 their order must not depend on the video's length; write all times in one unit, "
                "or set length."
            )
        return spans(events, self.blend, self.timing, self.border)


def following(text: str, fps: float, blend: float, timing: str, border: str) -> tuple[list[Event], list[Span]]:
    """The events, in a video that is long enough for them, and their spans with the Plan. Raises TimelineError."""
    try:
        events = read_timeline(text, LONGEST, fps)[0]
    except TimelineError as error:  # percents beside other times are in order in videos of some lengths only
        events = next((found for found in _readings(text, fps)), None)
        if events is None:
            raise error from None
    plan = Plan(text, fps, blend, timing, border, tuple(event.text for event in events))
    return events, [replace(span, blend=blend, plan=plan) for span in spans(events, 0, timing, border)]


def _readings(text: str, fps: float) -> Iterator[list[Event]]:
    """The events in videos that are about as long as the text's times, where it can be read."""
    longest = guessed(text, fps).length
    for part in range(16, 7, -1):
        with suppress(TimelineError):
            yield read_timeline(text, max(1, longest * part // 16), fps)[0]


def report(prompts: Sequence[str], ordinary: str) -> str:
    """The prompts in order; their times are known when the video is."""
    return "\n".join(
        [f"{len(prompts)} event{'s' if len(prompts) > 1 else ''}, over the length of the video that is sampled"]
        + [f"{i}  {' '.join(prompt.split())}" for i, prompt in enumerate(prompts, 1)]
        + [f"Without LongTake windows: {' '.join(ordinary.split())}"]
    )
