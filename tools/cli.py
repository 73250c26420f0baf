"""The commands of start.py: render a video, serve the browser, run the tests. Standard library only."""

import argparse
import copy
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from .environment import (
    ROOT,
    TEST_TOOLS,
    StartError,
    check_python,
    exit_code,
    get_comfyui,
    longtake_home,
    need_modules,
    own_comfyui,
    python_environ,
    say,
    short_hash,
    spawn,
    stop,
    usable_gpu,
)

GRAPHS = ROOT / "workflows" / "api"


def methods():
    """The graphs that need no other model than the one in the pack."""
    return sorted(path.stem for path in GRAPHS.glob("*.json") if "LongTakeDemoBackbone" in path.read_text("utf-8"))


def load_graph(method):
    if method not in methods():
        raise StartError(f"unknown method '{method}': choose one of {', '.join(methods())}.")
    return json.loads((GRAPHS / (method + ".json")).read_text(encoding="utf-8"))


def round_frames(frames):
    """The nearest length that a video VAE with temporal compression 4 can decode: 4n+1."""
    if frames < 1:
        raise StartError(f"--frames must be at least 1, not {frames}.")
    return (frames + 1) // 4 * 4 + 1


def change_graph(graph, prompt=None, frames=None, seed=None, prefix=None):
    """A copy of an API graph with the given settings in the nodes that take them. Linked inputs are left alone."""
    graph = copy.deepcopy(graph)

    def put(flag, value, names, classes=None, title=None):
        if value is None:
            return
        found = False
        for node in graph.values():
            if classes and node["class_type"] not in classes:
                continue
            if title and node.get("_meta", {}).get("title") != title:
                continue
            for name in names:
                if name in node["inputs"] and not isinstance(node["inputs"][name], list):
                    node["inputs"][name] = value
                    found = True
        if not found:
            raise StartError(f"this method's graph has no place for {flag}.")

    kinds = {node["class_type"] for node in graph.values()}
    if "LongTakeStructuredPrompt" in kinds:
        put("--prompt", prompt, ["reply"], ["LongTakeStructuredPrompt"])
    elif "LongTakePromptTimeline" in kinds:
        put("--prompt", prompt, ["events"], ["LongTakePromptTimeline"])
    else:
        put("--prompt", prompt, ["text"], ["CLIPTextEncode"], title="Prompt")
    lengths = ["EmptyHunyuanLatentVideo", "LongTakePromptTimeline", "LongTakeWindowScheduler"]
    put("--frames", frames, ["length"], lengths)
    put("--seed", seed, ["seed", "noise_seed"])
    put("a file name", prefix, ["filename_prefix"], ["SaveVideo"])
    return graph


def prepare_output(folder):
    """Make the output folder and prove that it can be written, before minutes of work."""
    folder = Path(folder).expanduser().absolute()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        reason = f"cannot write to the output folder {folder}: {error.strerror}"
        raise StartError(reason + ". Choose another with --out.") from error
    return folder


def base_folder():
    """ComfyUI's base folder for this checkout; several checkouts do not meet."""
    base = longtake_home() / ("base-" + short_hash(str(ROOT)))
    base.mkdir(parents=True, exist_ok=True)
    for old in base.glob("run-*"):  # left by runs that failed
        if time.time() - old.stat().st_mtime > 86400:
            shutil.rmtree(old, ignore_errors=True)
    return base


def run_command(command, python, server, cpu, **job):
    """Do a command of tools/commands.py with the Python that runs ComfyUI. Returns its exit code."""
    job["server"] = dict(server, python=python, cpu=cpu or not usable_gpu(python))
    args = ["-m", "tools.commands", command, json.dumps(job, default=str)]  # str: of paths
    process = spawn(python, args, None, cwd=str(ROOT), env=python_environ(python))
    try:
        while process.poll() is None:  # not wait(): Windows delivers Ctrl-C only between calls
            time.sleep(0.2)
    finally:
        stop(process, 15)  # it stops ComfyUI first
    return process.returncode


