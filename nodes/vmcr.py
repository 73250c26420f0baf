"""VMCR: the latent refined between the sampler's steps so that motion stays even (GLC-Diffusion)."""

from ..samplers.adapters.vmcr import NODE, PREDICTIONS, RefineSettings, refine_sampler
from ..samplers.checks import part_of_schedule
from ..samplers.glc.motion import PHASES, MotionSettings
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float


class LongTakeVMCR(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeVMCR",
            display_name="VMCR Refiner",
            category="LongTake",
            **described(
                "GLC-Diffusion's motion refinement: moves the latent a little after each step of the sampler, so "
                "that motion from frame to frame stays even. For SamplerCustomAdvanced.",
                "smooth motion", "temporal consistency", "flicker", "long video", "GLC",
            ),
            inputs=[
                io.Sampler.Input(
                    "sampler",
                    tooltip="From KSamplerSelect. Exact: single-step samplers (euler, ddim, heun, dpm_2, ancestral, "
                    "dpmpp_sde, lcm). Multi-step ones lose their history, with a warning.",
                ),
                Float(
                    "omega", default=2e-5, min=0.0, max=0.1, step=1e-6, round=False,
                    tooltip="Size of a refinement, Eq. 15; 2e-6 to 2e-3, the paper's 2e-5. 0: off. Too large: motion "
                    "is damped and moving things smear.",
                ),
                Float(
                    "lambda_f", default=0.2, min=0.0, max=100.0, step=0.01, round=False,
                    tooltip="Weight of the frequency loss (spectra of neighbouring motions); 0 to 1, the paper's 0.2. "
                    "It does most of the work.",
                ),
                Float(
                    "lambda_mse", default=0.001, min=0.0, max=100.0, step=0.0001, round=False,
                    tooltip="Weight of the squared difference of neighbouring motions in the pixel loss; 0 to 0.1, the "
                    "paper's 0.001.",
                ),
                Float(
                    "lambda_phase", default=1.0, min=0.0, max=100.0, step=0.01, round=False,
                    tooltip="Weight of the phase within the frequency loss (where motion is, against how strong); 0 to "
                    "10, the paper's 1.",
                ),
                Combo(
                    "phase", options=list(PHASES), default="wrapped",
                    tooltip="wrapped: phase differences the short way round the circle. raw: the formula as printed, "
                    "which jumps at half a turn.",
                ),
                io.Boolean.Input(
                    "rescale", default=True,
                    tooltip="Keep omega's effect the same for any picture size: omega * sqrt(5400 / (latent height * "
                    "width)). Off: the paper's formula, meant for 60 x 90 latents.",
                ),
                Float(
                    "start_percent", default=0.0, min=0.0, max=1.0, step=0.001,
                    tooltip="Refine from this fraction of the schedule on; 0: from the first step.",
                ),
                Float(
                    "end_percent", default=1.0, min=0.0, max=1.0, step=0.001,
                    tooltip="Refine up to this fraction of the schedule; 1: to the last step. Must be larger than "
                    "start_percent.",
                ),
                io.Int.Input(
                    "iterations", default=1, min=1, max=20, optional=True,
                    tooltip="Refinements per step; 1 to 5, the paper's 1. More do what a larger omega does, in smaller "
                    "moves.",
                ),
                Combo(
                    "prediction", options=list(PREDICTIONS), default=PREDICTIONS[0], optional=True,
                    tooltip="Whose clean video the loss is of. step: the step's own, at no cost. next: that of the "
                    "refined latent itself, as the paper's Algorithm 1 reads; one more evaluation of the model per "
                    "refinement, which doubles a run.",
                ),
            ],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, end_percent):
        return verdict(cls, NODE, part_of_schedule, end_percent=end_percent)

    @classmethod
    @bounded(NODE)
    def execute(
        cls, sampler, omega, lambda_f, lambda_mse, lambda_phase, phase, rescale, start_percent, end_percent,
        iterations=1, prediction=PREDICTIONS[0],
    ) -> io.NodeOutput:  # fmt: skip
        try:
            motion = MotionSettings(lambda_f, lambda_mse, lambda_phase, phase)
            settings = RefineSettings(omega, motion, rescale, start_percent, end_percent, iterations, prediction)
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        return io.NodeOutput(refine_sampler(sampler, settings))


NODES = [LongTakeVMCR]
