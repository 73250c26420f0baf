"""Time and memory from one clip to 25: sampling at real latent shapes, and the decode into a file against core's.

    COMFYUI_PATH=... python -m benchmarks scale [--parts demo wan sampling] [--scales 1 3 6 25] [--write]

demo: the demo model's VAE and size. wan: core's Wan VAE with 2 channels instead of 96, and pictures of 480 x 832, so
that what is not the network's arithmetic has its real size. Each is decoded into an H.264 file by Decode to Video, and
by core's VAE Decode, Create Video and Save Video. sampling: latents of Wan 2.1 (16 x 60 x 104) and CogVideoX-2B (16 x
60 x 90), sampled by a tiny network with each method. Every figure is of a process of its own: the seconds, the
processor's seconds (all threads), and the peak of the process's memory above what it held before. A clip is 49 frames;
x25 is 1,225.
"""

import argparse
import json
import math
import platform
import tempfile
import threading
import time
from pathlib import Path

import comfy.sd
import psutil
import torch
from comfy.ldm.wan.vae import WanVAE
from comfy_api.latest import InputImpl
from comfy_api.latest._util import VideoComponents

from ..backbone.demo import loader
from ..samplers.adapters import decode_file, video_file
from ..samplers.adapters.decoding import Decoding
from . import command
from .methods import METHODS, STEPS, WINDOW, sampling, tiny_wan

CLIP, FPS, CRF = 49, 16, 23  # CRF: x264's default, which core's Save Video leaves
SCALES = {"demo": [1, 3, 6, 25], "wan": [1, 3], "sampling": [1, 6, 25]}
SIZES = {"demo": (8, 8), "wan": (60, 104)}  # of a latent's picture
SHAPES = {"Wan 2.1": (60, 104), "CogVideoX-2B": (60, 90)}
SAMPLED = ("windows", "windows, 4 per call", "ABAM, cache gpu", "VMCR", "SynCoS")
RUNS = 3  # of each kind of sampling
MIB = 2**20


def parse(argv):
    parser = command.parser("scale", __doc__)
    parser.add_argument("--parts", nargs="+", default=list(SCALES), choices=list(SCALES))
    parser.add_argument("--scales", nargs="+", type=int, help=f"lengths in clips; default: {SCALES}")
    parser.add_argument("--write", action="store_true", help="write results/scale.md")
    parser.add_argument("--out", type=Path, help="write there instead")
    parser.add_argument("--one", help=argparse.SUPPRESS)  # JSON: what this process is to measure
    args = parser.parse_args(argv)
    if args.scales and min(args.scales) < 1:
        parser.error("--scales: at least 1")
    args.out = args.out or (command.RESULTS / "scale.md" if args.write else None)
    return args


class Memory:
    """The most that the process holds while this is entered, above what it held before. On Linux as the system notes
    it, without pages of files (libraries, which it drops and reads again as it likes); elsewhere by looking every 5 ms,
    which misses short peaks."""

    def __enter__(self):
        self.process, self.done = psutil.Process(), threading.Event()
        self.exact = self._forget()
        self.before = self.peak = self._held()
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()
        return self

    @staticmethod
    def _forget() -> bool:
        """Whether the system begins its note of the peak anew."""
        try:
            Path("/proc/self/clear_refs").write_text("5")
        except OSError:
            return False
        return True

    def _held(self, what="VmRSS") -> int:
        if not self.exact:
            return self.process.memory_info().rss
        lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
        found = {line[0]: 1024 * int(line[1]) for line in lines if line[0] in (f"{what}:", "RssFile:")}
        return found[f"{what}:"] - found["RssFile:"]

    def _watch(self):
        while not self.exact and not self.done.wait(0.005):
            self.peak = max(self.peak, self._held())

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()
        self.peak = max(self.peak, self._held("VmHWM"))

    @property
    def bytes(self) -> int:
        return self.peak - self.before


def latent_frames(scale: int) -> int:
    return (CLIP * scale - 1) // 4 + 1


