"""ComfyUI's server, and one line of text on the node that is executing, beside its progress bar."""

import sys

from comfy_execution.utils import get_executing_context


def running_server():
    """ComfyUI's PromptServer, or None where none runs (tests, scripts)."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)


def show(text: str) -> None:
    """Show `text` on the executing node in the browser; nothing happens where no server or no node runs."""
    server = running_server()
    context = get_executing_context()
    if server is not None and context is not None:
        server.send_progress_text(text, context.node_id, server.client_id)
