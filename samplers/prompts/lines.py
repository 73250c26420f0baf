"""Events a line: marks at the start of lines, and inside them, and the prompts behind them."""

import json
import re
from dataclasses import dataclass

from .marks import HEAD, INLINE, LIKELY, LOOKS_LIKE_TIME, SURE, Mark, TimelineError, find_mark, times_inside
from .parts import (
    EXAMPLE_LINES,
    Entry,
    Reading,
    bad_numbers,
    bad_time,
    borders,
    consecutive,
    counts_from_zero,
    plain,
    refuse_times,
    short,
    split_at,
)
from .signs import fold

_ENDS_FIRMLY = re.compile(r"[:)\]>=|\u2192-][*_`~\s]*$")
_CUE_SETTINGS = {"align", "line", "position", "size", "vertical", "region"}  # of WebVTT
_DURATION = re.compile(r"^[^\w\n]{0,8}(?:duration|length|timing|time)[*_]{0,2}\s?:[*_]{0,2}\s?\d", re.MULTILINE)
_RULE = re.compile(r"[-*_=#~.\s]+$")
_WEIGHT = re.compile(r":\s?[\d.]+\s?$")
_UNKNOWN = re.compile(r"--neg\b|`[^`\n]{1,80}`")  # in prompt schedules: what follows is negative; weights over time
_COMMAS = (",", ";", "\uff0c", "\uff1b", "\u3001")
_BETWEEN = (*_COMMAS, "/", "|", "\u2192", "->", "=>")


@dataclass(frozen=True)
class _Piece:
    """A mark, the number of its line (from 1), the prompt up to the next piece, whether that is in the same line."""

    mark: Mark
    number: int
    shown: str
    text: str
    cut: bool


def find_pieces(lines: list[tuple], bars: bool) -> list[_Piece] | None:
    """What the marks say, or None where the text has none that can be believed."""
    marks = [find_mark(line, folded) for _, line, folded in lines]
    first = marks[0]
    if first is None:
        _refuse_text_before(lines, marks)
        return None
    for i in range(1, len(marks)):
        behind_head, alone = _is_alone(marks[i - 1], lines[i - 1]), _is_alone(marks[i], lines[i])
        below = marks[i + 1] if alone and not behind_head and i + 1 < len(marks) else None
        if marks[i] and not _belongs(marks[i], below, first, behind_head, lines[i][2]):
            marks[i] = None
    timed = [mark for mark in marks if mark and mark.times is not None]
    believed = len(timed) == len(lines) > 1 and all(mark.level >= LIKELY for mark in timed)
    if bars and not (first.at_zero or believed or any(mark.level == SURE for mark in timed)):
        return None
    places: list[tuple[int, int, Mark]] = []  # index in lines, place in the line, mark
    last, marked = first, sum(mark is not None for mark in marks)
    for i, ((_, line, folded), mark) in enumerate(zip(lines, marks, strict=True)):
        if mark is not None:
            places.append((i, 0, mark))
            last = mark
        if first.level == SURE or marked == 1:
            for at, inner in _inside(line, folded, mark.end if mark else 0, first, last, lines[i][0]):
                places.append((i, at, inner))
                last = inner
    orders = [mark.order for _, _, mark in places]
    if first.level < LIKELY and first.order is not None and not (first.at_zero or consecutive(orders)):
        return None
    everywhere = all(mark is not None for mark in marks)
    if first.level < SURE and (len(places) < 2 or (first.level < LIKELY and not (everywhere or first.at_zero))):
        return None
    return _cut(lines, places)


def _refuse_text_before(lines: list[tuple], marks: list[Mark | None]) -> None:
    """For lines of which the first has no mark: others must have none that can be believed."""
    found = [i for i, mark in enumerate(marks) if mark]
    sure = [i for i in found if marks[i].level == SURE]
    likely = [i for i in found if marks[i].level == LIKELY or marks[i].at_zero]
    if sure or len(likely) > 1 or (len(found) > 1 and found[0] in likely):
        raise TimelineError(
            f"events: line {lines[(sure or likely)[0]][0]} starts with a time or a number, but the text before it has "
            f"none. Remove that text, or give the first line a time too, for example:\n{EXAMPLE_LINES}"
        )


def _is_alone(mark: Mark | None, line: tuple) -> bool:
    return mark is not None and mark.end >= len(line[1].rstrip())


def _belongs(mark: Mark, below: Mark | None, first: Mark, behind_head: bool, folded: str) -> bool:
    """Whether a line's mark is one like the first line's, not the start of a prompt ("day 1", "2 minutes later").
    below: the mark of the next line, where this one may be its heading; behind_head: the line above is only a mark."""
    if mark.times is not None and mark.order is None:
        return mark.level >= LIKELY or (first.times is not None and not behind_head)
    if mark.kind == first.kind:
        return True
    if below is not None and below.times is not None and below.order is None:
        return True
    return bool(_ENDS_FIRMLY.search(folded[: mark.end].rstrip()))


