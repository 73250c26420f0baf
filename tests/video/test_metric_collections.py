"""Collections of measured videos, and Compare Metrics: what is kept, read and judged, and what it refuses in words."""

import json
import math
import sys
import time

import folder_paths
import pytest
import torch
from longtake.nodes import metrics
from longtake.samplers.adapters import metric_files
from support.children import ended, error_of, started
from support.metric_clips import image, panned
from support.metric_runs import cells, compare, document, measure, stored, with_room

NODE = r"^Compare Metrics \(LongTakeCompareMetrics\): "
CLIP = image(panned(12, 24, 40))


@pytest.fixture(autouse=True)
def output(one_thread, tmp_path, monkeypatch):
    """Where the collections lie."""
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    with torch.inference_mode():
        yield tmp_path / "output" / "longtake" / "metrics"


def text(value=1.0, metric="m", better=1):
    return json.dumps({"metrics": [{"metric": metric, "value": value, "better": better}]})


def several(*values, **more):
    return "\n".join(text(value, **more) for value in values)


def noisy(seed, by):
    """The clip under noise that is another in each frame."""
    return (CLIP + by * torch.randn(CLIP.shape, generator=torch.Generator().manual_seed(seed))).clamp(0, 1)


# ---- collections -------------------------------------------------------------------------------------------------


def test_each_run_adds_a_line_and_groups_are_judged_by_their_videos(output):
    for name, by, first in (("plain", 0.02, 0), ("shaking 2", 0.04, 100), ("again", 0.02, 200)):
        for seed in range(10):
            result = measure(noisy(first + seed, by), save_as=f" {name} ", boundaries="6")
            lines = (output / f"{name}.jsonl").read_text().splitlines()
            assert len(lines) == seed + 1 and json.loads(lines[-1]) == document(result)
            assert f"Added to the collection {name} ({name}.jsonl)" in result.ui["longtake_report"][0]
    result = compare(saved="plain | shaking 2|again", labels="| twice as much")
    found = cells(result)
    assert found["Metric"] == ["Better", "plain", "twice as much", "again"]
    for name, verdict in (("temporal_flicker", "worse"), ("ssim_adjacent", "worse"), ("warping_error", "worse"),
                          ("sharpness", "differs"), ("scenes", "")):  # fmt: skip
        assert [cell.split()[-1] == verdict for cell in found[name][2:]] == [bool(verdict), False], (name, found[name])
        assert [cell.count("+-") for cell in found[name][1:]] == [1, 1, 1]
    assert found["temporal_flicker"][0] == "higher" and found["sharpness"][0] == "" and "10, 10, 10" in result.args[0]
    assert "would differ so by chance" in result.args[0]


def test_a_video_counts_once_in_a_collection_as_it_was_measured_last(output):
    for clip, boundaries in ((CLIP, "6"), (noisy(1, 0.02), "6"), (CLIP, "4")):
        result = measure(clip, save_as="kept", boundaries=boundaries)
    first, second = metric_files.saved("kept")
    assert len((output / "kept.jsonl").read_text().splitlines()) == 3
    assert first["values"] == pytest.approx(metric_files.parsed(result.args[0], "it")[0]["values"], nan_ok=True)
    assert first["video"] != second["video"] and "(n 2)" not in compare(saved="kept").args[0]


def test_a_collection_and_a_linked_video(output):
    result = measure(CLIP, save_as="kept")
    found = cells(compare(result.args[0], saved="kept | kept"))
    assert found["Metric"] == ["Better", "kept", "kept", "metrics_a"]
    assert len(set(found["temporal_flicker"][1:])) == 1


def test_processes_that_append_at_once_lose_nothing(output, tmp_path):
    numbers = [range(start, start + 150) for start in (0, 1000, 2000)]
    work = [started(stored, tmp_path / "output", "shared", part, size) for part, size in
            zip(numbers, (10, 5000, 70000), strict=True)]  # fmt: skip
    assert [ended(process) for process in work] == [0, 0, 0]
    found = [one["values"]["m"] for one in metric_files.saved("shared")]
    assert sorted(found) == [number for part in numbers for number in part]
    assert [n for n in found if n < 1000] == list(numbers[0])


@pytest.mark.skipif(sys.platform == "win32", reason="files have no largest size there")
def test_a_full_disk_leaves_the_collection_as_it_was(output, tmp_path):
    stored(tmp_path / "output", "kept", [1, 2], 3000)
    path = output / "kept.jsonl"
    before = path.read_bytes()
    for room in (len(before), len(before) + 1, len(before) + 2999):
        said = error_of(with_room, tmp_path / "output", "kept", [3], 3000, room)
        assert said.startswith(f"OSError: {path} cannot be written (") and "\n" not in said
        assert path.read_bytes() == before
    assert error_of(with_room, tmp_path / "output", "kept", [3], 3000, 2 * len(before)) is None
    assert [one["values"]["m"] for one in metric_files.saved("kept")] == [1, 2, 3]


