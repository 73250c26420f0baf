"""The benchmark of short events: its scenarios, its metrics on ground truth, and one tiny real run."""

import math

import pytest
import torch
from longtake.backbone.demo import reader, world
from longtake.benchmarks import timing as benchmark
from longtake.benchmarks.metrics import switches

pytestmark = pytest.mark.usefixtures("one_thread")

NAVY, PINK, TEAL = (reader.BACKGROUNDS.index(name) for name in ("navy", "pink", "teal"))
SPANS = [(0, 12), (12, 24), (24, 36)]
WANTED = [NAVY, PINK, TEAL]


def shown(*parts):
    return torch.cat([torch.full((count,), index) for index, count in parts])


@pytest.mark.parametrize(
    "seen, expected",
    [
        (shown((NAVY, 12), (PINK, 12), (TEAL, 12)), [0, 0]),
        (shown((NAVY, 15), (PINK, 7), (TEAL, 14)), [3, -2]),
        (shown((NAVY, 11), (TEAL, 2), (PINK, 11), (TEAL, 12)), [0, 0]),  # two odd frames around the border
        (shown((NAVY, 24), (TEAL, 12)), [math.nan, math.nan]),  # the event between is never there
        (shown((NAVY, 5), (PINK, 1), (NAVY, 6), (PINK, 12), (TEAL, 12)), [0, 0]),  # one misread frame
    ],
)
def test_switches(seen, expected):
    assert switches.switches(seen, SPANS, WANTED) == pytest.approx(expected, nan_ok=True)


def film(late):
    """A green square that slides, before backgrounds that change `late` frames after 24 and 48."""
    scene = dict(
        colour="green", shape="square", motion="sliding", colour_rgb=world.COLOURS["green"], mark="eyes", size=0.17,
        angle=0.1, light=0.6, light_strength=0.2, phase=0.0, direction=1, x=0.5, y=0.5, period=36.0,
    )  # fmt: skip
    frames = []
    for t in range(73):
        name = ("navy", "pink", "teal")[(t >= 24 + late) + (t >= 48 + late)]
        colours = dict(background=name, background_rgb=world.BACKGROUNDS[name])
        frames.append(world.render(world.Scene(**scene, **colours), 1, start=t))
    return torch.cat(frames)


@pytest.mark.parametrize("late", [0, 5])
def test_metrics_of_a_film_whose_truth_is_known(late):
    reading = reader.read(film(late))
    spans = [(0, 24), (24, 48), (48, 73)]
    found = switches.measure(reading, spans, ["navy", "pink", "teal"], "sliding", "green", "square")
    assert found.keys() == switches.METRICS.keys()
    assert found["right"] == pytest.approx(1 - 2 * late / 73)
    assert found["delay"] == found["late"] == late and found["switched"] == found["seen"] == 1
    assert found["motion"] == 1 and found["subject"] > 0.95


def test_scenarios_change_the_background_with_every_event():
    chosen = benchmark.scenarios(24)
    assert chosen == benchmark.scenarios(24) and len(set(chosen)) == 24
    assert {s.motion for s in chosen} == set(world.MOTIONS) and {s.shape for s in chosen} == set(world.SHAPES)
    for scenario in chosen:
        assert all(a != b for a, b in zip(scenario.backgrounds, scenario.backgrounds[1:], strict=False))
        for every in (12, 49, 97):
            events = scenario.events(every, 293)
            assert len(events) == 293 // every and events[-1].end == 293
            assert all(e.end - e.start == every for e in events[:-1])


def test_variants_and_their_errors():
    assert benchmark.variant("frame:gaussian:8") == benchmark.Way("frame", "gaussian", 8)
    assert benchmark.variant("frame:8") == benchmark.Way("frame", "linear", 8)
    assert benchmark.variant("frame:8:early=4") == benchmark.Way("frame", "linear", 8, 4)
    assert benchmark.variant("alone").timing == "alone"
    for text in ("frames", "frame:soft", "frame:8:8", "frame:-1", "frame:early=x", "alone:8", "frame:early=4:8"):
        with pytest.raises(ValueError, match=text):
            benchmark.variant(text)
    for words in (["--every", "4"], ["--every", "97", "--frames", "97"], ["--variants", "frame:13", "--every", "12"],
                  ["--variants", "frame:early=12", "--every", "12"]):  # fmt: skip
        with pytest.raises(SystemExit):
            benchmark.parse(words)


def test_a_tiny_run_and_resume(tmp_path, capsys):
    words = ["--scenarios", "1", "--steps", "1", "--frames", "53", "--every", "12"]
    words += ["--variants", "window", "frame:early=4", "alone"]
    benchmark.main([*words, "--out", str(tmp_path)])
    text = (tmp_path / "timing.md").read_text("utf-8")
    assert "Events of 12 frames: 1 scenarios" in text and "| `frame:early=4` |" in text and "| `alone` |" in text
    assert (tmp_path / "timing.png").exists()
    runs = (tmp_path / "timing_runs.jsonl").read_text("utf-8")
    capsys.readouterr()
    benchmark.main([*words, "--out", str(tmp_path), "--resume"])
    assert "scenario 0" not in capsys.readouterr().out
    assert (tmp_path / "timing_runs.jsonl").read_text("utf-8") == runs
