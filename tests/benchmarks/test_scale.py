"""The benchmark of length: small real runs of both ways into a file and of a sampling, and what is said of them."""

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from longtake.benchmarks import scale

ROOT = Path(__file__).resolve().parent.parent.parent
pytestmark = pytest.mark.usefixtures("one_thread")


def test_both_ways_make_a_file_and_are_measured():
    rows = {way: {1: scale.decode("demo", way, 1)} for way in scale.WAYS}
    assert all(row[1]["seconds"] > 0 and row[1]["size"] > 1000 for row in rows.values())
    text = "\n".join(scale.decoded_lines("demo", [1], rows))
    assert "Decode into a file, demo: 64 x 64" in text and "| core | " in text and "seconds (processor's): x1 " in text


def test_a_sampling_is_measured_in_latents():
    row = {1: scale.sample("CogVideoX-2B", "windows", 1)}
    assert row[1]["latent"] == 4 * 16 * 13 * 60 * 90
    assert "| CogVideoX-2B, windows | " in "\n".join(scale.sampled_lines([1], {"CogVideoX-2B, windows": row}))


def test_the_exponent_is_of_the_growth_with_length():
    rows = {s: {"cpu": 3.0 * scale.latent_frames(s) ** 2} for s in (1, 6, 25)}
    assert scale.exponent(rows, "cpu") == pytest.approx(2) and scale.exponent({1: {"cpu": 1.0}}, "cpu") is None
    assert 4 * scale.latent_frames(25) - 3 == 1225


def test_memory_is_the_peak_and_not_what_stays():
    """In a process of its own, as every figure is: in this one other tests' garbage is collected meanwhile."""
    code = """
        import torch
        with scale.Memory() as memory:
            block = torch.ones(30_000_000)
            block.mul_(2)
            del block
        print(memory.bytes)
    """
    run = [sys.executable, "-c", "from benchmarks.__main__ import register; register()\n"
           "from longtake.benchmarks import scale\n" + textwrap.dedent(code)]  # fmt: skip
    out = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, timeout=300, check=True).stdout
    assert 100e6 < int(out.splitlines()[-1]) < 200e6


def test_a_wrong_length_is_refused(capsys):
    with pytest.raises(SystemExit):
        scale.main(["--scales", "0"])
    assert "--scales: at least 1" in capsys.readouterr().err
