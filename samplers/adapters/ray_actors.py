"""Ray: a cluster of this process's own or one that the user named, and an actor for each worker. The only file that
imports Ray, and only where workers are asked for.

Of its own: every port on 127.0.0.1, a token that no other program has, no dashboard, nothing reported to anybody, its
files in a folder that goes with it. Ray goes when the sampling run does.
"""

import contextlib
import os
import pickle
import secrets
import shutil
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import folder_paths
import psutil
import torch
from comfy.cli_args import args
from comfy.model_management import throw_exception_if_processing_interrupted

from .sent import NODE, PACK

STORE = 2**29  # bytes of Ray's shared memory; more goes through its folder
PREFIX = "longtake-ray-"
PATIENCE = 180  # seconds for all workers to start
PATIENCE_TO_JOIN = 5
POLL = 0.1
AUTHENTICATION = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
INSTALL = "python -m pip install ray"


def required():
    """The module ray. Raises RuntimeError with what to install."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise RuntimeError(
            f"{NODE}: workers: more than 0 need Ray, which is not installed here ({error}): {INSTALL}, with ComfyUI's "
            f"Python; or set workers to 0"
        ) from error
    return ray


@contextlib.contextmanager
def connected(address: str, workers: int, gpus: float) -> Iterator:
    """The module ray, connected; what was not connected before is not after."""
    ray = required()
    if ray.is_initialized():  # by another pack, or a script
        own = ray.get_runtime_context().gcs_address
        if address not in ("local", own):
            raise RuntimeError(
                f"{NODE}: address ({address}): Ray runs in this process already, in another cluster; give {own}, or "
                f"local for the same"
            )
        yield ray
        return
    with contextlib.ExitStack() as stack:
        stack.callback(_authenticate, {name: os.environ.get(name) for name in AUTHENTICATION})  # Ray sets them
        if address == "local":
            _start(ray, workers, gpus, stack)
        else:
            _join(ray, address, stack)
        yield ray


def _start(ray, workers: int, gpus: float, stack: contextlib.ExitStack) -> None:
    from ray._private import ray_constants

    # Left to itself Ray would write a token into the home folder, for all programs, or ask for none.
    _authenticate(dict(zip(AUTHENTICATION, ("token", secrets.token_hex(32)), strict=True)))
    folder = _folder()
    stack.callback(delete, folder)
    # Ray replaces 127.0.0.1 by the machine's address unless it takes a cluster for impossible, as by itself on Windows.
    before, ray_constants.ENABLE_RAY_CLUSTER = ray_constants.ENABLE_RAY_CLUSTER, False
    stack.callback(setattr, ray_constants, "ENABLE_RAY_CLUSTER", before)
    stack.callback(ray.shutdown)
    try:
        ray.init(
            address="local", num_cpus=workers, num_gpus=None if gpus else 0, include_dashboard=False,
            object_store_memory=STORE, log_to_driver=False, configure_logging=False,
            _node_ip_address="127.0.0.1", _temp_dir=str(folder), _system_config={"worker_niceness": 0},
        )  # fmt: skip
    except Exception as error:
        raise RuntimeError(f"{NODE}: address (local): Ray does not start: {error}") from error
    if (ip := ray.util.get_node_ip_address()) not in ("127.0.0.1", "::1"):
        raise RuntimeError(f"{NODE}: address (local): Ray would listen on {ip}, not on this machine alone")


def _authenticate(values: dict[str, str | None]) -> None:
    """Set what Ray reads of the environment once per process; older ones know no token."""
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    with contextlib.suppress(ImportError, AttributeError):
        from ray._raylet import AuthenticationTokenLoader, Config

        Config.initialize("")  # before the token: a thread that still wants one and finds none ends the process
        AuthenticationTokenLoader.instance().reset_cache()


def _join(ray, address: str, stack: contextlib.ExitStack) -> None:
    stack.callback(ray.shutdown)
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE_TO_JOIN).close()  # Ray would wait long
        ray.init(address=address, log_to_driver=False, configure_logging=False)
    except Exception as error:
        raise RuntimeError(
            f"{NODE}: address ({address}): no Ray cluster answers there: {error}. On this machine: "
            f"ray start --head --node-ip-address=<its address> --port=6379; then give <its address>:6379, or local for "
            f"this machine alone"
        ) from error


def _folder() -> Path:
    """Ray's files: in ComfyUI's temp folder on Windows; elsewhere in /tmp, as Ray does it, for the paths of its sockets
    may have 107 letters. What a process left that was killed is deleted."""
    base = Path(folder_paths.get_temp_directory() if os.name == "nt" else "/tmp")
    base.mkdir(parents=True, exist_ok=True)
    for old in base.glob(f"{PREFIX}*-*"):
        owner = old.name.removeprefix(PREFIX).partition("-")[0]
        if owner.isdigit() and not psutil.pid_exists(int(owner)):
            shutil.rmtree(old, ignore_errors=True)
    return Path(tempfile.mkdtemp(prefix=f"{PREFIX}{os.getpid()}-", dir=base))


def delete(path: Path) -> None:
    """A file or a folder. Ray's processes write until they have ended, and Windows keeps what they have open."""
    for _ in range(50):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            with contextlib.suppress(OSError):
                path.unlink()
        if not path.exists():
            return
        time.sleep(POLL)


