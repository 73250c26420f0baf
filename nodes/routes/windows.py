"""POST /longtake/windows: the chart of a window scheduler's widgets, for the front-end. Nothing is stored."""

import json

from ...samplers.checks import number, short
from .._checks import checked
from ..windows import REPORT_STEPS, LongTakeWindowScheduler, chart, report, window_settings
from . import BadRequest, handler

PATH = "/longtake/windows"
MOST_BYTES = 4096
LIMITS = {"steps": (1, 1000, REPORT_STEPS), "branches": (1, 2, 2), "step": (0, 999, 0), "compression": (1, 64, 4)}
UNUSED = ("model", "window_batch", "retain", "latent")  # say nothing about the schedule


def no_constant(name: str):
    raise ValueError(f"{name} is not a number")


def parse(body: bytes) -> dict:
    """The checked values of a request, missing ones by default. Raises BadRequest."""
    try:
        values = json.loads(body.decode("utf-8"), parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"not JSON: {str(error)[:80]}") from error
    if not isinstance(values, dict):
        raise BadRequest("the request must be an object with the node's widgets")
    inputs = [i for i in LongTakeWindowScheduler.define_schema().inputs if i.id not in UNUSED]
    unknown = values.keys() - {i.id for i in inputs} - LIMITS.keys()
    if unknown:
        raise BadRequest(f"unknown: {short(sorted(unknown))}")
    out = {i.id: checked(i, values.get(i.id, i.default)) for i in inputs}
    for name, (low, high, default) in LIMITS.items():
        out[name] = number(name, values.get(name, default), low, high, True)
    if out["step"] >= out["steps"]:
        raise BadRequest(f"step ({out['step']}) must be smaller than steps ({out['steps']})")
    return out


def answer(body: bytes) -> dict:
    """The chart and the report for the body of a request. Raises ValueError with a message for who sees the chart."""
    try:
        values = parse(body)
    except RecursionError:
        raise BadRequest("the request is nested too deeply") from None
    length, *run = (values.pop(name) for name in ("length", "steps", "branches", "step"))
    settings, (steps, branches, _) = window_settings(**values), run
    text = report(settings, values["window_length"], values["overlap"], length, (steps, branches))
    return {**chart(settings, length, *run), "report": text}


handle = handler(answer, MOST_BYTES)
