"""The table of models in benchmarks/README.md says what the tests see, for the models of the running core."""

import re

import pytest
from longtake.samplers.adapters.video_tokens import layout_of
from longtake.samplers.adapters.window import NEW_CORE
from support import window_inputs, zoo
from support.paths import ROOT

MODELS = {**zoo.zoo(), **zoo.audio_video(), **window_inputs.CASES}
NEWER = {*zoo.audio_video(), "cogvideox", "cogvideox15", "cogvideox_i2v", "kandinsky5", "kandinsky5_i2v"}


def works(name):
    """As the table's last column begins."""
    build = window_inputs.patcher if name in window_inputs.CASES else zoo.patcher
    model = build(name).model
    if name in zoo.audio_video():
        return "windows" if hasattr(model, "map_context_window_to_modalities") else "refused"
    if name in window_inputs.NO_ANCHORS:
        return "all but attention between windows"
    layout_of(model.diffusion_model)
    return "all"


@pytest.fixture(scope="module")
def rows():
    """{name of a model in the tests: (from ComfyUI, what works)}"""
    text = (ROOT / "benchmarks" / "README.md").read_text(encoding="utf-8")
    lines = text.split("## Which models")[1].split("##")[0].splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")][1:]
    return {name: (core, what) for _, test, core, what in cells for name in re.findall(r"`(\w+)`", test)}


def test_the_table_has_every_model_and_no_other(rows):
    assert MODELS.keys() <= rows.keys()
    assert {name for name, (core, _) in rows.items() if core == "0.3.75"} == MODELS.keys() - NEWER
    assert not NEW_CORE or rows.keys() == MODELS.keys()


@pytest.mark.parametrize("name", list(MODELS))
def test_the_table_says_what_works(rows, name):
    assert re.split("[;:]", rows[name][1])[0] == works(name)
