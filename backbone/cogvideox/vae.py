"""diffusers' CogVideoX VAE as a ComfyUI VAE. Importing this module imports diffusers."""

import comfy.model_management
import comfy.model_patcher
import comfy.sd
import torch
from comfy.ldm.models.autoencoder import AutoencoderKL
from diffusers import AutoencoderKLCogVideoX

from .files import NODE

CHUNK = 9  # most frames diffusers decodes at once
PREVIEW_SIZE = 96  # pixels

# The smallest autoencoder that core's constructor can build: it sets up every field of the running version's VAE.
PLACEHOLDER = {
    "ddconfig": {
        "double_z": True, "z_channels": 4, "resolution": 32, "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1],
        "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0,
    },
    "embed_dim": 4,
}  # fmt: skip


class FirstStage(torch.nn.Module):
    """Pixels [B, 3, 4n+1, H, W] in -1..1 <-> latents [B, 16, n+1, H/8, W/8], unscaled.

    Frames past 4n+1 are left out. An even number of latent frames, which diffusers would decode to 4n pixel frames with
    the first four all made of the first latent frame, is decoded with the last one repeated and the surplus cut.
    """

    def __init__(self, vae: AutoencoderKLCogVideoX):
        super().__init__()
        self.vae = vae

    def encode(self, x: torch.Tensor) -> torch.Tensor:
        frames = (x.shape[2] - 1) // 4 * 4 + 1
        return self.vae.encode(x[:, :, :frames]).latent_dist.mode()

    def decode(self, z: torch.Tensor, **options) -> torch.Tensor:
        frames = 4 * z.shape[2] - 3
        if z.shape[2] % 2 == 0:
            z = torch.cat([z, z[:, :, -1:]], dim=2)
        return self.vae.decode(z).sample[:, :, :frames]


class CogVideoXVAE(comfy.sd.VAE):
    """config, weights: of AutoencoderKLCogVideoX."""

    def __init__(self, config: dict, weights: dict):
        device = comfy.model_management.vae_device()
        dtype = comfy.model_management.vae_dtype(device, [torch.bfloat16, torch.float16, torch.float32])
        super().__init__(AutoencoderKL(**PLACEHOLDER).state_dict(), device, {"params": PLACEHOLDER}, dtype)
        with torch.device("meta"):
            vae = AutoencoderKLCogVideoX(**config)
        vae.load_state_dict(weights, assign=True)
        self.first_stage_model = FirstStage(vae).to(dtype).eval().requires_grad_(False)
        space = 2 ** (len(vae.config.block_out_channels) - 1)
        self.latent_channels = vae.config.latent_channels
        self.output_channels = vae.config.out_channels
        self.latent_dim = 3
        self.upscale_ratio = (lambda n: max(0, 4 * n - 3), space, space)
        self.downscale_ratio = (lambda n: max(0, (n + 3) // 4), space, space)
        self.upscale_index_formula = self.downscale_index_formula = (4, space, space)
        self.disable_offload = True  # diffusers' layers cannot run from another device; loaded whole, 0.4 GB
        # Core's figures for this network, whose activations grow with one chunk, and the video itself.
        size = comfy.model_management.dtype_size
        self.memory_used_decode = lambda s, d: (
            (2800 * min(CHUNK, 4 * s[2] - 3) + 3 * (4 * s[2] - 3)) * s[3] * s[4] * space**2 * size(d)
        )
        self.memory_used_encode = lambda s, d: (1400 * min(CHUNK + 4, s[2]) + 3 * s[2]) * s[3] * s[4] * size(d)
        self.size = None
        self.patcher = comfy.model_patcher.ModelPatcher(
            self.first_stage_model, load_device=self.device,
            offload_device=comfy.model_management.vae_offload_device(),
        )  # fmt: skip
        self.model_size()

    def _check(self, latent: torch.Tensor):
        if latent.ndim != 5 or latent.shape[1] != self.latent_channels:
            raise ValueError(
                f"{NODE}: vae: it decodes latents of the shape [batch, {self.latent_channels}, frames, height, width], "
                f"not {tuple(latent.shape)}; take the VAE of the model that made this latent"
            )

    def decode(self, samples_in, *args, **kwargs):
        self._check(samples_in)
        return super().decode(samples_in, *args, **kwargs)

    def decode_tiled(self, samples, *args, **kwargs):
        self._check(samples)
        return super().decode_tiled(samples, *args, **kwargs)

    def get_sd(self):
        return self.first_stage_model.vae.state_dict()


def expected_shapes(config: dict) -> dict[str, torch.Size]:
    """Names and shapes of the VAE's tensors."""
    with torch.device("meta"):
        return {k: v.shape for k, v in AutoencoderKLCogVideoX(**config).state_dict().items()}


def preview_colours(vae: CogVideoXVAE, scale: float) -> tuple[list, list]:
    """(factors [channels][3], bias [3]): the best linear map from `vae`'s latents times `scale` to colours in -1..1,
    fitted to one small image of smooth random colours."""
    coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    image = torch.nn.functional.interpolate(coarse, size=(PREVIEW_SIZE, PREVIEW_SIZE), mode="bilinear")
    latent = vae.encode(image.movedim(1, -1))[0, :, 0].float().cpu() * scale
    colours = torch.nn.functional.adaptive_avg_pool2d(image[0], latent.shape[-2:]) * 2 - 1
    known = torch.cat([latent.flatten(1), torch.ones(1, latent[0].numel())]).T
    fit = torch.linalg.lstsq(known, colours.flatten(1).T).solution
    return fit[:-1].tolist(), fit[-1].tolist()
