"""ComfyUI's context handler for LongTake's windows: the one window engine (adapter of windows.py and fusion.py).

Built on core's IndexListContextHandler, which slices conditioning, controls and masks per window. One object of this
class sits in the MODEL's options and is never written to: each call runs on a light copy. It knows no paper:
methods come as path hooks (hooks.py); what a timeline tells each frame (event_attention.py) is conditioning.
"""

import contextlib
import copy
import logging
from collections.abc import Callable
from dataclasses import replace

import comfy.model_base
import comfy.patcher_extension
import torch
from comfy import context_windows as core
from comfy.context_windows import IndexListCallbacks, IndexListContextHandler

from .. import fusion
from ..cost import Details, cost_text
from ..redo import touching
from ..windows import (
    WindowSettings,
    local_windows,
    pixel_length,
    step_paths,
)
from . import event_attention, ltx_shift, preview, progress, timeline_notes
from .calls import WindowPath, computed, path_calls
from .conds import cut_conds, uncuttable
from .frame_batch import as_batch, as_video, framewise, uncut_control
from .hooks import CHUNKS, PATH_HOOKS, WORKERS, Chunks, Evaluation, asked_counts, asked_windows, repeated
from .latents import DIM, NODE, frame_axis
from .memory import auto_batch, compiled_note, prepare, refuse_windows
from .references import behind, references
from .regions import window_regions
from .schedule import located
from .shared_conds import share_video
from .steps import Moment, Run, begin_runs, put_first, training_timestep
from .timeline import over_video, window_entries
from .weights import path_weights
from .window import NEW_CORE, ContextWindow, VideoFrames, context_window, fuse_weights, window_frames

logger = logging.getLogger(__name__)


def _references(model, conds: list, options: dict) -> int:
    """See references.py; looked up once per run."""
    return Run.of(options).once("references", lambda: references(model, conds))


def paired(conds: list) -> bool:
    """Whether these are the positive and the negative of CFGGuider and KSampler. Others (DualCFGGuider, PerpNeg, a node
    that asks for one of the two alone) have orders of their own, and cfg_until leaves them alone."""
    return len(conds) == 2 and None not in conds


