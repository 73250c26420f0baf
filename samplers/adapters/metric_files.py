"""Measured videos as JSON: what Video Metrics puts out, and its collections in the output folder."""

import errno
import json
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

import folder_paths

from ..checks import number, shown
from ..metrics.summary import Result

DEVICES = r"(?!(con|prn|aux|nul|com\d|lpt\d)(\.|$))"  # of Windows, whatever their names end in
METRIC = re.compile(r"\w[\w .+-]{0,99}")
NAME = re.compile(DEVICES + METRIC.pattern, re.IGNORECASE)  # of a collection: no path
SPACE = re.compile(r"\s*")
MOST = 64 << 20  # bytes of a collection that is read
LARGEST = 1e15  # of a value


def document(
    found: Sequence[Result], frames: int, rate: float, size: tuple[int, int], boundaries: Sequence[int], digest: str
) -> dict:  # fmt: skip
    """One video's metrics. size: (height, width); digest: of its frames."""
    about = {"frames": frames, "fps": rate, "height": size[0], "width": size[1], "boundaries": list(boundaries)}
    return {
        "video": {**about, "sha256": digest},
        "metrics": [result.as_json() for result in found],
    }


def collection(name: str) -> Path:
    """The file of a collection. Raises ValueError for a name that is none."""
    if not NAME.fullmatch(name):
        raise ValueError(
            f"{shown(name) or 'an empty text'} is no name of a collection: letters, digits, spaces and . + - _, 100 at "
            "most, a letter or digit first, and no device of Windows (CON, NUL)")  # fmt: skip
    return Path(folder_paths.get_output_directory()) / "longtake" / "metrics" / f"{name}.jsonl"


def append(name: str, found: dict) -> Path:
    """Adds a document to a collection: a line of its own, whole or not at all. Raises OSError."""
    path = collection(name)
    line = (json.dumps(found) + "\n").encode()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
        try:
            written = os.write(file, line)
            if written < len(line):
                end = os.lseek(file, 0, os.SEEK_CUR)
                if os.fstat(file).st_size == end:  # nobody has written behind it
                    os.ftruncate(file, end - written)
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        finally:
            os.close(file)
    except OSError as error:
        raise OSError(f"{path} cannot be written ({error.strerror or error})") from error
    return path


def saved(name: str) -> list[dict]:
    """The documents of a collection, of a video that was measured more than once the last. Raises ValueError."""
    path = collection(name)
    if not path.is_file():
        there = sorted(p.stem for p in path.parent.glob("*.jsonl"))[:20] if path.parent.is_dir() else []
        has = f"there are {', '.join(there)}" if there else "there are none yet; Video Metrics makes one by save_as"
        raise ValueError(f"no collection is called {shown(name)}: {has}")
    if path.stat().st_size > MOST:
        raise ValueError(f"the collection {shown(name)} is larger than {MOST >> 20} MiB")
    found = parsed(path.read_text("utf-8-sig", "replace"), f"the collection {shown(name)}")
    return list({one["video"] or i: one for i, one in enumerate(found)}.values())


def parsed(text: str, what: str) -> list[dict]:
    """The documents in a text, one after the other. Raises ValueError that says `what` the text is."""
    if not isinstance(text, str):
        raise ValueError(f"{what} must be text that Video Metrics puts out, not {type(text).__name__}")
    decoder, at, found = json.JSONDecoder(), SPACE.match(text).end(), []
    while at < len(text):
        try:
            one, end = decoder.raw_decode(text, at)
            better = {m["metric"]: ways(m["better"]) for m in one["metrics"]}
            video = str(one.get("video", {}).get("sha256", ""))
            found.append({"values": values(one), "better": better, "video": video})
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            why = error if type(error) is ValueError else type(error).__name__
            raise ValueError(
                f"{what} holds no metrics at sign {at} ({why}); it must be what Video Metrics puts out") from error
        at = SPACE.match(text, end).end()
    if not found:
        raise ValueError(f"{what} is empty; it must be what Video Metrics puts out")
    return found


def ways(better) -> int:
    return int(number("better", better, -1, 1, whole=True))


def values(one: dict) -> dict[str, float]:
    """By metric; NaN: cannot be said. Raises what the document's faults raise."""
    found = {}
    for metric in one["metrics"]:
        name, value = metric["metric"], metric["value"]
        if not METRIC.fullmatch(name):
            raise ValueError(f"{shown(name)} is no name of a metric")
        unknown = value is None or value != value
        found[name] = math.nan if unknown else float(number(name, value, -LARGEST, LARGEST))
    if not found:
        raise ValueError("no metrics")
    return found