def test_a_collection_that_cannot_be_written_is_named(output):
    output.parent.mkdir(parents=True)
    output.write_text("a file where a folder is wanted")
    with pytest.raises(ValueError, match=r"^Video Metrics .*: save_as: .*kept\.jsonl cannot be written \(") as caught:
        measure(CLIP, save_as="kept")
    assert "\n" not in str(caught.value)


def test_lines_that_were_edited_are_read(output):
    """By an editor that begins with a mark and ends without a line."""
    output.mkdir(parents=True)
    (output / "kept.jsonl").write_bytes(b"\xef\xbb\xbf" + several(1, 2).encode() + b"\r\n\r\n  " + text(3).encode())
    stored(output.parents[1], "kept", [4])
    assert [one["values"]["m"] for one in metric_files.saved("kept")] == [1, 2, 3, 4]


def test_large_collections_are_read_in_their_length(output):
    output.mkdir(parents=True)
    (output / "large.jsonl").write_text("\n".join([json.dumps({**json.loads(text()), "x": "y" * 1000})] * 20000))
    begun = time.perf_counter()
    assert len(metric_files.saved("large")) == 20000 and time.perf_counter() - begun < 20


def test_a_collection_beyond_the_bound_is_refused(output, monkeypatch):
    stored(output.parents[1], "kept", range(3))
    monkeypatch.setattr(metric_files, "MOST", 100)
    with pytest.raises(ValueError, match=NODE + "saved: the collection kept is larger than"):
        compare(saved="kept")


@pytest.mark.parametrize("saved, words", [
    ("gone", r"no collection is called gone: there are a, b$"),
    ("a | gone", r"no collection is called gone"),
    ("../x", r"\.\./x is no name of a collection"),
    ("a | | b", r"an empty text is no name of a collection"),
    ("|", r"an empty text is no name of a collection"),
    ("bad", r"the collection bad holds no metrics at sign 0 \(JSONDecodeError\)"),
    ("half", r"the collection half holds no metrics at sign \d\d \(JSONDecodeError\)"),
    ("empty", r"the collection empty is empty"),
    ("folder", r"no collection is called folder"),
])  # fmt: skip
def test_bad_collections_are_named(output, saved, words):
    output.mkdir(parents=True)
    for name in "ab":
        stored(output.parents[1], name, [1.0])
    if saved in ("bad", "half", "empty"):
        data = {"bad": b"\xff\xfe{", "half": several(1, 2).encode()[:-9], "empty": b"\n"}[saved]
        (output / f"{saved}.jsonl").write_bytes(data)
    elif saved == "folder":
        (output / "folder.jsonl").mkdir()
    with pytest.raises(ValueError, match=NODE + "saved: " + words) as caught:
        compare(saved=saved)
    assert "\n" not in str(caught.value)


def test_where_there_is_no_collection_yet_it_is_said_how_to_make_one():
    with pytest.raises(ValueError, match=NODE + "saved: no collection is called gone: there are none yet; Video Met"):
        compare(saved="gone")


# ---- texts that are linked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("given, why", [
    ("hello", "JSONDecodeError"), (text()[:-3], "JSONDecodeError"), (text() + "x", "JSONDecodeError"),
    ("[" * 10**6, "RecursionError"), ('{"a":' * 10**5, "RecursionError"),
    ("5", "TypeError"), ("null", "TypeError"), ("[1, 2]", "TypeError"), ('"text"', "TypeError"),
    ('{"a": 1}', "KeyError"), ('{"metrics": null}', "TypeError"), ('{"metrics": [1]}', "TypeError"),
    ('{"metrics": [{"metric": "m", "value": 1}]}', "KeyError"), ('{"metrics": []}', "no metrics"),
    (text([1]), "m must be a number"), (text({}), "m must be a number"), (text("0.5"), "m must be a number"),
    (text(True), "m must be a number"), (text(math.inf), "m .* must be between"),
    (text(1.0).replace("1.0", "1e999"), "m .* must be between"), (text(10**400), "m .* must be between"),
    (text(-1e16), "m .* must be between"), (text(metric=None), "TypeError"), (text(metric=["m"]), "TypeError"),
    (text(metric="a|b"), "a|b is no name"), (text(metric="a\nb"), "is no name"), (text(metric=""), "is no name"),
    (text(metric="x" * 101), "is no name"), (text(metric="<img src=x>"), "is no name"),
    (text(better=2), "better .* must be between"), (text(better=math.nan), "better must be a whole number"),
    (text(better=None), "better must be a whole number"),
])  # fmt: skip
def test_a_text_that_holds_no_metrics_is_refused_in_a_line(given, why):
    words = rf"metrics_b holds no metrics at sign \d+ \(.*{why}.*\); it must be what Video Metrics puts out$"
    with pytest.raises(ValueError, match=NODE + words) as caught:
        compare(text(), given)
    assert len(str(caught.value)) < 300 and "\n" not in str(caught.value)


