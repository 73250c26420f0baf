"""What a node says of its widgets' values, before a run and when it runs: one message per fault, by the input's name.

Before a run core converts each value by its widget's type and holds it to the widget's bounds. It skips the bounds of
every input that validate_inputs names, repeats validate_inputs' answer for each of them, and asks it even where it has
found a fault itself. So our validate_inputs names one input and reads the others in the graph of the request (see
`remember`): `verdict` is silent on what core says, and adds rules between widgets. Values that come by a link are known
at execution only: see `bounded`.
"""

import functools
import inspect
from collections.abc import Callable
from contextvars import ContextVar

from comfy_execution.utils import get_executing_context

from ..samplers.checks import number, option, short

CONVERT = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}  # as core does before it validates
graph: ContextVar[dict] = ContextVar("longtake_graph")


def remember(request: dict) -> dict:
    """An on_prompt handler of ComfyUI's server: the graph of a request, as it came, for the check that follows it."""
    nodes = request.get("prompt")
    nodes = nodes if isinstance(nodes, dict) else {}
    inputs = {key: node.get("inputs") for key, node in nodes.items() if isinstance(node, dict)}
    graph.set({key: dict(values) for key, values in inputs.items() if isinstance(values, dict)})
    return request


def widgets(node) -> list:
    inputs = node.define_schema().inputs
    return [i for i in inputs if i.io_type in (*CONVERT, "COMBO") and not getattr(i, "force_input", None)]


def checked(widget, value):
    """The value of a widget, of its type and within its bounds. Raises ValueError."""
    kind, name = widget.io_type, widget.id
    if kind in ("INT", "FLOAT"):
        return number(name, value, widget.min, widget.max, kind == "INT")
    if kind == "COMBO":
        return option(name, value, widget.options)
    if not isinstance(value, CONVERT[kind]):
        wanted = "true or false" if kind == "BOOLEAN" else "text"
        raise ValueError(f"{name} must be {wanted}, not {short(value)}")
    return value


def converted(widget, value):
    """A value of a graph as core hands it to the node. Raises what core reports."""
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]
    return CONVERT.get(widget.io_type, lambda value: value)(value)


def meaningless(widget, value) -> bool:
    """Whether core makes a text, or true or false, of a value that is neither: str(None), bool("static")."""
    if widget.io_type == "STRING":
        return not isinstance(value, (str, int, float)) or isinstance(value, bool)
    return widget.io_type == "BOOLEAN" and value not in (True, False)


def verdict(node, name: str, *rules: Callable, **named) -> bool | str:
    """validate_inputs' answer for the node called `name`.

    named: the inputs that validate_inputs names, None where linked. rules: functions of widgets, by their parameters'
    names, that raise ValueError where these do not go together; asked where all of them are known and right.
    """
    context = get_executing_context()
    given = graph.get({}).get(context.node_id, {}) if context is not None else {}
    given = {key: value for key, value in named.items() if value is not None} | given
    known = {}
    for widget in widgets(node):
        value = given.get(widget.id, widget.default if widget.optional else None)
        if isinstance(value, list) or (value is None and widget.id not in given):
            continue  # linked, or missing
        try:
            value = value if meaningless(widget, value) else converted(widget, value)
        except (ValueError, TypeError, OverflowError):
            continue  # core says so
        try:
            known[widget.id] = checked(widget, value)
        except ValueError as error:
            if widget.id in named or widget.io_type in ("STRING", "BOOLEAN"):
                return f"{name}: {error}"
    try:
        for rule in rules:
            names = inspect.signature(rule).parameters
            if known.keys() >= names.keys():
                rule(**{key: known[key] for key in names})
    except ValueError as error:
        return f"{name}: {error}"
    return True


def bounded(name: str):
    """Decorates the execute of the node called `name`: a value that came by a link is held to its widget's bounds."""

    def decorate(execute):
        signature = inspect.signature(execute)

        @functools.wraps(execute)
        def held(cls, *args, **kwargs):
            bound = signature.bind(cls, *args, **kwargs)
            bound.apply_defaults()
            given = {**bound.arguments, **bound.arguments.get("values", {})}  # SynCoS: **values
            try:
                for widget in widgets(cls):
                    if widget.id in given:
                        checked(widget, given[widget.id])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
            return execute(cls, *args, **kwargs)

        return held

    return decorate
