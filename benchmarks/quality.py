"""GLC-Diffusion and its parts on long videos of the demo model: the paper's ablation (Table 2), measured here.

    COMFYUI_PATH=... python -m benchmarks quality [--resume]

Each variant (variants.py) is a composition of the pack's own nodes around ComfyUI's SamplerCustomAdvanced;
metrics/video.py measures what the analytic reader sees in the videos. Writes glc.md and glc.png; glc_runs.jsonl keeps
every finished run. --resume goes on from there. It knows settings and weights, but not code: after a change to a node,
start without.

A trial of other settings: --variants genl ours ours:gamma0=0.05,anchor=0.3 (for one variant), or --set gamma0=0.05 (for
every variant but genl, with which all are compared). Parts: windows, noise, abam, vmcr, fifo, mevg; "vmcr=off": without
one.
"""

import hashlib
import importlib
import json
import math
import random
import time
from pathlib import Path

import comfy.utils
import comfy_extras.nodes_custom_sampler as core
import torch
from comfy.patcher_extension import WrappersMP
from PIL import Image

from ..backbone.demo import loader, reader, world
from ..backbone.demo.quality import omit
from ..samplers.adapters.frame_levels import takes_levels
from ..samplers.windows import WindowSettings, latent_length, latent_overlap
from ..samplers.windows import boundaries as window_boundaries
from . import command, plots, rivals
from .metrics import events as of_events
from .metrics.video import METRICS, measure
from .tables import LEGEND, PAIRS, Runs, Table
from .variants import INPUTS, MEANING, REFERENCE, VARIANTS, effective, variant

CLIP = 49  # pixel frames per window, the demo model's clip
SEED = 8_000_001  # of the first prompt; each prompt has its own, whatever the batch
ATTENTION = {  # part: its node's module and id
    "abam": ("abam", "LongTakeABAM"), "ditctrl": ("shared_attention", "LongTakeDiTCtrl"),
    "infinity": ("shared_attention", "LongTakeVideoInfinity"),
}  # fmt: skip
OWN_CLIPS = {"fifo": "LongTakeFIFOSampler", "mevg": "LongTakeMEVGSampler"}  # part, and module: the SAMPLER's node
SHEETS = 4  # prompts that --sheet draws
MEASURED = (
    "Drifts: distance to the first 49 frames, in % (colours: of a channel's range; size: of the size; shape, mark, "
    "which is the face: of frames). Seams: change at the static windows' boundaries over the change around them, about "
    "1 when nothing shows (MAE of the pixels; acceleration of the subject's track, which a real bounce raises too). "
    "Jerk and speed: % of the picture's side per frame^3 and per frame; a slow or still video is smooth for free. "
    "Flicker as in VBench, in %. Sharpness: variance of the Laplacian. Formulas: `metrics/video.py`."
)


def parse(argv=None):
    parser = command.parser("quality", __doc__)
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), metavar="NAME[:KEY=VALUE,...]")
    parser.add_argument("--set", nargs="+", action="extend", default=[], metavar="KEY=VALUE")
    parser.add_argument("--lengths", type=int, nargs="+", default=[147, 293], help="pixel frames")
    parser.add_argument("--prompts", type=int, default=24, help="held-out prompts, 1..60; every second partly open")
    parser.add_argument("--skip", type=int, default=0, help="leave out the first so many held-out prompts")
    command.run_options(parser, 24)
    parser.add_argument("--batch", type=int, default=6, help="prompts per sampler call")
    parser.add_argument("--sheet", type=Path, help=f"folder for filmstrips of the first {SHEETS} prompts")
    args = parser.parse_args(argv)
    if args.skip < 0 or not 1 <= args.prompts <= 60 - args.skip:
        parser.error(f"--prompts {args.prompts} --skip {args.skip}: the held-out prompts are 60")
    if min(args.lengths) < 2 * CLIP:
        parser.error(f"--lengths: {min(args.lengths)} is less than two clips ({2 * CLIP} frames)")
    try:
        args.table = dict(variant(text, args.set) for text in args.variants)
    except ValueError as error:
        parser.error(str(error))
    return args


class Prompts:
    """Held-out prompts: their attributes (None: left open in every second one) and seeds."""

    def __init__(self, count: int, skip: int = 0):
        specs = [omit(s, random.Random(f"open {i}")) if i % 2 else s for i, s in enumerate(world.held_out())]
        self.specs = specs[skip : skip + count]
        self.seeds = [SEED + i for i in range(skip, skip + count)]


