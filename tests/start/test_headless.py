"""The headless server of start.py and of these tests: the link to the pack, and how it fails (more: test_server.py)."""

import os
import sys
from pathlib import Path

import pytest
from longtake.tools import headless
from longtake.tools.environment import StartError

ROOT = Path(__file__).resolve().parents[2]


def test_the_pack_link_is_renewed_and_never_deletes_files(tmp_path):
    link = tmp_path / "nodes" / headless.PACK
    headless.link_pack(link.parent)
    assert os.path.samefile(link, ROOT)
    link.unlink()
    link.symlink_to(tmp_path, target_is_directory=True)
    headless.link_pack(link.parent)
    assert os.path.samefile(link, ROOT)
    link.unlink()
    link.mkdir()
    (link / "mine").touch()
    with pytest.raises(OSError):
        headless.link_pack(link.parent)
    assert (link / "mine").exists()


def test_a_server_that_dies_at_start_shows_its_last_words(tmp_path):
    (tmp_path / "main.py").write_text("import sys; print('no such flag'); sys.exit(3)")
    server = headless.Server(tmp_path, Path(sys.executable), tmp_path, tmp_path / "out")
    with pytest.raises(StartError, match="(?s)did not start.*no such flag.*whole log: .*server.log"), server:
        pass
