"""What the samplers share that bring clips of their own, in place of windows (fifo.py, mevg.py): each model call is one
of the guider's over a clip, with the conditioning of the clip's place in the video; and what such a sampler refuses.

A video that is one clip is core's euler.
"""

import copy
import functools
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import comfy.samplers
import torch
from comfy.k_diffusion.sampling import sample_euler

from ..checks import number, whole_schedule
from ..windows import LONGEST, Window, WindowSettings, latent_length, pixel_length
from . import event_attention, ltx_shift, preview, progress, timeline_notes
from .conds import STEP_CACHES
from .engine import LongTakeContextHandler
from .event_texts import TEXTS
from .latents import DIM, temporal_compression
from .steps import Run, begun
from .timeline import over_video
from .window import ContextWindow

logger = logging.getLogger(__name__)

CLIP = "longtake_clip"  # key in transformer_options: the Placed of this call
CACHES = STEP_CACHES | {"easycache": "EasyCache (or LazyCache)"}
TEXT = (  # what a prompt is to the models
    "c_crossattn", "attention_mask", "frame_rate", "fps", "guidance", "y", "num_tokens", "txt_byt5", "disable_time_r",
    TEXTS,
)  # fmt: skip


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

    A Prompt Timeline's event is that at the middle of the frames that make a step. node: the sampler's; length: latent
    frames of a clip; sigmas: the run's; cost: one line, by the video's latent frames and the CFG branches;
    notes: what else is to be said.
    """

    def __init__(
        self, node: str, length: int, sigmas: torch.Tensor, compression: int, cost: Callable[[int, int], str],
        notes: Sequence[str] = (),
    ):  # fmt: skip
        super().__init__(WindowSettings(length, 0, compression=compression))
        self.node, self.given, self.cost, self.notes = node, sigmas, cost, notes

    def should_use_context(self, model, conds, x_in, timestep, model_options) -> bool:
        if event_attention.timed(conds):
            event_attention.refuse_unknown(model)
        run = Run.of(model_options["transformer_options"])
        run.once("text alone", lambda: refuse_frames(self.node, conds))
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
        cost = self.cost(frames, branches)
        notes = [*self.notes, *timeline_notes.other_lengths(conds, frames, self.settings.compression)]
        notes += filter(None, [ltx_shift.note(model, video, self.given, self.settings)])
        progress.show(cost)
        with progress.above_bars():
            logger.info("%s.", cost)
            for note in notes:
                logger.warning("%s.", note)
                progress.show(f"{note}. {cost}")


def over_all_frames(entry: dict, frames: int) -> None:
    """Where a prompt acts in some of a clip's frames is said by its mask alone, in place: core would hand the model
    those frames, and their levels and places are the clip's."""
    area, mask = entry.get("area"), entry.get("mask")
    if area is not None and len(area) == 6:
        count, start = area[0], area[3]
        inside = torch.zeros(frames).to(mask)
        inside[start : start + count] = 1
        entry["mask"] = mask * inside[:, None, None]
        entry["area"] = (frames, *area[1:3], 0, *area[4:])


def refuse_frames(node: str, conds: list) -> None:
    """Raise ValueError for conditioning that is more than text."""
    for entry in (entry for cond in conds if cond for entry in cond):
        if "control" in entry:
            raise ValueError(f"{node}: conditioning: a ControlNet's pictures belong to frames; leave it out")
        for key, value in entry["model_conds"].items():
            same = key == "c_concat" and bool((value.cond == value.cond[:, :, :1]).all())  # says nothing of frames
            if key not in TEXT and not same:
                raise ValueError(
                    f"{node}: conditioning: {key} belongs to frames or to a picture, and clips are made here from text "
                    f"alone; use plain prompts or a Prompt Timeline, or KSampler with the Global/Local Window Scheduler"
                )


def refuse_options(node: str, options: dict) -> None:
    """Raise ValueError for what a MODEL carries (its options) that does not go with clips."""
    if options.get("context_handler") is not None:
        raise ValueError(
            f"{node}: model: carries windows ({type(options['context_handler']).__name__}), and this sampler brings "
            f"its own; take the MODEL from before that node (Global/Local Window Scheduler, Context Windows)"
        )
    for key in options["transformer_options"]:
        name = next((name for mark, name in CACHES.items() if mark in str(key).lower()), None)
        if name is not None:
            raise ValueError(f"{node}: model: {name} skips calls that look like the one before; bypass its node")


