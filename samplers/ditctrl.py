"""DiTCtrl's sharing of keys and values (arXiv 2412.18597): each window is drawn out of the one before it.

In late layers and early steps a window, the target, attends to all keys and values of the window before it, the source,
and to none of its own: what is in the picture comes from the source, where it is from the target's queries. Where the
text is in the same sequence (CogVideoX, HunyuanVideo, Mochi), the source's text comes with it; in models that read the
text in an attention of its own there are only video tokens to share. Keys keep the places (RoPE) that they have in the
source: token j of one window meets token j of the other at no distance, as in the paper's code.

The paper's code runs each pair of neighbours as one batch [source, target], so that all windows but the first and the
last are evaluated twice: on their own, as a source, and as a target. A source is always plain: what it shares is what
it has of itself, not what it was given, so no window reaches further than to the next one. That is kept here, 2 (S - 1)
evaluations of S windows.

Differs from the code: a window's two predictions count half each, so that the fuse weights are those of plain windows
(the code counts inner windows twice as much as the ends); where nothing is shared, before and after its part of the
schedule, each window is evaluated once. Layers and steps of the code: 25 to 29 of 30, 2 to 24 of 50. Its masks, which
share the subject alone, need attention maps of all pairs of tokens and are left out.
"""

from dataclasses import dataclass

LAYERS = (-5, -1)  # the code's 25 to 29 of 30
PART = (0.03, 0.49)  # of the schedule: the code's steps 2 to 24 of 50


@dataclass(frozen=True)
class Turn:
    """One evaluation of a window: as a source on its own, or as a target out of the source that went before it; share:
    of the window's prediction."""

    window: int
    source: bool
    share: float


def turns(count: int, around: bool = False) -> list[Turn]:
    """The evaluations of `count` windows in their order: each source is followed by its target. around: the last window
    is the first one's source, as on a closed loop."""
    if count < 2:
        return [Turn(i, True, 1.0) for i in range(count)]
    pairs = [((i - 1) % count, i) for i in range(0 if around else 1, count)]
    times = [sum(i in pair for pair in pairs) for i in range(count)]
    return [turn for a, b in pairs for turn in (Turn(a, True, 1 / times[a]), Turn(b, False, 1 / times[b]))]


def turns_count(count: int, around: bool = False) -> int:
    """len(turns(count, around))."""
    return count if count < 2 else 2 * (count - (not around))
