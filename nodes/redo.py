"""A part of a finished video made anew, and a video made longer; the rest stays bit for bit."""

from dataclasses import replace

import torch

from ..samplers.adapters.timeline import SPAN_KEY
from ..samplers.redo import arrival_length, latent_span, longer, mask_over_time
from ..samplers.windows import pixel_length
from ._api import io
from ._checks import bounded
from ._search import described
from ._widgets import Combo, Float

REDO = "Redo Span (LongTakeRedoSpan)"
CONTINUE = "Continue Video (LongTakeContinue)"
UNITS = ("event", "seconds", "frames")


def compression_input() -> io.Int.Input:
    return io.Int.Input(
        "compression", default=4, min=1, max=64,
        tooltip="Pixel frames per latent frame: 4 for Wan, HunyuanVideo, CogVideoX and the demo model, 8 for "
        "LTX-Video and Cosmos, 6 for Mochi.",
    )  # fmt: skip


def video(node: str, samples: dict) -> torch.Tensor:
    """The latent of a LATENT. Raises ValueError where it is none of a video alone."""
    latent = samples["samples"]
    if getattr(latent, "is_nested", False) or latent.ndim != 5:
        shape = "several latents (video with audio)" if getattr(latent, "is_nested", False) else tuple(latent.shape)
        raise ValueError(f"{node}: samples: is {shape}; a video latent is [batch, channels, frames, height, width]")
    return latent


def spans_of(conditioning, total: int) -> list:
    """The spans of a Prompt Timeline's events, in order of time; with length 0 over a video of `total` pixel frames.
    Raises ValueError."""
    spans = {entry[1][SPAN_KEY].index: entry[1][SPAN_KEY] for entry in conditioning or [] if entry[1].get(SPAN_KEY)}
    plan = next((span.plan for span in spans.values()), None)
    return [spans[i] for i in sorted(spans)] if plan is None else plan.spans(total)


def wanted(by: str, event: int, start: float, end: float, fps: float, total: int, spans: list) -> tuple[float, float]:
    """[start, end) in pixel frames. Raises ValueError."""
    if by != "event":
        scale = fps if by == "seconds" else 1.0
        return start * scale, min(end * scale, total)
    if not spans:
        raise ValueError("by (event): needs a Prompt Timeline at positive; or set by to seconds or frames")
    if event > len(spans):
        raise ValueError(f"event ({event}): the timeline at positive has {len(spans)} events, counted from 1")
    if spans[0].total != total:
        raise ValueError(
            f"compression: the latent has {total} pixel frames, the timeline at positive {spans[0].total}; set both to "
            f"the same length, and compression to the model's"
        )
    return spans[event - 1].start, spans[event - 1].end


