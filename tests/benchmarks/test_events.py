"""The multi-event benchmark: its scenarios, its metrics on ground truth with one fault each, and one tiny real run."""

import json
import math
from collections import Counter
from dataclasses import replace

import pytest
import torch
from longtake.backbone.demo import reader, world
from longtake.backbone.demo.text import rows
from longtake.benchmarks import events as benchmark
from longtake.benchmarks import scenarios
from longtake.benchmarks.metrics import events as event_metrics
from longtake.samplers.prompts import timeline
from longtake.samplers.syncos.coupling import PRESETS, coupled_steps, evaluations

SUBJECT = dict(
    colour="green", shape="square", colour_rgb=(0.10, 0.70, 0.20), mark="eyes", size=0.17, angle=0.1, light=0.6,
    light_strength=0.2, phase=0.0, direction=1, x=0.5, y=0.5, period=36.0,
)  # fmt: skip
FRAMES = 219
SPANS = [(0, 73), (73, 146), (146, 219)]
INNER = [(0, 49), (97, 122), (170, 219)]
NAVY = dict(background="navy", background_rgb=world.BACKGROUNDS["navy"])
BOUNDARIES = [21, 45, 69, 93, 117, 141, 165, 189]
SCENARIO = scenarios.Scenario("green", "square", (("sliding", "gray"), ("pulsing", "gray"), ("still", "navy")), "both")


pytestmark = pytest.mark.usefixtures("one_thread")


def planned() -> list[dict]:
    """What is to be seen in each event, as attributes of a world.Scene."""
    return [
        dict(SUBJECT, motion=motion, background=background, background_rgb=world.BACKGROUNDS[background])
        for motion, background in SCENARIO.events
    ]


def pose(attributes, t):
    """Centre and size at frame t."""
    return torch.stack(world.pose(world.Scene(**attributes), torch.tensor([float(t)])))[:3, 0]


def frame(attributes, t, **changes):
    return world.render(world.Scene(**{**attributes, **changes}), 1, start=t)


def film(events):
    """The video of these events: in a border's zone, place, size and light go smoothly from one to the next."""
    frames = []
    for t in range(FRAMES):
        inside = [k for k, (a, b) in enumerate(INNER) if a <= t < b]
        if inside:
            frames.append(frame(events[inside[0]], t))
            continue
        k = max(k for k, (_, b) in enumerate(INNER) if t >= b)
        start, end = INNER[k][1] - 1, INNER[k + 1][0]
        s = (t - start) / (end - start)
        s = 3 * s**2 - 2 * s**3
        before, after = events[k], events[k + 1]
        x, y, size = pose(before, t).lerp(pose(after, t), s).tolist()
        rgb = [torch.tensor(e["background_rgb"]) for e in (before, after)]
        light = tuple(rgb[0].lerp(rgb[1], s).tolist())
        frames.append(frame(after if s > 0.5 else before, t, motion="still", x=x, y=y, size=size, background_rgb=light))
    return torch.cat(frames)


def changed(first, **attributes):
    """Events from `first` on with other attributes."""
    return film([e | attributes if k >= first else e for k, e in enumerate(planned())])


def changed_one(k, **attributes):
    events = planned()
    events[k] |= attributes
    return film(events)


def shade():
    return changed(2, colour_rgb=(0.24, 0.62, 0.32))


def shape():
    return changed(2, shape="circle")


def size():
    return changed(1, size=0.14)


def mark():
    return changed(1, mark="mask")


def colour():
    return changed(1, colour="purple", colour_rgb=world.COLOURS["purple"])


def motion():
    return changed_one(1, motion="spinning")


def background():
    return changed_one(2, background="teal", background_rgb=world.BACKGROUNDS["teal"])


def light_within():
    """The light of the last event's inside swells and fades."""
    video, event = film(planned()), planned()[2]
    for t in range(*INNER[2]):
        wave = 0.06 * math.sin((t - INNER[2][0]) / 8)
        video[t] = frame(event, t, background_rgb=tuple(c + wave for c in event["background_rgb"]))[0]
    return video


def light_between():
    return changed_one(1, background_rgb=(0.53, 0.48, 0.42))


def jump():
    """Sliding ends at the side, pulsing begins in the middle at once, on the same background."""
    events = planned()
    events[0]["phase"] = math.pi / 2
    video = film(events)
    for t in range(INNER[0][1], INNER[1][0]):
        video[t] = frame(events[t >= SPANS[1][0]], t)[0]
    return video


