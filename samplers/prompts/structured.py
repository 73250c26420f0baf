"""Structured prompts: what a language model answers to INSTRUCTION, read as a global prompt and local prompts.

SynCoS (arXiv 2503.08605, sec. 4.2 and Fig. 8) has a language model split a story into one global prompt, what all
events share, and one local prompt per event. The wording of INSTRUCTION is ours; the paper's is in its figure.
"""

import json
import re

from . import loose
from .answers import EXAMPLE, ReplyError, checked, has_global, read_lines, without_labels
from .signs import fold

INSTRUCTION = """\
You write prompts for a text-to-video model that makes one long video of several events.
Scenario: {scenario}
Number of events: {events}

Split the scenario into exactly {events} events, in order of time, and answer with JSON only:
{{"global": "...", "local": ["...", "..."]}}

"global": one or two sentences on what stays the same throughout: the main subject with its looks (colours, clothes,
material), the place where it does not change, style, light, camera. Nothing that happens only for a while.
"local": {events} sentences, one per event: what the subject does then, and what has changed (motion, place, weather,
camera). Each must be understood alone, in the present tense, about as long as the others. Name the subject with the
same words as in "global"; do not contradict "global".
"""

_FENCE = "```"
_THOUGHT = re.compile(
    r"<(/?)(?:think|thinking|thought|thoughts|reasoning|analysis|scratchpad|reflection)\s?>", re.IGNORECASE
)
_WITHOUT_BRACES = re.compile(r"\s*[\"'](?:global|local|shared)[\w -]{0,20}[\"']\s?:")
_GLOBAL_KEYS = re.compile(r"(?:global|shared|common|overall|base|main)(?:prompt|description|text|scene|part)?s?")
_LOCAL_KEYS = re.compile(r"locals?|local(?:prompt|description|text|event|part)s?")
_EVENT_KEYS = re.compile(r"(?:event|scene|shot|segment|clip|part|step|prompt)(?:prompt|description|text)?s?")
_TEXT_KEYS = {"prompt", "text", "description", "local", "localprompt", "caption", "content", "action"}
_REMARK_KEYS = {"id", "title", "name", "note", "notes", "comment", "comments", "scenario", "story", "negative"}
_NAME_KEYS = {"id", "index", "number", "no", "event", "scene", "shot", "segment", "title", "name"}


def instruction(scenario: str, events: int) -> str:
    """The text to paste into a language model."""
    return INSTRUCTION.format(scenario=" ".join(scenario.split()) or "(describe your story here)", events=events)


def parse_reply(reply: str) -> tuple[str, list[str]]:
    """The global and the local prompts of a reply: JSON (also inside other text or a code fence, and as loose.py reads
    it; of several objects the last that fits), or lines (answers.py says which).

    Raises ReplyError.
    """
    if not reply.strip():
        raise ReplyError(f"is empty; paste the language model's answer, e.g. {EXAMPLE}")
    text = _without_thoughts(reply.replace("\r\n", "\n").replace("\r", "\n"))
    start = loose.looks_like_object(text)
    if start < 0 and _WITHOUT_BRACES.match(fold(text)):
        text, start = f"{{{text}}}", 0
    if start >= 0:
        return _from_json(text, start)
    if re.match(r"\s*(?:```\w*\s*)?\[\s*[\"'\u201c\u2018\[]", text):
        raise ReplyError(f"is a JSON list; it must be an object with a global and a local part, e.g. {EXAMPLE}")
    fenced = _fenced(text)
    whole = fenced is None or (has_global(text) and not has_global(fenced))
    return read_lines(text if whole else fenced)


def _without_thoughts(text: str) -> str:
    """Without what stands in <think> and its like; where only the end of it was pasted, without all before that."""
    kept, at, depth = [], 0, 0
    for tag in _THOUGHT.finditer(text):
        if tag.group(1):
            if depth == 0:
                kept = []
            depth = max(0, depth - 1)
        else:
            if depth == 0:
                kept.append(text[at : tag.start()])
            depth += 1
        at = tag.end()
    if depth:
        raise ReplyError("ends inside the model's thoughts (<think>); paste the answer that comes behind them")
    text = "".join([*kept, text[at:]])
    if not text.strip():
        raise ReplyError("holds the model's thoughts (<think>) only; paste the answer that comes behind them")
    return text


def _fenced(text: str) -> str | None:
    """What stands in the last code fence."""
    pieces = text.split(_FENCE)
    if len(pieces) < 3:
        return None
    inside = pieces[-2 if len(pieces) % 2 else -3]
    head, _, body = inside.partition("\n")
    return body if body.strip() and len(head.split()) < 2 else inside


def _from_json(text: str, start: int) -> tuple[str, list[str]]:
    found = loose.objects(text)
    if not found:
        raise _not_json(text[start:])
    examples, error = [], None if found[0][0] == start else _not_json(text[start:])
    for _, data in reversed(found):
        try:
            shared, local = _from_object(data, 0)
        except ReplyError as e:
            error = error or e
            continue
        if {shared, *local} <= {"...", "\u2026", ""}:  # the instruction's own, pasted with the answer
            examples.append((shared, local))
            continue
        return shared, local
    if examples and error is None:
        return examples[0]
    raise error or _not_json(text[start:])


