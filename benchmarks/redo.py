"""Redo Span and Continue Video on the demo model: what is kept, whether the new event is seen, seams and drift.

    COMFYUI_PATH=... python -m benchmarks redo [--scenarios 24] [--frames 145] [--steps 24] [--write]

Each scenario is a subject with three motions, the second of which is made anew with another motion and seed, without
and with an arrival behind it. Untouched: the same three motions sampled at once, looked at in the same places. Seams:
benchmarks/metrics/video.py's seam score at the first frame that is made and at the first behind it, and the largest
step between two frames near these, as a multiple of the median around it.
Continued: the first two thirds, then twice a sixth; its drift is compared with the untouched video's.
"""

import argparse
import itertools
import math
import random
import statistics

import comfy.sample
import comfy.samplers
import torch

from ..backbone.demo import reader, world
from ..nodes.prompts import encode_timeline
from ..nodes.redo import LongTakeContinue, LongTakeRedoSpan
from ..samplers.prompts import timeline
from ..samplers.windows import pixel_length
from . import command
from .metrics import video as video_metrics
from .quality import Demo
from .variants import INPUTS

MOTIONS = ("bouncing", "circling", "sliding", "pulsing", "still")
COMPRESSION, FPS = 4, 16.0
NEAR, AROUND = 20, 40  # pixel frames beside a border: where steps are looked at, where their median is from


def parse(argv):
    parser = command.parser("redo", __doc__)
    parser.add_argument("--scenarios", type=int, default=24)
    parser.add_argument("--frames", type=int, default=145, help="pixel frames, 4n + 1")
    parser.add_argument("--steps", type=int, default=24)
    parser.add_argument("--cfg", type=float, default=command.CFG)
    parser.add_argument("--pull", type=float, default=0.5, help="Redo Span's")
    parser.add_argument("--arrive", type=int, default=16, help="Redo Span's, beside none")
    parser.add_argument("--write", action="store_true", help="write results/redo.md")
    args = parser.parse_args(argv)
    if args.frames < 3 * NEAR or args.frames % COMPRESSION != 1:
        parser.error(f"--frames {args.frames}: 4n + 1, {3 * NEAR + 1} or more: three events in windows of 49")
    return args


