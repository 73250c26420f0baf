"""Every method of the pack on a tiny random Wan, for the benchmarks that count instead of looking: memory, evaluations.

A method is a composition of the pack's own nodes around core's sampling; see variants.py for the inputs' defaults.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import comfy.model_management
import comfy.model_patcher
import comfy.sample
import comfy.samplers
import comfy.supported_models
import torch
from comfy.ldm.modules.attention import attention_pytorch

from ..nodes import abam, noise, syncos, vmcr, windows
from .variants import INPUTS

WINDOW, OVERLAP = 17, 8  # pixel frames: 5 and 2 latent frames
LENGTH = (WINDOW + 3) // 4  # latent frames of a window
STEPS, CFG, SEED = 2, 4.0, 5
COUPLING = dict(
    window_length=WINDOW, stride=WINDOW - OVERLAP, iters=2, chunks=4, lr=0.5, optimizer="adamw", t_min=0.8,
    max_coupled=10, decay_every=20, decay_rate=0.9, pick="random", cond_only=False, timestep="grounded",
    noise="baseline", stages="both", exchange=0.0,
)  # fmt: skip


@dataclass(frozen=True)
class Method:
    """parts: of INPUTS, or "syncos", with what differs from the defaults; without "windows" the model sees the whole
    latent at once. grows: what a run holds more of in a longer video, and why."""

    parts: dict[str, dict] = field(default_factory=dict)
    grows: str = ""


PATHS = {"schedule": "random_shift", "global_path": True}
METHODS = {
    "no windows": Method({}, "all of it: the network and core's handling see the whole video at once"),
    "windows": Method(
        {"windows": {}},
        "ours: the sum of each CFG branch (2). Core's: noise, x, x0, direction and next x (5), more as it applies CFG",
    ),
    "windows, 4 per call": Method({"windows": {"window_batch": 4}}, "as windows; rest: a call of four windows"),
    "random shift, global path": Method({"windows": PATHS}, "as windows"),
    "Noise Reinit (mix)": Method({"windows": {}, "noise": {}}, "as windows: making the noise takes less than sampling"),
    "ABAM, cache gpu": Method(
        {"windows": PATHS, "abam": {"cache": "gpu"}}, "as windows: it keeps one window's keys and values of one path"
    ),
    "ABAM, cache cpu": Method({"windows": PATHS, "abam": {"cache": "cpu"}}, "as windows"),
    "ABAM, cache recompute": Method(
        {"windows": PATHS, "abam": {"cache": "recompute"}}, "as windows; rest: calls hold the first window as well"
    ),
    "VMCR": Method({"windows": {}, "vmcr": {}}, "as windows, less: core's euler ends at each step"),
    "GLC-Diffusion": Method({"windows": PATHS, "noise": {}, "abam": {"cache": "gpu"}, "vmcr": {}}, "as VMCR"),
    "SynCoS": Method(
        {"windows": {"fuse": "flat"}, "syncos": {}},
        "ours, as it couples: the step's noise, x0' in noise, its gradient, AdamW's two moments; rest: the chunks "
        "of an iteration",
    ),
    "SynCoS, without a Window Scheduler": Method({"syncos": {}}, "as SynCoS; rest: four windows to a call"),
    "SynCoS, exchange 1": Method(
        {"windows": {"fuse": "flat"}, "syncos": dict(exchange=1.0, optimizer="sgd", lr=1.0)},
        "as SynCoS without the moments: SGD has none",
    ),
}


def tiny_wan(dim: int = 256, layers: int = 2, patch: tuple[int, int, int] = (1, 10, 13)):
    """A ModelPatcher of core's WAN21_T2V with random weights and few tokens, so that what samples it is what shows.

    Its attention is torch's on every device: core's own on a CPU holds the scores of all pairs of tokens.
    """
    config = {
        "image_model": "wan2.1", "model_type": "t2v", "dim": dim, "ffn_dim": dim, "num_heads": dim // 128,
        "num_layers": layers, "patch_size": patch, "cross_attn_norm": True,
    }  # fmt: skip
    found = comfy.supported_models.WAN21_T2V(config)
    found.set_inference_dtype(torch.float32, None)
    found.memory_usage_factor = 1e-6  # as if memory were plentiful: calls must not hang on what the machine has free
    device, offload = comfy.model_management.get_torch_device(), torch.device("cpu")
    model = found.get_model({}, "", device=offload)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.diffusion_model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.02
    patcher = comfy.model_patcher.ModelPatcher(model, load_device=device, offload_device=offload)

    def attention(function, *args, **kwargs):
        return attention_pytorch(*args, **kwargs)

    patcher.model_options["transformer_options"]["optimized_attention_override"] = attention
    return patcher


def prompt(seed: int) -> list:
    return [[torch.randn(1, 12, 4096, generator=torch.Generator().manual_seed(seed)), {}]]


def noise_source(parts: dict[str, dict], windows):
    """The NOISE of a method with these parts: Noise Reinit's, or RandomNoise's by its mode random."""
    mode = INPUTS["noise"] | parts.get("noise", {"mode": "random"})
    return noise.LongTakeNoiseReinit.execute(noise_seed=SEED, windows=windows, **mode).args[0]


def sampling(
    method: Method, model, shape: tuple[int, ...], steps: int = STEPS, **changes
) -> Callable[[], torch.Tensor]:
    """A function that makes the noise and samples a latent of `shape` [1, C, F, H, W] with the method.

    changes: of the window scheduler's inputs, after the method's own.
    """
    parts, scheduled = method.parts, model
    inputs = {"window_batch": 1} | INPUTS["windows"] | {"overlap": OVERLAP} | parts.get("windows", {}) | changes
    made = windows.LongTakeWindowScheduler.execute(model=model, window_length=WINDOW, length=0, **inputs).args
    if "windows" in parts:
        scheduled = made[0]
    if "abam" in parts:
        (scheduled,) = abam.LongTakeABAM.execute(model=scheduled, **INPUTS["abam"] | parts["abam"]).args
    source = noise_source(parts, made[1])
    sampler = comfy.samplers.sampler_object("euler")
    if "syncos" in parts:
        (sampler,) = syncos.LongTakeSynCoSSampler.execute("custom", **COUPLING | parts["syncos"]).args
    if "vmcr" in parts:
        (sampler,) = vmcr.LongTakeVMCR.execute(sampler=sampler, **INPUTS["vmcr"] | parts["vmcr"]).args
    positive, negative, latent = prompt(1), prompt(2), torch.zeros(shape)
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)

    def run() -> torch.Tensor:
        start = source.generate_noise({"samples": latent})
        return comfy.sample.sample_custom(
            scheduled, start, CFG, sampler, sigmas, positive, negative, latent, disable_pbar=True, seed=SEED
        )

    return run
