"""Killed (SIGKILL) at random moments, in steps, in SynCoS's inner loop, while writing, until a run comes through.

`python -m benchmarks soak --kills 30` does it to a whole server. LONGTAKE_KILLS: how many here, for each method.
"""

import os
import random
import signal
import sys
import time

import comfy.samplers
import pytest
import torch
from longtake.samplers.adapters import run_folders
from longtake.samplers.adapters.checkpoint import CheckpointSettings
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.syncos.coupling import SynCoSSettings
from support.kept_runs import output, sample, wan  # noqa: F401
from support.windows import windowed

pytestmark = [
    pytest.mark.usefixtures("one_thread", "output"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork"),
]
KILLS = int(os.environ.get("LONGTAKE_KILLS", 2))
LONG = 12
WAYS = {
    "euler_ancestral": lambda: "euler_ancestral", "dpmpp_3m_sde": lambda: "dpmpp_3m_sde", "uni_pc": lambda: "uni_pc",
    "vmcr": lambda: refine_sampler(comfy.samplers.sampler_object("heun"), RefineSettings(omega=1e-3)),
    "syncos": lambda: syncos_sampler(SynCoSSettings(t_min=0.0, max_coupled=4, iters=3, chunks=2)),
}  # fmt: skip


@pytest.mark.parametrize(("way", "every"), [*((way, 1) for way in WAYS), ("uni_pc", 2), ("syncos", 2)])
def test_a_run_that_is_killed_again_and_again_is_the_uninterrupted_one(way, every):
    model, pick = windowed(wan(), schedule="random_shift", shift_seed=1), random.Random()
    begun = time.perf_counter()
    whole = sample(model, WAYS[way](), frames=LONG)
    lasts = time.perf_counter() - begun
    settings, steps, kills = CheckpointSettings(every=every), [0], 0
    while kills < KILLS:
        child = os.fork()
        if child == 0:
            try:
                sample(model, WAYS[way](), frames=LONG, settings=settings)
                os._exit(0)
            finally:
                os._exit(3)
        time.sleep(pick.uniform(0.0, 0.9 * lasts))
        os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        assert status in (0, -signal.SIGKILL)
        kills += status != 0
        runs = run_folders.kept_runs()
        steps.append(runs[0].state.step if runs and runs[0].state else 0)
        assert steps[-1] >= steps[-2] and all(not run.broken for run in runs)  # nothing is lost, nothing is broken
        if status == 0:  # it came through before: the next one from the beginning
            for run in runs:
                assert run_folders.delete(run)
            steps = [0]
    assert torch.equal(sample(model, WAYS[way](), frames=LONG, settings=settings), whole), steps
