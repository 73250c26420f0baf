"""SynCoS as a ComfyUI SAMPLER (adapter of samplers/syncos): what Algorithm 1 asks of the model, by the guider, the
window engine's chunks and model_sampling; masks, cancel and progress.

A SAMPLER is called after core has loaded the model. Where it brings its own windows, core did not know of them: see
memory.load_for_chunks.
"""

import copy
import functools
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import comfy.samplers
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from tqdm.auto import tqdm

from ..checks import number
from ..seeds import derived_seed, generator
from ..syncos.coupling import SynCoSSettings, coupled_steps, evaluations, sample
from ..syncos.csd import take
from ..windows import LONGEST, Window, WindowSettings, latent_length, local_count, local_windows
from . import preview, progress
from .engine import LongTakeContextHandler
from .frame_batch import as_batch, as_video, frames_in_batch, guided_by_frame
from .hooks import CHUNKS, Chunks
from .latents import DIM, compression_of, frame_axis
from .memory import load_for_chunks
from .references import references
from .replay import Calls, how_answered, settle
from .schedule import first_index, located
from .steps import Moment, Run, begun

logger = logging.getLogger(__name__)

NODE = "SynCoS (LongTakeSynCoSSampler, LongTakeSynCoSKSampler)"


def chunks_overlap(window_length: int, stride: int) -> None:
    """Chunks in pixel frames that leave no frame out. Raises ValueError."""
    number("window_length", window_length, 1, LONGEST, True)
    number("stride", stride, 1, LONGEST, True)
    if stride > window_length:
        raise ValueError(
            f"stride ({stride}) must not be longer than window_length ({window_length}) pixel frames, or frames "
            f"between the chunks would be left out; e.g. {max(window_length // 3, 1)}"
        )


@dataclass(frozen=True)
class ChunkSettings:
    """Chunks for a MODEL without a window scheduler: length and stride in pixel frames. Raises ValueError."""

    length: int
    stride: int

    def __post_init__(self):
        chunks_overlap(self.length, self.stride)

    def windows(self, compression: int) -> WindowSettings:
        frames = latent_length(self.length, compression)
        stride = min(max(round(self.stride / compression), 1), frames)
        return WindowSettings(frames, frames - stride, fuse="flat", compression=compression)


