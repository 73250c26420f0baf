"""Measured videos as JSON: what Video Metrics puts out, and its collections in the output folder."""

import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import folder_paths

from ..checks import shown
from ..metrics.summary import Result

NAME = re.compile(r"[\w][\w .+-]{0,99}")  # of a collection: no path
MOST = 64 << 20  # bytes of a collection that is read


def document(
    found: Sequence[Result], frames: int, rate: float, size: tuple[int, int], boundaries: Sequence[int]
) -> dict:  # fmt: skip
    """One video's metrics. size: (height, width)."""
    return {
        "video": {"frames": frames, "fps": rate, "height": size[0], "width": size[1], "boundaries": list(boundaries)},
        "metrics": [result.as_json() for result in found],
    }


def collection(name: str) -> Path:
    """The file of a collection. Raises ValueError for a name that is none."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{shown(name)} is no name of a collection: letters, digits, spaces and . + - _, 100 at most, a letter or "
            "digit first")  # fmt: skip
    return Path(folder_paths.get_output_directory()) / "longtake" / "metrics" / f"{name}.jsonl"


def append(name: str, found: dict) -> Path:
    """Adds a document to a collection: a line of its own, whole or not at all. Raises OSError."""
    path = collection(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    line = (json.dumps(found) + "\n").encode()
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    try:
        if os.write(file, line) != len(line):
            raise OSError(f"{path} could not be written whole")
    finally:
        os.close(file)
    return path


def saved(name: str) -> list[dict]:
    """The documents of a collection. Raises ValueError."""
    path = collection(name)
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob("*.jsonl"))[:20] if path.parent.is_dir() else []
        has = f"there are {', '.join(there)}" if there else "there are none yet; Video Metrics makes one by save_as"
        raise ValueError(f"no collection is called {shown(name)}: {has}")
    if path.stat().st_size > MOST:
        raise ValueError(f"the collection {shown(name)} is larger than {MOST >> 20} MiB")
    return parsed(path.read_text("utf-8", "replace"), f"the collection {shown(name)}")


def parsed(text: str, what: str) -> list[dict]:
    """The documents in a text, one after the other. Raises ValueError that says `what` the text is."""
    decoder, at, found = json.JSONDecoder(), 0, []
    text = text.strip()
    while at < len(text):
        try:
            one, end = decoder.raw_decode(text, at)
            found.append({"values": values(one), "better": {m["metric"]: int(m["better"]) for m in one["metrics"]}})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError(
                f"{what} holds no metrics at sign {at} ({type(error).__name__}); it must be what Video Metrics puts out"
            ) from error
        at = end + len(text[end:]) - len(text[end:].lstrip())
    if not found:
        raise ValueError(f"{what} is empty; it must be what Video Metrics puts out")
    return found


def values(one: dict) -> dict[str, float]:
    return {str(m["metric"]): math.nan if m["value"] is None else float(m["value"]) for m in one["metrics"]}
