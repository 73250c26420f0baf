"""Windows computed by Ray's actors on this machine: the same bytes, whatever happens to a worker; and nothing left.

Ray is started once, and four actors for the runs that end well. Runs that start and end Ray: test_endings.py.
"""

import contextvars
import logging
import os
import random
import re
import signal
import sys
import threading
import types

import comfy.controlnet
import comfy.model_management
import folder_paths
import psutil
import pytest
import ray
import torch
from longtake.samplers.adapters import model_file, pool, ray_actors, workers
from longtake.samplers.adapters.checkpoint import CheckpointSettings, apply_checkpoint
from longtake.samplers.adapters.run_digest import versions
from longtake.samplers.adapters.run_folders import kept_runs
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.adapters.workers import WorkerSettings, apply_workers
from longtake.samplers.freelong import BandBlend
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.workers import DEPTH, Paces, next_worker
from support import tiny_wan, zoo, zoo_runs
from support.windows import anchored, coupled, windowed

pytestmark = pytest.mark.usefixtures("one_thread", "temp")
LOG = "longtake.samplers.adapters"


@pytest.fixture(scope="module")
def temp(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("temp")
        patch.setattr(folder_paths, "temp_directory", str(folder))
        yield folder


@pytest.fixture(scope="module")
def ray_of_all(temp):
    """Ray for all of the module, with room for further actors."""
    with ray_actors.connected("local", 8, 0):
        yield


@pytest.fixture(scope="module")
def four(ray_of_all, one_thread):
    with workers.held(WorkerSettings(4, gpus=0)) as found:
        yield found


def vmcr():
    from comfy.samplers import ksampler

    return refine_sampler(ksampler("euler"), RefineSettings())


def glc(model):
    path = GlobalPath(0.005, 5e-4)
    return anchored(windowed(model, extra_path=path, schedule="random_shift", window_batch=2))


def bands(model):
    return windowed(model, extra_path=BandBlend(GlobalPath(1.0, 0.0)), window_batch=2)


def lora(model):
    """Patches of weights, a patch of an object, and a wrapper with code of its own."""
    model = windowed(model)
    keys = [key for key, _ in model.model.named_parameters() if "self_attn.q.weight" in key]
    shapes = dict(model.model.named_parameters())
    model.add_patches({key: ("diff", (0.05 * torch.ones_like(shapes[key]),)) for key in keys}, 0.5)
    strength = torch.full((1,), 1.01)

    def wrapper(apply, args):
        return apply(args["input"], args["timestep"], **args["c"]) * strength

    wrapper.__module__ = "comfy_extras.of_a_node"  # as core's nodes make them: inside a function
    model.set_model_unet_function_wrapper(wrapper)
    return model


CASES = {  # model, sampler, prompt
    "windows": (windowed, lambda: "euler", None),
    "several windows to a call": (lambda m: windowed(m, window_batch=3), lambda: "heun", None),
    "GLC whole": (glc, vmcr, None),
    "FreeLong++": (bands, lambda: "euler", None),
    "anchor in every call": (lambda m: anchored(windowed(m, window_batch=2), cache="recompute"), lambda: "euler", None),
    "SynCoS": (windowed, coupled, None),
    "LoRA and patches": (lora, lambda: "euler", None),
    "timeline": (windowed, lambda: "euler", lambda: tiny_wan.timeline(tiny_wan.TOTAL, [0, 25], blend=8.0)),
}


def sample(name, count=0, change=lambda model: model, **kwargs):
    make, sampler, positive = CASES[name]
    model = change(apply_workers(make(tiny_wan.patcher()), WorkerSettings(count, gpus=0)))
    with torch.inference_mode():
        return tiny_wan.run(model, sampler=sampler(), positive=positive and positive(), **kwargs)


@pytest.fixture(scope="module")
def alone(one_thread, temp):
    """What one process makes."""
    return {name: sample(name) for name in CASES}


@pytest.mark.parametrize("count", [2, 4])
@pytest.mark.parametrize("name", CASES)
def test_the_same_bytes_as_in_one_process(four, alone, name, count, caplog):
    with caplog.at_level(logging.INFO, LOG):
        video = sample(name, count)
    assert torch.equal(video, alone[name])
    shares = [int(n) for n in re.findall(r"process \d+\) (\d+)", caplog.text)]
    assert len(shares) == count and sum(n > 0 for n in shares) >= 2, caplog.text


@pytest.mark.parametrize("name", ["LoRA and patches", "windows"])
def test_a_lora_of_a_model_that_is_gone_is_taken_off(four, alone, name):
    """Core leaves it on the weights, which many MODELs share. It forgets a MODEL whose clones go all at once."""
    sample("LoRA and patches")
    comfy.model_management.current_loaded_models.clear()
    assert tiny_wan.patcher().backup
    assert torch.equal(sample(name, 2), alone[name])


def test_a_slow_worker_gets_fewer_calls(four, alone, monkeypatch):
    class Slow(pool.Paces):
        def note(self, worker, cost, seconds):
            super().note(worker, cost, seconds * (100 if worker == 1 else 1))

    monkeypatch.setattr(pool, "Paces", Slow)
    pools = []
    model = apply_workers(windowed(tiny_wan.patcher()), WorkerSettings(2, gpus=0), pools.append)
    with torch.inference_mode():
        assert torch.equal(tiny_wan.run(model, steps=10), tiny_wan.run(windowed(tiny_wan.patcher()), steps=10))
    quick, slow = pools[0].workers
    assert quick.calls + slow.calls == 40 and 2 <= slow.calls <= 6  # what it had before anybody knew, and tries again


def test_weights_are_those_of_the_head_to_pytorch(four):
    """It takes another kernel for a text's part of a joint attention where a weight could be trained, as core's can."""
    def video(count):
        model = windowed(zoo.patcher("hunyuan_video"), window_batch=2)
        with torch.inference_mode():
            return zoo_runs.run("hunyuan_video", apply_workers(model, WorkerSettings(count, gpus=0)))

    assert torch.equal(video(2), video(0))


def test_what_another_pack_puts_around_sampling_stays_here(four, alone):
    seen = []

    def around(executor, *args, **kwargs):
        seen.append(1)
        return executor(*args, **kwargs)

    def add(model):
        for stage in pool.STAGES:
            model.add_wrapper_with_key(stage, "another pack", around)
        return model

    around.__module__ = "some_pack.nodes"
    assert torch.equal(sample("windows", 2, add), alone["windows"])
    assert len(seen) > len(pool.STAGES)


def test_texts_go_once(four, caplog):
    with caplog.at_level(logging.INFO, LOG):
        sample("windows", 2)
    sent = float(re.search(r"([\d.]+) MB sent", caplog.text).group(1)) * 1e6
    calls, text, latent = 12, 2 * 12 * 4096 * 4, 16 * 5 * 4 * 4 * 4
    assert 2 * text + calls * latent < sent < 2 * text + calls * (latent + 20_000)


def killed(worker, delay):
    """A thread that ends a worker's process after `delay` seconds."""
    number = int(worker.place.rpartition(" ")[2])
    timer = threading.Timer(delay, os.kill, (number, signal.SIGTERM if os.name == "nt" else signal.SIGKILL))
    timer.start()
    return timer


def test_a_killed_workers_calls_alone_are_computed_again(ray_of_all, alone, caplog):
    with workers.held(WorkerSettings(3, gpus=0)) as found:
        for n, worker in enumerate(found[:2]):
            caplog.clear()

            def kill(step, *_, n=n, worker=worker):
                if step == n:  # then it dies somewhere in the next one
                    killed(worker, random.Random(n).uniform(0, 0.1))

            with caplog.at_level(logging.INFO, LOG):
                assert torch.equal(sample("GLC whole", 3, callback=kill, steps=5), sample("GLC whole", steps=5))
            assert caplog.text.count("is lost") == n + 1  # the first one again, when the model is loaded
            again = [int(found) for found in re.findall(r"(\d+) calls are computed again", caplog.text)]
            assert sum(again) <= DEPTH


def test_a_worker_that_hangs_is_given_up(ray_of_all, alone, caplog, monkeypatch):
    """The others go on, though it was the quickest; the last one is waited for."""
    monkeypatch.setattr(pool, "LATEST", 2.0)
    monkeypatch.setattr(pool, "LATE", 0.0)
    with workers.held(WorkerSettings(2, gpus=0)) as found:
        first, last = (psutil.Process(int(worker.place.rpartition(" ")[2])) for worker in found)

        def hang(step, *_):
            if step == 0:
                first.suspend()
            if step == 1:
                last.suspend()
                threading.Timer(3.0, last.resume).start()

        with caplog.at_level(logging.INFO, LOG):
            assert torch.equal(sample("windows", 2, callback=hang), alone["windows"])
    assert re.findall(r"(worker \d) .* is lost \(no answer", caplog.text) == ["worker 1"]
    first.wait(20)


def call_of(lengths, others):
    """A call of windows of these lengths, of a path whose windows have the other lengths."""
    one, path = (types.SimpleNamespace(windows=[types.SimpleNamespace(index_list=range(n)) for n in some])
                 for some in (lengths, others))  # fmt: skip
    return types.SimpleNamespace(call=one, path=path)


def test_a_short_piece_costs_its_share_and_tells_no_pace():
    """Else a worker that was quick with one frame would be given up in its next whole window."""
    costs = [pool.Task(0, call_of(lengths, [7, 7, 1])).cost for lengths in ([7], [7, 7], [1], [4])]
    assert costs == [1.0, 2.0, pytest.approx(1 / 7), pytest.approx(4 / 7)]
    paces = Paces()
    for cost, seconds in ((1 / 7, 500.0), (1.0, 900.0), (1 / 7, 0.5), (1.0, 60.0), (1 / 7, 0.5)):
        paces.note("one", cost, seconds)
    assert paces.known == {"one": 60.0}  # the first whole window's said nothing: the model was loaded in it


def test_a_late_worker_keeps_nobody_waiting():
    call = call_of([7], [7])
    late = pool.Worker(0, None, flying={n: (pool.Task(n, call), 0) for n in range(DEPTH)}, since=100.0)
    assert late.waiting(100.25, 1.0) == DEPTH - 0.25
    waiting = [late.waiting(100.0 + 5, 1.0), 0.0]
    assert next_worker(waiting, [DEPTH, 0], [1.0, 3.0], 1.0) == 1


def test_a_model_that_cannot_be_written_is_said(four, tmp_path, monkeypatch):
    (tmp_path / "full").write_bytes(b"")  # no folder
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "full"))
    said = r"LongTakeWorkers\): model: cannot be written to .*full.*--temp-directory.*workers to 0"
    with pytest.raises(RuntimeError, match=said):
        sample("windows", 2)


