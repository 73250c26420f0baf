"""Keeps a sampling run on the disk and resumes it: a SAMPLER around a SAMPLER, or a patch of a MODEL.

replay.py knows what of a run is needed, run_digest.py which run it is, run_files.py how it lies on the disk.
"""

import contextlib
import logging
from dataclasses import dataclass, replace

import comfy.patcher_extension
import comfy.samplers
import comfy.utils
import torch

from ..checks import number
from . import preview, progress, run_files, run_folders
from .frame_batch import as_video, frames_in_batch
from .replay import Answer, Calls, Past, history, recorded, rng_states, set_rng_states
from .run_digest import differing, parts_of, remembering
from .run_files import File, State, Unreadable
from .run_folders import Kept, shown_size
from .steps import RUN

logger = logging.getLogger(__name__)

NODE = "Checkpoint (LongTakeCheckpoint, LongTakeCheckpointModel)"
KEY = "longtake_checkpoint"
BATCH = "window batch"  # what the engine has decided once for a run: another number would round otherwise
MARGIN = 1.2


@dataclass(frozen=True)
class CheckpointSettings:
    """every: steps between two states; keep_gb, keep_days: the oldest kept runs beyond these are deleted.
    Raises ValueError."""

    every: int = 1
    keep_gb: float = 20.0
    keep_days: float = 14.0

    def __post_init__(self):
        number("every", self.every, 1, 10000, True)
        number("keep_gb", self.keep_gb, 0.01, 100000)
        number("keep_days", self.keep_days, 0.01, 3650)


class CheckpointSampler(comfy.samplers.Sampler):
    """`inner`, kept. No KSAMPLER, so that nothing takes its function out of it: VMCR belongs inside."""

    def __init__(self, inner, settings: CheckpointSettings):
        self.inner, self.settings = inner, settings
        self.sampler_function = inner.sampler_function  # what others look at; what they change changes nothing
        self.extra_options, self.inpaint_options = inner.extra_options, inner.inpaint_options

    def sample(
        self, model_wrap, sigmas, extra_args, callback, noise, latent_image=None, denoise_mask=None, disable_pbar=False
    ):
        inner = self.inner
        parts = parts_of(model_wrap, inner, sigmas, extra_args, noise, latent_image, denoise_mask)
        with contextlib.ExitStack() as stack:
            with _named():
                kept = stack.enter_context(run_folders.claimed(run_files.digest_of(parts)))
                run = _Run(self.settings, kept, parts, model_wrap, len(sigmas) - 1, inner)
            return recorded(inner, run.calls).sample(
                model_wrap, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar
            )


@contextlib.contextmanager
def _named():
    """What the disk says, in one line that names the node."""
    try:
        yield
    except OSError as error:
        raise RuntimeError(f"{NODE}: the run cannot be kept in {run_folders.runs_folder()}: {error}") from error


