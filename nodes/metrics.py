"""Metrics of videos: one video measured, and several beside each other."""

import json

import comfy.utils

from ..samplers.adapters import aesthetic, measure, metric_files
from ..samplers.adapters.side_by_side import Source
from ..samplers.checks import shown
from ..samplers.metrics import compare, summary
from ..samplers.windows import boundaries as window_boundaries
from ._api import io, ui
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Float
from .metric_encoders import Encoder
from .metric_plots import draw_groups, draw_series, figure
from .windows import Windows

NODE = "Video Metrics (LongTakeVideoMetrics)"
COMPARE = "Compare Metrics (LongTakeCompareMetrics)"
CATEGORY = "LongTake/metrics"
WAY = {1: "higher", -1: "lower", 0: ""}
LETTERS = "abcdef"
MOST = 2000  # values that are drawn
NUMBERS = {  # outputs, and the metrics that they show
    "seam_change": "Mean seam score of the picture at the windows' boundaries; 1: no seam. 0 without boundaries.",
    "colour_drift": "How far the colours are from the first window's; 0: not at all.",
    "temporal_flicker": "1 - mean change from frame to frame (VBench).",
    "motion_smoothness": "1 - error of every second frame made of its neighbours.",
    "dynamic_degree": "Mean length of the largest motions, in pixels at a shorter side of 256 or the video's.",
    "sharpness_ratio": "Sharpness of the end over that of the start.",
    "consistency": "Of the encoder's features; 0 without an encoder.",
}


def boundary_list(boundaries: str) -> list[int]:
    """The pixel frames in a list such as "33, 65", in order, each once. Raises ValueError."""
    try:
        found = sorted({int(part) for part in boundaries.split(",") if part.strip()})
    except ValueError:
        found = [0]
    if any(frame < 1 for frame in found):
        raise ValueError(
            f"boundaries ({shown(boundaries)}) must be the frames that windows begin with, whole numbers from 1 with "
            "commas between them, e.g. 33, 65, or nothing")  # fmt: skip
    return found


def collection_name(save_as: str) -> None:
    if save_as.strip():
        try:
            metric_files.collection(save_as.strip())
        except ValueError as error:
            raise ValueError(f"save_as: {error}") from error


def table(found: list[summary.Result]) -> str:
    rows = [f"| {r.metric} | {figure(r.value)} | {r.unit} | {WAY[r.better]} |" for r in found]
    return "\n".join(["| Metric | Value | Unit | Better |", "|---|---|---|---|", *rows])


