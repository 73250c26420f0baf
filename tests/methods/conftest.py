"""What VMCR's tests run on."""

import pytest
import torch
from longtake.samplers.adapters import vmcr
from support import refined


@pytest.fixture(scope="module")
def flow_model():
    return refined.flow()


@pytest.fixture(scope="module")
def models(flow_model):
    return refined.both(flow_model)


@pytest.fixture
def no_gradient(monkeypatch):
    """The refinement moves nothing: what is left is the sampler run one step at a time."""
    monkeypatch.setattr(vmcr, "gradient_chunks", lambda x0, settings: [(0, torch.zeros_like(x0))])
