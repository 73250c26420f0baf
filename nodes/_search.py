"""Words by which people look for a node."""

import inspect

from ._api import io

ALIASES = "search_aliases" in inspect.signature(io.Schema).parameters  # not in ComfyUI 0.3.75


def described(text: str, *words: str) -> dict:
    """A schema's description with the words by which the node is found: search aliases where core has them; where not,
    web/js/search.js reads the description."""
    found: dict = {"description": f"{text} Also: {', '.join(words)}."}
    if ALIASES:
        found["search_aliases"] = list(words)
    return found
