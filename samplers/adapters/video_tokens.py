"""Where the video's tokens lie in the attention of each model that ComfyUI has: the one table of models."""

from collections.abc import Callable
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Layout:
    """Where a model's attention has its video tokens.

    patch (t, h, w), the number of attention layers, the width of a token's keys (all heads) and the order of the tokens
    are read from the diffusion model. order: "video" (self-attention of the video alone), "video text" or "text video"
    (joint); reference names the input whose tokens stand before the video's; refiner: attention over the text alone
    goes through the same function. text_apart: the video reads the text in an attention of its own, whose keys and
    values are made token by token, so that texts can stand side by side.
    """

    patch: Callable
    layers: Callable
    width: Callable
    order: Callable = lambda m: "video"
    reference: str = ""
    refiner: bool = False
    text_apart: bool = False


WAN = Layout(
    lambda m: m.patch_size, lambda m: len(m.blocks) + len(getattr(m, "vace_blocks", ())), lambda m: m.dim,
    reference="reference_latent", text_apart=True,
)  # fmt: skip
LAYOUTS = {
    "WanModel": WAN,
    "VaceWanModel": WAN,
    "CameraWanModel": WAN,
    "LTXVModel": Layout(lambda m: (1, 1, 1), lambda m: len(m.transformer_blocks), lambda m: m.inner_dim,
                        text_apart=True),
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
        lambda m: m.model_channels, text_apart=True,
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


# Classes whose video reads its text as those above do, with tokens of other things around the video's: SCAIL's
# references before it, all else (references, poses, motion, audio's padding) behind it; LTX-2's audio apart from it.
KIN = {
    "AnimateWanModel": WAN, "SCAILWanModel": WAN, "SCAIL2WanModel": WAN,
    "HumoWanModel": replace(WAN, reference=""), "WanModel_S2V": replace(WAN, reference=""),
    "LTXAVModel": LAYOUTS["LTXVModel"],
}  # fmt: skip
TIMED = "Wan 2.1 and 2.2 (Animate, HuMo, S2V and SCAIL, too), LTX-Video, LTX-2 and Cosmos Predict2"


def reads_text_apart(diffusion_model) -> Layout | None:
    """The layout of a model whose texts can stand side by side; None: of the others."""
    layout = (LAYOUTS | KIN).get(type(diffusion_model).__name__)
    return layout if layout is not None and layout.text_apart else None
