"""Train the demo model's video VAE: ComfyUI's own WanVAE on clips of the small world.

    COMFYUI_PATH=... python -m backbone.demo.training.vae --out runs/vae --minutes 60

(from the repository's root). `--batch` counts pixel frames, of clips of several lengths: many short ones show the
decoder more scenes for the same work. The latent gets noise of up to `--noise` standard deviations before it is
decoded: so the encoder spreads what matters over robust, low-frequency numbers, and the decoder forgives the errors
that a small video model makes.
"""

import functools
import math
import random

import torch

from . import clips, common


def cheap_norm(self, x: torch.Tensor) -> torch.Tensor:
    """RMS_norm with one multiplication in place of F.normalize's division, which took 31 % of a profiled step."""
    return x * (x.square().sum(1, keepdim=True).clamp_min(1e-24).rsqrt() * self.scale) * self.gamma.to(x)


def fused_norm():
    """cheap_norm as one compiled loop over rows of channels, as convolutions on a CPU lay them out."""

    @functools.partial(torch.compile, dynamic=True)
    def normalise(rows, gamma):
        return (rows.float() * rows.float().square().sum(-1, keepdim=True).clamp_min(1e-24).rsqrt() * gamma).to(rows)

    def forward(self, x):
        rows = x.movedim(1, -1)
        gamma = self.gamma.flatten().float() * self.scale
        return normalise(rows.reshape(-1, x.shape[1]), gamma).view(rows.shape).movedim(-1, 1)

    return forward


def initialise(vae) -> None:
    """PyTorch's own initialisation; core's layers leave their weights unset and make reset_parameters do nothing."""
    for m in vae.modules():
        if isinstance(m, (torch.nn.Conv2d, torch.nn.Conv3d)):
            torch.nn.modules.conv._ConvNd.reset_parameters(m)


@torch.no_grad()
def widen(vae, narrow: dict) -> None:
    """Fill an initialised VAE with the weights of a narrower one, so that both give the same pictures.

    The channels added are 0 everywhere at first, for nothing leads into them; what leads out of them is as initialised,
    and so is what trains them.
    """
    for name, wide in vae.named_parameters():
        old = narrow[name].float()
        groups = 3 if "to_qkv" in name else 2 if "upsamples" in name and "time_conv" in name else 1
        if wide.shape == old.shape and "gamma" not in name:
            wide.copy_(old)
            continue
        share = len(old) / len(wide)
        if "gamma" in name:  # the norm is of all channels
            wide.fill_(old.mean().item())
            wide[:len(old)] = old
            wide *= share**0.5
            continue
        for i, (part, kept) in enumerate(zip(wide.chunk(groups), old.chunk(groups), strict=True)):
            part[len(kept):] = 0
            if part.ndim > 1:
                part[:len(kept), :kept.shape[1]] = kept
            else:
                part[:len(kept)] = kept
            if groups == 3 and i == 0:  # attention divides by the root of its channels
                part /= share**0.5


def fold(vae, mean: torch.Tensor, std: torch.Tensor, wan_mean: torch.Tensor, wan_std: torch.Tensor) -> None:
    """Put the latent's normalisation into the two 1x1x1 convolutions, so that core's Wan21 latent format fits.

    mean, std: [16] of the latent as it is now, in the Wan21 format's units. Afterwards they are 0 and 1.
    """
    with torch.no_grad():
        # encoder: raw' = (raw - wan_mean - wan_std * mean) / std + wan_mean, on the 16 mean channels
        c = vae.conv1
        c.weight[:16] /= std.view(-1, 1, 1, 1, 1)
        c.bias[:16] = (c.bias[:16] - wan_mean - wan_std * mean) / std + wan_mean
        # decoder: the inverse on its input
        c = vae.conv2
        shift = wan_mean + wan_std * mean - std * wan_mean
        c.bias += (c.weight[..., 0, 0, 0] * shift).sum(1)
        c.weight *= std.view(1, -1, 1, 1, 1)


def optimizers(parameters: list, args) -> list:
    """Muon for the convolutions but the first and last (whose rows or columns are colours), AdamW for the rest."""
    if args.optimizer == "adamw":
        return [torch.optim.AdamW(parameters, lr=args.lr or 2e-3, weight_decay=1e-4, betas=(0.9, 0.99))]
    inner = [p for p in parameters if p.ndim > 3 and p.shape[1] > 3 and p.shape[0] > 3]
    ids = {id(p) for p in inner}
    rest = [p for p in parameters if id(p) not in ids]
    return [common.Muon(inner, lr=args.lr or 2e-3),
            torch.optim.AdamW(rest, lr=args.lr or 2e-3, weight_decay=0.0, betas=(0.9, 0.99))]