class LongTakeVideoMetrics(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeVideoMetrics",
            display_name="Video Metrics",
            category=CATEGORY,
            **described(
                "Measures a video: flicker, smoothness, motion, seams at the windows' boundaries, drift of colours "
                "and sharpness, cuts; with an encoder also the likeness of its frames. As numbers, JSON and a plot.",
                "VBench", "quality", "benchmark", "seam score", "flicker", "drift", "consistency", "dynamic degree",
                "evaluate",
            ),
            inputs=[
                io.MultiType.Input("video", types=[io.Image, io.Video], tooltip="Frames (IMAGE), or a VIDEO, which is "
                                   "read a few frames at a time, however long it is."),
                Float("fps", default=16.0, min=0.01, max=1000.0, step=0.01,
                      tooltip="Frames per second of IMAGE input; 8 to 30. A VIDEO has its own. It decides which "
                      "motions count as moving, and the plot's seconds."),
                io.String.Input(
                    "boundaries", default="",
                    tooltip="Pixel frames that windows or clips begin with, e.g. 33, 65: where seams would be. Empty: "
                    "from the windows input. The part before the first one is what drift is measured against.",
                ),
                io.String.Input(
                    "save_as", default="",
                    tooltip="Name of a collection: each run adds its numbers to output/longtake/metrics/NAME.jsonl, "
                    "for Compare Metrics. One name per method, several seeds each. Empty: nothing is kept.",
                ),
                Windows.Input("windows", optional=True, tooltip="From the Window Scheduler: where its static windows "
                              "would meet. Windows that move are judged at the same places."),
                Encoder.Input("encoder", optional=True, tooltip="From Load Metric Encoder: the likeness of the frames "
                              "as CLIP or DINO sees them."),
                io.String.Input(
                    "global_prompt", default="", optional=True,
                    tooltip="The video's prompt: how near its frames are to it, with an encoder that has texts (CLIP). "
                    "Empty: not asked.",
                ),
                io.String.Input(
                    "events", default="", optional=True,
                    tooltip="The text of Prompt Timeline's events, linked or with bars: how near frames are to their "
                    "own event's prompt, and how many are nearest to it. Empty: not asked.",
                ),
                io.Custom("OPTICAL_FLOW").Input(
                    "optical_flow", optional=True, tooltip="From ComfyUI's Load Optical Flow Model (RAFT), where it "
                    "has that node. Without it motion is found by Lucas-Kanade, which needs no weights."),
                io.Custom("INTERP_MODEL").Input(
                    "interp_model", optional=True, tooltip="From ComfyUI's Load Frame Interpolation Model (RIFE, FILM) "
                    "where it has that node: motion_smoothness by it, in place of the flow."),
            ],
            outputs=[
                io.String.Output(display_name="metrics", tooltip="JSON: each metric with value, unit and what it was "
                                 "made with. For Compare Metrics."),
                io.Image.Output(display_name="plot", tooltip="The curves over the frames, with boundaries and cuts."),
                *(io.Float.Output(display_name=name, tooltip=text) for name, text in NUMBERS.items()),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, boundaries):
        return verdict(cls, NODE, boundary_list, collection_name, boundaries=boundaries)

    @classmethod
    @bounded(NODE)
    def execute(
        cls, video, fps, boundaries, save_as, windows=None, encoder=None, global_prompt="", events="",
        optical_flow=None, interp_model=None,
    ) -> io.NodeOutput:  # fmt: skip
        bar = comfy.utils.ProgressBar(1)
        source = None
        try:
            given = boundary_list(boundaries)
            collection_name(save_as)
            source = Source("video", video, fps)
            if given and given[-1] >= source.count:
                raise ValueError(f"boundaries: there is no frame {given[-1]} in a video of {source.count} frames")
            prompts = measure.Prompts.of(global_prompt, events, source.count, source.rate, encoder)
            one = measure.measured(source, optical_flow, encoder, bar.update_absolute, interp_model)
            frames, rate, size = len(one.series), source.rate, source.size()
        except (ValueError, OSError) as error:
            raise ValueError(f"{NODE}: {error}") from error
        finally:
            if source is not None:
                source.close()
        places = given or (window_boundaries(windows, frames) if windows is not None else [])
        found = summary.results(one.series, places, one.backend, one.between)
        if one.features is not None:
            found += summary.feature_results(one.features, places, encoder.name, encoder.exact)
            try:
                found += aesthetic.results(encoder, one.features)
            except ValueError as error:
                raise ValueError(f"{NODE}: encoder: {error}") from error
            found += one.imaging
            found += summary.prompt_results(one.features, prompts.whole, prompts.texts, prompts.own, encoder.name)
        document = metric_files.document(found, frames, rate, size, places, one.digest)
        report = table(found)
        if save_as.strip():
            try:
                path = metric_files.append(save_as.strip(), document)
            except OSError as error:
                raise ValueError(f"{NODE}: save_as: {error}") from error
            report += f"\n\nAdded to the collection {save_as.strip()} ({path.name})."
        title = f"{frames} frames, {size[1]}x{size[0]}, {rate:g} fps; motion by {one.backend}"
        plot = draw_series(one.series, places, summary.span_of(places, frames), rate, title)
        values = {("consistency" if r.metric == encoder_metric(encoder) else r.metric): r.value for r in found}
        numbers = [values.get(name, 0.0) for name in NUMBERS]
        shown_plot = ui.PreviewImage(plot, cls=cls).as_dict()
        return io.NodeOutput(
            json.dumps(document, indent=1), plot, *numbers, ui={**shown_plot, "longtake_report": [report]}
        )  # fmt: skip


def encoder_metric(encoder) -> str:
    return "" if encoder is None else encoder.exact or "consistency"


def metrics_input(letter: str) -> io.String.Input:
    return io.String.Input(f"metrics_{letter}", optional=True, force_input=True,
                           tooltip="The metrics output of a Video Metrics.")  # fmt: skip


def split(text: str) -> list[str]:
    return [" ".join(part.split()) for part in text.split("|")] if text.strip() else []


def collected(name: str) -> list[dict]:
    try:
        return metric_files.saved(name)
    except (ValueError, OSError) as error:
        raise ValueError(f"saved: {error}") from error


class LongTakeCompareMetrics(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeCompareMetrics",
            display_name="Compare Metrics",
            category=CATEGORY,
            **described(
                "Measured videos beside each other, as a table and a picture, and which differences mean something: "
                "those beyond their 95 % interval, where a group has several videos.",
                "benchmark", "statistics", "significance", "seeds", "table", "bar chart",
            ),
            inputs=[
                io.String.Input(
                    "saved", default="",
                    tooltip="Names of collections (save_as of Video Metrics) with a bar between two, e.g. plain | glc. "
                    "Each is a group; the first group is what the others are judged against.",
                ),
                io.String.Input(
                    "labels", default="",
                    tooltip="Names of the groups, with a bar between two: the collections first, then the linked "
                    "metrics. Where there is none: the collection's name, or the input's.",
                ),
                *map(metrics_input, LETTERS),
            ],
            outputs=[
                io.String.Output(display_name="table", tooltip="Mean, half its 95 % interval, verdict; Markdown."),
                io.Image.Output(display_name="plot", tooltip="Mean and its 95 % interval of each metric by group."),
            ],
            is_output_node=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, saved):
        return verdict(cls, COMPARE, saved=saved)

    @classmethod
    @bounded(COMPARE)
    def execute(cls, saved, labels, **values) -> io.NodeOutput:
        try:
            names = split(saved)
            groups = [collected(name) for name in names]
            for key in sorted(values):
                groups.append(metric_files.parsed(values[key], key))
                names.append(key)
            if not groups:
                raise ValueError("nothing to compare: name collections in saved, or link metrics_a and further ones")
        except ValueError as error:
            raise ValueError(f"{COMPARE}: {error}") from error
        names = [label or name for label, name in zip(split(labels) + [""] * len(names), names, strict=False)]
        better: dict[str, int] = {}
        for document in (document for group in groups for document in group):
            better = {**document["better"], **better}
        found = compare.compared([[document["values"] for document in group] for group in groups], better)
        report = "\n".join([*as_table(names, found, better), "", *remarks(groups, found)])
        notes = {name: f"{WAY[way]} is better" if way else "" for name, way in better.items()}
        if len(found) * max(len(names), 2) > MOST:
            raise ValueError(
                f"{COMPARE}: saved: {len(names)} groups of {len(found)} metrics are more than a picture holds, {MOST} "
                "values; compare fewer at once")  # fmt: skip
        plot = draw_groups(names, found, notes)
        shown_plot = ui.PreviewImage(plot, cls=cls).as_dict()
        return io.NodeOutput(report, plot, ui={**shown_plot, "longtake_report": [report]})


def as_table(names, found, better) -> list[str]:
    head = [f"| Metric | Better | {' | '.join(names)} |", "|---" * (len(names) + 2) + "|"]
    rows = []
    for metric, cells in found.items():
        texts = (f"{figure(c.mean)} +- {figure(c.reach)} {c.verdict}".replace(" +- -", "").strip() for c in cells)
        rows.append(f"| {metric} | {WAY[better[metric]]} | {' | '.join(texts)} |")
    return head + rows


def remarks(groups, found) -> list[str]:
    """What the table can and cannot say."""
    counts = [len(group) for group in groups]
    if len(groups) < 2:
        return ["One group: nothing to compare it with."]
    videos = ", ".join(map(str, counts))
    judged = f"Judged against the first group, by the difference's 95 % interval (Welch's t); videos: {videos}."
    chance = f"Of {len(found)} metrics about {max(1, round(0.05 * len(found)))} would differ so by chance."
    if min(counts) < 2:
        return [judged, "A group of one video has no error: a difference may be the seed's. Take several seeds."]
    return [judged, chance]


NODES = [LongTakeVideoMetrics, LongTakeCompareMetrics]
