"""Kept runs under hard use: a server killed at random moments, and queue and cancel for hours.

    COMFYUI_PATH=... python -m benchmarks soak --kills 30 --cycles 200 [--minutes 60] [--seed 0] [--write]

A real headless ComfyUI with the demo model, over graphs with windows that shift, VMCR, SynCoS, a multi-step sampler and
a decode into a file. --kills: the server is killed (SIGKILL) at a random moment, started again and given the same
graph, five times, then left to finish: the latent or the file must be that of an uninterrupted run, byte for byte.
--cycles: queue, cancel after a random time, many times in one server; every tenth cycle and the last are left to finish
and compared. Memory, threads, open files and the files on the disk are counted after each. Exits with 1 where anything
differs, leaks or is left behind.
"""

import contextlib
import itertools
import json
import os
import platform
import random
import re
import statistics
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path

import psutil
from safetensors.torch import load_file

from ..samplers.adapters import video_file
from ..tools.environment import StartError
from ..tools.headless import GraphError, Server
from . import command

LENGTH, STEPS = 73, 10
IN_A_ROW = 5  # kills of one run, before it is left to finish
WARM = 20  # cycles before memory is watched
MOST_SLOPE = 0.1  # MB per cycle
SAVE, KEEP = "90", "91"  # ids of the nodes that are added
VARIANTS = ("windows", "vmcr", "syncos", "multistep", "decode")
DECODED, PIECES = 481, 90  # frames of "decode"; the most of its pieces (of 4 frames) before a kill


def api(name: str) -> dict:
    return json.loads((command.ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))


def graph(variant: str, seed: int, kept: bool = True) -> dict:
    """A small graph of one kind, whose latent is saved; kept: with a checkpoint after every step."""
    if variant == "decode":
        return decode_graph(seed)
    nodes = api({"syncos": "syncos_two", "vmcr": "glc_x3"}.get(variant, "glc_windows"))
    nodes = {key: node for key, node in nodes.items() if node["class_type"] not in OUTPUTS}
    for node in nodes.values():
        known = {"length": LENGTH, "steps": STEPS, "seed": seed, "noise_seed": seed}
        node["inputs"].update({key: value for key, value in known.items() if key in node["inputs"]})
        if node["class_type"] == "LongTakePromptTimeline":
            node["inputs"]["fps"] = 4.0
    key, sampler = next((k, n) for k, n in nodes.items() if n["class_type"] in SAMPLERS)
    if variant == "multistep":
        sampler["inputs"]["sampler_name"] = "dpmpp_3m_sde"
    if kept and variant == "syncos":
        sampler["inputs"]["checkpoint_every"] = 1
    elif kept:
        inputs = sampler["inputs"]
        slot, kind = ("sampler", "") if "sampler" in inputs else ("model", "Model")
        limits = {"every": 1, "keep_gb": 1.0, "keep_days": 1.0}
        nodes[KEEP] = {"class_type": f"LongTakeCheckpoint{kind}", "inputs": {slot: inputs[slot], **limits}}
        inputs[slot] = [KEEP, 0]
    nodes[SAVE] = {"class_type": "SaveLatent", "inputs": {"samples": [key, 0], "filename_prefix": f"soak/{variant}"}}
    return nodes


def decode_graph(seed: int) -> dict:
    """Noise, decoded into a file."""
    nodes = {
        "1": ("LongTakeDemoBackbone", {}),
        "2": ("EmptyHunyuanLatentVideo", {"width": 64, "height": 64, "length": DECODED, "batch_size": 1}),
        "3": ("RandomNoise", {"noise_seed": seed}),
        "4": ("BasicScheduler", {"model": ["1", 0], "scheduler": "simple", "steps": 1, "denoise": 1.0}),
        "5": ("AddNoise", {"model": ["1", 0], "noise": ["3", 0], "sigmas": ["4", 0], "latent_image": ["2", 0]}),
        SAVE: ("LongTakeDecodeToVideo", {
            "samples": ["5", 0], "vae": ["1", 2], "fps": 16.0, "filename_prefix": "soak/decode", "crf": 20,
            "format": "mp4 (h264)", "folder": "output", "window": 64, "overlap": 16, "tile_size": 0,
        }),
    }  # fmt: skip
    return {key: {"class_type": kind, "inputs": inputs} for key, (kind, inputs) in nodes.items()}


