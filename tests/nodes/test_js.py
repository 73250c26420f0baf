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


WEB = sorted((Path(__file__).parents[2] / "web" / "js").glob("*.js"))


@pytest.mark.parametrize("file", WEB, ids=lambda path: path.name)
def test_every_module_of_the_page_is_one(file, tmp_path):
    """One that does not parse would leave its widgets out of the page, without a word in ComfyUI."""
    copy = tmp_path / f"{file.stem}.mjs"  # .js is no module to Node without a package.json
    copy.write_bytes(file.read_bytes())
    run = subprocess.run([compute_driver_executable()[0], "--check", str(copy)], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
