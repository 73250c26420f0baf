"""Peak memory of every method beyond the latent, by allocation, and the lines of Python that hold it.

    COMFYUI_PATH=... python -m benchmarks memory [--methods windows VMCR] [--scales 1 6 13 20] [--sites] [--write]

Real latents (16 channels, 60 x 104, float32) sampled with CFG by a tiny random Wan, whose own part is that of one call
and stated. Counted is what is alive beside the weights, the prompts and the empty latent that the sampler is given: the
noise, the latent in the making, the predictions, and all that the method keeps. Python's garbage collector is off:
memory must not wait for it. On CUDA the peak is torch.cuda's, of the GPU alone.
"""

import gc
import platform
from dataclasses import dataclass
from pathlib import Path

import comfy.model_management
import torch

from ..samplers.windows import WindowSettings, latent_overlap
from . import allocations, command
from .methods import LENGTH, METHODS, OVERLAP, STEPS, WINDOW, noise_source, sampling, tiny_wan

CHANNELS, SIZE = 16, (60, 104)  # of a latent of 480 x 832 pixels
SCALES = [1, 6, 13, 20]  # lengths in windows; from the last two follows what grows
MIB = 2**20
SITES = 14  # that --sites prints
WORTH = 0.25  # latents from which on the result names a line


@dataclass(frozen=True)
class Row:
    """One method: the peak by scale (length in windows), and the bytes of the latent."""

    peaks: dict[int, allocations.Peak]
    latents: dict[int, int]

    def _slope(self, size) -> float:
        a, b = sorted(self.peaks)[-2:]
        return (size(self.peaks[b]) - size(self.peaks[a])) / (self.latents[b] - self.latents[a])

    @property
    def grows(self) -> float:
        """Latents that are held more for each latent of length, between the two longest."""
        return self._slope(lambda peak: peak.bytes)

    @property
    def grows_in_calls(self) -> float:
        """The same while the network runs: a real one's peak is there."""
        return self._slope(lambda peak: peak.call)

    def rest(self, scale: int) -> float:
        """Bytes of the peak that do not grow with the latent."""
        return self.peaks[scale].bytes - self.grows * self.latents[scale]

    @property
    def ours(self) -> float:
        """Latents at the longest video's peak that the pack's own lines allocated."""
        scale = max(self.peaks)
        sites = self.peaks[scale].sites.items()
        return sum(size for stack, size in sites if stack and stack[0].startswith("samplers/")) / self.latents[scale]

    def holders(self) -> list[tuple[str, float]]:
        """(line, latents) of the longest video's peak, from WORTH latents on."""
        scale, lines = max(self.peaks), {}
        for stack, size in self.peaks[scale].sites.items():
            line = stack[0] if stack else "?"
            lines[line] = lines.get(line, 0) + size / self.latents[scale]
        return sorted(((k, v) for k, v in lines.items() if v >= WORTH), key=lambda item: -item[1])


def parse(argv):
    parser = command.parser("memory", __doc__)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    parser.add_argument("--scales", type=int, nargs="+", default=SCALES, help="lengths in windows")
    parser.add_argument("--sites", action="store_true", help="print the stacks of what is alive at the peak")
    parser.add_argument("--write", action="store_true", help="write results/memory.md")
    parser.add_argument("--out", type=Path, help="write there instead")
    args = parser.parse_args(argv)
    args.out = args.out or (command.RESULTS / "memory.md" if args.write else None)
    if args.out and len(set(args.scales) | {1}) < 3:
        parser.error("--scales: a result needs two lengths above 1")
    return args


def without_collector(function):
    gc.collect()
    gc.disable()
    try:
        return function()
    finally:
        gc.enable()


def measure(name: str, scale: int, model) -> tuple[allocations.Peak, int]:
    """The peak of one run over `scale` windows, and the bytes of its latent."""
    shape = (1, CHANNELS, scale * LENGTH, *SIZE)
    run = sampling(METHODS[name], model, shape)
    comfy.model_management.load_models_gpu([model])  # weights are not the run's
    return without_collector(lambda: allocations.measure(run, model.load_device)), 4 * torch.Size(shape).numel()


def network(windows: int, model) -> int:
    """Bytes that the tiny network takes for a call with so many windows, both CFG branches."""
    x = torch.zeros(2 * windows, CHANNELS, LENGTH, *SIZE, device=model.load_device)
    text = torch.zeros(len(x), 12, 4096, device=x.device)
    level, options = torch.full([len(x)], 0.5, device=x.device), model.model_options["transformer_options"]

    def call():
        with torch.inference_mode():
            model.model.apply_model(x, level, c_crossattn=text, transformer_options={**options})

    return allocations.measure(call, x.device).bytes


