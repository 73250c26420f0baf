"""The papers' tables, each beside the papers' own numbers: methods, parts and settings, on the demo or a real model.

    COMFYUI_PATH=... python -m benchmarks papers [--resume] [--tables "GLC Table 1" "SynCoS"]
    ... papers --model CogVideoX-2b --encoders dino_vitb16 clip-vit-base-patch32 [--texts my_prompts.json]

On the demo model the analytic reader measures, as in quality.py and events.py. A real model is sampled with the papers'
50 steps, its videos are kept as files, and VBench's metrics measure them (with DINO and CLIP in models/metrics).
--rivals: the newer core's own windows too, and KJNodes' (KJNODES_PATH). Writes papers.md, papers.json and a picture per
table; papers_videos.jsonl and papers_events.jsonl keep every finished run, --resume goes on from there. It knows
settings and weights, but not code.
"""

import argparse
import contextlib
import io
import json
import os
import re

from tqdm import tqdm

from . import calls, command, events, plots, quality, real, scenarios
from .paper_tables import KJNODES, RIVALS, SCENARIOS, TABLES, VIDEOS, PaperTable
from .tables import LEGEND, PAIRS, Runs, Table

MOST = 1000  # prompts, seeds
ANOTHER = 100_000  # between the seeds of a prompt's first and second video
STEPS = {False: (16, command.CFG), True: (50, 6.0)}  # of a real model or not: steps, CFG


def parse(argv=None):
    parser = command.parser("papers", __doc__)
    parser.add_argument("--tables", nargs="+", default=[], metavar="WORDS", help="in a table's title")
    parser.add_argument("--prompts", type=int, default=16, help="videos of one prompt per row")
    parser.add_argument("--scenarios", type=int, default=6, help="videos of several events per row")
    parser.add_argument("--small", action="store_true", help="a short video of one step per row: does all run?")
    parser.add_argument("--seeds", type=int, default=1, help="videos of each prompt and scenario")
    parser.add_argument("--rivals", action="store_true", help="other packs' windows, on a newer core")
    real.options(parser)
    command.run_options(parser, None)
    parser.set_defaults(cfg=None)
    args = parser.parse_args(argv)
    texts = real.texts_of(args.texts) if args.model else (quality.Prompts(MOST).specs, scenarios.scenarios())
    for name, most in (("prompts", len(texts[0])), ("scenarios", len(texts[1])), ("seeds", MOST)):
        if getattr(args, name) < 1:
            parser.error(f"--{name}: {getattr(args, name)}; at least 1")
        setattr(args, name, min(getattr(args, name), most))  # as many as there are
    steps, cfg = STEPS[bool(args.model)]
    args.steps, args.cfg = args.steps or steps, cfg if args.cfg is None else args.cfg
    if args.small:
        args.prompts, args.scenarios, args.seeds, args.steps = 1, 1, 1, 1
    args.chosen = [t for t in TABLES if not args.tables or any(w.lower() in t.title.lower() for w in args.tables)]
    if not args.chosen:
        parser.error(f"--tables: none of {', '.join(t.title for t in TABLES)} has {' or '.join(args.tables)} in it")
    args.sheet, args.skip, args.unnamed, args.batch = None, 0, False, 1 if args.model else 4
    return args


def rows(args, table: PaperTable) -> dict[str, str]:
    """What the table's rows are called, and their variants."""
    asked = args.rivals and table is TABLES[-1]
    return table.rows | (RIVALS if asked else {}) | (KJNODES if asked and os.environ.get("KJNODES_PATH") else {})


class Counted(Runs):
    """Finished runs that move a bar on."""

    def __init__(self, path, args, bar: tqdm):
        super().__init__(path, args.resume, args.claims)
        self.bar = bar

    def add(self, row: dict) -> None:
        super().add(row)
        self.bar.update()
        self.bar.set_postfix_str(f"{row['variant']}, {row['seconds']:.0f} s each")


