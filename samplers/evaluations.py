"""Which step of the sampler an evaluation of the model belongs to, for samplers that evaluate several times per step.

By its sigma alone an evaluation counts to the step whose interval it lies in (moment.py). Heun's second one is at the
next step's sigma, and those of ancestral samplers lie anywhere: for core's own samplers the evaluations are counted.
The count lives in the options of one run.
"""

from comfy.k_diffusion import sampling
from comfy.patcher_extension import WrappersMP

from .moment import STEP
from .refine import core_name

COUNT = "longtake_evaluations"  # key of the running count in transformer_options
EVALUATIONS = {
    "heun": 2, "exp_heun_2_x0": 2, "exp_heun_2_x0_sde": 2, "dpm_2": 2, "dpm_2_ancestral": 2, "dpmpp_2s_ancestral": 2,
    "dpmpp_2s_ancestral_cfg_pp": 2, "dpmpp_sde": 2, "dpmpp_sde_gpu": 2, "seeds_2": 2, "seeds_3": 3,
}  # fmt: skip


class Count:
    """Steps of one run's evaluations in their order. A step that ends at sigma 0 has one; heunpp2's last steps too
    have fewer."""

    def __init__(self, name: str, sigmas: list[float]):
        steps = len(sigmas) - 1
        if name == "heunpp2":
            counts = [min(3, steps - i) for i in range(steps)]
        else:
            counts = [EVALUATIONS[name] if sigma != 0 else 1 for sigma in sigmas[1:]]
        self.steps = iter([i for i, n in enumerate(counts) for _ in range(n)])


def _sample(executor, guider, sigmas, extra_args, *args, **kwargs):
    function = getattr(executor.class_obj, "sampler_function", None)
    name = core_name(function).removeprefix("sample_")
    # VMCR runs a sampler one step at a time: the same for those in the table, not for heunpp2.
    if name in EVALUATIONS or function is sampling.sample_heunpp2:
        options = extra_args["model_options"]
        transformer = {**options["transformer_options"], COUNT: Count(name, sigmas.tolist())}
        extra_args = {**extra_args, "model_options": {**options, "transformer_options": transformer}}
    return executor(guider, sigmas, extra_args, *args, **kwargs)


def _predict(executor, x, timestep, model_options=None, seed=None):
    model_options = model_options or {}
    transformer = model_options.get("transformer_options", {})
    step = next(transformer[COUNT].steps, None) if COUNT in transformer else None
    if step is not None:
        model_options = {**model_options, "transformer_options": {**transformer, STEP: step}}
    return executor(x, timestep, model_options, seed)


def count_evaluations(model) -> None:
    """Make a ModelPatcher (a clone of one's own) count. Before other wrappers: a step cache may skip evaluations."""
    for stage, wrapper in ((WrappersMP.SAMPLER_SAMPLE, _sample), (WrappersMP.PREDICT_NOISE, _predict)):
        model.remove_wrappers_with_key(stage, COUNT)
        model.add_wrapper_with_key(stage, COUNT, wrapper)
        model.wrappers[stage] = {COUNT: model.wrappers[stage].pop(COUNT), **model.wrappers[stage]}
