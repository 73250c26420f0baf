"""A MODEL whose windows are computed by workers: Ray, actors and the model's file, for one sampling run."""

import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path

import folder_paths
from comfy.patcher_extension import WrappersMP

from ..checks import number, short
from . import progress, ray_actors
from .engine import LongTakeContextHandler
from .hooks import PATH_HOOKS, WORKERS
from .pool import Pool, Worker
from .sent import NODE
from .steps import put_first

logger = logging.getLogger(__name__)

LIVE = {"control": "a ControlNet", "gligen": "GLIGEN", "hooks": "hooks (a LoRA for one prompt or for some steps)"}
MOST_WORKERS = 256
HELD: ContextVar = ContextVar("longtake_workers_held", default=None)


def cluster_address(address: str) -> None:
    """Raises ValueError for what is no address."""
    host, _, port = address.strip().rpartition(":")
    if address.strip() != "local" and not (host and port.isdigit()):
        raise ValueError(
            f"address ({short(address)}) must be local, or host:port of a running Ray cluster, e.g. 192.168.1.10:6379"
        )


@dataclass(frozen=True)
class WorkerSettings:
    """workers: how many; address: "local", or the host:port of a running cluster; gpus: of each worker (0: it computes
    on the CPU). Raises ValueError."""

    workers: int
    address: str = "local"
    gpus: float = 0.0

    def __post_init__(self):
        number("workers", self.workers, 0, MOST_WORKERS, True)
        number("gpus_per_worker", self.gpus, 0.0, 16.0)
        cluster_address(self.address)


def _refused(guider) -> None:
    """Raises ValueError for what cannot go to workers."""
    patcher, options = guider.model_patcher, guider.model_options
    handler = options.get("context_handler")
    if handler is not None and not isinstance(handler, LongTakeContextHandler):
        raise ValueError(
            f"{NODE}: model: carries the context windows of another node ({type(handler).__name__}); use the "
            f"Global/Local Window Scheduler in its place, or set workers to 0"
        )
    for hook in options["transformer_options"].get(PATH_HOOKS, {}).values():
        if not hook.spreads:
            raise ValueError(
                f"{NODE}: model: {hook.node} has windows read what others leave, which lies in one process; bypass "
                f"that node, or set workers to 0"
            )
    found = [what for key, what in LIVE.items()
             for conds in guider.conds.values() for entry in conds or [] if entry.get(key) is not None]  # fmt: skip
    if found:
        raise ValueError(
            f"{NODE}: conditioning: {found[0]} lives in this process and cannot be sent to workers; set workers to 0"
        )
    extra = [*getattr(patcher, "additional_models", {}), *getattr(patcher, "injections", {})]
    if extra:
        raise ValueError(
            f"{NODE}: model: what {', '.join(map(str, extra))} added to it (models, injections, ComfyUI's own "
            f"multi-GPU) lives in this process; bypass that node, or set workers to 0"
        )


@contextlib.contextmanager
def started(settings: WorkerSettings) -> Iterator[tuple]:
    """(the module ray, workers without a model), which end with the context."""
    with ray_actors.connected(settings.address, settings.workers, settings.gpus) as ray:
        actors = []
        try:
            places = ray_actors.start(ray, settings, actors)
            yield ray, [Worker(i, actor, place) for i, (actor, place) in enumerate(zip(actors, places, strict=True))]
        finally:
            for actor in actors:
                ray.kill(actor)


@contextlib.contextmanager
def held(settings: WorkerSettings) -> Iterator[list[Worker]]:
    """Workers for several runs within the context (for measuring): each run takes as many as it asks for."""
    with started(settings) as (ray, workers):
        token = HELD.set((ray, workers))
        try:
            yield workers
        finally:
            HELD.reset(token)


@contextlib.contextmanager
def _workers(settings: WorkerSettings) -> Iterator[tuple]:
    if HELD.get() is None:
        with started(settings) as found:
            yield found
    else:
        ray, workers = HELD.get()
        yield ray, [Worker(w.number, w.actor, w.place) for w in workers[: settings.workers]]


def apply_workers(model, settings: WorkerSettings, done: Callable[[Pool], None] = lambda pool: None):
    """A clone of the ModelPatcher whose windows are computed by workers; none: the same object. done: is told of each
    run's Pool when the run has ended well."""
    if settings.workers == 0:
        return model
    ray_actors.required()

    def run(executor, noise, *rest, **kwargs):
        guider = executor.class_obj
        if noise.ndim != 5:
            raise ValueError(
                f"{NODE}: the latent has the shape {tuple(noise.shape)}: only video latents [batch, channels, frames, "
                f"height, width] are sent to workers; set workers to 0"
            )
        handler = guider.model_options.get("context_handler")
        if handler is None:
            raise ValueError(
                f"{NODE}: model: has no windows to share out; put the Global/Local Window Scheduler on it, or set "
                f"workers to 0 (with FIFO, too: its clips are not sent)"
            )
        if isinstance(handler, LongTakeContextHandler) and handler.settings.whole(noise.shape[2]):
            return executor(noise, *rest, **kwargs)  # one window: nothing to share out
        _refused(guider)
        path = Path(folder_paths.get_temp_directory()) / f"longtake-{uuid.uuid4().hex}.safetensors"
        before, began = guider.model_options, time.monotonic()
        progress.show(f"Ray and {settings.workers} workers start")
        try:
            with _workers(settings) as (ray, workers):
                pool = Pool(ray, workers)
                pool.load(guider.model_patcher, path)
                _say(settings, f"{len(workers)} ready after {time.monotonic() - began:.1f} s")
                options = {**before["transformer_options"], WORKERS: pool}
                guider.model_options = {**before, "transformer_options": options}
                out = executor(noise, *rest, **kwargs)
                _report(settings, pool)
                done(pool)
                return out
        finally:
            guider.model_options = before
            ray_actors.delete(path)

    model = model.clone()
    put_first(model, WrappersMP.OUTER_SAMPLE, WORKERS, run)
    return model


def _report(settings: WorkerSettings, pool: Pool) -> None:
    shares = ", ".join(f"{w.name} {w.calls}" for w in pool.workers)
    _say(settings, f"{pool.calls} calls ({shares}), {pool.sent / 1e6:.1f} MB sent, {pool.received / 1e6:.1f} MB back")


def _say(settings: WorkerSettings, text: str) -> None:
    text = f"{settings.address}: {text}"
    with progress.above_bars():
        logger.info("LongTake workers: %s.", text)
    progress.show(f"workers: {text}")
