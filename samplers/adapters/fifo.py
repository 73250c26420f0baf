"""FIFO-Diffusion as a ComfyUI SAMPLER (adapter of samplers/fifo.py): each model call is one of the guider's, over a
clip whose frames have noise levels of their own (frame_levels.py) and the conditioning of their place in the video.

The noise of a frame that enters the queue is what the NOISE made for that frame; what else is drawn (the queue's start,
the frames after the video's end) is drawn on the CPU. A video that is no longer than a clip is core's euler.
"""

import copy
import functools
import logging
from collections.abc import Sequence
from dataclasses import dataclass

import comfy.samplers
import torch
from comfy.k_diffusion.sampling import sample_euler
from comfy.model_management import throw_exception_if_processing_interrupted
from tqdm.auto import tqdm

from ..checks import number
from ..fifo import FIFOSettings, checked, cost_text, first_queue, resampled, rounds
from ..seeds import derived_seed, generator
from ..windows import LONGEST, Window, WindowSettings, latent_length, pixel_length
from . import event_attention, ltx_shift, preview, progress, timeline_notes
from .conds import STEP_CACHES
from .engine import LongTakeContextHandler
from .event_texts import TEXTS
from .frame_levels import KNOWN, by_frame, levelled, takes_levels
from .latents import DIM, temporal_compression
from .memory import load_for_chunks
from .steps import Run, begun
from .timeline import over_video
from .window import ContextWindow

logger = logging.getLogger(__name__)

NODE = "FIFO Sampler (LongTakeFIFOSampler)"
CLIP = "longtake_fifo_clip"  # key in transformer_options: the Placed of this call
CACHES = STEP_CACHES | {"easycache": "EasyCache (or LazyCache)"}
TEXT = ("c_crossattn", "attention_mask", "frame_rate", "fps", TEXTS)  # what a prompt is to the models


@dataclass(frozen=True)
class Placed:
    """The frames of a call: their numbers in the video of `frames`, and which of them make a step."""

    numbers: Sequence[int]
    made: slice
    frames: int

    def nearest(self) -> list[int]:
        """Frames of the video: in place of those before its start and after its end, the first and the last."""
        return [min(max(i, 0), self.frames - 1) for i in self.numbers]


class ClipHandler(LongTakeContextHandler):
    """Gives a clip the conditioning of its place in the video; the latent is the clip's alone.

    A Prompt Timeline's event is that at the middle of the frames that make a step.
    """

    def __init__(self, settings: FIFOSettings, sigmas: torch.Tensor, compression: int):
        super().__init__(WindowSettings(settings.length, 0, compression=compression))
        self.queue, self.given = settings, sigmas

    def should_use_context(self, model, conds, x_in, timestep, model_options) -> bool:
        if event_attention.timed(conds):
            event_attention.refuse_unknown(model)
        Run.of(model_options["transformer_options"]).once("text alone", lambda: refuse_frames(conds))
        return True

    def execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        run, options = copy.copy(self), {**model_options["transformer_options"]}
        run._model = model
        run.set_step(timestep, model_options)
        placed, of_run = options[CLIP], Run.of(options)
        video = x_in.new_empty(1).expand(*x_in.shape[:DIM], placed.frames, *x_in.shape[DIM + 1 :])  # for its shape
        conds = over_video(conds, pixel_length(placed.frames, self.settings.compression))
        of_run.once("said", lambda: self._say(model, conds, video))
        indices = placed.nearest()
        window = ContextWindow(Window(indices, len(indices)), frames=placed.frames, overlap=0)
        if not event_attention.timed(conds):
            window.window = Window(indices[placed.made], len(indices[placed.made]))
        cut = [run.get_resized_cond(cond, video, window) for cond in conds]
        for entry in (entry for cond in cut if cond for entry in cond):
            over_all_frames(entry, len(indices))
        options["context_window"] = window
        event_attention.attach(options, cut, of_run)
        return calc_cond_batch(model, cut, x_in, timestep, {**model_options, "transformer_options": options})

    def _say(self, model, conds: list, video: torch.Tensor) -> None:
        frames, branches = video.shape[DIM], sum(cond is not None for cond in conds)
        cost = f"FIFO: {cost_text(self.queue, frames, len(self.given) - 1, branches)}"
        notes = timeline_notes.other_lengths(conds, frames, self.settings.compression)
        notes += filter(None, [ltx_shift.note(model, video, self.given, self.settings)])
        progress.show(cost)
        with progress.above_bars():
            logger.info("%s.", cost)
            for note in notes:
                logger.warning("%s.", note)
                progress.show(f"{note}. {cost}")


def over_all_frames(entry: dict, frames: int) -> None:
    """Where a prompt acts in some of a clip's frames is said by its mask alone, in place: core would hand the model
    those frames, and their levels are the clip's."""
    area, mask = entry.get("area"), entry.get("mask")
    if area is not None and len(area) == 6:
        count, start = area[0], area[3]
        inside = torch.zeros(frames).to(mask)
        inside[start : start + count] = 1
        entry["mask"] = mask * inside[:, None, None]
        entry["area"] = (frames, *area[1:3], 0, *area[4:])


def refuse_frames(conds: list) -> None:
    """Raise ValueError for conditioning that is more than text."""
    for entry in (entry for cond in conds if cond for entry in cond):
        if "control" in entry:
            raise ValueError(f"{NODE}: conditioning: a ControlNet's pictures belong to frames; leave it out")
        for key, value in entry["model_conds"].items():
            same = key == "c_concat" and bool((value.cond == value.cond[:, :, :1]).all())  # says nothing of frames
            if key not in TEXT and not same:
                raise ValueError(
                    f"{NODE}: conditioning: {key} belongs to frames or to a picture, and a queue of frames is made "
                    f"from text alone; use plain prompts or a Prompt Timeline, or KSampler with the Global/Local "
                    f"Window Scheduler"
                )


