"""Killed (SIGKILL) at random moments, in steps, in SynCoS's inner loop, while writing, until a run comes through.

`python -m benchmarks soak --kills 30` does it to a whole server. LONGTAKE_KILLS: how many here, for each method.
"""

import os
import random
import signal
import sys
import time

import pytest
import torch
from longtake.samplers.adapters import run_folders
from longtake.samplers.adapters.checkpoint import CheckpointSettings
from support import killed_runs
from support.children import context, ended, started, wait_until
from support.kept_runs import output, sample  # noqa: F401
from support.killed_runs import LONG, WAYS

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL"),
]
KILLS = int(os.environ.get("LONGTAKE_KILLS", 2))


@pytest.mark.parametrize(("way", "every"), [*((way, 1) for way in WAYS), ("uni_pc", 2), ("syncos", 2)])
def test_a_run_that_is_killed_again_and_again_is_the_uninterrupted_one(way, every, output):  # noqa: F811
    model, pick = killed_runs.long_model(), random.Random()
    begun = time.perf_counter()
    whole = sample(model, WAYS[way](), frames=LONG)
    lasts = time.perf_counter() - begun
    steps, kills = [0], 0
    while kills < KILLS:
        ready = context.Event()
        child = started(killed_runs.way, output, way, every, ready)
        wait_until(ready.is_set, child)
        time.sleep(pick.uniform(0.0, 0.9 * lasts))
        child.kill()
        code = ended(child)
        assert code in (0, -signal.SIGKILL)
        kills += code != 0
        runs = run_folders.kept_runs()
        steps.append(runs[0].state.step if runs and runs[0].state else 0)
        assert steps[-1] >= steps[-2] and all(not run.broken for run in runs)  # nothing is lost, nothing is broken
        if code == 0:  # it came through before: the next one from the beginning
            for run in runs:
                assert run_folders.delete(run)
            steps = [0]
    settings = CheckpointSettings(every=every)
    assert torch.equal(sample(model, WAYS[way](), frames=LONG, settings=settings), whole), steps
