"""Where the video's tokens lie in the attention of each model that ComfyUI has: the one table of models."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Layout:
    """Where a model's attention has its video tokens.

    patch (t, h, w), the number of attention layers, the width of a token's keys (all heads) and the order of the tokens
    are read from the diffusion model. order: "video" (self-attention of the video alone), "video text" or "text video"
    (joint); reference names the input whose tokens stand before the video's; refiner: attention over the text alone
    goes through the same function.
    """

    patch: Callable
    layers: Callable
    width: Callable
    order: Callable = lambda m: "video"
    reference: str = ""
    refiner: bool = False


WAN = Layout(
    lambda m: m.patch_size, lambda m: len(m.blocks) + len(getattr(m, "vace_blocks", ())), lambda m: m.dim,
    reference="reference_latent",
)  # fmt: skip
LAYOUTS = {
    "WanModel": WAN,
    "VaceWanModel": WAN,
    "CameraWanModel": WAN,
    "LTXVModel": Layout(lambda m: (1, 1, 1), lambda m: len(m.transformer_blocks), lambda m: m.inner_dim),
    "HunyuanVideo": Layout(
        lambda m: m.patch_size, lambda m: len(m.double_blocks) + len(m.single_blocks), lambda m: m.hidden_size,
        lambda m: "video text" if hasattr(m.double_blocks[0], "flipped_img_txt") else "text video",  # newer cores
        reference="ref_latent", refiner=True,
    ),
    "AsymmDiTJoint": Layout(
        lambda m: (1, m.patch_size, m.patch_size), lambda m: len(m.blocks), lambda m: m.hidden_size_x,
        lambda m: "video text",
    ),
    "MiniTrainDIT": Layout(
        lambda m: (m.patch_temporal, m.patch_spatial, m.patch_spatial), lambda m: len(m.blocks),
        lambda m: m.model_channels,
    ),
    "CogVideoXTransformer3DModel": Layout(
        lambda m: (m.patch_size_t or 1, m.patch_size, m.patch_size), lambda m: len(m.blocks), lambda m: m.dim,
        lambda m: "text video",
    ),
    "DiffusersCogVideoX": Layout(  # of LongTakeCogVideoXLoader
        lambda m: (m.config.patch_size_t or 1, m.config.patch_size, m.config.patch_size),
        lambda m: len(m.transformer_blocks), lambda m: m.config.num_attention_heads * m.config.attention_head_dim,
        lambda m: "text video",
    ),
    "Kandinsky5": Layout(lambda m: m.patch_size, lambda m: len(m.visual_transformer_blocks), lambda m: m.model_dim),
}  # fmt: skip
KNOWN = "Wan 2.1 and 2.2, LTX-Video, HunyuanVideo and 1.5, Mochi, Cosmos Predict2, CogVideoX, Kandinsky 5"


def layout_of(diffusion_model) -> Layout:
    """Raises ValueError for a model whose video tokens are not known."""
    name = type(diffusion_model).__name__  # a subclass can have its tokens elsewhere, as Wan S2V and HuMo have
    if name not in LAYOUTS:
        raise ValueError(f"model: {name} is not a model whose attention is known here; known: {KNOWN}")
    return LAYOUTS[name]
