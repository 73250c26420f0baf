"""Processes that a test kills, or gives no room on the disk.

They are forked by a process that has loaded everything and never had a second thread. A fork of the tests' own process
would copy locks that its threads hold at that moment, and could wait for them for ever.
"""

import multiprocessing
import multiprocessing.forkserver
import os
import sys
import time
from unittest import mock

DEADLINE = 120  # seconds: none of these processes takes so long, however busy the machine is
context = multiprocessing.get_context("forkserver" if sys.platform != "win32" else "spawn")


def started(work, *args):
    """A process that does work(*args); both are pickled, so `work` is of a module of `support`."""
    if sys.platform != "win32":
        context.set_forkserver_preload(["conftest", "support.decodes", "support.killed_runs"])
        ones = {name: "1" for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")}
        with mock.patch.dict(os.environ, PYTHONPATH=os.pathsep.join(sys.path), **ones):
            multiprocessing.forkserver.ensure_running()
    process = context.Process(target=work, args=args, daemon=True)
    process.start()
    return process


def ended(process) -> int:
    """Its exit code, negative: killed by that signal."""
    process.join(DEADLINE)
    code = process.exitcode
    if code is None:
        process.kill()
        process.join()
    assert code is not None, f"{process.name} did not end within {DEADLINE} s"
    return code


def wait_until(condition, process) -> None:
    """Until condition(), or until the process has ended."""
    deadline = time.monotonic() + DEADLINE
    while process.is_alive() and not condition():
        assert time.monotonic() < deadline, f"{process.name} did not get there within {DEADLINE} s"
        time.sleep(0.0005)


def _tell(pipe, work, args):
    try:
        work(*args)
        pipe.send(None)
    except Exception as error:
        pipe.send(f"{type(error).__name__}: {error}")


def error_of(work, *args) -> str | None:
    """What work(*args) raises in a process of its own."""
    ours, theirs = context.Pipe(duplex=False)
    process = started(_tell, theirs, work, args)
    assert ours.poll(DEADLINE), f"{process.name} said nothing within {DEADLINE} s"
    said = ours.recv()
    ended(process)
    return said
