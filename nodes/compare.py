"""Videos side by side: one player for all, a contact sheet, and the settings that differ between them."""

import contextlib
import random
import string
from pathlib import Path
from typing import Any

import comfy.utils
import folder_paths

from ..samplers import graph_settings
from ..samplers.adapters import side_by_side
from ._api import InputImpl, io, ui
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Float

NODE = "Compare Videos (LongTakeCompare)"
LETTERS = "abcdef"
FOLDER = "longtake_compare"


def names_of_classes() -> dict[str, str]:
    import nodes

    return nodes.NODE_DISPLAY_NAME_MAPPINGS


def video_input(letter: str) -> io.MultiType.Input:
    return io.MultiType.Input(
        f"video_{letter}", types=[io.Image, io.Video], optional=letter != LETTERS[0],
        tooltip="Frames (IMAGE), or a VIDEO, which is read frame by frame. Of any size and length: all are shown at "
        "one height, and one that is over holds its last frame. Each of a list is a video of its own.",
    )  # fmt: skip


def temp_file() -> Path:
    folder, name, counter, *_ = folder_paths.get_save_image_path(f"{FOLDER}/compare", folder_paths.get_temp_directory())
    mark = "".join(random.choices(string.ascii_lowercase, k=5))  # browsers keep a file by its name
    return Path(folder) / f"{name}_{counter:05}_{mark}.mp4"


def listed(value) -> list:
    """An input as core hands it over: all values that came by its link, or the one of a widget."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def only(name: str, value):
    """The value of an input that is the same for all videos. Raises ValueError."""
    first, *more = listed(value)
    if any(other != first for other in more):
        raise ValueError(f"{name} came as a list of {1 + len(more)} values; one is for all videos: link one")
    return first


def numbered(videos: dict[str, list]) -> list[tuple[str, Any]]:
    """(What messages call it, the video) of each; videos: those of each input."""
    return [(name if len(values) == 1 else f"{name}: number {i} of {len(values)}", value)
            for name, values in videos.items() for i, value in enumerate(values, 1)]  # fmt: skip


def of_graph(graph: dict | None, own: str | None, counts: dict[str, int], labels: list[str]) -> tuple[list[str], str]:
    """The videos' names, and in what settings the nodes before them differ. own: this node in the graph; counts: how
    many videos came by each input."""
    graph = graph or {}
    given = graph.get(str(own), {}).get("inputs", {})
    ends = [(graph_settings.link(given.get(name)) or (None, 0))[0] for name in counts]
    names = graph_settings.branch_names(graph, ends, [name[-1] for name in counts])
    names = [name if count == 1 else f"{name} {i + 1}"
             for name, count in zip(names, counts.values(), strict=True) for i in range(count)]  # fmt: skip
    names = graph_settings.labelled(names, labels)
    if len(names) < 2:
        return names, "One video: nothing to compare it with."
    ends = [end for end, count in zip(ends, counts.values(), strict=True) for _ in range(count)]
    if not all(end in graph for end in ends):
        return names, "The graph is not known: its settings cannot be compared."
    found = graph_settings.differing(graph, ends, names_of_classes())
    if not found:
        return names, "No setting differs between the nodes that these videos come from."
    return names, graph_settings.as_markdown(found, names)


class LongTakeCompare(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeCompare",
            display_name="Compare Videos",
            category="LongTake",
            **described(
                "Up to six videos beside each other on the node with one playhead, also as a wipe or a difference of "
                "two; a contact sheet; and the settings that differ between the nodes they come from.",
                "side by side", "comparison", "a/b test", "difference", "contact sheet", "video grid",
            ),
            inputs=[
                video_input(LETTERS[0]),
                io.String.Input(
                    "labels", default="",
                    tooltip="Names of the videos, with a bar between two, in the order of the linked inputs. Where "
                    "there is none: the titles of the nodes that they come from, or, where these are alike, a to f.",
                ),
                Float("fps", default=16.0, min=0.01, max=1000.0, step=0.01,
                      tooltip="Frames per second of IMAGE inputs; 8 to 30. A VIDEO has its own; the same time is the "
                      "same place on the playhead."),
                io.Int.Input("height", default=320, min=64, max=1080, step=2,
                             tooltip="Height in pixels of each video in the player and in the output video; 240 to "
                             "480. A row is at most 4096 pixels wide; the rest goes into further rows."),
                io.Int.Input("columns", default=8, min=1, max=24,
                             tooltip="Frames of each video in the contact sheet, evenly spaced from the first to the "
                             "last; 5 to 12."),
                io.Int.Input("sheet_height", default=128, min=32, max=512,
                             tooltip="Height in pixels of a frame in the contact sheet; 96 to 256."),
                *map(video_input, LETTERS[1:]),
            ],
            outputs=[
                io.Image.Output(display_name="contact_sheet", tooltip="One picture: a row of frames per video, with "
                                "names and times."),
                io.String.Output(display_name="differences", tooltip="The settings that differ, as a Markdown table."),
                io.Video.Output(display_name="video", tooltip="The videos beside each other, with their names, for "
                                "Save Video, which copies the file."),
            ],
            hidden=[io.Hidden.prompt, io.Hidden.unique_id],
            is_output_node=True,
            is_input_list=True,
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, labels):
        return verdict(cls, NODE, labels=listed(labels)[0])

    @classmethod
    def execute(cls, labels, fps, height, columns, sheet_height, **videos) -> io.NodeOutput:
        given = {name: [v for v in listed(videos[name]) if v is not None] for name in sorted(videos)}
        widgets = {"labels": labels, "fps": fps, "height": height, "columns": columns, "sheet_height": sheet_height}
        try:
            widgets = {name: only(name, value) for name, value in widgets.items()}
            count = sum(map(len, given.values()))
            if count > len(LETTERS):
                longest = max(given, key=lambda name: len(given[name]))
                raise ValueError(
                    f"{longest} came as a list of {len(given[longest])}, which makes {count} videos; {len(LETTERS)} "
                    f"at most are compared. Frames of one video go together in one IMAGE"
                )
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        return cls.compare({name: values for name, values in given.items() if values}, **widgets)

    @classmethod
    @bounded(NODE)
    def compare(cls, videos, labels, fps, height, columns, sheet_height) -> io.NodeOutput:
        """videos: those of each input."""
        if not videos:
            raise ValueError(f"{NODE}: video_a: an empty list came; it needs one video at least")
        counts = {name: len(values) for name, values in videos.items()}
        names, differences = of_graph(cls.hidden.prompt, cls.hidden.unique_id, counts, labels.split("|"))
        bar = comfy.utils.ProgressBar(1)
        try:
            with contextlib.ExitStack() as stack:
                sources = [
                    stack.enter_context(contextlib.closing(side_by_side.Source(name, value, fps)))
                    for name, value in numbered(videos)
                ]
                path = temp_file()
                sheet, player = side_by_side.write(
                    path, sources, names, height, columns, sheet_height, bar.update_absolute)
        except (ValueError, OSError) as error:
            raise ValueError(f"{NODE}: {error}") from error
        shown = ui.SavedResult(path.name, FOLDER, io.FolderType.temp)
        return io.NodeOutput(
            sheet, differences, InputImpl.VideoFromFile(str(path)),
            ui={"longtake_compare": [{**player, "file": dict(shown)}], "longtake_report": [differences]},
        )  # fmt: skip


NODES = [LongTakeCompare]
