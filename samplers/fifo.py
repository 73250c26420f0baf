"""FIFO-Diffusion (arXiv 2405.11473): a queue of frames whose noise rises towards its end.

The queue holds n * f frames, f being the model's clip: the frame at its head has one step left to make, the one at its
end is all noise. A round makes one step of every frame, takes the clean one off the head and puts a new one of noise at
the end; so a video of any length is made with the memory of one clip, and every frame is made beside cleaner ones.

- Diagonal denoising (Algorithm 1): the frames of one model call have noise levels of their own.
- Latent partitioning (Sec. 4.2): n calls of f frames see n * f levels, so that neighbours differ little.
- Lookahead denoising (Sec. 4.3): 2 n calls, each of which keeps what it predicts for its noisier half only: every frame
  is predicted beside f // 2 frames that are cleaner than itself. In front of the head stand the f // 2 frames that have
  left it.

Clips overlap; all calls of a round see the queue as it was before it (the authors' code, which writes at once, goes
from the end to the head for that). Odd f, where the paper has none: the halves take turns at being one frame longer.
Deterministic (DDIM with eta 0, which is Euler in sigma, for any parameterisation); the paper's examples have
eta 1 for VideoCrafter2.

The queue's start is a base clip, sampled as ever and brought to the levels of the last f slots. In front of it the
paper puts copies of its first frame, and drops the n * f - f frames that leave first (START "copies"). Models whose VAE
makes one pixel frame of the first latent frame and several of each other one know such a first frame at the start of
a clip only: behind copies it is denoised as what it is not, and the video's first frames come out wrong. So here
(START "clip") no call reaches in front of the video's first frame, until f // 2 frames have left; the copies are not
needed then, and the calls that would see them alone are saved.

Slots are counted from the head, levels from noise to clean as samplers have them. Nothing here knows ComfyUI.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch

from .checks import held
from .windows import LONGEST, starts_count

DIM = 2  # frames of [batch, channels, frames, height, width]


START = ("clip", "copies")


@dataclass(frozen=True)
class Clip:
    """One model call: it sees the slots start to end, and makes a step of those from keep to made."""

    start: int
    end: int
    keep: int
    made: int


@dataclass(frozen=True)
class FIFOSettings:
    """length: latent frames f of a model call; partitions: n; lookahead, start: see above. Raises ValueError."""

    length: int
    partitions: int = 4
    lookahead: bool = True
    start: str = "clip"

    def __post_init__(self):
        held(
            self, {"length": (2, LONGEST, True), "partitions": (1, 64, True)},
            {"lookahead": (False, True), "start": START},
        )  # fmt: skip

    @property
    def slots(self) -> int:
        """Frames in the queue, and so steps that each frame makes."""
        return self.partitions * self.length

    @property
    def ahead(self) -> int:
        """Clean frames kept in front of the head."""
        return self.length // 2 if self.lookahead else 0

    @property
    def warm_up(self) -> int:
        """Rounds before the video's first frame leaves: as many as there are slots in front of it at the start."""
        return self.slots - self.length

    def clips(self, head: int) -> list[Clip]:
        """The calls of the round in which frame `head` of the video leaves (negative: of the warm-up), from the end to
        the head, as the authors' code goes."""
        f, n = self.length, self.partitions
        edges = [-(-b * f // 2) for b in range(2 * n + 1)] if self.lookahead else list(range(0, self.slots + 1, f))
        first = -head if self.start == "clip" else -self.ahead  # no clip reaches in front of this slot
        found: dict[int, Clip] = {}
        for keep, made in reversed(list(zip(edges, edges[1:], strict=False))):
            if made > first:
                start, keep = max(made - f, first), max(keep, first)
                made = found[start].made if start in found else made
                found[start] = Clip(start, start + f, keep, made)
        return list(found.values())

    def level(self, slot: int) -> int:
        """Index of the slot's noise level; a round brings it to the next. Frames in front of the head stay at its."""
        return self.slots - 1 - max(slot, 0)

    def calls(self, frames: int) -> int:
        """Model calls of a video of `frames`: the base clip's, then those of the rounds."""
        early = range(-self.warm_up, min(self.ahead, frames))
        later = max(frames - self.ahead, 0) * len(self.clips(self.ahead))
        return self.slots + sum(len(self.clips(head)) for head in early) + later


def cost_text(settings: FIFOSettings, frames: int, steps: int, branches: int) -> str:
    """One line: what a video of `frames` latent frames takes, compared with plain windows of `steps` steps."""
    f, calls = settings.length, settings.calls(frames)
    plain = starts_count(frames, f, f - f // 2, 0) * steps
    given = "" if steps == settings.slots else f" ({steps} steps given, their noise levels interpolated)"
    return (
        f"{frames} latent frames: a clip of {f} in {settings.slots} steps{given}, then {len(settings.clips(frames))} "
        f"calls of the model for each new frame; {calls} x {branches} CFG branches = {calls * branches} window "
        f"evaluations, {calls / plain:.2f}x plain windows of half overlap in {steps} steps ({plain * branches})"
    )


def resampled(sigmas: Sequence[float], steps: int) -> list[float]:
    """The same schedule in another number of steps: interpolated between its levels, by their place in it."""
    last = len(sigmas) - 1
    if last == steps:
        return list(sigmas)
    places = [step * last / steps for step in range(steps + 1)]
    return [_between(sigmas, place) for place in places]


def _between(sigmas: Sequence[float], place: float) -> float:
    i = min(int(place), len(sigmas) - 2)
    return sigmas[i] + (sigmas[i + 1] - sigmas[i]) * (place - i)


def step(x: torch.Tensor, x0: torch.Tensor, sigma: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """One deterministic step of [B, C, F, H, W], each frame from its own level to its own next one [F].

    DDIM's with eta 0, for x = x0 + sigma * eps (eps and v models in ComfyUI's scale) and x = (1 - sigma) * x0 + sigma *
    eps (flow) alike: what is not x0 shrinks as sigma does.
    """
    share = (following / sigma).to(x).view(-1, 1, 1)
    return x0 + share * (x - x0)


Noised = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
Predict = Callable[[torch.Tensor, torch.Tensor, list[int], slice], torch.Tensor]


def first_queue(settings: FIFOSettings, base: torch.Tensor, sigmas: torch.Tensor, noised: Noised) -> torch.Tensor:
    """The queue before the first round [B, C, ahead + slots, H, W]: the base clip's frames in the noisiest places and
    its first frame in all others, each brought to its slot's level by noised(frames, levels [frames])."""
    slots = range(-settings.ahead, settings.slots)
    frames = base[:, :, [max(0, slot - settings.warm_up) for slot in slots]]
    return noised(frames, sigmas[[settings.level(slot) for slot in slots]])


def rounds(
    settings: FIFOSettings, queue: torch.Tensor, sigmas: torch.Tensor, predict: Predict,
    fresh: Callable[[int], torch.Tensor],
) -> Iterator[torch.Tensor]:  # fmt: skip
    """Each frame that leaves the queue [B, C, 1, H, W], without end; the first `warm_up` of them are not the video's.

    sigmas: the slots + 1 levels from noise to 0; predict(x [B, C, f, H, W], sigma [f], numbers, made): x0 of the frames
    with these numbers (0: the video's first), of which those in `made` make a step; fresh(number): that frame at the
    first level.
    """
    ahead, head = settings.ahead, -settings.warm_up
    while True:
        after = queue.clone()  # a call of START "clip" may read what another call of its round makes
        for clip in settings.clips(head):
            slots = range(clip.start, clip.end)
            at = [settings.level(slot) for slot in slots]
            x = queue[:, :, clip.start + ahead : clip.end + ahead]
            made = slice(clip.keep - clip.start, clip.made - clip.start)
            x0 = predict(x, sigmas[at], [head + slot for slot in slots], made)
            at = at[made]
            stepped = step(x[:, :, made], x0[:, :, made], sigmas[at], sigmas[[i + 1 for i in at]])
            after[:, :, clip.keep + ahead : clip.made + ahead] = stepped
        yield after[:, :, ahead : ahead + 1].clone()
        queue = torch.cat([after[:, :, 1:], fresh(head + settings.slots)], DIM)
        head += 1