def mixing(scale: int) -> float:
    """Latents that Noise Reinit's mix takes by itself, before any sampling; the noise that it makes is one."""
    empty = {"samples": torch.zeros(1, CHANNELS, scale * LENGTH, *SIZE)}
    source = noise_source({"noise": {}}, WindowSettings(LENGTH, latent_overlap(OVERLAP, LENGTH, 4)))
    return allocations.measure(lambda: source.generate_noise(empty)).bytes / empty["samples"].nbytes


def show(name: str, scale: int, peak: allocations.Peak, latent: int, sites: bool) -> None:
    print(f"{name:34} x{scale:<3} {peak.bytes / MIB:7.1f} MiB = {peak.bytes / latent:5.2f} latents", flush=True)
    for stack, size in list(peak.sites.items())[: SITES if sites else 0]:
        print(f"  {size / latent:6.2f}  {size / MIB:7.1f} MiB  {' < '.join(stack[:5])}", flush=True)


def report(args, rows: dict[str, Row], calls: dict[int, int], mixed: float) -> str:
    first, last = min(args.scales), max(args.scales)
    latent = next(iter(rows.values())).latents[last]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    words = ["--methods", *rows] if list(rows) != list(METHODS) else []
    words += ["--scales", *map(str, args.scales)] if args.scales != SCALES else []
    lines = [
        "# Peak memory of a sampling run, by allocation", "",
        f"Written by `{command.line('memory', *words, '--write')}` ({device}, torch {torch.__version__}, Python "
        f"{platform.python_version()}).", "",
        f"Latents of {CHANNELS} channels and {SIZE[0]} x {SIZE[1]} (480 x 832 pixels) in float32; windows of {LENGTH} "
        f"latent frames ({WINDOW} pixel frames), overlap {OVERLAP} pixel frames; {STEPS} steps, euler, CFG. x{last}: "
        f"{last * LENGTH} latent frames, a latent of {latent / MIB:.1f} MiB. A tiny random Wan stands for the model: "
        f"its part is {calls[1] / MIB:.1f} MiB for a call with one window and {calls[4] / MIB:.1f} MiB with four, both "
        "CFG branches. A real one takes gigabytes there, and as little more for a longer video.", "",
        "Counted is every block of torch's allocator that is alive at once, temporaries too, beside the weights, the "
        "prompts and the empty latent that goes in; Python's garbage collector is off.", "",
        "MiB, and in brackets long latents. *Grows by*: latents held for each latent of length, from "
        f"x{sorted(args.scales)[-2]} to x{last}, and those while the model runs, where a real one has its peak. "
        f"*Ours*: those at x{last}'s peak that lines of this pack allocated, the others are core's. *Rest*: what does "
        f"not grow, and as a ratio to the whole of x{first}, which is plain sampling of one window. Noise "
        f"Reinit's mix by itself, before the sampling, takes {mixed:.1f} latents.", "",
        f"| method | {' | '.join(f'x{s}' for s in args.scales)} | grows by | while the model runs | ours | rest | rest "
        f"/ x{first} | what grows, and why |",
        "|" + "---|" * (len(args.scales) + 7),
    ]  # fmt: skip
    for name, row in rows.items():
        peaks = [f"{row.peaks[s].bytes / MIB:.1f} ({row.peaks[s].bytes / row.latents[s]:.1f})" for s in args.scales]
        lines.append(
            f"| {name} | {' | '.join(peaks)} | {row.grows:.2f} | {row.grows_in_calls:.2f} | {row.ours:.2f} "
            f"| {row.rest(last) / MIB:.1f} | {row.rest(last) / row.peaks[first].bytes:.2f} | {METHODS[name].grows} |"
        )
    lines += ["", f"What holds {WORTH} latents or more at the peak of x{last}:", ""]
    for name, row in rows.items():
        held = ", ".join(f"{latents:.2f} `{line}`" for line, latents in row.holders())
        lines.append(f"- {name}: {held}")
    return "\n".join(lines) + "\n"


def main(argv=None):
    args = parse(argv)
    model, rows = tiny_wan(), {}
    for name in args.methods:
        rows[name] = row = Row({}, {})
        for scale in args.scales:
            row.peaks[scale], row.latents[scale] = measure(name, scale, model)
            show(name, scale, row.peaks[scale], row.latents[scale], args.sites)
    if args.out:
        text = report(args, rows, {n: network(n, model) for n in (1, 4)}, mixing(max(args.scales)))
        args.out.write_text(text, encoding="utf-8")
        print("\n" + text)
