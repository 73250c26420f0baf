"""Event Hooks: a LoRA (or other hooks) on one event of a Prompt Timeline."""

import comfy.hooks

from ..samplers.conds import SPAN_KEY
from ._api import io

NODE = "Event Hooks (LongTakeEventHooks)"


class LongTakeEventHooks(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeEventHooks",
            display_name="Event Hooks",
            category="LongTake",
            description="Puts hooks, such as Create Hook LoRA's, on one event of a Prompt Timeline: the windows of "
            "this event are sampled with the LoRA, all others without.",
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="From Prompt Timeline, or from another Event Hooks."),
                io.Hooks.Input(
                    "hooks",
                    tooltip="From Create Hook LoRA (MO) and its like, with keyframes or without. They act on "
                    "the model; the prompt is encoded already.",
                ),
                io.Int.Input(
                    "event", default=1, min=1, max=5000,
                    tooltip="Number of the event in the timeline, from 1, up to as many as it has.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
        )  # fmt: skip

    @classmethod
    def execute(cls, conditioning, hooks, event) -> io.NodeOutput:
        return io.NodeOutput(hook_event(conditioning, hooks, event))


def hook_event(conditioning: list, hooks, event: int) -> list:
    """The timeline's CONDITIONING with hooks on the entries of one event, counted from 1. Raises ValueError."""
    spans = [entry[1].get(SPAN_KEY) for entry in conditioning]
    events = sorted({span.index + 1 for span in spans if span is not None})
    if not events:
        raise ValueError(f"{NODE}: conditioning: has no events; connect a Prompt Timeline")
    if event not in events:
        raise ValueError(f"{NODE}: event ({event}): the timeline has the events {events[0]} to {events[-1]}")
    cache: dict = {}
    return [
        comfy.hooks.set_hooks_for_conditioning([entry], hooks, cache=cache)[0]
        if span is not None and span.index + 1 == event else entry
        for entry, span in zip(conditioning, spans, strict=True)
    ]  # fmt: skip


NODES = [LongTakeEventHooks]
