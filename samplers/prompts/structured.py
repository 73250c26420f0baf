"""Structured prompts: what a language model answers to INSTRUCTION, read as a global prompt and local prompts.

SynCoS (arXiv 2503.08605, sec. 4.2 and Fig. 8) has a language model split a story into one global prompt, what all
events share, and one local prompt per event. The wording of INSTRUCTION is ours; the paper's is in its figure.
"""

import json
import re

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

EXAMPLE = '{"global": "a red circle", "local": ["bouncing on a navy background", "spinning on a pink background"]}'
_FENCE = re.compile(r"```[a-zA-Z]*\s*\n(.*?)```", re.DOTALL)
_NUMBERING = re.compile(
    r"^(?:(?:(?:local|event|prompt)\s+)?(?:prompt\s+)?\d{1,3}\s*[.):]|[-*\u2022])\s+", re.IGNORECASE
)
_GLOBAL = re.compile(r"^\**global(?:[ _]prompt)?\**\s*:\**\s*", re.IGNORECASE)
_LOCAL_HEADING = re.compile(r"^\**local(?:[ _]prompts?)?\**\s*:\**\s*$", re.IGNORECASE)


class ReplyError(ValueError):
    """A reply that cannot be read; the message says what is wrong and what would work."""


def instruction(scenario: str, events: int) -> str:
    """The text to paste into a language model."""
    return INSTRUCTION.format(scenario=" ".join(scenario.split()) or "(describe your story here)", events=events)


def parse_reply(reply: str) -> tuple[str, list[str]]:
    """The global and the local prompts of a reply: JSON (also inside other text or a code fence), or plain lines.

    Plain lines: a line "Global: ..." (optional), then one local prompt a line; numbering and bullets are dropped.
    Raises ReplyError.
    """
    if not reply.strip():
        raise ReplyError(f"is empty; paste the language model's answer, e.g. {EXAMPLE}")
    fenced = _FENCE.search(reply)
    text = (fenced.group(1) if fenced else reply).strip()
    start = text.find("{")
    if start >= 0 and '"' in text[start:]:
        return _from_json(text[start:])
    if text.startswith("["):
        raise ReplyError(f"is a JSON list; it must be an object with a global and a local part, e.g. {EXAMPLE}")
    return _from_lines(text)


def _from_json(text: str) -> tuple[str, list[str]]:
    try:
        data, _ = json.JSONDecoder(strict=False).raw_decode(text)
    except json.JSONDecodeError as e:
        cut = " (the answer may have been cut off)" if e.pos >= len(text.rstrip()) - 1 else ""
        where = f"line {e.lineno}, column {e.colno}"
        raise ReplyError(f"is not valid JSON: {e.msg} in {where}{cut}; e.g. {EXAMPLE}") from None
    except RecursionError:
        raise ReplyError(f"is JSON nested too deeply; e.g. {EXAMPLE}") from None
    named = {str(key).lower().replace(" ", "_").replace("-", "_"): value for key, value in data.items()}
    shared = named.get("global", named.get("global_prompt", ""))
    local = named.get("local", named.get("local_prompts", named.get("local_prompt")))
    if local is None:
        raise ReplyError(f'has no "local" part (it has: {", ".join(map(str, data)) or "nothing"}); e.g. {EXAMPLE}')
    if not isinstance(shared, str):
        raise ReplyError(f'"global" must be one text, not {_kind(shared)}; e.g. {EXAMPLE}')
    if isinstance(local, dict):  # {"1": "...", "2": "..."}
        local = list(local.values())
    if isinstance(local, str):
        local = [local]
    if not isinstance(local, list) or not all(isinstance(p, str) for p in local):
        wrong = next((p for p in local if not isinstance(p, str)), local) if isinstance(local, list) else local
        raise ReplyError(f'"local" must be a list of texts; it holds {_kind(wrong)}; e.g. {EXAMPLE}')
    return _checked(shared, local)


def _from_lines(text: str) -> tuple[str, list[str]]:
    shared, local = "", []
    for line in (line.strip() for line in text.splitlines()):
        if not line or _LOCAL_HEADING.match(line):
            continue
        if (match := _GLOBAL.match(line)) is not None:
            if shared:
                raise ReplyError('has two lines that start with "Global:"; keep one')
            shared = line[match.end() :]
            continue
        local.append(_NUMBERING.sub("", line))
    return _checked(shared, local)


def _checked(shared: str, local: list[str]) -> tuple[str, list[str]]:
    shared, local = " ".join(shared.split()), [" ".join(p.split()) for p in local]
    if not local:
        raise ReplyError(f"has no local prompt; write one per event, e.g. {EXAMPLE}")
    for i, prompt in enumerate(local, 1):
        if not prompt:
            raise ReplyError(f"local prompt {i} of {len(local)} is empty; every event needs a text")
    return shared, local


def _kind(value) -> str:
    names = {dict: "an object", list: "a list", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else "a text")


def timeline_text(local: list[str]) -> str:
    """The local prompts as the timeline's JSON dialect, in equal parts: no character of a prompt can be misread."""
    return json.dumps({_percent(i, len(local)): prompt for i, prompt in enumerate(local)}, ensure_ascii=False, indent=1)


def _percent(i: int, count: int) -> str:
    return f"{100 * i / count:.6g}%"