class EachItsOwn:
    """NOISE for a batch: each video's from its own generator, so that it does not depend on its neighbours."""

    def __init__(self, noises: list):
        self.noises, self.seed = noises, noises[0].seed

    def generate_noise(self, latent: dict):
        samples = latent["samples"].split(1)
        rows = [n.generate_noise({"samples": s}) for n, s in zip(self.noises, samples, strict=True)]
        return torch.cat(rows)


class Demo:
    """The demo model, videos sampled from it, and what its reader sees in them. papers.py puts real models here."""

    clip_frames = CLIP
    metrics, event_metrics = METRICS, of_events.METRICS

    def __init__(self, args):
        if args.weights:
            loader.FOLDER = args.weights.resolve()
        comfy.utils.PROGRESS_BAR_ENABLED = False
        self.args = args
        self.model, self.clip, self.vae = loader.load_model(), loader.load_clip(), loader.load_vae()
        files = [loader.FOLDER / f"{name}.safetensors" for name in ("video_model", "text", "vae")]
        self.hash = hashlib.sha256(b"".join(f.read_bytes() for f in files)).hexdigest()[:12]

    def encode(self, text: str) -> list:
        return self.clip.encode_from_tokens_scheduled(self.clip.tokenize(text))

    def prompt(self, spec) -> str:
        return world.prompt(*spec)

    def windows(self, **inputs):
        """(MODEL that samples through windows of a clip, their settings)."""
        make = node("windows", "LongTakeWindowScheduler").execute
        inputs["overlap"] = overlap_of(inputs, self.clip_frames)
        return make(model=self.model, window_length=self.clip_frames, window_batch=0, length=0, **inputs).result[:2]

    def rival(self, parts: dict):
        """The MODEL with another pack's windows, where `parts` names them; else None."""
        name = next((name for name in rivals.MODELS if name in parts), None)
        if name is None:
            return None
        inputs, length = dict(parts[name]), latent_length(self.clip_frames, 4)
        overlap = latent_overlap(overlap_of(inputs, self.clip_frames), length, 4)
        del inputs["overlap"]
        return rivals.MODELS[name](self.model, length, overlap, **inputs)

    def can(self, parts: dict) -> bool:
        """Whether the model can have these parts: FIFO-Diffusion gives each frame a noise level of its own."""
        return "fifo" not in parts or takes_levels(self.model.get_model_object("diffusion_model"))

    def own_clips(self, parts: dict):
        """The SAMPLER of a method that brings clips of its own, where `parts` names one; else None."""
        name = next((name for name in OWN_CLIPS if name in parts), None)
        if name is None:
            return None
        return node(name, OWN_CLIPS[name]).execute(window_length=self.clip_frames, **parts[name]).result[0]

    def measure(self, video: torch.Tensor, spec, boundaries: list[int]) -> dict[str, float]:
        return measure(video, reader.read(video), spec, boundaries)

    def measure_events(self, video: torch.Tensor, scenario, boundaries: list[int]) -> dict[str, float]:
        return of_events.measure(video, reader.read(video), scenario, boundaries)

    def warm_up(self, spec) -> None:
        """What only the first call costs is no variant's cost."""
        self.sample({}, self.clip_frames, [spec], [0])

    def row(self, video) -> dict:
        """What a run's row says of its video besides."""
        return {}

    def latent(self, count: int, frames: int) -> torch.Tensor:
        return torch.zeros(count, 16, latent_length(frames, 4), world.SIZE // 8, world.SIZE // 8)

    def decode(self, samples: torch.Tensor):
        """Videos [N, T, H, W, 3]."""
        video = self.vae.decode(samples)
        return video.reshape(len(samples), -1, *video.shape[-3:]).float().cpu()

    def sample(self, parts: dict, frames: int, specs: list[tuple], seeds: list[int]):
        """What `video` returns, for the variant with these parts, and a prompt and a seed for each video."""
        rival = self.rival(parts)
        if rival:  # core's loop takes a batch's timesteps by the window's frames: one video a call
            positives = [self.encode(self.prompt(spec)) for spec in specs]
            noises = [core.RandomNoise.execute(seed).result[0] for seed in seeds]
            euler, = core.KSamplerSelect.execute("euler").result
            each = [self.video(rival, *one, euler, frames) for one in zip(positives, noises, strict=True)]
            videos, evaluations, seconds = zip(*each, strict=True)
            return [v for one in videos for v in one], evaluations[0], sum(seconds) / len(seconds)
        scheduled, windows = self.windows(**(parts.get("windows") or INPUTS["windows"]))
        model = scheduled if "windows" in parts else self.model
        model = attending(model, parts)
        if "noise" in parts:
            make = node("noise", "LongTakeNoiseReinit").execute
            noises = [make(noise_seed=seed, windows=windows, **parts["noise"]).result[0] for seed in seeds]
        else:
            noises = [core.RandomNoise.execute(seed).result[0] for seed in seeds]
        sampler = self.own_clips(parts) or core.KSamplerSelect.execute("euler").result[0]
        if "vmcr" in parts:
            sampler, = node("vmcr", "LongTakeVMCR").execute(sampler=sampler, **parts["vmcr"]).result
        positive = [[torch.cat([self.encode(self.prompt(s))[0][0] for s in specs]), {}]]
        return self.video(model, positive, EachItsOwn(noises), sampler, frames, len(specs))

    def video(self, model, positive: list, noise, sampler, frames: int, count: int = 1):
        """(videos [N, T, H, W, 3], window evaluations per video, seconds per video without the VAE).

        Counted are the latent frames that reach the diffusion model, in units of a window.
        """
        seen = 0

        def see(executor, x, *args, **kwargs):
            nonlocal seen
            seen += x.shape[0] * x.shape[2]
            return executor(x, *args, **kwargs)

        model = model.clone()
        model.add_wrapper_with_key(WrappersMP.DIFFUSION_MODEL, "benchmark", see)
        guider, = core.CFGGuider.execute(model, positive, self.encode(""), self.args.cfg).result
        sigmas, = core.BasicScheduler.execute(model, "simple", self.args.steps, 1.0).result
        latent = self.latent(count, frames)
        begin = time.perf_counter()
        out = core.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, {"samples": latent})
        seconds = time.perf_counter() - begin
        evaluations = seen / (latent_length(self.clip_frames, 4) * count)
        return self.decode(out.result[0]["samples"]), evaluations, seconds / count


