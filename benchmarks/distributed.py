"""Workers over Ray: wall time with 1, 2 and 4 of them, bytes on the wire, and a simulation of 8 to 64.

    COMFYUI_PATH=... python -m benchmarks distributed

Static windows of the demo model, one to a model call, each call on one thread; what is timed is a sampling step,
without the start of Ray and of its actors, which the report names. Every number of workers is measured in turn,
--rounds times, and the quickest step is taken: other programs only ever make one slower. The simulation hands out calls
as the pool does (samplers/workers.py), with the measured seconds and bytes of a call, or those of a large model.
Writes distributed.md and distributed.png.
"""

import argparse
import os
import random
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import comfy.sample
import torch
from PIL import Image, ImageDraw

from ..samplers.adapters.engine import apply_windows
from ..samplers.adapters.workers import WorkerSettings, apply_workers, held
from ..samplers.windows import WindowSettings, latent_length
from ..samplers.workers import DEPTH, Link, simulate
from . import command, plots
from .quality import CLIP, Demo

WINDOWS, WORKERS = (16, 64, 256), (8, 16, 32, 64)
RATES = {"10 Gbit/s": 1.25e9, "1 Gbit/s": 1.25e8}
DELAY = 2e-3  # seconds from a call's bytes to the worker's code, each way
STRAGGLERS = 8  # one worker in so many takes twice as long
# Wan at 480p, windows of 81 frames: latent [16, 21, 60, 104] in float32 to a worker, of two prompts back.
WAN = ("Wan at 480p, 10 s a window", 10.0, Link(0, DELAY, 4 * 16 * 21 * 60 * 104, 8 * 16 * 21 * 60 * 104))


@dataclass
class Run:
    """Of one number of workers: seconds per step, seconds until they were ready, bytes per step, the video."""

    step: float
    ready: float = 0.0
    sent: float = 0.0
    received: float = 0.0
    pace: float = 0.0
    calls: int = 0
    video: torch.Tensor | None = None


def parse(argv=None):
    parser = command.parser("distributed", __doc__)
    parser.add_argument("--frames", type=int, default=393, help="pixel frames")
    parser.add_argument("--side", type=int, default=16, help="latent pixels of height and width")
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--kills", type=int, default=20, help="workers killed in runs of their own, 0: none")
    parser.add_argument("--out", type=Path, default=command.RESULTS, help="folder")
    return parser.parse_args(argv)