class _Run:
    """One sampling run and its folder."""

    def __init__(self, settings: CheckpointSettings, kept: Kept, parts: dict, guider, total: int, inner):
        self.settings, self.folder, self.parts, self.guider, self.total = settings, kept.folder, parts, guider, total
        self.back = history(inner.sampler_function, inner.extra_options)
        self.files: dict[int, File] = {}
        self.written, self.unwritten = 0, None
        run_files.tidy(self.folder)
        self.gone = run_folders.prune(settings.keep_gb * 1e9, settings.keep_days, self.folder)
        self.state, self.broken = self._readable(kept)

    def _readable(self, kept: Kept) -> tuple[State | None, list[str]]:
        """The newest state that is whole with all its files; those that are not are deleted, and named."""
        broken = []
        for name in run_files.step_files(self.folder):
            try:
                state = run_files.read_state(self.folder, name)
                if state.parts != self.parts:
                    raise Unreadable(f"{name} is of another run")
                for file in state.answers.values():
                    run_files.read(self.folder, file.name, known=file)
                return state, broken
            except Unreadable as error:
                broken.append(str(error))
                with contextlib.suppress(OSError):
                    (self.folder / name).unlink()
        return None, broken

    @contextlib.contextmanager
    def calls(self, model, x: torch.Tensor, extra_args: dict):
        """The sampler's model, from which the run goes on; what is lost with an error is kept first."""
        decided = extra_args.get("model_options", {}).get("transformer_options", {}).get(RUN)
        self.decided = {} if decided is None else decided.decided
        self.like, self.rng = x, rng_states(x.device)
        past = self._past()
        self._say()
        with _named():
            self._refuse_too_large(x)
        self.model = Calls(model, extra_args, self.back, past, self.keep)
        try:
            yield self.model
        except BaseException:
            if self.unwritten is not None:
                try:
                    self._write(*self.unwritten)
                except OSError as error:  # what ended the run matters more
                    logger.warning("%s: step %d could not be kept: %s", NODE, self.unwritten[0], error)
            raise
        with _named():
            self._finish()

    def _past(self) -> Past | None:
        state = self.state
        if state is None:
            return None
        self.files, self.written, self.rng = dict(state.answers), state.step, state.rng
        set_rng_states(state.rng, self.like.device)
        set_hook_states(self.guider.conds, state.hooks)
        self.decided.update({(BATCH, length): count for length, count in state.batches})
        return Past(state.calls, list(state.answers), self._answer)

    def _answer(self, call: int) -> Answer:
        file, shape = self.files[call], self.like.shape
        tensors, _ = run_files.read(self.folder, file.name, known=file)
        rng = {key.removeprefix("rng "): tensors.pop(key) for key in list(tensors) if key.startswith("rng ")}
        fits = all(t.shape == shape and t.is_floating_point() for t in tensors.values())
        if not fits or not {"x0"} <= tensors.keys() <= {"x", "x0", "uncond"} or "cpu" not in rng:
            raise Unreadable(f"{NODE}: {self.folder.name}: {file.name} holds other tensors than this run's")
        return Answer(tensors.get("x"), tensors["x0"], tensors.get("uncond"), rng)

    def keep(self, step: int, x0: torch.Tensor) -> None:
        """After each step (see Calls)."""
        due = step % self.settings.every == 0 or step == self.total
        hooks = hook_states(self.guider.conds)
        self.unwritten = step, self.model.count, hooks, x0 if due else x0.to("cpu", copy=True)
        if due:
            with _named():
                self._write(*self.unwritten)

    def _finish(self) -> None:
        """The last state is that of the last step; dpm_fast and dpm_adaptive count steps of their own."""
        if self.unwritten is not None:
            self.total = self.unwritten[0]
            self._write(*self.unwritten)
        elif 0 < self.written < self.total:
            last = run_files.read_state(self.folder, run_files.step_files(self.folder)[0])
            run_files.write_state(self.folder, replace(last, total=self.written))

    def _write(self, step: int, calls: int, hooks: list, x0: torch.Tensor) -> None:
        needed = list(self.model.numbers)
        for call, answer in sorted(self.model.pending.items()):
            tensors = {"x": answer.x, "x0": answer.x0, "uncond": answer.uncond}
            tensors |= {f"rng {key}": state for key, state in answer.rng.items()}
            tensors = {key: t for key, t in tensors.items() if t is not None}
            self.files[call] = run_files.write(self.folder, f"call-{call:05}.safetensors", tensors, {})
        self.model.pending.clear()
        latent = run_files.write(self.folder, f"latent-{step:05}.safetensors", self._shown(x0), {})
        self.files = {call: self.files[call] for call in needed}
        batches = [[key[1], count] for key, count in self.decided.items() if key[:1] == (BATCH,)]
        total = max(self.total, step)  # dpm_adaptive makes as many steps as it wants
        state = State(step, total, calls, self.files, latent, self.parts, batches, hooks, self.rng)
        run_files.write_state(self.folder, state)
        self.written, self.unwritten = step, None

    def _shown(self, x0: torch.Tensor) -> dict[str, torch.Tensor]:
        """The predicted video as a LATENT holds it, and some of its frames as a picture."""
        model = self.guider.inner_model
        shapes = getattr(model, "latent_shapes", None) or [self.like.shape]
        whole, own = [model.process_latent_out(x0.to(torch.float32))], x0
        if len(shapes) > 1:  # audio and video packed into one
            whole, own = comfy.utils.unpack_latents(whole[0], shapes), comfy.utils.unpack_latents(x0, shapes)[0]
        tensors = {f"latent {i}": t.cpu() for i, t in enumerate(whole)}
        frames = preview.frames_of(as_video(own) if frames_in_batch(model) else own, model.latent_format)
        return tensors if frames is None else {**tensors, "preview": frames}

    def _refuse_too_large(self, x: torch.Tensor) -> None:
        """Before hours of sampling rather than after."""
        size, kept = x.numel() * x.element_size(), run_files.KEPT_STATES
        answers = self.total if self.back is None else 3 * (self.back + kept)  # a latent, its answer, perhaps CFG++'s
        needed = MARGIN * size * (answers + kept)
        have = sum(file.stat().st_size for file in self.folder.iterdir())
        free = run_folders.free_bytes(self.folder)
        if needed - have > free:
            raise OSError(f"it needs about {shown_size(needed)}, {shown_size(free)} are free")
        if needed > self.settings.keep_gb * 1e9:
            raise ValueError(
                f"{NODE}: keep_gb ({self.settings.keep_gb:g}): this run alone needs about {shown_size(needed)}"
                + (", for this sampler needs every prediction; use e.g. euler" if self.back is None else "")
                + "; raise it"
            )

    def _say(self) -> None:
        lines = [f"{self.folder.name}: {what}; it is not used" for what in self.broken]
        if self.gone:
            lines.append(f"deleted by keep_gb and keep_days: {', '.join(run.name for run in self.gone)}")
        if self.state is not None:
            text = f"resumes after step {self.state.step} of {self.state.total}"
            options = self.guider.model_options
            forgetful = remembering(options)
            if "easycache" in options.get("transformer_options", {}):
                forgetful.append("EasyCache or LazyCache")
            if forgetful:
                text += f"; what {' and '.join(forgetful)} held is lost, so that the video may differ a little"
        else:
            text = "begins at step 1"
            if (near := self._nearest()) is not None:
                what = ", ".join(differing(near.state.parts, self.parts))
                text += f"; differs from the kept run {near.name} ({near.progress}) in: {what}"
        with progress.above_bars():
            for line in lines:
                logger.warning("LongTake checkpoint: %s.", line)
            logger.info("LongTake checkpoint: %s (%s).", text, self.folder.name)
        progress.show(". ".join([*lines, text]))

    def _nearest(self) -> Kept | None:
        """The kept run, not complete, that differs in the fewest things."""
        others = [run for run in run_folders.kept_runs() if run.folder != self.folder and run.state is not None]
        others = [run for run in others if run.state.step < run.state.total]
        return min(others, key=lambda run: len(differing(run.state.parts, self.parts)), default=None)


