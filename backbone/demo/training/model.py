"""Train the demo video model: ComfyUI's own WanModel (dim 256, 6 layers, 2 heads) with flow matching on VAE latents.

    COMFYUI_PATH=... python -m backbone.demo.training.model --out runs/model --vae backbone/demo/vae.safetensors

(from the repository's root). Clips are encoded once into a pool that keeps growing while training runs. Prompts are
drawn anew at every step: some name everything, some leave attributes open, some are empty (for guidance).
"""

import copy
import random

import torch

from .. import world
from ..worlds import WORLDS
from . import align_preview, clips, common

CONFIG = dict(model_type="t2v", dim=256, ffn_dim=1024, freq_dim=256, text_dim=4096, num_heads=2, num_layers=6,
              in_dim=16, out_dim=16)
TRAIN_SHIFT = 2.0  # of the noise levels that training draws
SHAPE_WEIGHT = 16.0  # how much more the error counts along what makes the shape; falls to 0 at the end
DRAWN = {"spinning": 2.0, "pulsing": 2.0}  # how often clips of a motion are drawn; these are learned last
HELD_OUT = set(world.held_out())


def training_scene(shown, rng: random.Random):
    """A random scene of the world `shown`, of none of the held-out combinations."""
    while True:
        scene = shown.sample_scene(rng)
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


def other_shape(scene: world.Scene, rng: random.Random) -> world.Scene:
    """The same scene with another shape, where that is no held-out combination either."""
    shapes = [s for s in world.SHAPES
              if s != scene.shape and (scene.colour, s, scene.motion, scene.background) not in HELD_OUT]
    return world.change(scene, shape=rng.choice(shapes))


