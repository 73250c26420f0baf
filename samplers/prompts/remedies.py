"""What brings an unused event of a timeline back into the video. No sampling, no windows: only centres and spans."""

import bisect
import math
from collections.abc import Sequence

from .timeline import Span


def lengthened(spans: Sequence[Span], index: int, centres: Sequence[float]) -> tuple[int, int] | None:
    """Pixel frames [start, end) of event `index`, grown by the least that makes it hold a centre, of a window or of a
    latent frame; taken from the neighbour, which keeps a frame and, if it had one, a centre. None: there is no way.
    """
    centres = sorted(centres)
    span = spans[index]

    def holds(start: float, end: float) -> bool:
        at = bisect.bisect_left(centres, start)
        return at < len(centres) and centres[at] < end

    ways = []
    after = bisect.bisect_left(centres, span.end)
    if index + 1 < len(spans) and after < len(centres):
        end, rest = math.floor(centres[after]) + 1, spans[index + 1]
        if end < rest.end and holds(end, rest.end) >= holds(rest.start, rest.end):
            ways.append((end - span.end, (int(span.start), end)))
    before = bisect.bisect_left(centres, span.start) - 1
    if index > 0 and before >= 0:
        start, rest = math.floor(centres[before]), spans[index - 1]
        if start > rest.start and holds(rest.start, start) >= holds(rest.start, rest.end):
            ways.append((span.start - start, (start, int(span.end))))
    return min(ways)[1] if ways else None