class LongTakeRedoSpan(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeRedoSpan",
            display_name="Redo Span",
            category="LongTake",
            **described(
                "Marks one event of a finished video, or a span of time, to be sampled anew with another seed, "
                "prompt or denoise. All other latent frames stay bit for bit; windows over the border see them.",
                "redo", "re-roll", "inpaint in time", "video inpaint", "fix a part", "retake",
            ),
            inputs=[
                io.Latent.Input("samples", tooltip="The finished video: a sampler's latent, Load Latent, VAE Encode."),
                Combo(
                    "by", options=list(UNITS), default="event",
                    tooltip="What the span is told by: an event of the timeline at positive; or start and end, in "
                    "seconds or pixel frames.",
                ),
                io.Int.Input(
                    "event", default=1, min=1, max=1000, tooltip="The event to redo, counted from 1; for by event."
                ),
                Float(
                    "start", default=0.0, min=0.0, max=1e6, step=0.1, round=False,
                    tooltip="Where the span begins, in seconds or pixel frames from 0.",
                ),
                Float(
                    "end", default=4.0, min=0.0, max=1e6, step=0.1, round=False,
                    tooltip="Where it ends, itself not included; larger than start. Past the video: to its end.",
                ),
                Float("fps", default=16.0, min=0.01, max=1000.0, step=0.1, tooltip="Frames per second, for seconds."),
                compression_input(),
                io.Conditioning.Input(
                    "positive", optional=True,
                    tooltip="The Prompt Timeline whose event is meant, with its new text; for by event.",
                ),
                Float(
                    "pull", default=0.5, min=0.0, max=1.0, step=0.05, optional=True,
                    tooltip="How much of what was there the first and last made frame get at every step, a fifth of it "
                    "the frame further in: hides the border; with arrive the first alone. 0: none; 0.3 to 0.6; 1: that "
                    "frame stays.",
                ),
                io.Int.Input(
                    "arrive", default=0, min=0, max=1024, optional=True,
                    tooltip="Pixel frames behind the span that are made, too, and come back to the old video step by "
                    "step: hides its end. 0: none, the span's last frames are pulled; four times compression is a good "
                    "start, 16 for Wan.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="For the sampler; denoise 1, or 0.5 to 0.9 for less."),
                io.String.Output(display_name="report", tooltip="Which frames are made anew."),
            ],
        )  # fmt: skip

    @classmethod
    @bounded(REDO)
    def execute(
        cls, samples, by, event, start, end, fps, compression, positive=None, pull=0.5, arrive=0
    ) -> io.NodeOutput:
        latent = video(REDO, samples)
        frames = latent.shape[2]
        total = pixel_length(frames, compression)
        try:
            first, last = wanted(by, event, start, end, fps, total, spans_of(positive, total) if by == "event" else [])
            made = latent_span(first, last, frames, compression)
            arrival = arrival_length(arrive, made, frames, compression)
            return masked(samples, latent, made, compression, pull, arrival)
        except ValueError as error:
            raise ValueError(f"{REDO}: {error}") from error


def masked(
    samples: dict, latent: torch.Tensor, made: range, compression: int, pull=0.0, arrival=0, more=()
) -> io.NodeOutput:
    """A LATENT of which the frames `made` are sampled, and `arrival` behind them, and a report; `more` between them."""
    stop = made.stop + arrival
    first = pixel_length(made.start, compression) if made.start else 0
    last, total = (pixel_length(n, compression) for n in (stop, latent.shape[2]))
    report = f"pixel frames {first} to {last - 1} of {total} are made (latent {made.start} to {stop - 1})"
    if arrival:
        report += f"; those from {pixel_length(made.stop, compression)} on come back to the old video"
    rest = {key: value for key, value in samples.items() if key != "noise_mask"}
    out = {**rest, "samples": latent, "noise_mask": mask_over_time(latent, made, pull, arrival)}
    return io.NodeOutput(out, *more, report, ui={"longtake_report": [report]})


class LongTakeContinue(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeContinue",
            display_name="Continue Video",
            category="LongTake",
            **described(
                "Makes a finished video longer: what is there stays bit for bit, new frames are sampled behind "
                "it with windows that see its end. Any number of times.",
                "extend video", "continue", "outpaint in time", "longer video", "append",
            ),
            inputs=[
                io.Latent.Input("samples", tooltip="The finished video: a sampler's latent, Load Latent, VAE Encode."),
                io.Int.Input(
                    "frames", default=48, min=1, max=16384,
                    tooltip="Pixel frames to add, in steps of compression; at least half a window, 24 to 200.",
                ),
                compression_input(),
                io.Conditioning.Input(
                    "positive", optional=True,
                    tooltip="A Prompt Timeline of the new frames alone (its length is frames), which is moved behind "
                    "the video; or of the whole longer video (its length, or 0), or a plain prompt, which stay as they "
                    "are.",
                ),
            ],
            outputs=[
                io.Latent.Output(display_name="latent", tooltip="The longer video, for the sampler; denoise 1."),
                io.Conditioning.Output(display_name="positive", tooltip="The prompts, moved; for the sampler."),
                io.String.Output(display_name="report", tooltip="Which frames are made."),
            ],
        )  # fmt: skip

    @classmethod
    @bounded(CONTINUE)
    def execute(cls, samples, frames, compression, positive=None) -> io.NodeOutput:
        latent = video(CONTINUE, samples)
        before = latent.shape[2]
        latent = longer(latent, frames, compression)
        if latent.shape[2] == before:
            raise ValueError(f"{CONTINUE}: frames ({frames}): is less than one latent frame; at least {compression}")
        old, new = (pixel_length(n, compression) for n in (before, latent.shape[2]))
        try:
            moved = shifted(positive or [], old, new, compression)
        except ValueError as error:
            raise ValueError(f"{CONTINUE}: {error}") from error
        return masked(samples, latent, range(before, latent.shape[2]), compression, more=(moved,))


def shifted(conditioning: list, old: int, new: int, compression: int) -> list:
    """A timeline of the new frames moved behind the `old` pixel frames of a video of `new`; its first event covers what
    was there, for the windows over the border; one with length 0 follows the longer video by itself. Raises ValueError
    for a timeline of another length."""
    spans = spans_of(conditioning, new)
    if not spans or spans[0].total == new:
        return conditioning
    if abs(spans[0].total - (new - old)) > compression:
        raise ValueError(
            f"positive: the timeline has {spans[0].total} pixel frames; give it the length of the new part "
            f"({new - old}) or of the whole video ({new})"
        )
    moved = {}
    for span in spans:
        start = 0 if span is spans[0] else span.start + old
        moved[span.index] = replace(span, start=start, end=new if span is spans[-1] else span.end + old, total=new)
    return [
        [text, {**entry, SPAN_KEY: moved[entry[SPAN_KEY].index]} if entry.get(SPAN_KEY) else entry]
        for text, entry in conditioning
    ]


NODES = [LongTakeRedoSpan, LongTakeContinue]
