"""What the benchmarks share of their command lines."""

import argparse
import contextlib
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"
CFG = 2.5  # of the demo model, as in its templates; with more, guidance exaggerates: pulsing subjects grow too large


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """The parser of benchmark `name`, whose docstring is its help."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text}; at least 1")
    return number


def sampling_options(parser: argparse.ArgumentParser, steps: int) -> None:
    """What a benchmark that samples takes; steps: by default."""
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--cfg", type=float, default=CFG)
    parser.add_argument("--weights", type=Path, help="folder of the demo model's .safetensors files")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder")


def run_options(parser: argparse.ArgumentParser, steps: int) -> None:
    """What a benchmark that samples and keeps its runs takes."""
    sampling_options(parser, steps)
    parser.add_argument("--resume", action="store_true", help="keep the runs that are in its .jsonl file")
    parser.add_argument("--workers", type=positive, default=1, help="processes side by side, which share the cores")
    parser.add_argument("--claims", type=Path, help=argparse.SUPPRESS)  # a worker's: where they tell what they take


def line(name: str, *words: str) -> str:
    """The command that runs it, as one types it."""
    return shlex.join(["python", "-m", "benchmarks", name, *words])


def side_by_side(name: str, argv: list[str], args, *files, tell=lambda: None) -> None:
    """With --workers, make the runs of benchmark `name` in so many processes of the same options, into the same
    `files` (tables.Runs); the caller, who finds them made, writes the tables. tell: called each second meanwhile."""
    if args.workers < 2 or args.claims:
        return
    threads = str(max(1, (os.cpu_count() or 1) // args.workers))
    killed = []  # told by the handler and looked at below: an exception of its own could leave a worker just started
    with contextlib.ExitStack() as stack:  # killed, too, it takes the workers with it
        before = signal.signal(signal.SIGTERM, lambda number, _: killed.append(number))
        stack.callback(signal.signal, signal.SIGTERM, before)
        claims = stack.enter_context(tempfile.TemporaryDirectory())
        command = [sys.executable, "-m", "benchmarks", name, *argv, "--resume", "--claims", claims]
        workers = []
        for _ in range(args.workers):
            workers.append(subprocess.Popen(command, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": threads}))
            stack.callback(workers[-1].wait)
            stack.callback(workers[-1].terminate)
        while None in (codes := [worker.poll() for worker in workers]) and not any(codes) and not killed:
            time.sleep(1)
            for runs in files:
                runs.read()
            tell()
    if killed:
        raise SystemExit(128 + killed[0])
    if any(codes):
        raise SystemExit(f"python -m benchmarks {name}: a worker failed; --resume goes on from what is there")
    for runs in files:
        runs.read()


def child(name: str, *words: str) -> dict:
    """Run a benchmark in a process of its own; the JSON of the last line that it prints."""
    command = [sys.executable, "-m", "benchmarks", name, *words]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return json.loads(out.stdout.splitlines()[-1])
