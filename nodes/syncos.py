"""SynCoS: one consistent subject through several events, by coupling the chunks of the video while it is noise."""

from dataclasses import replace

import comfy.samplers
from comfy_extras.nodes_custom_sampler import BasicScheduler, SamplerCustom

from ..samplers.adapters.checkpoint import CheckpointSettings, keep
from ..samplers.adapters.engine import apply_windows
from ..samplers.adapters.latents import compression_of
from ..samplers.adapters.syncos import NODE, ChunkSettings, chunks_overlap, syncos_sampler
from ..samplers.checks import option
from ..samplers.syncos.coupling import NOISES, OPTIMIZERS, PICKS, PRESETS, STAGES, TIMESTEPS, SynCoSSettings
from ._api import io
from ._checks import bounded, verdict
from ._search import described
from ._widgets import Combo, Float
from .runs import limits

CUSTOM = "custom"
COUPLING = (  # widgets that a preset other than custom overrides, as fields of SynCoSSettings
    "iters", "chunks", "lr", "optimizer", "t_min", "max_coupled", "decay_every", "decay_rate", "pick", "cond_only",
    "exchange", "beta1", "beta2", "weight_decay",
)  # fmt: skip
ALWAYS = ("timestep", "noise", "stages", "eta")  # what every preset leaves to its widget


def coupling_inputs() -> list:
    """The widgets that both nodes have, in their fixed order."""
    return [
        Combo(
            "preset", options=[*PRESETS, CUSTOM], default="balanced",
            tooltip="paper: the paper's values (20 AdamW iterations), about 2.6x the time of plain windows. balanced "
            "and fast: fewer, larger steps. custom: the widgets from iters to cond_only, exchange, betas "
            "and weight_decay; the presets ignore those.",
        ),
        io.Int.Input(
            "window_length", default=81, min=1, max=16384,
            tooltip="Pixel frames per chunk: the clip length the model was trained on (Wan 81, LTX 97, demo model "
            "49). Only for a model without a Global/Local Window Scheduler, whose windows come first.",
        ),
        io.Int.Input(
            "stride", default=24, min=1, max=16384,
            tooltip="Pixel frames between the starts of neighbouring chunks; a quarter to a half of window_length. "
            "Smaller: smoother and slower. Not longer than window_length. Without a Window Scheduler only.",
        ),
        io.Int.Input(
            "iters", default=20, min=0, max=500,
            tooltip="Coupled iterations per step; the paper's 20 to 50 (adamw), 2 to 6 with sgd. 0: off. Cost grows "
            "in proportion.",
        ),
        io.Int.Input(
            "chunks", default=4, min=1, max=64,
            tooltip="Chunks per iteration (B); 3 to 8. All of them where the video has fewer. More: stronger coupling, "
            "more time per iteration.",
        ),
        Float(
            "lr", default=0.5, min=1e-6, max=100.0, step=0.01, round=False,
            tooltip="Learning rate; adamw 0.5 to 1 (lowered by itself where a step has more signal than the paper's), "
            "sgd 1 to 2.5.",
        ),
        Combo(
            "optimizer", options=list(OPTIMIZERS), default="adamw",
            tooltip="adamw: the paper's, needs many iterations. sgd: moves as far as the prediction says; few suffice.",
        ),
        Float(
            "t_min", default=0.8, min=0.0, max=1.0, step=0.01,
            tooltip="Couple while the place in the schedule (1 all noise, 0 clean) is above; 0.8 to 0.9. Lower: more "
            "steps coupled. 1: never.",
        ),
        io.Int.Input(
            "max_coupled", default=10, min=0, max=1000,
            tooltip="Most coupled steps; 3 to 10. Shifted schedules (Wan, HunyuanVideo) stay long at high noise. "
            "0: no limit.",
        ),
        io.Int.Input(
            "decay_every", default=20, min=1, max=500,
            tooltip="Iterations after which lr is multiplied by decay_rate; 10 to 50.",
        ),
        Float(
            "decay_rate", default=0.9, min=0.01, max=1.0, step=0.01,
            tooltip="Factor on lr every decay_every iterations; 0.5 to 1 (1: constant).",
        ),
        Combo(
            "pick", options=list(PICKS), default="random",
            tooltip="Which chunks an iteration takes. random: the paper's. spread: evenly over the video, so that far "
            "ones always meet.",
        ),
        io.Boolean.Input(
            "cond_only", default=False,
            tooltip="Coupled iterations without the negative prompt: half their time. CFGGuider and KSampler "
            "only.",
        ),
        Combo(
            "timestep", options=list(TIMESTEPS), default="grounded",
            tooltip="For comparison with the paper. grounded: the step's own noise level. free: a random one per "
            "iteration, which the paper found worse.",
        ),
        Combo(
            "noise", options=list(NOISES), default="baseline",
            tooltip="For comparison with the paper. baseline: one noise per step. fresh: a new one per iteration, "
            "with which the paper saw events fade.",
        ),
        Combo(
            "stages", options=list(STAGES), default="both",
            tooltip="For comparison with the paper. first: plain windows (Gen-L-Video). second: CSD alone, "
            "noisy in the paper.",
        ),
        Float(
            "exchange", default=0.0, min=0.0, max=1.0, step=0.05, optional=True,
            tooltip="An experiment: how much a chunk follows the others' predictions. 0: the paper's 1 / (chunks + 1); "
            "1: as much as its own, with sgd and lr 1.",
        ),
    ]  # fmt: skip