def actor_class(ray, gpus: float):
    """The actor. Ray sends a class inside a function by its code: its process knows no ComfyUI yet, and no pack."""

    class LongTakeWorker:
        def begin(self, comfy: list[str], pack: tuple[str, str], settings: bytes, threads: int):
            """comfy: where ComfyUI may lie; pack: this pack's name in the head's process, and where it lies there."""
            import glob
            import importlib
            import os
            import pickle
            import platform
            import sys
            import types

            folders = [*filter(None, [os.environ.get("COMFYUI_PATH")]), *comfy]
            found = next((f for f in folders if os.path.isfile(os.path.join(f, "main.py"))), None)
            if found is None:
                raise FileNotFoundError(f"no ComfyUI in {folders}: set COMFYUI_PATH where Ray is started")
            sys.path.insert(0, found)
            name, place = pack
            own = os.path.join("samplers", "adapters", "remote.py")
            places = [place, *glob.glob(os.path.join(glob.escape(found), "custom_nodes", "*"))]
            place = next((p for p in places if os.path.isfile(os.path.join(p, own))), None)
            if place is None:
                raise FileNotFoundError(f"no ComfyUI-LongTake in {found}/custom_nodes")
            module = types.ModuleType(name)
            module.__path__ = [place]
            sys.modules[name] = module
            from comfy import cli_args

            vars(cli_args.args).update(pickle.loads(settings))
            remote = importlib.import_module(name + ".samplers.adapters.remote")
            self.remote = remote.Remote(threads)
            return platform.node(), os.getpid()

        def load(self, blob, path):
            return self.remote.load(blob, path)

        def compute(self, message):
            return self.remote.compute(message)

    return ray.remote(
        num_cpus=1, num_gpus=gpus, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
    )(LongTakeWorker)  # fmt: skip


def start(ray, settings, actors: list) -> list[str]:
    """Put the actors into `actors`, each with ComfyUI and this pack in it, and return where they are. settings: a
    WorkerSettings."""
    have = ray.cluster_resources()
    cpus, gpus = have.get("CPU", 0), have.get("GPU", 0)
    most = int(min(cpus, gpus / settings.gpus if settings.gpus else cpus))
    if most < settings.workers:
        raise RuntimeError(
            f"{NODE}: workers ({settings.workers}), gpus_per_worker ({settings.gpus:g}): the cluster "
            f"{settings.address} has {cpus:g} CPUs and {gpus:g} GPUs, enough for {most} workers (of gpus_per_worker 0, "
            f"which compute on the CPU: {int(cpus)})"
        )
    kind = actor_class(ray, settings.gpus)
    actors += [kind.remote() for _ in range(settings.workers)]
    own = pickle.dumps({**vars(args), "cpu": not settings.gpus})
    setup = ([folder_paths.base_path], (PACK, str(Path(__file__).resolve().parents[2])), own, torch.get_num_threads())
    places = []
    for i, answer in enumerate(answers(ray, [actor.begin.remote(*setup) for actor in actors])):
        if isinstance(answer, Exception):
            raise RuntimeError(f"{NODE}: worker {i + 1} does not start: {answer}") from answer
        places.append(f"{answer[0]}, process {answer[1]}")
    return places


def answers(ray, refs: list, patience: float = PATIENCE) -> list:
    """What `refs` bring, or the exception each ended with. A cancelled run ends the waiting."""
    end = time.monotonic() + patience
    while time.monotonic() < end:
        _, waiting = ray.wait(refs, num_returns=len(refs), timeout=POLL)
        throw_exception_if_processing_interrupted()
        if not waiting:
            break
    found = []
    for ref in refs:
        try:
            found.append(ray.get(ref, timeout=0))
        except Exception as error:
            found.append(error)
    return found
