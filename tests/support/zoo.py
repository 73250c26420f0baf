"""Tiny random models of ComfyUI's real video classes, each with its real latent format and BaseModel, for tests.

zoo() names those the running core has. The nets keep what is odd about each class (patch sizes, RoPE axes, extra
channels, text widths, token refiners) and shrink the rest; the weights are seeded, of a scale at which attention,
prompt and noise all matter. Text is shorter than core's encoders make it, so that its length is never the video's.

How the nets call optimized_attention(q, k, v, heads, mask=..., ...), the same in 0.3.75 and 0.33 unless said. B rows
are apply_model's own (CFG branches x windows x batch), one to one. RoPE and the norms of q and k come before the call.
transformer_options is always a keyword, a fresh dict per model call, and its optimized_attention_override gets
(func, *args, **kwargs) with q, k, v as the first three.

net                     q, k, v of video    tokens            other calls                              x's channels
WanModel                [B, T, H*D]         video             text after it (i2v: image, then text)    16, i2v 36, 5B 48
VaceWanModel            [B, T, H*D]         video             as Wan; control blocks, video and text,  16
                                                              right after the main block they join
LTXVModel               [B, T, H*D]         video             text after it                            128
HunyuanVideo            [B, H, T, D]        video, text;      2 on text alone, before the first block  16, i2v 33
                                            0.33: text, video
HunyuanVideo (1.5)      as HunyuanVideo     as HunyuanVideo   as HunyuanVideo; text has image tokens   65 = 32 + 32 + 1
AsymmDiTJoint (Mochi)   [B, H, T, D]        video, text       none (pools text outside of it)          12
MiniTrainDIT (Cosmos)   [B, H, T, D]        video             text after it                            i2v 17
CogVideoX...3DModel     [B, T, H*D]         text, video       none                                     16, i2v 32
Kandinsky5              [B, H, T, D]        video             2 on text alone, then text after it      33 = 16 + 16 + 1

[B, H, T, D] comes with skip_reshape=True, and as views of other layouts except from HunyuanVideo's blocks. Masks:
LTXV's text (0.3.75: fifth argument, 0.33: keyword) and self-attention of guides with a strength (0.33: split into calls
with fewer queries than keys); HunyuanVideo's [1, 1, T] for padded text.
Reference tokens (from the sources, not run here): Wan puts reference_latents (ref_conv) before the video's and
context_latents (0.33) after them, time_dim_concat adds frames after the video; HunyuanVideo puts ref_latent before the
video's; LTXV's guides are frames of the latent itself, of which 0.33 leaves masked tokens out.
transformer_options["block_index"]: HunyuanVideo ("block_type" "double", then "single" from 0 again); 0.33 also Wan
(control blocks keep the main block's), Cosmos and Kandinsky5; never LTXV, Mochi and CogVideoX.
"""

import functools
import inspect
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field

import comfy.clip_vision
import comfy.ldm.cosmos.predict2
import comfy.ldm.flux.layers
import comfy.ldm.genmo.joint_model.asymm_models_joint
import comfy.ldm.hunyuan_video.model
import comfy.ldm.lightricks.model
import comfy.ldm.wan.model
import comfy.model_patcher
import comfy.nested_tensor
import comfy.ops
import comfy.sd
import comfy.supported_models
import torch

WIDTH = 128  # hidden width where heads can be small: two of them
DEPTH = 2