class Bench:
    def __init__(self, args):
        self.args, self.demo = args, Demo(argparse.Namespace(weights=None))
        self.model, _ = self.demo.windows(**INPUTS["windows"])
        self.negative = self.demo.encode("")

    def prompts(self, subject: str, motions: list[str], frames: int) -> list:
        events = timeline.parse_timeline(" | ".join(motions), frames, FPS)
        return encode_timeline(self.demo.clip, *timeline.join_prompts(subject, events), timeline.spans(events, 0))

    def sample(self, latent: dict, positive: list, seed: int) -> torch.Tensor:
        start = latent["samples"]
        sigmas = comfy.samplers.calculate_sigmas(
            self.model.get_model_object("model_sampling"), "simple", self.args.steps
        )
        with torch.inference_mode():
            return comfy.sample.sample_custom(
                self.model, comfy.sample.prepare_noise(start, seed), self.args.cfg,
                comfy.samplers.sampler_object("euler"), sigmas, positive, self.negative, start,
                noise_mask=latent.get("noise_mask"), disable_pbar=True, seed=seed,
            )  # fmt: skip

    def empty(self, frames: int) -> dict:
        return {"samples": torch.zeros(1, 16, (frames - 1) // COMPRESSION + 1, 8, 8)}

    def read(self, latent: torch.Tensor):
        video = self.demo.vae.decode(latent).detach()
        video = video.reshape(-1, *video.shape[-3:]).float().cpu()
        return video, reader.read(video)

    def seams(self, video, reading, borders: list[int]) -> dict[str, float]:
        """Seam scores of both borders, each in picture differences and in the subject's track; and the largest step
        near a border, so that a seam which has only moved is seen too."""
        steps, track = video_metrics.frame_differences(video), video_metrics.track_acceleration(reading)
        found = {}
        for place, border in zip(("first", "second"), borders, strict=True):
            around = steps[max(border - AROUND, 0) : border + AROUND].median()
            found[f"{place} border mae"] = float(video_metrics.boundary_ratios(steps, [border]))
            found[f"{place} border track"] = float(video_metrics.boundary_ratios(track, [border]))
            near = steps[max(border - NEAR, 0) : border + NEAR]
            found[f"{place} border, largest step near"] = float(near.max() / around)
        return found

    def scenario(self, number: int) -> dict:
        pick, frames = random.Random(number), self.args.frames
        colour, shape = pick.choice(list(world.COLOURS)), pick.choice(world.SHAPES)
        subject = f"a {colour} {shape} on a {pick.choice(list(world.BACKGROUNDS))} background"
        first, second, third, other = pick.sample(MOTIONS, 4)
        new = self.prompts(subject, [first, other, third], frames)
        old = self.sample(self.empty(frames), self.prompts(subject, [first, second, third], frames), number)
        untouched = self.read(self.sample(self.empty(frames), new, number))
        found, event = {"outside": 0.0}, None
        for arrive in (0, self.args.arrive):
            redo = LongTakeRedoSpan.execute(
                {"samples": old}, "event", 2, 0.0, 4.0, FPS, COMPRESSION, new, self.args.pull, arrive
            )
            masked = redo.args[0]
            redone = self.sample(masked, new, number + 1000)
            kept = masked["noise_mask"][0, 0, :, 0, 0] == 0
            made = (~kept).nonzero().flatten().tolist()
            borders = [pixel_length(made[0], COMPRESSION), pixel_length(made[-1] + 1, COMPRESSION)]
            event = event or borders  # without an arrival
            found["outside"] = max(found["outside"], float((redone - old)[:, :, kept].abs().max()))
            for name, (video, reading) in (("untouched", untouched), ("redone", self.read(redone))):
                name += f", arrive {arrive}" if arrive else ""
                found[f"{name} seen"] = float(reader.motion(reading, *event) == other)
                found |= {f"{name} {key}": value for key, value in self.seams(video, reading, borders).items()}
        return found | self.continued(subject, first, number)

    def continued(self, subject: str, motion: str, number: int) -> dict:
        frames = self.args.frames
        part, add = frames * 2 // 3 // 4 * 4 + 1, frames // 6 // 4 * 4
        latent = first = self.sample(self.empty(part), self.prompts(subject, [motion], part), number)
        for i in (1, 2):
            longer, positive, _ = LongTakeContinue.execute(
                {"samples": latent}, add, COMPRESSION, self.prompts(subject, [motion], add + 1)
            ).args
            latent = self.sample(longer, positive, number + 1000 * i)
        total = COMPRESSION * (latent.shape[2] - 1) + 1
        whole = self.sample(self.empty(total), self.prompts(subject, [motion], total), number)
        out = {"first part": float((latent[:, :, : first.shape[2]] - first).abs().max())}
        for name, one in (("continued", latent), ("at once", whole)):
            _, reading = self.read(one)
            out[f"{name} size drift"] = video_metrics.size_drift(reading)
            out[f"{name} colour drift"] = video_metrics.vector_drift(reading.colour_rgb)
        return out


def main(argv=None):
    args = parse(argv)
    bench, rows = Bench(args), []
    for number in range(args.scenarios):
        rows.append(bench.scenario(number))
        print(number, {key: round(value, 4) for key, value in rows[-1].items()}, flush=True)
    lines = ["| | mean | its standard error | median |", "|---|---|---|---|"]
    for key in rows[0]:
        values = [row[key] for row in rows if row[key] == row[key]]
        if values:
            error = statistics.stdev(values) / len(values) ** 0.5 if len(values) > 1 else math.nan
            lines.append(f"| {key} | {statistics.mean(values):.4g} | {error:.2g} | {statistics.median(values):.4g} |")
    print("\n".join(lines))
    if args.write:
        line = command.line("redo", *itertools.filterfalse("--write".__eq__, argv), "--write")
        head = f"Written by `{line}` (weights {bench.demo.hash}); CFG {args.cfg:g}."
        text = "\n".join(["# Redo Span and Continue Video on the demo model", "", head, "", *lines, ""])
        (command.RESULTS / "redo.md").write_text(text, "utf-8")
