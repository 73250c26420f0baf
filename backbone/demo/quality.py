"""Measure the demo model and write QUALITY.md: the VAE against ground truth, the samples by the analytic reader.

    COMFYUI_PATH=... python -m backbone.demo.quality --sheet quality.png

(from the repository's root). Everything runs through ComfyUI's own loaders, sampler and VAE. A report, not a test: the
exit code says nothing about the numbers.
"""

import argparse
import collections
import random
from pathlib import Path

import torch

from . import reader, world
from .training import common

NAMES = ("colour", "shape", "motion", "background")
LENGTHS = (49, 145, 293)
TARGETS = {"colour": 99, "background": 99, "shape": 98, "motion": 95, "one": 99, "psnr": 33}
FEWER = (24, 16)  # steps: of the templates, of the benchmarks
SEED = 7_000_001  # of the noise; the next batch takes the next number


def psnr(errors: torch.Tensor) -> torch.Tensor:
    """Squared errors [clips, places] -> dB of every clip [clips]."""
    return -10 * errors.mean(1).clamp_min(1e-10).log10()


def vae_errors(vae, clips: int, frames: int) -> torch.Tensor:
    """Squared error of reconstruction [clips, latent frames], of clips that training never drew."""
    rng = random.Random(f"quality, {frames} frames")
    rows = []
    for _ in range(clips):
        video = world.render(world.sample_scene(rng), frames, start=rng.uniform(0, 100))
        out = vae.decode(vae.encode(video)).reshape(video.shape)
        error = (out.float().cpu() - video).square().mean((1, 2, 3))
        rows.append(torch.cat((error[:1], error[1:].view(-1, 4).mean(1))))  # the first latent frame holds one frame
    return torch.stack(rows)


def omit(spec: tuple, rng: random.Random) -> tuple:
    """The same attributes with one or two left open."""
    gone = rng.sample(range(len(spec)), rng.choice((1, 2)))
    return tuple(None if i in gone else name for i, name in enumerate(spec))


