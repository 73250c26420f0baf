"""Events shorter than a window: each window told one of them (timing window), or each frame its own (timing frame).

    COMFYUI_PATH=... python -m benchmarks timing [--resume]

A scenario is one subject with one motion, before a background that changes from event to event; its events have one of
--every lengths, from a quarter of the model's clip to twice. metrics/switches.py measures what the analytic reader sees
in each frame. Every variant starts from the same noise. Writes timing.md and timing.png; timing_runs.jsonl keeps every
finished run, --resume goes on from there. It knows settings and weights, but not code.

A variant is a timing, and a border with its blend in pixel frames: window, frame, frame:8, frame:gaussian:8. Behind it
early=N, for events that are told N pixel frames before they are measured: frame:early=4. And what the model shows at
best, without any other event in sight: `alone`, a clip of its own for each event.
"""

import hashlib
import json
import math
import random
import re
from dataclasses import asdict, dataclass, replace

import comfy_extras.nodes_custom_sampler as core
import torch

from ..backbone.demo import reader, world
from ..nodes.prompts import encode_timeline
from ..samplers.prompts import timeline
from ..samplers.prompts.timeline import BORDERS, TIMINGS
from . import command, plots
from .metrics import switches
from .quality import CLIP, Demo, decoded
from .tables import PAIRS, Runs, Table
from .variants import INPUTS

SEED = 6_000_001  # of the first scenario; each has its own
REFERENCE = "window"
ALONE = "alone"
VARIANTS = ("window", "frame", "frame:8", "frame:gaussian:8", "frame:early=4", ALONE)
LEGEND = f"reference: {REFERENCE}; whiskers: standard error of the difference"


@dataclass(frozen=True)
class Way:
    timing: str
    border: str = "linear"
    blend: int = 0
    early: int = 0


@dataclass(frozen=True)
class Scenario:
    """backgrounds: of more events than any length has."""

    colour: str
    shape: str
    motion: str
    backgrounds: tuple[str, ...]

    def events(self, every: int, frames: int) -> list[timeline.Event]:
        """Events of `every` pixel frames; what is left at the end belongs to the last one."""
        starts = range(0, max(frames - every + 1, 1), every)
        lines = [f"{s}f: on a {b} background" for s, b in zip(starts, self.backgrounds, strict=False)]
        return timeline.parse_timeline("\n".join(lines), frames, world.FPS)


