"""When does the model decide what? A second event's prompt takes over from the first one's at a step of one clip's run.

    COMFYUI_PATH=... python -m benchmarks handover

Both events share everything until that step: the first prompt's whole noisy state goes on. What the result keeps of the
first clip's subject was decided before, and whether it still shows the second event says what can be decided after. Two
chunks coupled down to a noise level can hardly agree on more than two clips that share all of it, so this says what
SynCoS can hold on a model, and where t_min should be. Writes handover.md and handover.png.
"""

from dataclasses import dataclass

import comfy_extras.nodes_custom_sampler as core
import torch

from ..backbone.demo import reader, world
from ..samplers.prompts import timeline
from ..samplers.windows import latent_length
from . import command, plots, scenarios
from .metrics import events as em
from .quality import CLIP, Demo

SEED = 7_000_001  # of the first pair; each has its own
OTHER = -1  # in place of a step: another seed from the start, what chance gives
SHARE = "% of clips"
MEASURED = {  # the second clip's subject compared with the first one's; its event
    "hue": ("another hue", SHARE), "colour": ("colour's distance", "% of a channel's range"),
    "size": ("size's difference", "%"), "mark": ("another mark", SHARE),
    "motion": ("second motion shown", SHARE), "background": ("second background shown", SHARE),
}  # fmt: skip
WORDS = {False: "the colour named", True: "the colour left open"}


@dataclass(frozen=True)
class Pair:
    """Two events of one subject as whole prompts, and the second event's motion and background."""

    prompts: list[str]
    motion: str
    background: str


def parse(argv=None):
    parser = command.parser("handover", __doc__)
    parser.add_argument("--pairs", type=int, default=48, help="pairs of events, 1..48")
    command.sampling_options(parser, 16)
    args = parser.parse_args(argv)
    if not 1 <= args.pairs <= 48:
        parser.error(f"--pairs: {args.pairs} is not in 1..48")
    return args


def pairs(unnamed: bool, count: int) -> list[Pair]:
    """The first two events of the multi-event scenarios."""
    found = []
    for scenario in (scenarios.unnamed if unnamed else scenarios.scenarios)()[:count]:
        _, prompts = timeline.join_prompts(scenario.prompt, scenario.timeline(scenario.frames))
        found.append(Pair(prompts[:2], *scenario.events[1]))
    return found


