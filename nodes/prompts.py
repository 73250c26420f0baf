"""Prompts in time: Prompt Timeline, Event Hooks (a LoRA on one of its events) and Structured Prompt (a language model's
answer as its texts; nothing is sent anywhere)."""

import comfy.hooks
import node_helpers

from ..samplers.adapters.timeline import SPAN_KEY
from ..samplers.prompts import follow, structured, timeline
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float

HOOKS_NODE = "Event Hooks (LongTakeEventHooks)"
STRUCTURED_NODE = "Structured Prompt (LongTakeStructuredPrompt)"

# Core evaluates an entry while sigma is at most percent_to_sigma(start_percent) and at least
# percent_to_sigma(end_percent). This empty range holds at no sigma, for every model: the local prompts cost nothing
# until LongTake windows pick them.
NEVER = {"start_percent": 1.0, "end_percent": 0.0}


class PromptTimeline(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakePromptTimeline",
            display_name="Prompt Timeline",
            category="LongTake",
            **described(
                "Places prompts in time. LongTake windows take the prompt at their centre; the global path, and "
                "sampling without LongTake windows, take the global prompt.",
                "prompt schedule", "prompt travel", "multi prompt", "storyboard", "scenes", "shots", "timed prompts",
                "long video",
            ),
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoder of the video model."),
                io.String.Input(
                    "global_prompt",
                    multiline=True,
                    dynamic_prompts=True,
                    default="",
                    placeholder="what stays the same: subject, place, style",
                    tooltip="What holds for the whole video: it is put before every local prompt. May be empty.",
                ),
                # No dynamic prompts here: the browser would take the braces of JSON for a choice.
                io.String.Input(
                    "events",
                    multiline=True,
                    dynamic_prompts=False,
                    default="",
                    placeholder='a | b | c\nor  0s: a   (48f: 48 frames, 30%: percent)\nor  {"0": "a", "6s": "b"}',
                    tooltip=(
                        "What happens when. Equal parts: a | b | c, or a numbered list. One timed prompt a line: "
                        "'0s: a', '48f: b', '30%: c' or '[0-3s] a'. JSON: {\"0\": \"a\", \"48\": \"b\"}. Bare "
                        f"numbers are pixel frames. At most {timeline.MOST_EVENTS} events."
                    ),
                ),
                io.Int.Input(
                    "length",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip="Length of the whole video in pixel frames (49 to 2000). 0: that of the video that is "
                    "sampled; else the same as in the empty latent.",
                ),
                Float(
                    "fps",
                    default=16.0,
                    min=0.01,
                    max=1000.0,
                    step=0.01,
                    tooltip="Frames per second of the video, used to read seconds (Wan 16, LTX 24 or 25, CogVideoX 8).",
                ),
                io.Int.Input(
                    "blend",
                    default=0,
                    min=0,
                    max=1_000_000,
                    tooltip=(
                        "Cross-fade between neighbouring prompts in pixel frames, centred on their border (0 to 48). "
                        "0 switches at once. At most the length of the shortest event."
                    ),
                ),
                Combo(
                    "timing",
                    options=list(timeline.TIMINGS),
                    default="window",
                    optional=True,
                    tooltip=(
                        "window: each window takes the prompt at its centre, for all of its frames. frame: each frame "
                        "sees the prompt of its own event, also in a window that reaches over several (Wan, "
                        "LTX-Video, Cosmos Predict2); for events shorter than two windows."
                    ),
                ),
                Combo(
                    "border",
                    options=list(timeline.BORDERS),
                    default="linear",
                    optional=True,
                    tooltip=(
                        "With timing frame, how neighbouring prompts mix within blend frames of a border: linear, or "
                        "gaussian as in Prompt Relay. Nothing with blend 0 or timing window."
                    ),
                ),
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def validate_inputs(cls, events):
        return verdict(cls, "Prompt Timeline", parsed, events=events)

    @classmethod
    @bounded("Prompt Timeline")
    def execute(
        cls, clip, global_prompt, events, length, fps, blend, timing="window", border="linear"
    ) -> io.NodeOutput:
        if clip is None:
            raise RuntimeError(
                "Prompt Timeline: clip is None. If it comes from a checkpoint loader, that checkpoint holds no text "
                "encoder: load one with a CLIP loader node."
            )
        try:
            found, spans = parsed(events, length, fps, blend, timing, border)
        except timeline.TimelineError as e:
            raise ValueError(f"Prompt Timeline: {e}") from None
        ordinary, prompts = timeline.join_prompts(global_prompt, found)
        text = follow.report(prompts, ordinary)
        if length:
            text = timeline.report(found, prompts, ordinary, fps, blend, timing)
        return io.NodeOutput(
            encode_timeline(clip, ordinary, prompts, spans),
            text,
            # The report, and texts that came by a link.
            ui={"longtake_report": [text], "longtake_timeline": [{"global_prompt": global_prompt, "events": events}]},
        )


def parsed(
    events: str, length: int, fps: float, blend: int, timing: str, border: str
) -> tuple[list[timeline.Event], list[timeline.Span]]:
    """The events of the widgets and their spans. Raises TimelineError."""
    if length == 0:
        return follow.following(events, fps, blend, timing, border)
    found = timeline.parse_timeline(events, length, fps)
    return found, timeline.spans(found, blend, timing, border)


def encode_timeline(clip, ordinary: str, prompts: list[str], spans: list[timeline.Span]) -> list:
    """CONDITIONING: the ordinary prompt ("longtake_span": None), then each event's ("longtake_span": Span, inactive).

    Equal texts share one encoding, and stay on the device that the CLIP gives them: core's is the CPU, from where each
    window's is copied when it is evaluated (with --gpu-only the GPU).
    A CLIP with scheduled hooks gives several entries per prompt; all carry their span. The range is set after the
    encoding, which would drop scheduled entries outside it.
    """
    texts = dict.fromkeys([ordinary, *prompts])  # a text that comes back is encoded once
    encoded = {text: clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts}
    conditioning = node_helpers.conditioning_set_values(encoded[ordinary], {"longtake_span": None})
    for prompt, span in zip(prompts, spans, strict=True):
        conditioning += node_helpers.conditioning_set_values(encoded[prompt], {"longtake_span": span, **NEVER})
    return conditioning


class LongTakeEventHooks(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeEventHooks",
            display_name="Event Hooks",
            category="LongTake",
            **described(
                "Puts hooks, such as Create Hook LoRA's, on one event of a Prompt Timeline: the windows of this "
                "event are sampled with the LoRA, all others without.",
                "LoRA schedule", "LoRA per scene", "prompt schedule",
            ),
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="From Prompt Timeline, or from another Event Hooks."),
                io.Hooks.Input(
                    "hooks",
                    tooltip="From Create Hook LoRA (MO) and its like, with keyframes or without. They act on "
                    "the model; the prompt is encoded already.",
                ),
                io.Int.Input(
                    "event", default=1, min=1, max=timeline.MOST_EVENTS,
                    tooltip="Number of the event in the timeline, from 1, up to as many as it has.",
                ),
            ],
            outputs=[io.Conditioning.Output(display_name="conditioning")],
        )  # fmt: skip

    @classmethod
    @bounded(HOOKS_NODE)
    def execute(cls, conditioning, hooks, event) -> io.NodeOutput:
        return io.NodeOutput(hook_event(conditioning, hooks, event))


