"""What one model call of windows takes: what core reserves before a run, and how many windows go into a call."""

import logging
import math

import comfy.model_management
import comfy.sampler_helpers
import torch
from comfy_api.torch_helpers.torch_compile import TORCH_COMPILE_KWARGS

from ..windows import WindowSettings, most_windows, pixel_length
from . import progress
from .hooks import PATH_HOOKS, Evaluation
from .latents import NODE, frame_axis
from .timeline_notes import without_windows

logger = logging.getLogger(__name__)

# Most windows per call when automatic. A GPU is full with FULL latent positions (frames x height x width, of all
# windows and cond entries of a call): one window of Wan at 480p has 131,000, of LTX-Video 5,000. That is by arithmetic;
# measured was a CPU only, where four are quicker than one at any size that is bearable there.
AUTO_BATCH = {"cpu": 4, "cuda": 4}  # elsewhere one
FULL = 2**16
MOST_FRAMES = 2**25  # frames of all windows of one path


def auto_batch(evaluation: Evaluation, entries: list[dict], length: int) -> int:
    """As many windows as the device has work for and core's memory estimate lets into its free memory.

    entries: the cond entries of one window, of all CFG branches; length: its latent frames.
    """
    model, x = evaluation.model, evaluation.x
    shape = [x.shape[0] * len(entries), x.shape[1], length, *x.shape[3:]]
    most = AUTO_BATCH.get(x.device.type, 1)
    if x.device.type != "cpu":  # no entry: only prompts with areas in time, all of them elsewhere
        most = min(most, FULL // max(shape[0] * math.prod(shape[2:]), 1))
    if most <= 1 or _counts_on_rows(model.current_patcher):
        return 1
    free = getattr(model.current_patcher, "get_free_memory", comfy.model_management.get_free_memory)(x.device)
    keys = {key for entry in entries for key in entry["model_conds"]}
    for n in range(most, 1, -1):
        shapes = {k: [e["model_conds"][k].size() for e in entries if k in e["model_conds"]] * n for k in keys}
        if model.memory_required([n * shape[0], *shape[1:]], cond_shapes=shapes) * 1.5 < free:
            return n
    return 1


def _counts_on_rows(patcher) -> bool:
    """Whether another node has put its own in place of a part of the net, which may know only the rows of one video:
    KJNodes' NAG takes two for the prompt and its negative, whatever they are."""
    parts = [name for name in getattr(patcher, "object_patches", {}) if name.endswith(".forward")]
    if parts:
        with progress.above_bars():
            logger.info("LongTake windows: one per call, as another node replaces parts of the model (%s).", parts[0])
    return bool(parts)


def refuse_windows(settings: WindowSettings, frames: int, references: int, options: dict) -> None:
    """Raises ValueError where a step's windows over the video's own frames cannot be made, hold more frames than can be
    meant, or do not go together with a method. references: frames in front of the video; options: of transformers."""
    if settings.cuts(frames):
        for hook in options.get(PATH_HOOKS, {}).values():
            raise ValueError(
                f"{hook.node}: reads other windows frame by frame, but those of schedule (rolling_cut) of the {NODE} "
                f"have different lengths; set schedule to rolling, or bypass the first node"
            )
    path = settings.extra_path
    if path is not None:
        try:
            path.count(frames, settings.length)
        except ValueError as error:
            raise ValueError(f"{NODE}: {error}") from error
        looks = path.windows(frames, settings.length).values() if references else ()
        if any(look[0].lead for look in looks):
            raise ValueError(
                f"{NODE}: global_padding (both_ends): frames in front of the video (VACE's reference image, Wan "
                f"Animate's character) have no padding before them; use end or repeat"
            )
    count = most_windows(settings, frames)
    if count * settings.length > MOST_FRAMES:
        c = settings.compression
        raise ValueError(
            f"{NODE}: overlap: {count} windows of {pixel_length(settings.length, c)} pixel frames per step over a "
            f"video of {pixel_length(frames, c)}: a window starts every {settings.stride} latent frames; use about "
            f"half a window of overlap"
        )


def compiled_note(settings: WindowSettings, frames: int, options: dict) -> str | None:
    """What windows of several lengths are to ComfyUI's torch.compile, which knows a call by its number of frames."""
    if not settings.cuts(frames) or TORCH_COMPILE_KWARGS not in options:
        return None
    return (
        f"{NODE}: schedule (rolling_cut): torch.compile compiles the model again for each length of a window, 1 to "
        f"{settings.length} latent frames here, and after some of them (8, as torch comes) leaves the rest uncompiled. "
        f"With rolling or random_shift all have one length"
    )


def prepare(executor, model, noise_shape, conds, *args, **kwargs):
    """PREPARE_SAMPLING: memory for one call's windows (as many as the video has) and for what hooks keep;
    models whose audio has no windows are refused at once."""
    options = kwargs["model_options"]
    settings = getattr(options.get("context_handler"), "settings", None)  # None: core's windows took ours' place
    noise_shape = list(noise_shape)
    if settings is not None:
        packed = len(noise_shape) == 3 and noise_shape[1] == 1
        if packed and not hasattr(model.model, "map_context_window_to_modalities"):
            raise ValueError(
                f"{NODE}: model: {type(model.model).__name__} samples video and audio packed into one latent, and this "
                f"ComfyUI does not know which audio belongs to a window of its video; bypass this node"
            )
        dim = options["context_handler"].dim
        if len(noise_shape) == (4 if dim == 0 else 5):
            frames = min(noise_shape[dim], settings.length)
            most = most_windows(settings, noise_shape[dim])
            windows = max(settings.window_batch, 1)
            hooks = options.get("transformer_options", {}).get(PATH_HOOKS, {}) if most > 1 else {}
            windows = min(max([windows, *(hook.least_windows for hook in hooks.values())]), most)
            pair = [2 * noise_shape[0], noise_shape[1], frames, *noise_shape[3:]]  # core counts two CFG branches
            kept = sum(hook.memory(model, pair) for hook in hooks.values())
            # Core cuts the frame axis to the window afterwards, and counts by the area.
            noise_shape[2 if dim == 0 else 0] *= windows + math.ceil(kept / max(model.model.memory_required(pair), 1))
    elif (note := without_windows(list(conds.values()))) is not None:
        logger.warning("%s.", note)
        progress.show(note)
    return executor(model, noise_shape, conds, *args, **kwargs)


def load_for_chunks(guider, x: torch.Tensor, length: int) -> None:
    """Load the weights that did not fit beside a whole video but fit beside a clip of `length` latent frames.

    Core loads the model before it calls a SAMPLER (CFGGuider.outer_sample), with memory for a call on the whole latent.
    This is the same call of core's for what the run's calls really hold; the weights that are loaded stay.
    """
    patcher = guider.model_patcher
    dim = frame_axis(patcher)
    if length < x.shape[dim] and patcher.loaded_size() < patcher.model_size():
        shape = [*x.shape[:dim], length, *x.shape[dim + 1 :]]
        comfy.sampler_helpers.prepare_sampling(patcher, shape, guider.conds, guider.model_options)
