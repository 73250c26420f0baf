"""Multi-event scenarios of the small world: one subject, two to four events that change its motion, place or both.

48 of them, 11 with two events, 12 with three, 25 with four, as SynCoS's benchmark has (arXiv 2503.08605). The global
prompt names the subject, each local prompt a motion and a background; the events share the video evenly, and each is
longer than one clip of the model.

`unnamed` scenarios are the same ones with a subject whose colour no prompt names, as prompts say "a dog" and leave the
breed to the model: then nothing but the windows' agreement keeps it.
"""

import random
from dataclasses import dataclass, replace

from ..backbone.demo import world
from ..samplers.prompts import timeline

COUNTS = {2: 11, 3: 12, 4: 25}  # events: scenarios
LENGTHS = {2: 147, 3: 293, 4: 293}  # events: pixel frames of the video, x3 and x6 of a clip
CHANGES = ("motion", "background", "both")  # what the events change; as many scenarios of each
SEED = 2503


@dataclass(frozen=True)
class Scenario:
    colour: str  # "": left to the model
    shape: str
    events: tuple[tuple[str, str], ...]  # motion and background of each
    changes: str  # one of CHANGES

    @property
    def frames(self) -> int:
        """Pixel frames asked for; the video has decoded frames, 4 n + 1 of them."""
        return LENGTHS[len(self.events)]

    @property
    def prompt(self) -> str:
        """The global prompt."""
        return world.prompt(self.colour or None, self.shape)

    @property
    def local_prompts(self) -> list[str]:
        return [f"{motion} on a {background} background" for motion, background in self.events]

    @property
    def title(self) -> str:
        return f"{self.prompt}: {' | '.join(self.local_prompts)}"

    def timeline(self, frames: int) -> list[timeline.Event]:
        """The events of a video of `frames` pixel frames, evenly timed."""
        return timeline.parse_timeline(" | ".join(self.local_prompts), frames, world.FPS)


def scenarios() -> list[Scenario]:
    """All 48, always the same, in mixed order: the first few are a fair sample."""
    rng = random.Random(SEED)
    used: dict[str, int] = {}

    def take(names, count: int = 1) -> list[str]:
        """`count` different names, those used least so far."""
        chosen = sorted(names, key=lambda name: (used.get(name, 0), rng.random()))[:count]
        used.update({name: used.get(name, 0) + 1 for name in chosen})
        return chosen

    counts = [events for events, share in COUNTS.items() for _ in range(share)]
    plan = [(events, CHANGES[i % len(CHANGES)]) for i, events in enumerate(counts)]
    rng.shuffle(plan)
    found = []
    for events, changes in plan:
        (colour,), (shape,) = take(world.COLOURS), take(world.SHAPES)
        motions = take(world.MOTIONS, 1 if changes == "background" else events)
        backgrounds = take(world.BACKGROUNDS, 1 if changes == "motion" else events)
        rng.shuffle(motions)
        rng.shuffle(backgrounds)
        span = range(events)
        pairs = tuple((motions[i % len(motions)], backgrounds[i % len(backgrounds)]) for i in span)
        found.append(Scenario(colour, shape, pairs, changes))
    return found


def unnamed() -> list[Scenario]:
    """All 48 without the subject's colour."""
    return [replace(scenario, colour="") for scenario in scenarios()]
