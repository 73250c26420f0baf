"""SynCoS and its ablations on multi-event videos of the demo model: the paper's Tables 2 and 3, measured here.

    COMFYUI_PATH=... python -m benchmarks events [--resume]

48 scenarios (scenarios.py), each one video per variant; metrics/events.py measures what the analytic reader sees.
Writes syncos.md, syncos.png and syncos_cost.png (metrics over cost); syncos_runs.jsonl keeps every finished run. With
--unnamed no prompt names the subject's colour, and all names begin with syncos_unnamed. --resume goes on from the runs
kept. It knows settings and weights, but not code: after a change to a node or a sampler, start without.

Other settings: --variants genl syncos_balanced:iters=6,lr=1 (for one variant), or --set iters=10 (for every variant but
genl, with which all are compared; what an ablation is about stays). The ablations are the paper preset's, with --set
preset=balanced balanced's. Keys: those of SynCoSSettings, `preset`, the window scheduler's inputs, and two that add
parts of GLC-Diffusion: anchor (ABAM's, 0 = none; anchor_until, where it ends) and mode (Noise Reinit's, random = none).
"""

import hashlib
import json
import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import comfy_extras.nodes_custom_sampler as core
import torch
from PIL import Image

from ..nodes.prompts import encode_timeline
from ..samplers.adapters.syncos import syncos_sampler
from ..samplers.prompts import timeline
from ..samplers.syncos.coupling import PRESETS, SynCoSSettings
from . import command, plots, scenarios, variants
from .metrics import events as event_metrics
from .quality import CLIP, Demo, attending, boundaries, decoded, node
from .tables import LEGEND, PAIRS, Runs, Table
from .variants import INPUTS, REFERENCE, typed

SEED = 9_000_001  # of the first scenario; each has its own
SHEETS = 6  # scenarios that --sheet draws
MEASURED = (
    f"Judged is the inside of each event, {CLIP // 2} frames away from its borders, which the windows of both events "
    "reach. Event right: motion and background as its prompt says. Subject right: colour and shape as the global "
    "prompt says. All in %: same subject, of the later events' frames that show the first event's subject (shape, "
    "mark, which is the face, colour, size); subject's colour (of a channel's range), shape, mark (of frames) and "
    "size: how far the later events' differ from the first one's. Colour drift as in `metrics/video.py`: to the first "
    "49 frames. Background within an event: change of its colour; between: from event to event where both ask for the "
    "same. Border jump and flash: the largest step of the subject (place and size, of the side) and the largest change "
    "of the picture near a border, beyond the largest inside the events beside it. Seams: inside the events. "
    "Formulas: `metrics/events.py`."
)
COSTS = ("evaluations", "seconds")
CURVES = ("local", "same_hue", "same_subject", "subject_colour", "subject_size", "colour_drift")  # metrics over cost
ON_THE_CURVE = "syncos_"  # variants that the curve joins, with the reference

# What differs from SynCoS with the paper preset; None: no SynCoS, euler.
VARIANTS = {
    "genl": None,
    "ditctrl": None,
    "infinity": None,
    "fifo": None,
    "mevg": None,
    "stage1": {"stages": "first"},
    "csd": {"stages": "second"},
    "syncos_paper": {"preset": "paper"},
    "syncos_balanced": {"preset": "balanced"},
    "syncos_fast": {"preset": "fast"},
    "wo_tmin": {"t_min": 0.0, "max_coupled": 0},
    "wo_grounded": {"timestep": "free"},
    "wo_baseline": {"noise": "fresh"},
    "wo_structured": {},
}
MEANING = {
    "genl": "Gen-L-Video: windows, each with its event's prompt; euler",
    "ditctrl": "DiTCtrl: keys and values of the window before, in the last of 6 layers, early steps; euler",
    "infinity": "Video-Infinity: windows attend to 13 frames spread over the video, too; threshold 850; euler",
    "fifo": "FIFO-Diffusion: a queue of two clips, lookahead; each new frame with its event's prompt",
    "mevg": "MEVG: clip after clip, one event each, begun from the last frame before it",
    "stage1": "SynCoS's first stage alone, the same as genl but for rounding",
    "csd": "SynCoS's second stage alone, at every step: CSD",
    "syncos_paper": "SynCoS with the paper's values",
    "syncos_balanced": "SynCoS, fewer and better iterations",
    "syncos_fast": "SynCoS, as few iterations as help",
    "wo_tmin": "coupled at every step",
    "wo_grounded": "free timestep: a random one per iteration",
    "wo_baseline": "fresh noise in every iteration",
    "wo_structured": "without structured prompt: an event's prompt does not name the subject",
}
UNSTRUCTURED = "wo_structured"
PARTS = {  # of methods that have a part of their own
    "ditctrl": {"ditctrl": {"first_layer": -1}}, "infinity": {"infinity": {"threshold": 850.0}}, "fifo": {"fifo": {}},
    "mevg": {"mevg": {}},
}
DEFAULT = [name for name in VARIANTS if name not in PARTS]
# Key: the part that it adds, its input there, the value that adds none.
ADDED = {
    "anchor": ("abam", "anchor", 0.0), "anchor_until": ("abam", "end_percent", 0.0),
    "mode": ("noise", "mode", "random"), "lazy": ("lazy", "reuse_threshold", 0.0),
}  # fmt: skip


