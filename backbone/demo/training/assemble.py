"""Put the demo model's trained parts together. The last step of training.

    COMFYUI_PATH=... python -m backbone.demo.training.assemble --encoder runs/encoder/encoder.safetensors \\
        --decoder runs/decoder/decoder.safetensors --model runs/model/video_model.safetensors --out runs/next

(from the repository's root; writes weights and digests, without --out the shipped ones). The latent is turned so that
its colours come as near as a rotation goes to the 16 factors per colour by which core draws previews of every Wan 2.1.
A rotation of the channels changes neither the VAE's pictures nor, noise being the same in all directions, the video
model. What it leaves, the model's own factors (latent_rgb.safetensors) make up for: loader.py gives them to ComfyUI.
"""

import argparse
import random
import shutil
from pathlib import Path

import torch

from .. import latent
from . import common, vae

SUBJECT = 2.0  # weight of a subject's cells in previews: better subjects, slightly worse walls


@torch.no_grad()
def to_raw(vae, mean: torch.Tensor, std: torch.Tensor) -> None:
    """Let the VAE's latents be raw ones, z * std + mean, as core's latent format expects them of told ones, z.

    In place, in the two 1x1x1 convolutions; mean, std [16] are the format's.
    """
    encoded, decoded = vae.conv1, vae.conv2
    encoded.weight[:16] *= std.view(-1, 1, 1, 1, 1)
    encoded.bias[:16] = encoded.bias[:16] * std + mean
    decoded.weight /= std.view(1, -1, 1, 1, 1)
    decoded.bias -= decoded.weight[..., 0, 0, 0] @ mean


def procrustes(factors: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """The rotation R [16, 16] that brings factors^T R closest to `colours` up to scale (both [16, 3]).

    Three colours say nothing of the other 13 directions: they stay as near to where they are as they can, so that the
    weights of another training are turned alike.
    """
    wanted = factors @ colours.T
    u, _, v = torch.linalg.svd(wanted + 1e-3 * wanted.norm() * torch.eye(len(wanted)))
    return u @ v


def rotate_vae(weights: dict, r: torch.Tensor, mean: torch.Tensor, std: torch.Tensor) -> dict:
    """The VAE whose normalised latent is R z; mean, std [16] are the latent format's."""
    raw = std[:, None] * r / std  # R in the units of the raw latent
    out = dict(weights)
    w, b = weights["conv1.weight"], weights["conv1.bias"]
    out["conv1.weight"] = torch.cat([torch.einsum("oi,icthw->octhw", raw, w[:16]), w[16:]])
    out["conv1.bias"] = torch.cat([raw @ (b[:16] - mean) + mean, b[16:]])
    back = torch.linalg.inv(raw)
    w = weights["conv2.weight"]
    out["conv2.weight"] = torch.einsum("oithw,ic->octhw", w, back)
    out["conv2.bias"] = weights["conv2.bias"] + w[..., 0, 0, 0] @ (mean - back @ mean)
    return out


def rotate_model(weights: dict, r: torch.Tensor) -> dict:
    """The video model on latents R z: its first layer turns them back, its last one turns the prediction."""
    out = dict(weights)
    out["patch_embedding.weight"] = torch.einsum("oithw,ci->octhw", weights["patch_embedding.weight"], r)
    for name in ("head.head.weight", "head.head.bias"):  # rows are (patch, channel)
        w = weights[name].unflatten(0, (-1, 16))
        out[name] = torch.einsum("ci,pi...->pc...", r, w).flatten(0, 1)
    return out


def colour_map(subject: float = 0.0) -> torch.Tensor:
    """Least squares from told latents to the pictures' colours in -1..1: [17, 3], the last row added to all.

    subject: weight of cells that differ from most of their frame, a seventh of all. They then have the subject's own
    colour, without face and outline, which eight points across cannot show. 0: all cells alike, as they look.
    """
    clip, z = vae.videos(random.Random("preview"), 48, 17)
    first, rest = (torch.nn.functional.avg_pool3d(part, (time, 8, 8))
                   for part, time in ((clip[:, :, :1], 1), (clip[:, :, 1:], 4)))
    cells, weight = torch.cat((first, rest), 2), 1.0
    if subject:
        apart = (cells - cells.flatten(3).median(3).values[..., None, None]).abs().amax(1, keepdim=True) > 0.3
        cells = torch.where(apart, 2 * latent.subject_colour(z) - 1, cells)
        weight = torch.where(apart, subject, 1.0).transpose(0, 1).flatten(1).T
    z, rgb = (x.transpose(0, 1).flatten(1).T for x in (z, cells))
    root = weight ** 0.5  # as least squares has it
    return torch.linalg.lstsq(torch.cat((z, torch.ones(len(z), 1)), 1) * root, rgb * root).solution


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for part in ("encoder", "decoder", "model"):
        parser.add_argument(f"--{part}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=common.HERE)
    args = parser.parse_args()
    common.comfy_on_path()
    import comfy.latent_formats
    from safetensors.torch import load_file

    from .. import loader

    loader.read("text.safetensors")  # an error if it is not as it came: its digest is written anew below
    latent_format = comfy.latent_formats.Wan21()
    mean, std = latent_format.latents_mean.flatten(), latent_format.latents_std.flatten()
    whole = common.new_vae({k: v.float() for part in (args.encoder, args.decoder) for k, v in load_file(part).items()})
    to_raw(whole, mean, std)
    r = procrustes(torch.tensor(latent_format.latent_rgb_factors), colour_map()[:16])
    colours, added = colour_map(SUBJECT).split([16, 1])
    model = {k: v.float() for k, v in load_file(args.model).items()}
    results = {"vae": rotate_vae(whole.state_dict(), r, mean, std), "video_model": rotate_model(model, r),
               "latent_rgb": {"factors": r @ colours, "bias": added[0]}}
    args.out.mkdir(parents=True, exist_ok=True)
    if args.out.resolve() != common.HERE:
        shutil.copy(common.HERE / "text.safetensors", args.out)
    for name, out in results.items():
        common.save_weights({k: v.half() for k, v in out.items()}, args.out / f"{name}.safetensors")
    loader.write_digests(args.out)


if __name__ == "__main__":
    main()
