"""Sampling runs of the zoo's Wan on latents of 4x4: prompts, windows, and notes of the model calls."""

import comfy.sample
import torch
import zoo
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.prompts.timeline import Span
from longtake.samplers.windows import WindowSettings

LENGTH, OVERLAP, FRAMES, STEPS, CFG = 5, 2, 14, 3, 2.0
TOTAL = 4 * (FRAMES - 1) + 1  # pixel frames
CLOSE = 3e-5  # float32's rounding: latents come out near 6


def patcher():
    return zoo.patcher("wan21_t2v")


def prompt(seed, **extra):
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)), extra]]


def rows(seed):
    return prompt(seed)[0][0]


def timeline(total, starts, blend=0.0):
    """Entry 0 global, one entry per event, never active in a plain call."""
    entries = prompt(1, longtake_span=None)
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else total
        span = Span(index=i, start=start, end=end, blend=blend, total=total)
        entries += prompt(10 + i, longtake_span=span, start_percent=1.0, end_percent=0.0)
    return entries


def latent(frames=FRAMES, batch=1):
    return torch.zeros(batch, 16, frames, 4, 4)


def run(
    model, frames=FRAMES, *, positive=None, negative=None, cfg=CFG, sampler="euler", batch=1, callback=None,
    steps=STEPS, seed=5,
):  # fmt: skip
    start = latent(frames, batch)
    return comfy.sample.sample(
        model, comfy.sample.prepare_noise(start, seed), steps, cfg, sampler, "simple", positive or prompt(1),
        negative or prompt(2), start, disable_pbar=True, seed=seed, callback=callback,
    )  # fmt: skip


def windowed(model, length=LENGTH, overlap=OVERLAP, **kwargs):
    kwargs.setdefault("window_batch", 1)
    return apply_windows(model, WindowSettings(length, overlap, **kwargs))


def record(model):
    """A clone whose model calls are noted: (input shape, longtake's note, text rows, CFG branches)."""
    calls = []

    def wrapper(apply, args):
        options = args["c"]["transformer_options"]
        text = args["c"]["c_crossattn"].clone()
        calls.append((tuple(args["input"].shape), options.get("longtake"), text, args["cond_or_uncond"]))
        return apply(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model, calls


def difference(a, b):
    return (a - b).abs().max().item()
