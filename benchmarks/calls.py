"""Model calls against seams, drift and events: overlaps, schedules, noise and early anchors on one axis of cost.

    COMFYUI_PATH=... python -m benchmarks calls [--resume]

Long videos of held-out prompts as in quality.py, and scenarios of several events as in events.py, sampled in the ways
below; all are compared with static windows of half overlap. --ways core kj: other packs' windows, KJNodes' from the
folder that KJNODES_PATH names. Writes calls.md, calls.json and calls.png; calls_videos.jsonl and calls_events.jsonl
keep every finished run, --resume goes on from there.
"""

import argparse
import json
import math

from . import command, events, plots, quality, scenarios
from .tables import LEGEND, PAIRS, Runs, Table
from .variants import REFERENCE

# Per way the changes to quality.py's genl, and to events.py's.
WAYS = {
    REFERENCE: ("", ""),
    "shift 28": ("schedule=random_shift", "schedule=random_shift"),
    "shift 16": ("schedule=random_shift,overlap=16", "schedule=random_shift,overlap=16"),
    "shift 8": ("schedule=random_shift,overlap=8", "schedule=random_shift,overlap=8"),
    "shift 0": ("schedule=random_shift,overlap=0", "schedule=random_shift,overlap=0"),
    "roll 16": ("schedule=rolling,overlap=16", "schedule=rolling,overlap=16"),
    "roll 8": ("schedule=rolling,overlap=8", "schedule=rolling,overlap=8"),
    "roll 0": ("schedule=rolling,overlap=0", "schedule=rolling,overlap=0"),
    "shift 28 to 0": ("schedule=random_shift,overlap_end=0", "schedule=random_shift,overlap_end=0"),
    "cut 0": ("schedule=rolling_cut,overlap=0", "schedule=rolling_cut,overlap=0"),
    "cut 4": ("schedule=rolling_cut,overlap=4", "schedule=rolling_cut,overlap=4"),
    "cut 0, shuffled": ("schedule=rolling_cut,overlap=0,noise=on,mode=shuffle",
                        "schedule=rolling_cut,overlap=0,mode=shuffle"),
    "cut 4, mixed": ("schedule=rolling_cut,overlap=4,noise=on", "schedule=rolling_cut,overlap=4,mode=shuffle_and_mix"),
    "shift 16, flat": ("schedule=random_shift,overlap=16,fuse=flat",) * 2,
    "shift 16, linear": ("schedule=random_shift,overlap=16,fuse=overlap-linear",) * 2,
    "shift 16, lazy": ("schedule=random_shift,overlap=16,lazy=on", "schedule=random_shift,overlap=16,lazy=0.2"),
    "cut 0, shuffled, lazy": ("schedule=rolling_cut,overlap=0,noise=on,mode=shuffle,lazy=on",
                              "schedule=rolling_cut,overlap=0,mode=shuffle,lazy=0.2"),
    "shift 16, cfg 0.6": ("schedule=random_shift,overlap=16,cfg_until=0.6",) * 2,
    "roll 16 to 0": ("schedule=rolling,overlap=16,overlap_end=0", "schedule=rolling,overlap=16,overlap_end=0"),
    "roll 0, shuffled": ("schedule=rolling,overlap=0,noise=on,mode=shuffle",
                         "schedule=rolling,overlap=0,mode=shuffle"),
    "roll 8, shuffled": ("schedule=rolling,overlap=8,noise=on,mode=shuffle",
                         "schedule=rolling,overlap=8,mode=shuffle"),
    "shift 8, early": ("schedule=random_shift,overlap=8,abam=on,anchor=0.3,abam.end_percent=0.3",
                       "schedule=random_shift,overlap=8,anchor=0.3,anchor_until=0.3"),
    "shift 8, early, mixed": (
        "schedule=random_shift,overlap=8,noise=on,abam=on,anchor=0.3,abam.end_percent=0.3",
        "schedule=random_shift,overlap=8,mode=shuffle_and_mix,anchor=0.3,anchor_until=0.3",
    ),
}  # fmt: skip
OTHERS = {  # other packs' windows, asked for by name
    "core": "core:schedule=standard_uniform,freenoise=true",
    "core, plain": "core",
    "kj": "kj",
    "kj, plain": "kj:freenoise=false",
}
MEANING = [
    f"`{REFERENCE}`: static windows, overlap 28 of 49 pixel frames, pyramid weights, plain noise",
    "`shift`, `roll`: schedule random_shift or rolling, with the overlap in pixel frames; `28 to 0`: overlap_end",
    "`flat`, `linear`: fuse flat or overlap-linear",
    "`cut`: schedule rolling_cut, windows cut off at the video's ends; `cfg 0.6`: guidance (cfg_until) in the first "
    "60 % of the noise schedule; `lazy`: ComfyUI's LazyCache (skips whole steps that would change little)",
    "`shuffled`: FreeNoise's noise; `mixed`: Noise Reinit's",
    "`early`: anchor attention (0.3) in the first 30 % of the noise schedule",
    "`core`: ComfyUI's Context Windows, standard_uniform, overlap 28, with its FreeNoise (`plain`: standard_static, "
    "without); `kj`: KJNodes' batched_shifted, windows without overlap whose seams roll, FreeNoise (`plain`: without)",
]
VIDEO_CURVES = ("seam_mae", "seam_track", "colour_drift", "background_drift", "size_drift", "prompt")
EVENT_CURVES = ("local", "same_subject", "subject_colour", "seam_mae", "jump_track", "colour_drift")