@dataclass(frozen=True)
class Variant:
    """How a video is sampled: the window scheduler's inputs, SynCoSSettings (None: euler), which prompts; added parts
    of GLC-Diffusion, as in variants.py."""

    windows: dict
    syncos: object | None
    structured: bool
    added: dict

    def effective(self) -> dict:
        """What changes a run."""
        syncos = self.syncos and asdict(self.syncos)
        parts = variants.effective({"windows": self.windows, **self.added})
        return {"syncos": syncos, "structured": self.structured, **parts}


def variant(text: str, everywhere: list[str]) -> tuple[str, Variant]:
    """ "syncos_paper:iters=10" -> (its label, what it means). Raises ValueError."""
    name, _, own = text.partition(":")
    if name in variants.RIVALS:
        label, parts = variants.variant(text, [])
        return label, Variant(dict(INPUTS["windows"]), None, True, parts)
    if name not in VARIANTS:
        raise ValueError(f"--variants: {name} is not one of {', '.join([*VARIANTS, *variants.RIVALS])}")
    given = VARIANTS[name]
    own = [c for c in own.split(",") if c]
    if given is not None:
        own += [c for c in everywhere if c.partition("=")[0] not in given]
    windows, syncos = dict(INPUTS["windows"]), {"preset": "paper", **(given or {})}
    added = {part: INPUTS[part] | inputs for part, inputs in PARTS.get(name, {}).items()}
    defaults = {"preset": "", **{f.name: f.default for f in fields(SynCoSSettings)}}
    for change in reversed(own):  # a variant's own last: they count
        key, _, value = change.partition("=")
        if PARTS.get(name) and key in INPUTS[name]:
            added[name] |= {key: typed(change, value, INPUTS[name][key])}
        elif key in windows:
            windows[key] = typed(change, value, windows[key])
        elif key in ADDED:
            part, there, none = ADDED[key]
            value = typed(change, value, INPUTS[part][there])
            added |= {part: added.get(part, INPUTS[part]) | {there: value}} if value != none else {}
        elif key in defaults and given is not None:
            syncos[key] = typed(change, value, defaults[key])
        else:
            raise ValueError(f"{change}: unknown to {name}")
    label = f"{name}:{','.join(own)}" if own else name
    if given is None:
        return label, Variant(windows, None, True, added)
    preset = syncos.pop("preset")
    if preset not in PRESETS:
        raise ValueError(f"{label}: preset {preset} is not one of {', '.join(PRESETS)}")
    return label, Variant(windows, replace(PRESETS[preset], **syncos), name != UNSTRUCTURED, added)


def parse(argv=None):
    parser = command.parser("events", __doc__)
    parser.add_argument("--variants", nargs="+", default=DEFAULT, metavar="NAME[:KEY=VALUE,...]")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--scenarios", type=int, default=48, help="the first so many, 1..48")
    command.run_options(parser, 24)
    parser.add_argument("--sheet", type=Path, help=f"folder for filmstrips of the first {SHEETS} scenarios")
    parser.add_argument("--events", type=int, choices=(2, 3, 4), help="of these, those with so many events")
    parser.add_argument("--unnamed", action="store_true", help="no prompt names the subject's colour")
    args = parser.parse_args(argv)
    args.name = "syncos" + "_unnamed" * args.unnamed + (f"_{args.events}_events" if args.events else "")
    if not 1 <= args.scenarios <= 48:
        parser.error(f"--scenarios: {args.scenarios} is not in 1..48")
    try:
        args.table = dict(variant(text, args.set) for text in args.variants)
    except ValueError as error:
        parser.error(str(error))
    return args


