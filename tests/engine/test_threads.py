"""The handler in several threads at once: calls of its own, and core's multi-GPU work units (newer cores)."""

import threading
from concurrent.futures import ThreadPoolExecutor

import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from longtake.samplers.adapters.window import NEW_CORE
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.prompts.timeline import Span
from support import windows, zoo
from support.compare import difference

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, NAME, WORKERS = 10, "wan21_i2v", 3


def windowed():
    settings = {"schedule": "random_shift", "extra_path": GlobalPath(gamma0=0.2), "first_latent": "anchor"}
    return windows.anchored(windows.windowed(zoo.patcher(NAME), window_batch=2, **settings))


def prompts():
    model, total = zoo.zoo()[NAME], 37
    entry = model.conditioning(1, FRAMES)[0]
    events = [
        [zoo.t5(4096)(10 + i)[0], {**entry[1], "start_percent": 1.0, "end_percent": 0.0, "longtake_span": span}]
        for i, span in enumerate((Span(1, 0, 18, 8, total), Span(2, 18, total, 8, total)))
    ]
    return [[entry[0], {**entry[1], "longtake_span": None}], *events], model.conditioning(2, FRAMES)


def run(patcher):
    latent = zoo.zoo()[NAME].latent(FRAMES)
    return comfy.sample.sample(
        patcher, comfy.sample.prepare_noise(latent, 5), 2, 2.0, "euler", "simple", *prompts(), latent,
        disable_pbar=True, seed=5,
    )  # fmt: skip


def test_evaluations_in_threads_equal_those_one_by_one():
    """Each of other latents, all at one time; some at another step, which every call must still know at its end."""
    results, wrong = [], []

    def note(apply, args):
        options = args["c"]["transformer_options"]
        step = int((options["sample_sigmas"] - args["timestep"][0]).abs().argmin())
        if options["longtake"]["step"] != step:
            wrong.append(step)
        return apply(args["input"], args["timestep"], **args["c"])

    def wrapper(executor, x, timestep, model_options, seed):
        if results:
            return executor(x, timestep, model_options, seed)
        sigmas = model_options["transformer_options"]["sample_sigmas"]
        jobs = [(x + i, sigmas[i % 2].expand_as(timestep)) for i in range(WORKERS)]
        results.append([executor(*job, model_options, seed) for job in jobs])
        gate = threading.Barrier(WORKERS, timeout=60)

        def work(job):
            gate.wait()
            with torch.no_grad():
                return executor(*job, model_options, seed)

        with ThreadPoolExecutor(WORKERS) as pool:
            results.append(list(pool.map(work, jobs)))
        return results[0][0]

    patcher = windowed()
    patcher.set_model_unet_function_wrapper(note)
    patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, "test", wrapper)
    run(patcher)
    serial, threaded = results
    assert not wrong
    assert all(torch.equal(a, b) for a, b in zip(serial, threaded, strict=True))
    assert all(difference(a, b) > 1e-2 for a, b in zip(serial, serial[1:], strict=False))


if NEW_CORE:

    def test_core_spreads_the_branches_of_a_window_over_devices():
        """A second copy of the model on a device of its own (the CPU by another name), prompts in two threads."""
        other = zoo.zoo()[NAME].build()
        other.load_device, other.is_multigpu_base_clone = torch.device("cpu", 0), True
        patcher, threads = windowed(), set()
        patcher.set_additional_models("multigpu", [other])
        nets = {id(zoo.patcher(NAME).model.diffusion_model): 0, id(other.model.diffusion_model): 0}

        def look(net, args):
            threads.add(threading.get_ident())
            nets[id(net)] += 1

        first, second = (p.model.diffusion_model for p in (zoo.patcher(NAME), other))
        with first.register_forward_pre_hook(look), second.register_forward_pre_hook(look):
            both = run(patcher)
        assert len(threads) == 2 and len(set(nets.values())) == 1
        assert difference(both, run(windowed())) < 3e-5