def parse(argv=None):
    parser = command.parser("calls", __doc__)
    parser.add_argument("--ways", nargs="+", choices=[*WAYS, *OTHERS], default=list(WAYS), metavar="WAY")
    parser.add_argument("--lengths", type=int, nargs="+", default=[147, 294], help="pixel frames")
    parser.add_argument("--prompts", type=int, default=24, help="held-out prompts, 1..60; every second partly open")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first so many prompts")
    parser.add_argument("--scenarios", type=int, default=24, help="of several events, 0..48")
    parser.add_argument("--name", default="calls", help="of what it writes, but for the runs, which all share")
    command.run_options(parser, 16)
    parser.add_argument("--batch", type=int, default=4, help="prompts per sampler call")
    args = parser.parse_args(argv)
    for name, low, high in (("prompts", 1, 60), ("scenarios", 0, 48)):
        if not low <= getattr(args, name) <= high:
            parser.error(f"--{name}: {getattr(args, name)} is not in {low}..{high}")
    args.ways = list(dict.fromkeys([REFERENCE, *args.ways]))
    args.sheet = None
    return args


def settings(args, which: int, variant) -> argparse.Namespace:
    """args of quality.py (which 0) or events.py (1), for its functions."""
    texts = {way: OTHERS[way] if way in OTHERS else f"{REFERENCE}:{WAYS[way][which]}" for way in args.ways}
    return argparse.Namespace(
        **{**vars(args), "table": {way: variant(text, [])[1] for way, text in texts.items()}, "unnamed": False}
    )


def command_line(args) -> str:
    words = ["--ways", *args.ways] if args.ways != list(WAYS) else []
    words += ["--lengths", *map(str, args.lengths), "--prompts", str(args.prompts), "--scenarios", str(args.scenarios)]
    words += ["--skip", str(args.skip)] if args.skip else []
    words += ["--name", args.name] if args.name != "calls" else []
    return command.line("calls", *words, "--steps", str(args.steps), "--cfg", f"{args.cfg:g}")


def curves(table: Table, names: tuple[str, ...]) -> list[tuple]:
    """Panels of metrics over evaluations, for plots.cost_chart."""
    cost = {label: table.cost(label, "evaluations") for label in table.rows}
    return [
        (f"{panel.heading}, {table.title}", panel.hint, [
            plots.Point(label, cost[label], dot, label == REFERENCE)
            for label, dot in zip(table.rows, panel.dots, strict=True) if cost[label] > 0
        ])
        for panel in table.panels(names)
    ]  # fmt: skip


def data(table: Table) -> dict:
    """Every value of a table: mean, difference to the reference, its standard error, verdict."""

    def known(value: float) -> float | None:
        return None if math.isnan(value) else round(value, 5)

    return {
        label: {
            "evaluations": known(table.cost(label, "evaluations")),
            "metrics": {
                name: dict(zip(("mean", "change", "error"), map(known, table.value(label, name)), strict=True),
                           verdict=table.verdict(label, name))
                for name in table.metrics
            },
        }
        for label in table.rows
    }  # fmt: skip


def report(args, tables: list[Table], weights: str) -> str:
    several = f", and {args.scenarios} scenarios of two to four events" if args.scenarios else ""
    lines = [
        "# Model calls against quality on the demo model", "",
        f"Written by `{command_line(args)}` (weights {weights}).", "",
        f"{args.prompts} held-out prompts, every second one partly open{several}; {args.steps} steps, euler, simple, "
        f"CFG {args.cfg:g}; windows of {quality.CLIP} pixel frames. All ways start from the same seeds. Evaluations "
        "(of a window by the model, each CFG branch one, counted as they reach it): times "
        f"{REFERENCE}'s.", "",
        f"\u00b1 is the standard error of the difference to {REFERENCE}, paired by prompt (from {PAIRS} on). **Bold**: "
        f"better than {REFERENCE} by more than twice that, *italic*: worse by more than twice that; all else may be "
        "noise.", "",
        f"One prompt: {quality.MEASURED}", "", f"Several events: {events.MEASURED}", "",
        *(f"- {line}" for line in MEANING),
    ]
    for table in tables:
        main = [name for name, metric in table.metrics.items() if metric.main]
        more = [name for name in table.metrics if name not in main]
        lines += ["", f"## {table.title}", "", *table.markdown(main, ("evaluations",))]
        lines += ["", "More:", "", *table.markdown(more)]
    return "\n".join([*lines, "", f"![metrics over cost]({args.name}.png)", ""])


def main(argv=None):
    args = parse(argv)
    videos, runs = (Runs(args.out / f"calls_{kind}.jsonl", args.resume, args.claims) for kind in ("videos", "events"))
    command.side_by_side("calls", argv, args, videos, runs)
    of_videos, of_events = settings(args, 0, quality.variant), settings(args, 1, events.variant)
    demo, prompts = quality.Demo(of_videos), quality.Prompts(args.prompts, args.skip)
    quality.run(of_videos, videos, demo, prompts)
    tables = [quality.table(of_videos, videos, demo.hash, prompts, length) for length in args.lengths]
    panels = [panel for table in tables for panel in curves(table, VIDEO_CURVES)]
    chosen = dict(enumerate(scenarios.scenarios()[: args.scenarios]))
    events.run(of_events, runs, demo, chosen)
    if args.claims:
        return
    if args.scenarios:
        tables.append(events.table(of_events, runs, demo.hash, chosen, "Several events"))
        panels += curves(tables[-1], EVENT_CURVES)
    text = report(args, tables, demo.hash)
    (args.out / f"{args.name}.md").write_text(text, encoding="utf-8")
    found = {table.title: data(table) for table in tables}
    (args.out / f"{args.name}.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    plots.cost_chart(panels, f"window evaluations, times {REFERENCE}'s", LEGEND, args.out / f"{args.name}.png")
    print(text)
