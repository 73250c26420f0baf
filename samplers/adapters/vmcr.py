"""VMCR as a sampler that wraps a sampler: one step, one refinement of the latent (adapter of glc/motion.py).

GLC-Diffusion (arXiv 2501.05484), Algorithm 1 step 3 and Eq. 15. Differs from the paper:
- the loss is of the x0 that the step itself predicted (all windows fused, CFG applied). Algorithm 1, read literally,
  wants that of z_{t-1}, what the step has made: PREDICTIONS' "next", one more evaluation of the model per refinement.
  Its gradient through the model, which the print implies as well, is not taken: that would hold a model's activations
  for every window, some 10 times what sampling needs;
- d x0 / d x is taken as the identity, exact for a fixed noise (or velocity) prediction in ComfyUI's coordinates:
  x = x0 + sigma * noise for noise and v models, (1 - sigma) * x0 + sigma * noise for flow models;
- "iterative" in the paper is one refinement per step; `iterations` are several, x0 moving along with x, or predicted
  anew;
- with an inpainting mask only what is being made is refined;
- a refinement of more than MOST_MOVED times the clean video's size is refused: the print has no bound on omega.
"""

import copy
import functools
import inspect
import logging
import math
from dataclasses import dataclass

import comfy.samplers
import torch
from comfy.k_diffusion import sampling
from tqdm.auto import tqdm

from ..checks import number, option, part_of_schedule
from ..glc.motion import MotionSettings, gradient_chunks, rescale_factor
from . import progress
from .core_samplers import BROWNIAN, EXACT, REFUSED, core_name
from .frame_batch import as_video, frames_in_batch
from .replay import SKIPPED, how_answered
from .steps import STEP

logger = logging.getLogger(__name__)

NODE = "VMCR Refiner (LongTakeVMCR)"
PREDICTIONS = ("step", "next")
LEAST_FRAMES = 3  # two motion vectors to compare
MOST_MOVED = 2.0  # by one refinement, in sizes of the clean video; useful settings stay below 1.6


@dataclass(frozen=True)
class RefineSettings:
    """omega of Eq. 15 (0 = off), the loss, whether omega follows the latent's size, the fractions of the schedule
    between which steps are refined, refinements per step, and of which x0 the loss is, see above. Raises ValueError for
    values out of bounds or an empty range."""

    omega: float = 2e-5
    motion: MotionSettings = MotionSettings()
    rescale: bool = True
    start_percent: float = 0.0
    end_percent: float = 1.0
    iterations: int = 1
    prediction: str = "step"

    def __post_init__(self):
        number("omega", self.omega, 0.0, 0.1)
        number("iterations", self.iterations, 1, 20, True)
        option("prediction", self.prediction, PREDICTIONS)
        part_of_schedule(self.start_percent, self.end_percent)


def label(function) -> str:
    return getattr(function, "__name__", str(function))


def history_note(function) -> str | None:
    """What a user must know about a sampler that is not exact one step at a time; None for those that are."""
    name = core_name(function).removeprefix("sample_")
    if name in EXACT:
        return None
    if name:
        what = f"{name} uses more steps than the current one"
    else:
        what = f"{label(function)} is unknown to this node and may use more steps than the current one"
    return (
        f"VMCR: {what}, and its history is cut at every refined step (lower order there, another result even at a tiny "
        f"omega). Exact: {', '.join(n for n in EXACT if hasattr(sampling, f'sample_{n}'))}, ddim"
    )


def stretches(active: list[bool]) -> list[tuple[int, int]]:
    """(start, stop) in steps: each active step alone, neighbouring inactive ones together so that history is kept."""
    parts: list[tuple[int, int]] = []
    for i, on in enumerate(active):
        if parts and not on and not active[i - 1]:
            parts[-1] = (parts[-1][0], i + 1)
        else:
            parts.append((i, i + 1))
    return parts


def active_steps(settings: RefineSettings, model_sampling, sigmas: torch.Tensor) -> list[bool]:
    """Per step whether sigma_end < sigma <= sigma_start, as in ComfyUI's own nodes with start and end percent."""
    start = float(model_sampling.percent_to_sigma(settings.start_percent))
    end = float(model_sampling.percent_to_sigma(settings.end_percent))
    return [end < sigma <= start for sigma in sigmas[:-1].tolist()]


def noise_options(function, x, sigmas, extra_args, options: dict) -> dict:
    """The options, with the noise sampler that the function would make for the whole run.

    Left to itself it would make one per call, and every step would draw the same noise.
    """
    if options.get("noise_sampler") is not None or "noise_sampler" not in inspect.signature(function).parameters:
        return options
    name, seed = core_name(function).removeprefix("sample_"), extra_args.get("seed")
    if name.removesuffix("_gpu") in BROWNIAN:
        low, high = sigmas[sigmas > 0].min(), sigmas.max()
        noise = sampling.BrownianTreeNoiseSampler(x, low, high, seed=seed, cpu=not name.endswith("_gpu"))
    else:
        noise = sampling.default_noise_sampler(x, seed=seed)
    return {**options, "noise_sampler": noise}


