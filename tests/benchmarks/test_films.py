"""The help pages' filmstrips: each row is a video of its own, each picture is on a page, and a tiny one is drawn."""

import json

import pytest
from longtake.benchmarks import events, films, variants
from PIL import Image, ImageChops

pytestmark = pytest.mark.usefixtures("one_thread")
SHEETS = [(name, sheet) for name, sheets in films.FILMS.items() for sheet in sheets]


@pytest.mark.parametrize("name,sheet", SHEETS)
def test_every_row_is_a_way_of_its_own(name, sheet):
    if sheet.scenario is not None:
        ways = [events.variant(text, [])[1].effective() for text in sheet.rows.values()]
    else:
        ways = [variants.effective(variants.variant(text, [])[1]) for text in sheet.rows.values()]
    assert len({json.dumps(way, sort_keys=True) for way in ways}) == len(ways) > 1


@pytest.mark.parametrize("name", films.FILMS)
def test_a_page_shows_it(name):
    assert (films.DOCS / f"{name}.jpg").exists()
    pages = [films.DOCS.parent.parent / "README.md", *films.DOCS.glob("*.md")]
    assert any(f"{name}.jpg)" in page.read_text(encoding="utf-8") for page in pages)


def test_rows_of_a_prompt_and_of_a_scenario_are_drawn(monkeypatch, tmp_path):
    rows = {"plain windows": "genl", "anchored": "genl:abam=on,anchor=0.9"}
    sheets = [films.Sheet(rows, prompt=1, frames=97), films.Sheet({"plain": "genl", "CSD": "csd"}, scenario=7)]
    monkeypatch.setattr(films, "FILMS", {"both": sheets})
    films.main(["both", "--steps", "1", "--out", str(tmp_path)])
    picture = Image.open(tmp_path / "both.jpg")
    assert picture.width == films.WIDTH and picture.height > 300
    films.main(["--steps", "1", "--out", str(tmp_path)])  # all there are, and the same again
    assert ImageChops.difference(picture, Image.open(tmp_path / "both.jpg")).getbbox() is None


def test_a_name_that_is_none_is_told(capsys):
    with pytest.raises(SystemExit, match="2"):
        films.main(["LongTakeNone"])
    assert "LongTakeNone: not one of longtake_methods" in capsys.readouterr().err
