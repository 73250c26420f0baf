"""The filmstrips on the help pages and in README: videos of the demo model, one per row, as the table below has them.

    COMFYUI_PATH=... python -m benchmarks films [NAME ...]

Each picture of FILMS is written to web/docs: sheets of a prompt of quality.py's, or of a scenario of events.py's, with
their seeds and variants, under each other; fewer steps than theirs make other videos of them. Look at what comes out,
and at the captions on the pages.
"""

from dataclasses import dataclass

import torch
from PIL import Image

from . import command, events, plots, quality, scenarios, variants

DOCS = command.ROOT / "web" / "docs"
WIDTH, JPEG = 1000, 88  # pixels; its quality
X3, X6 = 147, 293  # pixel frames


@dataclass(frozen=True)
class Sheet:
    """Rows (name: variant) of the same prompt, or scenario of several events; each by its place in its benchmark."""

    rows: dict[str, str]
    prompt: int | None = None
    scenario: int | None = None
    frames: int = X3  # of a prompt's videos


ANCHORS = {"off": "genl"} | {f"anchor {a}": f"genl:abam=on,anchor={a}" for a in (0.1, 0.3, 0.6, 0.9)}
NEIGHBOURS = {
    "without": "genl", "the last layer": "genl:ditctrl=on,ditctrl.first_layer=-1",
    "the last three": "genl:ditctrl=on,ditctrl.first_layer=-3",
    "the last, overlap 36": "genl:overlap=36,ditctrl=on,ditctrl.first_layer=-1",
}  # fmt: skip
SPREAD = {"without": "genl"} | {
    f"{n} frames, bias {b}": f"genl:infinity=on,global_frames={n},bias={b}" for n in (16, 4) for b in (10, 0)
}
SYNCOS = {"plain windows": "genl", "fast": "syncos_fast", "balanced": "syncos_balanced", "paper": "syncos_paper"}
METHODS = {
    "plain windows": "genl", "FreeNoise's noise": "freenoise", "GLC-Diffusion": "ours",
    "GLC-Diffusion, anchor 0.3": "ours:anchor=0.3",
}  # fmt: skip
FILMS = {
    "longtake_methods": [Sheet(METHODS, prompt=i, frames=X6) for i in (1, 0)],
    "LongTakeABAM": [
        Sheet(ANCHORS | {
            "0.3, first half of the schedule": "genl:abam=on,anchor=0.3,abam.end_percent=0.5",
            "0.3, second half of the schedule": "genl:abam=on,anchor=0.3,abam.start_percent=0.5",
        }, prompt=1),
        Sheet({name: ANCHORS[name] for name in ("off", "anchor 0.1", "anchor 0.3")}, prompt=0),
    ],
    "LongTakeNoiseReinit": [
        Sheet({
            "random": "genl", "shuffle": "freenoise",
            "shuffle_and_mix, d_s 0.25, d_t 0.25": "freenoise:mode=shuffle_and_mix",
            "shuffle_and_mix, d_s 0.1, d_t 0.1": "freenoise:mode=shuffle_and_mix,d_s=0.1,d_t=0.1",
            "shuffle_and_mix, d_s 0.5, d_t 0.5": "freenoise:mode=shuffle_and_mix,d_s=0.5,d_t=0.5",
            "mix, d_s 0.25, d_t 0.25": "freenoise:mode=mix", "spec_mix": "freenoise:mode=spec_mix",
        }, prompt=1),
    ],
    "LongTakeDiTCtrl": [Sheet(NEIGHBOURS, prompt=i) for i in (1, 3)],
    "LongTakeVideoInfinity": [Sheet(SPREAD, prompt=i) for i in (1, 3, 0)],
    "LongTakeSynCoSKSampler": [Sheet(SYNCOS, scenario=i) for i in (3, 2)],
}  # fmt: skip


def sampled(demo: quality.Demo, sheet: Sheet) -> tuple[str, dict[str, torch.Tensor]]:
    """(title, the video of each row [T, H, W, 3])."""
    if sheet.scenario is not None:
        scenario, seed = scenarios.scenarios()[sheet.scenario], events.SEED + sheet.scenario
        ways = {name: events.variant(text, [])[1] for name, text in sheet.rows.items()}
        return scenario.title, {name: events.sample(demo, way, scenario, seed)[0] for name, way in ways.items()}
    prompts = quality.Prompts(1, sheet.prompt)
    parts = {name: variants.variant(text, [])[1] for name, text in sheet.rows.items()}
    videos = {name: demo.sample(p, sheet.frames, prompts.specs, prompts.seeds)[0][0] for name, p in parts.items()}
    return f'"{demo.prompt(prompts.specs[0])}", {quality.decoded(sheet.frames)} frames', videos


def picture(demo: quality.Demo, sheets: list[Sheet]) -> Image.Image:
    """The sheets under each other."""
    drawn = []
    for sheet in sheets:
        title, videos = sampled(demo, sheet)
        strips = {name: plots.strip(video) for name, video in videos.items()}
        drawn.append(plots.film_sheet(title, len(next(iter(videos.values()))), strips))
    image = Image.new("RGB", (drawn[0].width, sum(one.height for one in drawn)))
    for i, one in enumerate(drawn):
        image.paste(one, (0, sum(above.height for above in drawn[:i])))
    return image.resize((WIDTH, round(image.height * WIDTH / image.width)), Image.Resampling.LANCZOS)


def main(argv=None):
    parser = command.parser("films", __doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(FILMS)}; default: all")
    command.sampling_options(parser, 20)
    parser.set_defaults(out=DOCS)
    args = parser.parse_args(argv)
    if unknown := [name for name in args.names if name not in FILMS]:
        parser.error(f"{', '.join(unknown)}: not one of {', '.join(FILMS)}")
    args.out.mkdir(parents=True, exist_ok=True)
    demo = quality.Demo(args)
    for name in args.names or FILMS:
        with torch.inference_mode():
            image = picture(demo, FILMS[name])
        image.save(args.out / f"{name}.jpg", quality=JPEG)
        print(args.out / f"{name}.jpg", flush=True)
