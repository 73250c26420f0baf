"""ComfyUI's nodes that change a model's guidance, schedule or places: under windows, before and after them."""

import importlib

import pytest
from support import zoo
from support.compare import difference
from support.tiny_wan import run
from support.windows import LENGTH, windowed

pytestmark = pytest.mark.usefixtures("one_thread")

CLOSE, CLEAR = 1e-4, 1e-3
LAYERS = {"double_layers": "0", "single_layers": "0", "start_percent": 0.0, "end_percent": 1.0}
ROPE = {"scale_x": 1.0, "shift_x": 0.0, "scale_y": 1.0, "shift_y": 0.0, "scale_t": 0.8, "shift_t": 1.0}
NODES = {  # module of comfy_extras, class, inputs
    "APG": ("apg", "APG", {"eta": 1.0, "norm_threshold": 5.0, "momentum": 0.0}),
    "APG with momentum": ("apg", "APG", {"eta": 1.0, "norm_threshold": 5.0, "momentum": -0.5}),
    "CFG-Zero*": ("cfg", "CFGZeroStar", {}),
    "CFG norm": ("cfg", "CFGNorm", {"strength": 1.0}),
    "epsilon scaling": ("eps", "EpsilonScaling", {"scaling_factor": 1.02}),
    "temporal score rescaling": ("eps", "TemporalScoreRescaling", {"tsr_k": 0.9, "tsr_sigma": 1.0}),
    "FreSca": ("fresca", "FreSca", {"scale_low": 1.0, "scale_high": 1.25, "freq_cutoff": 1}),
    "Mahiro": ("mahiro", "Mahiro", {}),
    "shift": ("model_advanced", "ModelSamplingSD3", {"shift": 3.0}),
    "rescaled CFG": ("model_advanced", "RescaleCFG", {"multiplier": 0.7}),
    "RoPE": ("rope", "ScaleROPE", ROPE),
    "skipped layers": ("slg", "SkipLayerGuidanceDiTSimple", LAYERS),
    "TCFG": ("tcfg", "TCFG", {}),
    "linear CFG": ("video_model", "VideoLinearCFGGuidance", {"min_cfg": 1.0}),
}


def patched(model, name):
    module, kind, inputs = NODES[name]
    node = getattr(importlib.import_module(f"comfy_extras.nodes_{module}"), kind)
    if hasattr(node, "define_schema"):
        return node.execute(model, **inputs).args[0]
    return getattr(node(), node.FUNCTION)(model=model, **inputs)[0]


@pytest.mark.parametrize("name", NODES)
def test_a_guidance_node_acts_as_on_one_clip(name):
    model = zoo.wan(num_layers=2)
    clip = run(patched(model, name), LENGTH)
    assert difference(clip, run(model, LENGTH)) > CLEAR
    assert difference(run(windowed(patched(model, name)), LENGTH), clip) == 0
    assert difference(run(patched(windowed(model), name), LENGTH), clip) == 0


@pytest.mark.parametrize("name", NODES)
def test_a_guidance_node_before_or_after_the_windows_and_several_to_a_call(name):
    model = zoo.wan(num_layers=2)
    before = run(windowed(patched(model, name)), 9)
    assert difference(before, run(windowed(model), 9)) > CLEAR
    assert difference(run(patched(windowed(model), name), 9), before) == 0
    assert difference(run(windowed(patched(model, name), window_batch=3), 9), before) < CLOSE
