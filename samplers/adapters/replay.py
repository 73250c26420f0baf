"""A sampler's calls of the model: kept while it runs, and answered from what was kept when it runs again.

A sampler function is a function of its first noise, the model's answers and torch's random numbers. So a run is resumed
by running it again from its first step: the calls that were answered before get the answers of then, in no time, and
everything that the sampler carries (noise generators, Brownian paths, histories, step sizes) is in its place again.

Not every answer is needed. A step of most samplers depends on its own latent and on what the last few steps held
(HISTORY): these calls get their latent, copied into the sampler's own tensor, and their answer; the calls before them a
placeholder, the latent itself. Of all other samplers, those of other packs too, every answer is kept.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch

from .core_samplers import core_name
from .steps import RUN, STEP

SKIPPED, KEPT = "skipped", "kept"  # how a call was answered, if not by the model

# Steps before the current one whose latents and answers a step of core's samplers looks at.
HISTORY = {
    **dict.fromkeys((
        "euler", "euler_cfg_pp", "euler_ancestral", "euler_ancestral_cfg_pp", "heun", "heunpp2", "exp_heun_2_x0",
        "exp_heun_2_x0_sde", "dpm_2", "dpm_2_ancestral", "dpm_fast_function", "dpmpp_2s_ancestral",
        "dpmpp_2s_ancestral_cfg_pp", "dpmpp_sde", "dpmpp_sde_gpu", "ddpm", "lcm", "seeds_2", "seeds_3",
    ), 0),
    **dict.fromkeys((
        "dpmpp_2m", "dpmpp_2m_cfg_pp", "dpmpp_2m_sde", "dpmpp_2m_sde_gpu", "dpmpp_2m_sde_heun", "dpmpp_2m_sde_heun_gpu",
        "res_multistep", "res_multistep_cfg_pp", "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp",
        "gradient_estimation", "gradient_estimation_cfg_pp",
    ), 1),
    "dpmpp_3m_sde": 2, "dpmpp_3m_sde_gpu": 2, "er_sde": 2, "deis": 2, "lms": 3, "ipndm": 3, "ipndm_v": 3,
}  # fmt: skip
ORDERS = ("order", "max_order", "max_stage")  # options of these samplers that make them look further back


def history(function, options: dict) -> int | None:
    """Steps that a sampler function looks back; None: not known, every answer is to be kept."""
    known = getattr(function, "longtake_history", None)
    if known is None:
        known = HISTORY.get(core_name(function).removeprefix("sample_"))
    return known if known is None else max([known, *(int(options.get(name) or 1) - 1 for name in ORDERS)])


@dataclass
class Answer:
    """Of one call. x: what it was asked (None: the sampler comes to it by itself); x0: the answer; uncond: that without
    the prompt, where the sampler asked for it (CFG++); rng: states of torch's generators afterwards."""

    x: torch.Tensor | None
    x0: torch.Tensor
    uncond: torch.Tensor | None
    rng: dict[str, torch.Tensor]


@dataclass
class Past:
    """What was kept of an earlier run: how many calls it made, which of their answers are kept, and one of these."""

    calls: int
    numbers: list[int]
    answer: Callable[[int], Answer]


def rng_states(device: torch.device) -> dict[str, torch.Tensor]:
    """Of torch's own generators, which models and some samplers draw from."""
    states = {"cpu": torch.get_rng_state()}
    if hasattr(own := getattr(torch, device.type, None), "get_rng_state") and device.type != "cpu":
        states["device"] = own.get_rng_state()
    return states


def set_rng_states(states: dict[str, torch.Tensor], device: torch.device) -> None:
    torch.set_rng_state(states["cpu"])
    if "device" in states and device.type != "cpu":
        getattr(torch, device.type).set_rng_state(states["device"])


def host(t: torch.Tensor) -> torch.Tensor:
    return t.detach().to("cpu", copy=True)


