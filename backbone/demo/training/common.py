"""What both training scripts share: ComfyUI on the path, batches, bf16, EMA, learning rate, Muon, checkpoints that
resume."""

import argparse
import copy
import math
import os
import pickle
import random
import sys
import time
from pathlib import Path

import torch

HERE = Path(__file__).resolve().parents[1]  # the demo model's folder


def start(description: str) -> argparse.ArgumentParser:
    """Arguments that both scripts take. Training needs a ComfyUI (COMFYUI_PATH): its classes are what is trained."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and weights")
    parser.add_argument("--init", type=Path, help="weights to start from (safetensors)")
    parser.add_argument("--minutes", type=float, default=60,
                        help="length in all, resumed time included; core-minutes on a CPU, so that other work on the "
                        "machine does not shorten the training")
    parser.add_argument("--threads", type=int, default=0, help="of a CPU; 0: as many as there are cores")
    parser.add_argument("--workers", type=int, default=0, help="processes that draw batches ahead; one core has "
                        "no use for them, drawing is a small part of its work")
    parser.add_argument("--lr", type=float)
    parser.add_argument("--batch", type=int)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser


def begin(args) -> None:
    if args.threads:
        torch.set_num_threads(args.threads)
    torch.manual_seed(args.seed)
    comfy_on_path()


def comfy_on_path() -> None:
    sys.path.insert(0, os.environ["COMFYUI_PATH"])
    from comfy.cli_args import args

    args.use_pytorch_cross_attention = True
    args.cpu = not torch.cuda.is_available()


def new_vae(weights: dict | None = None, dim: int = 16) -> torch.nn.Module:
    """The demo model's VAE: ComfyUI's WanVAE in float32, its weights unset unless given (then they also tell `dim`)."""
    from comfy.ldm.wan.vae import WanVAE

    if weights:
        dim = weights["decoder.head.0.gamma"].shape[0]
    vae = WanVAE(dim=dim, z_dim=16, dim_mult=[1, 2, 4, 4], num_res_blocks=2, attn_scales=[],
                 temperal_downsample=[False, True, True])
    if weights:
        vae.load_state_dict({k: v.float() for k, v in weights.items()})
    return vae


def save_weights(weights: dict, path: Path) -> None:
    """Write a safetensors file at once: whoever reads it sees the old one or the new one."""
    from safetensors.torch import save_file

    part = path.with_suffix(".part")
    save_file({k: v.detach().contiguous().cpu() for k, v in weights.items()}, part)
    part.replace(path)


def channels_last(module: torch.nn.Module) -> torch.nn.Module:
    """The same module with its convolutions' weights laid out as a CPU computes them fastest."""
    for p in module.parameters():
        if p.ndim in (4, 5):
            p.data = p.data.contiguous(memory_format=torch.channels_last if p.ndim == 4 else torch.channels_last_3d)
    return module


class Batches(torch.utils.data.IterableDataset):
    """make(rng) over and over; each worker draws numbers of its own."""

    def __init__(self, make, seed: int):
        self.make, self.seed = make, seed

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(f"{self.seed}, worker {worker.id if worker else 0}")
        while True:
            yield self.make(rng)


def batches(make, args, step: int):
    """What make(rng) gives, without end, from `step` on."""
    return iter(torch.utils.data.DataLoader(Batches(make, args.seed * 1000003 + step), batch_size=None,
                                            num_workers=args.workers))