def smooth(shape) -> torch.Tensor:
    """A latent whose pictures change slowly: random ones would be all that the encoder has to do."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, shape[1], max(2, shape[2] // 6), 3, 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, size=shape[2:], mode="trilinear")


def wide_vae() -> comfy.sd.VAE:
    torch.manual_seed(0)
    sizes = {"dim_mult": [1, 2, 4, 4], "num_res_blocks": 2, "attn_scales": []}
    net = WanVAE(dim=2, z_dim=16, temperal_downsample=[False, True, True], **sizes)
    return comfy.sd.VAE(sd=net.state_dict())


def streamed(vae, latent, folder: Path) -> Path:
    decoding, kind = Decoding(vae, latent), video_file.FORMATS["mp4 (h264)"]
    target = decode_file.Target(folder, "take", decode_file.digest(decoding, (), None), kind)
    return decode_file.decode(
        "scale", decoding, target, lambda: folder / "take.mp4", FPS, CRF, None, {}, lambda done: None)[0]


def by_core(vae, latent, folder: Path) -> Path:
    images = vae.decode(latent)
    images = images.reshape(-1, *images.shape[-3:])  # as VAE Decode
    InputImpl.VideoFromComponents(VideoComponents(images=images, frame_rate=FPS)).save_to(str(folder / "take.mp4"))
    return folder / "take.mp4"


WAYS = {"Decode to Video": streamed, "core": by_core}


def measured(run) -> dict:
    with torch.inference_mode(), Memory() as memory:
        wall, cpu = time.perf_counter(), time.process_time()
        run()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    return {"seconds": wall, "cpu": cpu, "bytes": memory.bytes}


def decode(part: str, way: str, scale: int) -> dict:
    vae = loader.load_vae() if part == "demo" else wide_vae()
    with tempfile.TemporaryDirectory() as folder:
        run = WAYS[way]
        with torch.inference_mode():
            run(vae, smooth((1, 16, 3, *SIZES[part])), Path(folder))  # what the first run alone needs
        latent = smooth((1, 16, latent_frames(scale), *SIZES[part]))
        found = measured(lambda: run(vae, latent, Path(folder)))
        return found | {"size": (Path(folder) / "take.mp4").stat().st_size}


def sample(shape: str, method: str, scale: int) -> dict:
    model, size = tiny_wan(), SHAPES[shape]
    with torch.inference_mode():
        sampling(METHODS[method], model, (1, 16, 10, *size))()
    latent = (1, 16, latent_frames(scale), *size)
    return measured(sampling(METHODS[method], model, latent)) | {"latent": 4 * math.prod(latent)}


def exponent(rows: dict[int, dict], what: str) -> float | None:
    """Of the growth with length, between the two longest."""
    if len(rows) < 2:
        return None
    a, b = sorted(rows)[-2:]
    return math.log(rows[b][what] / rows[a][what]) / math.log(latent_frames(b) / latent_frames(a))


def table(title: str, scales, rows: dict, figures) -> list[str]:
    """A line per row of rows {name: {scale: figures}}; figures(row, scale) -> text."""
    head = ["", f"## {title}", "", f"| | {' | '.join(f'x{s}' for s in scales)} | exponent of the processor's time |"]
    lines = [*head, "|" + "---|" * (len(scales) + 2)]
    for name, row in rows.items():
        power = exponent(row, "cpu")
        cells = [figures(row, s) for s in scales]
        lines.append(f"| {name} | {' | '.join(cells)} | {'' if power is None else f'{power:.2f}'} |")
    return lines


def seconds_and_memory(row, scale) -> str:
    found = row[scale]
    return f"{found['seconds']:.1f} s ({found['cpu']:.1f}), {found['bytes'] / MIB:.0f} MiB"


def decoded_lines(part: str, scales, rows) -> list[str]:
    height, width = (8 * side for side in SIZES[part])
    lines = table(f"Decode into a file, {part}: {height} x {width}", scales, rows, seconds_and_memory)
    ours, core = rows["Decode to Video"], rows["core"]
    ratio = {s: {k: ours[s][k] / core[s][k] for k in ("seconds", "cpu", "size")} for s in scales}
    ratios = [f"x{s} {ratio[s]['seconds']:.2f} ({ratio[s]['cpu']:.2f})" for s in scales]
    growth = (ours[max(scales)]["bytes"] - ours[min(scales)]["bytes"]) / MIB
    sizes = [f"x{s} {ratio[s]['size']:.2f}" for s in scales]
    said = (
        f"Decode to Video / core, seconds (processor's): {', '.join(ratios)}. Peak of Decode to Video, x{max(scales)} "
        f"less x{min(scales)}: {round(growth):+d} MiB. Size of the file against core's: {', '.join(sizes)}."
    )
    return [*lines, "", said]


def sampled_lines(scales, rows) -> list[str]:
    def figures(row, scale):
        found = row[scale]
        return f"{found['seconds']:.1f} s ({found['cpu']:.1f}), {found['bytes'] / found['latent']:.1f} latents"

    title = f"Sampling, {STEPS} steps, windows of {WINDOW} frames, CFG; the quickest of {RUNS} runs"
    return table(f"{title}; peak in long latents", scales, rows, figures)


def child(*what) -> dict:
    found = command.child("scale", "--one", json.dumps(what))
    print(*what, {k: round(v, 3) for k, v in found.items()}, flush=True)
    return found


def quickest(*what) -> dict:
    """Of RUNS: seconds are few here, and one run's differ by 15 %."""
    return min((child(*what) for _ in range(RUNS)), key=lambda found: found["cpu"])


def main(argv=None):
    args = parse(argv)
    if args.one:
        part, *what = json.loads(args.one)
        print(json.dumps(sample(*what) if part == "sampling" else decode(part, *what)))
        return
    words = ["--parts", *args.parts, *(["--scales", *map(str, args.scales)] if args.scales else []), "--write"]
    lines = [
        "# Length: time and memory", "", f"Written by `{command.line('scale', *words)}` (torch {torch.__version__}, "
        f"Python {platform.python_version()}, {psutil.cpu_count()} processors). Seconds, in brackets the processor's "
        "of all threads, and the peak of the process's memory above what it held before.",
    ]  # fmt: skip
    for part in args.parts:
        scales = sorted(set(args.scales or SCALES[part]))
        if part == "sampling":
            names = [(shape, method) for shape in SHAPES for method in SAMPLED]
            rows = {", ".join(name): {s: quickest(part, *name, s) for s in scales} for name in names}
            lines += sampled_lines(scales, rows)
        else:
            rows = {way: {s: child(part, way, s) for s in scales} for way in WAYS}
            lines += decoded_lines(part, scales, rows)
    text = "\n".join(lines) + "\n"
    print(text)
    if args.out:
        args.out.write_text(text, encoding="utf-8")