def later_inputs() -> list:
    """Widgets of both nodes that came after all others."""
    return [
        Float(
            "beta1", default=0.9, min=0.0, max=0.9999, step=0.01, round=False, optional=True,
            tooltip="adamw: how much of the earlier iterations' direction each one keeps; 0 to 0.95. With few "
            "iterations lower values follow the predictions sooner.",
        ),
        Float(
            "beta2", default=0.999, min=0.0, max=0.99999, step=0.001, round=False, optional=True,
            tooltip="adamw: the same for the squares, by which each value's step is scaled; 0.9 to 0.999.",
        ),
        Float(
            "weight_decay", default=0.0, min=0.0, max=0.99, step=0.001, round=False, optional=True,
            tooltip="adamw: each iteration also shrinks the clean video by lr times this; 0 to 0.05. PyTorch's 0.01 "
            "at lr 1 is 1 % an iteration.",
        ),
        Float(
            "eta", default=0.0, min=0.0, max=1.0, step=0.05, optional=True,
            tooltip="Share of the noise that each step draws anew (DDIM's eta), with any preset; the paper's 0. 1: as "
            "much as ancestral samplers. Not with stages second.",
        ),
    ]  # fmt: skip


def sampler_from(preset: str, values: dict):
    """The SAMPLER of the widgets. Raises ValueError that names the node and the input."""
    try:
        chunks = ChunkSettings(values["window_length"], values["stride"])
        option("preset", preset, (*PRESETS, CUSTOM))
        own = {name: values[name] for name in ALWAYS if name in values}
        if preset == CUSTOM:
            settings = SynCoSSettings(**{name: values[name] for name in COUPLING if name in values}, **own)
        else:
            settings = replace(PRESETS[preset], **own)
    except ValueError as error:
        raise ValueError(f"{NODE}: {error}") from error
    return syncos_sampler(settings, chunks)


class LongTakeSynCoSSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeSynCoSSampler",
            display_name="SynCoS Sampler",
            category="LongTake",
            **described(
                "Synchronized coupled sampling: the chunks of a long video are coupled while it is mostly noise, to"
                " keep one subject the same through several events. For SamplerCustomAdvanced, any guider.",
                "long video", "multi event", "multi prompt", "consistency", "coupled sampling",
            ),
            inputs=[*coupling_inputs(), *later_inputs()],
            outputs=[io.Sampler.Output(display_name="sampler")],
        )

    @classmethod
    def validate_inputs(cls, stride):
        return verdict(cls, NODE, chunks_overlap, stride=stride)

    @classmethod
    @bounded(NODE)
    def execute(cls, preset, **values) -> io.NodeOutput:
        return io.NodeOutput(sampler_from(preset, values))


class LongTakeSynCoSKSampler(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="LongTakeSynCoSKSampler",
            display_name="SynCoS Coupled KSampler",
            category="LongTake",
            **described(
                "KSampler with synchronized coupled sampling, to keep one subject through several events of a long "
                "video. Connect a Prompt Timeline to positive. Samples with DDIM.",
                "long video", "multi event", "multi prompt", "consistency", "coupled sampling",
            ),
            inputs=[
                io.Model.Input("model", tooltip="A video model, with or without a Global/Local Window Scheduler."),
                io.Int.Input(
                    "seed", default=0, min=0, max=0xFFFFFFFFFFFFFFFF, control_after_generate=True,
                    tooltip="Seed of the first noise and of the coupled steps' noise and chunks.",
                ),
                io.Int.Input("steps", default=30, min=1, max=10000, tooltip="Sampling steps; 20 to 50."),
                Float(
                    "cfg", default=6.0, min=0.0, max=100.0, step=0.1, round=0.01,
                    tooltip="Guidance scale, as for KSampler; 4 to 7.5. 1: none.",
                ),
                Combo(
                    "scheduler", options=list(comfy.samplers.KSampler.SCHEDULERS), default="simple",
                    tooltip="Noise levels of the steps, as for KSampler.",
                ),
                io.Conditioning.Input("positive", tooltip="A Prompt Timeline, or one prompt for the whole video."),
                io.Conditioning.Input("negative", tooltip="What the video should not show."),
                io.Latent.Input("latent_image", tooltip="The long video's latent; its length is the video's length."),
                Float(
                    "denoise", default=1.0, min=0.0, max=1.0, step=0.01,
                    tooltip="Below 1: starts from the video in latent_image; 0.5 to 0.9 changes it in part. Coupling "
                    "needs steps above t_min.",
                ),
                *coupling_inputs(),
                io.Int.Input(
                    "checkpoint_every", default=0, min=0, max=1000, optional=True,
                    tooltip="Keep the run in output/longtake/runs after every so many steps, and resume it when the "
                    "same graph is queued again, as Checkpoint (resume) does; 1 to 5. 0: do not.",
                ),
                *limits("checkpoint_", optional=True),
                *later_inputs(),
            ],
            outputs=[io.Latent.Output(display_name="latent"), io.Latent.Output(display_name="denoised")],
        )  # fmt: skip

    @classmethod
    def validate_inputs(cls, stride):
        return verdict(cls, NODE, chunks_overlap, stride=stride)

    @classmethod
    @bounded(NODE)
    def execute(
        cls, model, seed, steps, cfg, scheduler, positive, negative, latent_image, denoise, preset,
        checkpoint_every=0, checkpoint_keep_gb=20.0, checkpoint_keep_days=14.0, **values,
    ) -> io.NodeOutput:  # fmt: skip
        sampler = sampler_from(preset, values)
        if model.model_options.get("context_handler") is None:
            model = apply_windows(model, sampler.extra_options["chunks"].windows(compression_of(model)))
        if checkpoint_every:
            sampler = keep(sampler, CheckpointSettings(checkpoint_every, checkpoint_keep_gb, checkpoint_keep_days))
        (sigmas,) = BasicScheduler.execute(model, scheduler, steps, denoise).args
        return SamplerCustom.execute(model, True, seed, cfg, positive, negative, sampler, sigmas, latent_image)


NODES = [LongTakeSynCoSSampler, LongTakeSynCoSKSampler]
