"""ComfyUI's context handler for LongTake's windows: the one window engine (adapter of windows.py and fusion.py).

Built on core's IndexListContextHandler, which slices conditioning, controls and masks per window. One object of this
class sits in the MODEL's options and is never written to: each call runs on a light copy.
"""

import copy
import logging
from dataclasses import dataclass

import comfy.model_base
import comfy.model_management
import comfy.patcher_extension
import torch
from comfy import context_windows as core
from comfy.context_windows import IndexListCallbacks, IndexListContextHandler

from .. import fusion
from ..cost import cost_text
from ..windows import Window, WindowSettings, group, local_windows, pixel_length, step_paths
from . import attention, preview, progress
from .conds import cut_conds, merge_windows, timeline_total, uncuttable, window_entries
from .latents import DIM, NODE
from .steps import Moment, count_evaluations, training_timestep
from .window import NEW_CORE, ContextWindow, fuse_weights

logger = logging.getLogger(__name__)

CHUNKS = "longtake_chunks"
AUTO_BATCH = {"cpu": 4, "cuda": 4}  # most windows per call when automatic; measured on a CPU only; elsewhere one

@dataclass(frozen=True)
class Chunks:
    """Asks for the predictions of single windows, not fused (transformer_options[CHUNKS]).

    x: the whole latent, of which each window is a part. What the guider is called with, and what comes back, holds
    the windows one after the other in the frame axis, so that CFG applies to each value as always.
    """

    x: torch.Tensor
    windows: tuple[Window, ...]


