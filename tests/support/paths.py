"""Where things lie: the pack (ROOT), its example graphs, and ComfyUI."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = ROOT / "workflows"
COMFYUI_PATH = Path(os.environ.get("COMFYUI_PATH", ""))