OUTPUTS = ("VAEDecode", "ImageScaleBy", "CreateVideo", "SaveVideo")
SAMPLERS = ("KSampler", "SamplerCustomAdvanced", "LongTakeSynCoSKSampler")


class Bench:
    """Servers over one output folder, and what an uninterrupted run gives."""

    def __init__(self, base: Path):
        self.base, self.output, self.expected = base, base / "output", {}

    def server(self) -> Server:
        return Server(Path(os.environ["COMFYUI_PATH"]), Path(sys.executable), self.base, self.output)

    @property
    def runs(self) -> Path:
        return self.output / "longtake" / "runs"

    def result(self, server, nodes: dict, on_event=lambda event, data: None) -> bytes:
        """The latent that a graph saves, or the file that it decodes into."""
        (path,) = server.files(server.queue(nodes, on_event))
        data = load_file(path)["latent_tensor"].numpy() if path.suffix == ".latent" else path.read_bytes()
        path.unlink()
        return bytes(data)

    def whole(self, server, variant: str, seed: int) -> bytes:
        if (variant, seed) not in self.expected:
            self.expected[variant, seed] = self.result(server, graph(variant, seed, kept=False))
        return self.expected[variant, seed]


def broken(log: str) -> list[str]:
    """What a server said of files that it could not use."""
    return [line for line in log.splitlines() if "is not used" in line]


def kill_often(bench: Bench, kills: int, pick: random.Random) -> tuple[list[str], dict[str, int]]:
    """(What went wrong, in words; kills by where the run was)."""
    wrong, done = [], Counter()
    with bench.server() as server:
        for variant in VARIANTS:
            bench.whole(server, variant, 1)
    for variant in itertools.cycle(VARIANTS):
        if done.total() >= kills:
            return wrong, done
        steps = []
        while len(steps) < IN_A_ROW and (where := killed(bench, variant, pick, steps, wrong)):
            done[where] += 1
        with bench.server() as server:
            same = bench.result(server, graph(variant, 1)) == bench.whole(server, variant, 1)
            steps.append(resumed(server))
            wrong += broken(log_of(server))
        if not same:
            wrong.append(f"{variant}: another video after kills")
        if variant == "decode" and sorted(steps[:-1]) != steps[:-1]:
            wrong.append(f"{variant}: frames that were on the disk are gone: {steps}")
        video, what = "the same video" if same else "ANOTHER VIDEO", "frames" if variant == "decode" else "steps"
        print(f"{variant}: {len(steps) - 1} kills, resumed after {what} {steps}: {video}", flush=True)
        for path in bench.runs.rglob("*.safetensors"):
            path.unlink()


def killed(bench: Bench, variant: str, pick: random.Random, steps: list[int], wrong: list[str]) -> str:
    """Where in the run a server was killed, at a random moment within the steps that follow; "": it came to the run's
    end before. `steps` and `wrong` get what is there then."""
    server = bench.server()
    decodes = variant == "decode"
    after, moment = pick.randrange(1, PIECES if decodes else 4), pick.random()
    times: list[float] = []
    where = ""

    def kill(event, data):
        nonlocal where
        if event == "progress":
            times.append(time.perf_counter())
            if len(times) > after:
                # SynCoS tells of its iterations by parts of a step
                where = "in the decode" if decodes else "in SynCoS's inner loop" if data["value"] % 1 else "in steps"
                time.sleep(moment * 1.2 * (times[-1] - times[-2]))
                psutil.Process(server.process.pid).kill()

    gone = True
    with contextlib.suppress(StartError), server:  # of a server that is gone; its log stays
        same = bench.result(server, graph(variant, 1), kill) == bench.expected[variant, 1]
        gone = False
        if not same:
            wrong.append(f"{variant}: another video after kills")
    if gone:
        steps.append(on_disk(bench) if decodes else resumed(server))
        wrong += broken(log_of(server))
    return where if gone else ""


def on_disk(bench: Bench) -> int:
    """Frames of a decode that the next one does not have to do."""
    kind = video_file.FORMATS["mp4 (h264)"]
    parts = [video_file.packets_of(path, kind, (64, 64)) for path in bench.output.rglob("*.part.mp4")]
    frames = max((sum(1 for _ in packets) for packets in parts), default=0)
    return frames // video_file.SEGMENT * video_file.SEGMENT


