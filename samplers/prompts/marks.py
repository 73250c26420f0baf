"""Times and numbers that a piece of text starts with: this timeline's own marks, and those that people paste.

Own marks are `0s:`, `[0-3s]`, `48:` (timeline.py says what they mean). Others come from prompt schedules, subtitles,
lists, language models: `"48":`, `0:03 -`, `- 3 seconds:`, `**0s:**`, `frame 48:`, `Scene 2 (0-3s):`, `2.` and their
kin. Where one of them could as well be a part of a prompt, it is not SURE, and lines.py looks at all the lines before
it believes it.

Reading is done on fold(text), which has the text's places, and on no more than HEAD characters behind a place: however
long a text is, each place costs the same.
"""

import re
import unicodedata
from dataclasses import dataclass, replace

from .signs import fold

HEAD = 160
# How far a mark can be trusted: a time wherever it stands; a time or a number if other lines have one, too; a time with
# nothing but a space behind it, which may be a part of the prompt ("80s car").
SURE, LIKELY, LOOSE = 2, 1, 0


class TimelineError(ValueError):
    """A timeline that cannot be read; the message starts with the input's name and says what would work."""


@dataclass(frozen=True)
class Mark:
    """What a piece starts with. `times`: number, unit, number, unit (None where not written), or None where there is
    only a place in a list; units are s, f, %, or ? for a number that says it is a time but not of what."""

    end: int  # characters of the piece that belong to it
    times: tuple | None
    order: int | None = None  # its number, if it can be one in a list
    kind: str = "time"  # marks of one kind are written alike: "time" or "list" or a word such as "scene", with brackets
    level: int = SURE
    own: bool = False
    closing: str = ""  # a quote or bold sign that was opened before it and ends behind the prompt

    @property
    def at_zero(self) -> bool:
        return self.times is not None and float(self.times[0]) == 0


# This timeline's own marks.

_TIME = r"(-?(?:\d+(?:\.\d*)?|\.\d+))(?:\s*([sSfF%]))?"
_RANGE = _TIME + "(?:\\s*[-\u2013\u2014]\\s*" + _TIME + ")?"
TIMES = re.compile(rf"\s*{_RANGE}\s*")
_BRACKET_MARK = re.compile(rf"\s*\[\s*{_RANGE}\s*\]\s*:?")
_COLON_MARK = re.compile(rf"\s*{_RANGE}\s*:(?:(?=\s|$)|(?<=[sSfF%]:))")
LOOKS_LIKE_TIME = re.compile(r"\s*\[?\s*-?\.?\d")
LOOKS_LIKE_BRACKET_MARK = re.compile(r"\s*\[\s*-?\.?\d")


def read_mark(line: str) -> re.Match | None:
    """An own mark at the start of a line: groups number, unit, number, unit (None where not written)."""
    return _BRACKET_MARK.match(line) or _COLON_MARK.match(line)


def find_mark(line: str, folded: str) -> Mark | None:
    """The mark that `line` starts with; `folded` is fold(line)."""
    own = read_mark(line)
    if own is None:
        return _foreign(folded[:HEAD])
    opened = "[" if line.lstrip().startswith("[") else ""
    return Mark(own.end(), own.groups(), _order_of(own.groups()), f"{opened}time", own=True)


def whole_time(text: str) -> Mark | None:
    """The mark that is the whole of a text, such as a key."""
    own = TIMES.fullmatch(text)
    if own is not None:
        return Mark(own.end(), own.groups(), _order_of(own.groups()), own=True)
    mark = _foreign(fold(text)[:HEAD] + ":") if len(text) < HEAD else None
    return mark if mark is not None and mark.end > len(text) else None


def times_inside(text: str) -> list[Mark]:
    """Times with a unit in brackets, or behind a sign at the end of the text."""
    marks = []
    for found in _TIME_INSIDE.finditer(fold(text)):
        mark = whole_time(found.group(1) or found.group(2))
        if mark is None or mark.times is None or not (mark.times[1] or mark.times[3]):
            continue
        if mark.times[1] != "%" or mark.times[2] is not None:  # "a wall (50%)"
            marks.append(mark)
    return marks