def flash():
    """The background's light changes at once, the subject's way stays smooth."""
    video, events = film(planned()), planned()
    start, end = INNER[1][1] - 1, INNER[2][0]
    for t in range(start + 1, end):
        s = (t - start) / (end - start)
        x, y, size = pose(events[1], t).lerp(pose(events[2], t), 3 * s**2 - 2 * s**3).tolist()
        video[t] = frame(events[2 if s > 0.5 else 1], t, motion="still", x=x, y=y, size=size)[0]
    return video


def seam():
    """In the first event's inside one window is a little higher."""
    video, events = film(planned()), planned()
    for t in range(21, 45):
        video[t] = frame(events[0], t, y=0.42)[0]
    return video


def duplicate():
    video = film(planned())
    video[190:, :14, :14] = frame(planned()[2], 0, x=0.1, y=0.1, size=0.075)[0, :14, :14]
    return video


def blur():
    video = film(planned()).permute(0, 3, 1, 2)
    return torch.nn.functional.avg_pool2d(video, 3, 1, 1, count_include_pad=False).permute(0, 2, 3, 1)


def standstill():
    """No event moves."""
    return film([e | {"motion": "still"} for e in planned()])


def measure(video):
    return event_metrics.measure(video, reader.read(video), SCENARIO, BOUNDARIES)


@pytest.fixture(scope="module")
def clean():
    return measure(film(planned()))


# Which metrics must see a fault, and from what value on (as a string: down to what); which others it may move, for it
# really changes them.
FAULTS = {
    shade: ({"same_subject": "0.35", "subject_colour": 0.09}, {"colour_drift", "sharpness", "jump_pixels"}),
    shape: ({"subject_right": "0.84", "same_subject": "0.35", "subject_shape": 0.65}, {"sharpness"}),
    size: ({"same_subject": "0", "subject_size": 0.16}, {"sharpness", "subject_colour", "colour_drift"}),
    mark: ({"same_subject": "0", "subject_mark": 0.99}, {"sharpness"}),
    colour: ({"subject_right": "0.67", "same_hue": "0", "same_subject": "0", "subject_colour": 0.8,
              "colour_drift": 0.7}, {"sharpness", "jump_pixels"}),
    motion: ({"local": "0.67", "local_motion": "0.67"}, {"speed", "sharpness"}),
    background: ({"local": "0.67", "local_background": "0.67"}, {"sharpness"}),
    light_within: ({"background_within": 0.015}, set()),
    light_between: ({"background_between": 0.08}, set()),
    jump: ({"jump_track": 0.08}, {"jump_pixels", "speed"}),
    flash: ({"jump_pixels": 0.1}, set()),
    seam: ({"seam_mae": 1.1, "seam_track": 4}, set()),
    duplicate: ({"duplicates": 0.13}, {"sharpness"}),
    blur: ({"sharpness": "140"}, {"subject_size"}),  # so wide edges mislead the reader a little
    standstill: ({"local": "0.34", "local_motion": "0.34", "speed": "0.0001"}, {"sharpness", "seam_mae"}),
}  # fmt: skip

# How far a metric may move while it counts as calm.
CALM = {
    "subject_colour": 0.004, "subject_size": 0.004, "colour_drift": 0.004, "background_within": 2e-3,
    "background_between": 2e-3, "jump_track": 2e-3, "jump_pixels": 5e-3, "seam_mae": 0.2, "seam_track": 0.15,
    "sharpness": 15, "speed": 1e-3,
}  # fmt: skip


def test_ground_truth_is_faultless(clean):
    assert clean.keys() == event_metrics.METRICS.keys()
    for name in ("local", "local_motion", "local_background", "subject_right", "same_hue", "same_subject"):
        assert clean[name] == 1, name
    for name in ("subject_shape", "subject_mark", "duplicates", "jump_track"):
        assert clean[name] == 0, name
    for name in ("subject_colour", "subject_size", "colour_drift", "background_within", "background_between"):
        assert clean[name] < 0.005, name
    assert clean["jump_pixels"] < 0.02  # light and texture change within a zone's 48 frames
    assert clean["seam_mae"] < 0.9
    assert clean["seam_track"] < 1.2


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_the_right_metrics_see_a_fault(fault, clean):
    sees, may = FAULTS[fault]
    after = measure(fault())
    for name, limit in sees.items():
        falls = isinstance(limit, str)
        assert after[name] <= float(limit) if falls else after[name] >= limit, (name, after[name])
    for name, value in after.items():
        if name not in sees.keys() | may:
            assert abs(value - clean[name]) <= CALM.get(name, 0), (name, clean[name], value)


