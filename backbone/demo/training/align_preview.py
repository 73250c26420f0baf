"""Turn the latent space so that ComfyUI's Wan previews show the demo model's colours. The last step of training.

    COMFYUI_PATH=... python -m backbone.demo.training.align_preview --vae runs/vae/vae.safetensors \\
        --model runs/model/video_model.safetensors

(from the repository's root; writes both into backbone/demo/). Core draws previews of every Wan 2.1 latent with the same
16 factors per colour. A rotation of the 16 channels changes neither the VAE's pictures nor, noise being the same in all
directions, the video model; so the one that brings our colours closest to those factors is folded into both.
"""

import argparse
import random
from pathlib import Path

import torch

from ..worlds import WORLDS
from . import clips, common


def procrustes(factors: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """The rotation R [16, 16] that brings factors^T R closest to `colours` up to scale (both [16, 3])."""
    u, _, v = torch.linalg.svd(factors @ colours.T)
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


def colour_map(vae, latent_format, source, count: int = 24) -> torch.Tensor:
    """Least squares from normalised latents to the pictures' colours in -1..1, over clips of `source`: [16, 3]."""
    from . import parallel_vae

    rng = random.Random("preview")
    z, rgb = [], []
    for _ in range(count):
        clip = source.batch(rng, 1, 17)
        z.append(latent_format.process_in(parallel_vae.encode(vae, clip))[0].flatten(1).T)
        small = torch.nn.functional.avg_pool3d(clip[:, :, 1:], (4, 8, 8))
        rgb.append(torch.cat([torch.nn.functional.avg_pool3d(clip[:, :, :1], (1, 8, 8)), small], 2)[0].flatten(1).T)
    z, rgb = torch.cat(z), torch.cat(rgb)
    ones = torch.ones(len(z), 1)
    return torch.linalg.lstsq(torch.cat([z, ones], 1), rgb).solution[:16]


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--vae", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=common.HERE)
    parser.add_argument("--world", choices=sorted(WORLDS), default="shipped", help="what the weights show")
    args = parser.parse_args()
    common.comfy_on_path()
    import comfy.latent_formats
    from safetensors.torch import load_file, save_file

    from .. import loader

    latent_format = comfy.latent_formats.Wan21()
    vae = common.new_vae(load_file(args.vae))
    weights = vae.state_dict()
    source = clips.Source(args.world, 0, "cpu")
    r = procrustes(torch.tensor(latent_format.latent_rgb_factors), colour_map(vae, latent_format, source))
    mean, std = latent_format.latents_mean.flatten(), latent_format.latents_std.flatten()
    model = {k: v.float() for k, v in load_file(args.model).items()}
    results = {"vae": rotate_vae(weights, r, mean, std), "video_model": rotate_model(model, r)}
    for name, out in results.items():
        save_file({k: v.half().contiguous() for k, v in out.items()}, args.out / f"{name}.safetensors")
    loader.write_digests(args.out)


if __name__ == "__main__":
    main()
