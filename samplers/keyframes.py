"""Images at the starts of a timeline's events: which frames they stand on, and the masks that say so.

Latent frame 0 is pixel frame 0, i > 0 holds c (i - 1) + 1 .. c i. An event's image stands on the last pixel frame of
the latent frame that holds the event's start, at most c - 1 later: there first-last models have the last image of a
video, and VACE's mask, which reads about every c-th frame, never takes the image for one of another latent frame. Pure
functions of numbers and tensors.
"""

import math
import re
from collections.abc import Sequence

import torch

from .windows import pixel_length


def event_numbers(events: str) -> list[int]:
    """The numbers of "1, 3, 4"; none: in order. Raises ValueError."""
    words = re.split(r"[,\s]+", events.strip()) if events.strip() else []
    if any(not re.fullmatch(r"[0-9]{1,6}", word) for word in words):
        raise ValueError(f"events ({events}): must be numbers of events, counted from 1, such as 1, 3, 4; or empty")
    numbers = [int(word) for word in words]
    twice = next((n for i, n in enumerate(numbers) if n in numbers[:i]), None)
    if twice is not None:
        raise ValueError(f"events ({events}): event {twice} is named twice; an event has one image")
    return numbers


def chosen(numbers: list[int], images: int, events: int) -> list[int]:
    """The event of each image: `numbers`, or in order. Raises ValueError."""
    if not numbers and images > events:
        raise ValueError(f"images: {images} for the {events} events of the timeline at positive; at most one an event")
    if numbers and len(numbers) != images:
        raise ValueError(f"events: names {len(numbers)} events, but images has {images} for them; as many of each")
    wrong = next((n for n in numbers if not 1 <= n <= events), None)
    if wrong is not None:
        raise ValueError(f"events: there is no event {wrong}; the timeline at positive has the events 1 to {events}")
    return numbers or list(range(1, images + 1))


def holding(pixel: float, compression: int) -> int:
    """The latent frame that holds a pixel frame."""
    return math.ceil(pixel / compression)


def shown_at(latent_frame: int, compression: int) -> int:
    """The pixel frame on which a latent frame's image stands: its last."""
    return compression * latent_frame


def image_mask(given: Sequence[int], frames: int, compression: int) -> torch.Tensor:
    """Wan I2V's: 0 where a pixel frame is given, [1, c, frames, 1, 1]; latent frame 0 has its one frame c times."""
    mask = torch.ones(1, compression, frames, 1, 1)
    for i in given:
        mask[:, -1 if i else slice(None), i] = 0.0
    return mask


def vace_mask(given: Sequence[int], frames: int, compression: int) -> torch.Tensor:
    """VACE's for each latent frame, [1, 1, frames, 1, 1]: that of the pixel frame nearest to it in a video scaled to
    so many frames, as in VACE's own code, which often is none of its own."""
    mask = torch.ones(1, 1, pixel_length(frames, compression))
    mask[..., [shown_at(i, compression) for i in given]] = 0.0
    return torch.nn.functional.interpolate(mask, size=frames, mode="nearest-exact")[..., None, None]
