"""Cost lines say what a run takes, for every method, place of the anchor and number of windows per model call."""

import pytest
from longtake.benchmarks import evaluations, methods

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model():
    return methods.tiny_wan(dim=128, layers=2, patch=(1, 2, 2))


@pytest.mark.parametrize("name", [name for name, case in evaluations.CASES.items() if case.parts])
def test_a_run_takes_what_its_cost_line_says(name, model):
    case = evaluations.CASES[name]
    for batch in (1, 2, 4) if "windows" in case.parts else (1,):
        promised, taken, calls = evaluations.compare(case, batch, model)
        assert promised == taken
        assert calls < taken


def test_reads_both_kinds_of_line():
    plain = "LongTake windows: .. 3 steps x 2 CFG branches = 36 window evaluations, 1.00x plain windows (36), for .."
    syncos = "SynCoS: 1 of 3 steps coupled, 2 iterations of 4 of 6 chunks; 26 window predictions, 1.44x plain windows"
    assert evaluations.said([plain]) == 36
    assert evaluations.said([syncos + ".", plain]) == 52
    assert evaluations.said([syncos + " (8 of them without the negative prompt).", plain]) == 44
    assert evaluations.said(["VMCR: refines 3 of 3 steps"]) is None


def test_a_difference_is_an_error(model, monkeypatch, capsys):
    monkeypatch.setattr(evaluations, "compare", lambda method, batch, model: (36, 36 + batch - 1, 9))
    with pytest.raises(SystemExit, match="differ: windows, 2 per call$"):
        evaluations.main(["--methods", "windows", "--batches", "1", "2"])
    assert capsys.readouterr().out.count("differs") == 1