def _order_of(times: tuple) -> int | None:
    number, unit, end, _ = times
    return int(number) if unit is None and end is None and number.isdecimal() and len(number) <= 3 else None


# Other marks. All patterns below are for folded text.

_NUMBER = r"-?(?:\d+(?:\.\d+)?|\.\d+)"
_UNIT = (
    r"\s*(?:(?P<ms>(?:msecs?|ms|milliseconds?|millis)(?![a-z]))|(?P<min>(?:mins?|minutes?)(?![a-z])|\u5206[\u949f\u9418\u9593]?|\ubd84)"
    r"|(?P<s>(?:secs?|seconds?|s)(?![a-z])|\u79d2[\u949f\u9418\u9593]?|\ucd08)"
    r"|(?P<f>(?:frames?|frm|fr|f)(?![a-z])|\u5e27|\u5e40|\u683c|\u30d5\u30ec\u30fc\u30e0|\u30b3\u30de|\ud504\ub808\uc784)"
    r"|(?P<pc>%|(?:percent|per cent|pct)(?![a-z])))(?:\.(?=[\s:]))?"
)
_PLAIN = re.compile(rf"(?P<n>{_NUMBER})(?:{_UNIT})?")
_COMMA = re.compile(r"(?P<n>\d+,\d+)\s*(?:s|secs?|seconds?)(?![a-z])")
_CLOCK = re.compile(
    r"(?:(\d{1,2}):)?(\d{1,3}):([0-5]\d)(?:[.,](\d{1,3}))?(?!:?\d)(?:\s*(?:secs?|seconds?|s|mins?|minutes?|h|hrs?)(?![a-z]))?"
)
_SPOKEN = re.compile(
    rf"(?:(\d{{1,2}})\s*h(?:ours?|rs?)?\s*)?(\d{{1,4}})\s*(?:m|mins?|minutes?|'|\u5206)\s*(?:and\s+)?({_NUMBER})\s*"
    r"(?:(?:s|secs?|seconds?)(?![a-z])|\"|''|\u79d2)"
)
_LABEL = re.compile(
    r"(?:starting at|start(?:s|ing)?|begin(?:s|ning)?|from|between|at|when|time(?:stamp|code)?|t)(?![a-z])"
    r"[*_\s]*[:=+]?[*_\s]*(?=[-.\d]|key|frame|sec|f\s?\d)"
)
_UNIT_LABEL = re.compile(
    r"(?:(?P<f>key\s?frames?|frames?|frm|f(?=\d+\s*[])>:=-])|\u5e27|\u5e40|\u30d5\u30ec\u30fc\u30e0)|(?P<s>seconds?|secs?)|\u7b2c)"
    r"[\s_]*(?:no\.?|nr\.?|number)?\s*[#:=]?\s*(?=[-.\d])"
)
_TIME_INSIDE = re.compile(r"[\[(]([^\[\]()]{1,40})[\])]|[@:,-]\s?([^\[\]()@:,]{1,40}|\d[\d:., -]{1,40})\Z")
_TO = re.compile(
    r"\s*(?:-+>?|=+>|~|\u2192|to|until|till|through|thru|and|\u81f3|\u5230|\u304b\u3089|\.{2,3}|\u2026)\s*"
)
_NUMERALS = (
    ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"],
    ["-", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth"],
    ["-", "i", "ii", "iii", "iv", "v", "vi", "vii", "viii", "ix", "x", "xi", "xii"],
    [*"\u96f6\u4e00\u4e8c\u4e09\u56db\u4e94\u516d\u4e03\u516b\u4e5d\u5341"],
)
_NUMERAL = {word: i for words in _NUMERALS for i, word in enumerate(words) if word != "-"}
_ORDER = r"\d{1,3}|[a-h](?=\s?[:.)\]-])|" + "|".join(sorted(_NUMERAL, key=len, reverse=True))
_SCENE_WORDS = (
    "scenes?|shots?|events?|parts?|segments?|sections?|clips?|chapters?|acts?|steps?|stages?|phases?|beats?|moments?|takes?|sequences?"
    "|cuts?|days?|(?:local )?prompts?|locals?|szene|abschnitt|teil|sc\xe8ne|plan|partie|escena|toma|parte|scena|cena"
    "|\u573a\u666f|\u5834\u666f|\u955c\u5934|\u93e1\u982d|\u7247\u6bb5|\u5206\u955c|\u6bb5\u843d|\u4e8b\u4ef6|\u30b7\u30fc\u30f3"
    "|\u30ab\u30c3\u30c8|\u30b7\u30e7\u30c3\u30c8|\u5834\u9762|\uc7a5\uba74|\uc52c|\u0441\u0446\u0435\u043d\u0430|\u043a\u0430\u0434\u0440"
)
_SCENE = re.compile(
    rf"(?:(?P<word>{_SCENE_WORDS})\s*(?:no\.?|nr\.?|number)?\s*[#\u7b2c]?\s*(?P<order>{_ORDER})(?!\w|[.,]\d)"
    r"|\u7b2c\s*(?P<cjk>\d{1,3}|[\u4e00-\u9fff])\s*(?P<cjkword>\u5e55|\u6bb5|\u8282|\u573a|\u5834|\u955c|\u4e2a?\u955c\u5934)"
    rf"|(?P<ord>{'|'.join(_NUMERALS[1][1:])}|\d{{1,3}}(?:st|nd|rd|th)) (?P<ordword>{_SCENE_WORDS})(?!\w))"
    r"(?:\s*(?:/|of)\s*\d{1,3})?"
)
_LIST = re.compile(
    r"(?:(?P<n>\d{1,3})(?:\s*(?:/|of)\s*\d{1,3}\s*[.):]|(?:st|nd|rd|th)\s*[.):]"
    r"|\s*[.)]+(?!\d)|\u3001|(?<!\b0),(?=[^\W\d]))"
    r"|(?P<letter>[a-l]|[ivx]{1,5})[.)]+(?=\s))|(?P<ring>[\u2460-\u2473\u2776-\u277f])[.):]?"
)
_HASHED = re.compile(r"\d{1,3}(?=\s|:)")
_SEPARATOR = re.compile(
    r"[*_`~]*(?:(?: *(?P<firm>:+|[-=]+>|=|\u2192|\t)|\s*(?P<loose>\||-{1,3}(?=\s|$)|\u3001|[,;.)](?=\s|$))"
    r"|\s*(?P<end>$))[*_`~]*|(?P<none>\s))\s*"
)
_STICKY = re.compile(r"(?P<loose>-(?=[^\W\d])|,)\s*")  # 3s-night, 3s,night
_BRACKETS = {"[": "]", "(": ")", "<": ">", "{": "}", '"': '"', "'": "'"}
_EMPHASIS = re.compile(r"[*_`~\s]*")
_CLOSING = re.compile(r"[*_`~]*\s*")
_BOLD = re.compile(r"[*_`~]+$")
_NO_FORM = re.compile(r"[\d.,\s]+")  # what is left of a time is its form: "s", "seconds", ":"
_CHECK_BOX = re.compile(r"\[[ x]\] ")
_BEFORE_TIME = re.compile(r"[*_`~]*\s*[:,|-]?\s*[*_`~]*")
# Scene 1 (at home):
_ASIDE = re.compile(r"\s?(?:\([^()\d][^()]{0,60}\)|prompt|description|text)(?=[*_`~]{0,3}\s?[:-])")
_DECADE = re.compile(r"(?:1\d|20)\d0s")


def _foreign(s: str) -> Mark | None:
    """A mark of another tool at the start of `s`, which is folded."""
    lead = _lead(s)
    i, opened = lead, ""
    while i < len(s) and s[i] in _BRACKETS:
        opened += s[i]
        i = _EMPHASIS.match(s, i + 1).end()
    numbered = _numbered(s, i, bool(opened), s[:lead].rstrip().endswith("#"))
    if numbered is None:
        start = i
        found = _timed(s, i, opened, False)
        order, word = None, "time"
    else:
        order, word, i, ended = numbered
        found = _timed_behind(s, _BEFORE_TIME.match(s, i).end(), opened)
        if found is None:
            aside = None if ended else _ASIDE.match(s, i)
            i = aside.end() if aside else i
            found = _Found(None, _CLOSING.match(s, i).end(), firm=True) if ended else _finish(s, i, opened, True)
            found = found and (_timed_behind(s, found.end, "") or found)
    if found is None:
        return None
    times, i, closing = found.times, found.end, found.closing
    if numbered is not None:
        level = LOOSE if found.space else LIKELY
        order = order if times is None else None
    else:
        frame = _UNIT_LABEL.match(s, start)
        order = _order_of((times[0], None, *times[2:]) if frame and frame["f"] else times)
        quoted = any(quote in opened and quote not in closing for quote in "\"'")
        clock = times[2] is None and ":" in s[lead:i].rstrip(": ")
        if times[1] is times[3] is None:
            if found.loose == "," or (found.space and opened.strip("\"'") == ""):
                return None  # "2, 3 dogs", "2 dogs"
            level = SURE if quoted and found.firm else LIKELY
            if found.loose == "-" and s[i : i + 1].isdigit():
                level = LOOSE  # "3 - 5 dogs"
        elif found.firm and (quoted or not clock):
            level = SURE
        else:
            level = LOOSE if found.space else LIKELY
    bold = _BOLD.search(s[:lead])
    if bold and bold.group() not in s[lead:i]:
        closing = bold.group() + closing
    return Mark(i, times, order, opened.replace("'", '"') + word, level, False, closing)


def _lead(s: str) -> int:
    """Bullets, quotation and heading signs, emoji: whatever is no letter, digit or bracket."""
    i = 0
    while i < len(s) and not s[i].isalnum() and s[i] not in _BRACKETS and s[i] != "|":
        if unicodedata.category(s[i]) == "Sc":
            return 0  # $5
        i += 1
        if _CHECK_BOX.match(s, i):
            i += 4
    if i and s[i - 1] in "-." and s[i : i + 1].isdigit():
        i -= 1
    return i


def _numbered(s: str, i: int, opened: bool, hashed: bool) -> tuple[int, str, int, bool] | None:
    """A place in a list: its number, the word for it, where it ends, whether a separator belongs to it."""
    scene = _SCENE.match(s, i)
    if scene is not None:
        number = scene["order"] or scene["cjk"] or scene["ord"]
        if number[0].isdigit():
            number = re.match(r"\d+", number).group()
        elif number not in _NUMERAL and not "a" <= number <= "h":
            return None
        word = (scene["word"] or scene["cjkword"] or scene["ordword"]).rstrip("s")
        place = int(number) if number[0].isdigit() else _NUMERAL.get(number, ord(number[0]) - ord("a") + 1)
        return place, word, scene.end(), False
    if opened:
        return None
    listed = _LIST.match(s, i)
    if listed is not None:
        if listed["ring"]:
            return int(unicodedata.numeric(listed["ring"])), "list", listed.end(), True
        if listed["letter"]:
            letter = listed["letter"]
            value = _NUMERAL[letter] if letter in _NUMERALS[2] else ord(letter[0]) - ord("a") + 1
            return value, "list", listed.end(), True
        return int(listed["n"]), "list", listed.end(), True
    if hashed and (number := _HASHED.match(s, i)):
        return int(number.group()), "list", number.end(), True
    return None


@dataclass(frozen=True)
class _Found:
    """A time, or none, and what separates it from the prompt: a sign that is there for that, or one that can be
    (`loose`; "$" is the line's end), or only a space. `closing`: see Mark."""

    times: tuple | None
    end: int
    firm: bool = False
    loose: str = ""
    space: bool = False
    closing: str = ""


def _timed_behind(s: str, i: int, opened: str) -> _Found | None:
    """The time of a numbered scene; it has a unit and is set off from the prompt ("Scene 2: 3 dogs" has none)."""
    inner = s[i : i + 1] if s[i : i + 1] in ("[", "(", "<") else ""
    return _timed(s, i + len(inner), opened + inner, True)


def _timed(s: str, i: int, opened: str, behind_number: bool) -> _Found | None:
    label = _LABEL.match(s, i)
    i = label.end() if label else i
    for ranges in (True, False):
        read = _times(s, i, ranges)
        if read is None:
            return None
        times, end, alike = read
        if ranges and times[2] is None:
            continue
        found = _finish(s, end, opened)
        if found is None:
            continue
        united = times[1] or times[3]
        plain = found.space and times[2] is None
        if behind_number and (plain or not (united or (times[2] and opened))):
            continue
        doubtful = ranges and not (opened or found.firm or found.loose == "$")
        if doubtful and (not alike or (found.space and times[3] is None)):
            continue  # "0s - 3 dogs", "0s - 3 seconds of rain": the dash is a separator
        if found.space and times[1] == "s" and _DECADE.match(s, i):
            continue
        if label and label.group()[0] == "t" and not united:
            times = (times[0], "?", times[2], times[3])
        return replace(found, times=times)
    return None


def _finish(s: str, i: int, opened: str, named: bool = False) -> _Found | None:
    """What closes a mark that has been read up to i. named: its number has a word before it ("scene 1:3 dogs")."""
    closing, closed = "", False
    for bracket in reversed(opened):
        at = _EMPHASIS.match(s, i).end()
        if s[at : at + 1] == _BRACKETS[bracket]:
            i, closed = at + 1, closed or bracket not in "\"'"
        elif bracket in "\"'":
            closing += bracket
        else:
            return None
    separator = _SEPARATOR.match(s, i)
    if separator is None and (s[i - 1].isalpha() or s[i - 1] == "%"):
        separator = _STICKY.match(s, i)
    if separator is None:
        return _Found(None, i, firm=True, closing=closing) if closed else None
    groups = separator.groupdict()
    end, loose = separator.end(), groups["loose"] or ""
    ratio = groups.get("firm") == ":" and s[end - 1] == ":" and s[i - 1].isdigit() and s[end : end + 1].isdigit()
    if ratio and not named:
        return None  # 16:9
    if closed and not loose:
        return _Found(None, end, firm=True, closing=closing)
    if groups.get("end") is not None:
        loose = "$"
    return _Found(None, end, bool(groups.get("firm")), loose[:1], bool(groups.get("none")), closing)


def _times(s: str, at: int, ranges: bool) -> tuple[tuple, int, bool] | None:
    """One time or two, where they end, and whether two are written alike: without a space between, or in one form."""
    first = _time(s, at)
    if first is None:
        return None
    number, unit, i = first
    if ranges:
        to = _TO.match(s, i)
        second = _time(s, to.end()) if to else None
        if second is not None:
            forms = [_NO_FORM.sub("", part) for part in (s[at:i], s[to.end() : second[2]])]
            alike = to.group() == to.group().strip() or (forms[0] == forms[1] != "")
            return (number, unit, second[0], second[1]), second[2], alike
    return (number, unit, None, None), i, True


def _time(s: str, i: int) -> tuple[str, str | None, int] | None:
    """A time's number and unit (s, f, % or None), and where it ends."""
    if clock := _CLOCK.match(s, i):
        hours, minutes, seconds, part = clock.groups()
        return f"{int(hours or 0) * 3600 + int(minutes) * 60 + int(seconds)}.{part or 0}", "s", clock.end()
    if spoken := _SPOKEN.match(s, i):
        hours, minutes, seconds = spoken.groups()
        return f"{int(hours or 0) * 3600 + int(minutes) * 60 + float(seconds):.6g}", "s", spoken.end()
    if comma := _COMMA.match(s, i):
        return comma["n"].replace(",", "."), "s", comma.end()
    label = _UNIT_LABEL.match(s, i)
    plain = _PLAIN.match(s, label.end() if label else i)
    if plain is None:
        return None
    number, unit = plain["n"], None
    if plain["ms"] or plain["min"]:
        number, unit = f"{float(number) * (0.001 if plain['ms'] else 60):.9g}", "s"
    elif plain["s"] or (label and label["s"]):
        unit = "s"
    elif plain["f"] or (label and label["f"]):
        unit = "f"
    elif plain["pc"]:
        unit = "%"
    return number, unit, plain.end()


# Where a mark may stand inside a line: behind a space or a sign that separates.
INLINE = re.compile(
    r"(?<=[\s,;/|>\u2192])(?=[\"'\[(<*_]{0,4}(?:[-.]?\d|(?:key ?)?frame|f\d|sec|at |from |time|\u7b2c"
    rf"|[\u2460-\u2473\u2776-\u277f]|(?:{_SCENE_WORDS})\s?[#\w]|(?:{'|'.join(_NUMERALS[1][1:])}) ))"
)
