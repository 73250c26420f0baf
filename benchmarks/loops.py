"""A closed loop's seam: the step from the last frame to the first, against steps as far into a latent frame nearby.

    COMFYUI_PATH=... python -m benchmarks loops

Held-out prompts of the demo model, sampled with the window scheduler's closed_loop and two schedules. The latent is
decoded with its own end in front, as the help of the node has it, so that every latent frame is four pixel frames.
Steps from one latent frame to the next are larger than those within; so the seam, which is one of them, is compared
with the AROUND nearest others on each side of it. Writes loops.md and loops.json.
"""

import json
import math

import torch

from ..backbone.demo import world
from ..samplers.metrics.frames import change
from ..samplers.windows import latent_length
from . import command
from .quality import SEED, Demo
from .variants import variant

BEFORE = 8  # latent frames of its own end in front of a loop that is decoded
AROUND = 3
WAYS = {
    "random_shift": "genl:schedule=random_shift,closed_loop=true",
    "rolling_cut": "genl:schedule=rolling_cut,closed_loop=true",
}


def parse(argv=None):
    parser = command.parser("loops", __doc__)
    parser.add_argument("--lengths", type=int, nargs="+", default=[49, 147, 294], help="pixel frames")
    parser.add_argument("--prompts", type=int, default=24, help="held-out prompts")
    parser.add_argument("--seeds", type=int, default=2, help="of each prompt")
    parser.add_argument("--batch", type=int, default=4, help="prompts per sampler call")
    command.sampling_options(parser, 16)
    args = parser.parse_args(argv)
    if not 1 <= args.prompts <= 60:
        parser.error(f"--prompts {args.prompts}: the held-out prompts are 60")
    return args


class Loops(Demo):
    """The demo model, whose videos are decoded as loops."""

    def decode(self, samples: torch.Tensor) -> torch.Tensor:
        video = super().decode(torch.cat([samples[:, :, -BEFORE:], samples], 2))
        return video[:, -4 * samples.shape[2] :]  # the first latent frame is one pixel frame


def seam(video: torch.Tensor) -> float:
    """The last step of a loop [T, H, W, 3] over the mean of those around it."""
    steps = change(video, video.roll(-1, 0))  # [t]: from frame t to the next, the last one to the first
    nearby = [4 * i - 1 for i in range(-AROUND, AROUND + 1) if i]
    return (steps[-1] / torch.stack([steps[at % len(steps)] for at in nearby]).mean()).item()


def ratios(args, demo: Loops) -> dict[str, list[float]]:
    """The seams of all prompts, by "way, pixel frames"."""
    specs, found = world.held_out()[: args.prompts] * args.seeds, {}
    for frames in args.lengths:
        for name, text in WAYS.items():
            _, parts = variant(text, [])
            seams = found[f"{name}, {frames}"] = []
            for first in range(0, len(specs), args.batch):
                some = specs[first : first + args.batch]
                with torch.inference_mode():
                    videos, *_ = demo.sample(parts, frames, some, [SEED + first + i for i in range(len(some))])
                seams += map(seam, videos)
            print(f"{name}, {frames} frames: {mean(seams)}", flush=True)
    return found


def mean(values: list[float]) -> str:
    """With its standard error."""
    middle, n = sum(values) / len(values), len(values)
    spread = math.sqrt(sum((v - middle) ** 2 for v in values) / max(n - 1, 1) / n)
    return f"{middle:.2f} \u00b1 {spread:.2f}"


def report(args, found: dict, weights: str) -> list[str]:
    words = ["--lengths", *map(str, args.lengths), "--prompts", str(args.prompts), "--seeds", str(args.seeds)]
    words += ["--steps", str(args.steps)]
    titles = [f"{4 * latent_length(frames, 4)} frames" for frames in args.lengths]
    lines = [
        "# The seam of a closed loop", "", f"`{command.line('loops', *words)}` (weights {weights})", "",
        f"The step from the last frame to the first, as a multiple of the {2 * AROUND} nearest steps between latent "
        f"frames: mean over {args.prompts} held-out prompts of the demo model with {args.seeds} seeds each, \u00b1 its "
        f"standard error. Windows of 49 pixel frames, overlap 28, {args.steps} steps; closed_loop of the window "
        f"scheduler, by schedule.",
        "",
        f"| | {' | '.join(titles)} |", "|---" * (1 + len(titles)) + "|",
    ]  # fmt: skip
    return lines + [f"| {way} | {' | '.join(mean(found[f'{way}, {n}']) for n in args.lengths)} |" for way in WAYS]


def main(argv=None):
    args = parse(argv)
    demo = Loops(args)
    found = ratios(args, demo)
    args.out.mkdir(parents=True, exist_ok=True)
    lines = report(args, found, demo.hash)
    (args.out / "loops.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (args.out / "loops.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines))