def log_of(server) -> str:
    return server.log.read_text("utf-8", errors="replace") if server.log.exists() else ""


def resumed(server) -> int:
    """Steps, or frames of a decode, that a server's last run did not have to do."""
    found = re.findall(r"resumes after step (\d+)|went on from frame (\d+)", log_of(server))
    return int("".join(found[-1])) if found else 0


def cancel_often(bench: Bench, cycles: int, minutes: float, pick: random.Random) -> tuple[list[str], dict]:
    wrong, memory, end = [], [], time.monotonic() + 60 * minutes
    with bench.server() as server:
        process = psutil.Process(server.process.pid)
        for variant in VARIANTS:
            bench.whole(server, variant, 2)
        before = process.num_threads(), open_files(process)
        for cycle in range(cycles):
            variant, finish = pick.choice(VARIANTS), cycle % 10 == 9 or cycle == cycles - 1
            nodes = graph(variant, 2 if finish else pick.randrange(3, 2**31))
            if finish:
                if bench.result(server, nodes) != bench.whole(server, variant, 2):
                    wrong.append(f"cycle {cycle + 1}: another video of {variant}")
            else:
                timer = threading.Timer(pick.uniform(0.0, 2.0), server.interrupt)
                timer.start()
                with contextlib.suppress(GraphError):
                    bench.result(server, nodes)
                timer.cancel()
                timer.join()
            memory.append(process.memory_info().rss / 1e6)
            if cycle % 10 == 9:
                print(f"cycle {cycle + 1}: {memory[-1]:.0f} MB, {process.num_threads()} threads", flush=True)
            if time.monotonic() > end:
                break
        after = process.num_threads(), open_files(process)
        wrong += broken(log_of(server))
    parts = [str(path) for path in bench.output.rglob("*.part")]
    if parts:
        wrong.append(f"files are left: {parts}")
    if after[0] > before[0] + 2 or after[1] > before[1] + 2:
        wrong.append(f"threads and open files: {before} before, {after} after")
    late = memory[WARM:]
    slope = statistics.linear_regression(range(len(late)), late).slope if len(late) > 2 else 0.0
    if slope > MOST_SLOPE:
        wrong.append(f"memory grows by {slope:.2f} MB per cycle")
    return wrong, {"cycles": len(memory), "slope": slope, "memory": memory, "threads": after[0] - before[0]}


def open_files(process) -> int:
    return process.num_fds() if hasattr(process, "num_fds") else process.num_handles()


def main(argv) -> None:
    parser = command.parser("soak", __doc__)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--cycles", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=600.0, help="most, for the cycles")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments")
    parser.add_argument("--write", action="store_true", help="write results/soak.md")
    args = parser.parse_args(argv)
    pick, lines, wrong = random.Random(args.seed), [], []
    with tempfile.TemporaryDirectory(prefix="longtake-soak-") as folder:
        bench = Bench(Path(folder))
        if args.kills:
            found, places = kill_often(bench, args.kills, pick)
            wrong += found
            said = "; ".join(found) or "every video as uninterrupted"
            counts = ", ".join(f"{count} {place}" for place, count in places.items())
            lines.append(f"- {sum(places.values())} kills at random moments ({counts}): {said}.")
        if args.cycles:
            found, seen = cancel_often(bench, args.cycles, args.minutes, pick)
            wrong += found
            memory, said = seen["memory"], "; ".join(found) or "every finished video as uninterrupted, no file left"
            lines.append(
                f"- {seen['cycles']} cycles of queue and cancel: memory {memory[min(WARM, len(memory) - 1)]:.0f} MB "
                f"after {WARM}, {memory[-1]:.0f} MB at the end ({seen['slope']:+.3f} MB per cycle); "
                f"{seen['threads']:+d} threads; {said}."
            )
    print("\n".join(lines))
    if args.write:
        words = [w for w in argv if w != "--write"]
        head = f"Written by `{command.line('soak', *words, '--write')}` (CPU, Python {platform.python_version()})."
        text = "\n".join(["# Kept runs under hard use", "", head, "", *lines, ""])
        (command.RESULTS / "soak.md").write_text(text, "utf-8")
    if wrong:
        raise SystemExit("\n".join(wrong))
