"""Signs of other scripts and word processors, read as the plain ones."""

import unicodedata

_SIGNS = str.maketrans({
    **{0xFF01 + i: chr(0x21 + i).lower() for i in range(0x5E)},  # full-width
    **dict.fromkeys("\u2236\ufe13\ufe55\ua789", ":"),
    **dict.fromkeys("\u2212\uff0d\u301c", "-"),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2039\u203a\u2032", "'"),
    **dict.fromkeys("\u201c\u201d\u201e\u201f\xab\xbb\u2033\u300c\u300d\u300e\u300f", '"'),
    **dict.fromkeys("\u3010\u3014", "["),
    **dict.fromkeys("\u3011\u3015", "]"),
    **dict.fromkeys("\u3008\u300a", "<"),
    **dict.fromkeys("\u3009\u300b", ">"),
    **dict.fromkeys("\u2192\u21d2\u27f6\u279c\u2794\u27a1\u25b6\u25ba", "\u2192"),
    **{"\u3002": ".", "\u2502": "|", "\ufe0f": " ", "\u20e3": ")", "\x85": "\n"},
})
_KINDS = {"Zs": " ", "Cf": " ", "Zl": "\n", "Zp": "\n", "Pd": "-"}


class _Signs(dict):
    def __missing__(self, code: int) -> str:
        char = chr(code)
        kind = unicodedata.category(char)
        if kind == "Nd":
            return str(unicodedata.decimal(char))
        lower = char.lower()
        return _KINDS.get(kind, lower if len(lower) == 1 else char)


_FOLD = _Signs(_SIGNS)


def fold(text: str) -> str:
    """`text` in lower case with plain digits, spaces, dashes, quotes, brackets, line breaks: one character for each."""
    return text.lower() if text.isascii() else text.translate(_FOLD)
