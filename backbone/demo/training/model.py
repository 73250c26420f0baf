"""Train the demo video model: ComfyUI's own WanModel (dim 256, 6 layers, 2 heads) with flow matching on told latents.

    COMFYUI_PATH=... python -m backbone.demo.training.model --out runs/model --minutes 240

(from the repository's root). Scenes and prompts are drawn anew at every step and tell their latents
(`latent.py`); no VAE is needed. Some prompts name everything, some leave attributes open, some are empty (for
guidance).
"""

import functools
import random

import torch

from .. import latent, world
from . import common

CONFIG = dict(model_type="t2v", dim=256, ffn_dim=1024, freq_dim=256, text_dim=4096, num_heads=2, num_layers=6,
              in_dim=16, out_dim=16)
TRAIN_SHIFT = 2.0  # of the noise levels that training draws
HELD_OUT = set(world.held_out())


def training_scene(rng: random.Random) -> world.Scene:
    """A random scene, of none of the held-out combinations."""
    while True:
        scene = world.sample_scene(rng)
        if (scene.colour, scene.shape, scene.motion, scene.background) not in HELD_OUT:
            return scene


def training_prompt(rng: random.Random, named: tuple[str, ...]) -> str:
    """Half of the prompts name everything, most others leave each attribute open with 40 %, 10 % are empty."""
    kind = rng.random()
    if kind < 0.1:
        return ""
    if kind < 0.6:
        return world.prompt(*named)
    return world.prompt(*(n if rng.random() > 0.4 else None for n in named))


def drawn(rng: random.Random, args) -> tuple[torch.Tensor, list[str]]:
    """Latents [B, 16, n + 1, 8, 8] of new scenes, 4n + 1 frames each, and prompts: whole clips or more, short ones."""
    short = rng.random() < args.short
    latents, prompts = [], []
    for _ in range((args.batch or 16) * (4 if short else 1)):
        scene = training_scene(rng)
        latents.append(latent.of_clip(scene, 9 if short else world.FRAMES))
        prompts.append(training_prompt(rng, (scene.colour, scene.shape, scene.motion, scene.background)))
    return torch.stack(latents), prompts


def loss_weight(near: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Where the loss counts: near [B, 1, n, h, w], sigma [B, 1, 1, 1, 1].

    Less below sigma 0.25, where the noise left in the latent is hardly seen and would be most of the loss; more near
    the subject; more on the first latent frame, which is one pixel frame unlike all others.
    """
    first = torch.zeros(near.shape[2], device=near.device)
    first[0] = 1
    return (sigma / 0.25).square().clamp_max(1) * (1 + 2 * near) * (1 + 2 * first.view(1, 1, -1, 1, 1))


def optimizers(model, lr: float) -> list:
    """Muon for the blocks' matrices, AdamW for everything else."""
    matrices = [p for n, p in model.named_parameters() if n.startswith("blocks.") and p.ndim == 2]
    ids = {id(p) for p in matrices}
    rest = [p for p in model.parameters() if id(p) not in ids]
    return [torch.optim.Muon(matrices, lr=lr, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(rest, lr=lr, weight_decay=0.0, betas=(0.9, 0.98))]


def initialise(model) -> None:
    """Core's layers leave their weights unset; a zero head starts from the prediction 0."""
    for name, p in model.named_parameters():
        if p.ndim > 1 and "modulation" not in name:
            torch.nn.init.xavier_uniform_(p.flatten(1))
        elif "modulation" in name:
            torch.nn.init.normal_(p, std=model.dim ** -0.5)
        elif "norm" in name and name.endswith("weight"):
            torch.nn.init.ones_(p)
        else:
            torch.nn.init.zeros_(p)
    torch.nn.init.zeros_(model.head.head.weight)


def main() -> None:
    parser = common.start(__doc__.splitlines()[0])
    parser.add_argument("--short", type=float, default=0.5,
                        help="share of steps on the first 9 frames of four times as many clips: how a shape looks is "
                        "learned from many scenes, how it moves from long ones")
    parser.add_argument("--save-every", type=int, default=500, help="steps")
    parser.add_argument("--ema", type=float, default=0.999)
    args = parser.parse_args()
    common.begin(args)
    import comfy.ops
    from comfy.ldm.wan.model import WanModel
    from safetensors.torch import load_file

    from .. import loader, text

    table = loader.read("text.safetensors")["embedding"].float()

    model = WanModel(**CONFIG, operations=comfy.ops.disable_weight_init, dtype=torch.float32, device="cpu")
    initialise(model)
    if args.init and not (args.out / "checkpoint.pt").exists():
        model.load_state_dict({k: v.float() for k, v in load_file(args.init).items()})
    model.to(args.device)
    run = common.Run(args, model, optimizers(model, args.lr or 1e-3), keep=("patch_embedding",), ema=args.ema,
                     kind="video model")
    run.load()
    source = common.batches(functools.partial(drawn, args=args), args, run.step)
    log = []
    for step in run.steps():
        x0, prompts = next(source)
        count = len(x0)
        context = torch.nn.functional.pad(text.encode(table, prompts), (0, CONFIG["text_dim"] - table.shape[1]))
        x0, context = x0.to(args.device), context.to(args.device)
        near = latent.near_subject(x0)
        u = (torch.arange(count, device=x0.device) + torch.rand(count, device=x0.device)) / count  # stratified
        sigma = TRAIN_SHIFT * u / (1 + (TRAIN_SHIFT - 1) * u)
        noise = torch.randn_like(x0)
        s = sigma.view(-1, 1, 1, 1, 1)
        v = run.fast(((1 - s) * x0 + s * noise).bfloat16(), sigma * 1000, context.bfloat16())
        error = (v.float() - (noise - x0)).square()
        run.update((error * loss_weight(near, s)).mean())
        if x0.shape[2] > 3:
            log.append([error.mean().item(), (error * s**2 * near).mean().item() / near.mean().item()])
        if (step + 1) % 100 == 0 and log:
            mean = torch.tensor(log[-50:]).mean(0)
            print(f"step {step + 1} {run.spent / 60:.1f} min loss {mean[0]:.4f} x0 near {mean[1]:.4f}", flush=True)
        if (step + 1) % args.save_every == 0:
            run.save()
            export(run, args)
    run.save()
    export(run, args)


def export(run, args) -> None:
    weights = {k: v.half() for k, v in run.ema.module.state_dict().items()}
    common.save_weights(weights, args.out / "video_model.safetensors")


if __name__ == "__main__":
    main()
