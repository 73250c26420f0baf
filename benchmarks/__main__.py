"""Run a benchmark from the repository's root: COMFYUI_PATH=... python -m benchmarks NAME [options]; alone: the names.

Makes ComfyUI and this pack (as `longtake`) importable, so that the modules here are parts of the pack like any other.
"""

import ast
import importlib
import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
NAMES = (
    "calls", "distributed", "engine", "evaluations", "events", "films", "handover", "loops", "memory",
    "papers", "quality", "redo", "scale", "soak", "timing", "vmcr",
)


def register() -> None:
    path = os.environ.get("COMFYUI_PATH")
    if not path or not (Path(path) / "comfy").is_dir():
        raise SystemExit(f"COMFYUI_PATH ({path or 'not set'}): must name a ComfyUI folder, the one that has comfy/")
    # The root's own nodes/ would hide ComfyUI's nodes.py.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
    sys.path.insert(0, path)
    package = types.ModuleType("longtake")
    package.__path__ = [str(ROOT)]
    sys.modules["longtake"] = package

    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()


def summary(name: str) -> str:
    """The first line of a benchmark's docstring."""
    tree = ast.parse((ROOT / "benchmarks" / f"{name}.py").read_text(encoding="utf-8"))
    return ast.get_docstring(tree).splitlines()[0]


def main(argv: list[str]) -> None:
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:12} {summary(name)}" for name in NAMES]
        print("\n".join(["python -m benchmarks NAME [options]; NAME --help lists its options.", "", *lines]))
        return
    name, *options = argv
    if name not in NAMES:
        raise SystemExit(f"python -m benchmarks {name}: no such benchmark; there are {', '.join(NAMES)}")
    register()
    importlib.import_module(f"longtake.benchmarks.{name}").main(options)


if __name__ == "__main__":
    main(sys.argv[1:])
