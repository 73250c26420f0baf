"""Kept runs in processes of their own, which end in the middle."""

import itertools
import os
import signal

import comfy.samplers
import folder_paths
import torch
from longtake.samplers.adapters import run_files, run_folders
from longtake.samplers.adapters.checkpoint import CheckpointSettings
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.syncos.coupling import SynCoSSettings

from .kept_runs import EVERY, sample, wan
from .windows import windowed

SAMPLER = "dpmpp_2m"
LONG = 12
WAYS = {
    "euler_ancestral": lambda: "euler_ancestral", "dpmpp_3m_sde": lambda: "dpmpp_3m_sde", "uni_pc": lambda: "uni_pc",
    "vmcr": lambda: refine_sampler(comfy.samplers.sampler_object("heun"), RefineSettings(omega=1e-3)),
    "syncos": lambda: syncos_sampler(SynCoSSettings(t_min=0.0, max_coupled=4, iters=3, chunks=2)),
}  # fmt: skip


def long_model():
    return windowed(wan(), schedule="random_shift", shift_seed=1)


def at(output):
    torch.set_num_threads(1)
    folder_paths.output_directory = str(output)


def way(output, name, every, begun):
    at(output)
    model = long_model()
    begun.set()
    sample(model, WAYS[name](), frames=LONG, settings=CheckpointSettings(every=every))


def killed_before(output, what, number):
    """Killed before os.`what` is called for the number-th time, from 0 on."""
    at(output)
    real, count = getattr(os, what), itertools.count()

    def call(*args, **kwargs):
        if next(count) == number:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(*args, **kwargs)

    model = wan()
    setattr(os, what, call)
    sample(model, SAMPLER, settings=EVERY)


def on_a_full_disk(output):
    import resource

    at(output)
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # what a file may have
    sample(wan(), SAMPLER, settings=EVERY)


def holding(run, held, done):
    """Another server in the middle of this run."""
    with run_folders.locked(run) as ours:
        if ours:
            held.set()
        done.wait(600)


def writing(folder, begun):
    """Writes one file of a run over and over."""
    tensors = {"a": torch.zeros(2**24)}
    while True:
        run_files.write(folder, "call-00000.safetensors", tensors, {})
        begun.set()
