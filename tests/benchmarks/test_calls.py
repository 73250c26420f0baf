"""Model calls against quality: every way means what it says, and one tiny real run."""

import json

import pytest
from longtake.benchmarks import calls
from longtake.benchmarks.variants import REFERENCE, effective

pytestmark = pytest.mark.usefixtures("one_thread")


def tables(*ways):
    args = calls.parse(["--ways", *ways])
    videos, events = calls.settings(args, 0, calls.quality.variant), calls.settings(args, 1, calls.events.variant)
    return videos.table, events.table


def test_a_way_is_the_same_for_videos_and_for_scenarios():
    videos, events = tables(*calls.WAYS)
    assert list(videos) == list(events) == list(calls.WAYS)
    for way, parts in videos.items():
        other = effective({"windows": events[way].windows, **events[way].added})
        assert effective(parts) == other, way
    assert len({json.dumps(effective(parts), sort_keys=True) for parts in videos.values()}) == len(videos)


def test_it_runs_and_keeps_what_it_has(tmp_path, capsys):
    line = ["--ways", "roll 0", "--lengths", "53", "--prompts", "2", "--scenarios", "1", "--steps", "1", "--out",
            str(tmp_path)]  # fmt: skip
    calls.main(line)
    assert "roll 0" in capsys.readouterr().out
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert files.keys() == {"calls.md", "calls.json", "calls.png", "calls_videos.jsonl", "calls_events.jsonl"}
    found = json.loads(files["calls.json"])
    for ways in found.values():
        assert ways.keys() == {REFERENCE, "roll 0"}
        assert ways[REFERENCE]["evaluations"] == 1.0
    assert found["Several events: 1 scenarios"]["roll 0"]["evaluations"] < 0.7
    calls.main([*line, "--resume"])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == files
    calls.main([*line, "--resume", "--name", "other"])  # of the same runs
    assert (tmp_path / "other.json").read_bytes() == files["calls.json"]
    text = (tmp_path / "other.md").read_text()
    assert "--name other" in text and "(other.png)" in text
    # Two processes side by side make each run once, and the same.
    many = tmp_path / "many"
    calls.main([*line, "--out", str(many), "--workers", "2"])
    for name, content in files.items():
        made = (many / name).read_bytes()
        if name.endswith(".jsonl"):
            assert keys(made) == keys(content), name
        elif name != "calls.png":
            assert made == content, name


def keys(lines):
    return sorted(json.loads(line)["key"] for line in lines.splitlines())