class Work:
    """The videos that tables ask for, each once: of one kind, and of one length."""

    def __init__(self, args, demo, kind: str, clips: int | None):
        self.args, self.demo, self.kind = args, demo, kind
        self.tables = [t for t in args.chosen if (t.kind, t.clips) == (kind, clips)]
        variant = quality.variant if kind == VIDEOS else events.variant
        everywhere = ["iters=1"] if args.small and kind == SCENARIOS else []
        clips = clips and (2 if args.small else clips)
        texts = dict.fromkeys(text for table in self.tables for text in rows(args, table).values())
        ways = {text: variant(text, everywhere)[1] for text in texts}
        ways = {text: way for text, way in ways.items() if demo.can(way if kind == VIDEOS else way.added)}
        lengths = [(clips or 0) * demo.clip_frames]
        self.settings = argparse.Namespace(**{**vars(args), "lengths": lengths, "table": ways})
        self.items = self._prompts() if kind == VIDEOS else self._scenarios()

    def _prompts(self) -> quality.Prompts:
        args, seeds = self.args, self.args.seeds
        found = (real.Texts(args.texts, args.prompts) if args.model else quality.Prompts(args.prompts))
        found.specs, found.seeds = found.specs * seeds, [s + i * ANOTHER for i in range(seeds) for s in found.seeds]
        return found

    def _scenarios(self) -> dict:
        args, demo = self.args, self.demo
        found = demo.stories() if args.model else scenarios.scenarios()
        found = sorted(found, key=lambda s: len(s.events)) if args.small else found
        found = found[: args.scenarios]
        return {i + n * ANOTHER: story for n in range(args.seeds) for i, story in enumerate(found)}

    def keys(self, text: str) -> list[str]:
        """Of a variant's runs, in the order of the prompts or scenarios; none where the model cannot."""
        way, settings, weights = self.settings.table.get(text), self.settings, self.demo.hash
        if way is None:
            return []
        if self.kind == VIDEOS:
            pairs = zip(self.items.specs, self.items.seeds, strict=True)
            return [quality.key_of(settings, weights, way, settings.lengths[0], *pair) for pair in pairs]
        return [events.key_of(settings, weights, way, s, events.SEED + i) for i, s in self.items.items()]

    def missing(self, runs: Runs) -> int:
        return sum(key not in runs.found for text in self.settings.table for key in dict.fromkeys(self.keys(text)))

    def run(self, runs: Runs) -> None:
        do = quality.run if self.kind == VIDEOS else events.run
        with contextlib.redirect_stdout(io.StringIO()):  # the bar says it
            do(self.settings, runs, self.demo, self.items)

    def table(self, table: PaperTable, runs: Runs) -> Table:
        count = len(self.items.specs if self.kind == VIDEOS else self.items)
        found = {row: [runs.found.get(key) for key in self.keys(text)] or [None] * count
                 for row, text in rows(self.args, table).items()}  # fmt: skip
        metrics = self.demo.metrics if self.kind == VIDEOS else self.demo.event_metrics
        if self.kind == SCENARIOS and not self.args.model:
            metrics = {name: metric for name, metric in metrics.items() if name != "same_hue"}
        return Table(table.title, metrics, found, found[table.reference], table.reference)


def markdown(table: PaperTable, found: Table) -> list[str]:
    """Our numbers, and the paper's in the last columns."""
    main = [name for name, metric in found.metrics.items() if metric.main]
    lines = found.markdown(main, ("evaluations",))
    if not table.paper:
        return lines
    lines[0] += "".join(f" paper: {column} |" for column in table.columns)
    lines[1] += " --- |" * len(table.columns)

    def theirs(row):
        numbers = table.paper.get(row, ())
        return "".join(f" {number:g} |" for number in numbers) or " - |" * len(table.columns)

    lines[2:] = [line + theirs(row) for line, row in zip(lines[2:], found.rows, strict=True)]
    return lines


def name(table: PaperTable) -> str:
    return f"papers_{re.sub('[^a-z0-9]+', '_', table.title.lower()).strip('_')}.png"


