"""ComfyUI's server, one line of text on a node in the browser, and the log beside progress bars."""

import contextlib
import sys

from comfy_execution.utils import get_executing_context
from tqdm import tqdm


def running_server():
    """ComfyUI's PromptServer, or None where none runs (tests, scripts)."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def show(text: str) -> None:
    """Show `text` on the executing node, beside its progress bar; nothing happens where no server or no node runs."""
    server, context = running_server(), get_executing_context()
    if server is not None and context is not None:
        show_on(context.node_id, text, server.client_id)


def show_on(node_id: str, text: str, client: str) -> None:
    """Show `text` on a node in a browser window (client); nothing happens where no server runs."""
    server = running_server()
    if server is not None:
        server.send_progress_text(text, node_id, client)


@contextlib.contextmanager
def above_bars():
    """What is logged here gets lines of its own: a sampler's progress bar stands open on the last one."""
    with tqdm.external_write_mode(file=sys.stderr):
        yield
