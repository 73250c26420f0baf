"""CogVideoX's text encoder: ComfyUI's own T5-XXL, its prompts cut or padded to 226 tokens and padding not masked out.

ComfyUI's tokenizer is the one in CogVideoX's tokenizer folder, so that folder is not read.
"""

import inspect
import logging

import comfy.sd
import comfy.text_encoders.sd3_clip
import comfy.utils
import folder_paths
from comfy import sd1_clip

logger = logging.getLogger(__name__)

TOKENS = 226
# The sizes in a text_encoder/config.json, with T5-XXL's values.
T5_XXL = {"d_ff": 10240, "d_kv": 64, "d_model": 4096, "num_heads": 64, "num_layers": 24, "vocab_size": 32128}
BUCKETS = 32  # of the relative positions; fixed in core


class T5Tokenizer(comfy.text_encoders.sd3_clip.T5XXLTokenizer):
    """T5 tokens of a prompt, always TOKENS of them: text past the last place is left out, as in diffusers."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(embedding_directory, tokenizer_data or {}, min_length=TOKENS)

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs):
        batches = super().tokenize_with_weights(text, return_word_ids, **kwargs)
        for tokens in batches:
            if len(tokens) > TOKENS:
                logger.warning(
                    "LongTake: the prompt has %d tokens; CogVideoX reads the first %d.", len(tokens), TOKENS
                )
                tokens[TOKENS - 1 :] = tokens[-1:]  # the end token
        return batches


class Tokenizer(sd1_clip.SD1Tokenizer):
    def __init__(self, embedding_directory=None, tokenizer_data=None):
        super().__init__(embedding_directory, tokenizer_data or {}, clip_name="t5xxl", tokenizer=T5Tokenizer)


def sizes(config: dict) -> dict[str, int]:
    """T5-XXL's sizes, but for those that a text_encoder/config.json gives."""
    return T5_XXL | {k: v for k, v in config.items() if k in T5_XXL}


def expected_shapes(config: dict) -> dict[str, tuple]:
    """Names and shapes of a T5 encoder's tensors."""
    c = sizes(config)
    width, inner, wide = c["d_model"], c["d_kv"] * c["num_heads"], c["d_ff"]
    shapes = {"shared.weight": (c["vocab_size"], width), "encoder.final_layer_norm.weight": (width,)}
    for i in range(c["num_layers"]):
        attention, dense = f"encoder.block.{i}.layer.0.", f"encoder.block.{i}.layer.1."
        shapes |= {f"{attention}SelfAttention.{x}.weight": (inner, width) for x in "qkv"}
        shapes |= {f"{dense}DenseReluDense.{x}.weight": (wide, width) for x in ("wi_0", "wi_1")}
        shapes[f"{attention}SelfAttention.o.weight"] = (width, inner)
        shapes[f"{dense}DenseReluDense.wo.weight"] = (width, wide)
        shapes |= {f"{x}layer_norm.weight": (width,) for x in (attention, dense)}
    shapes["encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"] = (BUCKETS, c["num_heads"])
    return shapes


def load(weights: dict, metadata: dict, config: dict) -> comfy.sd.CLIP:
    """CLIP from a T5 encoder's state dict; `config` is a text_encoder/config.json, or empty for T5-XXL."""
    if hasattr(comfy.utils, "convert_old_quants"):  # newer cores read scaled fp8 files through it
        weights, metadata = comfy.utils.convert_old_quants(weights, model_prefix="", metadata=metadata)
    detected = comfy.text_encoders.sd3_clip.t5_xxl_detect(weights)
    dtype = detected.pop("dtype_t5", None)
    options = {"t5xxl_model_config": sizes(config)}
    for name, value in detected.items():  # how the file is quantised: t5xxl_scaled_fp8, t5_quantization_metadata
        options[f"t5xxl_{name.split('_', 1)[1]}"] = value

    class Encoder(sd1_clip.SD1ClipModel):
        def __init__(self, device="cpu", dtype=None, model_options=None):
            super().__init__(
                device=device, dtype=dtype, name="t5xxl", clip_model=comfy.text_encoders.sd3_clip.T5XXLModel,
                model_options=model_options or {},
            )  # fmt: skip

    class Target:
        params: dict = {}
        clip = Encoder
        tokenizer = Tokenizer

    if dtype is not None:
        options["dtype"] = dtype
    arguments = {
        "embedding_directory": folder_paths.get_folder_paths("embeddings"),
        "parameters": comfy.utils.calculate_parameters(weights),
        "model_options": options,
    }
    if "state_dict" in inspect.signature(comfy.sd.CLIP.__init__).parameters:  # newer cores load before they place it
        return comfy.sd.CLIP(Target, state_dict=[weights], **arguments)
    clip = comfy.sd.CLIP(Target, **arguments)
    clip.load_sd(weights)
    return clip