def _not_json(text: str) -> ReplyError:
    try:
        json.JSONDecoder(strict=False).raw_decode(text)
    except json.JSONDecodeError as e:
        ends = e.pos >= len(text.rstrip()) - 1 or e.msg.startswith("Unterminated")
        cut = " (the answer may have been cut off)" if ends else ""
        return ReplyError(f"is not valid JSON: {e.msg} in line {e.lineno}, column {e.colno}{cut}; e.g. {EXAMPLE}")
    except RecursionError:
        return ReplyError(f"is JSON nested too deeply; e.g. {EXAMPLE}")
    return ReplyError(f"is not valid JSON; e.g. {EXAMPLE}")


def _from_object(data: dict, depth: int) -> tuple[str, list[str]]:
    letters = {key: re.sub(r"[^a-z]", "", str(key).lower()) for key in data}
    globals_ = [key for key in data if _GLOBAL_KEYS.fullmatch(letters[key])]
    locals_ = [key for key in data if _LOCAL_KEYS.fullmatch(letters[key]) and not _number(key)]
    lists = [key for key in data if isinstance(data[key], (list, dict)) and not _number(key)]
    locals_ = locals_ or [key for key in lists if _EVENT_KEYS.fullmatch(letters[key])]
    numbered = [key for key in data if _number(key) and (not letters[key] or _is_local(letters[key]))]
    if not locals_ and len(data) < 4 and depth < 2:
        for value in data.values():  # {"result": {"global": ...}}
            if isinstance(value, dict) and not numbered:
                return _from_object(value, depth + 1)
    if len(globals_) > 1 or len(locals_) > 1:
        twice = ", ".join(map(str, globals_ if len(globals_) > 1 else locals_))
        raise ReplyError(f"has several parts of one kind ({twice}); keep one, e.g. {EXAMPLE}")
    shared = data[globals_[0]] if globals_ else ""
    if locals_:
        local = data[locals_[0]]
    elif numbered:
        local = {_number(key): data[key] for key in numbered}
    else:
        local = None
    if local is None:
        raise ReplyError(f'has no "local" part (it has: {", ".join(map(str, data)) or "nothing"}); e.g. {EXAMPLE}')
    if locals_ and isinstance(local, dict) and not globals_ and depth < 2:  # {"prompts": {"global": ...}}
        return _from_object(local, depth + 1)
    others = [key for key in data if isinstance(data[key], str) and key not in (*globals_, *locals_, *numbered)]
    others = [str(key) for key in others if letters[key] not in _REMARK_KEYS]
    if others:
        raise ReplyError(f'has parts that are neither "global" nor "local" ({", ".join(others)}); join or remove them')
    if not isinstance(shared, str):
        raise ReplyError(f'"global" must be one text, not {_kind(shared)}; e.g. {EXAMPLE}')
    if isinstance(local, dict):  # {"1": "...", "2": "..."}
        local = _in_order(local)
    if isinstance(local, str):
        local = read_lines(local)[1]
    local = [_text_of(item) for item in local] if isinstance(local, list) else local
    if not isinstance(local, list) or not all(isinstance(p, str) for p in local):
        wrong = next((p for p in local if not isinstance(p, str)), local) if isinstance(local, list) else local
        raise ReplyError(f'"local" must be a list of texts; it holds {_kind(wrong)}; e.g. {EXAMPLE}')
    return checked(*without_labels(shared, local))


def _number(key) -> str:
    return re.sub(r"\D", "", str(key))


def _is_local(letters: str) -> bool:
    return bool(_LOCAL_KEYS.fullmatch(letters) or _EVENT_KEYS.fullmatch(letters))


def _in_order(local: dict) -> list:
    """The values of numbered keys in the order of their numbers, which have no gaps; of others as they stand."""
    numbers = [int(_number(key)[:9] or -1) for key in local]
    if min(numbers, default=-1) < 0:
        return list(local.values())
    ordered = sorted(numbers)
    if ordered != list(range(ordered[0], ordered[0] + len(ordered))) or ordered[0] > 1:
        given = ", ".join(map(str, numbers[:9]))
        raise ReplyError(f"has events with the numbers {given}; number them 1, 2, 3, without gaps")
    return [value for _, value in sorted(zip(numbers, local.values(), strict=True), key=lambda item: item[0])]


def _text_of(item):
    """The text of {"event": 1, "prompt": "..."}; anything else stays as it is."""
    if not isinstance(item, dict):
        return item
    letters = {re.sub(r"[^a-z]", "", str(key).lower()): value for key, value in item.items()}
    texts = [key for key in letters if key in _TEXT_KEYS]
    if len(texts) == 1 and len(letters) == len(item) and set(letters) - set(texts) <= _NAME_KEYS:
        return letters[texts[0]]
    if len(item) == 1 and _is_local(next(iter(letters))):
        return next(iter(letters.values()))  # [{"event_1": "..."}, {"event_2": "..."}]
    return item


def _kind(value) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else "a text")


def timeline_text(local: list[str]) -> str:
    """The local prompts as the timeline's JSON dialect, in equal parts: no character of a prompt can be misread."""
    return json.dumps({_percent(i, len(local)): prompt for i, prompt in enumerate(local)}, ensure_ascii=False, indent=1)


def _percent(i: int, count: int) -> str:
    return f"{100 * i / count:.6g}%"