@pytest.mark.parametrize("motion", world.MOTIONS)
def test_size_is_the_same_whatever_the_motion(motion):
    """A pulsing subject shows less than a period of its sizes in a short inside; the others show theirs."""
    seen = reader.read(world.render(world.Scene(**SUBJECT | {"period": 40.0}, motion=motion, **NAVY), 60))
    for start in (0, 12, 25, 35):
        assert event_metrics.middle_size(seen, start, start + 25) == pytest.approx(SUBJECT["size"], rel=0.02)


def test_no_subject_at_all():
    found = measure(torch.full((FRAMES, 64, 64, 3), 0.46))
    assert (found["local"], found["local_motion"], found["subject_right"], found["duplicates"]) == (0, 0, 0, 1)
    assert found["local_background"] == pytest.approx(2 / 3)
    assert all(math.isnan(found[name]) for name in ("same_hue", "same_subject", "subject_size", "jump_track"))


def test_insides_and_excess_by_hand():
    assert event_metrics.insides(SPANS) == INNER
    with pytest.raises(ValueError, match="needs 72 frames"):
        event_metrics.insides([(0, 70), (70, 140), (140, 210)])
    signal = torch.full((FRAMES - 1,), 0.01)
    signal[20], signal[60], signal[150] = 0.03, 0.08, 0.02  # inside, in the first zone, in the second
    assert event_metrics.border_excess(signal, INNER) == pytest.approx((0.05 + 0.01) / 2)
    assert event_metrics.border_excess(signal.clamp(max=0.01), INNER) == 0
    track = torch.tensor([[0.0], [0.0], [5.0], [0.0], [1.0], [1.0], [1.0]])
    assert event_metrics.steady(track)[:, 0].tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_scenarios():
    found = scenarios.scenarios()
    assert found == scenarios.scenarios()
    assert len(set(found)) == 48
    assert Counter(len(s.events) for s in found) == {2: 11, 3: 12, 4: 25}
    assert Counter(s.changes for s in found) == dict.fromkeys(scenarios.CHANGES, 16)
    for s in found:
        assert s.colour in world.COLOURS and s.shape in world.SHAPES
        motions, backgrounds = zip(*s.events, strict=True)
        assert set(motions) <= set(world.MOTIONS) and set(backgrounds) <= set(world.BACKGROUNDS)
        n = len(s.events)
        assert len(set(motions)) == (1 if s.changes == "background" else n)
        assert len(set(backgrounds)) == (1 if s.changes == "motion" else n)
        frames = (s.frames - 1) // 4 * 4 + 1
        events = s.timeline(frames)
        assert all(e.end - e.start >= world.FRAMES for e in events)
        assert all(b - a >= 24 for a, b in event_metrics.insides([(e.start, e.end) for e in events]))
    assert max(Counter(s.colour for s in found).values()) == min(Counter(s.colour for s in found).values()) == 6
    assert {len(s.events) for s in found[:8]} == {2, 3, 4}  # the first few are a fair sample


def test_scenarios_without_the_colour():
    for named, unnamed in zip(scenarios.scenarios(), scenarios.unnamed(), strict=True):
        assert named.colour and not unnamed.colour
        assert (unnamed.shape, unnamed.events, unnamed.frames) == (named.shape, named.events, named.frames)
        assert unnamed.prompt == f"a {named.shape}" and named.colour not in unnamed.title
    events, seen = planned(), [reader.read(video) for video in (film(planned()), colour())]
    assert events[0]["colour"] == "green"
    for asked, expected in (("green", (1, 4 / 6)), ("purple", (3 / 6, 5 / 6)), ("", (1, 1))):
        found = [event_metrics.subject_accuracy(r, INNER, replace(SCENARIO, colour=asked)) for r in seen]
        assert found == pytest.approx(expected)  # in the second, purple from the second event on


def test_prompts_are_what_the_model_knows():
    for s in scenarios.scenarios():
        _, joined = timeline.join_prompts(s.prompt, s.timeline(s.frames))
        for prompt, (motion, background) in zip(joined, s.events, strict=True):
            assert rows(prompt) == rows(world.prompt(s.colour, s.shape, motion, background))
        for prompt, (motion, background) in zip(s.local_prompts, s.events, strict=True):
            assert rows(prompt) == rows(world.prompt(None, None, motion, background))


