#!/usr/bin/env python3
"""Set up, run and test ComfyUI-LongTake. Needs only Python 3.10 to 3.13 and a package index that pip can reach.

    python3 start.py [demo]   render the demo long video through a real ComfyUI server
    python3 start.py test     ruff and all tests (further arguments go to pytest)
    python3 start.py serve    ComfyUI with the pack, to work in the browser

ComfyUI is the one in COMFYUI_PATH, or the one whose custom_nodes folder holds this pack, run by the Python that runs
this file. Otherwise a private one is set up once in LONGTAKE_HOME (default: the user's cache folder), outside the
checkout. Standard library only; the file parses on older Pythons, so that they get a clear line.
"""

import argparse
import copy
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from tools.environment import (
    TEST_TOOLS,
    StartError,
    check_python,
    disk_full,
    get_comfyui,
    longtake_home,
    need_modules,
    own_comfyui,
    say,
    short_hash,
    usable_gpu,
)
from tools.headless import Server, check_port

ROOT = Path(os.path.abspath(__file__)).parent
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


class Progress:
    """Turns the server's events into one progress line per node."""

    def __init__(self, graph, stream=None):
        self.graph, self.stream = graph, stream or sys.stdout
        self.live = self.stream.isatty()
        self.node, self.quarter, self.started = None, 0, 0.0

    def __call__(self, event, data):
        if event == "executing":
            self.enter(data.get("node"))
        elif event == "progress":
            if data.get("node") != self.node:
                self.enter(data.get("node"))
            self.update(data["value"], data["max"])

    def enter(self, node):
        if self.live and self.node is not None:
            self.stream.write("\n")
        self.node, self.quarter, self.started = node, 0, time.monotonic()
        if node is not None:
            self.stream.write("  " + self.title() + ("" if self.live else "\n"))
            self.stream.flush()

    def title(self):
        node = self.graph.get(str(self.node), {})
        return node.get("_meta", {}).get("title") or node.get("class_type", str(self.node))

    def update(self, value, total):
        part = value / max(total, 1)
        seconds = time.monotonic() - self.started
        text = "[{:<30}] {}/{} {:.0f} s".format("#" * int(30 * part), value, total, seconds)
        if self.live:
            self.stream.write(f"\r  {self.title()}  {text}\x1b[K")
        elif int(4 * part) > self.quarter:
            self.quarter = int(4 * part)
            self.stream.write(f"    {text}\n")
        self.stream.flush()


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


def contact_sheet(python, video):
    sheet = video.with_suffix(".png")
    command = [str(python), str(ROOT / "tools" / "contact_sheet.py"), str(video), str(sheet)]
    made = subprocess.run(command, capture_output=True, text=True)
    if made.returncode:
        reason = made.stderr.strip().splitlines() or ["no reason given"]
        raise StartError(f"no contact sheet of {video}: {reason[-1]}")
    return sheet


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
    started = time.monotonic()
    cpu = options.cpu or not usable_gpu(python)
    say(f"starting ComfyUI on the {'CPU' if cpu else 'GPU'}")
    with Server(comfyui, python, base_folder(), output, cpu=cpu) as server:
        say(f"rendering '{options.method}' (server ready after {time.monotonic() - started:.0f} s)")
        files = server.files(server.queue(graph, Progress(graph)))
    videos = [path for path in files if path.suffix == ".mp4"]
    if not videos:
        raise StartError(f"the graph of '{options.method}' saved no mp4.")
    say(f"done in {time.monotonic() - started:.0f} s")
    for video in videos:
        say(f"video:         {video}")
        say(f"contact sheet: {contact_sheet(python, video)}")


def serve(options):
    check_port(options.port)
    comfyui, python = get_comfyui()
    base, extra = base_folder(), []
    if own_comfyui():  # the user's weights stay usable
        models = {path.name: path.name for path in (comfyui / "models").iterdir() if path.is_dir()}
        config = base / "models.yaml"  # JSON is YAML
        config.write_text(json.dumps({"own": dict(models, base_path=str(comfyui / "models"))}), encoding="utf-8")
        extra = ["--extra-model-paths-config", config]
    cpu = options.cpu or not usable_gpu(python)
    with Server(comfyui, python, base, base / "output", options.port, cpu, echo=True, extra=extra) as server:
        say(f"\nComfyUI with LongTake: {server.url}   (results: {server.output}; Ctrl-C stops it)")
        while server.process.poll() is None:
            server.show_log()
            time.sleep(0.3)
        raise server.died("ended")


def test(arguments):
    comfyui, python = get_comfyui()
    if own_comfyui():
        names = ["pytest", "pytest_timeout", "ruff", "playwright", "diffusers"]
        need_modules(names, "pip install " + " ".join(f'"{t}"' for t in TEST_TOOLS))
    env = dict(os.environ, COMFYUI_PATH=str(comfyui))
    lint = subprocess.call([str(python), "-m", "ruff", "check", "."], cwd=str(ROOT), env=env)
    tests = subprocess.call([str(python), "-m", "pytest", *arguments], cwd=str(ROOT), env=env)
    return lint or tests


def parse(arguments):
    parser = argparse.ArgumentParser(
        "start.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command")
    one = commands.add_parser("demo", help="render the demo video (the default); see: start.py demo --help")
    one.add_argument("--prompt", help='what happens, e.g. "a red circle bouncing | a red circle circling"')
    one.add_argument("--frames", type=int, help="length in frames at 16 per second (4n+1)")
    one.add_argument("--seed", type=int)
    one.add_argument("--method", default="timeline", help="one of: " + ", ".join(methods()))
    one.add_argument("--out", default=str(ROOT / "output"), help="folder for the video and its contact sheet")
    two = commands.add_parser("serve", help="ComfyUI with the pack, for the browser")
    two.add_argument("--port", type=int, default=8188)
    for command in (one, two):
        command.add_argument("--cpu", action="store_true", help="do not use the GPU")
    commands.add_parser("test", help="ruff and all tests; further arguments go to pytest")
    if not arguments or (arguments[0].startswith("-") and arguments[0] not in ("-h", "--help")):
        arguments = ["demo", *arguments]
    return parser.parse_args(arguments)


def main(arguments):
    try:
        check_python()
        if arguments[:1] == ["test"]:
            return test(arguments[1:])
        options = parse(arguments)
        return {"demo": demo, "serve": serve}[options.command](options) or 0
    except StartError as error:
        sys.stderr.write(f"start.py: {error}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"start.py: {disk_full(longtake_home()) if error.errno == errno.ENOSPC else error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("\nstart.py: stopped\n")
        return 130


def interrupted(*_):
    raise KeyboardInterrupt


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, interrupted)
    sys.exit(main(sys.argv[1:]))
