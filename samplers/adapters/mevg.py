"""MEVG as a ComfyUI SAMPLER (adapter of samplers/mevg.py): clips (clips.py) one after the other, one event each.

The noise of a clip is what the NOISE made for its frames of the video; frames behind the video's end, and what
inversion draws, are drawn on the CPU.
"""

import copy
import functools
import math
from collections.abc import Hashable
from dataclasses import replace

import comfy.samplers
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from tqdm.auto import tqdm

from ..mevg import LEAST_SIGNAL, Clip, Lasts, MEVGSettings, calls, clips, cost_text, dynamic, inverted, sampled
from ..prompts.frame_times import frame_weights
from ..seeds import derived_seed, generator
from ..windows import pixel_length
from . import progress, timeline_notes
from .clips import ClipHandler, ClipRun, ClipSampler, reporter
from .latents import DIM, temporal_compression
from .memory import load_for_chunks
from .timeline import over_video

NODE = "MEVG Sampler (LongTakeMEVGSampler)"


def spans_of(guider, frames: int) -> list[list]:
    """The spans of each Prompt Timeline among the guider's prompts, over a video of so many latent frames."""
    compression = temporal_compression(guider.inner_model.latent_format)
    return list(timeline_notes.timelines(over_video(list(guider.conds.values()), pixel_length(frames, compression))))


def events_of(guider, frames: int) -> list[Hashable]:
    """What each latent frame shows: the event with most weight at its centre, of each timeline."""
    compression, timelines = temporal_compression(guider.inner_model.latent_format), spans_of(guider, frames)

    def shown(spans: list, frame: int) -> int:
        return max(frame_weights(spans, frame, compression), key=lambda event: event[1])[0]

    return [tuple(shown(spans, frame) for spans in timelines) for frame in range(frames)]


def first_step(settings: MEVGSettings, sampling, sigmas: torch.Tensor) -> int:
    """The step at which later clips begin: by its place in the noise schedule. Raises ValueError."""
    if settings.start_percent == 0:
        return 0
    level = float(sampling.percent_to_sigma(settings.start_percent))
    first = next((i for i, sigma in enumerate(sigmas[:-1].tolist()) if sigma <= level * (1 + 1e-5)), None)
    if first is None:
        raise ValueError(
            f"{NODE}: start_percent ({settings.start_percent:g}): the schedule has no step from there on (sigma "
            f"{level:.3f}; its last one is at {float(sigmas[-2]):.3f}); make it smaller, or take more steps"
        )
    return first


def levels_of(sampling, sigma: torch.Tensor) -> tuple[float, float]:
    """How much of x0 and how much noise core's model_sampling has in a latent at sigma."""
    one = sigma.new_ones(1)
    return float(sampling.noise_scaling(sigma, one * 0, one)), float(sampling.noise_scaling(sigma, one, one * 0))


def with_the_empty_text(guider):
    """A guider of the negative prompt alone. Raises ValueError."""
    plain = type(guider).predict_noise is comfy.samplers.CFGGuider.predict_noise
    if not plain or guider.conds.get("negative") is None:
        raise ValueError(
            f"{NODE}: begin (invert): the way back goes by the negative prompt, and {type(guider).__name__} is not "
            f"asked for it alone; use CFGGuider with an empty negative prompt, or set begin to renoise"
        )
    guider = copy.copy(guider)
    guider.conds = {name: guider.conds["negative"] for name in ("positive", "negative")}
    guider.cfg = 1.0
    return guider