class LongTakeContextHandler(IndexListContextHandler):
    """Evaluates a latent window by window and fuses the denoised predictions, per CFG branch.

    Latent [B, C, F, H, W]. Latents that core packs (audio and video) or that carry guide frames go through core's own
    loop with our windows and weights; the global path is not defined for them.
    """

    def __init__(self, settings: WindowSettings):
        extra = {"causal_window_fix": settings.first_latent == "anchor"} if NEW_CORE else {}

        def fuse(length, *, full_length, idxs, handler, context_overlap=settings.overlap, **kwargs):
            return fuse_weights(settings.fuse, length, full_length, idxs, context_overlap, handler=handler)

        super().__init__(
            core.ContextSchedule("longtake", lambda frames, handler, options: handler.index_lists(frames)),
            core.ContextFuseMethod("longtake", fuse),
            context_length=settings.length,
            context_overlap=settings.overlap,
            dim=DIM,
            **extra,
        )
        self.settings = settings
        self.cond_retain_index_list = list(settings.retain)  # newer cores read it in get_resized_cond
        self.moment: Moment | None = None  # set on the copy that runs

    def index_lists(self, frames: int) -> list[list[int]]:
        """This step's local windows, for core's own loop."""
        return [list(w.indices) for w in local_windows(self.settings, frames, self.moment.key)]

    def set_step(self, timestep: torch.Tensor, model_options: dict):
        self.moment = Moment.of(timestep, model_options)
        self._step = self.moment.step

    def _core_loop(self, conds) -> bool:
        if not NEW_CORE:
            return False
        shapes = self._get_latent_shapes(conds)
        return (shapes is not None and len(shapes) > 1) or bool(self._get_guide_entries(conds))

    def should_use_context(self, model, conds, x_in, timestep, model_options) -> bool:
        options = model_options["transformer_options"]
        if self._core_loop(conds):
            for used, what, way_out in (
                (self.settings.extra_path is not None, f"{NODE}: global_path", "turn it off"),
                (CHUNKS in options, "SynCoS", "use KSampler"),
                (attention.OPTION in options, attention.NODE, "bypass it"),
            ):
                if used:
                    raise ValueError(f"{what}: not available for latents with audio or guide frames; {way_out}")
            many = super().should_use_context(model, conds, x_in, timestep, model_options)
            if many:
                frames = self._build_window_state(x_in, conds, model).latents[0].shape[DIM]
                self._refuse_uncuttable(model, conds, options, frames)
            return many
        if x_in.ndim != 5:
            raise ValueError(
                f"{NODE}: the latent has the shape {tuple(x_in.shape)}; a video latent has 5 dimensions "
                f"[batch, channels, frames, height, width]"
            )
        frames = (options[CHUNKS].x if CHUNKS in options else x_in).shape[DIM]
        if frames > self.settings.length or CHUNKS in options:
            self._refuse_uncuttable(model, conds, options, frames)
            return True
        if Moment.of(timestep, model_options).first:
            logger.info(
                "LongTake windows: the video (%d latent frames) is not longer than the window (%d): one window is "
                "used, the same as sampling without this node.", frames, self.settings.length,
            )  # fmt: skip
        return False

    def _refuse_uncuttable(self, model, conds, options: dict, frames: int):
        cutter = type(model).resize_cond_for_context_window if NEW_CORE else None
        guides = self._core_loop(conds) and cutter is not comfy.model_base.BaseModel.resize_cond_for_context_window
        if (what := uncuttable(conds, options, frames, NEW_CORE, guides, self.settings.retain)) is not None:
            raise ValueError(f"{NODE}: {what}, or make the video no longer than one window")

    def get_resized_cond(self, cond_in, x_in, window, device=None):
        if cond_in is None:
            return None
        path = getattr(window, "path", "local")
        entries = window_entries(cond_in, window.index_list, path, self.settings.compression)
        resized = super().get_resized_cond(entries, x_in, window, device)
        cut_conds(entries, resized, window, x_in.shape[self.dim], x_in.ndim, NEW_CORE, self.cond_retain_index_list)
        return resized

    def execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        run = copy.copy(self)
        run._model = model  # core 0.33 asks it how to slice a model's own conds
        run.set_step(timestep, model_options)
        # What a window says about itself must not stay in the caller's options.
        model_options = {**model_options, "transformer_options": {**model_options["transformer_options"]}}
        if run._core_loop(conds):

            def calc(model, conds, x, t, options):  # core would pick a batch's timesteps by the window's frames
                return calc_cond_batch(model, conds, x, t.expand(len(x)), options)

            return super(LongTakeContextHandler, run).execute(calc, model, conds, x_in, timestep[:1], model_options)
        chunks = model_options["transformer_options"].get(CHUNKS)
        if chunks is not None:
            return run._execute_chunks(calc_cond_batch, model, conds, x_in, timestep, model_options, chunks)
        return run._execute(calc_cond_batch, model, conds, x_in, timestep, model_options)

    def _execute_chunks(self, calc_cond_batch, model, conds, x_in, timestep, model_options, chunks: Chunks):
        if chunks.x.shape[DIM] <= self.settings.length:
            self.cond_retain_index_list = []  # the one chunk has all frames in their places
        windows = [self._context_window(w, "local", chunks.x.shape[DIM]) for w in chunks.windows]
        out = [torch.empty_like(x_in) for _ in conds]
        for i, results, _ in self._evaluate(
            calc_cond_batch, model, conds, chunks.x, timestep, windows, model_options, None
        ):
            for branch, result in zip(out, results, strict=True):
                branch.narrow(DIM, i * result.shape[DIM], result.shape[DIM]).copy_(result)
        return out

    def _callback(self, name: str, *args):
        for callback in comfy.patcher_extension.get_all_callbacks(name, self.callbacks):
            callback(self, *args)

    def _execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        frames, moment = x_in.shape[DIM], self.moment
        if moment.first:
            self._log_start(conds, frames)
        paths = step_paths(
            self.settings, frames, step=moment.step, steps=len(moment.keys), key=moment.key,
            t=training_timestep(model.model_sampling, timestep.flatten()[0]),
        )  # fmt: skip
        out = [torch.zeros_like(x_in) for _ in conds]
        ones = [torch.ones(core.get_shape_for_dim(x_in, DIM), device=x_in.device) for _ in conds]
        biases = [[0.0] * frames for _ in conds]

        self._callback(IndexListCallbacks.EXECUTE_START, model, x_in, conds, timestep, model_options)
        try:
            for path in paths:
                windows = [self._context_window(w, path.name, frames) for w in path.windows]
                anchors = self._anchors(model, conds, x_in, timestep, windows, model_options)
                raw = [
                    fuse_weights(
                        self.settings.fuse if path.name == "local" else "flat",
                        len(w.indices), frames, w.indices, self.settings.overlap, handler=self,
                    )
                    for w in path.windows
                ]  # fmt: skip
                weights = fusion.normalised(path.windows, raw, frames)
                for i, results, sub_conds in self._evaluate(
                    calc_cond_batch, model, conds, x_in, timestep, windows, model_options, anchors
                ):
                    for branch, result in zip(out, results, strict=True):
                        fusion.accumulate(branch, result, path.windows[i], weights[i] * path.share, DIM)
                    self._callback(
                        IndexListCallbacks.COMBINE_CONTEXT_WINDOW_RESULTS, x_in, results, sub_conds, windows[i], i,
                        len(windows), timestep, out, ones, biases,
                    )  # fmt: skip
            return out
        finally:
            self._callback(IndexListCallbacks.EXECUTE_CLEANUP, model, x_in, conds, timestep, model_options)

    def _context_window(self, window: Window, path: str, frames: int) -> ContextWindow:
        anchor = None
        if self.settings.first_latent == "anchor" and window.indices[0] > 0:
            # The frame before a local window; for a dilated one the frame before is no neighbour, so the true first.
            anchor = window.indices[0] - 1 if path == "local" else 0
        return ContextWindow(window, frames=frames, overlap=self.settings.overlap, path=path, anchor=anchor)

    def _anchors(self, model, conds, x_in, timestep, windows: list[ContextWindow], model_options):
        """ABAM's state for one path of this step (attention.AnchorPath), or None."""
        if attention.OPTION not in model_options["transformer_options"]:
            return None
        entries = sum(len(self.get_resized_cond(cond, x_in, windows[0])) for cond in conds if cond is not None)
        shape = [x_in.shape[0] * entries, x_in.shape[1], windows[0].context_length, *x_in.shape[3:]]
        return attention.anchor_path(
            model, model_options, float(timestep.flatten()[0]), len(windows), model.memory_required(shape), entries,
            self.moment.first,
        )  # fmt: skip

    def _evaluate(self, calc_cond_batch, model, conds, x_in, timestep, windows, model_options, anchors):
        """Yield (index, predictions per CFG branch, conds) of each window, several windows to a model call."""
        for anchored in (False, True):  # an anchored window is one frame longer: its own batches
            members = [i for i, w in enumerate(windows) if (w.anchor is not None) == anchored]
            if not members:
                continue
            limit = self._batch_limit(model, conds, x_in, windows[members[0]], len(members))
            for part in group(len(members), limit):
                indices = [members[i] for i in part]
                extra = [0] if anchors is not None and anchors.recompute and 0 not in indices else []
                for i, *result in self._evaluate_batch(
                    calc_cond_batch, model, conds, x_in, timestep, extra + indices, windows, model_options, anchors
                ):
                    if i in indices:
                        yield i, *result

    def _evaluate_batch(self, calc_cond_batch, model, conds, x_in, timestep, indices, windows, model_options, anchors):
        batch = x_in.shape[0]
        sub_conds = [[self.get_resized_cond(cond, x_in, windows[i]) for cond in conds] for i in indices]
        merged = None
        if len(indices) > 1:
            merged = [None if b[0] is None else merge_windows(b, batch) for b in zip(*sub_conds, strict=True)]
            if any(m is None and cond is not None for m, cond in zip(merged, conds, strict=True)):
                if anchors is not None and anchors.recompute:
                    raise ValueError(
                        f"{attention.NODE}: cache: recompute runs the anchor window beside the others, but the "
                        f"windows' conditioning differs too much for one call (e.g. ControlNet); use gpu or cpu"
                    )
                for i in indices:
                    yield from self._evaluate_batch(
                        calc_cond_batch, model, conds, x_in, timestep, [i], windows, model_options, anchors
                    )
                return
        comfy.model_management.throw_exception_if_processing_interrupted()
        # Each path's anchors put themselves into a copy: the options of the step stay as they are.
        model_options = {**model_options, "transformer_options": {**model_options["transformer_options"]}}
        options = model_options["transformer_options"]
        for i in indices:
            self._callback(
                IndexListCallbacks.EVALUATE_CONTEXT_WINDOWS, model, x_in, conds, timestep, model_options, i, windows[i],
                model_options, None, None,
            )  # fmt: skip
        call = [windows[i] for i in indices]
        options["context_window"] = call[0]
        options["longtake"] = {
            "path": call[0].path,
            "windows": tuple(tuple(w.index_list) for w in call),
            "anchor": tuple(w.anchor for w in call),
            "step": self.moment.step,
        }
        step = f"step {self.moment.step + 1}/{len(self.moment.keys)}"
        progress.show(f"{step}, {call[0].path} window {indices[-1] + 1}/{len(windows)}")
        if anchors is not None:
            anchors.begin(options, indices, call, sub_conds[0])
        parts = [w.get_tensor(x_in) for w in call]
        x = parts[0] if len(parts) == 1 else torch.cat(parts)
        sigma = timestep.expand(batch).repeat(len(call))
        results = calc_cond_batch(model, merged or sub_conds[0], x, sigma, model_options)
        for n, i in enumerate(indices):
            skip = int(windows[i].anchor is not None)
            window = [r[n * batch : (n + 1) * batch].narrow(DIM, skip, r.shape[DIM] - skip) for r in results]
            yield i, window, sub_conds[n]

    def _batch_limit(self, model, conds, x_in, window: ContextWindow, count: int) -> int:
        """Windows per call: the widget's number, or as many as core's memory estimate lets into the free memory."""
        if self.settings.window_batch > 0:
            return self.settings.window_batch
        most = min(AUTO_BATCH.get(x_in.device.type, 1), count)
        if most == 1:
            return 1
        length = window.context_length + (window.anchor is not None)
        entries = [entry for cond in conds if cond is not None for entry in self.get_resized_cond(cond, x_in, window)]
        patcher = model.current_patcher
        free = getattr(patcher, "get_free_memory", comfy.model_management.get_free_memory)(x_in.device)
        for n in range(most, 1, -1):
            shape = [x_in.shape[0] * len(entries) * n, x_in.shape[1], length, *x_in.shape[3:]]
            keys = {key for entry in entries for key in entry["model_conds"]}
            shapes = {k: [e["model_conds"][k].size() for e in entries if k in e["model_conds"]] * n for k in keys}
            if model.memory_required(shape, cond_shapes=shapes) * 1.5 < free:
                return n
        return 1

    def _log_start(self, conds, frames: int):
        branches = sum(cond is not None for cond in conds)
        cost = cost_text(self.settings, frames, self.moment.keys, branches)
        logger.info("LongTake windows: %s", cost)
        progress.show(cost)
        total, video = timeline_total(conds), pixel_length(frames, self.settings.compression)
        if total is not None and total != video:
            logger.warning(
                "LongTake windows: the prompt timeline was made for %d pixel frames, the video has %d: %s.",
                total, video,
                "prompts after its end stay unused" if total > video else "its last prompt extends to the end",
            )  # fmt: skip