def test_variants():
    table = dict(benchmark.variant(name, []) for name in benchmark.VARIANTS)
    assert table["genl"].syncos is None
    assert table["syncos_fast"].syncos == PRESETS["fast"]
    assert not table["wo_structured"].structured
    ways = [json.dumps(way.effective(), sort_keys=True) for way in table.values()]
    assert len(set(ways)) == len(ways)
    sigmas = [1 - i / 24 for i in range(24)]
    for name, way in table.items():
        if not way.syncos:
            continue
        plan = coupled_steps(way.syncos, sigmas, 0.8)
        first, second = evaluations(way.syncos, plan, [11] * 24)
        assert (first == 0) == (name == "csd") and (second == 0) == (name == "stage1")
        assert all(coupled_steps(way.syncos, sigmas, 0.0)) or name not in ("csd", "wo_tmin")
    label, way = benchmark.variant("wo_tmin:iters=3,overlap=36", ["preset=fast", "t_min=0.9"])
    assert label == "wo_tmin:iters=3,overlap=36,preset=fast"
    assert (way.syncos.iters, way.syncos.t_min, way.syncos.cond_only, way.windows["overlap"]) == (3, 0, True, 36)
    assert benchmark.variant("genl", ["preset=fast"])[1] == table["genl"]  # all are compared with it
    shared = benchmark.variant("ditctrl:first_layer=-3,overlap=36", [])[1]
    assert (shared.added["ditctrl"]["first_layer"], shared.windows["overlap"], shared.syncos) == (-3, 36, None)
    assert not set(benchmark.PARTS) & set(benchmark.DEFAULT)
    for text, error in (
        ("nothing", "not one of genl"), ("syncos_fast:speed=3", "speed=3: unknown"), ("genl:iters=3", "to genl"),
        ("syncos_fast:preset=best", "not one of paper"), ("syncos_fast:t_min=2", "t_min"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=error):
            benchmark.variant(text, [])


def test_prompts():
    frames = 293
    ordinary, texts, spans = benchmark.prompts(SCENARIO, True, frames)
    assert ordinary == "a green square"
    assert texts[1] == "a green square, pulsing on a gray background"
    assert benchmark.prompts(SCENARIO, False, frames)[1][1] == "pulsing on a gray background"
    assert [(s.start, s.end, s.blend) for s in spans] == [(0, 98, 0), (98, 195, 0), (195, 293, 0)]


def test_runner(tmp_path, monkeypatch):
    """A real run of two variants, two steps; then --resume samples nothing and says the same."""
    two = scenarios.Scenario("green", "square", (("sliding", "gray"), ("still", "navy")), "both")
    monkeypatch.setattr(scenarios, "scenarios", lambda: [two])
    words = ["--variants", "genl", "syncos_fast", "--scenarios", "1", "--steps", "2", "--out", str(tmp_path),
             "--sheet", str(tmp_path / "sheet")]  # fmt: skip
    benchmark.main(words)
    lines = (tmp_path / "syncos_runs.jsonl").read_text().splitlines()
    genl, fast = map(json.loads, lines)
    assert (genl["variant"], fast["variant"], genl["frames"]) == ("genl", "syncos_fast", 145)
    assert genl["metrics"].keys() == event_metrics.METRICS.keys()
    windows = len(benchmark.boundaries({}, two.frames)) + 1
    assert genl["evaluations"] == 2 * 2 * windows  # steps, CFG branches
    settings = benchmark.variant("syncos_fast", [])[1].syncos
    coupled = settings.iters * min(settings.chunks, windows) * (1 if settings.cond_only else 2)
    assert fast["evaluations"] == genl["evaluations"] + coupled  # of the two steps the first is above t_min
    text = (tmp_path / "syncos.md").read_text()
    assert f"{fast['evaluations'] / genl['evaluations']:.2f}" in text
    for name in ("syncos.png", "syncos_cost.png", "sheet/scenario00.png"):
        assert (tmp_path / name).stat().st_size > 1000
    benchmark.main([*words[:2], *words[3:], "--unnamed"])  # its own files; no prompt says green
    assert "No prompt names the colour" in (tmp_path / "syncos_unnamed.md").read_text()
    (other,) = map(json.loads, (tmp_path / "syncos_unnamed_runs.jsonl").read_text().splitlines())
    assert other["title"].startswith("a square: ") and other["metrics"] != genl["metrics"]
    monkeypatch.setattr(benchmark, "sample", None)
    benchmark.main([*words, "--resume"])
    assert (tmp_path / "syncos.md").read_text() == text
    assert (tmp_path / "syncos_runs.jsonl").read_text().splitlines() == lines
