"""A page of ComfyUI for the browser tests. A module with a server or a set-up of its own has a `comfy` of its own."""

import sys
from pathlib import Path

import pytest
from longtake.tools.headless import Server
from support.browser import RENDERERS, open_page
from support.paths import COMFYUI_PATH


@pytest.fixture(scope="module")
def comfy(comfy_server):
    """One page for a test module. No longer: Playwright's loop would be in the way of asyncio.run in other modules."""
    with open_page(comfy_server) as page:
        yield page


@pytest.fixture(scope="module")
def preview_server(tmp_path_factory):
    """A ComfyUI whose user wants previews."""
    base = tmp_path_factory.mktemp("comfyui")
    extra = ["--preview-method", "latent2rgb"]
    with Server(COMFYUI_PATH, Path(sys.executable), base, base / "output", extra=extra) as server:
        yield server


@pytest.fixture(params=RENDERERS)
def renderer(request, comfy):
    """The page in each of ComfyUI's node renderers; at the end it has no errors."""
    comfy.renderer(request.param)
    comfy.errors.clear()
    yield request.param
    assert comfy.errors == []
