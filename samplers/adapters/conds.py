"""Conditioning of one window: what core does not slice, and several windows as one batch.

Works on ComfyUI's preprocessed conds: a list of dicts, "model_conds" holding comfy.conds objects.
"""

import itertools

import torch
from comfy.utils import repeat_to_batch_size

from ..fusion import frames_of
from .timeline import SPAN_KEY
from .window import window_frames

ONE_ROW = ("ref_latent", "guiding_frame_index")  # HunyuanVideo's, which core's model takes with a batch of one only
WHOLE = ("reference_latent", "ref_latent", "time_dim_concat")  # images beside the video
FIRST = ("guiding_frame_index", "reference_motion")  # HunyuanVideo's image as frame 0; what came before Wan S2V's video
IN_LATENT = ("denoise_mask", "guiding_frame_index")  # say that frames of the latent itself are given
# What other packs' step caches write into transformer_options.
STEP_CACHES = {
    "teacache": "TeaCache", "rel_l1_thresh": "TeaCache", "magcache": "MagCache", "taylorseer": "TaylorSeer",
    "dicache": "DiCache", "fbcache": "First Block Cache", "first_block_cache": "First Block Cache",
}  # fmt: skip
# Frame axis and entries per latent frame of audio_embed, by its number of axes: Wan S2V's [B, layers, C, 4 F] and
# HuMo's [B, F, 8, 5, C].
AUDIO = {4: (3, 4), 5: (1, 1)}


def uncuttable(conds: list, options: dict, frames: int, new_core: bool, guides: bool, retain=()) -> str | None:
    """What among the conditioning, or the model's transformer_options, cannot be cut into windows of a video of
    `frames` latent frames: in words, with a way out; None: nothing. guides: whether core cuts guide frames here;
    retain: see WindowSettings."""
    if type(options.get("easycache")).__name__ == "EasyCacheHolder":
        return (
            "model: EasyCache keeps one result per prompt and would hand one window's to another; use LazyCache, which "
            "caches whole steps"
        )
    for key in options:
        for mark, name in STEP_CACHES.items():
            if mark in str(key).lower():
                return (
                    f"model: {name} keeps one result per prompt and would hand one window's to another; bypass its "
                    f"node, or use ComfyUI's LazyCache, which caches whole steps"
                )
    if "audio_embeds" in options:
        return "model: InfiniteTalk lays its audio over the whole video; bypass its node (WanInfiniteTalkToVideo)"
    for key, value in (item for cond in conds if cond for entry in cond for item in entry["model_conds"].items()):
        if key == "keyframe_idxs" and not guides:
            older = "" if new_core else " (a newer ComfyUI cuts those of LTX-2)"
            return f"conditioning: guide frames in the latent cannot be cut into windows{older}; leave them out"
        if retain and key in IN_LATENT:
            return (
                f"retain ({', '.join(map(str, retain))}): the given frames are in the latent itself, of which each "
                f"window samples its own; leave retain empty"
            )
        if key == "generated_keyframes":
            return "conditioning: generated keyframes belong to the whole video; leave them out"
        if key in ("pose_latents", "face_pixel_values") and not new_core:
            return f"conditioning: {key} (Wan Animate) needs a newer ComfyUI, which cuts it into windows"
        if key == "audio_embed":
            shape = tuple(value.cond.shape)
            if len(shape) not in AUDIO:
                return f"conditioning: audio of the shape {shape} is of a kind that is not known here; leave it out"
            dim, rate = AUDIO[len(shape)]
            if shape[dim] < frames * rate:
                return (
                    f"conditioning: the audio ends after {shape[dim] // rate} of the video's {frames} latent frames; "
                    f"make it as long as the video"
                )
    return None