def step_options(options: dict, start: int, stop: int, steps: int) -> dict:
    """The options for steps start..stop-1 of all `steps`: those that core spreads over the steps of one call."""
    options = dict(options)
    if options.get("s_churn"):
        options["s_churn"] = options["s_churn"] * (stop - start) / steps
    if options.get("s_noise_end") is not None and steps > 1:  # LCM's ramp
        first, last = options.get("s_noise", 1.0), options["s_noise_end"]
        options["s_noise"] = first + (last - first) * (start / (steps - 1))
        options["s_noise_end"] = first + (last - first) * ((stop - 1) / (steps - 1))
    return options


def refine_(
    x: torch.Tensor, x0: torch.Tensor, settings: RefineSettings, mask: torch.Tensor | None, both: bool = False
) -> torch.Tensor:
    """Eq. 15 in place: x becomes x - omega * gradient of the motion loss at x0, a few frames at a time; both
    [B, C, F, H, W]. both: x0 moves along. Returns the norm of what it moved x by, on x's device."""
    omega = settings.omega * (rescale_factor(*x.shape[-2:]) if settings.rescale else 1.0)
    mask = None if mask is None else mask.expand_as(x)
    norms = [x.new_zeros((), dtype=torch.float32)]
    for i, gradient in gradient_chunks(x0, settings.motion):
        frames = slice(i, i + gradient.shape[2])
        gradient *= omega
        if mask is not None:
            gradient *= mask[:, :, frames]
        x[:, :, frames] -= gradient
        if both:
            x0[:, :, frames] -= gradient
        norms.append(torch.linalg.vector_norm(gradient).float())
    return torch.linalg.vector_norm(torch.stack(norms))


def refuse_larger(moved: torch.Tensor, clean: torch.Tensor, settings: RefineSettings, step: int) -> None:
    """Raises ValueError where a refinement moved the latent by more than MOST_MOVED times the clean video's size (norms
    of both, of the same shape): motion is then no longer evened but made of the refinement itself, and grows."""
    moved, most = torch.stack([moved, MOST_MOVED * clean]).tolist()
    if math.isfinite(most) and not moved <= most:  # an x0 of NaN is the model's own
        what = {name: getattr(settings.motion, name) for name in ("lambda_f", "lambda_mse", "lambda_phase")}
        raise ValueError(
            f"{NODE}: omega ({settings.omega:g}) with {', '.join(f'{k} {v:g}' for k, v in what.items())}: after step "
            f"{step} a refinement would move the video by {moved / most * MOST_MOVED:.3g} times its own size, at most "
            f"{MOST_MOVED:g} is allowed; lower omega (the paper's is 2e-5) or these weights"
        )


@torch.no_grad()
def next_prediction(model, x: torch.Tensor, sigmas: torch.Tensor, step: int, extra_args: dict) -> torch.Tensor:
    """x0 of what a step has made, at the noise level of `step`, the next one: an evaluation beside the sampler's own,
    which counts to that step. x itself where no noise is left."""
    if sigmas[step] == 0:
        return x
    options = extra_args["model_options"]
    transformer = {**options["transformer_options"], STEP: step}
    if step == len(sigmas) - 1:  # these sigmas end before the noise does: another sampler's first step
        transformer["sample_sigmas"] = torch.cat([sigmas, sigmas.new_zeros(1)])
    extra_args = {**extra_args, "model_options": {**options, "transformer_options": transformer}}
    return model(x, sigmas[step] * x.new_ones(x.shape[0]), **extra_args)


def owned(x: torch.Tensor, *others: torch.Tensor) -> torch.Tensor:
    """x where its memory is its own; a copy where it shares that of one of the others."""
    memory = x.untyped_storage().data_ptr()
    return x.clone() if any(memory == other.untyped_storage().data_ptr() for other in others) else x


