"""JSON as language models and word processors leave it: curly or single quotes, comments, trailing commas, bare keys,
raw line breaks, quotes inside quotes, full-width signs, sentences around it."""

import json
import re

from .signs import fold

MOST_TRIES = 20  # brackets that look like the start of an object and turn out to be none, before the search ends
_DEEPEST = 20
_OPENS = re.compile(r"\{\s{0,200}(?:[\"'}/#]|[\w -]{1,40}\s?:)")
_COMMENT = re.compile(r"(?://|#)[^\n]*|/\*(?:[^*]|\*(?!/))*\*/")
_SPACE = re.compile(r"\s*")
_WORD = re.compile(r"[\w-][\w -]{0,38}(?=\s?:)")
_PLAIN = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?|true|false|null|none")
# What may stand behind the quote that closes a text.
_BEHIND = re.compile(r"\s*(?:[:\]}]|,?\s*(?://|/\*|#|\Z)|,\s*(?:[\"'\[{\]}]|[\w-][\w -]{0,38}:))")
_TWO_TEXTS = re.compile(r"[^\\]\"\s{1,40}\"|\u201d\s{0,40}\u201c")
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", "r": "\r", "b": "", "f": ""}


def objects(text: str) -> list[tuple[int, dict]]:
    """All complete objects in a text with their places, outermost ones only, in order."""
    folded, found, tries, at = fold(text), [], 0, 0
    while tries < MOST_TRIES and (opening := _OPENS.search(folded, at)):
        try:
            value, at = read(text, folded, opening.start())
            found.append((opening.start(), value))
        except ValueError:
            tries += 1
            at = opening.start() + 1
    return found


def looks_like_object(text: str) -> int:
    """Where the first object seems to start; -1: nowhere."""
    opening = _OPENS.search(fold(text))
    return opening.start() if opening else -1


def read(text: str, folded: str, at: int):
    """The value at a place, and where it ends; as strict JSON if that is possible. `folded` is fold(text). Raises
    ValueError."""
    try:
        return json.JSONDecoder(strict=False).raw_decode(text, at)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except ValueError:
        return _Reader(text, folded).value(at, 0)


class _Reader:
    def __init__(self, text: str, folded: str):
        self.text, self.folded = text, folded

    def value(self, at: int, depth: int):
        at = self.skip(at)
        sign = self.folded[at : at + 1]
        if depth > _DEEPEST:
            raise ValueError("nested too deeply")
        if sign == "{":
            return self.object(at + 1, depth)
        if sign == "[":
            return self.list(at + 1, depth)
        if sign in ('"', "'"):
            return self.string(at)
        plain = _PLAIN.match(self.folded, at)
        if plain is None:
            raise ValueError("no value")
        word = plain.group()
        return {"true": True, "false": False, "null": None, "none": None}.get(word, 0), plain.end()

    def object(self, at: int, depth: int):
        out = {}
        while True:
            at = self.skip(at)
            sign = self.folded[at : at + 1]
            if sign == "}":
                return out, at + 1
            if sign in ('"', "'"):
                key, at = self.string(at)
            elif word := _WORD.match(self.folded, at):
                key, at = self.text[at : word.end()], word.end()
            else:
                raise ValueError("no key")
            at = self.skip(at)
            if self.folded[at : at + 1] not in (":", "="):
                raise ValueError("no colon")
            out[key], at = self.value(at + 1, depth + 1)
            at = self.comma(at, "}")

    def list(self, at: int, depth: int):
        out = []
        while True:
            at = self.skip(at)
            if self.folded[at : at + 1] == "]":
                return out, at + 1
            value, at = self.value(at, depth + 1)
            out.append(value)
            at = self.comma(at, "]")

    def comma(self, at: int, closing: str) -> int:
        at = self.skip(at)
        sign = self.folded[at : at + 1]
        if sign == ",":
            return at + 1
        if sign != closing:
            raise ValueError("no comma")
        return at

    def string(self, at: int) -> tuple[str, int]:
        """Up to a quote of the same kind that something follows which can stand behind a text."""
        sign, plain = self.folded[at], self.text[at] == '"'
        end = at
        while True:
            end = self.text.find('"', end + 1) if plain else self.folded.find(sign, end + 1)
            if end < 0:
                raise ValueError("no closing quote")
            first = end
            while self.text[first - 1] == "\\":
                first -= 1
            if (end - first) % 2 == 0 and _BEHIND.match(self.folded, end + 1):
                inside = self.text[at + 1 : end]
                if _TWO_TEXTS.search(inside):
                    raise ValueError("no comma between texts")
                return unescaped(inside), end + 1

    def skip(self, at: int) -> int:
        while True:
            at = _SPACE.match(self.folded, at).end()
            comment = _COMMENT.match(self.folded, at)
            if comment is None:
                return at
            at = comment.end()


def unescaped(text: str) -> str:
    if "\\" not in text:
        return text
    out = _ESCAPE.sub(lambda m: chr(int(m[1][1:], 16)) if len(m[1]) == 5 else _ESCAPED.get(m[1], m[1]), text)
    return out.encode("utf-16", "surrogatepass").decode("utf-16", "replace")  # two escapes of one emoji