def cut_conds(
    entries: list[dict], resized: list[dict], window, frames: int, ndim: int, new_core: bool, retain=()
) -> None:
    """Set right what core's get_resized_cond made of `entries`, in place on its copies `resized`.

    - References stay whole (core cuts them where one of their sizes happens to be the video's number of frames).
    - What is said of the video's first frames stays with the windows that begin with them.
    - Audio is cut as its model reads it.
    - Where the frames are the batch (window.dim 0), a tensor of several rows goes by frames, repeated over the video as
      core repeats it over a batch; num_video_frames (SVD's) is the window's.
    - Core 0.3.75 leaves video tensors (concat latents, masks) and VACE contexts at full length; later ones cut them,
      with `retain` (see WindowSettings) as here.
    """
    seen = window_frames(window)
    shown = list(seen)
    for i in retain:
        shown[i] = i % frames
    for entry, cut in zip(entries, resized, strict=True):
        for key, value in entry.get("model_conds", {}).items():
            tensor, conds = getattr(value, "cond", None), cut["model_conds"]
            if window.dim == 0:
                if key == "num_video_frames":
                    conds[key] = value._copy_with(len(shown))
                elif isinstance(tensor, torch.Tensor) and tensor.shape[0] > 1:
                    conds[key] = value._copy_with(frames_of(repeat_to_batch_size(tensor, frames), 0, shown))
            elif key in WHOLE:
                conds[key] = value
            elif key in FIRST:
                if seen[0] != 0:
                    del conds[key]
            elif key == "time_dim_replace":  # Kandinsky 5: image latents in the place of the first frames
                given = list(itertools.takewhile(lambda f, n=tensor.shape[2]: f < n, shown))
                if given:
                    conds[key] = value._copy_with(frames_of(tensor, 2, given))
                else:
                    del conds[key]
            elif key == "audio_embed":
                dim, rate = AUDIO[tensor.ndim]
                places = [f * rate + i for f in seen for i in range(rate)]
                conds[key] = value._copy_with(frames_of(tensor, dim, places))
            elif not new_core and isinstance(tensor, torch.Tensor):
                vace = key == "vace_context"
                dim = 3 if vace else window.dim
                if tensor.ndim == ndim + vace and tensor.shape[dim] == frames:
                    conds[key] = value._copy_with(frames_of(tensor, dim, shown))


def merge_windows(per_window: list, batch: int):
    """One CFG branch's conds of several windows as conds of one batch (windows first), or None where they do not fit.

    per_window[w] is window w's list of entries, or None for an unused branch; batch is the latent's own batch size.
    Equal conds stay as they are (core repeats them over the batch), the others are concatenated.
    """
    if len({len(entries) for entries in per_window}) != 1:
        return None
    if any(key in entry["model_conds"] for entry in per_window[0] for key in ONE_ROW):
        return None
    merged = []
    for entries in zip(*per_window, strict=True):
        first = entries[0]
        if not all(_same_settings(first, other) for other in entries[1:]):
            return None
        conds = {}
        for key in first["model_conds"]:
            value = _merge([entry["model_conds"][key] for entry in entries], batch)
            if value is None:
                return None
            conds[key] = value
        merged.append({**first, "model_conds": conds})
    return merged


def _same_settings(a: dict, b: dict) -> bool:
    """Whether two windows' entries differ in nothing but model_conds (and what calc_cond_batch never reads)."""
    if a["model_conds"].keys() != b["model_conds"].keys() or "control" in a or "control" in b:
        return False
    for key in (a.keys() | b.keys()) - {"model_conds", "uuid", SPAN_KEY}:
        x, y = a.get(key), b.get(key)
        if x is y or (key != "mask" and _raw(x) and _raw(y)):
            continue  # read when model_conds were made
        if _raw(x) or _raw(y) or x != y:
            return False
    return True


def _raw(value) -> bool:
    """A prompt's tensor, or its list of tensors."""
    if isinstance(value, (list, tuple)):
        return bool(value) and all(map(_raw, value))
    return isinstance(value, torch.Tensor)


def _merge(values: list, batch: int):
    first = values[0]
    if all(v is first or v.cond is first.cond for v in values):
        return first
    repeated = [v.process_cond(batch_size=batch, area=None) for v in values]
    if not all(repeated[0].can_concat(v) for v in repeated[1:]):
        return None
    return first._copy_with(repeated[0].concat(repeated[1:]))