def main() -> None:
    parser = common.start(__doc__.splitlines()[0])
    parser.add_argument("--noise", type=float, default=0.4)
    parser.add_argument("--dim", type=int, help="width (default: --init's, or 8); a wider VAE starts from --init's")
    parser.add_argument("--optimizer", choices=("muon", "adamw"), default="muon")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--lengths", type=int, nargs="+", default=[5, 5, 9, 17, 25], help="of clips, in pixel frames")
    parser.add_argument("--clips", type=int, default=0, help="render so many at the start (0: new ones at every step)")
    parser.add_argument("--compile", action="store_true", help="fuse the norms: a fifth quicker, needs a C++ compiler")
    parser.add_argument("--save-every", type=int, default=100, help="steps")
    parser.add_argument("--freeze-encoder", action="store_true",
                        help="train the decoder alone: the latents, and so a trained video model, stay valid")
    args = parser.parse_args()
    common.begin(args)
    import comfy.latent_formats
    import comfy.ldm.wan.vae
    from safetensors.torch import load_file, save_file

    from . import parallel_vae

    weights = load_file(args.init) if args.init else None
    vae = common.new_vae(weights if not args.dim else None, args.dim or 8).to(args.device)
    if not args.init or args.dim:
        initialise(vae)
    if args.init and args.dim:
        widen(vae, weights)
    comfy.ldm.wan.vae.RMS_norm.forward = fused_norm() if args.compile else cheap_norm
    latent_format = comfy.latent_formats.Wan21()
    wan_mean, wan_std = (a.to(args.device) for a in (latent_format.latents_mean, latent_format.latents_std))
    mean, std = torch.zeros_like(wan_mean), torch.ones_like(wan_std)
    if args.freeze_encoder:
        vae.encoder.requires_grad_(False)
        vae.conv1.requires_grad_(False)
    trained = [p for p in vae.parameters() if p.requires_grad]
    run = common.Run(args, vae, optimizers(trained, args), ema=args.ema)
    extra = run.load()
    if extra:
        mean, std = extra["mean"], extra["std"]
    source = clips.Source(args.world, args.seed + run.step, args.device, args.clips, workers=args.workers)
    rng = random.Random(args.seed * 1000003 + run.step)
    log = []
    for step in run.steps():
        frames = rng.choice(args.lengths)
        count = max(1, round((args.batch or 36) / frames))
        clip = source.batch(rng, count, frames)
        with torch.set_grad_enabled(not args.freeze_encoder):
            raw = parallel_vae.encode(run.fast, clip.bfloat16())
        z = ((raw.float() - wan_mean) / wan_std - mean) / std
        amount = args.noise * torch.rand(count, 1, 1, 1, 1, device=z.device)
        noisy = ((z + amount * torch.randn_like(z)) * std + mean) * wan_std + wan_mean
        out = parallel_vae.decode(run.fast, noisy.bfloat16())
        if not args.freeze_encoder:  # running statistics of the latent
            flat = z.detach().transpose(0, 1).flatten(1)
            pace = 0.02 if step > 50 else 0.1
            mean = mean + pace * std * flat.mean(1).view_as(mean)
            std = std * (1 + pace * (flat.std(1).view_as(std) - 1))
        moved = torch.zeros_like(clip[:, :1])
        moved[:, :, 1:] = (clip[:, :, 1:] - clip[:, :, :-1]).abs().amax(1, keepdim=True)
        weight = 1 + 3 * (moved > 0.1).float()
        error = out.float() - clip
        loss = (weight * (error.abs() + 5 * error.square())).mean() + 0.002 * z.square().mean()
        run.update(loss)
        log.append((loss.item(), error.square().mean().item() / 4))
        if (step + 1) % args.save_every == 0:
            mean_loss, mean_error = torch.tensor(log[-args.save_every:]).mean(0).tolist()
            print(f"step {step + 1} {run.spent / 60:.1f} min loss {mean_loss:.4f}"
                  f" psnr {-10 * math.log10(mean_error):.2f} latent std {std.min():.2f}..{std.max():.2f}", flush=True)
            run.save({"mean": mean, "std": std})
    run.save({"mean": mean, "std": std})

    vae.load_state_dict(run.ema.module.state_dict())
    if not args.freeze_encoder:
        run.copy_weights()
        with torch.no_grad():  # statistics over many clips, then fold them in
            sums = []
            for _ in range(64):
                raw = parallel_vae.encode(run.fast, source.batch(rng, 1, 49).bfloat16()).float()
                sums.append(((raw - wan_mean) / wan_std).transpose(0, 1).flatten(1))
            z = torch.cat(sums, 1)
            fold(vae, z.mean(1), z.std(1), wan_mean.flatten(), wan_std.flatten())
    weights = {k: v.detach().half().contiguous().cpu() for k, v in vae.state_dict().items()}
    save_file(weights, args.out / "vae.safetensors")
    print("saved", args.out / "vae.safetensors", flush=True)


if __name__ == "__main__":
    main()