def prompts(scenario, structured: bool, frames: int) -> tuple[str, list[str], list]:
    """(ordinary prompt, each event's prompt, spans); unstructured: an event's prompt says nothing of the subject."""
    events = scenario.timeline(frames)
    ordinary, texts = timeline.join_prompts(scenario.prompt, events)
    return ordinary, texts if structured else scenario.local_prompts, timeline.spans(events)


def sample(demo: Demo, way: Variant, scenario, seed: int):
    """(video [T, H, W, 3], window evaluations, seconds without the VAE)."""
    rival = demo.rival(way.added)
    if rival:
        texts = prompts(scenario, way.structured, decoded(scenario.frames))[1]
        positive = [cond for text in texts for cond in demo.encode(text)]
        euler, noise = core.KSamplerSelect.execute("euler").result[0], core.RandomNoise.execute(seed).result[0]
        videos, evaluations, seconds = demo.video(rival, positive, noise, euler, scenario.frames)
        return videos[0], evaluations, seconds
    model, windows = demo.windows(**way.windows)
    sampler = syncos_sampler(way.syncos) if way.syncos else core.KSamplerSelect.execute("euler").result[0]
    positive = encode_timeline(demo.clip, *prompts(scenario, way.structured, decoded(scenario.frames)))
    model = attending(model, way.added)
    own = demo.own_clips(way.added)
    if own is not None:
        model, sampler = demo.model, own
    if "noise" in way.added:
        noise, = node("noise", "LongTakeNoiseReinit").execute(
            noise_seed=seed, windows=windows, **way.added["noise"]
        ).result  # fmt: skip
    else:
        noise, = core.RandomNoise.execute(seed).result
    videos, evaluations, seconds = demo.video(model, positive, noise, sampler, scenario.frames)
    return videos[0], evaluations, seconds


def key_of(args, weights: str, way: Variant, scenario, seed: int) -> str:
    what = [way.effective(), asdict(scenario), scenario.frames, seed, args.steps, args.cfg, weights]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def run(args, runs: Runs, demo: Demo, chosen: dict) -> None:
    """Sample and measure all that is missing, scenario by scenario: a break leaves all variants about as far."""
    if args.sheet:
        (args.sheet / "strips").mkdir(parents=True, exist_ok=True)
    for i, scenario in chosen.items():
        for label, way in args.table.items():
            key = key_of(args, demo.hash, way, scenario, SEED + i)
            strip = args.sheet / "strips" / f"{key}.png" if args.sheet and i in list(chosen)[:SHEETS] else None
            if key in runs.found and (strip is None or strip.exists()) or not runs.mine(key):
                continue
            with torch.inference_mode():
                video, evaluations, seconds = sample(demo, way, scenario, SEED + i)
                seams = boundaries({"windows": way.windows}, scenario.frames, demo.clip_frames)
                found = demo.measure_events(video, scenario, seams)
            runs.add({
                "key": key, "variant": label, "scenario": i, "title": scenario.title, "changes": scenario.changes,
                "events": len(scenario.events), "frames": len(video), "seed": SEED + i, "steps": args.steps,
                "cfg": args.cfg, "weights": demo.hash, "evaluations": evaluations, "seconds": seconds,
                "settings": way.effective(), **demo.row(video),
                "metrics": {k: None if math.isnan(v) else v for k, v in found.items()},
            })  # fmt: skip
            if strip:
                plots.strip(video).save(strip)
            print(f"scenario {i} ({len(scenario.events)} events), {label}: {seconds:.1f} s", flush=True)


def table(args, runs: Runs, weights: str, chosen: dict, heading: str, keep=lambda scenario: True) -> Table:
    """The runs of the scenarios that `keep` picks."""
    def of(way):
        keys = [key_of(args, weights, way, s, SEED + i) for i, s in chosen.items() if keep(s)]
        return [runs.found.get(key) for key in keys]

    rows = {label: of(way) for label, way in args.table.items()}
    told = {name: metric for name, metric in event_metrics.METRICS.items() if args.unnamed or name != "same_hue"}
    return Table(f"{heading}: {sum(map(keep, chosen.values()))} scenarios", told, rows, of(variant(REFERENCE, [])[1]))


def command_line(args) -> str:
    """The command line, without what says only where files are."""
    words = ["--variants", *args.variants] if args.variants != DEFAULT else []
    words += ["--set", *args.set] if args.set else []
    words += ["--unnamed"] if args.unnamed else []
    words += ["--events", str(args.events)] if args.events else []
    words += ["--scenarios", str(args.scenarios), "--steps", str(args.steps), "--cfg", f"{args.cfg:g}"]
    return command.line("events", *words)


