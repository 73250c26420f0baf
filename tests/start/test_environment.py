"""start.py's set-up: how it repairs itself, what it says when it cannot go on, and that its children end with it."""

import ast
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest
from longtake.tools import environment
from longtake.tools.environment import StartError

ROOT = Path(__file__).resolve().parents[2]


def fake_steps(folder, done, broken=None):
    def step(name):
        def action():
            if name == broken:
                raise KeyboardInterrupt
            (folder / name).touch()
            done.append(name)

        return name, folder / name, action

    return [step(name) for name in ("one", "two", "three")]


def test_interrupted_set_up_goes_on_and_a_finished_one_does_nothing(tmp_path):
    folder, done = tmp_path / "new" / "folder", []
    with pytest.raises(KeyboardInterrupt):
        environment.run_steps(folder, fake_steps(folder, done, broken="two"))
    environment.run_steps(folder, fake_steps(folder, done))
    assert done == ["one", "two", "three"]
    environment.run_steps(folder, fake_steps(folder, done))
    assert done == ["one", "two", "three"]


def test_a_lost_result_redoes_its_step_and_those_after_it(tmp_path):
    done = []
    environment.run_steps(tmp_path, fake_steps(tmp_path, done))
    (tmp_path / "two").unlink()
    environment.run_steps(tmp_path, fake_steps(tmp_path, done))
    assert done == ["one", "two", "three", "two", "three"]


