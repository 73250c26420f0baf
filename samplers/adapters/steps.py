"""Where a sampling run stands: the step of an evaluation of the model, and its place in the noise schedule.

By its sigma alone an evaluation counts to the step whose interval it lies in. Heun's second one is at the next step's
sigma, and those of ancestral samplers lie anywhere: for core's own samplers the evaluations are counted. The count, and
whatever else a run decides once, lives in the options of that run.
"""

import struct
from dataclasses import dataclass

import comfy.model_sampling
import comfy.sampler_helpers
import torch
from comfy.k_diffusion import sampling
from comfy.patcher_extension import WrappersMP

from ..redo import made_frames
from .core_samplers import EVALUATIONS, core_name
from .frame_batch import as_video, frames_in_batch

STEP = "longtake_step"  # key of the step in transformer_options, where it was counted or is told
RUN = "longtake_run"  # key of the Run in transformer_options
CHANGING = "denoise_mask_function"  # Differential Diffusion's, which opens a mask by and by


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
        """By the count, else by sigma: one between two of the schedule belongs to the earlier step."""
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


class Run:
    """One sampling run: the steps of its evaluations in their order (None: told by their sigmas), what was decided in
    it once (`once`), and which frames a mask lets it make (None: all). A step that ends at sigma 0 has one evaluation;
    heunpp2's last steps too have fewer."""

    def __init__(self, name: str = "", sigmas: list[float] = (), made: list[bool] | None = None):
        self.decided: dict = {}
        self.made = made
        steps = len(sigmas) - 1
        if name == "heunpp2":
            counts = [min(3, steps - i) for i in range(steps)]
        elif name in EVALUATIONS:
            counts = [EVALUATIONS[name] if sigma != 0 else 1 for sigma in sigmas[1:]]
        else:
            self.steps = None
            return
        self.steps = iter([i for i, n in enumerate(counts) for _ in range(n)])

    @classmethod
    def of(cls, transformer_options: dict) -> "Run":
        """The run that options belong to; where none was begun, one for this evaluation alone."""
        return transformer_options.get(RUN) or cls()

    def once(self, key, decide):
        """decide() of the first time that `key` was asked for in this run."""
        if key not in self.decided:
            self.decided[key] = decide()
        return self.decided[key]


def begun(model_options: dict, run: Run) -> dict:
    """model_options in which `run` has begun."""
    return {**model_options, "transformer_options": {**model_options["transformer_options"], RUN: run}}


def _sample(executor, guider, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, *args):
    function = getattr(executor.class_obj, "sampler_function", None)
    name = core_name(function).removeprefix("sample_")
    # VMCR runs a sampler one step at a time: the same for those in the table, not for heunpp2.
    if name == "heunpp2" and function is not sampling.sample_heunpp2:
        name = ""
    made = None
    if denoise_mask is not None and CHANGING not in extra_args["model_options"]:
        if frames_in_batch(guider.inner_model):
            made = made_frames(as_video(denoise_mask))
        elif denoise_mask.ndim == 5:
            made = made_frames(denoise_mask)
    run = Run(name, sigmas.tolist(), made)
    extra_args = {**extra_args, "model_options": begun(extra_args["model_options"], run)}
    return executor(guider, sigmas, extra_args, callback, noise, latent_image, denoise_mask, *args)


def _predict(executor, x, timestep, model_options=None, seed=None):
    model_options = model_options or {}
    transformer = model_options.get("transformer_options", {})
    counted = transformer[RUN].steps if RUN in transformer and STEP not in transformer else None
    step = next(counted, None) if counted is not None else None
    if step is not None:
        model_options = {**model_options, "transformer_options": {**transformer, STEP: step}}
    return executor(x, timestep, model_options, seed)


def put_first(model, stage: str, key: str, wrapper) -> None:
    """Wrap a stage of a ModelPatcher (a clone of one's own) around all other wrappers."""
    model.remove_wrappers_with_key(stage, key)
    model.add_wrapper_with_key(stage, key, wrapper)
    model.wrappers[stage] = {key: model.wrappers[stage].pop(key), **model.wrappers[stage]}


def _keep(executor, noise, latent_image, sampler, sigmas, denoise_mask=None, *args, **kwargs):
    """What a mask keeps is the given latent again: core brings it through its latent format and the sampler, which
    round."""
    out = executor(noise, latent_image, sampler, sigmas, denoise_mask, *args, **kwargs)
    guider = executor.class_obj
    video = out.ndim == 5 or frames_in_batch(guider.model_patcher.model)
    if denoise_mask is None or not video or CHANGING in guider.model_options:
        return out
    made = denoise_mask.to(out.device)
    if made.shape != out.shape:  # newer cores have prepared it
        made = comfy.sampler_helpers.prepare_mask(denoise_mask, out.shape, out.device)
    return torch.where(made == 0, latent_image.to(out), out)


def begin_runs(model) -> None:
    """Make each sampling run of a ModelPatcher (a clone of one's own) a Run. Before other wrappers: a step cache may
    skip evaluations."""
    model.remove_wrappers_with_key(WrappersMP.OUTER_SAMPLE, RUN)
    model.add_wrapper_with_key(WrappersMP.OUTER_SAMPLE, RUN, _keep)
    put_first(model, WrappersMP.SAMPLER_SAMPLE, RUN, _sample)
    put_first(model, WrappersMP.PREDICT_NOISE, RUN, _predict)