def report(args, whole: Table, parts: list[Table], weights: str) -> str:
    main = [name for name, metric in whole.metrics.items() if metric.main]
    first = main[: main.index("colour_drift")]
    hue = "Same hue: of the later events, whose subject has the first one's colour name. " if args.unnamed else ""
    meaning = variants.MEANING | MEANING
    lengths = ", ".join(f"{n} events in {decoded(frames)} pixel frames" for n, frames in scenarios.LENGTHS.items())
    lines = [
        "# SynCoS on multi-event videos of the demo model", "",
        f"Written by `{command_line(args)}` (weights {weights}).", "",
        "One subject through two to four events that change its motion, its background or both (`scenarios.py`): "
        f"{lengths}, evenly timed, without cross-fade. "
        f"{'No prompt names the colour of the subject. ' if args.unnamed else ''}{args.steps} steps, simple "
        f"schedule, CFG {args.cfg:g}; windows of {CLIP} pixel frames. One video per scenario and variant, all variants "
        "from the same seeds.", "",
        f"\u00b1 is the standard error of the difference to {REFERENCE}, paired by scenario (from {PAIRS} on). "
        f"**Bold**: better than {REFERENCE} by more than twice that, *italic*: worse by more than twice that; all else "
        "may be noise.", "",
        f"{MEASURED} {hue}Evaluations (of a window by the model, each CFG branch one, counted as they reach it) and "
        f"seconds (of sampling, without the VAE): times {REFERENCE}'s.", "",
        *(f"- `{name}`: {meaning[name]}" for name in dict.fromkeys(label.partition(":")[0] for label in args.table)),
        "", f"## {whole.title}", "", whole.spent(), "",
        *whole.markdown(first, COSTS), "", *whole.markdown(main[len(first) :]), "",
        "More:", "", *whole.markdown([name for name in whole.metrics if name not in main]), "",
        f"![metrics]({args.name}.png)", "", f"![metrics over cost]({args.name}_cost.png)",
    ]  # fmt: skip
    for part in parts:
        lines += ["", f"## {part.title}", "", *part.markdown(first)]
    return "\n".join(lines) + "\n"


def draw(args, whole: Table) -> None:
    plots.chart([(whole.title, whole.panels())], list(args.table), LEGEND, args.out / f"{args.name}.png")
    cost = {label: whole.cost(label, "evaluations") for label in args.table}
    panels = [
        (panel.heading, panel.hint, [
            plots.Point(label, cost[label], dot, label == REFERENCE or label.startswith(ON_THE_CURVE))
            for label, dot in zip(args.table, panel.dots, strict=True) if cost[label] > 0
        ])
        for panel in whole.panels(CURVES)
    ]  # fmt: skip
    plots.cost_chart(panels, f"window evaluations, times {REFERENCE}'s", LEGEND, args.out / f"{args.name}_cost.png")


def film(args, chosen: dict, weights: str) -> None:
    """One sheet per scenario, a row per variant."""
    for i, scenario in list(chosen.items())[:SHEETS]:
        strips = {
            label: Image.open(args.sheet / "strips" / f"{key_of(args, weights, way, scenario, SEED + i)}.png")
            for label, way in args.table.items()
        }
        sheet = plots.film_sheet(scenario.title, decoded(scenario.frames), strips)
        sheet.save(args.sheet / f"scenario{i:02d}.png")


def main(argv=None):
    args = parse(argv)
    runs = Runs(args.out / f"{args.name}_runs.jsonl", args.resume, args.claims)
    command.side_by_side("events", argv, args, runs)
    demo, every = Demo(args), (scenarios.unnamed if args.unnamed else scenarios.scenarios)()[: args.scenarios]
    chosen = {i: scenario for i, scenario in enumerate(every) if args.events in (None, len(scenario.events))}
    run(args, runs, demo, chosen)
    if args.claims:
        return
    whole = table(args, runs, demo.hash, chosen, "All")
    headings = ("The motion changes", "The background changes", "Both change")
    parts = [
        table(args, runs, demo.hash, chosen, heading, lambda s, name=name: s.changes == name)
        for heading, name in zip(headings, scenarios.CHANGES, strict=True)
    ]
    text = report(args, whole, [p for p in parts if p.reference], demo.hash)
    (args.out / f"{args.name}.md").write_text(text, encoding="utf-8")
    draw(args, whole)
    if args.sheet:
        film(args, chosen, demo.hash)
    print(text)

