"""Video-Infinity's dual-scope attention (arXiv 2406.16260): near frames, and frames spread over the whole video.

In the paper each of N devices has one clip. A frame attends, in temporal attention, to its neighbours and to `top_k`
frames spread evenly over all clips, whose keys the devices send each other in every layer. At high noise (t >= 800) the
logits of the spread frames get +10, below those of the near ones: first the whole, then the detail.

On one device windows run one after the other, so that the keys of frames that other windows hold are not there yet.
Here the spread frames are a clip of their own, the companion: one window's length of frames, evenly over the video,
evaluated before the windows of each step, one evaluation more; what it predicts is not used. In every layer the windows
attend to their own tokens and to the companion's, of `global_frames` of its frames. That costs memory for these keys
and values, layers x tokens of the frames x width x 2, for the duration of one step.

Differs from the paper: a spread frame's keys come from its pass through the companion, not through its own clip. Near
frames are those of the window itself: windows overlap, which does what the paper's padding by neighbours does. Models
of full attention over space and time have no temporal attention: every token attends to all tokens of both scopes. Text
tokens in the same sequence are of neither scope and get the larger bias, so that they are heard at all noise. Keys have
the places (RoPE) that they have in the companion, a clip like any other: no distance is larger than the model knows.
"""

import math

FRAMES, BIAS, THRESHOLD = 16, 10.0, 800  # the code's; 850 for several prompts


def spread(count: int, total: int) -> list[int]:
    """`count` of the places 0..total-1, evenly, from the first to the last; all of them where there are no more."""
    count = min(count, total)
    if count < 2:
        return list(range(count))
    return [(2 * i * (total - 1) + count - 1) // (2 * (count - 1)) for i in range(count)]


def biases(t: float, threshold: float, bias: float) -> tuple[float, float]:
    """What is added to the logits of (near, spread) keys at training timestep t."""
    return (0.0, bias) if t >= threshold else (bias, 0.0)


def logit_scale(keys: int, trained: int) -> float:
    """The factor of the logits where a query meets `keys` keys in place of `trained`: log(keys) / log(trained), so that
    attention stays as peaked. The code's option, off by default, has 16 frames, which its model was trained with."""
    return math.log(keys) / math.log(trained) if trained > 1 else 1.0