def test_two_set_ups_at_once_do_each_step_once(tmp_path, capfd):
    done = []
    steps = fake_steps(tmp_path, done)
    slow = [(name, result, lambda act=action: (time.sleep(0.2), act())) for name, result, action in steps]
    threads = [threading.Thread(target=environment.run_steps, args=(tmp_path, slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == ["one", "two", "three"]
    assert "another start.py is setting up" in capfd.readouterr().out


def test_an_interrupted_install_starts_from_an_empty_environment(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(environment, "make_venv", lambda folder: calls.append("venv"))

    def pip(folder, args, label):
        calls.append("pip")
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(environment, "pip", pip)
    with pytest.raises(KeyboardInterrupt):
        environment.install_packages(tmp_path)
    environment.install_packages(tmp_path)
    assert calls == ["pip", "venv", "pip"]


def test_a_wrong_wheel_is_refused(tmp_path):
    wheel = tmp_path / "horde.whl"
    wheel.write_bytes(b"something else")
    with pytest.raises(StartError, match="horde.whl is not the expected file: sha256 [0-9a-f]{64}, expected ca88"):
        environment.check_wheel(wheel)


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - 10**9, 10**9)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setenv("LONGTAKE_HOME", str(tmp_path))
    with pytest.raises(StartError, match="the disk is full: .* needs about 8 GB"):
        environment.set_up()
    assert not list(tmp_path.glob("*/venv"))


@pytest.mark.parametrize(
    "output, line",
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: No matching distribution found for torch==2.11.0",
            "no package index could be reached .pip asked for torch==2.11.0",
        ),
        ("ERROR: No matching distribution found for torch==2.11.0", "pip found no torch==2.11.0 for Python 3"),
        ("ERROR: first\nERROR: the reason", "pip failed: the reason"),
    ],
)
def test_what_pip_says_becomes_one_line(tmp_path, output, line):
    error = environment.pip_error(output, tmp_path / "pip.log")
    assert re.search(line, str(error)) and "\n" not in str(error)


def test_test_tools_are_those_of_pyproject():
    extra = re.search(r"^test = (\[.+\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    requests = [package for package in environment.PACKAGES if package == "requests"]
    assert sorted(ast.literal_eval(extra)) == sorted(environment.TEST_TOOLS + requests)


def test_the_manager_installs_what_pyproject_names_and_comfyui_has_not():
    """ComfyUI's Manager reads requirements.txt; the registry reads pyproject. Neither names torch."""
    text = (ROOT / "pyproject.toml").read_text()
    dependencies = re.search(r"^dependencies = (\[.+?^\])$", text, re.MULTILINE | re.DOTALL).group(1)
    named = ast.literal_eval(dependencies)
    assert [re.match(r"[\w-]+", line)[0] for line in named] == [
        "comfyui-frontend-package", "diffusers", "einops", "numpy", "safetensors",
    ]  # fmt: skip
    asked = (ROOT / "requirements.txt").read_text().splitlines()
    assert asked == [line for line in named if line.startswith("diffusers")]


@pytest.mark.parametrize("version", [(3, 9, 1), (3, 14, 0)])
def test_an_unsupported_python_is_named(version):
    with pytest.raises(StartError, match=f"Python 3.{version[1]} cannot run this: use Python 3.10 to 3.13"):
        environment.check_python(version)


PLAIN = {  # what Python 2.7 can read as well
    "Module", "Expr", "Constant", "Import", "ImportFrom", "alias", "If", "Compare", "Lt", "Eq", "NotEq", "BoolOp",
    "And", "Attribute", "Name", "Load", "Store", "Tuple", "List", "Call", "Assign", "BinOp", "Mod", "Add", "Subscript",
    "Slice",
}  # fmt: skip


def test_any_python_can_read_start_py_to_hear_so():
    tree = ast.parse((ROOT / "start.py").read_text(encoding="ascii"))
    assert {type(node).__name__ for node in ast.walk(tree)} <= PLAIN
    first = next(node for node in tree.body if isinstance(node, ast.If))
    assert "version_info" in ast.unparse(first.test) and "sys.exit(1)" in ast.unparse(first)
    others = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    assert all(node.lineno > first.lineno for node in others)


# ---- children ---------------------------------------------------------------------------------------------------


def wait_until_gone(pid, seconds=5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as file:  # an orphan that nobody reaps is gone all the same
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
        except OSError:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"process {pid} is still there")


PARENT_AND_CHILD = """
import subprocess, sys, time, os
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""


def read_pids(log):
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        pids = log.read_text().split() if log.exists() else []
        if len(pids) == 2:
            return [int(pid) for pid in pids]
        time.sleep(0.05)
    raise AssertionError("the child did not start")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM"])
def test_children_and_theirs_end_with_start_py_however_it_ends(tmp_path, signal_name):
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(PARENT_AND_CHILD)
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT)!r}); from tools.environment import spawn\n"
        f"spawn(sys.executable, [{str(script)!r}], open({str(log)!r}, 'w')); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code])
    pids = read_pids(log)
    owner.send_signal(getattr(signal, signal_name))
    owner.wait()
    for pid in pids:
        wait_until_gone(pid)


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM"])
def test_start_py_leaves_nothing_running(tmp_path, signal_name):
    log = tmp_path / "log"
    words = f"import os, time; open({str(log)!r}, 'w').write(f'{{os.getpid()}} {{os.getppid()}}'); time.sleep(60)"
    (tmp_path / "main.py").write_text(words)
    env = dict(os.environ, COMFYUI_PATH=str(tmp_path), LONGTAKE_HOME=str(tmp_path / "home"))
    command = [sys.executable, str(ROOT / "start.py"), "--cpu", "--out", str(tmp_path / "out")]
    start = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    comfyui, commands = read_pids(log)
    start.send_signal(getattr(signal, signal_name))
    said, _ = start.communicate(timeout=30)
    wait_until_gone(commands)
    wait_until_gone(comfyui)
    assert said.startswith("starting ComfyUI on the CPU\n")
    if signal_name == "SIGTERM":
        assert start.returncode == 130 and said.endswith("\nstart.py: stopped\n") and said.count("stopped") == 1
        assert not list((tmp_path / "home").glob("base-*/run-*"))


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
def test_a_set_up_that_is_killed_leaves_nothing_that_writes(tmp_path):
    def running():
        found = []
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if str(tmp_path).encode() in (process / "cmdline").read_bytes():
                    found.append(int(process.name))
        return found

    env = {name: value for name, value in os.environ.items() if name != "COMFYUI_PATH"}
    env["LONGTAKE_HOME"] = str(tmp_path / "home")
    start = subprocess.Popen([sys.executable, str(ROOT / "start.py"), "serve", "--port", "0"], env=env,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
    deadline = time.monotonic() + 60
    while len(running()) < 2:  # the environment, and the pip that it starts
        assert start.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    start.kill()
    start.wait()
    for process in running():
        wait_until_gone(process)
    assert running() == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX process groups")
def test_stop_ends_the_whole_group(tmp_path):
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(PARENT_AND_CHILD)
    with open(log, "w") as file:
        process = environment.spawn(sys.executable, [script], file)
    pids = read_pids(log)
    environment.stop(process)
    for pid in pids:
        wait_until_gone(pid)
