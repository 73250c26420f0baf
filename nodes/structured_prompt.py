"""Structured Prompt: a language model's answer as the Prompt Timeline's texts. Nothing is sent anywhere."""

from ..samplers import structured_prompt
from ._api import io

NODE = "Structured Prompt (LongTakeStructuredPrompt)"


class LongTakeStructuredPrompt(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeStructuredPrompt",
            display_name="Structured Prompt",
            category="LongTake",
            description="Splits a story into a global prompt and one prompt per event, as SynCoS wants them: gives the "
            "instruction for any language model, and turns its pasted answer into the Prompt Timeline's inputs.",
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
                    placeholder=structured_prompt.EXAMPLE,
                    tooltip="The language model's answer: JSON with global and local, or plain lines (Global: ..., "
                    "then one event a line). Empty: only the instruction is made.",
                ),
            ],
            outputs=[
                io.String.Output(display_name="global_prompt"),
                io.String.Output(display_name="events"),
                io.String.Output(display_name="instruction"),
            ],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, reply=None):
        return reply_error(reply) or True

    @classmethod
    def execute(cls, scenario, events, reply) -> io.NodeOutput:
        ask = structured_prompt.instruction(scenario, events)
        if not reply.strip():
            return io.NodeOutput("", "", ask)
        try:
            shared, local = structured_prompt.parse_reply(reply)
        except structured_prompt.ReplyError as e:
            raise ValueError(f"{NODE}: reply {e}") from None
        return io.NodeOutput(shared, structured_prompt.timeline_text(local), ask)


def reply_error(reply: str | None) -> str | None:
    if not (reply or "").strip():
        return None
    try:
        structured_prompt.parse_reply(reply)
    except structured_prompt.ReplyError as e:
        return f"{NODE}: reply {e}"
    return None


NODES = [LongTakeStructuredPrompt]
