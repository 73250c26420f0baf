"""Which part of a whole noise schedule a sampler runs, told from its sigmas.

Settings count by place in the schedule, not by steps of one call: two samplers in a row, a resumed run and a model of
two experts must decide what one sampler over all steps does. A sampler is given its own sigmas only. Place is the
fraction of the noise schedule that lies behind: 0 pure noise, 1 clean; the index of the first sigma is found by making
core's schedules and looking for these sigmas in them.
"""

import comfy.samplers
import torch

from ..windows import ROLLING, WindowSettings
from .steps import Run

MOST_STEPS = 200  # of the whole schedules that are tried
CLOSE = 1e-4  # relative


def place(model_sampling, sigma: float) -> float:
    """The fraction of the noise schedule behind `sigma`: the inverse of core's percent_to_sigma (to 1e-7)."""
    low, high = 0.0, 1.0
    for _ in range(24):
        middle = (low + high) / 2
        if float(model_sampling.percent_to_sigma(middle)) > sigma:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def same(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.shape == b.shape and bool(torch.isclose(a, b, rtol=CLOSE, atol=1e-7).all())


def first_index(model_sampling, sigmas: torch.Tensor) -> int:
    """How many steps of the whole schedule lie before these sigmas (steps + 1 of them, falling).

    0 where they begin with all noise. Else the shortest of core's schedules that holds them decides; where none does
    (custom sigmas), the steps before are taken to be as long, by place, as these are on average.
    """
    sigmas = sigmas.double().cpu()
    steps = len(sigmas) - 1
    begin = place(model_sampling, float(sigmas[0]))
    if steps < 1 or begin < 1e-3:
        return 0
    for whole in range(steps, MOST_STEPS + 1):
        for name in comfy.samplers.SCHEDULER_NAMES:
            try:
                tried = comfy.samplers.calculate_sigmas(model_sampling, name, whole).double().cpu()
            except Exception:  # a schedule of another pack, or one that is not made for this model
                continue
            for start in torch.isclose(tried, sigmas[0], rtol=CLOSE, atol=1e-7).nonzero().flatten().tolist():
                if same(tried[start : start + steps + 1], sigmas):
                    return start
    rest = place(model_sampling, float(sigmas[-1])) - begin
    return round(begin * steps / rest) if rest > 1e-3 else steps


def located(settings: WindowSettings, model_sampling, options: dict) -> tuple[list[float], int]:
    """Each step's place in the whole noise schedule, and the index of the first one there: 0 where nothing asks."""
    sigmas, run, path = options["sample_sigmas"], Run.of(options), settings.extra_path
    places, index = [0.0] * (len(sigmas) - 1), 0
    if path is not None or settings.overlap_end is not None or settings.cfg_until < 1:
        every = sigmas[:-1].tolist()
        places = run.once(("places", len(every)), lambda: [place(model_sampling, sigma) for sigma in every])
    if settings.schedule in ROLLING or (path is not None and path.counts):
        index = run.once("index", lambda: first_index(model_sampling, sigmas))
    return places, index
