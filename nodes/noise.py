"""Noise reinitialisation: the initial noise of a long video, for SamplerCustomAdvanced and for KSampler."""

from ..samplers.adapters.noise import NODE, ReinitNoise, apply_noise
from ..samplers.glc.noise import FILTERS, MODES, VARIANCES, NoiseSettings
from ._api import io
from ._checks import bounded
from ._search import described
from ._widgets import Combo, Float
from .windows import Windows


class LongTakeNoiseReinit(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeNoiseReinit",
            display_name="Noise Reinit",
            category="LongTake",
            **described(
                "Initial noise for a long video from the noise of one window: its frames shuffled along time "
                "(FreeNoise), its low frequencies kept and fresh noise above them (GLC-Diffusion, Eq. 11), or fresh "
                "noise towards the video's ends (FreeLong++). For SamplerCustomAdvanced; Noise Reinit for KSampler "
                "brings it to KSampler.",
                "FreeNoise", "FreeInit", "SpecMix", "noise shuffle", "long video", "consistency", "GLC",
            ),
            inputs=[
                io.Int.Input(
                    "noise_seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the noise; the first window's noise is RandomNoise's of this seed. Behind Noise "
                    "Reinit for KSampler, the sampler's seed counts instead.",
                ),
                Windows.Input(
                    "windows",
                    tooltip="From the Window Scheduler: the window is the noise unit, its stride (window minus "
                    "overlap) the block that is shuffled; both in latent frames.",
                ),
                Combo(
                    "mode", options=list(MODES), default="shuffle_and_mix",
                    tooltip="shuffle_and_mix: GLC's Eq. 11. shuffle: FreeNoise, all windows share their noise frames. "
                    "mix: the unit repeated in order, fresh high frequencies. random: RandomNoise. spec_mix: "
                    "FreeLong++, shuffled in the middle of the video, fresh at its ends, in between a mix.",
                ),
                Combo(
                    "filter", options=list(FILTERS), default="butterworth",
                    tooltip="Low-pass that splits low from high frequencies over time, height and width. gaussian is "
                    "softer, ideal and box cut sharply. It counts, as d_s, d_t, order and variance, in shuffle_and_mix "
                    "and mix alone.",
                ),
                Float(
                    "d_s", default=0.25, min=0.01, max=2.0, step=0.01,
                    tooltip="Stop frequency in height and width, as a fraction of the highest (Nyquist) one; 0.1 to "
                    "0.5, paper 0.25. Higher: more is shared between windows.",
                ),
                Float(
                    "d_t", default=0.25, min=0.01, max=2.0, step=0.01,
                    tooltip="Stop frequency in time, as a fraction of the highest (Nyquist) one; 0.1 to 1, paper 0.25. "
                    "Higher: faster changes are shared too.",
                ),
                io.Int.Input(
                    "order", default=4, min=1, max=16,
                    tooltip="Steepness of butterworth; 1 (soft) to 8 (nearly ideal), paper 4. No effect on the others.",
                ),
                Combo(
                    "variance", options=list(VARIANCES), default="per_frequency",
                    tooltip="Keeps the mixed noise at variance 1, as models expect. per_frequency: at each frequency. "
                    "renormalise: one factor per frame. none: the paper as printed, slightly too weak.",
                ),
            ],
            outputs=[io.Noise.Output(display_name="noise")],
        )  # fmt: skip

    @classmethod
    @bounded(NODE)
    def execute(cls, noise_seed, windows, mode, filter, d_s, d_t, order, variance) -> io.NodeOutput:
        try:
            settings = NoiseSettings(mode, filter, d_s, d_t, order, variance)
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        return io.NodeOutput(ReinitNoise(noise_seed, settings, windows.length, windows.stride))


class LongTakeNoiseToModel(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeNoiseToModel",
            display_name="Noise Reinit for KSampler",
            category="LongTake",
            **described(
                "Makes KSampler and KSampler (Advanced), which have no noise input, start from a NOISE.",
                "FreeNoise", "noise for KSampler", "GLC",
            ),
            inputs=[
                io.Model.Input("model", tooltip="Any model; with windows: from the Window Scheduler."),
                io.Noise.Input(
                    "noise",
                    tooltip="Noise Reinit, which then takes the sampler's seed, or any other NOISE, which keeps its "
                    "own. A sampler that adds no noise still adds none.",
                ),
            ],
            outputs=[io.Model.Output(display_name="model")],
        )

    @classmethod
    def execute(cls, model, noise) -> io.NodeOutput:
        return io.NodeOutput(apply_noise(model, noise))


NODES = [LongTakeNoiseReinit, LongTakeNoiseToModel]
