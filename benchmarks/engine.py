"""The window engine against (a) the sum of its model calls and (b) ComfyUI's own context windows.

    COMFYUI_PATH=... python -m benchmarks engine [--weights model.safetensors] [--write]

Time: within one sampling run, on the same latent and sigma, whole evaluations (all windows, both CFG branches) of each
contender take turns; the table has medians, and the median of the ratios within a round. "model calls" are the same
window batches handed to ComfyUI's calc_cond_batch directly. Memory: one process per case, a sampling run of two steps;
the process's peak, and that above what was in use once the model was loaded.
"""

import argparse
import json
import platform
import statistics
import sys
import time
from dataclasses import replace
from pathlib import Path

import comfy.model_management
import comfy.sample
import comfy.samplers
import comfy.sd
import psutil
import torch
from comfy import context_windows

from ..backbone.demo.loader import load_model
from ..samplers.adapters.engine import LongTakeContextHandler
from ..samplers.adapters.steps import Run, begun
from ..samplers.adapters.window import NEW_CORE
from ..samplers.windows import WindowSettings, group, latent_length, latent_overlap, local_windows
from . import command

CLIP = 49  # pixel frames per window, the demo model's clip
OVERLAP = 28
LENGTHS = {1: 49, 3: 145, 6: 293, 20: 961}  # pixel frames per multiple of the clip
RESULT = command.RESULTS / "engine.md"


def parse(argv=None):
    parser = command.parser("engine", __doc__)
    parser.add_argument("--weights", help="a Wan model (safetensors); default: the pack's demo model")
    parser.add_argument("--scales", type=int, nargs="+", default=[3, 6, 20], choices=list(LENGTHS))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 4, 8], help="windows per call; 0: automatic")
    parser.add_argument("--size", type=int, default=64, help="width and height in pixels")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--write", action="store_true", help=f"write {RESULT.parent.name}/{RESULT.name}")
    parser.add_argument("--case", help=argparse.SUPPRESS)  # a child process: memory:<contender>:<scale>
    return parser.parse_args(argv)


class Setup:
    """The model, a long noise latent and its conditioning."""

    def __init__(self, args, scale: int):
        if args.threads:
            torch.set_num_threads(args.threads)
        if args.weights:
            self.model = comfy.sd.load_diffusion_model(args.weights)
        else:
            self.model = load_model()
        length = latent_length(CLIP, 4)
        self.settings = WindowSettings(length, latent_overlap(OVERLAP, length, 4), window_batch=1)
        shape = (1, 16, latent_length(LENGTHS[scale], 4), args.size // 8, args.size // 8)
        self.noise = torch.randn(shape, generator=torch.Generator().manual_seed(0))
        rows = torch.randn((2, 1, 12, 4096), generator=torch.Generator().manual_seed(1))
        self.positive, self.negative = [[rows[0], {}]], [[rows[1], {}]]

    def sample(self, model, sampler, steps: int):
        sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)
        return comfy.sample.sample_custom(
            model, self.noise, 4.0, sampler, sigmas, self.positive, self.negative, self.noise * 0, disable_pbar=True
        )


def contenders(setup, batches) -> dict:
    """Name -> context handler."""
    extra = {"causal_window_fix": False} if NEW_CORE else {}
    handlers = {
        "core": context_windows.IndexListContextHandler(
            context_windows.get_matching_context_schedule("standard_static"),
            context_windows.get_matching_fuse_method("pyramid"),
            context_length=setup.settings.length, context_overlap=setup.settings.overlap, dim=2, **extra,
        )
    }  # fmt: skip
    return handlers | {f"ours {n}": LongTakeContextHandler(replace(setup.settings, window_batch=n)) for n in batches}


def measure_time(args, scale: int) -> dict[str, list[float]]:
    """Seconds of each round, per contender and for the bare model calls ("calls n")."""
    setup = Setup(args, scale)
    handlers = contenders(setup, args.batches)
    windows = local_windows(setup.settings, setup.noise.shape[2], 0)
    seconds: dict[str, list[float]] = {}

    def timed(name, function):
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        start = time.perf_counter()
        function()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        seconds.setdefault(name, []).append(time.perf_counter() - start)

    def rounds(model, x, sigmas, extra_args, **_):
        guider = model.inner_model
        conds = [guider.conds["positive"], guider.conds["negative"]]
        options, sigma = extra_args["model_options"], x.new_ones([1]) * sigmas[0]

        def evaluate(x, sigma, options):
            comfy.samplers.calc_cond_batch(guider.inner_model, conds, x, sigma, options)

        def calls(parts):
            for part in parts:
                evaluate(part, sigma.repeat(part.shape[0]), options)

        cut = [x[:, :, list(w.indices)] for w in windows]
        parts = {n: [torch.cat([cut[i] for i in g]) for g in group(len(cut), n)] for n in args.batches if n}
        # Each in a run of its own, as where a MODEL has windows: what the engine decides once is decided once.
        within = {name: begun({**options, "context_handler": handler}, Run()) for name, handler in handlers.items()}
        for _ in range(args.rounds + 1):  # the first one warms up
            for n, part in parts.items():
                timed(f"calls {n}", lambda part=part: calls(part))
            for name, own in within.items():
                timed(name, lambda own=own: evaluate(x, sigma, own))
        return x

    setup.sample(setup.model, comfy.samplers.KSAMPLER(rounds), 4)
    print(f"x{scale} on {comfy.model_management.get_torch_device()}: {len(windows)} windows", file=sys.stderr)
    return {name: values[1:] for name, values in seconds.items()}


