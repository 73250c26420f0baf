"""The pure parts of the front-end, by the Node that Playwright brings."""

import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

FILES = sorted((Path(__file__).parent / "js").glob("*.test.mjs"))


@pytest.mark.parametrize("tests", FILES, ids=lambda path: path.name)
def test_pure_parts_of_the_widgets(tests):
    run = subprocess.run([compute_driver_executable()[0], "--test", str(tests)], capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "fail 0" in run.stdout
