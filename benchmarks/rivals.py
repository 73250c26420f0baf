"""The windows that a user would take instead: ComfyUI's own Context Windows and KJNodes' schedules, on the demo model.

ComfyUI's node is that of COMFYUI_PATH; KJNodes' (github: kijai/ComfyUI-KJNodes) is read from the folder that
KJNODES_PATH names. Both split several prompts evenly over the windows (the newer core's split_conds_to_windows).
"""

import functools
import importlib.util
import inspect
import os
from pathlib import Path

from comfy_extras.nodes_context_windows import ContextWindowsManualNode


def core(model, length: int, overlap: int, *, schedule: str, freenoise: bool, fuse: str, stride: int):
    """Context Windows (Manual); length, overlap: of a window, in latent frames."""
    given = dict(
        context_length=length, context_overlap=overlap, context_schedule=schedule,
        context_stride=stride, closed_loop=False, fuse_method=fuse, dim=2, freenoise=freenoise,
        split_conds_to_windows=True,
    )  # fmt: skip
    known = inspect.signature(ContextWindowsManualNode.execute).parameters
    if not given.keys() <= known.keys():
        raise SystemExit("COMFYUI_PATH: its Context Windows know no prompts by window: a newer ComfyUI is needed")
    return ContextWindowsManualNode.execute(model, **given).result[0]


@functools.cache
def _kjnodes():
    folder = os.environ.get("KJNODES_PATH", "")
    path = Path(folder) / "nodes" / "context_windows_visualizer.py"
    if not folder or not path.is_file():
        raise SystemExit(f"KJNODES_PATH ({folder or 'not set'}): must name ComfyUI-KJNodes' folder for its windows")
    spec = importlib.util.spec_from_file_location("kj_context_windows", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.ContextWindowsVisualizerKJ


def kj(model, length: int, overlap: int, *, schedule: str, freenoise: bool, fuse: str):
    """Context Windows Visualizer (KJ); its causal fix is off, as it is by default."""
    model = _kjnodes().execute(
        model=model, frame_units="latent", temporal_downscale=4, num_frames=0, context_length=length,
        context_overlap=overlap, context_schedule=schedule, context_stride=1, closed_loop=False,
        fuse_method=fuse, dim=2, causal_window_fix=False, freenoise=freenoise,
    ).result[0]  # fmt: skip
    model.model_options["context_handler"].split_conds_to_windows = True
    return model


MODELS = {"core": core, "kj": kj}
