"""Train one half of the demo model's VAE, ComfyUI's own WanVAE: encoder or decoder of the latents that a scene tells.

    COMFYUI_PATH=... python -m backbone.demo.training.vae --part decoder --images --out runs/images --minutes 40
    COMFYUI_PATH=... python -m backbone.demo.training.vae --part decoder --init runs/images/decoder.safetensors ...

(from the repository's root). What the latents hold is told by `latent.py`, so either half can be trained by itself,
against exactly known pictures or latents, and so is the video model. First on images: convolutions over one frame need
a third of the work, and a step sees five times as many pictures that differ. Then on clips, where the other taps begin
with 0. Last, `--through` a decoder: what the encoder tells is judged by the picture too.
"""

import copy
import functools
import math
import random
from pathlib import Path

import torch

from .. import latent, world
from . import common

POSES = 8  # of one scene, among the images
ANYWHERE = ((0.25, 0.75), (0.25, 0.75), (0.12, 0.3), (-math.pi, math.pi))  # x, y, size, angle of half of the images


def cheap_norm(self, x: torch.Tensor) -> torch.Tensor:
    """RMS_norm with one multiplication in place of F.normalize's division, which took 31 % of a profiled step."""
    return x * (x.square().sum(1, keepdim=True).clamp_min(1e-24).rsqrt() * self.scale) * self.gamma.to(x)


def fuse_norms(vae) -> None:
    """cheap_norm, and the SiLU that follows it but in attention, as one compiled loop over rows of channels, as
    convolutions on a CPU lay them out."""
    from comfy.ldm.wan.vae import RMS_norm

    torch._dynamo.config.recompile_limit = 64

    @functools.partial(torch.compile, dynamic=True)
    def normalise(rows, gamma, silu: bool):
        full = rows.float()
        out = full * full.square().sum(-1, keepdim=True).clamp_min(1e-24).rsqrt() * gamma
        return (torch.nn.functional.silu(out) if silu else out).to(rows)

    def forward(self, x):
        rows = x.movedim(1, -1)
        gamma = self.gamma.flatten().float() * self.scale
        silu = self.gamma.ndim == 4  # attention's norm is of images
        return normalise(rows.reshape(-1, x.shape[1]), gamma, silu).view(rows.shape).movedim(-1, 1)

    for module in vae.modules():
        for name, child in module.named_children():
            if isinstance(child, torch.nn.SiLU):
                setattr(module, name, torch.nn.Identity())
    RMS_norm.forward = forward


def initialise(vae) -> None:
    """PyTorch's own initialisation; core's layers leave their weights unset and make reset_parameters do nothing."""
    for m in vae.modules():
        if isinstance(m, (torch.nn.Conv2d, torch.nn.Conv3d)):
            torch.nn.modules.conv._ConvNd.reset_parameters(m)


@torch.no_grad()
def inflate(vae) -> None:
    """Make a VAE that has learned images one of clips: convolutions see the newest frame alone, two frames become
    their mean, and one frame two that are alike."""
    from comfy.ldm.wan.vae import CausalConv3d, Resample

    for module in vae.modules():
        if isinstance(module, CausalConv3d) and module.kernel_size[0] == 3:
            module.weight[:, :, :-1] = 0
    for module in vae.modules():
        conv = getattr(module, "time_conv", None) if isinstance(module, Resample) else None
        if conv is not None:
            one = torch.eye(conv.in_channels, device=conv.weight.device)[:, :, None, None]
            conv.bias.zero_()
            conv.weight.zero_()
            if module.mode == "downsample3d":
                conv.weight[:, :, 1:] = one[:, :, None] / 2
            else:
                conv.weight[:, :, -1] = one.repeat(2, 1, 1, 1)


def motion_only(vae) -> None:
    """Let only what sees other frames be trained: older taps, convolutions over time, the head, and what leads into the
    latent or out of it.

    The taps that have learned from images stay as they are until motion has been learned; large steps would spoil them.
    """
    from comfy.ldm.wan.vae import CausalConv3d

    def forget_newest(grad):
        grad = grad.clone()
        grad[:, :, -1] = 0
        return grad

    vae.requires_grad_(False)
    for name, module in vae.named_modules():
        if isinstance(module, CausalConv3d):
            module.weight.requires_grad_(module.kernel_size[0] == 3 or name.startswith("conv"))
            if module.kernel_size[0] == 3 and "head" not in name and "time_conv" not in name:
                module.weight.register_hook(forget_newest)


def optimizers(parameters: list, args) -> list:
    """Muon for the convolutions but the first and last (whose rows or columns are colours), AdamW for the rest.

    With --motion nothing decays: the newest taps are to stay as they are.
    """
    inner = [p for p in parameters if p.ndim > 3 and p.shape[1] > 3 and p.shape[0] > 3]
    ids = {id(p) for p in inner}
    rest = [p for p in parameters if id(p) not in ids]
    return [common.Muon(inner, lr=args.lr or 2e-3, weight_decay=0.0 if args.motion else 0.01),
            torch.optim.AdamW(rest, lr=args.lr or 2e-3, weight_decay=0.0, betas=(0.9, 0.99))]