def command_line(args) -> str:
    words = ["--tables", *args.tables] if args.tables else []
    words += ["--rivals"] if args.rivals else []
    words += ["--model", args.model] if args.model else []
    words += ["--encoders", *args.encoders] if args.encoders else []
    if args.small:
        return command.line("papers", *words, "--small", "--cfg", f"{args.cfg:g}")
    words += ["--prompts", str(args.prompts), "--scenarios", str(args.scenarios), "--seeds", str(args.seeds)]
    return command.line("papers", *words, "--steps", str(args.steps), "--cfg", f"{args.cfg:g}")


def report(args, demo, tables: list[tuple[PaperTable, Table]]) -> str:
    model = args.model or "the demo model"
    by = ("VBench's metrics and the pack's own, in words in Video Metrics' help" if args.model else
          "what the analytic reader sees; the paper's columns are VBench's, of its own model, and stand there for the "
          "order of the rows alone")
    words = [] if args.model else [f"One prompt: {quality.MEASURED}", "", f"Several events: {events.MEASURED}", ""]
    lines = [
        f"# The papers' tables on {model}", "",
        f"Written by `{command_line(args)}` (weights {demo.hash}).", "",
        f"{args.prompts} prompts and {args.scenarios} scenarios, {args.seeds} video{'s' * (args.seeds > 1)} of each; "
        f"{args.steps} steps, euler, simple, CFG {args.cfg:g}; windows of {demo.clip_frames} pixel frames. All rows "
        f"start from the same seeds. Measured is {by}.", "",
        *words,
        "\u00b1 is the standard error of the difference to the table's reference, the row without it, paired by video "
        f"(from {PAIRS} on). **Bold**: better than it by more than twice that, *italic*: worse by more than twice "
        "that; all else may be noise. Evaluations: of a window by the model, times the reference's.",
    ]  # fmt: skip
    for table, found in tables:
        lines += ["", f"## {table.title}", ""]
        lines += [f"{table.note[0].upper()}{table.note[1:]}.", ""] if table.note else []
        lines += [*markdown(table, found), "", f"![{table.title}]({name(table)})"]
    return "\n".join(lines) + "\n"


def numbers(args, table: PaperTable, found: Table) -> dict:
    """calls.data, with each row's variant and the paper's numbers."""
    theirs = {row: dict(zip(table.columns, values, strict=True)) for row, values in table.paper.items()}
    return {
        row: {"variant": rows(args, table)[row], **values, "paper": theirs.get(row, {})}
        for row, values in calls.data(found).items()
    }


def main(argv=None):
    args = parse(argv)
    demo = real.Real(args) if args.model else quality.Demo(args)
    places = dict.fromkeys((table.kind, table.clips) for table in args.chosen)
    work = {place: Work(args, demo, *place) for place in places}
    with tqdm(unit="video", dynamic_ncols=True, disable=bool(args.claims)) as bar:
        files = {kind: Counted(args.out / f"papers_{'videos' if kind == VIDEOS else 'events'}.jsonl", args, bar)
                 for kind in (VIDEOS, SCENARIOS)}  # fmt: skip

        def missing():
            return sum(one.missing(files[kind]) for (kind, _), one in work.items())

        def tell():
            bar.update(bar.total - missing() - bar.n)

        bar.reset(missing())
        command.side_by_side("papers", argv, args, *files.values(), tell=tell)
        for (kind, _), one in work.items():
            one.run(files[kind])
    if args.claims:
        return
    tables = [(t, work[t.kind, t.clips].table(t, files[t.kind])) for t in args.chosen]
    text = report(args, demo, tables)
    (args.out / "papers.md").write_text(text, encoding="utf-8")
    found = {table.title: numbers(args, table, of) for table, of in tables}
    (args.out / "papers.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    for t, table in tables:
        legend = LEGEND.replace(quality.REFERENCE, t.reference)
        plots.chart([(t.title, table.panels())], list(table.rows), legend, args.out / name(t))
    print(text)