class ClipRun:
    """One sampling run. Nothing outlives it. sigmas: those that its steps go through."""

    def __init__(self, model, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict, handler: ClipHandler):
        self.model, self.x, self.sigmas, self.extra_args = model, x, sigmas, extra_args
        self.guider, self.frames = model.inner_model, x.shape[DIM]
        self.sampling = self.guider.inner_model.model_sampling
        self.seed = extra_args.get("seed") or 0
        options = extra_args["model_options"]
        transformer = {**options["transformer_options"], "sample_sigmas": sigmas}
        self.options = {**options, "context_handler": handler, "transformer_options": transformer}

    def of_call(self, numbers: Sequence[int], made: slice) -> dict:
        """model_options of a call on these frames of the video."""
        transformer = {**self.options["transformer_options"], CLIP: Placed(numbers, made, self.frames)}
        return {**self.options, "transformer_options": transformer}


def reporter(meter, callback, total: int, steps: int, state: dict) -> Callable[[int], None]:
    """Counts a run's calls, `total` in all, on its meter. Core's bar has the steps of the schedule: so many of them are
    over; state: what a k-diffusion callback gets besides."""
    done = shown = 0

    def report(calls: int) -> None:
        nonlocal done, shown
        done += calls
        meter.update(calls)
        if callback is not None and shown < done * steps // total:
            shown = done * steps // total
            callback({"sigma_hat": state["sigma"], "i": shown - 1, **state})

    return report


class ClipSampler(comfy.samplers.Sampler):
    """length: pixel frames of a clip. Raises ValueError.

    No KSAMPLER: what takes a sampler's steps apart (VMCR, Checkpoint) refuses it.
    """

    node = ""

    def __init__(self, length: int):
        number("window_length", length, 1, LONGEST, True)
        self.length = length

    def settings(self, length: int):
        """The method's settings with clips of `length` latent frames, at least 2. Raises ValueError."""
        raise NotImplementedError

    def function(self, settings, guider, frames: int) -> Callable | None:
        """A k-diffusion sampler over a whole video's latent of `frames`; None: one clip is all of it."""
        raise NotImplementedError

    def refuse(self, guider, sigmas: torch.Tensor, options: dict, latent_image, mask) -> None:
        """Raise ValueError for what does not go with several clips."""
        refuse_options(self.node, options)
        if mask is not None:
            raise ValueError(
                f"{self.node}: latent_image: carries a noise mask, and frames that are kept have no place in the "
                f"clips; remove the mask (Set Latent Noise Mask), or use KSampler with the Global/Local Window "
                f"Scheduler"
            )
        try:
            whole_schedule(sigmas.tolist())
        except ValueError as error:
            raise ValueError(f"{self.node}: {error}") from None

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        if noise.ndim != 5:
            raise ValueError(
                f"{self.node}: latent_image: its shape is {tuple(noise.shape)}; a video latent has 5 dimensions "
                f"[batch, channels, frames, height, width] (not an image, not audio and video packed together)"
            )
        compression = temporal_compression(model_wrap.inner_model.latent_format)
        try:
            settings = self.settings(latent_length(self.length, compression))
        except ValueError:
            raise ValueError(
                f"{self.node}: window_length ({self.length}) must be at least two latent frames, {compression + 1} "
                f"pixel frames; this model's clip is best"
            ) from None
        options = extra_args["model_options"]
        function = self.function(settings, model_wrap, noise.shape[DIM])
        if function is not None:
            self.refuse(model_wrap, sigmas, options, latent_image, denoise_mask)
        else:  # one clip: as the engine's one window, with what it does and says of a timeline
            function = sample_euler
            handler = LongTakeContextHandler(WindowSettings(settings.length, 0, compression=compression))
            options = {"context_handler": handler, **options}
        extra_args = {**extra_args, "model_options": begun(options, Run())}
        run = functools.partial(preview.filmstrip_wrapper(compression), comfy.samplers.KSAMPLER(function).sample)
        return run(model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)