class Pool:
    """Encoded training clips: normalised latents [N, 16, T, 8, 8] in half precision, and what a prompt may name.

    Clips 2i and 2i + 1 are one scene with two shapes.
    """

    def __init__(self, name: str, vae, device: str, seed: int, frames: int, workers: int = 0):
        self.name, self.workers = name, workers  # the world; processes that render it
        self.vae, self.device, self.rng, self.frames = vae, device, random.Random(seed), frames
        self.latents, self.named = torch.empty(0, 16, (frames + 3) // 4, 8, 8, dtype=torch.half), []

    def state(self) -> dict:
        return {"latents": self.latents, "named": self.named}

    def load(self, state: dict) -> None:
        self.latents, self.named = state["latents"], [tuple(n) for n in state["named"]]
        self.rng.seed(len(self.named))

    @torch.no_grad()
    def grow(self, count: int) -> None:
        from comfy.latent_formats import Wan21

        from . import parallel_vae

        drawn = [training_scene(WORLDS[self.name].world, self.rng) for _ in range(count // 2)]
        scenes = [s for scene in drawn for s in (scene, other_shape(scene, self.rng))]
        videos = clips.render(self.name, scenes, [0.0] * len(scenes), self.frames, self.workers)
        new = [parallel_vae.encode(self.vae, clips.normalised(part.to(self.device)).bfloat16()).float()
               for part in videos.split(16)]
        self.latents = torch.cat([self.latents, *(Wan21().process_in(raw).half().cpu() for raw in new)])
        self.named += [(s.colour, s.shape, s.motion, s.background) for s in scenes]

    def batch(self, rng: random.Random, count: int) -> tuple[torch.Tensor, list[str], torch.Tensor]:
        """Latents, prompts, and what makes the shape: latents minus the same scene's with the other shape, or 0 where
        the prompt leaves the shape open."""
        chosen = rng.choices(range(len(self.named)), [DRAWN.get(n[2], 1.0) for n in self.named], k=count)
        prompts = [training_prompt(rng, self.named[i]) for i in chosen]
        x0 = self.latents[chosen].float()
        told = torch.tensor([self.named[i][1] in p.split() for i, p in zip(chosen, prompts, strict=True)])
        return x0, prompts, (x0 - self.latents[[i ^ 1 for i in chosen]].float()) * told.view(-1, 1, 1, 1, 1)


def shape_error(error: torch.Tensor, difference: torch.Tensor) -> torch.Tensor:
    """The part of the error [B, 16, T, h, w] along what makes the shape, squared, per latent frame: [B, T].

    A square differs from a disc by four corners: so small a part of the loss that it would be learned long after
    everything else. This part counts SHAPE_WEIGHT times more.
    """
    direction = torch.nn.functional.normalize(difference.transpose(1, 2).flatten(2), dim=-1)
    return (error.transpose(1, 2).flatten(2) * direction).sum(-1).square()


def loss_weight(x0: torch.Tensor, sigma: torch.Tensor) -> torch.Tensor:
    """Where the loss counts: x0 [B, 16, T, h, w], sigma [B, 1, 1, 1, 1].

    Less below sigma 0.4, which the decoder forgives (see vae.py) and which would be most of the loss; more on the
    subject, found as what differs from its frame's median; more on the first latent frame, which is one pixel frame
    unlike all others.
    """
    median = x0.flatten(3).median(-1).values[..., None, None]
    subject = (x0 - median).abs().mean(1, keepdim=True) > 0.8
    first = torch.zeros(x0.shape[2], device=x0.device)
    first[0] = 1
    return (sigma / 0.4).square().clamp_max(1) * (1 + 3 * subject) * (1 + 2 * first.view(1, 1, -1, 1, 1))


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


@torch.no_grad()
def turned(weights: dict, old, new, name: str) -> dict:
    """The video model `weights`, trained on the VAE `old`, for latents of the VAE `new`.

    Turned by the rotation that brings the old latents of the same clips closest to the new ones: noise stays noise.
    """
    from comfy.latent_formats import Wan21

    from . import parallel_vae

    vaes = [copy.deepcopy(v).float().cpu() for v in (new, old)]
    source, rng, pairs = clips.Source(name, 0, "cpu"), random.Random("turned"), []
    for _ in range(24):
        clip = source.batch(rng, 1, 17)
        pairs.append([Wan21().process_in(parallel_vae.encode(v, clip)).float()[0].flatten(1)
                      for v in vaes])
    z, before = (torch.cat(part, 1) for part in zip(*pairs, strict=True))  # [16, places]
    r = align_preview.procrustes(z, before)
    unexplained = (z - r @ before).square().mean() / z.square().mean()
    print(f"turned the first weights' latents: {1 - unexplained:.0%} of the new ones explained", flush=True)
    return align_preview.rotate_model(weights, r)


def main() -> None:
    parser = common.start(__doc__.splitlines()[0])
    parser.add_argument("--vae", type=common.Path, default=common.HERE / "vae.safetensors")
    parser.add_argument("--clips", type=int, default=8000, help="size that the pool of clips grows to")
    parser.add_argument("--short", type=float, default=0.5,
                        help="share of steps on the first 9 frames of four times as many clips: how a shape looks is "
                        "learned from many scenes, how it moves from long ones")
    parser.add_argument("--init-vae", type=common.Path, help="the VAE that --init was trained on, if another")
    parser.add_argument("--save-every", type=int, default=500, help="steps")
    parser.add_argument("--ema", type=float, default=0.999)
    args = parser.parse_args()
    common.begin(args)
    import comfy.ops
    from comfy.ldm.wan.model import WanModel
    from safetensors.torch import load_file, save_file

    from .. import text

    vae = common.new_vae(load_file(args.vae)).to(args.device).bfloat16()
    pools = {name: Pool(args.world, vae, args.device, args.seed + i, frames, args.workers)
             for i, (name, frames) in enumerate({"long": world.FRAMES, "short": 9}.items())}
    table = load_file(common.HERE / "text.safetensors")["embedding"].float()

    model = WanModel(**CONFIG, operations=comfy.ops.disable_weight_init, dtype=torch.float32, device="cpu")
    initialise(model)
    if args.init and not (args.out / "checkpoint.pt").exists():
        weights = {k: v.float() for k, v in load_file(args.init).items()}
        if args.init_vae:
            weights = turned(weights, common.new_vae(load_file(args.init_vae)), vae, args.world)
        model.load_state_dict(weights)
    model.to(args.device)
    run = common.Run(args, model, optimizers(model, args.lr or 1e-3), keep=("patch_embedding",), ema=args.ema)
    run.load()
    rng = random.Random(args.seed * 1000003 + run.step)
    saved = args.out / "latents.pt"
    if saved.exists():
        for name, state in torch.load(saved, weights_only=True).items():
            pools[name].load(state)
    first, at_once = (args.clips, args.clips) if args.workers else (min(args.clips, 512), 16)
    for pool in pools.values():
        while len(pool.named) < first:
            pool.grow(min(at_once, first - len(pool.named)))
    log, shape_log = [], []
    for step in run.steps():
        name = "short" if rng.random() < args.short else "long"
        pool = pools[name]
        if len(pool.named) < args.clips and step % 4 == 0:
            pool.grow(16)
        count = (args.batch or 16) * (4 if name == "short" else 1)
        x0, prompts, difference = pool.batch(rng, count)
        context = torch.nn.functional.pad(text.encode(table, prompts), (0, CONFIG["text_dim"] - table.shape[1]))
        x0, context, difference = x0.to(args.device), context.to(args.device), difference.to(args.device)
        u = (torch.arange(count, device=x0.device) + torch.rand(count, device=x0.device)) / count  # stratified
        sigma = TRAIN_SHIFT * u / (1 + (TRAIN_SHIFT - 1) * u)
        noise = torch.randn_like(x0)
        s = sigma.view(-1, 1, 1, 1, 1)
        v = run.fast(((1 - s) * x0 + s * noise).bfloat16(), sigma * 1000, context.bfloat16())
        error = v.float() - (noise - x0)
        weight = loss_weight(x0, s)
        along = shape_error(error, difference) * weight.amin((1, 3, 4))
        shape_weight = SHAPE_WEIGHT * min(1.0, 4 * (1 - run.spent / (args.minutes * 60)))
        error = error.square()
        loss = (error * weight).mean() + shape_weight * along.mean() / error[0, :, 0].numel()
        run.update(loss)
        shape_log.append(along.mean().item())
        if name == "long":
            log.append(error.mean().item())
        if (step + 1) % 100 == 0:
            print(f"step {step + 1} {run.spent / 60:.1f} min loss {sum(log[-100:]) / max(len(log[-100:]), 1):.4f}"
                  f" shape {sum(shape_log[-100:]) / 100:.3f}"
                  f" clips {[len(p.named) for p in pools.values()]}", flush=True)
        if (step + 1) % args.save_every == 0:
            run.save({})
            torch.save({name: pool.state() for name, pool in pools.items()}, saved)
            export(run, args, save_file)
    run.save({})
    export(run, args, save_file)


def export(run, args, save_file) -> None:
    weights = {k: v.detach().half().contiguous().cpu() for k, v in run.ema.module.state_dict().items()}
    save_file(weights, args.out / "video_model.safetensors")


if __name__ == "__main__":
    main()