class Calls:
    """The `model` of a sampler function, with a memory. All else of the model is the model's own.

    keep(step, x0) is called after each step: the run can go on behind it from the answers of the calls `numbers`, of
    which `pending` holds those that nobody has taken yet. back: see `history`.
    """

    def __init__(self, model, extra_args: dict, back: int | None, past: Past | None, keep):
        self._model, self._back, self._past, self._keep = model, back, past, keep
        self._own = list(_post_cfg(extra_args.get("model_options", {})))
        self.count, self.how = 0, None
        self.numbers = [] if past is None else list(past.numbers)
        self.pending: dict[int, Answer] = {}
        self.last: tuple | None = None

    def __getattr__(self, name):
        return getattr(self._model, name)

    def __call__(self, x, sigma, **kwargs):
        number, self.count = self.count, self.count + 1
        added = [f for f in _post_cfg(kwargs.get("model_options", {})) if f not in self._own]
        if self._past is not None and number < self._past.calls:
            return self._answered(number, x, kwargs, added)
        self.how, seen = None, {}
        if added:  # a CFG++ sampler's, which hands it the prediction without the prompt

            def look(args):
                seen["uncond"] = args["uncond_denoised"]
                return args["denoised"]

            options = kwargs["model_options"]
            kwargs["model_options"] = {**options, "sampler_post_cfg_function": [*_post_cfg(options), look]}
        out = self._model(x, sigma, **kwargs)
        self.last = number, x, out, seen.get("uncond"), rng_states(x.device)
        if self._back is None:
            self._hold(number, None, out)
            self.numbers.append(number)
        return out

    def _answered(self, number: int, x, kwargs: dict, added: list):
        options = kwargs.get("model_options", {}).get("transformer_options", {})
        counted = getattr(options.get(RUN), "steps", None)
        if counted is not None and STEP not in options:
            next(counted, None)
        kept = self._past.answer(number) if number in self._past.numbers else None
        self.how = SKIPPED if kept is None else KEPT
        if kept is None:
            out = uncond = x.clone()
        else:
            if kept.x is not None:
                x.copy_(kept.x)
            out = kept.x0.to(x)
            uncond = None if kept.uncond is None else kept.uncond.to(x)
        for function in added:
            function({"denoised": out, "uncond_denoised": uncond})
        if kept is not None:
            set_rng_states(kept.rng, x.device)
        return out

    def _hold(self, number: int, x, x0):
        _, _, _, uncond, rng = self.last
        held = [None if t is None else host(t) for t in (x, x0, uncond)]
        self.pending[number] = Answer(*held, rng)

    def settle(self, x0: torch.Tensor) -> None:
        """The answer of the last call becomes what a step made of it: a resumed step begins with that."""
        if self.last is not None and self.how is None:
            number, x, _, uncond, rng = self.last
            self.last = number, x, x0, uncond, rng

    def callback(self, then):
        """The sampler's callback: a step is over for all but the sampler's own arithmetic."""

        def reported(info):
            if self._past is not None and self.count < self._past.calls:
                return  # what was shown before; the last one is shown again
            if self.how is None and self.last is not None:
                number, x, x0, _, _ = self.last
                if self._back is not None:
                    self._hold(number, x, x0)
                    self.numbers = [*self.numbers, number][-1 - self._back :]
                    self.pending = {n: a for n, a in self.pending.items() if n in self.numbers}
                self._keep(info["i"] + 1, info["denoised"])
            if then is not None:
                then(info)

        return reported


def _post_cfg(model_options: dict) -> list:
    return model_options.get("sampler_post_cfg_function", [])


def how_answered(model) -> str | None:
    """How the last call of a sampler's `model` was answered: SKIPPED, KEPT, or None (by the model). What a sampler does
    beside its calls of `model` it need not do where that was SKIPPED."""
    return getattr(model, "how", None) if isinstance(model, Calls) else None


def settle(model, x0: torch.Tensor) -> None:
    """See Calls.settle; nothing where nobody keeps a run."""
    if isinstance(model, Calls):
        model.settle(x0)


def recorded(sampler, make_calls):
    """A copy of a KSAMPLER whose function's model is make_calls(model, extra_args)."""
    inner = sampler.sampler_function

    def sample(model, x, sigmas, extra_args=None, callback=None, disable=None, **options):
        extra_args = {} if extra_args is None else extra_args
        with make_calls(model, x, extra_args) as calls:
            return inner(
                calls, x, sigmas, extra_args=extra_args, callback=calls.callback(callback), disable=disable, **options
            )

    copied = copy.copy(sampler)
    copied.sampler_function = sample
    return copied
