"""SynCoS as a ComfyUI SAMPLER: coupled steps over the window engine's chunks (adapter of syncos.py and csd.py)."""

import copy
import functools
import logging
from dataclasses import dataclass

import comfy.samplers
import torch
from comfy.model_management import throw_exception_if_processing_interrupted
from comfy.utils import ProgressBar
from tqdm.auto import tqdm

from ..seeds import derived_seed, generator
from ..syncos.coupling import SynCoSSettings, coupled_steps, evaluations, new_optimizer, picked_chunks, step_lr
from ..syncos.csd import average, csd_direction
from ..windows import Window, WindowSettings, latent_length, local_windows
from . import preview, progress
from .engine import CHUNKS, Chunks, LongTakeContextHandler
from .latents import temporal_compression
from .steps import Moment

logger = logging.getLogger(__name__)

NODE = "SynCoS (LongTakeSynCoSSampler, LongTakeSynCoSKSampler)"
FREE_RANGE = (0.02, 0.98)  # places in the schedule that free timesteps come from


@dataclass(frozen=True)
class ChunkSettings:
    """Chunks for a MODEL without a window scheduler: length and stride in pixel frames."""

    length: int
    stride: int

    def windows(self, compression: int) -> WindowSettings:
        frames = latent_length(self.length, compression)
        stride = min(max(round(self.stride / compression), 1), frames)
        return WindowSettings(frames, frames - stride, fuse="flat", compression=compression)