def demo(options):
    frames = options.frames
    if frames is not None and round_frames(frames) != frames:
        say(f"--frames {frames} becomes {round_frames(frames)}: lengths are 4n+1 frames")
    graph = change_graph(
        load_graph(options.method),
        prompt=options.prompt,
        frames=None if frames is None else round_frames(frames),
        seed=options.seed,
        prefix=options.method,
    )
    output = prepare_output(options.out)
    comfyui, python = get_comfyui()
    server = {"comfyui": comfyui, "base": base_folder(), "output": output}
    return run_command("demo", python, server, options.cpu, graph=graph, method=options.method)


def check_port(port):
    with socket.socket() as probe:
        if os.name != "nt":  # there it would let two programs share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise StartError(f"port {port} is taken or not allowed: choose another with --port N.") from error


def serve(options):
    check_port(options.port)
    if any(argument.split("=")[0] == "--port" for argument in options.comfyui):
        raise StartError("--port stands before --: start.py serve --port N -- ...")
    comfyui, python = get_comfyui()
    base = base_folder()
    server = {"comfyui": comfyui, "base": base, "output": base / "output", "port": options.port}
    server["extra"] = ["--preview-method", "auto"]  # without it ComfyUI shows none, and our filmstrip neither
    if own_comfyui():  # the user's weights stay usable
        models = {path.name: path.name for path in (comfyui / "models").iterdir() if path.is_dir()}
        config = base / "models.yaml"  # JSON is YAML
        config.write_text(json.dumps({"own": dict(models, base_path=str(comfyui / "models"))}), encoding="utf-8")
        server["extra"] += ["--extra-model-paths-config", config]
    server["extra"] += options.comfyui  # ComfyUI takes the last of two
    return run_command("serve", python, server, options.cpu)


def test(arguments):
    comfyui, python = get_comfyui()
    if own_comfyui():
        names = ["pytest", "pytest_timeout", "ruff", "playwright", "diffusers"]
        need_modules(names, "pip install " + " ".join(f'"{t}"' for t in TEST_TOOLS))
    env = dict(os.environ, COMFYUI_PATH=str(comfyui))
    lint = subprocess.call([str(python), "-m", "ruff", "check", "."], cwd=str(ROOT), env=env)
    tests = subprocess.call([str(python), "-m", "pytest", *arguments], cwd=str(ROOT), env=env)
    return lint or tests


def parse(arguments, help_text=None):
    parser = argparse.ArgumentParser(
        "start.py", description=help_text, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    one = commands.add_parser("demo", help="render the demo video (the default); see: start.py demo --help")
    one.add_argument("--prompt", help='what happens, e.g. "a red circle bouncing | a red circle circling"')
    one.add_argument("--frames", type=int, help="length in frames at 16 per second (4n+1)")
    one.add_argument("--seed", type=int)
    one.add_argument("--method", default="timeline", help="one of: " + ", ".join(methods()))
    one.add_argument("--out", default=str(ROOT / "output"), help="folder for the video and its contact sheet")
    two = commands.add_parser(
        "serve", help="ComfyUI with the pack, for the browser; arguments after -- go to ComfyUI",
        epilog="Arguments after -- are ComfyUI's own, e.g. -- --lowvram --preview-method none. Previews are on.",
    )  # fmt: skip
    two.add_argument("--port", type=int, default=8188, help="of the page, 8188 unless told")
    for command in (one, two):
        command.add_argument("--cpu", action="store_true", help="do not use the GPU")
    commands.add_parser("test", help="ruff and all tests; further arguments go to pytest")
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["demo", *arguments]
    return parser.parse_args(arguments)


def run(arguments, help_text=None):
    check_python()
    if arguments[:1] == ["test"]:
        return test(arguments[1:])
    options = parse(arguments[: arguments.index("--")] if "--" in arguments else arguments, help_text)
    options.comfyui = arguments[arguments.index("--") + 1 :] if "--" in arguments else []
    if options.comfyui and options.command != "serve":
        raise StartError(f"arguments after -- go to ComfyUI with serve, not with {options.command}.")
    return {"demo": demo, "serve": serve}[options.command](options)


def main(arguments, help_text=None):
    """start.py's exit code. help_text: what it says of itself."""
    code = exit_code(run, arguments, help_text)
    if code == 130:
        sys.stderr.write("\nstart.py: stopped\n")
    return code