class _Run(ClipRun):
    def __init__(self, model, x: torch.Tensor, sigmas: torch.Tensor, extra_args: dict, settings: MEVGSettings):
        guider, frames, self.steps = model.inner_model, x.shape[DIM], len(sigmas) - 1
        compression = temporal_compression(guider.inner_model.latent_format)
        self.settings, self.clips = settings, clips(settings, events_of(guider, frames))
        self.first = first_step(settings, guider.inner_model.model_sampling, sigmas)
        timelines = spans_of(guider, frames)
        notes = [note for spans in timelines for note in timeline_notes.unseen(spans, frames, compression)]

        def cost(frames: int, branches: int) -> str:
            return f"MEVG: {cost_text(settings, len(self.clips), frames, self.steps, self.first, branches)}"

        handler = ClipHandler(NODE, settings.length, sigmas, compression, cost, notes)
        super().__init__(model, x, sigmas, extra_args, handler)
        self.levels = functools.partial(levels_of, self.sampling)
        self.empty = with_the_empty_text(guider) if settings.begin == "invert" and len(self.clips) > 1 else None
        self.out = torch.zeros_like(x)

    def video(self, report) -> torch.Tensor:
        """report(calls): after each."""
        lasts = None
        for number, clip in enumerate(self.clips):
            name = f"MEVG: clip {number + 1} of {len(self.clips)}"

            def said(what: str, i: int, name=name) -> None:
                progress.show(f"{name}, {what} {i + 1} of {self.steps}")
                report(1)

            def shown(i: int, x0: torch.Tensor, clip=clip, said=said) -> None:
                self._put(clip, x0)
                said("step", i)

            first = 0 if lasts is None else self.first
            x = self.x[:, :, : self.settings.length] if lasts is None else self._begun(clip, lasts, said)
            predict, last = functools.partial(self._predict, clip), clip.end - clip.start - 1
            x = x.contiguous()  # as a latent of its own would be: kernels round by layout
            x, lasts = sampled(self.settings, x, self.sigmas, first, predict, self.levels, lasts, last, shown)
            self._put(clip, x)
        return self.out

    def _put(self, clip: Clip, x: torch.Tensor) -> None:
        self.out[:, :, clip.new : clip.end] = x[:, :, clip.new - clip.start : clip.end - clip.start]

    def _begun(self, clip: Clip, lasts: Lasts, said) -> torch.Tensor:
        """A later clip's latent at its first step."""
        frame = self.out[:, :, clip.new - 1 : clip.new].clone()
        own = self._noise(clip)
        if self.empty is None:
            eps = dynamic(own[:, :, :1].expand_as(own), own, self.settings.shared_noise)
            return self.sampling.noise_scaling(self.sigmas[self.first], eps, frame.expand_as(own))

        def predict(x: torch.Tensor, sigma: torch.Tensor, i: int) -> torch.Tensor:
            x0 = self._predict(clip, x, sigma, i, self.empty)
            said("inversion", i)
            return x0

        def fresh(i: int) -> torch.Tensor:
            return self._drawn(own, f"inversion of {clip.start}, {i}")

        return inverted(self.settings, frame, self.sigmas, self.first, predict, self.levels, fresh, lasts)

    def _predict(self, clip: Clip, x: torch.Tensor, sigma: torch.Tensor, i: int, guider=None) -> torch.Tensor:
        """x0 of a clip; guider: in place of the run's."""
        throw_exception_if_processing_interrupted()
        options, sigma = self.of_call(clip.numbers(self.settings.length), slice(None)), sigma * x.new_ones(x.shape[0])
        if guider is not None:
            return guider(x, sigma, model_options=options, seed=self.seed)
        return self.model(x, sigma, **{**self.extra_args, "model_options": options})

    def _drawn(self, like: torch.Tensor, purpose: str) -> torch.Tensor:
        return torch.randn(like.shape, generator=generator(derived_seed(self.seed, f"mevg {purpose}"))).to(like)

    def _noise(self, clip: Clip) -> torch.Tensor:
        """The noise of a clip's frames."""
        given = self.model.noise
        frames = [
            given[:, :, i : i + 1] if i < self.frames else self._drawn(given[:, :, :1], f"frame {i}")
            for i in range(clip.start, clip.start + self.settings.length)
        ]
        return torch.cat(frames, DIM)


@torch.no_grad()
def sample_mevg(model, x, sigmas, extra_args=None, callback=None, disable=None, *, settings: MEVGSettings):
    """A k-diffusion sampler over a whole video's latent."""
    run, steps = _Run(model, x, sigmas, extra_args or {}, settings), len(sigmas) - 1
    load_for_chunks(run.guider, x, settings.length)
    total = sum(calls(settings, len(run.clips), steps, run.first))
    with tqdm(total=total, disable=disable) as meter:
        return run.video(reporter(meter, callback, total, steps, {"x": x, "sigma": sigmas[0], "denoised": run.out}))


class MEVGSampler(ClipSampler):
    """length: pixel frames of a clip; the rest as MEVGSettings has it. Raises ValueError."""

    node = NODE

    def __init__(self, length: int, **rest):
        super().__init__(length)
        MEVGSettings(2, **rest)
        self.rest = rest

    def settings(self, length: int) -> MEVGSettings:
        return MEVGSettings(length, **self.rest)

    def function(self, settings: MEVGSettings, guider, frames: int):
        if frames == 1 or (frames <= settings.length and not spans_of(guider, frames)):
            return None
        return functools.partial(sample_mevg, settings=replace(settings, length=min(settings.length, frames)))

    def refuse(self, guider, sigmas, options, latent_image, mask) -> None:
        super().refuse(guider, sigmas, options, latent_image, mask)
        if latent_image is not None and bool(latent_image.any()):
            raise ValueError(
                f"{NODE}: latent_image: holds a video, and each clip but the first begins from the one before it; use "
                f"an empty latent"
            )
        if self.rest["begin"] == "invert":
            with_the_empty_text(guider)
            sampling = guider.inner_model.model_sampling
            level = sigmas[first_step(self.settings(2), sampling, sigmas)]
            signal, noise = levels_of(sampling, level)
            if signal < LEAST_SIGNAL * math.hypot(signal, noise):
                raise ValueError(
                    f"{NODE}: begin (invert): where clips begin (sigma {float(level):.4g}) this model's latent holds "
                    f"{signal / math.hypot(signal, noise):.2g} of the picture, and inversion would hand nothing on; "
                    f"set start_percent ({self.rest['start_percent']:g}) higher, e.g. to 0.2, or begin to renoise"
                )
