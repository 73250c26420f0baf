"""What VMCR costs per sampling step: time, memory, and operations against one step of a Wan-1.3B-sized model.

    COMFYUI_PATH=... python -m benchmarks vmcr [--frames 1000] [--threads 1]

Both sides count operations on the same latent. The model: windows of 21 latent frames without overlap and one CFG
branch, the least that a step over so many frames can take. VMCR: two FFTs and two inverse FFTs per motion vector at
2.5 n log2 n, and ELEMENTWISE operations per value for the rest. A share of time follows from the speed of a matrix
product on this machine, as if the model ran at that speed throughout. Memory: one process per length, what it needs
above x, which it refines in place, and x0, both of which a sampler holds anyway.
"""

import argparse
import json
import math
import resource
import sys
import time

import psutil
import torch

from ..samplers.adapters.vmcr import RefineSettings, refine_
from . import command

CHANNELS, HEIGHT, WIDTH = 16, 60, 104  # 480 x 832 pixels
WINDOW = 21  # latent frames, Wan's clip
LAYERS, DIM, FFN, TEXT = 30, 1536, 8960, 512  # Wan 2.1 1.3B
ELEMENTWISE = 80  # rounded up: norms, products, amplitudes, angle, signs, complex factors, sums


def model_operations(frames: int) -> float:
    """Multiply-adds counted twice; tokens are 2 x 2 latent pixels of one latent frame."""
    per_frame = (HEIGHT // 2) * (WIDTH // 2)
    tokens = frames * per_frame
    linear = 2 * (6 * DIM**2 + 2 * DIM * FFN)  # q k v o of self-attention, q o of cross-attention, feed-forward
    attention = 4 * DIM * (WINDOW * per_frame + TEXT)
    text = frames / WINDOW * TEXT * 2 * 2 * DIM**2  # k v of cross-attention
    return LAYERS * (tokens * (linear + attention) + text)


def vmcr_operations(frames: int) -> float:
    values = (frames - 2) * CHANNELS * HEIGHT * WIDTH
    return values * (4 * 2.5 * math.log2(HEIGHT * WIDTH) + ELEMENTWISE)


def peak_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def matrix_speed() -> float:
    """Operations per second of a float32 matrix product."""
    a, seconds = torch.randn(2048, 2048), []
    for _ in range(4):
        start = time.perf_counter()
        a @ a
        seconds.append(time.perf_counter() - start)
    return 2 * 2048**3 / min(seconds)


def measure(frames: int) -> dict:
    """One refinement in this process: its seconds, and the peak above the two latents that a sampler has anyway."""
    x, x0 = (torch.randn(1, CHANNELS, frames, HEIGHT, WIDTH) for _ in range(2))
    refine_(x[:, :, :4].clone(), x0[:, :, :4], RefineSettings(), None)  # FFT plans, threads
    before, start = psutil.Process().memory_info().rss / 2**20, time.perf_counter()
    with torch.inference_mode():
        refine_(x, x0, RefineSettings(), None)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "latent": x.nbytes / 2**20, "memory": peak_mib() - before}


def main(argv=None):
    parser = command.parser("vmcr", __doc__)
    parser.add_argument("--frames", type=int, nargs="+", default=[21, 100, 1000], help="latent frames")
    parser.add_argument("--threads", type=int, help="CPU threads")
    parser.add_argument("--case", type=int, help=argparse.SUPPRESS)  # a child process: one length, one peak
    args = parser.parse_args(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.case:
        print(json.dumps(measure(args.case)))
        return
    speed = matrix_speed()
    print(
        f"latents {CHANNELS} x F x {HEIGHT} x {WIDTH}, float32, CPU, {torch.get_num_threads()} threads, torch "
        f"{torch.__version__}, matrix product {speed / 1e9:.0f} GFLOP/s\n\n"
        "| latent frames | VMCR s | latent MiB | VMCR MiB | VMCR GFLOP | model TFLOP | share | of time |\n"
        "|---|---|---|---|---|---|---|---|"
    )
    for frames in args.frames:
        row = command.child("vmcr", "--case", str(frames), "--threads", str(torch.get_num_threads()))
        ours, model = vmcr_operations(frames), model_operations(frames)
        print(
            f"| {frames} | {row['seconds']:.1f} | {row['latent']:.0f} | {row['memory']:.0f} | {ours / 1e9:.1f} | "
            f"{model / 1e12:.0f} | {ours / model:.1e} | {row['seconds'] * speed / model:.1e} |"
        )
        if ours >= 0.01 * model:
            raise SystemExit("VMCR takes 1 % or more of a step")

