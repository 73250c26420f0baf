"""The papers' tables: every row samples and is measured, on the demo model and on a real class, and is resumed."""

import json

import folder_paths
import pytest
from comfy_api.latest import InputImpl
from longtake.benchmarks import paper_tables, papers, real
from longtake.nodes import metric_encoders as encoder_nodes
from longtake.samplers.adapters import metric_encoders
from longtake.samplers.adapters.video_read import Reader
from longtake.samplers.metrics import features
from support import tiny_cogvideox, tiny_encoders

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.mark.parametrize("table", paper_tables.TABLES, ids=lambda table: table.title)
def test_tables_are_whole(table):
    assert table.reference in table.rows
    assert all(len(numbers) == len(table.columns) for numbers in table.paper.values())
    assert set(table.paper) <= set(table.rows)


def test_the_small_version_runs_whole(tmp_path, capsys):
    papers.main(["--small", "--out", str(tmp_path)])
    found = json.loads((tmp_path / "papers.json").read_text())
    text = (tmp_path / "papers.md").read_text()
    assert found.keys() == {table.title for table in paper_tables.TABLES}
    for table in paper_tables.TABLES:
        assert found[table.title].keys() == table.rows.keys()
        for row, one in found[table.title].items():
            assert one["evaluations"] > 0 and one["metrics"]["seam_mae"]["mean"] > 0, (table.title, row)
        assert f"## {table.title}" in text and (tmp_path / papers.name(table)).stat().st_size > 5000
    glc = found["GLC Table 1: methods, x6"]
    assert glc["GLC"]["paper"] == {"subject": 94.17, "background": 95.85, "motion": 98.35, "flicker": 96.86,
                                   "imaging": 68.25}  # fmt: skip
    assert found["SynCoS Table 3: its stages"]["all three"]["evaluations"] == 1
    # What differs is measured as different, and what is the same once is the same everywhere.
    part = found["GLC Table 2: its parts, x3"]
    for name in ("w/o global", "w/o local", "w/o noise reinit", "w/o ABAM", "w/o VMCR", "w/o GLCD"):
        assert part[name]["metrics"] != part["GLC"]["metrics"], name
    assert part["GLC"]["metrics"]["jerk"]["mean"] == glc["GLC"]["metrics"]["jerk"]["mean"]
    lines = (tmp_path / "papers_videos.jsonl").read_text()
    capsys.readouterr()
    papers.main(["--small", "--out", str(tmp_path), "--resume"])
    assert (tmp_path / "papers_videos.jsonl").read_text() == lines
    assert (tmp_path / "papers.md").read_text() == text


@pytest.fixture
def folders(tmp_path, monkeypatch):
    with tiny_cogvideox.model_folders(tmp_path, ["CogVideoX-2b"]):
        metrics = tmp_path / "metrics"
        metrics.mkdir()
        monkeypatch.setitem(folder_paths.folder_names_and_paths, encoder_nodes.CATEGORY, ([str(metrics)], set()))
        tiny_encoders.with_tokenizer(tiny_encoders.saved(metrics / "clip", tiny_encoders.clip_model()))
        tiny_encoders.saved(metrics / "dino", tiny_encoders.vit_model())
        yield tmp_path


def test_a_real_model(folders, capsys):
    out = folders / "out"
    line = ["--model", "CogVideoX-2b", "--encoders", "dino", "clip", "--clip-frames", "9", "--size", "96", "64",
            "--small", "--tables", "GLC Table 1: methods, x3", "SynCoS Table 1", "--out", str(out)]  # fmt: skip
    papers.main(line)
    found = json.loads((out / "papers.json").read_text())
    rows = [json.loads(text) for text in (out / "papers_videos.jsonl").read_text().splitlines()]
    films = {path.name for path in (out / "papers_videos").glob("*.mp4")}
    assert len(films) == 8 and {row["file"] for row in rows} < films
    fifo = found["SynCoS Table 1: methods"].pop("FIFO-Diffusion")  # which gives frames noise levels of their own
    assert fifo["evaluations"] is None and fifo["paper"]["subject"] == 83.54
    for one in [*found["GLC Table 1: methods, x3"].values(), *found["SynCoS Table 1: methods"].values()]:
        known = {name for name, value in one["metrics"].items() if value["mean"] is not None}
        assert {"temporal_flicker", "motion_smoothness", "scenes", "seam_warp", "prompt_global"} <= known
    assert found["SynCoS Table 1: methods"]["SynCoS"]["metrics"]["prompt_local"]["mean"] is not None
    # The same by hand: the film's frames through the encoder.
    row = next(row for row in rows if row["variant"] == "genl")
    args = papers.parse(line)
    source = real.Film(out / "papers_videos" / row["file"], row["frames"])
    encoder = metric_encoders.from_folder(encoder_nodes.find("clip"))
    reader = Reader(InputImpl.VideoFromFile(str(source.path)))
    frames = reader.read(reader.count)
    reader.close()
    score = features.global_fidelity(encoder.images(frames), encoder.texts([real.texts_of(args.texts)[0][0]]))[0]
    assert row["metrics"]["prompt_global"] == pytest.approx(score, abs=1e-6)
    changes = (frames[1:] - frames[:-1]).abs().mean().item()
    assert row["metrics"]["temporal_flicker"] == pytest.approx(1 - changes, abs=1e-5)


@pytest.mark.parametrize(
    "words, error",
    [
        (["--tables", "nothing like it"], "--tables: none of"),
        (["--prompts", "0"], "--prompts: 0; at least 1"),
        (["--seeds", "-1"], "--seeds: -1; at least 1"),
    ],
)
def test_wrong_words_are_refused(words, error, capsys):
    with pytest.raises(SystemExit):
        papers.main(words)
    assert error in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "[]", '{"prompts": []}', '{"prompts": [], "scenarios": [{"prompt": 1}]}',
                                  '{"prompts": [], "scenarios": [{"prompt": "a", "events": ["b | c"]}]}'])  # fmt: skip
def test_a_wrong_file_of_texts_is_refused(tmp_path, text):
    (tmp_path / "texts.json").write_text(text)
    with pytest.raises(SystemExit, match="--texts"):
        real.texts_of(tmp_path / "texts.json")
