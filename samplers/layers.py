"""Where a method in a model's attention acts: in which of its layers, and in which part of the noise schedule."""

import math
from dataclasses import dataclass

from .checks import held, number

MOST_LAYERS = 1000


def layer_order(first_layer: int, last_layer: int) -> None:
    """A range of layers with one in it at least, as far as can be told without their number."""
    if last_layer < first_layer and (first_layer < 0) == (last_layer < 0):
        raise ValueError(
            f"first_layer ({first_layer}) must not be larger than last_layer ({last_layer}), or no layer is left; "
            f"negative ones count from the model's end, -1 is its last"
        )


@dataclass(frozen=True)
class Reach:
    """Layers first_layer..last_layer of those whose video attends to itself, in the order they run (negative: from the
    end, -1 the last), while sigma_end <= sigma <= sigma_start. Raises ValueError."""

    first_layer: int = 0
    last_layer: int = -1
    sigma_start: float = math.inf
    sigma_end: float = 0.0

    def __post_init__(self):
        layer = (-MOST_LAYERS, MOST_LAYERS, True)
        held(self, {"first_layer": layer, "last_layer": layer, "sigma_end": (0.0,)}, {})
        if self.sigma_start != math.inf:
            number("sigma_start", self.sigma_start, self.sigma_end)
        layer_order(self.first_layer, self.last_layer)

    def layers(self, total: int) -> range:
        """Of a model with `total` such layers."""
        first, last = (n + total if n < 0 else n for n in (self.first_layer, self.last_layer))
        return range(max(first, 0), min(last + 1, total))

    def active(self, sigma: float) -> bool:
        return self.sigma_end <= sigma <= self.sigma_start