class LongTakeContextHandler(IndexListContextHandler):
    """Evaluates a latent window by window and fuses the denoised predictions, per CFG branch.

    Latent [B, C, F, H, W]; with dim 0 [F, C, H, W], seen as [1, C, F, H, W] (see frame_batch.py). Latents that core
    packs (audio and video) or that carry guide frames go through core's own loop with our windows and weights; the
    global path is not defined for them.
    """

    def __init__(self, settings: WindowSettings, dim: int = DIM):
        extra = {"causal_window_fix": settings.first_latent == "anchor"} if NEW_CORE else {}

        def fuse(length, *, full_length, idxs, handler, context_overlap=settings.overlap, **kwargs):
            return fuse_weights(settings.fuse, length, full_length, idxs, context_overlap, handler=handler)

        super().__init__(
            core.ContextSchedule("longtake", lambda frames, handler, options: handler.index_lists(frames)),
            core.ContextFuseMethod("longtake", fuse),
            context_length=settings.length,
            context_overlap=settings.overlap,
            dim=dim,
            **extra,
        )
        self.settings = settings
        self.cond_retain_index_list = list(settings.retain)  # newer cores read it in get_resized_cond
        # Set on the copy that runs: where it stands, its settings there, the latent frames before the video's own.
        self.moment: Moment | None = None
        self.located, self.now, self.references = ([], 0), settings, 0

    def index_lists(self, frames: int) -> list[list[int]]:
        """This step's local windows, for core's own loop."""
        index = self.located[1] + self.moment.step
        return [list(w.indices) for w in local_windows(self.now, frames, self.moment.key, index)]

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
        by_frame = event_attention.timed(conds)
        if by_frame:
            event_attention.refuse_unknown(model)
        asked = by_frame or self.settings.cfg_until < 1  # one window is asked for, too
        if self._core_loop(conds):
            refused = [(hook.node, "bypass it") for hook in options.get(PATH_HOOKS, {}).values()]
            if self.settings.extra_path is not None:
                refused.append((f"{NODE}: {self.settings.extra_path.name}_path", "turn it off"))
            if self.settings.closed_loop:
                refused.append((f"{NODE}: closed_loop", "turn it off"))
            if CHUNKS in options:
                refused.append(("SynCoS", "use KSampler"))
            if WORKERS in options:
                refused.append(("Workers (Ray) (LongTakeWorkers): workers", "set it to 0"))
            if by_frame and self._get_guide_entries(conds):
                refused.append((f"{timeline_notes.NODE}: timing (frame)", "set it to window"))
            for what, way_out in refused:
                raise ValueError(f"{what}: not available for latents with audio or guide frames; {way_out}")
            many = super().should_use_context(model, conds, x_in, timestep, model_options) or asked
            if many:
                frames = self._build_window_state(x_in, conds, model).latents[0].shape[DIM]
                self._refuse_uncuttable(model, conds, options, frames)
            return many
        if x_in.ndim != (4 if self.dim == 0 else 5):
            wanted = "4 dimensions [frames," if self.dim == 0 else "5 dimensions [batch, channels, frames,"
            raise ValueError(
                f"{NODE}: the latent has the shape {tuple(x_in.shape)}; a video latent of this model has {wanted} "
                f"{'channels, ' if self.dim == 0 else ''}height, width]"
            )
        frames = options[CHUNKS].x.shape[DIM] if CHUNKS in options else x_in.shape[self.dim]
        video = frames - _references(model, conds, options)
        if not self.settings.whole(video) or CHUNKS in options or asked:
            self._refuse_uncuttable(model, conds, options, frames)
            return True
        if Moment.of(timestep, model_options).first:
            note = timeline_notes.one_window(conds, video, self.settings)
            with progress.above_bars():
                logger.info(
                    "LongTake windows: the video (%d latent frames) is not longer than the window (%d): one window is "
                    "used, the same as sampling without this node.", video, self.settings.length,
                )  # fmt: skip
                if note is not None:
                    logger.warning("%s.", note)
            if note is not None:
                progress.show(note)
        return False

    def _refuse_uncuttable(self, model, conds, options: dict, frames: int):
        cutter = type(model).resize_cond_for_context_window if NEW_CORE else None
        guides = self._core_loop(conds) and cutter is not comfy.model_base.BaseModel.resize_cond_for_context_window
        what = uncuttable(conds, options, frames, NEW_CORE, guides, self.settings.retain)
        what = uncut_control(conds) if what is None and self.dim == 0 else what
        if what is not None:
            raise ValueError(f"{NODE}: {what}, or make the video no longer than one window")

    def get_resized_cond(self, cond_in, x_in, window, device=None):
        if cond_in is None:
            return None
        length = len(window_frames(window))
        kept = [place for place in self.cond_retain_index_list if -length <= place < length]
        if kept != self.cond_retain_index_list:  # a window that was cut off has fewer places
            cut = copy.copy(self)
            cut.cond_retain_index_list = kept
            return cut.get_resized_cond(cond_in, x_in, window, device)
        path = getattr(window, "path", "local")
        x_in = as_batch(x_in) if self.dim == 0 else x_in
        entries = window_entries(cond_in, VideoFrames.of(window), path, self.settings.compression)
        if x_in.ndim == 5:
            entries = window_regions(entries, window_frames(window), x_in)
        resized = super().get_resized_cond(entries, x_in, window, device)
        for entry, cut in zip(entries, resized, strict=True):
            if "mask" in entry and self.dim != 0:
                cut["mask"] = entry["mask"]
        cut_conds(entries, resized, window, x_in.shape[self.dim], x_in.ndim, NEW_CORE, self.cond_retain_index_list)
        return resized

    def execute(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        run = copy.copy(self)
        run._model = model  # core 0.33 asks it how to slice a model's own conds
        run.set_step(timestep, model_options)
        run.located = located(self.settings, model.model_sampling, model_options["transformer_options"])
        run.now = self.settings.at(run.located[0][run.moment.step])
        run.context_overlap = run.now.overlap  # core's overlap-linear reads it
        if not paired(conds) or run.settings.branches(2, run.located[0][run.moment.step]) == 2:
            return run._predict(calc_cond_batch, model, conds, x_in, timestep, model_options)
        (cond, _) = run._predict(calc_cond_batch, model, [conds[0], None], x_in, timestep, model_options)
        return [cond, cond]  # guidance between equal predictions is none

    def _predict(self, calc_cond_batch, model, conds, x_in, timestep, model_options):
        # What a window says about itself must not stay in the caller's options.
        model_options = {**model_options, "transformer_options": {**model_options["transformer_options"]}}
        core_loop, chunks = self._core_loop(conds), model_options["transformer_options"].get(CHUNKS)
        if self.dim == 0:
            x_in, timestep, calc_cond_batch = as_video(x_in), timestep[:1], framewise(calc_cond_batch)
        video = x_in if chunks is None else chunks.x
        video = self._build_window_state(x_in, conds, model).latents[0] if core_loop else video
        self.references = _references(model, conds, model_options["transformer_options"])
        conds = over_video(conds, pixel_length(video.shape[DIM] - self.references, self.settings.compression))
        if core_loop:

            def calc(model, conds, x, t, options):  # core would pick a batch's timesteps by the window's frames
                options = event_attention.attached(options, conds)
                return calc_cond_batch(model, conds, x, t.expand(len(x)), options)

            return super().execute(calc, model, conds, x_in, timestep[:1], model_options)
        of_run = Run.of(model_options["transformer_options"])
        evaluation = Evaluation(calc_cond_batch, model, conds, video, timestep, model_options, of_run, self.moment)
        if self.settings.whole(video.shape[DIM] - self.references):  # one window: frames are in their places
            self.settings, self.cond_retain_index_list = replace(self.settings, extra_path=None), []
        out = self._fused(evaluation) if chunks is None else self._single(evaluation, chunks, x_in)
        return list(map(as_batch, out)) if self.dim == 0 else out

    def _single(self, evaluation: Evaluation, chunks: Chunks, like: torch.Tensor) -> list[torch.Tensor]:
        frames = evaluation.x.shape[DIM]
        whole = self.settings.whole(frames - self.references)
        path = "whole" if whole else "local"  # the whole: the prompt of the whole video, as in any other sampler
        windows = [context_window(w, self.settings, path, frames, self.references, self.dim) for w in chunks.windows]
        out = [torch.empty_like(like) for _ in evaluation.conds]
        calls = path_calls(self, evaluation, WindowPath(windows, self._batch_limit(evaluation, windows), []))
        for call, results in computed(evaluation, calls):
            for i, window, _ in call.taken_apart(results):
                for branch, result in zip(out, window, strict=True):
                    branch.narrow(DIM, i * result.shape[DIM], result.shape[DIM]).copy_(result)
        return out

    def callback(self, name: str, *args):
        for callback in comfy.patcher_extension.get_all_callbacks(name, self.callbacks):
            callback(self, *args)

    def _fused(self, evaluation: Evaluation) -> list[torch.Tensor]:
        model, conds, x, timestep = evaluation.model, evaluation.conds, evaluation.x, evaluation.timestep
        frames, moment, options = x.shape[DIM], self.moment, evaluation.transformer_options
        video = frames - self.references
        refuse_windows(self.settings, video, self.references, options)
        places, index = self.located
        paths = step_paths(
            self.settings, video, index=index + moment.step, place=places[moment.step], key=moment.key,
            t=training_timestep(model.model_sampling, evaluation.sigma),
        )  # fmt: skip
        joined = len(paths) > 1 and self.settings.extra_path.joins
        behind_references = [behind(path.windows, self.references) for path in paths]
        of_paths = path_weights(self, evaluation, paths, behind_references, frames)
        outs = {path.name: [torch.zeros_like(x) for _ in conds] for path in (paths if joined else paths[:1])}
        out = outs[paths[0].name]
        ones = [torch.ones(core.get_shape_for_dim(x, DIM), device=x.device) for _ in conds]
        biases = [[0.0] * frames for _ in conds]

        self.callback(IndexListCallbacks.EXECUTE_START, model, x, conds, timestep, evaluation.options)
        parts = {}  # of each path: its windows, their weights, and where their predictions go

        def calls():
            for path, placed, weights in zip(paths, behind_references, of_paths, strict=True):
                # What hooks see, and what is joined by frequency, is whole: every window is asked.
                skips = PATH_HOOKS not in options and not joined
                needed = touching(placed, evaluation.run.made if skips else None)
                own = [placed[i] for i in needed]
                where = (path.name, frames, self.references, self.dim)
                windows = [context_window(w, self.settings, *where) for w in own]
                limit = self._batch_limit(evaluation, windows)
                hooks = self._begin_path(evaluation, windows, limit)
                turns = asked_windows(hooks, windows)
                begun = WindowPath([turn.window for turn in turns], limit, hooks)
                parts[begun] = turns, own, [weights[i] for i in needed], outs.get(path.name, out)
                try:
                    if moment.first and path is paths[0]:
                        self._log_start(evaluation, windows, limit)
                    yield from path_calls(self, evaluation, begun)
                finally:
                    for hook in hooks:
                        hook.end()

        try:
            with contextlib.closing(calls()) as asked:
                for call, results in computed(evaluation, asked):
                    turns, own, weights, target = parts[call.path]
                    for n, window, cut in call.taken_apart(results):
                        if (i := turns[n].of) is None:
                            continue
                        for branch, result in zip(target, window, strict=True):
                            fusion.accumulate(branch, result, own[i], weights[i] * turns[n].share, DIM)
                        self.callback(
                            IndexListCallbacks.COMBINE_CONTEXT_WINDOW_RESULTS, x, window, cut, turns[n].window, i,
                            len(own), timestep, target, ones, biases,
                        )  # fmt: skip
            if joined:
                path, shape = self.settings.extra_path, (video, *x.shape[DIM + 1 :])
                h = evaluation.run.once(
                    ("response", shape), lambda: path.response(shape, self.settings.length).to(x.device)
                )
                for predicted in zip(*outs.values(), strict=True):
                    local, *looks = (part.narrow(DIM, self.references, video) for part in predicted)
                    local.copy_(path.join(local, looks, h))
            return out
        finally:
            self.callback(IndexListCallbacks.EXECUTE_CLEANUP, model, x, conds, timestep, evaluation.options)

    def _begin_path(self, evaluation: Evaluation, windows: list[ContextWindow], limit: int) -> list:
        hooks = evaluation.transformer_options.get(PATH_HOOKS, {}).values()
        entries = self._entries(evaluation, windows[0])
        begun = [hook.begin_path(evaluation, windows, entries, limit) for hook in hooks]
        return [hook for hook in begun if hook is not None]

    def _entries(self, evaluation: Evaluation, window: ContextWindow) -> Callable[[], int]:
        """Counts a window's cond entries over all CFG branches."""

        def entries() -> int:
            conds = [self.get_resized_cond(cond, evaluation.x, window) for cond in evaluation.conds]
            return sum(len(cond) for cond in conds if cond is not None)

        return entries

    def _batch_limit(self, evaluation: Evaluation, windows: list[ContextWindow]) -> int:
        """Windows per call: the widget's number, or what the first step of the run decided for windows of this size."""
        if self.settings.window_batch > 0:
            return self.settings.window_batch
        longest = max(windows, key=lambda w: len(window_frames(w)))
        length = len(window_frames(longest))

        def decide():
            conds = [self.get_resized_cond(cond, evaluation.x, longest) for cond in evaluation.conds]
            return auto_batch(evaluation, [entry for cond in conds if cond is not None for entry in cond], length)

        return evaluation.run.once(("window batch", length), decide)

    def _log_start(self, evaluation: Evaluation, windows: list[ContextWindow], limit: int):
        conds, frames, moment = evaluation.conds, evaluation.x.shape[DIM] - self.references, self.moment
        whole = evaluation.transformer_options["sample_sigmas"]
        sigmas = whole[:-1]
        places, index = self.located
        times = [training_timestep(evaluation.model.model_sampling, sigma) for sigma in sigmas]
        hooks = evaluation.transformer_options.get(PATH_HOOKS, {}).values()
        repeats = repeated(hooks, sigmas.tolist(), evaluation, windows, self._entries(evaluation, windows[0]), limit)
        asks = asked_counts(hooks, sigmas.tolist(), self.settings.closed_loop)
        branches = sum(cond is not None for cond in conds)
        settings = self.settings if paired(conds) else replace(self.settings, cfg_until=1.0)
        details = Details(times, places, repeats, index, limit, asks)
        cost = cost_text(settings, frames, moment.keys, branches, details)
        if evaluation.run.made is not None:
            cost += f"; the mask keeps frames, and leaves {len(windows)} windows of the first step"
        progress.show(cost)
        with progress.above_bars():
            logger.info("LongTake windows: %s", cost)
            shift = ltx_shift.note(evaluation.model, evaluation.x, whole, self.settings)
            compiled = compiled_note(self.settings, frames, evaluation.options)
            known = timeline_notes.notes(conds, self.settings, frames, moment.keys, self.located)
            for note in [*known, *filter(None, [shift, compiled])]:
                logger.warning("%s.", note)
                progress.show(f"{note}. {cost}")


def apply_windows(model, settings: WindowSettings):
    """A clone of the ModelPatcher that samples through windows: memory is budgeted for one call's windows, and the
    browser gets a filmstrip of the whole video."""
    dim = frame_axis(model)
    if dim == 0 and settings.first_latent == "anchor":
        raise ValueError(
            f"{NODE}: first_latent (anchor): {type(model.model).__name__} codes each frame by itself, so that no frame "
            f"is a clip's first one; set it to as_is"
        )
    model = model.clone()
    model.model_options["context_handler"] = LongTakeContextHandler(settings, dim)
    core.create_prepare_sampling_wrapper(model)
    stages = comfy.patcher_extension.WrappersMP
    # Before core's, of these windows or of a node before this one, which cuts the video's length to the window's.
    put_first(model, stages.PREPARE_SAMPLING, "longtake_window_batch", prepare)
    model.remove_wrappers_with_key(stages.SAMPLER_SAMPLE, "longtake_filmstrip")
    filmstrip = preview.filmstrip_wrapper(settings.compression)
    model.add_wrapper_with_key(stages.SAMPLER_SAMPLE, "longtake_filmstrip", filmstrip)
    share_video(model)
    begin_runs(model)
    return model