def test_all_workers_lost_keeps_the_run(ray_of_all, alone, tmp_path, monkeypatch):
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path))

    def kept(model):
        return apply_checkpoint(model, CheckpointSettings())

    with workers.held(WorkerSettings(2, gpus=0)) as found:

        def lose(step, *_):
            if step == 1:
                for worker in found:
                    killed(worker, 0).join()

        with pytest.raises(RuntimeError, match="all workers are lost, worker"):
            sample("windows", 2, kept, callback=lose)
    (run,) = kept_runs()
    assert run.state.step == 2
    assert torch.equal(sample("windows", 0, kept), alone["windows"])  # resumed here: the same run
    assert len(kept_runs()) == 1


def test_a_worker_with_another_model_or_version_is_refused(four, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(pool, "versions", lambda: {**versions(), "PyTorch's version": "1.0"})
        with pytest.raises(RuntimeError, match=r"worker 1 .* is refused, it differs in: PyTorch's version\."):
            sample("windows", 2)
    write = model_file.write

    def damaged(patcher, path):
        blob = write(patcher, path)
        with open(path, "r+b") as file:  # one weight: the last bytes are the last tensor's
            file.seek(-4096, os.SEEK_END)
            file.write(bytes(4096))
        return blob

    monkeypatch.setattr(model_file, "write", damaged)
    with pytest.raises(RuntimeError, match=r"is refused, it differs in: model"):
        sample("windows", 2)


def foreign(model):
    def wrapper(apply, args):
        return apply(args["input"], args["timestep"], **args["c"])

    wrapper.__module__ = "some_pack.nodes"
    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model


def locked(model):
    model = model.clone()
    model.model_options["transformer_options"]["a_lock"] = threading.Lock()
    return model


@pytest.mark.parametrize("change, said", [
    (foreign, r"foreign.<locals>.wrapper of some_pack.nodes; bypass the node"),
    (locked, r"what only this process has .*lock"),
])  # fmt: skip
def test_what_cannot_be_sent_is_named(four, change, said):
    with pytest.raises(ValueError, match=rf"LongTakeWorkers\): model: .* cannot be sent to workers: {said}"):
        sample("windows", 2, change)


def test_a_live_conditioning_is_named(four):
    model = apply_workers(windowed(tiny_wan.patcher()), WorkerSettings(2, gpus=0))
    with pytest.raises(ValueError, match="conditioning: a ControlNet lives in this process"):
        tiny_wan.run(model, positive=tiny_wan.prompt(1, control=comfy.controlnet.ControlBase()))


def test_without_ray(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    model = windowed(tiny_wan.patcher())
    assert apply_workers(model, WorkerSettings(0)) is model
    with pytest.raises(RuntimeError, match=r"LongTakeWorkers\): workers: more than 0 need Ray.*pip install ray"):
        apply_workers(model, WorkerSettings(2))


@pytest.mark.parametrize("values, said", [
    ({"workers": -1}, "workers"), ({"workers": 1, "address": ""}, "address"),
    ({"workers": 1, "address": "somewhere"}, "address"), ({"workers": 1, "gpus": float("nan")}, "gpus_per_worker"),
])  # fmt: skip
def test_settings_out_of_bounds(values, said):
    with pytest.raises(ValueError, match=said):
        WorkerSettings(**values)


def test_too_few_gpus_are_said(ray_of_all):
    model = apply_workers(windowed(tiny_wan.patcher()), WorkerSettings(2, gpus=1))
    with pytest.raises(RuntimeError, match=r"gpus_per_worker \(1\): the cluster local has 8 CPUs and 0 GPUs"):
        contextvars.Context().run(tiny_wan.run, model)


def test_ray_of_another_pack_is_no_other_cluster(ray_of_all, alone):
    def run(address):
        model = apply_workers(windowed(tiny_wan.patcher()), WorkerSettings(1, address, 0))
        with torch.inference_mode():
            return contextvars.Context().run(tiny_wan.run, model)

    with pytest.raises(RuntimeError, match=r"address \(192.0.2.1:6379\): Ray runs .* give 127.0.0.1:\d+, or local"):
        run("192.0.2.1:6379")
    assert torch.equal(run(ray.get_runtime_context().gcs_address), alone["windows"])