def _prepare(executor, model, noise_shape, *args, **kwargs):
    """PREPARE_SAMPLING: memory for one call's windows; models whose audio has no windows are refused at once."""
    handler = kwargs["model_options"].get("context_handler")
    noise_shape = list(noise_shape)
    if isinstance(handler, LongTakeContextHandler):
        packed = len(noise_shape) == 3 and noise_shape[1] == 1
        if packed and not hasattr(model.model, "map_context_window_to_modalities"):
            raise ValueError(
                f"{NODE}: model: {type(model.model).__name__} samples video and audio packed into one latent, and this "
                f"ComfyUI does not know which audio belongs to a window of its video; bypass this node"
            )
        if len(noise_shape) == 5:
            noise_shape[0] *= max(handler.settings.window_batch, 1)
    return executor(model, noise_shape, *args, **kwargs)


def apply_windows(model, settings: WindowSettings):
    """A clone of the ModelPatcher that samples through windows: memory is budgeted for one call's windows, and the
    browser gets a filmstrip of the whole video."""
    model = model.clone()
    model.model_options["context_handler"] = LongTakeContextHandler(settings)
    core.create_prepare_sampling_wrapper(model)
    stages = comfy.patcher_extension.WrappersMP
    for stage, key, wrapper in (
        (stages.PREPARE_SAMPLING, "longtake_window_batch", _prepare),
        (stages.SAMPLER_SAMPLE, "longtake_filmstrip", preview.filmstrip_wrapper(settings.compression)),
    ):
        model.remove_wrappers_with_key(stage, key)
        model.add_wrapper_with_key(stage, key, wrapper)
    count_evaluations(model)
    return model