def _inside(line: str, folded: str, start: int, first: Mark, last: Mark, number: int) -> list[tuple[int, Mark]]:
    """Marks of the first one's kind further on in a line: (place, mark)."""
    found = []
    if first.level < SURE and first.kind.endswith("time") and not first.at_zero:
        return found
    for candidate in INLINE.finditer(folded, start + 1):
        at = candidate.start()
        before = folded[start:at].rstrip()[-2:] if at - start < HEAD else folded[at - HEAD : at].rstrip()[-2:]
        if at < start or not before:
            continue
        mark = find_mark(line[at : at + HEAD], folded[at : at + HEAD])
        if mark is None or mark.kind != first.kind or mark.level < first.level:
            continue
        if mark.level < SURE and at + mark.end >= len(folded.rstrip()):
            continue  # a number at the end of a prompt
        if before[-1:] == "|" and mark.times is not None:
            continue  # refused with all times behind a '|'
        comma = before[-1:] in tuple(",;/|\u2192") or before in ("->", "=>")
        sentence = before[-1:] in tuple(".!?")
        if not mark.kind.endswith("time"):
            if mark.times is None and mark.order != (last.order or 0) + 1:
                continue
            head = folded[at : at + mark.end].rstrip()
            if mark.kind == "list":
                believed = comma or sentence or head.endswith(")")
                if not believed and first.order == 1:
                    raise _second_time(line[at:], number)
                if not believed:
                    continue
            elif not _ENDS_FIRMLY.search(head):
                continue
        elif mark.kind == "time":
            united = mark.times[1] or mark.times[3]
            alike = united or not (first.times[1] or first.times[3])
            if not alike or not (comma or (sentence and united)):
                if united or comma or first.level < SURE:
                    raise _second_time(line[at:], number)
                continue
        elif mark.level < SURE and not comma:
            if first.level == SURE:
                continue
            raise _second_time(line[at:], number)
        found.append((at, mark))
        start, last = at + mark.end, mark
    return found


def _second_time(text: str, number: int) -> TimelineError:
    return TimelineError(
        f"events: line {number} has a second time or number inside ({short(text)}). Write one event a line, for "
        f'example:\n{EXAMPLE_LINES}\nA prompt that really holds such a text goes into JSON: {{"0": "..."}}'
    )


def _cut(lines: list[tuple], places: list[tuple[int, int, Mark]]) -> list[_Piece]:
    """The pieces, each up to the next place; lines without a mark belong to the piece above them."""
    pieces = []
    listed = places[0][2].times is None
    own = all(mark.own and at == 0 for _, at, mark in places)
    for (i, at, mark), following in zip(places, [*places[1:], (len(lines), 0, None)], strict=True):
        number, line, folded = lines[i]
        cut = following[0] == i
        text = line[at + mark.end : following[1] if cut else None]
        if mark.times is not None and all(word.split(":")[0] in _CUE_SETTINGS and ":" in word for word in text.split()):
            text = ""
        rows = [text.strip()]
        stop = following[0] if following[1] == 0 else following[0] + 1
        for k in range(i + 1, stop):
            n, row, row_folded = lines[k]
            row = row[: following[1]] if k == following[0] else row
            free = listed or mark.kind.startswith('"') or not (own or rows[0])
            if LOOKS_LIKE_TIME.match(row) and not free:
                raise bad_time(f"line {n} ({short(row)})")
            if own or not _RULE.match(row_folded):
                rows.append(row.strip())
        if mark.times is not None:
            for row in rows:
                refuse_times(split_at(row, borders(row)))
        text = _without_closing("\n".join(rows).strip(), mark)
        pieces.append(_Piece(mark, number, line[at:] if at else line, text, cut or following[1] > 0))
    return pieces


def _without_closing(text: str, mark: Mark) -> str:
    """Without the quotes or bold signs opened before the mark: they end behind the prompt, or its first line."""
    first, *rest = text.split("\n")
    for sign in mark.closing:
        for trailing in ("", ",", ";"):
            if fold(first).endswith(sign + trailing):
                first = first[: len(first) - 1 - len(trailing)].rstrip()
                break
            if rest and fold(rest[-1]).endswith(sign + trailing):
                rest[-1] = rest[-1][: len(rest[-1]) - 1 - len(trailing)].rstrip()
                break
    return "\n".join([first, *rest]).strip()