def scenarios(count: int) -> list[Scenario]:
    """Always the same; of motions and shapes equally many, backgrounds at random, no two alike in a row."""
    found = []
    for i in range(count):
        rng = random.Random(f"timing {i}")
        backgrounds = [rng.choice(list(world.BACKGROUNDS))]
        while len(backgrounds) < 100:
            backgrounds.append(rng.choice([b for b in world.BACKGROUNDS if b != backgrounds[-1]]))
        colours = list(world.COLOURS)
        found.append(Scenario(
            colours[i % len(colours)], world.SHAPES[i // 2 % len(world.SHAPES)], world.MOTIONS[i % len(world.MOTIONS)],
            tuple(backgrounds),
        ))  # fmt: skip
    return found


def variant(text: str) -> Way:
    """ "frame:gaussian:8" -> what it means. Raises ValueError."""
    found = re.fullmatch(rf"({'|'.join(TIMINGS)})(:(?:{'|'.join(BORDERS)}))?(:\d+)?(:early=\d+)?", text)
    if text == ALONE:
        return Way(ALONE)
    if not found:
        ways = f"{'|'.join(TIMINGS)}[:{'|'.join(BORDERS)}][:blend][:early=N]"
        raise ValueError(f"--variants: {text} is neither {ALONE} nor {ways}")
    timing, border, blend, early = (part and part.lstrip(":").removeprefix("early=") for part in found.groups())
    return Way(timing, border or "linear", int(blend or 0), int(early or 0))


def parse(argv=None):
    parser = command.parser("timing", __doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="TIMING[:BORDER][:BLEND][:early=N]")
    parser.add_argument("--every", nargs="+", type=int, default=[12, 16, 24, 49, 97], help="pixel frames of an event")
    parser.add_argument("--frames", type=int, default=293, help="pixel frames of the video")
    parser.add_argument("--scenarios", type=int, default=24)
    command.run_options(parser, 24)
    args = parser.parse_args(argv)
    try:
        args.table = {text: variant(text) for text in args.variants}
    except ValueError as error:
        parser.error(str(error))
    least = max(4, *(max(way.blend, way.early + 1) for way in args.table.values()))
    if min(args.every) < least or max(args.every) * 2 > decoded(args.frames):
        parser.error(
            f"--every {' '.join(map(str, args.every))}: at least {least} (4, the largest blend, more than the largest "
            f"early), at most half of the video ({decoded(args.frames)})"
        )
    return args


def sample(demo: Demo, way: Way, scenario: Scenario, every: int, seed: int):
    """(video [T, H, W, 3], events, window evaluations, seconds without the VAE)."""
    frames = demo.args.frames
    events = scenario.events(every, decoded(frames))
    ordinary, prompts = timeline.join_prompts(world.prompt(scenario.colour, scenario.shape, scenario.motion), events)
    prompts = [prompt.replace(", on a", " on a") for prompt in prompts]  # as in the model's training
    (sampler,) = core.KSamplerSelect.execute("euler").result
    (noise,) = core.RandomNoise.execute(seed).result
    if way.timing == ALONE:
        clips = [
            demo.video(demo.model, demo.encode(prompt), noise, sampler, -(-(e.end - e.start - 1) // 4) * 4 + 1)
            for e, prompt in zip(events, prompts, strict=True)
        ]
        parts = [clip[0][: e.end - e.start] for (clip, _, _), e in zip(clips, events, strict=True)]
        return torch.cat(parts), events, sum(c[1] for c in clips), sum(c[2] for c in clips)
    borders = [0, *(e.start - way.early for e in events[1:]), events[-1].end]
    told = [replace(e, start=a, end=b) for e, a, b in zip(events, borders, borders[1:], strict=False)]
    spans = timeline.spans(told, way.blend, way.timing, way.border)
    model, _ = demo.windows(**INPUTS["windows"])
    positive = encode_timeline(demo.clip, ordinary, prompts, spans)
    videos, evaluations, seconds = demo.video(model, positive, noise, sampler, frames)
    return videos[0], events, evaluations, seconds


def key_of(args, weights: str, way: Way, scenario: Scenario, every: int, seed: int) -> str:
    what = [asdict(way), asdict(scenario), every, args.frames, seed, args.steps, args.cfg, weights]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def run(args, runs: Runs, demo: Demo, chosen: list[Scenario]) -> None:
    """Sample and measure all that is missing, scenario by scenario: a break leaves all variants about as far."""
    for i, scenario in enumerate(chosen):
        for every in args.every:
            for label, way in args.table.items():
                key = key_of(args, demo.hash, way, scenario, every, SEED + i)
                if key in runs.found or not runs.mine(key):
                    continue
                with torch.inference_mode():
                    video, events, evaluations, seconds = sample(demo, way, scenario, every, SEED + i)
                    found = switches.measure(
                        reader.read(video), [(e.start, e.end) for e in events], scenario.backgrounds[: len(events)],
                        scenario.motion, scenario.colour, scenario.shape,
                    )  # fmt: skip
                runs.add({
                    "key": key, "variant": label, "every": every, "scenario": i, "seed": SEED + i,
                    "evaluations": evaluations, "seconds": seconds,
                    "metrics": {k: None if math.isnan(v) else v for k, v in found.items()},
                })  # fmt: skip
                print(f"scenario {i}, events of {every}, {label}: {seconds:.1f} s", flush=True)


def table(args, runs: Runs, weights: str, chosen: list[Scenario], every: int) -> Table:
    """Scenarios that all variants have run."""
    keys = {
        label: [key_of(args, weights, way, s, every, SEED + i) for i, s in enumerate(chosen)]
        for label, way in {REFERENCE: variant(REFERENCE), **args.table}.items()
    }
    done = [i for i in range(len(chosen)) if all(key[i] in runs.found for key in keys.values())]
    rows = {label: [runs.found[key[i]] for i in done] for label, key in keys.items()}
    return Table(f"Events of {every} frames: {len(done)} scenarios", switches.METRICS, rows, rows[REFERENCE], REFERENCE)


def report(args, tables: list[Table], weights: str) -> str:
    words = ["--variants", *args.variants, "--every", *map(str, args.every), "--frames", str(args.frames)]
    words += ["--scenarios", str(args.scenarios), "--steps", str(args.steps), "--cfg", f"{args.cfg:g}"]
    lines = [
        "# Events by window and by frame on the demo model", "",
        f"Written by `{command.line('timing', *words)}` (weights {weights}).", "",
        f"One subject with one motion, before a background that changes with each event; {decoded(args.frames)} pixel "
        f"frames, {args.steps} steps, simple schedule, CFG {args.cfg:g}; windows of {CLIP} pixel frames. One video per "
        "scenario and variant, all variants from the same seeds. `window`: a window takes the prompt at its centre. "
        "`frame`: each frame reads its own event's text; the number is the blend in pixel frames, `gaussian` Prompt "
        "Relay's border. `early=N`: events are told N frames before they are measured. `alone`: a clip for each "
        "event, what the model shows at best.", "",
        f"\u00b1 is the standard error of the difference to {REFERENCE}, paired by scenario (from {PAIRS} on). "
        f"**Bold**: better than {REFERENCE} by more than twice that, *italic*: worse by more than twice that; all else "
        "may be noise.", "",
        "Frames right: % that show their own event's background. Events seen: % of which at least half of the frames "
        "do. Switches seen: % of the borders where the one background gives way to the other; of these, off by: how "
        "many frames the switch lies from its border, late by: after it. Motion right: % of the clips with the motion "
        "of the global prompt. Subject right: % of the frames with its colour, and with its shape. Formulas: "
        "`metrics/switches.py`. Evaluations (of a window by the model, each CFG branch one) and seconds (of sampling, "
        f"without the VAE): times {REFERENCE}'s.",
    ]  # fmt: skip
    for part in tables:
        lines += ["", f"## {part.title}", "", part.spent(), ""]
        lines += part.markdown(list(part.metrics), ("evaluations", "seconds"))
    return "\n".join([*lines, "", "![metrics](timing.png)", ""])


def main(argv=None):
    args = parse(argv)
    runs = Runs(args.out / "timing_runs.jsonl", args.resume, args.claims)
    command.side_by_side("timing", argv, args, runs)
    demo, chosen = Demo(args), scenarios(args.scenarios)
    run(args, runs, demo, chosen)
    if args.claims:
        return
    tables = [t for t in (table(args, runs, demo.hash, chosen, every) for every in args.every) if t.reference]
    text = report(args, tables, demo.hash)
    (args.out / "timing.md").write_text(text, encoding="utf-8")
    plots.chart([(t.title, t.panels()) for t in tables], list(tables[0].rows), LEGEND, args.out / "timing.png")
    print(text)
