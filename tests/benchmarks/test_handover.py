"""The benchmark of what a model decides when: its parts against whole runs, and one small real run."""

from types import SimpleNamespace

import pytest
import torch
from longtake.backbone.demo import world
from longtake.benchmarks import handover

pytestmark = pytest.mark.usefixtures("one_thread")


def test_a_run_in_parts_is_the_whole_run():
    clips = handover.Clips(handover.Demo(SimpleNamespace(steps=3, cfg=2.0, weights=None)))
    empty, prompt = {"samples": torch.zeros(1, 16, 3, 8, 8)}, "a red circle"
    whole = clips.run(empty, prompt, 5, 0, 3)["samples"]
    parts = clips.run(clips.run(empty, prompt, 5, 0, 1), prompt, None, 1, 3)["samples"]
    assert (whole - parts).abs().max() < 1e-4 * whole.abs().max()
    other = clips.run(clips.run(empty, prompt, 5, 0, 1), "a blue square", None, 1, 3)["samples"]
    assert (whole - other).abs().max() > 0.1


def test_compares_with_the_truth():
    scene = dict(
        colour="green", shape="square", motion="sliding", background="gray", colour_rgb=(0.1, 0.7, 0.2), mark="eyes",
        background_rgb=world.BACKGROUNDS["gray"], size=0.2, x=0.5, y=0.5, angle=0.1, phase=0.0, period=36.0,
        direction=1, light=0.6, light_strength=0.2,
    )  # fmt: skip
    navy = dict(motion="circling", background="navy", background_rgb=world.BACKGROUNDS["navy"])
    pair = handover.Pair(["", ""], "circling", "navy")

    def compare(**changes):
        return handover.compare(torch.cat([world.render(world.Scene(**s)) for s in (scene, scene | changes)]), pair)

    same = compare(**navy)
    assert (same["hue"], same["mark"], same["motion"], same["background"]) == (0, 0, 1, 1)
    assert same["colour"] < 0.01 and same["size"] < 0.01
    stays = compare()
    assert (stays["hue"], stays["motion"], stays["background"]) == (0, 0, 0)
    differs = compare(**navy, colour="red", colour_rgb=world.COLOURS["red"], mark="mask", size=0.16)
    assert (differs["hue"], differs["mark"]) == (1, 1)
    assert differs["colour"] > 0.5 and differs["size"] == pytest.approx(0.2, abs=0.02)


def test_a_small_run(tmp_path):
    folder = tmp_path / "new"
    handover.main(["--pairs", "1", "--steps", "2", "--out", str(folder)])
    text = (folder / "handover.md").read_text()
    assert "--pairs 1 --steps 2 --cfg 2.5" in text
    for words in ("The colour named", "The colour left open"):
        part = text.split(f"## {words}")[1].split("## ")[0]
        rows = [line.split(" | ") for line in part.splitlines() if " | " in line]
        places = [[cell.strip("| ") for cell in row[:2]] for row in rows[2:]]
        assert places == [["1.00", "1.00"], ["0.50", "0.75"], ["another seed", ""]]  # shift 3: 3 p / (1 + 2 p)
        assert {len(row) for row in rows} == {8}
    assert (folder / "handover.png").stat().st_size > 5000
