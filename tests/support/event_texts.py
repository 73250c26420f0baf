"""Timelines told by frame on the zoo's models, and what they are measured by: attention by hand, frame by frame, each
over its own events' texts alone."""

import math

import comfy.sample
import torch
from longtake.samplers.prompts.timeline import Span

from . import zoo
from .window_inputs import CASES
from .zoo_runs import FRAMES, overridden

TOTAL = 4 * (FRAMES - 1) + 1  # pixel frames: latent frames 0..8
STARTS = (0, 9, 21, 25)  # events of latent frames 0-2, 3-5, 6, 7-8
CLOSE = 1e-4  # latents come out near 8
MODELS = ["wan21_t2v", "wan21_i2v", "wan22_5b", "wan21_vace", "ltxv", "cosmos_predict2"]
WAN = "wan21_t2v"


def model_of(name):
    return CASES[name] if name in CASES else (zoo.zoo() | zoo.audio_video())[name]


def entry(name, seed, tokens=None, **extra):
    (text, options), = model_of(name).conditioning(seed, FRAMES, **extra)
    return [text if tokens is None else zoo.randn(1, tokens, text.shape[-1], seed=seed), options]


def timeline(name=WAN, starts=STARTS, blend=0.0, timing="frame", border="linear", tokens=None):
    """Entry 0 global, an entry per event; tokens: of each event's text."""
    found = [entry(name, 1, longtake_span=None)]
    for i, start in enumerate(starts):
        end = starts[i + 1] if i + 1 < len(starts) else TOTAL
        span = Span(i, start, end, blend, TOTAL, timing, border)
        found.append(entry(name, 10 + i, tokens and tokens[i], longtake_span=span, start_percent=1.0, end_percent=0.0))
    return found


def joined(name=WAN, count=4, tokens=None):
    """All events' texts as one plain prompt."""
    texts = [entry(name, 10 + i, tokens and tokens[i]) for i in range(count)]
    options = dict(texts[0][1])
    if "attention_mask" in options:
        options["attention_mask"] = torch.cat([o["attention_mask"] for _, o in texts], 1)
    return [[torch.cat([t for t, _ in texts], 1), options]]


def shares(frame, starts=STARTS, blend=0.0):
    """Each event's weight in a latent frame, a ramp of `blend` around each border."""
    centre = 4 * frame - 1.5 if frame else 0.0
    if blend == 0:
        own = max(i for i, start in enumerate(starts) if start <= centre)
        return [float(i == own) for i in range(len(starts))]
    rise = [1.0, *(min(max((centre - start) / blend + 0.5, 0.0), 1.0) for start in starts[1:]), 0.0]
    return [a - b for a, b in zip(rise, rise[1:], strict=False)]


def by_hand(name=WAN, starts=STARTS, blend=0.0, tokens=None, of=shares, behind=False):
    """An override for joined(): softmax frame by frame, the texts of its events weighted, the others left out. Tokens
    beside the video's stand before them or `behind`."""
    counts = tokens or [entry(name, 10)[0].shape[1]] * len(starts)
    per_frame = model_of(name).tokens_per_frame
    own = [slice(sum(counts[:i]), sum(counts[: i + 1])) for i in range(len(counts))]

    def attention(func, q, k, v, heads, mask=None, *args, **kwargs):
        options = kwargs["transformer_options"]
        windows = options.get("longtake", {}).get("windows", (range(FRAMES),))
        video = len(windows[0]) * per_frame
        if k.shape[-2] != sum(counts) or q.shape[-2] < video:
            return func(q, k, v, heads, mask, *args, **kwargs)
        flat = not kwargs.get("skip_reshape")
        q, k, v = (t.unflatten(-1, (heads, -1)).transpose(1, 2) if flat else t for t in (q, k, v))
        beside, rows = q.shape[-2] - video, []
        before = 0 if behind else beside
        per_window = q.shape[0] // len(windows) // len(options["cond_or_uncond"])
        for row in range(q.shape[0]):
            frames = [of(f, starts, blend) for f in windows[row // per_window % len(windows)]]
            mean = [sum(column) / len(frames) for column in zip(*frames, strict=True)]
            parts = []
            places = [(slice(before + i * per_frame, before + (i + 1) * per_frame), w) for i, w in enumerate(frames)]
            if beside:
                places.insert(len(places) * behind, (slice(video, None) if behind else slice(0, beside), mean))
            for at, weights in places:
                logits = q[row, :, at] @ k[row].transpose(-1, -2) / math.sqrt(q.shape[-1])
                if mask is not None:
                    logits = logits + mask[row % len(mask), 0]
                e = (logits - logits.amax(-1, keepdim=True)).exp()
                scaled = torch.zeros_like(e)
                for w, text in zip(weights, own, strict=True):
                    scaled[..., text] = w * (logits[..., text] - logits.amax(-1, keepdim=True)).exp()
                parts.append(scaled / scaled.sum(-1, keepdim=True) @ v[row])
            rows.append(torch.cat(parts, 1))
        out = torch.stack(rows)
        return out if kwargs.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)

    return overridden(name, attention) if name not in CASES or name in zoo.zoo() else with_override(name, attention)


def with_override(name, attention):
    patcher = CASES[name].build()
    patcher.model_options["transformer_options"]["optimized_attention_override"] = attention
    return patcher


def run_case(name, patcher, positive):
    latent = CASES[name].latent(FRAMES)
    return comfy.sample.sample(
        patcher, comfy.sample.prepare_noise(latent, 5), 1, 2.0, "euler", "simple", positive,
        CASES[name].conditioning(2, FRAMES), latent, disable_pbar=True, seed=5,
    )  # fmt: skip


def sample(patcher, positive, negative):
    latent = zoo.zoo()[WAN].latent(FRAMES)
    return comfy.sample.sample(
        patcher, comfy.sample.prepare_noise(latent, 5), 2, 2.0, "euler", "simple", positive, negative, latent,
        disable_pbar=True, seed=5,
    )  # fmt: skip
