#!/usr/bin/env python3
"""Set up, run and test ComfyUI-LongTake. Needs only Python 3.10 to 3.13 and a package index that pip can reach.

    python3 start.py [demo]   render the demo long video through a real ComfyUI server
    python3 start.py test     ruff and all tests (further arguments go to pytest)
    python3 start.py serve    ComfyUI with the pack, to work in the browser; arguments after -- are ComfyUI's own:
                              python3 start.py serve --port 8189 -- --lowvram --preview-method none

ComfyUI is the one in COMFYUI_PATH, or the one whose custom_nodes folder holds this pack, run by the Python that runs
this file. Otherwise a private one is set up once in LONGTAKE_HOME (default: the user's cache folder), outside the
checkout. Standard library only.
"""

import os
import signal
import sys

if sys.version_info < (3, 10):  # noqa: UP036  # this file alone can be read by any Python, 2.7 too
    line = "start.py: Python %d.%d cannot run this: use Python 3.10 to 3.13.\n"
    sys.stderr.write(line % sys.version_info[:2])  # noqa: UP031
    sys.exit(1)

if __name__ == "__main__" and sys.getfilesystemencoding().lower() != "utf-8":  # a locale without most letters of paths
    os.environ["PYTHONUTF8"] = "1"  # for all that this starts, too
    os.execv(sys.executable, [sys.executable] + sys.argv)

from tools import cli  # noqa: E402

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    sys.exit(cli.main(sys.argv[1:], __doc__))