def node(module: str, name: str):
    """A node of the pack by its id."""
    classes = importlib.import_module(f"...nodes.{module}", __name__).NODES
    return next(c for c in classes if c.define_schema().node_id == name)


def attending(model, parts: dict):
    """The MODEL with those of the parts that are attention between windows, and ComfyUI's LazyCache."""
    for part, (module, name) in ATTENTION.items():
        if part in parts:
            model, = node(module, name).execute(model=model, cache="auto", **parts[part]).result
    if "lazy" in parts:
        from comfy_extras.nodes_easycache import LazyCacheNode

        model, = LazyCacheNode.execute(model, verbose=False, **parts["lazy"]).result
    return model


def overlap_of(inputs: dict, clip: int) -> int:
    """A variant's overlap, which is told for the demo model's clip, in pixel frames of another one."""
    return round(inputs["overlap"] * clip / CLIP)


def boundaries(parts: dict, frames: int, clip: int = CLIP) -> list[int]:
    """First pixel frames of the static windows, after the first one: where windows that never move would meet.

    Variants whose windows move, or that have none, are judged at the same places.
    """
    length = latent_length(clip, 4)
    overlap = latent_overlap(overlap_of(parts.get("windows") or INPUTS["windows"], clip), length, 4)
    return window_boundaries(WindowSettings(length, overlap), frames)


def key_of(args, weights: str, parts: dict, frames: int, spec: tuple, seed: int) -> str:
    what = [effective(parts), frames, spec, seed, args.steps, args.cfg, weights]
    return hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:16]


def run(args, runs: Runs, demo: Demo, prompts: Prompts) -> None:
    """Sample and measure all that is missing, batch by batch: a break leaves all variants about as far."""
    if args.sheet:
        (args.sheet / "strips").mkdir(parents=True, exist_ok=True)
    every = range(len(prompts.specs))
    with torch.inference_mode():
        demo.warm_up(prompts.specs[0])
    for length in args.lengths:
        for first in every[:: args.batch]:
            for label, parts in args.table.items():
                key = {i: key_of(args, demo.hash, parts, length, prompts.specs[i], prompts.seeds[i]) for i in every}
                strips = {i: args.sheet / "strips" / f"{key[i]}.png" for i in every[:SHEETS]} if args.sheet else {}
                todo = [
                    i for i in every[first : first + args.batch]
                    if key[i] not in runs.found or (i in strips and not strips[i].exists())
                ]  # fmt: skip
                if not todo or not runs.mine(key[todo[0]]):
                    continue
                with torch.inference_mode():
                    videos, evaluations, seconds = demo.sample(
                        parts, length, [prompts.specs[i] for i in todo], [prompts.seeds[i] for i in todo]
                    )
                for i, video in zip(todo, videos, strict=True):
                    found = demo.measure(video, prompts.specs[i], boundaries(parts, length, demo.clip_frames))
                    runs.add({
                        "key": key[i], "variant": label, "length": length, "prompt": i + args.skip,
                        "spec": prompts.specs[i], "seed": prompts.seeds[i], "steps": args.steps, "cfg": args.cfg,
                        "weights": demo.hash, "evaluations": evaluations, "seconds": seconds,
                        "settings": effective(parts), **demo.row(video),
                        "metrics": {k: None if math.isnan(v) else v for k, v in found.items()},
                    })  # fmt: skip
                    if i in strips:
                        plots.strip(video).save(strips[i])
                print(f"{length} frames, {label}: prompts {todo}, {seconds:.1f} s each", flush=True)


