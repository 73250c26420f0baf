"""The demo model's text encoder: one fixed random vector per known word, wrapped as a ComfyUI CLIP.

A prompt becomes `TOKENS` rows of 4096 numbers, as Wan's model expects: one row per known word, each word once, in order
of appearance; unknown words share one row; filler words ("a", "on", "background", ...) give none; unused rows are zero.
The order of words carries no meaning, so "a red circle on a navy background, bouncing" is the same prompt as
"a red circle bouncing on a navy background". The empty prompt is all zeros.
"""

import json
import logging
import re
from pathlib import Path

import torch
from comfy import sd1_clip

TOKENS = 16
WIDTH = 4096
VOCABULARY = json.loads((Path(__file__).parent / "text.json").read_text(encoding="utf-8"))
UNKNOWN, PAD = 0, -1
ROW = {word: row + 1 for row, word in enumerate(VOCABULARY["words"])}
ROW |= {alias: ROW[word] for alias, word in VOCABULARY["aliases"].items()}
FILLERS = set(VOCABULARY["fillers"])


def words(text: str) -> list[str]:
    """The words of `text` that mean something, known or not."""
    return [w for w in re.findall(r"\w+", text.lower()) if w not in FILLERS]


def rows(text: str) -> list[int]:
    """The rows of the embedding table that the words of `text` stand for, without repeats (row 0 = unknown word)."""
    return list(dict.fromkeys(ROW.get(w, UNKNOWN) for w in words(text)))[:TOKENS]


class Tokenizer:
    """Splits a prompt into words, honouring ComfyUI's (word:1.2) weights."""

    def __init__(self, embedding_directory=None, tokenizer_data=None):
        pass

    def tokenize_with_weights(self, text: str, return_word_ids: bool = False, **kwargs):
        weighted: dict[int, float] = {}
        unknown = []
        for part, weight in sd1_clip.token_weights(sd1_clip.escape_important(text), 1.0):
            plain = sd1_clip.unescape_important(part)
            unknown += [w for w in words(plain) if w not in ROW]
            for row in rows(plain):
                weighted.setdefault(row, weight)
        if unknown:
            logging.warning("Demo Video Model: it does not know %s (its words are on the node's help page)",
                            ", ".join(dict.fromkeys(unknown)))
        pairs = list(weighted.items())[:TOKENS]
        pairs += [(PAD, 1.0)] * (TOKENS - len(pairs))
        return {"words": [[(*pair, i) if return_word_ids else pair for i, pair in enumerate(pairs)]]}

    def untokenize(self, token_weight_pairs):
        names = {row: word for word, row in reversed(ROW.items())}
        return [(pair, names.get(pair[0], "")) for pair in token_weight_pairs]

    def state_dict(self):
        return {}


class WordEncoder(torch.nn.Module):
    """Table look-up: tokens -> cond [1, TOKENS, WIDTH]; the pooled output is None, as Wan's encoder's is."""

    def __init__(self, device="cpu", dtype=None, model_options=None):
        super().__init__()
        shape = (len(VOCABULARY["words"]) + 1, VOCABULARY["width"])
        self.embedding = torch.nn.Parameter(torch.zeros(shape, device=device, dtype=dtype), requires_grad=False)
        self.dtypes = {dtype or torch.float32}

    def set_clip_options(self, options):
        pass

    def reset_clip_options(self):
        pass

    def encode_token_weights(self, tokens):
        ids = torch.tensor([pair[0] for pair in tokens["words"][0]], device=self.embedding.device)
        weights = torch.tensor([pair[1] for pair in tokens["words"][0]], device=ids.device)
        table = self.embedding.float()
        cond = table[ids.clamp_min(0)] * ((ids != PAD) * weights)[:, None]
        return torch.nn.functional.pad(cond, (0, WIDTH - table.shape[1]))[None].cpu(), None

    def load_sd(self, sd):
        return self.load_state_dict(sd, strict=False)


def encode(table: torch.Tensor, prompts: list[str]) -> torch.Tensor:
    """Prompts -> [N, TOKENS, table width], for training: what the CLIP gives before its zero padding."""
    out = torch.zeros(len(prompts), TOKENS, table.shape[1])
    for i, text in enumerate(prompts):
        ids = rows(text)
        out[i, :len(ids)] = table[ids]
    return out
