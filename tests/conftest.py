"""Test set-up: the pack is importable as `longtake`, ComfyUI (COMFYUI_PATH) as itself, on the CPU.

The repository root must not be on sys.path: its `nodes/` would hide ComfyUI's `nodes.py`. tests/ is there for `support`
alone, last, so that none of its folders hides a module of ComfyUI.
"""

import os
import sys
import types
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:] = [p for p in sys.path if Path(p or ".").resolve() != ROOT]

package = types.ModuleType("longtake")
package.__path__ = [str(ROOT)]
sys.modules["longtake"] = package

COMFYUI_PATH = os.environ.get("COMFYUI_PATH")
if not COMFYUI_PATH:
    raise RuntimeError("set COMFYUI_PATH to a ComfyUI folder, or run: python3 start.py test")
sys.path.insert(0, COMFYUI_PATH)

from comfy.cli_args import args  # noqa: E402

args.cpu = True

sys.path.append(str(ROOT / "tests"))
pytest.register_assert_rewrite("support")

import torch  # noqa: E402
from longtake.tools.headless import Server  # noqa: E402


@pytest.fixture(scope="session")
def comfy_server(tmp_path_factory):
    """A real headless ComfyUI with this pack, one for the whole session. See Server.queue, .files and .interrupt."""
    base = tmp_path_factory.mktemp("comfyui")
    with Server(Path(COMFYUI_PATH), Path(sys.executable), base, base / "output") as server:
        yield server


@pytest.fixture(scope="module")
def one_thread():
    """Tiny nets are quicker on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
