"""What is known of core's samplers: how often they evaluate the model in a step, which can run one step at a time."""

import comfy.samplers
from comfy.k_diffusion import sampling

# Core's samplers whose step depends on sigmas[i], sigmas[i+1] and a noise sampler alone: the same one step at a time.
EXACT = (
    "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "exp_heun_2_x0", "exp_heun_2_x0_sde",
    "dpm_2", "dpm_2_ancestral", "dpmpp_2s_ancestral", "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "ddpm",
    "lcm", "seeds_2", "seeds_3",
)  # fmt: skip
REFUSED = {
    "dpm_fast_function": "dpm_fast plans its own steps",
    "dpm_adaptive_function": "dpm_adaptive plans its own steps",
    "sample_unipc": "uni_pc needs three or more steps at once",
    "sample_unipc_bh2": "uni_pc_bh2 needs three or more steps at once",
    "sample_sa_solver": "sa_solver corrects a step only after the next one has begun",
    "sample_sa_solver_pece": "sa_solver_pece corrects a step only after the next one has begun",
    "sample_ar_video": "ar_video finishes the video block by block, so that there is no whole video between its steps",
}
# Core's samplers whose noise is a Brownian path over the schedule; the others draw white noise.
BROWNIAN = ("dpmpp_sde", "dpmpp_2m_sde", "dpmpp_2m_sde_heun", "dpmpp_3m_sde")
# Evaluations of the model per step, of those that take more than one.
EVALUATIONS = {
    "heun": 2, "exp_heun_2_x0": 2, "exp_heun_2_x0_sde": 2, "dpm_2": 2, "dpm_2_ancestral": 2, "dpmpp_2s_ancestral": 2,
    "dpmpp_2s_ancestral_cfg_pp": 2, "dpmpp_sde": 2, "dpmpp_sde_gpu": 2, "seeds_2": 2, "seeds_3": 3,
}  # fmt: skip


def core_name(function) -> str:
    """Name of one of core's sampler functions as the user knows it; "" for any other function."""
    name = getattr(function, "__name__", "")
    core = (comfy.samplers.__name__, sampling.__name__, comfy.samplers.uni_pc.__name__)
    return name if getattr(function, "__module__", None) in core else ""
