"""Peak memory of every method beyond the latent, by allocation, and what holds it.

    COMFYUI_PATH=... python -m benchmarks memory [--methods windows VMCR] [--scales 1 6 20] [--sites]
"""

import argparse
import gc
import sys
import time

import torch

from . import allocations
from .methods import LENGTH, METHODS, sampling, tiny_wan

SIZE = (60, 104)  # latent pixels: 480 x 832
SITES = 12


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS), metavar="NAME")
    parser.add_argument("--scales", type=int, nargs="+", default=[1, 6, 20], help="lengths in windows")
    parser.add_argument("--sites", action="store_true", help="print the lines that hold memory at the peak")
    return parser.parse_args(argv)


def measure(name: str, scale: int, model) -> tuple[allocations.Peak, int]:
    """The peak of one run, and the bytes of its latent."""
    shape = (1, 16, scale * LENGTH, *SIZE)
    run = sampling(METHODS[name], model, shape)
    gc.collect()
    gc.disable()  # memory must not wait for Python's collector
    try:
        return allocations.measure(run, model.load_device), 4 * torch.Size(shape).numel()
    finally:
        gc.enable()


def main(argv=None):
    args = parse(argv)
    model = tiny_wan()
    for name in args.methods:
        for scale in args.scales:
            begin = time.perf_counter()
            peak, latent = measure(name, scale, model)
            print(f"{name:36} x{scale:<3} {peak.bytes / 2**20:8.1f} MiB = {peak.bytes / latent:6.2f} latents of "
                  f"{latent / 2**20:.1f} MiB  ({time.perf_counter() - begin:.1f} s)", flush=True)
            if args.sites:
                for stack, size in list(peak.sites.items())[:SITES]:
                    print(f"  {size / latent:6.2f} {size / 2**20:8.1f} MiB  {' < '.join(stack[:6])}", flush=True)
