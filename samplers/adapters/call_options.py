"""What a method adds to one model call's own options (transformer_options), under torch.compile, too."""

from collections.abc import Callable
from contextlib import contextmanager

import torch


def uncompiled(net):
    """The diffusion model itself, where core's torch.compile has put its own in its place for a call."""
    return getattr(net, "_orig_mod", net)


def wrapped(options: dict, kind: str, key: str, wrapper: Callable) -> dict:
    """A copy of the options with one wrapper more, inside of all others. kind: WrappersMP; key: the method's."""
    wrappers = {k: dict(by_key) for k, by_key in options.get("wrappers", {}).items()}
    wrappers.setdefault(kind, {})[key] = [wrapper]
    return {**options, "wrappers": wrappers}


@contextmanager
def compiled_apart():
    """What torch.compile makes meanwhile is for calls in here alone, and none of what it made elsewhere is taken.

    Newer cores and KJNodes tell it not to look at the options: a net, or its blocks, that were compiled without a
    method would be taken for a call with it. So something that it always looks at is switched off: that autocast keeps
    what it casts, in this thread. Without autocast, which ComfyUI does not use, that changes nothing else.
    """
    kept = torch.is_autocast_cache_enabled()
    torch.set_autocast_cache_enabled(False)
    try:
        yield
    finally:
        torch.set_autocast_cache_enabled(kept)
