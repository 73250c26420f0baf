"""Fixtures of more than one module."""

import folder_paths
import pytest
import torch
from support.tiny_encoders import clip_model, saved, with_tokenizer


@pytest.fixture
def as_core_runs_nodes(one_thread):
    with torch.inference_mode():
        yield


@pytest.fixture
def own_folders(tmp_path, monkeypatch):
    """ComfyUI's folders for what it writes, of this test alone."""
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))


@pytest.fixture
def clip_folder(tmp_path):
    return with_tokenizer(saved(tmp_path / "clip", clip_model()))