def one(demo: Demo, args, count: int, each_step=lambda step: None) -> tuple[Run, list]:
    """A run, and the pool that it had."""
    length = latent_length(CLIP, 4)
    model = apply_windows(demo.model, WindowSettings(length, length // 2, window_batch=1))
    pools, ends = [], []

    def ended(step, *_):
        ends.append(time.perf_counter())
        each_step(step)

    model = apply_workers(model, WorkerSettings(count, gpus=0), pools.append)
    latent = torch.zeros(1, 16, (args.frames - 1) // 4 + 1, args.side, args.side)
    positive, negative = demo.encode("a red circle bouncing on a navy background"), demo.encode("")
    with torch.inference_mode():
        video = comfy.sample.sample(
            model, comfy.sample.prepare_noise(latent, 1), args.steps, 4.0, "euler", "simple", positive, negative,
            latent, disable_pbar=True, seed=1, callback=ended,
        )  # fmt: skip
    run = Run(min(b - a for a, b in zip(ends, ends[1:], strict=False)), video=video)
    for pool in pools:
        run.sent, run.received = pool.sent / args.steps, pool.received / args.steps
        run.pace, run.calls = min(pool.paces.known.values()), pool.calls // args.steps
    return run, pools


def measured(demo: Demo, args) -> dict[int, Run]:
    """By number of workers; 0: this process alone."""
    found: dict[int, Run] = {}
    began = time.perf_counter()
    with held(WorkerSettings(max(args.workers), gpus=0)):
        ready = time.perf_counter() - began
        for _ in range(args.rounds):
            for count in (0, *args.workers):
                run, _ = one(demo, args, count)
                run.ready = ready
                if count in found and not torch.equal(run.video, found[count].video):
                    raise SystemExit(f"two runs with {count} workers differ")
                if count not in found or run.step < found[count].step:
                    found[count] = run
    for count, run in found.items():
        if not torch.equal(run.video, found[0].video):
            raise SystemExit(f"{count} workers make another video")
    return found


def killed(demo: Demo, args, video: torch.Tensor, seconds: float) -> list[str]:
    """Workers killed with -9 at random moments, three of four one after the other, each in a run of its own: the same
    video each time. seconds: of a step."""
    rng, again, calls = random.Random(20), [], 0
    while len(again) < args.kills:
        with held(WorkerSettings(4, gpus=0)) as workers:
            for n, worker in enumerate(workers[: min(3, args.kills - len(again))]):
                step, delay = rng.randrange(args.steps - 1), rng.uniform(0, seconds)
                process = int(worker.place.rpartition(" ")[2])

                def kill(now, step=step, delay=delay, process=process):
                    if now == step:
                        threading.Timer(delay, os.kill, (process, signal.SIGKILL)).start()

                run, (pool,) = one(demo, args, 4, kill)
                if not torch.equal(run.video, video):
                    raise SystemExit(f"killed in step {step + 1}: another video")
                if pool.lost > n + 1:  # less: after its last call, which nobody need notice
                    raise SystemExit(f"killed in step {step + 1}: {pool.lost} lost, not {n + 1}")
                again.append(pool.again)
                calls += pool.calls
    return [
        f"{len(again)} workers killed with -9 at random moments, one a run: all videos are the same, byte for byte. "
        f"Computed again were {sum(again)} of {calls} calls, at most {max(again)} for one kill (a worker has up to "
        f"{DEPTH}).", "",
    ]  # fmt: skip


def scenarios(pace: float, link: Link) -> dict:
    """{(windows, workers): {what: step's seconds}}"""
    found = {}
    for windows in WINDOWS:
        for count in WORKERS:
            even, slow = [pace] * count, [pace * (1 + (i % STRAGGLERS == 0)) for i in range(count)]
            rates = {name: Link(rate, link.delay, link.sent, link.received) for name, rate in RATES.items()}
            times = {name: simulate([1.0] * windows, even, at).wall for name, at in rates.items()}
            times["stragglers"] = simulate([1.0] * windows, slow, rates["10 Gbit/s"]).wall
            times["anchored"] = simulate([1.0] * windows, even, rates["10 Gbit/s"], leads=True).wall
            found[windows, count] = times
    return found


def table(pace: float, found: dict) -> list[str]:
    names = [*RATES, "stragglers", "anchored"]
    lines = ["| windows | workers | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for (windows, count), times in found.items():
        alone = windows * pace
        cells = [f"{alone / times[name]:.1f}x ({100 * alone / times[name] / count:.0f} %)" for name in names]
        lines.append(f"| {windows} | {count} | {' | '.join(cells)} |")
    return lines


def report(args, found: dict[int, Run], kills: list[str]) -> tuple[list[str], dict]:
    alone, first = found[0], found[args.workers[0]]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    lines = ["# Workers over Ray", "", f"`{command.line('distributed', *words(args))}`", ""]
    lines += [
        f"The demo model, {args.frames} frames of {8 * args.side}x{8 * args.side}, {first.calls} windows of 49 a step, "
        f"one to a call; {args.steps} steps, "
        f"euler; {cores} CPU cores, one thread a call, the quickest of {args.rounds} rounds. All videos are equal, "
        f"byte for byte. {busy()}Ray and {max(args.workers)} actors were ready after {first.ready:.1f} s.", "",
        "| workers | seconds a step | of this process alone | share of the ideal | sent a step | received a step |",
        "|---|---|---|---|---|---|", f"| none | {alone.step:.2f} | 1.00 | | | |",
    ]  # fmt: skip
    for count in args.workers:
        run = found[count]
        share = alone.step / run.step / min(count, cores)
        lines.append(
            f"| {count} | {run.step:.2f} | {run.step / alone.step:.2f} | {100 * share:.0f} % of {min(count, cores)}x | "
            f"{run.sent / 1e6:.2f} MB | {run.received / 1e6:.2f} MB |"
        )
    lines += ["", *kills]
    link = Link(0, DELAY, first.sent / first.calls, first.received / first.calls)
    kinds = {f"the demo model, {first.pace:.3f} s a window": (first.pace, link), WAN[0]: WAN[1:]}
    lines += [
        "## Simulated", "",
        f"Speed against one process, and the share of the ideal. Every call passes the head's one link; "
        f"{DELAY * 1e3:g} ms delay each way. Stragglers: one worker in {STRAGGLERS} takes twice as long (10 Gbit/s). "
        f"Anchored: with ABAM, whose first window every worker computes (10 Gbit/s). Window counts that workers do not "
        f"divide leave some idle at the end of a step.", "",
    ]  # fmt: skip
    simulated = {}
    for name, (pace, at) in kinds.items():
        simulated[name] = pace, scenarios(pace, at)
        lines += [
            f"### {name[0].upper()}{name[1:]}", "",
            f"{at.sent / 1e6:.2f} MB to a worker and {at.received / 1e6:.2f} MB back for each.", "",
            *table(*simulated[name]), "",
        ]  # fmt: skip
    lines += ["![Seconds a step, and simulated speed](distributed.png)"]
    return lines, simulated


def busy() -> str:
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0
    return f"Other programs ran beside it (load average {load:.1f}). "


def words(args) -> list[str]:
    names = ("frames", "side", "steps", "rounds", "kills")
    return [word for name in names for word in (f"--{name}", str(getattr(args, name)))]


def picture(args, found: dict[int, Run], simulated: dict, path) -> None:
    image = Image.new("RGB", (1000, 380), plots.PAPER)
    draw = ImageDraw.Draw(image)
    draw.text((30, 20), "Measured: seconds of a step", plots.INK, plots.font(18))
    most = max(run.step for run in found.values())
    for i, (count, run) in enumerate(found.items()):
        y, width = 70 + 62 * i, 250 * run.step / most
        draw.text((30, y + 10), "no workers" if not count else f"{count} workers", plots.INK, plots.font(15))
        draw.rectangle((130, y, 130 + width, y + 38), fill=plots.COLOURS["noise" if not count else "better"])
        draw.text((136 + width, y + 10), f"{run.step:.2f} s", plots.INK, plots.font(15))
    for k, (name, (pace, times)) in enumerate(simulated.items()):
        left, top, size = 500 + 250 * k, 70, 190
        draw.text((left, 20), "Simulated: times as fast" if not k else "", plots.INK, plots.font(18))
        draw.text((left, 46), name, plots.SOFT, plots.font(12))
        draw.rectangle((left, top, left + size, top + size), outline=plots.GRID)
        for share in WORKERS:
            draw.text((left + size * share / 64, top + size + 6), str(share), plots.SOFT, plots.font(12), anchor="mt")
            draw.text((left - 6, top + size * (1 - share / 64)), str(share), plots.SOFT, plots.font(12), anchor="rm")
        draw.line((left, top + size, left + size, top), fill=plots.GRID, width=2)
        lines = [("10 Gbit/s", "better", 0), ("1 Gbit/s", "worse", 1), ("stragglers", "reference", 2)]
        for what, colour, n in lines:
            points = [(c, 256 * pace / times[256, c][what]) for c in WORKERS]
            at = [(left + size * x / 64, top + size * (1 - y / 64)) for x, y in points]
            draw.line(at, fill=plots.COLOURS[colour], width=3)
            draw.text((left, top + size + 28 + 18 * n), what, plots.COLOURS[colour], plots.font(14))
        draw.text((left + 90, top + size + 28), "256 windows a step", plots.SOFT, plots.font(12))
    image.save(path)


def main(argv=None):
    args = parse(argv)
    torch.set_num_threads(1)
    demo = Demo(argparse.Namespace(weights=None))
    found = measured(demo, args)
    kills = killed(demo, args, found[0].video, found[args.workers[-1]].step) if args.kills else []
    lines, simulated = report(args, found, kills)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "distributed.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    picture(args, found, simulated, args.out / "distributed.png")
    print("\n".join(lines))
