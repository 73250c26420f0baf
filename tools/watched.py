"""Run a Python program that does not outlive its parent, however that ends (kill -9 too).

    python watched.py <the parent's process id> (script.py | -m module) [arguments]

The program leads a process group; its children go with it. environment.spawn starts programs this way.
"""

import os
import runpy
import signal
import sys
import threading
import time


def watch(parent):
    if os.name == "nt":
        import _winapi

        synchronize = 0x100000
        _winapi.WaitForSingleObject(_winapi.OpenProcess(synchronize, False, parent), _winapi.INFINITE)
        os._exit(1)
    while os.getppid() == parent:
        time.sleep(0.5)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    threading.Thread(target=watch, args=(int(sys.argv[1]),), daemon=True).start()
    del sys.argv[:2]
    if sys.argv[0] == "-m":  # argv and path as Python itself sets them
        del sys.argv[0]
        sys.path[0] = os.getcwd()
        runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = os.path.dirname(sys.argv[0])
        runpy.run_path(sys.argv[0], run_name="__main__")
