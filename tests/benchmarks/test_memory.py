"""The benchmark of memory counts allocations exactly and names the lines that made them; small real runs of it."""

import gc

import pytest
import torch
from longtake.benchmarks import allocations, memory, methods

MB = 10**6  # bytes of a tensor of 250,000 floats

pytestmark = pytest.mark.usefixtures("one_thread")


def floats(count=250_000):
    return torch.empty(count)


def test_counts_what_is_alive_at_once():
    def run():
        kept = [floats() for _ in range(3)]
        dropped = floats()
        dropped = None  # noqa: F841
        with torch.inference_mode():
            view = kept[0].view(500, 500)[:, ::2]
            view += 1  # nothing new
            kept.append(floats(500_000))

    assert allocations.measure(run).bytes == 5 * MB


def test_counts_temporaries_inside_an_operation():
    spectrum = torch.zeros(8, 64, 33, dtype=torch.complex64)
    out = torch.fft.irfftn(spectrum, s=(8, 64, 64)).nbytes
    peak = allocations.measure(lambda: torch.fft.irfftn(spectrum, s=(8, 64, 64)))
    assert peak.bytes >= out + spectrum.nbytes  # the inverse over the first axes


def test_starts_from_what_was_alive_before():
    old = floats()

    def run(held=[old]):  # noqa: B006
        held.clear()
        return floats() + 1.0

    del old
    assert allocations.measure(run).bytes == pytest.approx(2 * MB, abs=100)  # the scalar is a tensor, too


def test_a_cycle_is_alive_until_it_is_collected():
    def run():
        for _ in range(4):
            cycle = [floats()]
            cycle.append(cycle)

    assert memory.without_collector(lambda: allocations.measure(run)).bytes == 4 * MB
    assert gc.isenabled()


def test_names_the_lines_that_hold_the_peak():
    def run():
        kept = floats()
        floats(500_000)
        return kept

    peak = allocations.measure(run)
    assert list(peak.sites.values()) == [2 * MB, MB]
    for stack, line in zip(peak.sites, ("run", "run"), strict=True):
        assert stack[0].startswith("tests/benchmarks/test_memory.py:") and stack[0].endswith(" floats")
        assert stack[1].endswith(f" {line}")
    first, second = (int(stack[1].split(":")[1].split()[0]) for stack in peak.sites)
    assert first == second + 1


def test_an_address_used_again_is_another_block():
    blocks = [(1, 100, 7, ("a",)), (2, -100, 7, ()), (3, 300, 7, ("b",)), (4, -300, 7, ()), (5, -50, 9, ())]
    assert allocations._peak(blocks) == allocations.Peak(300, {("b",): 300})


def test_what_is_alive_while_a_network_runs():
    inside = ("comfy/ops.py:1 forward", "comfy/ldm/wan/model.py:2 forward", "comfy/samplers.py:3 f")
    blocks = [(1, 100, 1, ("a",)), (2, 50, 2, inside), (3, -50, 2, ()), (4, 70, 3, ("a",)), (5, 10, 4, inside)]
    peak = allocations._peak(blocks)
    assert (peak.bytes, peak.call) == (180, 180)
    peak = allocations._peak(blocks[:4])
    assert (peak.bytes, peak.call) == (170, 150)


def test_a_row_parts_what_grows_from_the_rest():
    latents = {1: 100, 6: 600, 20: 2000}
    sites = {("samplers/windows.py:1 f", "x"): 3000, ("comfy/sample.py:2 g",): 2950, (): 50}
    row = memory.Row({s: allocations.Peak(3 * n + 50, sites, 2 * n) for s, n in latents.items()}, latents)
    assert (row.grows, row.grows_in_calls, row.rest(20), row.rest(1), row.ours) == (3, 2, 50, 50, 1.5)
    assert row.holders() == [("samplers/windows.py:1 f", 1.5), ("comfy/sample.py:2 g", 1.475)]


def test_a_real_run(tmp_path, monkeypatch):
    """Windows hold their sums and no more than a call's windows beside them; the whole video at once holds all."""
    monkeypatch.setattr(memory, "SIZE", (40, 78))
    path = tmp_path / "memory.md"
    memory.main(["--methods", "no windows", "windows", "--scales", "1", "2", "3", "--out", str(path)])
    lines = path.read_text(encoding="utf-8").splitlines()
    table = {cells[0]: cells[1:] for cells in ([c.strip() for c in line.strip("|").split("|")] for line in lines
                                              if line.startswith("| "))}  # fmt: skip
    assert table.keys() == {"method", "no windows", "windows"}
    whole, windows = table["no windows"], table["windows"]
    assert whole[0] == windows[0]  # one window: the same run
    assert float(windows[3]) < float(whole[3]) / 2
    assert float(windows[4]) == pytest.approx(7, abs=0.01)  # noise, x, x0, direction, next x; two sums
    assert float(whole[5]) == 0 and float(windows[5]) >= 2
    assert any(line.startswith("- windows: ") and "samplers/adapters/engine.py:" in line for line in lines)


@pytest.mark.parametrize("name", list(methods.METHODS))
def test_every_method_samples(name):
    model = methods.tiny_wan(dim=128, layers=1, patch=(1, 2, 2))
    out = methods.sampling(methods.METHODS[name], model, (1, 16, 12, 4, 4))()
    assert out.shape == (1, 16, 12, 4, 4) and out.isfinite().all()
