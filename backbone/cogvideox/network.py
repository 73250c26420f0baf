"""diffusers' CogVideoX transformer as a ComfyUI diffusion model. Importing this module imports diffusers.

The network is diffusers' own class with ComfyUI's layers (for offload, casting and LoRA) and ComfyUI's attention.
Sampling is v-prediction with zero terminal SNR and the scheduler's SNR shift:

    alpha_bar' = alpha_bar / (s + (1 - s) alpha_bar), i.e. sigma' = sqrt(s) sigma     (s = snr_shift_scale)

At the last training step alpha_bar is 0 and ComfyUI's sigma would be infinite. As in core, alpha_bar is 4.9e-8 there
(sigma 4519), which leaves 2.2e-4 of the noise in the first step's denoised prediction; float32 sampling in sigma space
adds less than that.
"""

import functools

import comfy.latent_formats
import comfy.ldm.common_dit
import comfy.model_base
import comfy.patcher_extension
import comfy.supported_models_base
import comfy.utils
import torch
from comfy.ldm.modules.attention import optimized_attention
from comfy.ldm.modules.diffusionmodules.util import make_beta_schedule
from comfy.model_sampling import V_PREDICTION, ModelSamplingDiscrete, rescale_zero_terminal_snr_sigmas
from diffusers import CogVideoXTransformer3DModel
from diffusers.models.embeddings import apply_rotary_emb, get_3d_rotary_pos_embed
from diffusers.pipelines.cogvideo.pipeline_cogvideox import get_resize_crop_region_for_grid
from torch import nn

from .files import NODE

OFS = 2.0  # the value diffusers feeds to CogVideoX 1.5 I2V's ofs embedding
SIZES = 2  # of clips whose positions are kept: windows, and windows with a frame in front


class JointAttention:
    """Attention of block `index` over [text, video] through ComfyUI, whose attention overrides see every call."""

    def __init__(self, index: int):
        self.index = index

    def __call__(
        self, attn, hidden_states, encoder_hidden_states, attention_mask=None, image_rotary_emb=None,
        transformer_options=None,
    ):  # fmt: skip
        text = encoder_hidden_states.shape[1]
        x = torch.cat([encoder_hidden_states, hidden_states], dim=1)
        q, k, v = (f(x).unflatten(-1, (attn.heads, -1)).transpose(1, 2) for f in (attn.to_q, attn.to_k, attn.to_v))
        q, k = attn.norm_q(q), attn.norm_k(k)
        if image_rotary_emb is not None:
            for tokens in (q, k):
                tokens[:, :, text:] = apply_rotary_emb(tokens[:, :, text:], image_rotary_emb)
        transformer_options["block_index"] = self.index
        out = optimized_attention(
            q, k, v, attn.heads, attention_mask, skip_reshape=True, transformer_options=transformer_options
        )
        out = attn.to_out[1](attn.to_out[0](out))
        return out[:, text:], out[:, :text]


def use_operations(module: nn.Module, operations, **kwargs) -> None:
    """Replace torch's layers below `module` by ComfyUI's; kwargs: device and dtype."""
    for name, child in module.named_children():
        bias = getattr(child, "bias", None) is not None
        if type(child) is nn.Linear:
            new = operations.Linear(child.in_features, child.out_features, bias=bias, **kwargs)
        elif type(child) is nn.Conv2d:
            new = operations.Conv2d(
                child.in_channels, child.out_channels, child.kernel_size, child.stride, child.padding, bias=bias,
                **kwargs,
            )  # fmt: skip
        elif type(child) is nn.LayerNorm:
            new = operations.LayerNorm(child.normalized_shape, child.eps, child.elementwise_affine, bias=bias, **kwargs)
        else:
            use_operations(child, operations, **kwargs)
            continue
        setattr(module, name, new)


class SinePositions:
    """Adds diffusers' sine positions to the tokens of CogVideoX-2B's patch embedding (a forward hook).

    diffusers makes them in float64 in each call, gigabytes of writing; here they are made once per size, device and
    type, and kept for SIZES of them until `forget`, at the end of a run.
    """

    def __init__(self):
        self.made: dict[tuple, torch.Tensor] = {}

    def __call__(self, embed, inputs, tokens: torch.Tensor) -> torch.Tensor:
        frames, _, height, width = inputs[1].shape[1:]
        key = (frames, height, width, tokens.device, tokens.dtype)
        positions = self.made.get(key)
        if positions is None:
            for oldest in list(self.made)[: 1 - SIZES]:
                self.made.pop(oldest, None)
            clip = (frames - 1) * embed.temporal_compression_ratio + 1
            positions = embed._get_positional_embeddings(height, width, clip, device=tokens.device).to(tokens.dtype)
            self.made[key] = positions
        return tokens + positions

    def forget(self) -> None:
        self.made.clear()