def measure_memory(args, contender: str, scale: int) -> dict:
    """MB: in use once the model is loaded, peak of a two-step run, latent."""
    setup = Setup(args, scale)
    handler = contenders(setup, [1]).get(contender)
    model = setup.model.clone()
    if handler is not None and scale > 1:
        model.model_options["context_handler"] = handler
    comfy.model_management.load_models_gpu([model])
    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated() if cuda else memory("now")
    setup.sample(model, comfy.samplers.ksampler("euler"), 2)
    peak = torch.cuda.max_memory_allocated() if cuda else memory("peak")
    return {"before": before / 2**20, "peak": peak / 2**20, "latent": setup.noise.numel() * 4 / 2**20}


def memory(which: str) -> int:
    """Bytes of this process."""
    info = psutil.Process().memory_info()
    if which == "now":
        return info.rss
    if sys.platform == "win32":
        return info.peak_wset
    status = Path("/proc/self/status")
    if status.exists():  # Linux: ru_maxrss would start from the parent's
        return int(status.read_text().split("VmHWM:")[1].split()[0]) * 1024
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def child(args, case: str) -> dict:
    words = ["--case", case, "--size", str(args.size), *(["--weights", args.weights] if args.weights else [])]
    return command.child("engine", *words, *(["--threads", str(args.threads)] if args.threads else []))


def table(args) -> str:
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else f"CPU, {torch.get_num_threads()} threads"
    lines = [
        f"Measured on {device}, torch {torch.__version__}, Python {platform.python_version()}; windows of {CLIP} pixel "
        f"frames, overlap {OVERLAP}, {args.size}x{args.size}; medians of {args.rounds} rounds.",
        "",
        "Time of one evaluation of the whole video (all windows, both CFG branches):",
        "",
        "| length | windows per call | model calls | LongTake | LongTake / model calls | core | LongTake / core |",
        "|---|---|---|---|---|---|---|",
    ]
    for scale in args.scales:
        seconds = measure_time(args, scale)
        core = seconds["core"]
        for n in args.batches:
            ours, calls = seconds[f"ours {n}"], seconds.get(f"calls {n}")
            ratio = statistics.median(a / b for a, b in zip(ours, core, strict=True))
            over = statistics.median(a / b for a, b in zip(ours, calls, strict=True)) if calls else None
            lines.append(
                f"| x{scale} | {n or 'auto'} | {f'{statistics.median(calls):.3f} s' if calls else '-'} "
                f"| {statistics.median(ours):.3f} s | {f'{over:.3f}' if over else '-'} "
                f"| {statistics.median(core):.3f} s | {ratio:.3f} |"
            )
    lines += [
        "",
        "Peak memory of a sampling run (one window per call). Whole: the process. Run: above what was in use once the "
        "model was loaded. Ratios are against x1, without the latent itself.",
        "",
        "| length | latent | whole | whole / x1 | run | run / x1 | core's run |",
        "|---|---|---|---|---|---|---|",
    ]
    base = None
    for scale in [1, *(s for s in args.scales if s != 1)]:
        ours, core = (child(args, f"memory:{name}:{scale}") for name in ("ours 1", "core"))
        used = ours["peak"] - ours["before"]
        whole, net = ours["peak"] - ours["latent"], used - ours["latent"]
        base = base or (whole, net)
        lines.append(
            f"| x{scale} | {ours['latent']:.2f} MB | {ours['peak']:.1f} MB | {whole / base[0]:.2f} | {used:.1f} MB "
            f"| {net / base[1]:.2f} | {core['peak'] - core['before']:.1f} MB |"
        )
    return "\n".join(lines) + "\n"


def main(argv=None):
    args = parse(argv)
    if args.case:
        _, contender, scale = args.case.split(":")
        print(json.dumps(measure_memory(args, contender, int(scale))))
        return
    text = table(args)
    print(text)
    if args.write:
        RESULT.parent.mkdir(exist_ok=True)
        RESULT.write_text("# The window engine: time and memory\n\n" + text, encoding="utf-8")