class _Run:
    """One sampling run: the guider with everything that its calls need. Nothing outlives the run."""

    def __init__(self, model, x: torch.Tensor, extra_args: dict, settings: SynCoSSettings, chunks):
        self.guider, self.settings = model.inner_model, settings
        self.framed = frames_in_batch(self.guider.inner_model)  # the latents' batch is the video
        self.sampling = self.guider.inner_model.model_sampling
        self.given = self.video(getattr(model, "latent_image", None))  # what a mask keeps
        self.mask, self.seed = self.video(extra_args.get("denoise_mask")), extra_args.get("seed") or 0
        if x.ndim != 5:
            raise ValueError(
                f"{NODE}: the latent has the shape {tuple(x.shape)}; a video latent has 5 dimensions [batch, channels, "
                f"frames, height, width] (not an image, not audio and video packed together)"
            )
        options, self.videos, self.frames = extra_args["model_options"], x.shape[0], x.shape[DIM]
        self.all_sigmas = getattr(model, "sigmas", None)
        self.bar = ProgressBar(len(options["transformer_options"]["sample_sigmas"]) - 1)
        node = guided_by_frame(options) if self.framed and settings.couples else None
        if node is not None:
            raise ValueError(
                f"{NODE}: model: {node} guides each frame by its place in the whole latent, which a chunk does not "
                f"know; bypass that node"
            )
        if settings.couples and "easycache" in options["transformer_options"]:
            raise ValueError(
                f"{NODE}: model: EasyCache and LazyCache skip steps that look like the one before; coupled iterations "
                f"are no steps. Bypass that node"
            )
        handler = options.get("context_handler")
        self.own_windows = handler is None
        if handler is None:
            if chunks is None:
                raise ValueError(f"{NODE}: model: has no windows; put the Global/Local Window Scheduler before it")
            patcher = self.guider.model_patcher
            handler = LongTakeContextHandler(chunks.windows(compression_of(patcher)), frame_axis(patcher))
        elif not isinstance(handler, LongTakeContextHandler):
            raise ValueError(
                f"{NODE}: model: carries the context windows of another node ({type(handler).__name__}); bypass that "
                f"node, or use the Global/Local Window Scheduler in its place"
            )
        self.windows = handler.settings
        if settings.couples and self.windows.closed_loop:
            raise ValueError(
                f"{NODE}: model: the window scheduler's closed_loop: chunks do not go around the end; turn it off"
            )
        conds = list(getattr(self.guider, "conds", {}).values())
        count = references(self.guider.inner_model, conds)
        if settings.couples and self.windows.cuts(self.frames - count):
            raise ValueError(
                f"{NODE}: model: the window scheduler's schedule (rolling_cut): chunks are of one length; set it to "
                f"rolling"
            )
        if self.windows.whole(self.frames - count) and self.windows.length < self.frames:  # one, with the references
            self.windows = replace(self.windows, length=self.frames)
        self.located = located(self.windows, self.sampling, options["transformer_options"])
        self.options = {**options, "context_handler": handler}
        self.extra_args = {**extra_args, "model_options": self.options}
        self.coupled_guider = self.guider
        if settings.cond_only:
            if type(self.guider).predict_noise is not comfy.samplers.CFGGuider.predict_noise:
                raise ValueError(
                    f"{NODE}: cond_only: works with the ordinary CFGGuider (and KSampler) only, not with "
                    f"{type(self.guider).__name__}; turn it off"
                )
            self.coupled_guider = copy.copy(self.guider)
            self.coupled_guider.cfg = 1.0

    def video(self, x: torch.Tensor | None) -> torch.Tensor | None:
        """A latent of the model's as a video [B, C, F, H, W]."""
        return as_video(x) if self.framed and x is not None else x

    def latent(self, x: torch.Tensor) -> torch.Tensor:
        """A video as the model's latent."""
        return as_batch(x) if self.framed else x

    def denoised(self, model, x: torch.Tensor, sigma: torch.Tensor, **kwargs) -> torch.Tensor:
        """x0 of a video, by a guider or what wraps it."""
        x = self.latent(x)
        return self.video(model(x, sigma * x.new_ones(x.shape[0]), **kwargs))

    def draw(self, purpose: str, key: int, iteration: int = 0) -> torch.Generator:
        """On the CPU, for one purpose of one step: the same however the run reached that step."""
        return generator(derived_seed(self.seed, f"syncos {purpose} {key} {iteration}"))

    def parts(self) -> Iterator[slice]:
        """The video's frames, as many at a time as a chunk has, for what is done value by value."""
        return (slice(i, i + self.windows.length) for i in range(0, self.frames, self.windows.length))

    def mask_at(self, level: torch.Tensor) -> torch.Tensor | None:
        """What of the videos is made at a noise level (one each): the mask, as core's KSamplerX0Inpaint takes it."""
        change = self.options.get("denoise_mask_function")  # Differential Diffusion's
        if self.mask is None or change is None:
            return self.mask
        return change(level, self.mask, extra_options={"model": self.guider, "sigmas": self.all_sigmas})

    def sigma_at(self, place: float) -> float:
        """Sigma at a place in the schedule, 1 = all noise."""
        return float(self.sampling.percent_to_sigma(1 - place))