class DiffusersCogVideoX(CogVideoXTransformer3DModel):
    """x [B, C, T, H, W] (C with concatenated image latents), timestep [B], context [B, tokens, 4096] -> v like x.

    config: that of diffusers' class. Positions start at 0 in every call, so each window is a clip. Raises ValueError
    for sizes that the positions or the temporal patches of the model do not allow.
    """

    def __init__(self, *, dtype=None, device=None, operations=None, **config):
        with torch.device("meta"):
            super().__init__(**config)
        use_operations(self, operations, device=device, dtype=dtype)
        self.weight_dtype = dtype
        for index, block in enumerate(self.transformer_blocks):
            block.attn1.set_processor(JointAttention(index))
        embed = self.patch_embed
        self.positions = SinePositions()
        if embed.use_learned_positional_embeddings:
            kept = dtype if dtype.itemsize > 1 else torch.bfloat16  # not fp8: they are added as they are
            embed.pos_embedding = torch.zeros(embed.pos_embedding.shape, dtype=kept, device=device)
            embed._get_positional_embeddings = self.learned_positions
            embed.sample_frames = 0  # no clip has that length: positions are asked for in each call
        elif embed.use_positional_embeddings:
            del embed.pos_embedding
            embed.use_positional_embeddings = False
            embed.register_forward_hook(self.positions)

    @property
    def dtype(self) -> torch.dtype:
        return self.weight_dtype

    def learned_positions(self, height: int, width: int, frames: int, device=None) -> torch.Tensor:
        """The first positions of CogVideoX-5b-I2V's table, as in the model's own code; diffusers falls back to
        sines for clips shorter than the trained one, which the model has never seen."""
        latent_frames = (frames - 1) // self.config.temporal_compression_ratio + 1
        p = self.config.patch_size
        tokens = self.config.max_text_seq_length + latent_frames * (height // p) * (width // p)
        return self.patch_embed.pos_embedding[:, :tokens].to(device)

    def check(self, frames: int, height: int, width: int, tokens: int) -> None:
        c = self.config
        if c.patch_size_t is not None and frames % c.patch_size_t:
            less, more = (4 * (frames + d) - 3 for d in (-1, 1))
            raise ValueError(
                f"{NODE}: CogVideoX 1.5 works on pairs of latent frames, but this clip or window has {frames} "
                f"({4 * frames - 3} pixel frames); set window_length, or the length of a video without windows, to "
                f"{less} or {more}, and first_latent of the window scheduler to as_is"
            )
        if c.use_rotary_positional_embeddings and not c.use_learned_positional_embeddings:
            return
        if tokens != c.max_text_seq_length:
            raise ValueError(
                f"{NODE}: the prompt has {tokens} tokens; this CogVideoX takes {c.max_text_seq_length}: encode it with "
                f"the clip output of the same node, without combining texts afterwards"
            )
        longest = (c.sample_frames - 1) // c.temporal_compression_ratio + 1
        if c.use_learned_positional_embeddings and (
            (height, width) != (c.sample_height, c.sample_width) or frames > longest
        ):
            raise ValueError(
                f"{NODE}: this CogVideoX has learned positions for {8 * c.sample_width}x{8 * c.sample_height} pixels "
                f"and up to {c.sample_frames} frames, but the clip or window has {8 * width}x{8 * height} and "
                f"{4 * frames - 3}; set width, height and window_length to these"
            )

    def rotary(self, frames: int, height: int, width: int, device) -> tuple[torch.Tensor, torch.Tensor] | None:
        """RoPE of a clip, sizes in patches, as CogVideoXPipeline prepares it."""
        c = self.config
        if not c.use_rotary_positional_embeddings:
            return None
        base_h, base_w = c.sample_height // c.patch_size, c.sample_width // c.patch_size
        make = functools.partial(
            get_3d_rotary_pos_embed, c.attention_head_dim, grid_size=(height, width), temporal_size=frames,
            device=device,
        )  # fmt: skip
        if c.patch_size_t is not None:
            size = (max(base_h, height), max(base_w, width))
            return make(crops_coords=None, grid_type="slice", max_size=size)
        return make(crops_coords=get_resize_crop_region_for_grid((height, width), base_w, base_h))

    def forward(self, x, timestep, context, transformer_options=None, **kwargs):
        options = {} if transformer_options is None else transformer_options
        wrappers = comfy.patcher_extension.get_all_wrappers(comfy.patcher_extension.WrappersMP.DIFFUSION_MODEL, options)
        executor = comfy.patcher_extension.WrapperExecutor.new_class_executor(self._forward, self, wrappers)
        return executor.execute(x, timestep, context, options, **kwargs)

    def _forward(self, x, timestep, context, transformer_options, **kwargs):
        frames, height, width = x.shape[2:]
        p, p_t = self.config.patch_size, self.config.patch_size_t or 1
        self.check(frames, height, width, context.shape[1])
        x = comfy.ldm.common_dit.pad_to_patch_size(x, (1, p, p))
        out = super().forward(
            x.transpose(1, 2),
            context,
            timestep,
            ofs=None if self.ofs_embedding is None else timestep.new_full((1,), OFS),
            image_rotary_emb=self.rotary(frames // p_t, x.shape[3] // p, x.shape[4] // p, x.device),
            attention_kwargs={"transformer_options": transformer_options},
            return_dict=False,
        )[0]
        return out.transpose(1, 2)[..., :height, :width]


class CogVideoXSampling(ModelSamplingDiscrete, V_PREDICTION):
    """Sigmas of diffusers' CogVideoXDDIMScheduler, from core's sampling_settings and snr_shift_scale beside them."""

    def __init__(self, model_config):
        super().__init__(model_config)
        s = model_config.sampling_settings
        betas = make_beta_schedule(s["beta_schedule"], s["timesteps"], s["linear_start"], s["linear_end"])
        alpha_bar = torch.cumprod(1 - betas, dim=0)
        sigmas = (s["snr_shift_scale"] * (1 - alpha_bar) / alpha_bar) ** 0.5
        self.set_sigmas(rescale_zero_terminal_snr_sigmas(sigmas) if s["zsnr"] else sigmas)


class CogVideoXLatent(comfy.latent_formats.LatentFormat):
    """scale: the VAE config's scaling_factor; rgb: (factors [channels][3], bias [3]) for previews, or None."""

    latent_channels = 16
    latent_dimensions = 3
    temporal_downscale_ratio = 4

    def __init__(self, scale: float = 1.0, rgb: tuple | None = None):
        self.scale_factor = scale
        if rgb is not None:
            self.latent_rgb_factors, self.latent_rgb_factors_bias = rgb


class CogVideoX(comfy.model_base.QwenImage):
    """The model around the network. A start image (concat_latent_image, with concat_mask 0 where frames are given) is
    concatenated for I2V; frames without one are zero.

    Core chooses the names that LoRA files may use by the model's class. Qwen-Image's network keeps diffusers' names,
    and so does this one: that is all that is taken from it.
    """

    def __init__(self, model_config, device=None):
        comfy.model_base.BaseModel.__init__(
            self, model_config, comfy.model_base.ModelType.V_PREDICTION, device=device, unet_model=DiffusersCogVideoX
        )
        self.model_sampling = CogVideoXSampling(model_config)

    def extra_conds(self, **kwargs):
        return comfy.model_base.BaseModel.extra_conds(self, **kwargs)

    def extra_conds_shapes(self, **kwargs):
        return {}

    def concat_cond(self, **kwargs):
        noise, image, mask = kwargs["noise"], kwargs.get("concat_latent_image"), kwargs.get("concat_mask")
        if self.diffusion_model.config.in_channels == noise.shape[1]:
            return None
        if image is None:
            return torch.zeros_like(noise)
        if image.ndim != 5 or image.shape[1] != noise.shape[1]:
            raise ValueError(
                f"{NODE}: the start image's latent has the shape {tuple(image.shape)}, not [batch, {noise.shape[1]}, "
                f"frames, height, width]; encode it with the vae output of the same node"
            )
        height, width = noise.shape[-2:]
        image = comfy.utils.common_upscale(image.to(noise.device), width, height, "bilinear", "center")
        if mask is not None:
            mask = mask.to(image).reshape(-1, 1, *mask.shape[-3:])
            given = 1 - comfy.utils.common_upscale(mask, width, height, "bilinear", "center").round()
            frames = min(given.shape[2], image.shape[2])
            image = image[:, :, :frames] * given[:, :, :frames]
        image = image[:, :, : noise.shape[2]]
        image = nn.functional.pad(image, (0, 0, 0, 0, 0, noise.shape[2] - image.shape[2]))
        scale = self.latent_format.scale_factor
        image = image / scale if self.model_config.invert_scale_latents else image * scale
        return comfy.utils.resize_to_batch_size(image, noise.shape[0])


class CogVideoXConfig(comfy.supported_models_base.BASE):
    """network: diffusers' transformer config; sampling: see CogVideoXSampling; invert: image latents are divided by
    the scale, as CogVideoX 1.5 was trained."""

    unet_extra_config: dict = {}

    def __init__(self, network: dict, sampling: dict, latent_format: CogVideoXLatent, invert: bool):
        super().__init__(network)
        self.sampling_settings = sampling
        self.latent_format = latent_format
        self.invert_scale_latents = invert
        width = network["num_attention_heads"] * network["attention_head_dim"]
        half = [torch.float16, torch.bfloat16] if width <= 1920 else [torch.bfloat16, torch.float16]  # as trained
        self.supported_inference_dtypes = [*half, torch.float32]
        self.memory_usage_factor = width / 2000 / (network.get("patch_size_t") or 1)  # core's rule for Wan

    def get_model(self, state_dict, prefix="", device=None):
        return CogVideoX(self, device)


def forget_positions(patcher) -> None:
    """What a ModelPatcher does at the end of a run, whatever its end."""
    patcher.model.diffusion_model.positions.forget()


def expected_shapes(network: dict) -> dict[str, torch.Size]:
    """Names and shapes of the transformer's tensors."""
    with torch.device("meta"):
        return {k: v.shape for k, v in CogVideoXTransformer3DModel(**network).state_dict().items()}
