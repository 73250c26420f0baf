"""Make ComfyUI (COMFYUI_PATH) and this pack (as `longtake`) importable from a script."""

import os
import sys
import types
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def register():
    path = os.environ.get("COMFYUI_PATH")
    if not path:
        raise SystemExit("set COMFYUI_PATH to a ComfyUI folder")
    # The root's own nodes/ would hide ComfyUI's nodes.py.
    sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]
    sys.path.insert(0, path)
    package = types.ModuleType("longtake")
    package.__path__ = [str(ROOT)]
    sys.modules["longtake"] = package

    import torch
    from comfy.cli_args import args

    args.cpu = not torch.cuda.is_available()