def read_pieces(pieces: list[_Piece], own: bool) -> Reading | None:
    """Times or numbers of a list. None: a list whose prompts have '|' between them."""
    timed = [piece for piece in pieces if piece.mark.times is not None]
    headings = [
        not (a.text or a.mark.own)
        and a.mark.order is not None
        and (a.mark.times is None or b.mark.order is None)
        and b.mark.times is not None
        for a, b in zip(pieces, pieces[1:], strict=False)
    ]  # "Scene 1", and the time in the next line; the number of a subtitle
    if any(headings):
        pieces = [piece for piece, heading in zip(pieces, [*headings, False], strict=True) if not heading]
        timed, own = [piece for piece in pieces if piece.mark.times is not None], False
    if timed and len(timed) < len(pieces):
        other = next(piece for piece in pieces if piece.mark.times is None)
        raise TimelineError(
            f"events: {_label(other)} has a number, but other lines have times. Give each event a time, or none of "
            f"them:\n{EXAMPLE_LINES}"
        )
    orders = [piece.mark.order for piece in pieces]
    if not timed or (len(pieces) > 1 and orders == list(range(1, len(pieces) + 1))):
        return _read_list(pieces, orders)
    own = own and all(piece.mark.own and not piece.cut for piece in pieces)
    texts = _unwrapped(pieces, own)
    entries = [Entry(_label(piece), text, piece.mark.times) for piece, text in zip(pieces, texts, strict=True)]
    own = own and texts == [piece.text for piece in pieces]
    return Reading("lines", own, entries=entries, counted=counts_from_zero(orders))


def _read_list(pieces: list[_Piece], orders: list) -> Reading | None:
    if not consecutive(orders) and not all(
        order == 1 and piece.mark.kind == "list" for order, piece in zip(orders, pieces, strict=True)
    ):
        raise bad_numbers([(piece.mark.order, piece.shown) for piece in pieces])
    texts = _unwrapped(pieces, False)
    if all(text.endswith("|") for text in texts[:-1]):
        texts = [*(text[:-1].strip() for text in texts[:-1]), texts[-1]]
    for piece, text in zip(pieces, texts, strict=True):
        if not text:
            raise TimelineError(f"events: {_label(piece)} has no prompt. Write one behind the number, or remove it.")
        mark = find_mark(text, fold(text[:HEAD])) if _starts_at_zero(texts) else None
        timed = mark is not None and mark.times is not None
        if timed or times_inside(text.split("\n", 1)[0]) or _DURATION.search(fold(text)):
            raise TimelineError(
                f"events: {_label(piece)} has a time behind other words. Put the times at the start of the lines:\n"
                f"{EXAMPLE_LINES}"
            )
    return Reading("equal", False, [plain(text) for text in texts])


def _starts_at_zero(texts: list[str]) -> bool:
    mark = find_mark(texts[0], fold(texts[0][:HEAD]))
    return mark is not None and mark.at_zero and len(texts) > 1


def _unwrapped(pieces: list[_Piece], own: bool) -> list[str]:
    """The prompts without what wraps them in schedules: commas between pairs, quotes, `0: (a), 48: (b)`."""
    texts = [piece.text for piece in pieces]
    pairs = pieces[0].mark.kind.startswith('"') and not pieces[0].mark.closing
    commas = len(pieces) > 1 and all(piece.cut or piece.text.endswith(_COMMAS) for piece in pieces[:-1])
    if not (pairs or commas or not own):
        return texts
    bare = [
        _without(text, _BETWEEN) if pairs or commas or piece.cut else text
        for piece, text in zip(pieces, texts, strict=True)
    ]
    folded = [fold(text) for text in bare]
    if all(len(f) > 1 and f[0] in "\"'" and f[-1] == f[0] and (pairs or commas or f[0] not in f[1:-1]) for f in folded):
        texts = [_unquoted(text) for text in bare]
        for piece, text in zip(pieces, texts, strict=True):
            if pairs and re.search(r"[\"'],?\s?[\"'][^\"'\n]{1,40}[\"']\s?:", fold(text)):
                raise bad_time(_label(piece))
            if pairs and (named := _UNKNOWN.search(text)):
                raise TimelineError(
                    f"events: {_label(piece)} has {short(named.group())}, which means something to another tool only. "
                    f"Negative prompts go to the sampler's negative input, weights are numbers: (word:1.2)."
                )
        return texts
    if commas and all(f.startswith("(") and f.endswith(")") and _is_one_bracket(f) for f in folded):
        return [text if _WEIGHT.search(text[:-1]) else text[1:-1].strip() for text in bare]
    changed = pairs or any(piece.cut for piece in pieces)
    return bare if changed else texts


def _without(text: str, ends: tuple) -> str:
    end = next((end for end in ends if text.endswith(end)), "")
    return text[: len(text) - len(end)].rstrip()


def _is_one_bracket(text: str) -> bool:
    depth = 0
    for i, char in enumerate(text):
        depth += (char == "(") - (char == ")")
        if depth == 0:
            return i == len(text) - 1
    return False


def _unquoted(text: str) -> str:
    try:
        value = json.loads(text, strict=False) if text[0] == '"' else None
    except ValueError:
        value = None
    return (value if isinstance(value, str) else text[1:-1].replace('\\"', '"')).strip()


def _label(piece: _Piece) -> str:
    return f"line {piece.number} ({short(piece.shown)})"