class Clips:
    """Clips of the demo model, from any step on."""

    def __init__(self, demo: Demo):
        self.demo = demo
        (self.sampler,) = core.KSamplerSelect.execute("euler").result
        (self.sigmas,) = core.BasicScheduler.execute(demo.model, "simple", demo.args.steps, 1.0).result

    def run(self, latent: dict, prompt: str, seed: int | None, first: int, last: int) -> dict:
        """The latents after steps first..last-1; seed None: no noise is added."""
        demo = self.demo
        (guider,) = core.CFGGuider.execute(demo.model, demo.encode(prompt), demo.encode(""), demo.args.cfg).result
        (noise,) = (core.DisableNoise.execute() if seed is None else core.RandomNoise.execute(seed)).result
        sigmas = self.sigmas[first : last + 1]
        return core.SamplerCustomAdvanced.execute(noise, guider, self.sampler, sigmas, latent).result[0]

    def measure(self, pair: Pair, seed: int, steps: list[int]) -> dict[int, dict[str, float]]:
        """Per step of `steps` (and OTHER): the traits' differences and whether the second event is shown."""
        end = len(self.sigmas) - 1
        empty = {"samples": torch.zeros(1, 16, latent_length(CLIP, 4), world.SIZE // 8, world.SIZE // 8)}
        states, state = [], empty
        for step, following in zip(steps, [*steps[1:], end], strict=True):  # steps[0] is 0
            states.append(state)
            state = self.run(state, pair.prompts[0], None if step else seed, step, following)
        later = [
            self.run(s, pair.prompts[1], None if step else seed, step, end)
            for step, s in zip(steps, states, strict=True)
        ]
        later.append(self.run(empty, pair.prompts[1], seed + 500_000, 0, end))
        first = self.decoded(state)
        return {
            step: compare(torch.cat((first, self.decoded(latent))), pair)
            for step, latent in zip([*steps, OTHER], later, strict=True)
        }

    def decoded(self, latent: dict):
        video = self.demo.vae.decode(latent["samples"])
        return video.reshape(-1, *video.shape[-3:]).float()


def compare(video, pair: Pair) -> dict[str, float]:
    """The second half of `video` with the first."""
    seen = reader.read(video)
    halves = [(0, CLIP), (CLIP, 2 * CLIP)]
    subject = em.subject_consistency(seen, halves)
    marks = [em.vote(seen.mark_index[a:b]) for a, b in halves]
    return {
        "hue": 1 - subject["same_hue"], "colour": subject["subject_colour"], "size": subject["subject_size"],
        "mark": float(marks[0] != marks[1]), "motion": float(reader.motion(seen, *halves[1]) == pair.motion),
        "background": float(em.named(seen.background_index[CLIP:], reader.BACKGROUNDS) == pair.background),
    }  # fmt: skip


def table(found: dict, sigmas: list[float]) -> list[str]:
    """Markdown of {step: {metric: mean}}; sigmas: of the steps."""
    rows = [["taken over at", "sigma", *(", ".join(words) for words in MEASURED.values())]]
    rows.append(["---"] * len(rows[0]))
    places = {step: [f"{1 - step / len(sigmas):.2f}", f"{sigma:.2f}"] for step, sigma in enumerate(sigmas)}
    for step, place in (places | {OTHER: ["another seed", ""]}).items():
        rows.append([*place, *(f"{100 * found[step][name]:.1f}" for name in MEASURED)])
    return [f"| {' | '.join(row)} |" for row in rows]


def main(argv=None):
    args = parse(argv)
    args.out.mkdir(parents=True, exist_ok=True)
    demo = Demo(args)
    clips, steps = Clips(demo), list(range(args.steps))
    lines, panels = [], {name: {} for name in MEASURED}
    for unnamed, words in WORDS.items():
        chosen = pairs(unnamed, args.pairs)
        with torch.inference_mode():
            runs = [clips.measure(pair, SEED + i, steps) for i, pair in enumerate(chosen)]
        found = {k: {name: em.mean([r[k][name] for r in runs]) for name in panels} for k in (*steps, OTHER)}
        lines += ["", f"## {words[0].upper() + words[1:]}", "", *table(found, clips.sigmas[:-1].tolist())]
        for name, panel in panels.items():
            curve = [(1 - k / args.steps, 100 * found[k][name]) for k in steps]
            panel[words] = plots.Curve(curve, 100 * found[OTHER][name])
    text = "\n".join([
        "# What the demo model decides at which noise level", "",
        f"Written by `python -m benchmarks handover --pairs {args.pairs} --steps {args.steps} --cfg {args.cfg:g}` "
        f"(weights {demo.hash}).", "",
        "Two clips of one seed: the second takes over the first one's noisy state, all of it, at a place in the "
        "schedule (1 all noise, 0 clean; *sigma*: the noise there), and goes on with its own prompt. Chunks coupled "
        "down to there can hardly share more. Differences of the second clip's subject to the first one's; *another "
        "seed* is what chance gives. "
        f"Prompts: the first two events of the scenarios in `scenarios.py`. Each value is the mean of {args.pairs} "
        f"pairs; a share's standard error is up to {50 / args.pairs**0.5:.0f} %.",
        *lines, "", "![curves](handover.png)", "",
    ])  # fmt: skip
    (args.out / "handover.md").write_text(text, encoding="utf-8")
    plots.curve_chart(
        [(*MEASURED[name], panel) for name, panel in panels.items()],
        "place in the schedule at which the second prompt takes over (1: all noise)", args.out / "handover.png",
    )  # fmt: skip
    print(text)