def stepwise(inner, settings: RefineSettings):
    """`inner` (a k-diffusion sampler function) with the latent refined after each active step."""

    following = settings.prediction == "next"

    def more(active: list[bool], sigmas: torch.Tensor) -> str:
        """What it costs, in words."""
        text = "" if settings.iterations == 1 else f", {settings.iterations} times each"
        if following:
            calls = settings.iterations * sum(on and float(s) > 0 for on, s in zip(active, sigmas[1:], strict=True))
            text += f"; {calls} evaluations of the model more than the sampler's"
        return text

    @functools.wraps(inner)
    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        framed = x.ndim == 4 and frames_in_batch(model.inner_model.inner_model)
        frames = x.shape[0 if framed else 2] if x.ndim > 3 else 0

        def seen_as(part: torch.Tensor | None) -> torch.Tensor | None:
            """As a video; of a batch a view of the same memory."""
            return as_video(part) if framed and part is not None else part

        if x.ndim != 5 and not framed:
            raise ValueError(
                f"{NODE}: the latent has the shape {tuple(x.shape)}; motion needs a video latent with 5 dimensions "
                f"[batch, channels, frames, height, width] (not an image, not audio and video packed together)"
            )
        extra_args = extra_args or {}
        steps = len(sigmas) - 1
        active = active_steps(settings, model.inner_model.model_patcher.get_model_object("model_sampling"), sigmas)
        if frames < LEAST_FRAMES or not any(active):
            logger.warning(
                "VMCR: nothing is refined: %s.",
                "no step lies between start_percent and end_percent"
                if frames >= LEAST_FRAMES
                else f"the video has {frames} latent frames, motion needs {LEAST_FRAMES}",
            )
            return inner(model, x, sigmas, extra_args=extra_args, callback=callback, disable=disable, **options)
        said = f"VMCR: refines {sum(active)} of {steps} steps, omega {settings.omega:g}{more(active, sigmas)}"
        logger.info("%s.", said)
        if following:
            progress.show(said)
        if following and "easycache" in extra_args["model_options"]["transformer_options"]:
            raise ValueError(
                f"{NODE}: prediction (next): EasyCache and LazyCache skip evaluations that look like the one before, "
                f"and these are no steps; bypass that node, or take prediction step"
            )
        if (note := history_note(inner)) is not None:
            logger.warning("%s.", note)

        options = noise_options(inner, x, sigmas, extra_args, options)
        clean = None  # the norm of the first x0, which no refinement has touched
        with tqdm(total=steps, disable=disable) as bar:
            for start, stop in stretches(active):
                seen = {}  # what the step reported

                def step_callback(info, start=start, seen=seen):
                    if active[start]:
                        seen.update((key, info[key]) for key in ("denoised", "x") if key in info)
                    info = {**info, "i": info["i"] + start}
                    bar.update(info["i"] + 1 - bar.n)
                    if callback is not None:
                        callback(info)

                before, x = x, inner(
                    model, x, sigmas[start : stop + 1],
                    extra_args=dict(extra_args),  # cfg_pp samplers add a function to it in every call
                    callback=step_callback, disable=True, **step_options(options, start, stop, steps),
                )  # fmt: skip
                skipped = how_answered(model) == SKIPPED
                if active[start] and skipped and following:
                    for _ in range(settings.iterations):  # as many calls as in the run that is resumed
                        next_prediction(model, x, sigmas, stop, extra_args)
                if active[start] and not skipped:
                    x0 = seen.get("denoised")
                    if x0 is None or x0.shape != x.shape:
                        raise ValueError(
                            f"{NODE}: sampler: {label(inner)} does not report an x0 of the latent's shape "
                            f"{tuple(x.shape)} at each step; use e.g. euler"
                        )
                    x = owned(x, before, *seen.values())  # its x0, at the last step of most samplers
                    before = None
                    seen.clear()
                    clean = torch.linalg.vector_norm(x0, dtype=torch.float32) if clean is None else clean
                    both, mask = settings.iterations > 1 and not following, seen_as(extra_args.get("denoise_mask"))
                    x0 = x0.clone() if both else x0
                    for _ in range(settings.iterations):
                        x0 = next_prediction(model, x, sigmas, stop, extra_args) if following else x0
                        moved = refine_(seen_as(x), seen_as(x0), settings, mask, both)
                        refuse_larger(moved, clean, settings, stop)
                before = x0 = None  # nothing of this step stays beside x during the next
        return x

    return sample


def refine_sampler(sampler, settings: RefineSettings):
    """SAMPLER -> SAMPLER, by a copy; omega 0 returns the very same object.

    Raises ValueError for samplers that are not ComfyUI's KSAMPLER or that cannot run one step at a time.
    """
    if settings.omega == 0:
        return sampler
    if hasattr(sampler, "inner"):
        raise ValueError(f"{NODE}: sampler: comes from a Checkpoint; connect this node first, and Checkpoint after it")
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        raise ValueError(
            f"{NODE}: sampler: {type(sampler).__name__} is not a sampler function that can run one step at a time; use "
            f"KSamplerSelect, e.g. euler"
        )
    inner = sampler.sampler_function
    if core_name(inner) in REFUSED:
        raise ValueError(
            f"{NODE}: sampler: {REFUSED[core_name(inner)]}; nothing can be refined between its steps. Use e.g. euler, "
            f"heun or dpmpp_sde"
        )
    if (note := history_note(inner)) is not None:
        logger.warning("%s.", note)
        progress.show(note)
    refined = copy.copy(sampler)
    refined.sampler_function = stepwise(inner, settings)
    return refined
