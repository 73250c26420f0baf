"""Model calls of one sampling run, handed out to workers: what stands behind hooks.WORKERS.

Sent is a whole model call (calls.py), grouped as it would be here, and results are taken in their order, so that on
machines alike the video is the same to the bit. The next call goes out while a worker computes (workers.DEPTH), that of
the next path of the step while the last ones of this path arrive. A step's x needs the whole one before it: samplers
are functions of the whole latent.

ABAM's anchor is computed by each worker: all would wait for it anyway, and its keys and values are gigabytes (54 GB a
step for Wan 14B at 480p). What a call holds beside its latent (texts, images) goes to a worker once.
"""

import functools
import logging
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from comfy.model_management import soft_empty_cache, throw_exception_if_processing_interrupted
from comfy.patcher_extension import WrappersMP

from ..workers import Paces, next_worker
from . import model_file, progress
from .calls import WindowCall
from .hooks import CHUNKS, PATH_HOOKS, WORKERS
from .ray_actors import POLL, answers
from .remote import OUT_OF_MEMORY, module_names
from .run_digest import Digest, differing, versions
from .sent import NODE, Unsendable, digest_of, from_wire, pack, to_wire
from .steps import RUN, STEP
from .window import window_frames

logger = logging.getLogger(__name__)

LARGE = 2**12  # bytes of a tensor that a worker keeps to be told by its digest
MOST_KEPT = 2**31  # bytes of such tensors on a worker
HERE = (WORKERS, RUN, STEP, CHUNKS, PATH_HOOKS, "callbacks", "easycache")  # of transformer_options: the head's alone
LATE, LATEST = 10.0, 60.0  # a worker hangs that takes so many times as long as it did, and so many seconds
FIRST = 900.0  # seconds for its first call, in which it loads the model, and may compile it
LOADING = 1800.0  # seconds for all to make the model of its file, which may lie on another machine's disk
AROUND = ("context_handler", "denoise_mask_function", "to_load_options")  # of model_options: the head's alone
STAGES = {WrappersMP.OUTER_SAMPLE, WrappersMP.PREPARE_SAMPLING, WrappersMP.SAMPLER_SAMPLE, WrappersMP.PREDICT_NOISE}


@dataclass(eq=False)
class Worker:
    """A worker as the head sees it. flying: its calls, oldest first, with when the oldest was begun."""

    number: int
    actor: object
    place: str = ""
    flying: dict = field(default_factory=dict)
    since: float = 0.0
    held: dict[bytes, int] = field(default_factory=dict)
    options: bytes = b""
    led: object = None
    calls: int = 0

    @property
    def name(self) -> str:
        return f"worker {self.number + 1} ({self.place})"

    def waiting(self, now: float, pace: float) -> float:
        """Seconds until it is through with its calls; one that is late is expected to take as long again."""
        costs = [task.cost * pace for task, _ in self.flying.values()]
        return abs(costs[0] - (now - self.since)) + sum(costs[1:]) if costs else 0.0


@dataclass(eq=False)
class Task:
    """A call on its way: its number in the evaluation, the call, and whether its result is wanted."""

    number: int
    call: WindowCall
    answer: bool = True

    @functools.cached_property
    def cost(self) -> float:
        """Windows; one that was cut off by its share of the path's longest."""
        longest = max(len(window_frames(window)) for window in self.call.path.windows)
        return sum(len(window_frames(window)) for window in self.call.call.windows) / longest


def plain(value) -> bool:
    if isinstance(value, (list, tuple)):
        return all(map(plain, value))
    if isinstance(value, dict):
        return all(map(plain, value.values()))
    return value is None or isinstance(value, (bool, int, float, str, uuid.UUID))


def stripped(conds: list) -> list:
    """Entries as a model call reads them: the rest was read when model_conds were made."""
    return [branch and [
        {k: v for k, v in entry.items() if k == "mask" or plain(v)} | {"model_conds": dict(entry["model_conds"])}
        for entry in branch
    ] for branch in conds]  # fmt: skip


