"""Which event each latent frame of a video shows, and how much of its neighbours at a soft border.

Prompt Relay (arXiv 2604.10030) times prompts inside a clip: each frame's text cross-attention sees its own segment's
words, with a penalty of Gaussian shape on the logits of the others. Here a frame's weights w of the events' texts are
given (`frame_weights`), and the penalty is log w, so that the attention of a frame's tokens is

    out = sum_e w_e sum_j exp(q k_ej) v_ej / sum_e w_e sum_j exp(q k_ej)        e: events, j: tokens of event e's text

softmax with log w_e added to the logits of event e's text: one event with w = 1 is plain attention over its text, and
two events of the same text are that attention again, whatever their weights. Two borders:

- linear (ours): the weights that a window's prompt has at a border (timeline.span_weights), a ramp over `blend` frames.
- gaussian (the paper's penalty, (|p - m| - w)_+^2 / 2 sigma^2): an event is free of penalty from blend / 2 inside its
  borders on, and has the weight EDGE at its border, as its neighbour has. The authors measure in latent frames and give
  two of them to the tail at each end (w = L / 2 - 2); here a tail is blend / 2 pixel frames. They add the events to one
  prompt, whose global part is never penalised; here each event's text says the global part itself, and weights sum to
  1: at the distance d from the border the neighbour has EDGE^(8 d / blend) of the event's own.
"""

import math
from collections.abc import Sequence

from .timeline import Span, span_weights

EDGE = 1e-3  # the authors' epsilon: an event's weight at its own border, before weights are made to sum to 1
LEAST = 1e-3  # a smaller share is none: about what float16 attention can tell


def frame_centre(frame: int, compression: int) -> float:
    """Centre, in pixel frames, of the pixel frames of latent frame `frame`: 0 is pixel frame 0, i > 0 covers
    c (i - 1) + 1 .. c i for c = compression."""
    return compression * frame - (compression - 1) / 2 if frame > 0 else 0.0


def frame_weights(spans: Sequence[Span], frame: int, compression: int) -> tuple[tuple[int, float], ...]:
    """The events of one latent frame: ((Span.index, weight), ..), neighbours in time, weights > 0 with the sum 1.

    spans: all of a timeline, in order of time, touching; their border and blend (pixel frames) are the timeline's.
    """
    centre = frame_centre(frame, compression)
    if spans[0].border == "linear" or spans[0].blend == 0:
        return tuple((i, w) for i, w in span_weights(list(spans), centre) if w > 0)
    tail = spans[0].blend / 2
    logs = []
    for span in spans:  # the video's own ends are no borders
        outside = max(span.start - centre if span.start > 0 else -math.inf,
                      centre - span.end if span.end < span.total else -math.inf)  # fmt: skip
        logs.append(max(outside / tail + 1, 0.0) ** 2 * math.log(EDGE))
    weights = [math.exp(log - max(logs)) for log in logs]
    shares = [w if w >= LEAST * sum(weights) else 0.0 for w in weights]
    return tuple((span.index, w / sum(shares)) for span, w in zip(spans, shares, strict=True) if w > 0)


def shares(spans: Sequence[Span], frames: Sequence[int], compression: int) -> list[tuple[int, float]]:
    """Each event's share of some latent frames, of those that have one."""
    found: dict[int, float] = {}
    for frame in frames:
        for index, weight in frame_weights(spans, frame, compression):
            found[index] = found.get(index, 0.0) + weight / len(frames)
    return sorted(found.items())


def by_frame(spans: Sequence[Span]) -> bool:
    """Whether a timeline is told frame by frame; with one event there is nothing to tell apart."""
    return len(spans) > 1 and spans[0].timing == "frame"