def refuse_model(guider, options: dict) -> None:
    """Raise ValueError for a MODEL with which frames cannot have noise levels of their own."""
    net, transformer = guider.inner_model.diffusion_model, options["transformer_options"]
    if not takes_levels(net):
        raise ValueError(
            f"{NODE}: model: {type(net).__name__} takes one noise level for all frames, and FIFO gives each its own; "
            f"it works with {KNOWN}"
        )
    if options.get("context_handler") is not None:
        raise ValueError(
            f"{NODE}: model: carries windows ({type(options['context_handler']).__name__}), and this sampler brings "
            f"its own; take the MODEL from before that node (Global/Local Window Scheduler, Context Windows)"
        )
    for key in transformer:
        name = next((name for mark, name in CACHES.items() if mark in str(key).lower()), None)
        if name is not None:
            raise ValueError(f"{NODE}: model: {name} skips calls that look like the one before; bypass its node")


class _Run:
    """One sampling run. Nothing outlives it."""

    def __init__(self, model, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict, settings: FIFOSettings):
        self.model, self.settings, self.x, self.extra_args = model, settings, x, extra_args
        self.guider, self.frames = model.inner_model, x.shape[DIM]
        self.sampling = self.guider.inner_model.model_sampling
        self.sigmas = torch.tensor(resampled(sigmas.tolist(), settings.slots)).to(sigmas)
        options = extra_args["model_options"]
        compression = temporal_compression(self.guider.inner_model.latent_format)
        handler = ClipHandler(settings, sigmas, compression)
        transformer = {**options["transformer_options"], "sample_sigmas": self.sigmas}
        self.options = {**options, "context_handler": handler, "transformer_options": transformer}
        self.seed = extra_args.get("seed") or 0

    def args(self, numbers: Sequence[int], made: slice, sigma: torch.Tensor | None = None) -> dict:
        """extra_args of a call on these frames of the video; sigma: a level for each (None: one for all)."""
        transformer = {**self.options["transformer_options"], CLIP: Placed(numbers, made, self.frames)}
        if sigma is not None:
            transformer = levelled(transformer, sigma)
        return {**self.extra_args, "model_options": {**self.options, "transformer_options": transformer}}

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
    run, f, steps = _Run(model, x, sigmas, extra_args or {}, settings), settings.length, len(sigmas) - 1
    load_for_chunks(run.guider, x, f)
    total, out = settings.calls(run.frames), torch.zeros_like(x)
    with tqdm(total=total, disable=disable) as meter:
        done = shown = 0

        def report(calls: int) -> None:
            """Core's bar has the steps of the schedule: so many of them are over."""
            nonlocal done, shown
            done += calls
            meter.update(calls)
            if callback is not None and shown < done * steps // total:
                shown = done * steps // total
                callback({"x": x, "i": shown - 1, "sigma": sigmas[0], "sigma_hat": sigmas[0], "denoised": out})

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


class FIFOSampler(comfy.samplers.Sampler):
    """length: pixel frames of a clip; the rest as FIFOSettings has it. Raises ValueError.

    No KSAMPLER: what takes a sampler's steps apart (VMCR, Checkpoint) refuses it.
    """

    def __init__(self, length: int, partitions: int, lookahead: bool, start: str):
        number("window_length", length, 1, LONGEST, True)
        FIFOSettings(2, partitions, lookahead, start)
        self.length, self.rest = length, (partitions, lookahead, start)

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        if noise.ndim != 5:
            raise ValueError(
                f"{NODE}: latent_image: its shape is {tuple(noise.shape)}; a video latent has 5 dimensions [batch, "
                f"channels, frames, height, width] (not an image, not audio and video packed together)"
            )
        compression = temporal_compression(model_wrap.inner_model.latent_format)
        try:
            settings = FIFOSettings(latent_length(self.length, compression), *self.rest)
        except ValueError:
            raise ValueError(
                f"{NODE}: window_length ({self.length}) must be at least two latent frames, {compression + 1} pixel "
                f"frames; this model's clip is best"
            ) from None
        options = extra_args["model_options"]
        if noise.shape[DIM] > settings.length:
            self._refuse(model_wrap, sigmas, options, denoise_mask)
            function = functools.partial(sample_fifo, settings=settings)
        else:  # one clip: as the engine's one window, with what it does and says of a timeline
            function = sample_euler
            handler = LongTakeContextHandler(WindowSettings(settings.length, 0, compression=compression))
            options = {"context_handler": handler, **options}
        extra_args = {**extra_args, "model_options": begun(options, Run())}
        run = functools.partial(preview.filmstrip_wrapper(compression), comfy.samplers.KSAMPLER(function).sample)
        return run(model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)

    def _refuse(self, guider, sigmas: torch.Tensor, options: dict, mask: torch.Tensor | None) -> None:
        refuse_model(guider, options)
        if mask is not None:
            raise ValueError(
                f"{NODE}: latent_image: carries a noise mask, and frames that are kept cannot pass through the queue; "
                f"remove the mask (Set Latent Noise Mask), or use KSampler with the Global/Local Window Scheduler"
            )
        try:
            checked(sigmas.tolist())
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from None