def sample(model, clip, vae, prompts: list[str], seed: int, steps: int, cfg: float) -> torch.Tensor:
    """One clip per prompt in a single sampler call -> [N, 49, 64, 64, 3]."""
    import nodes

    positive = torch.cat([clip.encode_from_tokens_scheduled(clip.tokenize(p))[0][0] for p in prompts])
    negative = clip.encode_from_tokens_scheduled(clip.tokenize(""))
    latent = torch.zeros(len(prompts), 16, (world.FRAMES - 1) // 4 + 1, world.SIZE // 8, world.SIZE // 8)
    out, = nodes.common_ksampler(model, seed, steps, cfg, "euler", "simple", [[positive, {}]], negative,
                                 {"samples": latent})
    video = vae.decode(out["samples"])
    return video.reshape(len(prompts), -1, *video.shape[-3:]).float().cpu()


def judge(video: torch.Tensor) -> dict:
    """What the reader sees in one clip: the four attributes and the share of frames with exactly one subject."""
    seen = reader.read(video)
    return {"colour": seen.colour, "shape": seen.shape, "motion": reader.motion(seen), "background": seen.background,
            "one": (seen.count == 1).float().mean().item(), "fit": seen.fit.mean().item()}


def run(model, clip, vae, specs: list[tuple], seed: int, steps: int, args) -> list[tuple]:
    """Sample and read every spec -> [(spec, what was seen, a few frames of it)]."""
    results = []
    for first in range(0, len(specs), args.batch):
        part = specs[first:first + args.batch]
        videos = sample(model, clip, vae, [world.prompt(*s) for s in part], seed + first, steps, args.cfg)
        results += [(s, judge(v), v[::8].clone()) for s, v in zip(part, videos, strict=True)]
        print(f"{len(results)} of {len(specs)} clips", flush=True)
    return results


def right(results: list[tuple], name: str) -> tuple[int, int]:
    """How many clips show the named attribute as asked, and how many name it."""
    index = NAMES.index(name)
    asked = [(spec[index], seen[name]) for spec, seen, _ in results if spec[index]]
    return sum(a == b for a, b in asked), len(asked)


def share(count: int, of: int) -> str:
    return f"{100 * count / of:.1f} % ({count} of {of})" if of else "-"


def sheet(results: list[tuple], path: Path) -> None:
    """Contact sheet: one row per clip, every eighth frame, the prompt and what was read otherwise."""
    from PIL import Image, ImageDraw

    columns = 2 if len(results) > 12 else 1
    rows = -(-len(results) // columns)
    height, width = world.SIZE + 14, 7 * (world.SIZE + 2) + 8
    image = Image.new("RGB", (columns * width, rows * height), "white")
    draw = ImageDraw.Draw(image)
    for i, (spec, seen, frames) in enumerate(results):
        left, top = i // rows * width, i % rows * height
        wrong = [str(seen[name]) for name, asked in zip(NAMES, spec, strict=True) if asked and seen[name] != asked]
        if seen["one"] < 0.95:
            wrong.append(f"one subject in {seen['one']:.0%}")
        draw.text((left, top), world.prompt(*spec), fill="black")
        draw.text((left + width - 8, top), ", ".join(wrong), fill="red", anchor="ra")
        for k, frame in enumerate((frames.clamp(0, 1) * 255).round().byte().numpy()):
            image.paste(Image.fromarray(frame), (left + k * (world.SIZE + 2), top + 12))
    image.save(path)


def report(args, errors: dict[int, torch.Tensor], full: list[tuple], loose: list[tuple], fewer: dict) -> str:
    def one(results):
        return f"{100 * sum(seen['one'] for _, seen, _ in results) / len(results):.1f} %"

    clips = psnr(errors[LENGTHS[0]])
    names = ("colour", "background", "shape", "motion")
    lines = [
        "# Measured quality of the demo model", "",
        "Written by `python -m backbone.demo.quality` (from the repository's root, with `COMFYUI_PATH` set), through\n"
        "ComfyUI's own loaders, sampler and VAE. The analytic reader (`reader.py`, tested against ground truth)\n"
        f"judges the samples: {args.prompts} held-out prompts, each a combination of attributes that the video\n"
        f"model's training never saw, with {args.seeds} unseen seeds each, single clips of {world.FRAMES} frames,\n"
        f"{args.steps} steps, euler, simple, CFG {args.cfg:g}, the VAE in {args.precision}.",
        "",
        "| | target | measured |", "|---|---|---|",
        f"| VAE reconstruction, {len(clips)} unseen clips of {LENGTHS[0]} frames | >= {TARGETS['psnr']} dB "
        f"| {clips.mean():.1f} dB (worst clip {clips.min():.1f}) |",
    ]
    lines += [f"| {name} right | >= {TARGETS[name]} % of clips | {share(*right(full, name))} |" for name in names]
    lines += [f"| exactly one subject | >= {TARGETS['one']} % of frames | {one(full)} |", "",
              "By motion, right of those asked: " + ", ".join(
                  f"{motion} {sum(seen['motion'] == motion for spec, seen, _ in full if spec[2] == motion)} of "
                  f"{sum(spec[2] == motion for spec, *_ in full)}" for motion in world.MOTIONS) + ".", "",
              "The same with one or two attributes left open in each prompt, one seed; what is named is judged:", "",
              "| | measured |", "|---|---|"]
    lines += [f"| {name} right | {share(*right(loose, name))} |" for name in names]
    lines += [f"| exactly one subject | {one(loose)} |", "",
              "With fewer steps, nothing left open, the first of the seeds:", "",
              f"| steps | {' right | '.join(names)} right | exactly one subject |", "|---|---|---|---|---|---|"]
    lines += [f"| {steps} | {' | '.join(share(*right(some, name)) for name in names)} | {one(some)} |"
              for steps, some in {args.steps: full[: args.prompts], **fewer}.items()]
    lines += ["", "## The VAE over time", "",
              "PSNR in dB by place in the clip (the first latent frame holds one frame, every other four), also at\n"
              "three and six times the trained length: a drift would show as a fall from third to third.", "",
              "| frames | clips | all | first latent frame | first third | middle third | last third |",
              "|---|---|---|---|---|---|---|"]
    for frames, error in errors.items():
        thirds = " | ".join(f"{psnr(part).mean():.1f}" for part in error[:, 1:].tensor_split(3, 1))
        whole, head = psnr(error).mean(), psnr(error[:, :1]).mean()
        lines.append(f"| {frames} | {len(error)} | {whole:.1f} | {head:.1f} | {thirds} |")
    places = " ".join(f"{psnr(e).mean():.1f}" for e in errors[LENGTHS[0]].split(1, 1))
    lines += ["", f"Every latent frame of the {LENGTHS[0]}-frame clips: {places}.", "",
              "## What was read otherwise", ""]
    confused = collections.Counter(
        (name, asked, str(seen[name])) for spec, seen, _ in full + loose
        for name, asked in zip(NAMES, spec, strict=True) if asked and seen[name] != asked)
    lines += [f"- {name}: {asked} read as {got}, {count}" for (name, asked, got), count in confused.most_common()]
    return "\n".join(lines + ([] if confused else ["- nothing"])) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, default=common.HERE, help="folder of the .safetensors files")
    parser.add_argument("--out", type=Path, default=common.HERE / "QUALITY.md", help="the report")
    parser.add_argument("--sheet", type=Path, help="PNG to draw a contact sheet of the samples into")
    parser.add_argument("--prompts", type=int, default=60, help="held-out prompts to sample, 1..60")
    parser.add_argument("--seeds", type=int, default=5, help="of each prompt that leaves nothing open")
    parser.add_argument("--clips", type=int, default=24, help="clips per length for the VAE")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--cfg", type=float, default=2.5)
    parser.add_argument("--batch", type=int, default=10, help="prompts per sampler call")
    parser.add_argument("--fast", action="store_true", help="12 prompts of a seed, 4 clips: a first impression")
    args = parser.parse_args()
    if args.fast:
        args.prompts, args.seeds, args.clips = min(args.prompts, 12), 1, min(args.clips, 4)
    if not 1 <= args.prompts <= 60 or not 1 <= args.seeds <= 16:  # open prompts take noises from 1000 on
        parser.error(f"--prompts {args.prompts} --seeds {args.seeds}: 1..60 prompts, 1..16 seeds")
    common.comfy_on_path()
    from . import loader

    loader.FOLDER = args.weights.resolve()
    model, clip, vae = loader.load_model(), loader.load_clip(), loader.load_vae()
    args.precision = str(vae.vae_dtype).removeprefix("torch.")
    with torch.inference_mode():
        errors = {frames: vae_errors(vae, args.clips, frames) for frames in LENGTHS}
        specs = world.held_out()[:args.prompts]
        full = run(model, clip, vae, specs * args.seeds, SEED, args.steps, args)
        rng = random.Random("left open")
        loose = run(model, clip, vae, [omit(s, rng) for s in specs], SEED + 1000, args.steps, args)
        fewer = {steps: run(model, clip, vae, specs, SEED, steps, args) for steps in FEWER}
    text = report(args, errors, full, loose, fewer)
    args.out.write_text(text, encoding="utf-8")
    if args.sheet:
        sheet(full[: args.prompts] + loose, args.sheet)
    print(text)


if __name__ == "__main__":
    main()