class _Run:
    """One sampling run: the guider with everything that its calls need. Nothing outlives the run."""

    def __init__(self, model, x: torch.Tensor, extra_args: dict, settings: SynCoSSettings, chunks):
        self.guider, self.settings = model.inner_model, settings
        self.sampling = self.guider.inner_model.model_sampling
        self.given = getattr(model, "latent_image", None)  # what a mask keeps
        self.mask, self.seed = extra_args.get("denoise_mask"), extra_args.get("seed") or 0
        if x.ndim != 5:
            raise ValueError(
                f"{NODE}: the latent has the shape {tuple(x.shape)}; a video latent has 5 dimensions [batch, channels, "
                f"frames, height, width] (not an image, not audio and video packed together)"
            )
        options = extra_args["model_options"]
        if settings.couples and "easycache" in options["transformer_options"]:
            raise ValueError(
                f"{NODE}: model: EasyCache and LazyCache skip steps that look like the one before; coupled iterations "
                f"are no steps. Bypass that node"
            )
        handler = options.get("context_handler")
        if handler is None:
            if chunks is None:
                raise ValueError(f"{NODE}: model: has no windows; put the Global/Local Window Scheduler before it")
            compression = temporal_compression(self.guider.inner_model.latent_format)
            handler = LongTakeContextHandler(chunks.windows(compression))
        elif not isinstance(handler, LongTakeContextHandler):
            raise ValueError(
                f"{NODE}: model: carries the context windows of another node ({type(handler).__name__}); bypass that "
                f"node, or use the Global/Local Window Scheduler in its place"
            )
        self.windows = handler.settings
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

    def draw(self, purpose: str, key: int, iteration: int = 0) -> torch.Generator:
        """On the CPU, for one purpose of one step: the same however the run reached that step."""
        return generator(derived_seed(self.seed, f"syncos {purpose} {key} {iteration}"))

    def noise(self, like: torch.Tensor, key: int, iteration: int = 0) -> torch.Tensor:
        return torch.randn(like.shape, generator=self.draw("noise", key, iteration)).to(like)

    def noised(self, x0: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        return self.sampling.noise_scaling(sigma, noise, x0)

    def kept(self, x: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
        """x with what the mask keeps as the model wants it: core's KSamplerX0Inpaint, with this step's noise."""
        if self.mask is None:
            return x
        level = sigma * x.new_ones(x.shape[0])
        given = self.guider.inner_model.scale_latent_inpaint(x=x, sigma=level, noise=noise, latent_image=self.given)
        return x * self.mask + given * (1 - self.mask)

    def levels(self, sigma: torch.Tensor) -> tuple[float, float]:
        """Amplitudes of signal and noise in the model's x at sigma."""
        one = sigma.new_ones(1, 1, 1, 1, 1)
        return float(self.noised(one, one * 0, sigma)), float(self.noised(one * 0, one, sigma))

    def sigma_at(self, place: float) -> float:
        """Sigma at a place in the schedule, 1 = all noise."""
        return float(self.sampling.percent_to_sigma(1 - place))

    def predict(self, x: torch.Tensor, sigma: torch.Tensor, windows: list[Window], what: str) -> torch.Tensor:
        """x0 of single chunks of the noisy video x, with guidance: [n, B, C, L, H, W]."""
        transformer = {**self.options["transformer_options"], CHUNKS: Chunks(x, tuple(windows))}
        x0 = self.coupled_guider(
            torch.cat(cut(x, windows), 2), sigma * x.new_ones(x.shape[0]),
            model_options={**self.options, "transformer_options": transformer}, seed=self.seed,
        )  # fmt: skip
        return finite(torch.stack(x0.split(len(windows[0].indices), 2)), f"{what}, chunks {spans(windows)}")

    def couple(self, x0: torch.Tensor, sigma: torch.Tensor, moment: Moment, eps: torch.Tensor, report) -> torch.Tensor:
        """Stage 2: x0' after `iters` iterations at one step; eps is the baseline noise."""
        settings, key = self.settings, moment.key
        windows = local_windows(self.windows, x0.shape[2], key)
        chunks, places = self.draw("chunks", key), self.draw("places", key)
        x0 = x0.detach().clone()
        optimizer = new_optimizer(settings, x0)
        for k in range(settings.iters):
            throw_exception_if_processing_interrupted()
            if settings.timestep == "free":
                low, high = FREE_RANGE
                place = low + (high - low) * float(torch.rand(1, generator=places))
                sigma = torch.as_tensor(self.sigma_at(place)).to(sigma)
            if settings.noise == "fresh":
                eps = self.noise(x0, key, k + 1)
            signal, noise = self.levels(sigma)
            picked = picked_chunks(settings, len(windows), chunks)
            chosen = [windows[i] for i in picked]
            x = self.kept(self.noised(x0, eps, sigma), eps, sigma)
            what = f"step {moment.step + 1} of {len(moment.keys)}, coupled iteration {k + 1} of {settings.iters}"
            r = torch.stack(cut(x0, chosen)) - self.predict(x, sigma, chosen, what)
            moved, scored = (windows, picked) if settings.exchange else (chosen, None)
            y = torch.stack(cut(x, moved)) / noise
            g = average(csd_direction(y, r, signal / noise, settings.exchange, scored), moved, x0)
            x0.grad = g if self.mask is None else g * self.mask
            for group in optimizer.param_groups:
                group["lr"] = step_lr(settings, signal / noise, k)
            optimizer.step()
            report(k, what)
        return x0


def cut(x: torch.Tensor, windows: list[Window]) -> list[torch.Tensor]:
    return [x[:, :, w.indices[0] : w.indices[-1] + 1] for w in windows]


def spans(windows: list[Window]) -> str:
    return ", ".join(f"{w.indices[0]}-{w.indices[-1]}" for w in windows)


def finite(x0: torch.Tensor, what: str) -> torch.Tensor:
    """x0 itself. Raises ValueError where a prediction is NaN or infinite, before it makes a black video."""
    if bool(torch.isfinite(x0).all()):
        return x0
    raise ValueError(
        f"{NODE}: {what}: the model predicted NaN or infinite values. Likely causes: weights or attention in fp16 "
        f"that overflow (try bf16, or --fp32-unet), a damaged LoRA or checkpoint, a model sampling patch for another "
        f"kind of model"
    )


@torch.no_grad()
def sample_syncos(model, x, sigmas, extra_args=None, callback=None, disable=None, *, settings, chunks):
    """A k-diffusion sampler: Algorithm 1 over the sigmas given. Where a step is not coupled it is core's euler."""
    run = _Run(model, x, extra_args or {}, settings, chunks)
    whole = run.options["transformer_options"]["sample_sigmas"]
    plan = coupled_steps(settings, whole[:-1].tolist(), run.sigma_at(settings.t_min))
    alone = settings.stages == "second"
    if alone and len(whole) != len(sigmas):
        raise ValueError(f"{NODE}: stages: second cannot be run one step at a time (by VMCR); its steps share a state")
    log_start(run, plan, x.shape[2], Moment.of(sigmas[:1], run.options))
    steps = len(whole) - 1
    bar = ProgressBar(steps)
    x0 = x / run.levels(sigmas[0])[1]  # CSD alone starts from noise
    with tqdm(total=sum(1 + settings.iters * on for on in plan), disable=disable) as meter:
        for i, (sigma, following) in enumerate(zip(sigmas[:-1], sigmas[1:], strict=True)):
            moment = Moment.of(sigma[None], run.options)
            if not alone:
                x0 = model(x, sigma * x.new_ones(x.shape[0]), **run.extra_args)  # stage 1
                finite(x0, f"step {moment.step + 1} of {steps}")
            meter.update()
            if plan[moment.step]:

                def report(k, what, step=moment.step):
                    meter.update()
                    bar.update_absolute(step + (k + 1) / (settings.iters + 1))
                    progress.show(f"SynCoS: {what}")

                eps = run.noise(x0, moment.key)
                x0 = run.couple(x0, sigma, moment, eps, report)  # stage 2
                if settings.noise == "fresh":
                    eps = run.noise(x0, moment.key, settings.iters + 1)
            if callback is not None:
                callback({"x": x, "i": i, "sigma": sigma, "sigma_hat": sigma, "denoised": x0})
            # Stage 3; without stage 2 the noise is the one that x holds.
            x = run.noised(x0, eps, following) if plan[moment.step] else x + (x - x0) / sigma * (following - sigma)
    return x


def log_start(run: _Run, plan: list[bool], frames: int, moment: Moment) -> None:
    if not moment.first:
        return
    windows = [len(local_windows(run.windows, frames, key)) for key in moment.keys]
    first, second = evaluations(run.settings, plan, windows)
    n = min(run.settings.chunks, max(windows))
    text = (
        f"SynCoS: {sum(plan)} of {len(plan)} steps coupled, {run.settings.iters} iterations of {n} of {max(windows)} "
        f"chunks; {first + second} window predictions, {(first + second) / sum(windows):.2f}x plain windows"
    )
    if run.settings.cond_only:
        text += f" ({second} of them without the negative prompt)"
    logger.info("%s.", text)
    progress.show(text)
    if run.settings.couples and not any(plan):
        logger.warning("SynCoS: no step lies above t_min %g: nothing is coupled.", run.settings.t_min)


class SynCoSSampler(comfy.samplers.KSAMPLER):
    """Shows the filmstrip that a MODEL with windows brings along (see context.apply_windows) for one without, too."""

    def sample(self, model_wrap, sigmas, extra_args, callback, noise, *rest, **kwargs):
        run = super().sample
        latent_format = model_wrap.inner_model.latent_format
        if extra_args["model_options"].get("context_handler") is None and latent_format.latent_dimensions == 3:
            run = functools.partial(preview.filmstrip_wrapper(temporal_compression(latent_format)), run)
        return run(model_wrap, sigmas, extra_args, callback, noise, *rest, **kwargs)


def syncos_sampler(settings: SynCoSSettings, chunks: ChunkSettings | None = None) -> SynCoSSampler:
    """A SAMPLER. chunks: used where the MODEL carries no LongTake windows; None: such a MODEL is an error."""
    return SynCoSSampler(sample_syncos, {"settings": settings, "chunks": chunks})