def hook_event(conditioning: list, hooks, event: int) -> list:
    """The timeline's CONDITIONING with hooks on the entries of one event, counted from 1. Raises ValueError."""
    spans = [entry[1].get(SPAN_KEY) for entry in conditioning]
    events = sorted({span.index + 1 for span in spans if span is not None})
    if not events:
        raise ValueError(f"{HOOKS_NODE}: conditioning: has no events; connect a Prompt Timeline")
    if event not in events:
        raise ValueError(f"{HOOKS_NODE}: event ({event}): the timeline has the events {events[0]} to {events[-1]}")
    cache: dict = {}
    return [
        comfy.hooks.set_hooks_for_conditioning([entry], hooks, cache=cache)[0]
        if span is not None and span.index + 1 == event else entry
        for entry, span in zip(conditioning, spans, strict=True)
    ]  # fmt: skip


class LongTakeStructuredPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeStructuredPrompt",
            display_name="Structured Prompt",
            category="LongTake",
            **described(
                "Splits a story into a global prompt and one prompt per event, as SynCoS wants them: gives the "
                "instruction for any language model, and turns its pasted answer into the Prompt Timeline's inputs.",
                "storyboard", "story", "script", "LLM", "scenes", "multi prompt", "long video",
            ),
            inputs=[
                io.String.Input(
                    "scenario", multiline=True, dynamic_prompts=False, default="",
                    placeholder="the story in a sentence or two",
                    tooltip="What the video shows, for the instruction output; 1 to 5 sentences. Not needed once the "
                    "answer is pasted.",
                ),
                io.Int.Input(
                    "events", default=3, min=1, max=100,
                    tooltip="How many events the instruction asks for; 2 to 4, each at least one window long.",
                ),
                io.String.Input(
                    "reply", multiline=True, dynamic_prompts=False, default="",
                    placeholder=structured.EXAMPLE,
                    tooltip="The language model's answer: JSON with global and local, or lines (Global: ..., then one "
                    "event a line, numbered or not), also inside sentences. Empty: only the instruction is made.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="global_prompt"),
                io.String.Output(display_name="events"),
                io.String.Output(display_name="instruction"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, reply):
        return verdict(cls, STRUCTURED_NODE, answered, reply=reply)

    @classmethod
    @bounded(STRUCTURED_NODE)
    def execute(cls, scenario, events, reply) -> io.NodeOutput:
        try:
            return io.NodeOutput(*answered(reply), structured.instruction(scenario, events))
        except ValueError as e:
            raise ValueError(f"{STRUCTURED_NODE}: {e}") from None


def answered(reply: str) -> tuple[str, str]:
    """The global prompt and the timeline of an answer, both empty where there is none yet. Raises ValueError."""
    if not reply.strip():
        return "", ""
    try:
        shared, local = structured.parse_reply(reply)
    except structured.ReplyError as e:
        raise ValueError(f"reply {e}") from None
    return shared, structured.timeline_text(local)


NODES = [PromptTimeline, LongTakeEventHooks, LongTakeStructuredPrompt]
