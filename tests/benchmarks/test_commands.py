"""`python -m benchmarks`: what it lists, and what it says to a name or a set-up that it cannot use."""

import importlib
import os
import pkgutil
import signal
import subprocess
import sys
from pathlib import Path

import longtake.benchmarks
import psutil
import pytest
from longtake.benchmarks import __main__ as entry
from longtake.benchmarks import command, events
from longtake.benchmarks.tables import Runs

ROOT = Path(__file__).resolve().parents[2]


def run(*words, **environment):
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *words], cwd=ROOT, env=os.environ | environment, capture_output=True,
        text=True,
    )  # fmt: skip


def test_names_are_the_modules_that_run():
    names = {module.name for module in pkgutil.iter_modules(longtake.benchmarks.__path__)} - {"__main__"}
    modules = {name: importlib.import_module(f"longtake.benchmarks.{name}") for name in names}
    assert set(entry.NAMES) == {name for name, module in modules.items() if hasattr(module, "main")}


def test_alone_it_lists_the_names_without_comfyui():
    done = run(COMFYUI_PATH="")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    for name in entry.NAMES:
        (line,) = (line for line in lines if line.split()[:1] == [name])
        assert entry.summary(name) in line


@pytest.mark.parametrize(
    "words, environment, error",
    [
        (["qualty"], {}, "python -m benchmarks qualty: no such benchmark; there are calls, "),
        (["memory"], {"COMFYUI_PATH": ""}, "COMFYUI_PATH (not set)"),
        (["memory"], {"COMFYUI_PATH": str(ROOT)}, f"COMFYUI_PATH ({ROOT}): must name a ComfyUI folder"),
    ],
)
def test_errors(words, environment, error):
    done = run(*words, **environment)
    assert done.returncode == 1
    assert done.stderr.startswith(error) and len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("name", entry.NAMES)
def test_help_names_the_command(name, capsys):
    with pytest.raises(SystemExit, match="^0$"):
        importlib.import_module(f"longtake.benchmarks.{name}").main(["--help"])
    assert capsys.readouterr().out.startswith(f"usage: python -m benchmarks {name} ")


def test_workers_take_each_run_once_and_see_what_others_made(tmp_path):
    path, claims = tmp_path / "runs.jsonl", tmp_path / "claims"
    claims.mkdir()
    one, two = (Runs(path, True, claims) for _ in range(2))
    assert one.mine("a") and not two.mine("a") and two.mine("b") and not one.mine("b")
    one.add({"key": "a", "variant": "genl"})
    two.add({"key": "b", "variant": "\u00b1"})
    with path.open("ab") as file:
        file.write(b'{"key": "c", "var')  # a line on its way
    one.read()
    assert one.found.keys() == {"a", "b"} and one.found["b"]["variant"] == "\u00b1"
    with path.open("ab") as file:
        file.write(b'iant": "x"}\n')
    for runs in (one, two):
        runs.read()
        assert runs.found.keys() == {"a", "b", "c"}
    assert Runs(path, True).found == one.found and Runs(path, True).mine("a")  # alone, all is one's own


def test_a_worker_that_fails_ends_the_others(tmp_path, capfd):
    line = ["--weights", str(tmp_path), "--out", str(tmp_path / "out"), "--workers", "2"]
    with pytest.raises(SystemExit, match="python -m benchmarks events: a worker failed; --resume goes on"):
        events.main(line)
    assert "FileNotFoundError" in capfd.readouterr().err


@pytest.mark.parametrize("workers", ["0", "-1", "two"])
def test_workers_must_be_some(workers, capsys):
    with pytest.raises(SystemExit, match="2"):
        events.main(["--workers", workers])
    assert "--workers" in capsys.readouterr().err


def test_killed_it_takes_its_workers_along(tmp_path):
    words = [sys.executable, "-m", "benchmarks", "events", "--out", str(tmp_path), "--workers", "2"]
    with subprocess.Popen(words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as run:
        parent = psutil.Process(run.pid)
        while len(workers := parent.children()) < 2:
            assert run.poll() is None
        run.terminate()
        assert run.wait(60) == 128 + signal.SIGTERM
    assert not any(worker.is_running() for worker in workers)


def test_killed_while_it_starts_a_worker_it_takes_that_along(monkeypatch, tmp_path):
    """Before the caller has got it from Popen."""
    started, before = [], signal.getsignal(signal.SIGTERM)

    class Worker(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__([sys.executable, "-c", "import time; time.sleep(600)"])
            started.append(self)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(command.subprocess, "Popen", Worker)
    with pytest.raises(SystemExit) as end:
        events.main(["--workers", "2", "--out", str(tmp_path)])
    assert end.value.code == 128 + signal.SIGTERM and signal.getsignal(signal.SIGTERM) is before
    assert len(started) == 2 and None not in [worker.poll() for worker in started]
