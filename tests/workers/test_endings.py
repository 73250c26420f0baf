"""Runs that start Ray for themselves: it listens on this machine alone, and nothing of it is left, however they end."""

import os
import time
from pathlib import Path

import comfy.model_management
import folder_paths
import psutil
import pytest
import ray
import torch
from longtake.samplers.adapters.ray_actors import AUTHENTICATION
from longtake.samplers.adapters.shared_attention import apply_ditctrl, apply_video_infinity
from longtake.samplers.adapters.workers import WorkerSettings, apply_workers
from support import tiny_wan
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread")


class OTHERS:
    pids: set[int] = set()


@pytest.fixture
def temp(tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path))
    before = {p.pid for p in children()}  # a server of other tests
    monkeypatch.setattr(OTHERS, "pids", before)
    return tmp_path


def sample(count, callback=None):
    model = apply_workers(windowed(tiny_wan.patcher()), WorkerSettings(count, gpus=0))
    with torch.inference_mode():
        return tiny_wan.run(model, callback=callback)


def children():
    return [p for p in psutil.Process().children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE]


def listening(process):
    try:
        return [c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN]
    except psutil.Error:
        return []


def left(temp):
    """What is left of Ray: connected, processes, files."""
    processes = [p.name() for p in children() if p.pid not in OTHERS.pids]
    return ray.is_initialized(), processes, [*temp.iterdir(), *Path("/tmp").glob(f"longtake-ray-{os.getpid()}-*")]


def test_success(temp):
    found, home, environment = set(), Path.home() / ".ray", dict(os.environ)
    was_there = home.exists()

    def look(*_):
        found.update(ip for process in [psutil.Process(), *children()] for ip in listening(process))

    assert torch.equal(sample(2, look), sample(0))
    assert found and all(ip.removeprefix("::ffff:").startswith("127.") or ip == "::1" for ip in found)
    assert left(temp) == (False, [], [])
    assert home.exists() == was_there
    assert {name: os.environ.get(name) for name in AUTHENTICATION} == {n: environment.get(n) for n in AUTHENTICATION}


def test_cancel(temp):
    steps = []

    def cancel(step, *_):
        steps.append(time.monotonic())
        comfy.model_management.interrupt_current_processing()

    with pytest.raises(comfy.model_management.InterruptProcessingException):
        sample(2, cancel)
    assert len(steps) == 1 and left(temp) == (False, [], [])


def test_error(temp):
    def fail(*_):
        raise ValueError("of another node")

    with pytest.raises(ValueError, match="of another node"):
        sample(1, fail)
    assert left(temp) == (False, [], [])


def test_no_cluster_at_an_address(temp):
    model = apply_workers(windowed(tiny_wan.patcher()), WorkerSettings(1, "127.0.0.1:9", 0))
    said = r"address \(127.0.0.1:9\): no Ray cluster answers there: .*ray start --head"
    with pytest.raises(RuntimeError, match=said):
        tiny_wan.run(model)
    assert left(temp) == (False, [], [])


def test_a_model_without_windows_is_refused_before_ray_starts(temp):
    model = apply_workers(tiny_wan.patcher(), WorkerSettings(2, gpus=0))
    with pytest.raises(ValueError, match=r"LongTakeWorkers\): model: has no windows .*Scheduler .* workers to 0"):
        tiny_wan.run(model)
    assert left(temp) == (False, [], [])


@pytest.mark.parametrize("share, node", [
    (lambda m: apply_ditctrl(m, 0, -1, 0.0, 1.0, "auto"), "LongTakeDiTCtrl"),
    (lambda m: apply_video_infinity(m, 2, 10.0, 800.0, False, 0, -1, 0.0, 1.0, "auto"), "LongTakeVideoInfinity"),
])  # fmt: skip
def test_windows_that_read_each_other_are_refused_before_ray_starts(temp, share, node):
    model = apply_workers(share(windowed(tiny_wan.patcher())), WorkerSettings(2, gpus=0))
    with torch.inference_mode(), pytest.raises(ValueError, match=rf"LongTakeWorkers.*{node}.*set workers to 0"):
        tiny_wan.run(model)
    assert left(temp) == (False, [], [])