def normalised(pictures: torch.Tensor) -> torch.Tensor:
    """[N, T, H, W, 3] in 0..1 -> [N, 3, T, H, W] in -1..1, in steps of 1 / 255 as from a file."""
    clips = ((pictures * 255).round() / 127.5 - 1).permute(0, 4, 1, 2, 3)
    return clips.contiguous(memory_format=torch.channels_last_3d)


def images(rng: random.Random, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures [count, 3, 1, 64, 64] in -1..1 and latents [count, 16, 1, 8, 8]: POSES of each scene, half of them of
    the scene's motion and half with the subject anywhere, of any size and angle. `count` is cut to whole scenes."""
    pictures, latents = [], []
    for _ in range(max(1, count // POSES)):
        scene = world.sample_scene(rng)
        usual = world.pose(scene, torch.tensor([rng.uniform(0, 100) for _ in range(POSES // 2)]))
        pose = [torch.cat((a, torch.tensor([rng.uniform(*span) for _ in range(POSES // 2)])))
                for a, span in zip(usual, ANYWHERE, strict=True)]
        pictures += world.draw(scene, pose)[:, None]
        latents += latent.told(scene, [a[:, None].expand(-1, 4) for a in pose]).transpose(0, 1)[:, :, None]
    return normalised(torch.stack(pictures)), torch.stack(latents)


def videos(rng: random.Random, count: int, frames: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Clips [count, 3, frames, 64, 64] in -1..1 and their latents [count, 16, n + 1, 8, 8]; frames = 4n + 1."""
    pictures, latents = [], []
    for _ in range(count):
        scene = world.sample_scene(rng)
        start = rng.uniform(0, 100)
        pictures.append(world.render(scene, frames, start))
        latents.append(latent.of_clip(scene, frames, start))
    return normalised(torch.stack(pictures)), torch.stack(latents)


def drawn(rng: random.Random, args) -> tuple[torch.Tensor, torch.Tensor]:
    """A batch, pictures [B, 3, T, 64, 64] and latents [B, 16, n + 1, 8, 8]: images, or clips of one of the lengths."""
    if args.images:
        return images(rng, args.batch or 64)
    frames = rng.choice(args.lengths)
    return videos(rng, max(1, round((args.batch or 36) / frames)), frames)


def heads(dim: int) -> torch.nn.ModuleList:
    """Linear maps from what a decoder of width `dim` holds at 8, 16 and 32 pixels to the whole picture."""
    return torch.nn.ModuleList(torch.nn.Conv2d(c * dim, 3 * f * f, 1) for c, f in ((4, 8), (2, 4), (2, 2)))


def draw_images(vae, z: torch.Tensor) -> list[torch.Tensor]:
    """Images [B, 3, 1, 64, 64] from latents of one frame [B, 16, 1, 8, 8]: the decoder's, and one of each of its heads.

    Taught at every size, the decoder draws what it can with few pixels, where work is cheap.
    """
    from comfy.ldm.wan.vae import Resample

    from . import parallel_vae

    d, held = vae.decoder, []
    x = parallel_vae.walk(d.middle, d.conv1(vae.conv2(z)))
    held.append(x)
    for layer in d.upsamples:
        x = parallel_vae.walk([layer], x)
        if isinstance(layer, Resample):
            held.append(x)
    small = [torch.nn.functional.pixel_shuffle(head(y[:, :, 0]), world.SIZE // y.shape[-1])[:, :, None]
             for head, y in zip(vae.heads, held[:-1], strict=True)]
    return [parallel_vae.walk(d.head, x), *small]


def picture_loss(picture, clip, z) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of having drawn `picture` for `clip` [B, 3, T, H, W] of latent `z`, and the squared error in 0..1."""
    error = picture.float() - clip
    weight = 1 + 2 * latent.by_pixel(latent.near_subject(z))
    return (weight * (error.abs() + 5 * error.square())).mean(), error.square().mean() / 4


def decoder_loss(vae, clip, z, args) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of drawing `clip` [B, 3, T, H, W] from noisy `z` [B, 16, n + 1, h, w], and the squared error in 0..1."""
    from . import parallel_vae

    noisy = z + args.noise * torch.rand(len(z), 1, 1, 1, 1, device=z.device) * torch.randn_like(z)
    pictures = draw_images(vae, noisy.bfloat16()) if args.images else [parallel_vae.decode(vae, noisy.bfloat16())]
    loss, measure = picture_loss(pictures[0], clip, z)
    return loss + sum(picture_loss(small, clip, z)[0] for small in pictures[1:]) / 3, measure


def encoder_loss(vae, clip, z, decoder=None) -> tuple[torch.Tensor, torch.Tensor]:
    """The loss of telling `z` [B, 16, n + 1, h, w] from `clip` [B, 3, T, H, W], and the latent's squared error.

    `decoder`: what it draws counts as well, and the second number is of its pictures, in 0..1.
    """
    from . import parallel_vae

    told = parallel_vae.encode(vae, clip.bfloat16())
    error = told.float() - z
    weight = 1 + 2 * latent.near_subject(z)
    loss, measure = (weight * (error.abs() + 2 * error.square())).mean(), error.square().mean()
    if decoder is not None:
        drawn, measure = picture_loss(parallel_vae.decode(decoder, told), clip, z)
        loss = loss + drawn
    return loss, measure


def half(part: str, dim: int, weights=None):
    """The encoder or the decoder alone, as a VAE without the other half; `weights`: a file of them, or fresh ones."""
    from safetensors.torch import load_file

    vae = common.new_vae(dim=dim)
    initialise(vae)
    if part == "decoder":
        vae.encoder = vae.conv1 = None
    else:
        vae.decoder = vae.conv2 = None
    if weights:
        vae.load_state_dict({k: v.float() for k, v in load_file(weights).items()})
    return vae


def held_decoder(weights, dim: int):
    """A decoder from a file of weights, as it computes: bf16, nothing in it is trained."""
    return common.channels_last(half("decoder", dim, weights).bfloat16()).requires_grad_(False)


def main() -> None:
    parser = common.start(__doc__.splitlines()[0])
    parser.add_argument("--part", choices=("encoder", "decoder"), required=True)
    parser.add_argument("--images", action="store_true", help="train on images; what is saved is of clips all the "
                        "same, with nothing learned of motion")
    parser.add_argument("--motion", action="store_true", help="train only what sees other frames: after --images")
    parser.add_argument("--through", type=Path, help="weights of a decoder of the same --dim, which stay as they are: "
                        "the encoder is judged by what it draws, too")
    parser.add_argument("--noise", type=float, default=0.1, help="most noise on the latent that is decoded")
    parser.add_argument("--dim", type=int, default=16, help="width")
    parser.add_argument("--ema", type=float, default=0.998)
    parser.add_argument("--lengths", type=int, nargs="+", default=[5, 9, 17], help="of clips, in pixel frames")
    parser.add_argument("--compile", action="store_true", help="fuse the norms: quicker, needs a C++ compiler")
    parser.add_argument("--save-every", type=int, default=100, help="steps")
    args = parser.parse_args()
    going_on = (args.out / "checkpoint.pt").exists()
    if args.motion and (args.images or not (args.init or going_on)):
        parser.error("--motion goes with --init, the weights that --images gave, and not with --images")
    if args.through and (args.images or args.part != "encoder"):
        parser.error("--through is for the encoder on clips, not for the decoder or --images")
    common.begin(args)
    from comfy.ldm.wan.vae import RMS_norm

    from . import parallel_vae

    vae = half(args.part, args.dim, None if going_on else args.init)
    decoder = args.through and held_decoder(args.through, args.dim)
    if args.compile:
        fuse_norms(vae)
        if decoder:
            fuse_norms(decoder)
    else:
        RMS_norm.forward = cheap_norm
    if args.images:
        parallel_vae.one_frame()
        if args.part == "decoder":
            vae.heads = heads(args.dim)
    vae.to(args.device)
    stage = "images" if args.images else "motion" if args.motion else "clips"
    stage += " through a decoder" * bool(args.through)
    run = common.Run(args, vae, optimizers(list(vae.parameters()), args), ema=args.ema,
                     kind=f"{args.part} of dim {args.dim} on {stage}")
    run.load()
    if args.motion:
        motion_only(run.fast)
    source = common.batches(functools.partial(drawn, args=args), args, run.step)
    if args.part == "decoder":
        loss_of = functools.partial(decoder_loss, args=args)
    else:
        loss_of = functools.partial(encoder_loss, decoder=decoder and decoder.to(args.device))
    log = []
    for step in run.steps():
        clip, z = next(source)
        loss, measure = loss_of(run.fast, clip.to(args.device), z.to(args.device))
        run.update(loss)
        log.append((loss.item(), measure.item()))
        if (step + 1) % args.save_every == 0:
            mean_loss, mean_error = torch.tensor(log[-args.save_every:]).mean(0).tolist()
            of = " of the latent" * (args.part == "encoder" and not args.through)
            print(f"step {step + 1} {run.spent / 60:.1f} min loss {mean_loss:.4f}"
                  f" {-10 * math.log10(mean_error):.2f} dB{of}", flush=True)
            run.save()
            export(run, args)
    run.save()
    export(run, args)


def export(run, args) -> None:
    vae = run.ema.module
    if args.images:
        vae = copy.deepcopy(vae)
        vae.heads = None
        inflate(vae)
    common.save_weights(vae.state_dict(), args.out / f"{args.part}.safetensors")


if __name__ == "__main__":
    main()
