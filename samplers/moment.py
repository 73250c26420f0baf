"""Where a sampling run stands, by ComfyUI's sigmas (adapter of its schedules)."""

import struct
from dataclasses import dataclass

import comfy.model_sampling
import torch

STEP = "longtake_step"  # key of the step in transformer_options, where evaluations.py has counted it


def training_timestep(model_sampling, sigma: torch.Tensor) -> float:
    """Training timestep 0..1000 of a sigma: 1000 * sigma for flow models, core's own for discrete eps and v models."""
    value = float(sigma)
    if isinstance(model_sampling, comfy.model_sampling.CONST):
        return 1000 * value
    if isinstance(model_sampling, comfy.model_sampling.ModelSamplingCosmosRFlow):
        return 1000 * value / (1 + value)
    if isinstance(model_sampling, comfy.model_sampling.ModelSamplingContinuousEDM):
        low, high = model_sampling.sigma_min.log(), model_sampling.sigma_max.log()
        return float(1000 * (sigma.log().to(low) - low) / (high - low))
    return float(model_sampling.timestep(sigma))


@dataclass(frozen=True)
class Moment:
    """Where a run stands. key names the step by its sigma's float32 bits, so that a resumed schedule draws the same."""

    step: int
    keys: tuple[int, ...]
    first: bool

    @classmethod
    def of(cls, timestep: torch.Tensor, model_options: dict) -> "Moment":
        """By evaluations.py's count, else by sigma: one between two of the schedule belongs to the earlier step."""
        sigma = float(timestep.flatten()[0])
        sigmas = model_options["transformer_options"]["sample_sigmas"].tolist()
        sign = 1 if sigmas[0] >= sigmas[-1] else -1  # unsampling schedules rise
        reached = sum(sign * s >= sign * sigma - 1e-5 * abs(sigma) for s in sigmas[:-1])
        keys = tuple(struct.unpack("<I", struct.pack("<f", s))[0] for s in sigmas[:-1])
        step = model_options["transformer_options"].get(STEP, max(reached - 1, 0))
        return cls(step, keys, abs(sigma - sigmas[0]) <= 1e-5 * abs(sigma))

    @property
    def key(self) -> int:
        return self.keys[self.step]