def table(args, runs: Runs, weights: str, prompts: Prompts, length: int) -> Table:
    """The runs of one length."""
    def of(parts):
        keys = [key_of(args, weights, parts, length, *p) for p in zip(prompts.specs, prompts.seeds, strict=True)]
        return [runs.found.get(key) for key in keys]

    rows = {label: of(parts) for label, parts in args.table.items()}
    return Table(title(length), METRICS, rows, of(variant(REFERENCE, [])[1]))


def command_line(args) -> str:
    """The command line, without what says only where files are."""
    words = ["--variants", *args.variants] if args.variants != list(VARIANTS) else []
    words += ["--set", *args.set] if args.set else []
    words += ["--lengths", *map(str, args.lengths), "--prompts", str(args.prompts)]
    words += [*(["--skip", str(args.skip)] if args.skip else []), "--steps", str(args.steps)]
    return command.line("quality", *words, "--cfg", f"{args.cfg:g}", "--batch", str(args.batch))


def report(args, tables: list[Table], weights: str) -> str:
    main = [n for n, m in METRICS.items() if m.main]
    lines = [
        "# GLC-Diffusion and its parts on the demo model", "",
        f"Written by `{command_line(args)}` (weights {weights}).", "",
        f"Means over {args.prompts} held-out prompts, one video each; every second prompt leaves one or two attributes "
        f"open, so that windows can disagree on them. {args.steps} steps, euler, simple, CFG {args.cfg:g}; windows of "
        f"{CLIP} pixel frames. All variants start from the same seeds.", "",
        f"\u00b1 is the standard error of the difference to {REFERENCE}, paired by prompt (from {PAIRS} prompts on). "
        f"**Bold**: better than {REFERENCE} by more than twice that, *italic*: worse by more than twice that; all else "
        "may be noise.", "",
        f"{MEASURED} Evaluations (of a window by the model, both CFG branches) and seconds (of sampling, without the "
        f"VAE): times {REFERENCE}'s.", "",
        *(f"- `{name}`: {MEANING[name]}" for name in dict.fromkeys(label.partition(":")[0] for label in args.table)),
    ]  # fmt: skip
    for table in tables:
        lines += ["", f"## {table.title}", "", table.spent(), "", *table.markdown(main, ("evaluations", "seconds"))]
        lines += ["", "More:", "", *table.markdown([n for n in METRICS if n not in main])]
    return "\n".join(lines) + "\n"


def decoded(length: int) -> int:
    """Pixel frames that come back from a latent for `length`: the VAE rounds down to 4 n + 1."""
    return (length - 1) // 4 * 4 + 1


def title(length: int) -> str:
    return f"x{round(length / CLIP)}: {decoded(length)} frames"


def film(args, prompts: Prompts, weights: str) -> None:
    """One sheet per length and prompt, a row per variant."""
    for length in args.lengths:
        for i, (spec, seed) in enumerate(zip(prompts.specs[:SHEETS], prompts.seeds, strict=False)):
            strips = {
                label: Image.open(args.sheet / "strips" / f"{key_of(args, weights, parts, length, spec, seed)}.png")
                for label, parts in args.table.items()
            }
            name = f"x{round(length / CLIP)}_prompt{i + args.skip:02d}.png"
            sheet = plots.film_sheet(f"{world.prompt(*spec)}   ({title(length)})", decoded(length), strips)
            sheet.save(args.sheet / name)


def main(argv=None):
    args = parse(argv)
    runs = Runs(args.out / "glc_runs.jsonl", args.resume, args.claims)
    command.side_by_side("quality", argv, args, runs)
    demo, prompts = Demo(args), Prompts(args.prompts, args.skip)
    run(args, runs, demo, prompts)
    if args.claims:
        return
    tables = [table(args, runs, demo.hash, prompts, length) for length in args.lengths]
    text = report(args, tables, demo.hash)
    (args.out / "glc.md").write_text(text, encoding="utf-8")
    plots.chart([(t.title, t.panels()) for t in tables], list(args.table), LEGEND, args.out / "glc.png")
    if args.sheet:
        film(args, prompts, demo.hash)
    print(text)