class Pool:
    """The workers of one sampling run: hands out its calls, and takes what comes back."""

    def __init__(self, ray, workers: list[Worker]):
        self.ray, self.workers = ray, workers
        self.paces = Paces()
        self.sent = self.received = 0  # bytes
        self.calls = self.again = self.lost = 0
        self.numbers: dict = {}  # of paths
        self.leading, self.lead = None, None  # the latest path that leads, and its first call
        self.of_evaluation = (None, b"", b"", [])

    # ---- the model -----------------------------------------------------------------------------------------------

    def load(self, patcher, path: Path) -> None:
        """Give every worker the model, by a file that is written. Raises for one that comes to another."""
        model_file.unload(patcher)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            blob = model_file.write(patcher, path)
        except OSError as error:
            raise RuntimeError(
                f"{NODE}: model: cannot be written to {path.parent}, from where workers read it: {error}; make room "
                f"there, start ComfyUI with --temp-directory on another disk, or set workers to 0"
            ) from error
        except (Unsendable, TypeError) as error:
            raise ValueError(
                f"{NODE}: model: cannot be given to workers: {error}; bypass the node it comes from, or set workers "
                f"to 0"
            ) from error
        self.names, self.patcher, self.device = module_names(patcher), patcher, patcher.load_device
        wanted = {**Digest().model(patcher), **versions()}
        workers = list(self.workers)
        found = answers(self.ray, [w.actor.load.remote(blob, str(path)) for w in workers], LOADING)
        for worker, answer in zip(workers, found, strict=True):
            if self._is_lost(answer) or isinstance(answer, self.ray.exceptions.GetTimeoutError):
                self._lose(worker, answer)
                continue
            if isinstance(answer, Exception):
                raise RuntimeError(f"{NODE}: {worker.name} cannot load the model: {answer}") from answer
            if wrong := differing(wanted, answer):
                raise RuntimeError(
                    f"{NODE}: {worker.name} is refused, it differs in: {', '.join(wrong)}. All machines need the same "
                    f"ComfyUI, PyTorch, ComfyUI-LongTake and model files"
                )

    # ---- calls ---------------------------------------------------------------------------------------------------

    def map(self, calls: Iterable[WindowCall]) -> Iterator[tuple[WindowCall, list[torch.Tensor]]]:
        """The calls with their results, in their order (see calls.computed)."""
        calls, ready, todo, following, count, shown = iter(calls), {}, [], None, 0, 0
        self._make_room()
        self.paces.relax()
        while True:
            while True:
                if not todo:
                    if following is None and (call := next(calls, None)) is not None:
                        following, count = Task(count, call), count + 1
                    if following is None or self._waits(following):
                        break
                    todo, following = [following], None
                if not self._hand_out(todo[0]):
                    break
                del todo[0]
            if shown in ready:
                yield ready.pop(shown)
                shown += 1
            elif self.flying:
                done, lost = self._landed()
                ready.update(done)
                todo = sorted([*todo, *lost], key=lambda task: task.number)
            elif not todo and following is None:
                return

    def _make_room(self) -> None:
        """Take the head's own weights off its GPU, where a worker may compute: the head needs them no more."""
        if self.device.type != "cpu" and not self.calls:
            self.patcher.partially_unload(self.patcher.offload_device, 1e32)
            soft_empty_cache()

    @property
    def flying(self) -> list[Task]:
        return [task for worker in self.workers for task, _ in worker.flying.values()]

    def _waits(self, task: Task) -> bool:
        """A path in which workers keep something is alone with them."""
        others = [other.call.path for other in self.flying if other.call.path is not task.call.path]
        return any(path.leads or task.call.path.leads for path in others)

    def _hand_out(self, task: Task) -> bool:
        now = time.monotonic()
        paces = [self.paces.of(worker.number) for worker in self.workers]
        waiting = [w.waiting(now, pace) for w, pace in zip(self.workers, paces, strict=True)]
        number = next_worker(waiting, [len(w.flying) for w in self.workers], paces, task.cost)
        if number is None:
            return False
        worker, path = self.workers[number], task.call.path
        if path.leads:
            if path is not self.leading:
                self.leading, self.lead = path, task.call
            if worker.led is not path and task.call is not self.lead:
                self._send(worker, Task(task.number, self.lead, answer=False))
            worker.led = path
        self._send(worker, task)
        return True

    def _send(self, worker: Worker, task: Task) -> None:
        message, size = self._message(worker, task)
        if not worker.flying:
            worker.since = time.monotonic()
        self.sent += size
        worker.flying[worker.actor.compute.remote(message)] = task, size

    def _landed(self) -> tuple[dict, list[Task]]:
        """Results by the number of their call, and the calls of workers that were lost."""
        refs = [ref for worker in self.workers for ref in worker.flying]
        throw_exception_if_processing_interrupted()
        found, _ = self.ray.wait(refs, num_returns=1, timeout=POLL)
        done, lost = {}, [] if found else self._hanging()
        for worker in [w for w in self.workers if any(ref in w.flying for ref in found)]:
            for ref in [ref for ref in found if ref in worker.flying]:
                try:
                    answer = self.ray.get(ref)
                except self.ray.exceptions.RayError as error:
                    if not self._is_lost(error):
                        raise
                    lost += self._lose(worker, error)
                    break
                if answer.get("error") == OUT_OF_MEMORY:
                    lost += self._lose(worker, answer["text"])
                    break
                task, _ = worker.flying.pop(ref)
                if "error" in answer:
                    logger.error("%s: %s: %s", NODE, worker.name, answer["trace"])
                    raise RuntimeError(f"{worker.name}: {answer['error']}: {answer['text']}")
                worker.since = time.monotonic()
                self.paces.note(worker.number, task.cost, answer["seconds"])
                if task.answer:
                    self.calls += 1
                    worker.calls += 1
                    self.received += sum(data.nbytes for _, _, data in answer["results"])
                    done[task.number] = task.call, [from_wire(*r).to(self.device) for r in answer["results"]]
        return done, lost

    def _hanging(self) -> list[Task]:
        """The calls of workers that hang, which are given up. The last one is waited for: Cancel ends it."""
        lost = []
        for worker in [w for w in self.workers if w.flying]:
            late, (task, _) = time.monotonic() - worker.since, next(iter(worker.flying.values()))
            pace = self.paces.known.get(worker.number)
            if late > (FIRST if pace is None else max(LATEST, LATE * task.cost * pace)):
                if len(self.workers) > 1:
                    lost += self._lose(worker, f"no answer for {late:.0f} s")
                else:
                    progress.show(f"{worker.name}, the last one, has not answered for {late:.0f} s")
        return lost

    def _is_lost(self, answer) -> bool:
        """Whether an answer says that its worker is gone, and not what went wrong in its code."""
        errors = self.ray.exceptions
        own = (errors.RayTaskError, errors.GetTimeoutError)
        return isinstance(answer, errors.RayError) and not isinstance(answer, own)

    def _lose(self, worker: Worker, why) -> list[Task]:
        why = str(why).strip().partition("\n")[0].rstrip(".:")
        tasks = [task for task, _ in worker.flying.values() if task.answer]
        self.workers.remove(worker)
        self.again, self.lost = self.again + len(tasks), self.lost + 1
        self.ray.kill(worker.actor)
        left = len(self.workers)
        text = f"{worker.name} is lost ({why}); {len(tasks)} calls are computed again, {left} workers are left"
        with progress.above_bars():
            logger.warning("LongTake workers: %s.", text)
        progress.show(text)
        if not left:
            raise RuntimeError(f"{NODE}: all workers are lost, {worker.name} last: {why}")
        return tasks

    # ---- messages ------------------------------------------------------------------------------------------------

    def _message(self, worker: Worker, task: Task) -> tuple[dict, int]:
        call, evaluation = task.call.call, task.call.evaluation
        if self.of_evaluation[0] is not evaluation:
            self.of_evaluation = evaluation, *self._options(evaluation)
        _, digest, blob, tensors = self.of_evaluation
        forget = sum(worker.held.values()) > MOST_KEPT
        if forget:
            worker.held.clear()
            worker.options = b""
        before = evaluation.transformer_options
        changed = {k: v for k, v in call.options.items() if v is not before.get(k) and k not in HERE}
        of_call = self._packed("conditioning", {
            "indices": call.indices, "windows": call.windows, "conds": stripped(call.conds), "options": changed,
            "hooks": task.call.path.hooks,
        })  # fmt: skip
        path = self.numbers.setdefault(task.call.path, len(self.numbers))
        message = {
            "path": path, "forget": forget, "digest": digest, "answer": task.answer,
            "branches": sum(cond is not None for cond in call.conds), "x": (to_wire(call.x), to_wire(call.sigma)),
            "options": None if worker.options == digest else (blob, self._wired(worker, tensors)),
            "call": (of_call[0], self._wired(worker, of_call[1])),
        }  # fmt: skip
        worker.options = digest
        sent = [message["call"], *filter(None, [message["options"]])]
        size = sum(len(b) + sum(w[2].nbytes for _, w, _ in t if w is not None) for b, t in sent)
        return message, size + sum(data.nbytes for _, _, data in message["x"])

    def _options(self, evaluation) -> tuple[bytes, bytes, list]:
        options = {k: v for k, v in evaluation.options.items() if not k.startswith("sampler_") and k not in AROUND}
        own = {k: v for k, v in evaluation.transformer_options.items() if k not in HERE}
        own["wrappers"] = {k: v for k, v in own.get("wrappers", {}).items() if k not in STAGES}
        blob, tensors = self._packed("model: its options or patches", {**options, "transformer_options": own})
        return digest_of("options", blob, *(to_wire(t)[2] for t in tensors)), blob, tensors

    def _packed(self, what: str, value) -> tuple[bytes, list]:
        tensors: list[torch.Tensor] = []

        def keep(t):
            tensors.append(t)
            return len(tensors) - 1

        try:
            return pack(value, keep, self.names), tensors
        except Unsendable as error:
            raise ValueError(
                f"{NODE}: {what} cannot be sent to workers: {error}; bypass the node it comes from, or set workers to 0"
            ) from error

    def _wired(self, worker: Worker, tensors: list[torch.Tensor]) -> list[tuple]:
        out = []
        for t in tensors:
            wire, ours, digest = to_wire(t), t.device == self.device, None
            if wire[2].nbytes >= LARGE:
                digest = digest_of((wire[:2], ours), wire[2])
                if digest in worker.held:
                    wire = None
                else:
                    worker.held[digest] = wire[2].nbytes
            out.append((digest, wire, ours))
        return out