class _Step:
    """One step of a run: coupling.Step over ComfyUI."""

    def __init__(self, run: _Run, model, sigma, following, moment: Moment, coupled: bool, meter, callback):
        self.run, self.model, self.moment, self.meter, self.callback = run, model, moment, meter, callback
        self.sigma, self.following, self.coupled = sigma, following, coupled
        self.mask = run.mask_at(sigma[None].expand(run.videos))
        self.name = f"step {moment.step + 1} of {len(moment.keys)}"
        self.checks: list[tuple[str, torch.Tensor]] = []  # of the coupled predictions

    def fused(self, x: torch.Tensor) -> torch.Tensor:
        x0 = self.run.denoised(self.model, x, self.sigma, **self.run.extra_args)
        refuse_infinite([(self.name, finite(x0))])
        return x0

    @functools.cached_property
    def windows(self) -> list[Window]:
        places, index = self.run.located
        step = self.moment.step
        return local_windows(self.run.windows, self.run.frames, self.moment.key, index + step, places[step])

    def predict(self, x: torch.Tensor, sigma: torch.Tensor, windows: Sequence[Window], iteration: int) -> torch.Tensor:
        run = self.run
        transformer = {**run.options["transformer_options"], CHUNKS: Chunks(x, tuple(windows))}
        x0 = run.denoised(
            run.coupled_guider, torch.cat([take(x, window) for window in windows], DIM), sigma,
            model_options={**run.options, "transformer_options": transformer}, seed=run.seed,
        )  # fmt: skip
        spans = ", ".join(f"{w.indices[0]}-{w.indices[-1]}" for w in windows)
        self.checks.append((f"{self.iteration(iteration)}, chunks {spans}", finite(x0)))
        return x0

    def renoise(self, x0: torch.Tensor, eps: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        x = torch.empty_like(x0)
        for part in self.run.parts():
            x[:, :, part] = self.run.sampling.noise_scaling(sigma, eps[:, :, part], x0[:, :, part])
        return x

    def shown(self, x: torch.Tensor, eps: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """As core's KSamplerX0Inpaint, with this step's noise."""
        if self.mask is None:
            return x
        level, mask = sigma * x.new_ones(x.shape[0]), self.mask.expand_as(x)
        for part in self.run.parts():
            given = self.run.guider.inner_model.scale_latent_inpaint(
                x=x[:, :, part], sigma=level, noise=eps[:, :, part], latent_image=self.run.given[:, :, part]
            )
            x[:, :, part] = x[:, :, part] * mask[:, :, part] + given * (1 - mask[:, :, part])
        return x

    def kept(self, x0: torch.Tensor) -> torch.Tensor:
        return x0 if self.mask is None else x0 * self.mask + self.run.given * (1 - self.mask)

    def levels(self, sigma: torch.Tensor) -> tuple[float, float]:
        one, scaled = sigma.new_ones(1), self.run.sampling.noise_scaling
        signal, noise = torch.cat([scaled(sigma, one * 0, one), scaled(sigma, one, one * 0)]).tolist()
        return signal, noise

    def sigma_at(self, place: float) -> torch.Tensor:
        return torch.as_tensor(self.run.sigma_at(place)).to(self.sigma)

    def draw(self, purpose: str, iteration: int = 0) -> torch.Generator:
        return self.run.draw(purpose, self.moment.key, iteration)

    def iteration(self, k: int) -> str:
        return f"{self.name}, coupled iteration {k} of {self.run.settings.iters}"

    def progress(self, iteration: int) -> None:
        self.meter.update()
        if iteration:
            self.run.bar.update_absolute(self.moment.step + iteration / (self.run.settings.iters + 1))
            progress.show(f"SynCoS: {self.iteration(iteration)}")
        throw_exception_if_processing_interrupted()

    @property
    def resumed(self) -> bool:
        return how_answered(self.model) is not None

    def done(self, x: torch.Tensor, x0: torch.Tensor) -> None:
        refuse_infinite(self.checks)  # once per step: to look at them waits for the device
        settle(self.model, self.run.latent(x0))
        if self.callback is not None:
            self.callback(self.run.latent(x), self.run.latent(x0))


def finite(x0: torch.Tensor) -> torch.Tensor:
    """Whether all values are finite, on the device, without a copy of them: a sum is only where they are."""
    return x0.sum(dtype=torch.promote_types(x0.dtype, torch.float32)).isfinite()


def refuse_infinite(checks: list[tuple[str, torch.Tensor]]) -> None:
    """Raises ValueError with the first prediction that is NaN or infinite, before it makes a black video."""
    if not checks:
        return
    for (what, _), good in zip(checks, torch.stack([check for _, check in checks]).tolist(), strict=True):
        if not good:
            raise ValueError(
                f"{NODE}: {what}: the model predicted NaN or infinite values. Likely causes: weights or attention in "
                f"fp16 that overflow (try bf16, or --fp32-unet), a damaged LoRA or checkpoint, a model sampling patch "
                f"for another kind of model"
            )


def sample_syncos(model, x, sigmas, extra_args=None, callback=None, disable=None, *, settings, chunks):
    """A k-diffusion sampler: Algorithm 1 over the sigmas given. Where a step is not coupled it is core's euler."""
    given = x
    x = as_video(x) if x.ndim == 4 and frames_in_batch(model.inner_model.inner_model) else x
    run = _Run(model, x, extra_args or {}, settings, chunks)
    whole = run.options["transformer_options"]["sample_sigmas"]
    t_min = run.sigma_at(settings.t_min)
    counted = settings.max_coupled and float(whole[0]) > t_min  # else it does not matter how many steps came before
    index = first_index(run.sampling, whole) if counted else 0
    plan = coupled_steps(settings, whole[:-1].tolist(), t_min, index)
    if settings.stages == "second" and len(whole) != len(sigmas):
        raise ValueError(f"{NODE}: stages: second cannot be run one step at a time (by VMCR); its steps share a state")
    if settings.stages == "second" and isinstance(model, Calls):
        raise ValueError(f"{NODE}: stages: second cannot be kept, its steps share a state; bypass Checkpoint")
    start = Moment.of(sigmas[:1], run.options)
    if start.first:
        log_start(run, plan, start)
        if run.own_windows:
            load_for_chunks(run.guider, given, run.windows.length)

    def steps(meter) -> Iterator[_Step]:
        for i, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
            moment = Moment.of(sigma[None], run.options)

            def report(x, x0, i=i, sigma=sigma):
                callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})

            coupled, shown = plan[moment.step], None if callback is None else report
            yield _Step(run, model, sigma, following, moment, coupled, meter, shown)

    with tqdm(total=sum(1 + settings.iters * on for on in plan), disable=disable) as meter:
        del given
        return run.latent(sample(x, steps(meter), settings))


