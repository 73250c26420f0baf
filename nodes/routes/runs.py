"""POST /longtake/runs: the kept runs, for the list in Load Run; and deletes one.

Request, JSON:  {} or {"delete": name}
Answer, JSON:   {"runs": [{"name": str, "step": int, "total": int, "age": seconds, "size": bytes, "broken": [str, ...]},
                          ...]}

The newest first; step and total are 0 where no state can be read. Anything else is answered with status 400 and
{"error": str}. Only names that the list has are looked at.
"""

import json
import time

from ...samplers.adapters import run_folders
from ...samplers.checks import short
from . import BadRequest, handler

PATH = "/longtake/runs"
MOST_BYTES = 1024


def answer(body: bytes) -> dict:
    """Raises BadRequest."""
    try:
        request = json.loads(body)
    except (ValueError, RecursionError):
        raise BadRequest("the request is not JSON") from None
    if not isinstance(request, dict) or request.keys() - {"delete"}:
        raise BadRequest("the request must be an object, with delete or nothing in it")
    runs = run_folders.kept_runs()
    if "delete" in request:
        run = next((run for run in runs if run.name == request["delete"]), None)
        if run is None:
            raise BadRequest(f"no run is called {short(request['delete'])}")
        if not run_folders.delete(run):
            raise BadRequest(f"{run.name} is being sampled, or may not be deleted")
        runs.remove(run)
    return {"runs": [described(run) for run in runs]}


def described(run: run_folders.Kept) -> dict:
    step, total = (run.state.step, run.state.total) if run.state else (0, 0)
    age = max(time.time() - run.time, 0)
    return {"name": run.name, "step": step, "total": total, "age": age, "size": run.size, "broken": list(run.broken)}


handle = handler(answer, MOST_BYTES)