@dataclass(frozen=True)
class Model:
    """A class of the core at a tiny size.

    net: class name of the diffusion_model; channels: of the latent; patch: (frames, height, width) per token; blocks:
    optimized_attention calls per forward that see all the video's tokens, `control_blocks` of them on VACE's control
    stream; joint: "self" (video alone), "video first" or "text first"; side: a latent's height and width in tests;
    text(seed) and video(frames, side) make the conditioning, the latter what all prompts of a video share.
    """

    name: str
    net: str
    channels: int
    patch: tuple[int, int, int]
    blocks: int
    joint: str
    build: Callable[[], comfy.model_patcher.ModelPatcher]
    text: Callable[[int], tuple[torch.Tensor, dict]]
    video: Callable[[int, int], dict] = field(default=lambda frames, side: {})
    control_blocks: int = 0
    side: int = 8

    @property
    def tokens_per_frame(self) -> int:
        """Video tokens per latent frame where patch[0] is 1."""
        return (self.side // self.patch[1]) * (self.side // self.patch[2])

    def video_tokens(self, frames: int) -> int:
        return math.ceil(frames / self.patch[0]) * self.tokens_per_frame

    def latent(self, frames: int, batch: int = 1) -> torch.Tensor:
        """Empty latent [B, C, F, H, W]."""
        return torch.zeros(batch, self.channels, frames, self.side, self.side)

    def conditioning(self, seed: int, frames: int, **extra) -> list:
        """A prompt as core's text encoder and image nodes of this model write it; `extra` is added to its dict."""
        text, options = self.text(seed)
        return [[text, {**options, **self.video(frames, self.side), **extra}]]


def randn(*shape, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def random_weights(shapes: dict[str, torch.Tensor], seed: int = 0) -> dict[str, torch.Tensor]:
    """Seeded weights for a net's state dict: norms near 1 (near 2 for q and k: peaked attention), outputs near 1."""
    generator = torch.Generator().manual_seed(seed)
    weights = {}
    for key, shape in ((k, v.shape) for k, v in shapes.items()):
        value = torch.randn(shape, generator=generator)
        if len(shape) == 1 and key.endswith("bias"):
            value *= 0.1
        elif len(shape) == 1:
            value = 0.1 * value + (2.0 if "q_norm" in key or "norm_q" in key or "query_norm" in key else 1.0)
        elif "modulation" in key and not key.endswith("weight") or "scale_shift_table" in key:
            value *= 0.3
        else:
            value /= math.sqrt(math.prod(shape[1:]))
        weights[key] = value
    return weights


def detected(net, config: dict, metadata: dict | None = None) -> comfy.model_patcher.ModelPatcher:
    """Through core's loader, which reads the class and its sizes from the weights."""
    shapes = net(**config, device="meta", dtype=torch.float32, operations=comfy.ops.disable_weight_init).state_dict()
    return comfy.sd.load_diffusion_model_state_dict(random_weights(shapes), metadata=metadata)


def constructed(supported: str, config: dict) -> comfy.model_patcher.ModelPatcher:
    """From core's class in supported_models, for those whose sizes the loader takes from a fixed table."""
    model_config = getattr(comfy.supported_models, supported)(config)
    model_config.set_inference_dtype(torch.float32, None)
    model = model_config.get_model({}, "", device=torch.device("cpu"))
    model.load_model_weights(random_weights(model.diffusion_model.state_dict()), "")
    cpu = torch.device("cpu")
    return comfy.model_patcher.ModelPatcher(model, load_device=cpu, offload_device=cpu)


def t5(width: int, tokens: int = 12, mask: bool = False):
    """T5 pads to a fixed length and has no pooled output; with `mask` the padding is zero and marked."""

    def text(seed: int):
        cross, options = randn(1, tokens, width, seed=seed), {"pooled_output": None}
        if mask:
            options["attention_mask"] = (torch.arange(tokens) < tokens - 1 - seed % 4).long()[None]
            cross *= options["attention_mask"][..., None]
        return cross, options

    return text


def llama(width: int, pooled: int | None, byt5: bool = False):
    """A language model's text has a length per prompt and no mask; HunyuanVideo 1.5 adds quoted text as ByT5's."""

    def text(seed: int):
        options = {"pooled_output": None if pooled is None else randn(1, pooled, seed=seed + 1000)}
        if byt5:
            options["conditioning_byt5small"] = randn(1, 3, 1472, seed=seed + 2000)
        return randn(1, 9 + seed % 5, width, seed=seed), options

    return text


def clip_vision(tokens: int, width: int) -> comfy.clip_vision.Output:
    output = comfy.clip_vision.Output()
    output["penultimate_hidden_states"] = output["last_hidden_state"] = randn(1, tokens, width, seed=11)
    return output


def start_image(channels: int, vision: tuple[int, int]):
    """A start image as core's image-to-video nodes write it: its latents, which frames are given, CLIP's view of it."""

    def video(frames: int, side: int) -> dict:
        mask = torch.ones(1, 1, frames, side, side)
        mask[:, :, :1] = 0.0
        image = randn(1, channels, frames, side, side, seed=12)
        return {"concat_latent_image": image, "concat_mask": mask, "clip_vision_output": clip_vision(*vision)}

    return video


def vace_video(frames: int, side: int) -> dict:
    mask = (randn(1, 64, frames, side, side, seed=14) > 0).float()
    return {
        "vace_frames": [randn(1, 32, frames, side, side, seed=13)], "vace_mask": [mask], "vace_strength": [0.8],
    }  # fmt: skip


def wan(net: str = "WanModel", **config) -> comfy.model_patcher.ModelPatcher:
    config = {"dim": 256, "ffn_dim": 256, "num_heads": 2, "num_layers": DEPTH, "cross_attn_norm": True} | config
    return detected(getattr(comfy.ldm.wan.model, net), config)


def ltxv() -> comfy.model_patcher.ModelPatcher:
    sizes = {
        "num_attention_heads": 2, "attention_head_dim": WIDTH // 2, "cross_attention_dim": WIDTH, "num_layers": DEPTH,
    }  # fmt: skip
    return detected(
        comfy.ldm.lightricks.model.LTXVModel, sizes, metadata={"config": json.dumps({"transformer": sizes})}
    )


def hunyuan(**config) -> comfy.model_patcher.ModelPatcher:
    config = {
        "image_model": "hunyuan_video", "in_channels": 16, "out_channels": 16, "vec_in_dim": 768,
        "context_in_dim": 4096, "hidden_size": 256, "mlp_ratio": 4.0, "num_heads": 2, "depth": DEPTH,
        "depth_single_blocks": 1, "axes_dim": [16, 56, 56], "theta": 256, "patch_size": [1, 2, 2], "qkv_bias": True,
        "guidance_embed": True, "byt5": False, "meanflow": False, "use_cond_type_embedding": False,
        "vision_in_dim": None, "meanflow_sum": False,
    } | config  # fmt: skip
    known = inspect.signature(comfy.ldm.hunyuan_video.model.HunyuanVideoParams).parameters
    named = {k: v for k, v in config.items() if k in known or k == "image_model"}
    return detected(comfy.ldm.hunyuan_video.model.HunyuanVideo, named)


def hunyuan15() -> comfy.model_patcher.ModelPatcher:
    return hunyuan(
        in_channels=65, out_channels=32, vec_in_dim=None, context_in_dim=3584, hidden_size=128, num_heads=1,
        patch_size=[1, 1, 1], guidance_embed=False, byt5=True, use_cond_type_embedding=True, vision_in_dim=1152,
        meanflow_sum=True,
    )  # fmt: skip


def mochi() -> comfy.model_patcher.ModelPatcher:
    config = {
        "image_model": "mochi_preview", "depth": DEPTH, "patch_size": 2, "num_heads": 2, "hidden_size_x": WIDTH,
        "hidden_size_y": WIDTH // 2, "mlp_ratio_x": 1536 * 8 / WIDTH, "mlp_ratio_y": 4.0, "learn_sigma": False,
        "in_channels": 12, "qk_norm": True, "qkv_bias": False, "out_bias": True, "attn_drop": 0.0,
        "patch_embed_bias": True, "posenc_preserve_area": True, "timestep_mlp_bias": True, "attend_to_padding": False,
        "timestep_scale": 1000.0, "use_t5": True, "t5_feat_dim": WIDTH, "t5_token_length": 256, "rope_theta": 10000.0,
    }  # fmt: skip
    return constructed("GenmoMochi", config)


def cosmos() -> comfy.model_patcher.ModelPatcher:
    config = {
        "image_model": "cosmos_predict2", "max_img_h": 240, "max_img_w": 240, "max_frames": 128, "in_channels": 17,
        "out_channels": 16, "patch_spatial": 2, "patch_temporal": 1, "model_channels": WIDTH, "num_blocks": DEPTH,
        "num_heads": 2, "concat_padding_mask": True, "crossattn_emb_channels": 1024, "pos_emb_cls": "rope3d",
        "pos_emb_learnable": True, "pos_emb_interpolation": "crop", "min_fps": 1, "max_fps": 30,
        "use_adaln_lora": True, "adaln_lora_dim": 32, "extra_per_block_abs_pos_emb": False,
        "rope_h_extrapolation_ratio": 3.0, "rope_w_extrapolation_ratio": 3.0, "rope_t_extrapolation_ratio": 1.0,
        "rope_enable_fps_modulation": False,
    }  # fmt: skip
    return constructed("CosmosI2VPredict2", config)


def cogvideox(patch_size_t: int | None, in_channels: int = 16) -> comfy.model_patcher.ModelPatcher:
    import comfy.ldm.cogvideo.model  # not in 0.3.75

    return detected(
        comfy.ldm.cogvideo.model.CogVideoXTransformer3DModel,
        {
            "num_attention_heads": 2, "attention_head_dim": 64, "time_embed_dim": 64, "num_layers": DEPTH,
            "in_channels": in_channels, "patch_size_t": patch_size_t, "use_rotary_positional_embeddings": True,
        },
    )  # fmt: skip


def kandinsky5() -> comfy.model_patcher.ModelPatcher:
    import comfy.ldm.kandinsky5.model  # not in 0.3.75

    sizes = {"model_dim": WIDTH, "ff_dim": 256, "time_dim": 64, "num_text_blocks": 2, "num_visual_blocks": DEPTH}
    return detected(comfy.ldm.kandinsky5.model.Kandinsky5, sizes)


def ltxav() -> comfy.model_patcher.ModelPatcher:
    import comfy.ldm.lightricks.av_model  # not in 0.3.75

    sizes = {
        "num_attention_heads": 2, "attention_head_dim": WIDTH // 2, "cross_attention_dim": WIDTH, "num_layers": DEPTH,
        "audio_num_attention_heads": 2, "audio_attention_head_dim": WIDTH // 4, "audio_cross_attention_dim": WIDTH // 2,
        "caption_channels": WIDTH, "connector_attention_head_dim": WIDTH // 2, "connector_num_attention_heads": 2,
        "connector_num_layers": 1,
    }  # fmt: skip
    return detected(
        comfy.ldm.lightricks.av_model.LTXAVModel, sizes, metadata={"config": json.dumps({"transformer": sizes})}
    )


def minimax_h3() -> comfy.model_patcher.ModelPatcher:
    import comfy.ldm.minimax.model  # not in 0.3.75

    sizes = {
        "hidden_size": WIDTH, "num_layers": DEPTH, "token_refiner_num_layers": 1, "num_attention_heads": 1,
        "attention_head_dim": WIDTH, "ffn_hidden_size": WIDTH, "text_dim": WIDTH, "timestep_input_dim": 64,
        "time_embed_hidden_size": WIDTH, "time_embed_dim": 64,
    }  # fmt: skip
    return detected(comfy.ldm.minimax.model.MiniMaxH3Model, sizes)


VIDEO_FIRST = "flipped_img_txt" in inspect.signature(comfy.ldm.flux.layers.DoubleStreamBlock).parameters
HUNYUAN_JOINT = "video first" if VIDEO_FIRST else "text first"

# Class in supported_models -> model; a core without the class has no such model.
MODELS = [
    ("WAN21_T2V", Model("wan21_t2v", "WanModel", 16, (1, 2, 2), DEPTH, "self", wan, t5(4096))),
    (
        "WAN21_I2V",
        Model(
            "wan21_i2v", "WanModel", 16, (1, 2, 2), DEPTH, "self", functools.partial(wan, model_type="i2v", in_dim=36),
            t5(4096), start_image(16, (257, 1280)),
        ),
    ),
    (
        "WAN22_T2V",
        Model(
            "wan22_5b", "WanModel", 48, (1, 2, 2), DEPTH, "self", functools.partial(wan, in_dim=48, out_dim=48),
            t5(4096),
        ),
    ),
    (
        "WAN21_Vace",
        Model(
            "wan21_vace", "VaceWanModel", 16, (1, 2, 2), DEPTH + 1, "self",
            functools.partial(wan, "VaceWanModel", vace_layers=1, vace_in_dim=96), t5(4096), vace_video,
            control_blocks=1,
        ),
    ),
    ("LTXV", Model("ltxv", "LTXVModel", 128, (1, 1, 1), DEPTH, "self", ltxv, t5(4096, mask=True), side=4)),
    (
        "HunyuanVideo",
        Model(
            "hunyuan_video", "HunyuanVideo", 16, (1, 2, 2), DEPTH + 1, HUNYUAN_JOINT, hunyuan, llama(4096, pooled=768)
        ),
    ),
    (
        "HunyuanVideo15",
        Model(
            "hunyuan_video15", "HunyuanVideo", 32, (1, 1, 1), DEPTH + 1, HUNYUAN_JOINT, hunyuan15,
            llama(3584, pooled=None, byt5=True), start_image(32, (7, 1152)), side=4,
        ),
    ),
    ("GenmoMochi", Model("mochi", "AsymmDiTJoint", 12, (1, 2, 2), DEPTH, "video first", mochi, t5(WIDTH, mask=True))),
    ("CosmosI2VPredict2", Model("cosmos_predict2", "MiniTrainDIT", 16, (1, 2, 2), DEPTH, "self", cosmos, t5(1024))),
    (
        "CogVideoX_T2V",
        Model(
            "cogvideox", "CogVideoXTransformer3DModel", 16, (1, 2, 2), DEPTH, "text first",
            functools.partial(cogvideox, None), t5(4096),
        ),
    ),
    (
        "CogVideoX_T2V",
        Model(
            "cogvideox15", "CogVideoXTransformer3DModel", 16, (2, 2, 2), DEPTH, "text first",
            functools.partial(cogvideox, 2), t5(4096),
        ),
    ),
    (
        "Kandinsky5",
        Model("kandinsky5", "Kandinsky5", 16, (1, 2, 2), DEPTH, "self", kandinsky5, llama(3584, pooled=768)),
    ),
]  # fmt: skip


@dataclass(frozen=True)
class AudioVideoModel(Model):
    """A model that samples audio beside the video, packed into one; audio: its shape for a number of frames."""

    audio: Callable[[int], tuple[int, ...]] = None

    def latent(self, frames: int, batch: int = 1) -> comfy.nested_tensor.NestedTensor:
        return comfy.nested_tensor.NestedTensor(
            (super().latent(frames, batch), torch.zeros(batch, *self.audio(frames)))
        )


AUDIO_VIDEO = [
    (
        "LTXAV",
        AudioVideoModel(
            "ltxav", "LTXAVModel", 128, (1, 1, 1), DEPTH, "self", ltxav, t5(2 * WIDTH), side=4,
            audio=lambda frames: (8, 8 * frames - 7, 16),
        ),
    ),
    (
        "MiniMaxH3",
        AudioVideoModel(
            "minimax_h3", "MiniMaxH3Model", 24, (1, 2, 2), DEPTH, "text first", minimax_h3, t5(WIDTH), side=4,
            audio=lambda frames: (32, 2, 6 * frames),
        ),
    ),
]  # fmt: skip


def audio_video() -> dict[str, AudioVideoModel]:
    """The models with audio that the running core has, by name."""
    return {model.name: model for supported, model in AUDIO_VIDEO if hasattr(comfy.supported_models, supported)}


def zoo() -> dict[str, Model]:
    """The models the running core has, by name."""
    return {model.name: model for supported, model in MODELS if hasattr(comfy.supported_models, supported)}


@functools.cache
def patcher(name: str) -> comfy.model_patcher.ModelPatcher:
    """The ModelPatcher of a model, built once; clone it before changing its options."""
    with torch.inference_mode(False):  # as ComfyUI loads models, whichever test is the first to ask
        return (zoo() | audio_video())[name].build()