class Muon(torch.optim.Optimizer):
    """Muon for matrices and convolutions, whose kernels count as inputs; steps have AdamW's usual size (RMS 0.2)."""

    def __init__(self, params, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(params, dict(lr=lr, momentum=momentum, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["mean"] = torch.zeros_like(p)
                state["mean"].lerp_(p.grad, 1 - group["momentum"])
                change = orthogonal(p.grad.lerp(state["mean"], group["momentum"]).flatten(1))
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.sub_(change.view(p.shape), alpha=0.2 * group["lr"] * max(change.shape) ** 0.5)


def orthogonal(x: torch.Tensor) -> torch.Tensor:
    """Roughly the orthogonal matrix nearest to x [m, n]: five Newton-Schulz steps."""
    a, b, c = 3.4445, -4.7750, 2.0315
    wide = x.T if x.shape[0] > x.shape[1] else x
    wide = wide / wide.norm().clamp_min(1e-7)
    for _ in range(5):
        square = wide @ wide.T
        wide = a * wide + (b * square + c * square @ square) @ wide
    return wide.T if x.shape[0] > x.shape[1] else wide


class Run:
    """Clock, learning rate, EMA and checkpoint of one training; `steps()` yields until the time is used up.

    `model` holds the float32 weights that the optimizers change; `fast` is its bf16 twin that computes (quicker
    than autocast on a CPU, which converts over and over). Layers named in `keep` stay float32 in the twin. `kind` tells
    trainings apart: a folder resumes its own alone.
    """

    def __init__(self, args, model: torch.nn.Module, optimizers: list, keep: tuple[str, ...] = (),
                 warmup: float = 0.02, ema: float = 0.998, kind: str = ""):
        self.args, self.model, self.optimizers, self.warmup, self.kind = args, model, optimizers, warmup, kind
        # short at first, or the weights of the beginning weigh on a short run
        self.ema = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=lambda averaged, now, count: (
            torch._foreach_lerp_(averaged, now, 1 - min(ema, float(count + 1) / float(count + 10)))))
        self.base = [[g["lr"] for g in o.param_groups] for o in optimizers]
        self.step, self.spent = 0, 0.0
        self.fast = channels_last(copy.deepcopy(model).bfloat16())
        self.clock = time.time if args.device.startswith("cuda") else time.process_time
        for name in keep:
            self.fast.get_submodule(name).float()
        self.path = args.out / "checkpoint.pt"
        args.out.mkdir(parents=True, exist_ok=True)

    def load(self) -> None:
        if not self.path.exists():
            return
        try:
            state = torch.load(self.path, map_location="cpu", weights_only=True)
        except (RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
            raise SystemExit(f"{self.path} is damaged ({error}): move it away to start anew, with --init from the "
                             "weights that were written beside it.") from error
        if state.get("kind") != self.kind:
            raise SystemExit(f"{self.path} is of another training ({state.get('kind')}, not {self.kind}): "
                             "give another --out.")
        self.model.load_state_dict(state["model"])
        self.ema.load_state_dict(state["ema"])
        for o, s in zip(self.optimizers, state["optimizers"], strict=True):
            o.load_state_dict(s)
        self.step, self.spent = state["step"], state["spent"]
        torch.manual_seed(self.args.seed + self.step)
        self.copy_weights()

    def save(self) -> None:
        part = self.path.with_suffix(".part")
        torch.save({"model": self.model.state_dict(), "ema": self.ema.state_dict(), "step": self.step,
                    "optimizers": [o.state_dict() for o in self.optimizers], "spent": self.spent,
                    "kind": self.kind}, part)
        part.replace(self.path)

    def steps(self):
        while self.spent < self.args.minutes * 60:
            self.begin = self.clock()
            done = self.spent / (self.args.minutes * 60)
            scale = min(1.0, (done + 1e-3) / self.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
            for o, lrs in zip(self.optimizers, self.base, strict=True):
                for g, lr in zip(o.param_groups, lrs, strict=True):
                    g["lr"] = lr * scale
            yield self.step
            self.tick()
        print(f"step {self.step}, {self.spent / 60:.1f} of {self.args.minutes:g} min: done", flush=True)

    def tick(self) -> None:
        now = self.clock()
        self.spent, self.begin = self.spent + now - self.begin, now

    def update(self, loss: torch.Tensor, clip: float = 1.0) -> None:
        loss.backward()
        for slow, fast in zip(self.model.parameters(), self.fast.parameters(), strict=True):
            slow.grad = None if fast.grad is None else fast.grad.float()
            fast.grad = None
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), clip)
        for o in self.optimizers:
            o.step()
        self.ema.update_parameters(self.model)
        self.copy_weights()
        self.step += 1  # here, so that what is saved in a step has it
        self.tick()

    @torch.no_grad()
    def copy_weights(self) -> None:
        torch._foreach_copy_(list(self.fast.parameters()), list(self.model.parameters()))
