"""Prompt Timeline: a global prompt and timed local prompts as one CONDITIONING."""

import node_helpers

from ..samplers import timeline
from ._api import io

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
            description=(
                "Places prompts in time. LongTake windows take the prompt at their centre; the global path, and "
                "sampling without LongTake windows, take the global prompt."
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
                        "What happens when. Equal parts: a | b | c. One timed prompt a line: '0s: a', '48f: b', "
                        "'30%: c' or '[0-3s] a'. JSON: {\"0\": \"a\", \"48\": \"b\"}. Bare numbers are pixel frames."
                    ),
                ),
                io.Int.Input(
                    "length",
                    default=293,
                    min=1,
                    max=1_000_000,
                    tooltip="Length of the whole video in pixel frames, the same as in the empty latent (49 to 2000).",
                ),
                io.Float.Input(
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
            ],
            outputs=[
                io.Conditioning.Output(display_name="conditioning"),
                io.String.Output(display_name="report"),
            ],
        )

    @classmethod
    def validate_inputs(cls, events, length, fps, blend):
        if None in (events, length, fps, blend):  # a linked input: its value is known in execute
            return True
        try:
            timeline.spans(timeline.parse_timeline(events, length, fps), blend)
        except timeline.TimelineError as e:
            return f"Prompt Timeline: {e}"
        return True

    @classmethod
    def execute(cls, clip, global_prompt, events, length, fps, blend) -> io.NodeOutput:
        if clip is None:
            raise RuntimeError(
                "Prompt Timeline: clip is None. If it comes from a checkpoint loader, that checkpoint holds no text "
                "encoder: load one with a CLIP loader node."
            )
        try:
            parsed = timeline.parse_timeline(events, length, fps)
            spans = timeline.spans(parsed, blend)
        except timeline.TimelineError as e:
            raise ValueError(f"Prompt Timeline: {e}") from None
        ordinary, prompts = timeline.join_prompts(global_prompt, parsed)
        return io.NodeOutput(
            encode_timeline(clip, ordinary, prompts, spans),
            timeline.report(parsed, prompts, ordinary, fps, blend),
        )


def encode_timeline(clip, ordinary: str, prompts: list[str], spans: list[timeline.Span]) -> list:
    """CONDITIONING: the ordinary prompt ("longtake_span": None), then each event's ("longtake_span": Span, inactive).

    A CLIP with scheduled hooks gives several entries per prompt; all carry their span. The range is set after the
    encoding, which would drop scheduled entries outside it.
    """
    texts = dict.fromkeys([ordinary, *prompts])  # a text that comes back is encoded once
    encoded = {text: clip.encode_from_tokens_scheduled(clip.tokenize(text)) for text in texts}
    conditioning = node_helpers.conditioning_set_values(encoded[ordinary], {"longtake_span": None})
    for prompt, span in zip(prompts, spans, strict=True):
        conditioning += node_helpers.conditioning_set_values(encoded[prompt], {"longtake_span": span, **NEVER})
    return conditioning


NODES = [PromptTimeline]