@pytest.mark.parametrize("given, words", [
    ("", "metrics_a is empty"), (" \n", "metrics_a is empty"), (5, "metrics_a must be text .* not int"),
    (None, "metrics_a must be text .* not NoneType"), (["a"], "metrics_a must be text .* not list"),
])  # fmt: skip
def test_no_text_is_refused(given, words):
    with pytest.raises(ValueError, match=NODE + words):
        compare(given)


def test_nothing_to_compare_is_said():
    with pytest.raises(ValueError, match=NODE + "nothing to compare: name collections in saved, or link metrics_a"):
        compare()


def test_more_groups_than_a_picture_holds_are_refused(output, monkeypatch):
    stored(output.parents[1], "a", [1.0])
    monkeypatch.setattr(metrics, "MOST", 5)
    with pytest.raises(ValueError, match=NODE + "saved: 6 groups of 1 metrics are more than a picture holds, 5"):
        compare(saved="a" + "| a" * 5)
    assert len(cells(compare(saved="a | a"))["m"]) == 3


def test_what_is_not_known_is_a_dash_and_judges_nothing():
    """null, as Video Metrics writes it, and NaN, as others do."""
    for unknown in (None, math.nan):
        assert cells(compare(text(unknown), several(1, 2)))["m"] == ["higher", "-", "1.500 +- 6.353"]
        assert cells(compare(several(unknown, 1, 2), several(9, unknown, 9.1)))["m"][2].endswith(" better")
        assert list(cells(compare(text(unknown), text(unknown)))) == ["Metric"]


@pytest.mark.parametrize("values, wanted", [
    (([1], [2]), ["1.000", "2.000 one video"]), (([1], [1]), ["1.000", "1.000"]),
    (([1, 1], [2, 2]), ["1.000 +- 0.0000", "2.000 +- 0.0000 better"]),
    (([0.5, 0.6], [0.55, 0.56]), ["0.5500 +- 0.6353", "0.5550 +- 0.0635"]),
    (([1e15, 1e15], [-1e15, -1e15]), ["1000000000000000.0 +- 0.0000", "-1000000000000000.0 +- 0.0000 worse"]),
])  # fmt: skip
def test_the_table_has_mean_interval_and_verdict(values, wanted):
    assert cells(compare(*(several(*group) for group in values)))["m"][1:] == wanted


@pytest.mark.parametrize("better, way, verdict", [(1, "higher", "better"), (-1, "lower", "worse"), (0, "", "differs")])
def test_the_way_is_the_documents(better, way, verdict):
    found = cells(compare(several(1, 1.1, better=better), several(3, 3.1, better=better)))["m"]
    assert found[0] == way and found[2].endswith(" " + verdict)


def test_groups_of_other_metrics_stand_in_one_table():
    found = cells(compare(text(1, "one"), text(2, "two"), text(3, "one")))
    assert {name: row[1:] for name, row in found.items() if name != "Metric"} == {
        "one": ["1.000", "-", "3.000 one video"], "two": ["-", "2.000", "-"]}  # fmt: skip


def test_one_group_is_shown_and_nothing_is_judged():
    result = compare(several(1, 2, 3))
    assert "One group: nothing to compare it with" in result.args[0] and "Welch" not in result.args[0]
    assert cells(result)["m"] == ["higher", "2.000 +- 2.484"]


@pytest.mark.parametrize("labels, wanted", [
    ("", ["metrics_a", "metrics_b"]), ("x", ["x", "metrics_b"]), (" | y ", ["metrics_a", "y"]),
    ("a\nb | c\td", ["a b", "c d"]), ("1 | 2 | 3 | 4", ["1", "2"]), ("x" * 5000, ["x" * 5000, "metrics_b"]),
    ("\u00e9 | \u4e2d", ["\u00e9", "\u4e2d"]),
])  # fmt: skip
def test_labels_name_the_groups(labels, wanted):
    result = compare(text(), text(), labels=labels)
    assert cells(result)["Metric"] == ["Better", *wanted]
    plot = result.args[1]
    assert plot.ndim == 4 and plot.shape[-1] == 3 and plot.std() > 0.05 and plot.shape[2] == 1024
    assert result.ui["longtake_report"] == [result.args[0]] and result.ui["images"][0]["type"] == "temp"
