"""What the benchmarks share of their command lines."""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).resolve().parent / "results"


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """The parser of benchmark `name`, whose docstring is its help."""
    return argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )


def sampling_options(parser: argparse.ArgumentParser, steps: int) -> None:
    """What a benchmark that samples takes; steps: by default."""
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--cfg", type=float, default=4.0)
    parser.add_argument("--weights", type=Path, help="folder of the demo model's .safetensors files")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder")


def run_options(parser: argparse.ArgumentParser, steps: int) -> None:
    """What a benchmark that samples and keeps its runs takes."""
    sampling_options(parser, steps)
    parser.add_argument("--resume", action="store_true", help="keep the runs that are in its .jsonl file")


def line(name: str, *words: str) -> str:
    """The command that runs it, as one types it."""
    return shlex.join(["python", "-m", "benchmarks", name, *words])


def child(name: str, *words: str) -> dict:
    """Run a benchmark in a process of its own; the JSON of the last line that it prints."""
    command = [sys.executable, "-m", "benchmarks", name, *words]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    return json.loads(out.stdout.splitlines()[-1])