def _keyframes(conds: dict) -> list:
    """The keyframe groups of all hooks of the prompts, each once, in order."""
    groups = {}
    for entry in (entry for entries in conds.values() for entry in entries or []):
        for hook in getattr(entry.get("hooks"), "hooks", []):
            groups[id(hook.hook_keyframe)] = hook.hook_keyframe
    return list(groups.values())


def hook_states(conds: dict) -> list[list[float]]:
    """[keyframe, steps in it, sigma] of the prompts' hooks (LoRAs in a range of steps): core counts them as it goes."""
    return [[g._current_index, g._current_used_steps, float(g._curr_t)] for g in _keyframes(conds)]


def set_hook_states(conds: dict, states: list[list[float]]) -> None:
    for group, (index, used, at) in zip(_keyframes(conds), states, strict=True):
        group._current_index, group._current_used_steps, group._curr_t = index, used, at
        if group.keyframes:
            group._current_keyframe = group.keyframes[index]
            group._current_strength = group._current_keyframe.strength


def keep(sampler, settings: CheckpointSettings):
    """SAMPLER -> SAMPLER. Raises ValueError for what cannot be kept."""
    if isinstance(sampler, CheckpointSampler):
        raise ValueError(f"{NODE}: sampler: comes from another Checkpoint; remove one of them")
    if not isinstance(sampler, comfy.samplers.KSAMPLER):
        raise ValueError(
            f"{NODE}: sampler: {type(sampler).__name__} is not one of ComfyUI's sampler functions; use KSamplerSelect"
        )
    return CheckpointSampler(sampler, settings)


def apply_checkpoint(model, settings: CheckpointSettings):
    """A clone of the ModelPatcher whose runs are kept, whatever sampler node there is."""

    def wrapper(executor, noise, latent_image, sampler, *args, **kwargs):
        return executor(noise, latent_image, keep(sampler, settings), *args, **kwargs)

    model = model.clone()
    kind = comfy.patcher_extension.WrappersMP.OUTER_SAMPLE
    model.remove_wrappers_with_key(kind, KEY)
    model.add_wrapper_with_key(kind, KEY, wrapper)
    return model
