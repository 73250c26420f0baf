"""FIFO-Diffusion as a ComfyUI SAMPLER (adapter of samplers/fifo.py): clips (clips.py) whose frames have noise levels of
their own (frame_levels.py).

The noise of a frame that enters the queue is what the NOISE made for that frame; what else is drawn (the queue's start,
the frames after the video's end) is drawn on the CPU.
"""

import functools
from collections.abc import Sequence

import torch
from comfy.k_diffusion.sampling import sample_euler
from comfy.model_management import throw_exception_if_processing_interrupted
from tqdm.auto import tqdm

from ..fifo import FIFOSettings, cost_text, first_queue, resampled, rounds
from ..seeds import derived_seed, generator
from . import progress
from .clips import ClipHandler, ClipRun, ClipSampler, reporter
from .frame_levels import KNOWN, by_frame, levelled, takes_levels
from .latents import temporal_compression
from .memory import load_for_chunks

NODE = "FIFO Sampler (LongTakeFIFOSampler)"


class _Run(ClipRun):
    def __init__(self, model, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict, settings: FIFOSettings):
        compression, steps = temporal_compression(model.inner_model.inner_model.latent_format), len(sigmas) - 1

        def cost(frames: int, branches: int) -> str:
            return f"FIFO: {cost_text(settings, frames, steps, branches)}"

        handler = ClipHandler(NODE, settings.length, sigmas, compression, cost)
        levels = torch.tensor(resampled(sigmas.tolist(), settings.slots)).to(sigmas)
        super().__init__(model, x, levels, extra_args, handler)

    def args(self, numbers: Sequence[int], made: slice, sigma: torch.Tensor | None = None) -> dict:
        """extra_args of a call on these frames of the video; sigma: a level for each (None: one for all)."""
        options = self.of_call(numbers, made)
        if sigma is not None:
            options["transformer_options"] = levelled(options["transformer_options"], sigma)
        return {**self.extra_args, "model_options": options}

    def predict(self, x: torch.Tensor, sigma: torch.Tensor, numbers: Sequence[int], made: slice) -> torch.Tensor:
        throw_exception_if_processing_interrupted()
        middle = sigma[len(sigma) // 2]  # what core asks a level for: time ranges of prompts, guidance
        return self.model(x, middle * x.new_ones(x.shape[0]), **self.args(numbers, made, sigma))

    def noised(self, frames: torch.Tensor, sigma: torch.Tensor, purpose: str) -> torch.Tensor:
        eps = torch.randn(frames.shape, generator=generator(derived_seed(self.seed, f"fifo {purpose}"))).to(frames)
        return by_frame(self.sampling.noise_scaling, sigma, eps, frames)

    def fresh(self, number: int) -> torch.Tensor:
        """A frame of noise for the queue's end."""
        if number < self.frames:
            return self.x[:, :, number : number + 1]
        given = getattr(self.model, "latent_image", None)
        last = torch.zeros_like(self.x[:, :, -1:]) if given is None else given[:, :, -1:]
        return self.noised(last, self.sigmas[:1], f"frame {number}")


@torch.no_grad()
def sample_fifo(model, x, sigmas, extra_args=None, callback=None, disable=None, *, settings):
    """A k-diffusion sampler over a whole video's latent."""
    run, f = _Run(model, x, sigmas, extra_args or {}, settings), settings.length
    load_for_chunks(run.guider, x, f)
    total, out = settings.calls(run.frames), torch.zeros_like(x)
    with tqdm(total=total, disable=disable) as meter:
        report = reporter(meter, callback, total, len(sigmas) - 1, {"x": x, "sigma": sigmas[0], "denoised": out})

        def report_base(state: dict) -> None:
            throw_exception_if_processing_interrupted()
            out[:, :, :f] = state["denoised"]
            progress.show(f"FIFO: first clip, step {state['i'] + 1} of {settings.slots}")
            report(1)

        base = sample_euler(model, x[:, :, :f], run.sigmas, run.args(range(f), slice(f)), report_base, disable=True)
        out[:, :, :f] = base
        queue = first_queue(settings, base, run.sigmas, functools.partial(run.noised, purpose="queue"))
        leaving = rounds(settings, queue, run.sigmas, run.predict, run.fresh)
        for head in range(-settings.warm_up, run.frames):
            frame = next(leaving)
            if head >= 0:
                out[:, :, head : head + 1] = frame
            progress.show(f"FIFO: frame {head + 1} of {run.frames}" if head >= 0 else "FIFO: the queue fills")
            report(len(settings.clips(head)))
    return out


class FIFOSampler(ClipSampler):
    """length: pixel frames of a clip; the rest as FIFOSettings has it. Raises ValueError."""

    node = NODE

    def __init__(self, length: int, partitions: int, lookahead: bool, start: str):
        super().__init__(length)
        FIFOSettings(2, partitions, lookahead, start)
        self.rest = (partitions, lookahead, start)

    def settings(self, length: int) -> FIFOSettings:
        return FIFOSettings(length, *self.rest)

    def function(self, settings: FIFOSettings, guider, frames: int):
        return functools.partial(sample_fifo, settings=settings) if frames > settings.length else None

    def refuse(self, guider, sigmas, options, latent_image, mask) -> None:
        net = guider.inner_model.diffusion_model
        if not takes_levels(net):
            raise ValueError(
                f"{NODE}: model: {type(net).__name__} takes one noise level for all frames, and FIFO gives each its "
                f"own; it works with {KNOWN}"
            )
        super().refuse(guider, sigmas, options, latent_image, mask)