sample_syncos.longtake_history = 0  # see replay.history


def log_start(run: _Run, plan: list[bool], moment: Moment) -> None:
    places, index = run.located
    windows = [
        local_count(run.windows, run.frames, key, index + i, places[i]) for i, key in enumerate(moment.keys)
    ]
    first, second = evaluations(run.settings, plan, windows)
    alone = 0  # predictions of one CFG branch
    for on, count, place in zip(plan, windows, places, strict=True):
        part = evaluations(run.settings, [on], [count])
        alone += sum(part) if run.windows.branches(2, place) == 1 else part[1] * run.settings.cond_only
    n = min(run.settings.chunks, max(windows))
    text = (
        f"SynCoS: {sum(plan)} of {len(plan)} steps coupled, {run.settings.iters} iterations of {n} of {max(windows)} "
        f"chunks; {first + second} window predictions, {(first + second) / sum(windows):.2f}x plain windows"
    )
    if alone:
        text += f" ({alone} of them without the negative prompt)"
    logger.info("%s.", text)
    progress.show(text)
    if run.settings.couples and not any(plan):
        logger.warning("SynCoS: no step lies above t_min %g: nothing is coupled.", run.settings.t_min)


class SynCoSSampler(comfy.samplers.KSAMPLER):
    """Gives a MODEL without windows what one with windows brings along (engine.apply_windows): the filmstrip, and a run
    in which the engine decides things once."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *rest, **kwargs):
        run, options = super().sample, extra_args["model_options"]
        model = model_wrap.inner_model
        video = model.latent_format.latent_dimensions == 3 or frames_in_batch(model)
        if options.get("context_handler") is None and video:
            extra_args = {**extra_args, "model_options": begun(options, Run())}
            run = functools.partial(preview.filmstrip_wrapper(compression_of(model_wrap.model_patcher)), run)
        return run(model_wrap, sigmas, extra_args, callback, noise, *rest, **kwargs)


def syncos_sampler(settings: SynCoSSettings, chunks: ChunkSettings | None = None) -> SynCoSSampler:
    """A SAMPLER. chunks: used where the MODEL carries no LongTake windows; None: such a MODEL is an error."""
    return SynCoSSampler(sample_syncos, {"settings": settings, "chunks": chunks})
