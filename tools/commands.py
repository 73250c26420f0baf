"""What start.py does with a running ComfyUI: render a graph, or serve the browser.

    python -m tools.commands demo '{"server": {...}, "graph": {...}, "method": "timeline"}'
    python -m tools.commands serve '{"server": {...}}'

"server" are the arguments of Server. start.py fills them in and starts this with the Python that runs ComfyUI, which
has aiohttp, PyAV and Pillow.
"""

import contextlib
import json
import signal
import sys
import time

from .contact_sheet import contact_sheet, read_video
from .environment import StartError, exit_code, output_full, say
from .headless import Server


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
        elif event.startswith("execution_"):  # the run has begun or ended
            self.enter(None)

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


@contextlib.contextmanager
def whole_files(output, method):
    """Where a run fails, no broken video of its own stays, such as one that a full disk has cut off."""
    before = set(output.glob(method + "_*.mp4"))
    try:
        yield
    except StartError as error:
        for path in set(output.glob(method + "_*.mp4")) - before:
            path.unlink()
        if "No space left on device" in str(error) or "[Errno 28]" in str(error):
            raise output_full(output) from error
        raise


def told(graph):
    """What the graph's videos are to show: the texts of its timelines and prompts, a line each."""
    texts = []
    for node in graph.values():
        kind, values = node["class_type"], node["inputs"]
        if kind == "LongTakePromptTimeline" and isinstance(values["events"], str):
            events = " | ".join(values["events"].split("\n"))
            texts.append(": ".join(t for t in (values["global_prompt"], events) if t and isinstance(t, str)))
        elif kind == "CLIPTextEncode":
            texts.append(values["text"])
    return list(dict.fromkeys(text for text in texts if text and isinstance(text, str)))  # negative ones are empty


def demo(server, graph, method):
    """Render an API graph; print where its videos and their contact sheets are."""
    started = time.monotonic()
    say(f"starting ComfyUI on the {'CPU' if server['cpu'] else 'GPU'}")
    with Server(**server) as running, whole_files(running.output, method):
        for text in told(graph):
            say(f"prompt:        {text}")
        say(f"rendering '{method}' (server ready after {time.monotonic() - started:.0f} s)")
        files = running.files(running.queue(graph, Progress(graph)))
    videos = [path for path in files if path.suffix == ".mp4"]
    if not videos:
        raise StartError(f"the graph of '{method}' saved no mp4.")
    say(f"done in {time.monotonic() - started:.0f} s")
    for video in videos:
        sheet = video.with_suffix(".png")
        contact_sheet(*read_video(video)).save(sheet)
        say(f"video:         {video}\ncontact sheet: {sheet}")


def serve(server):
    """Keep a server running, its log shown, until it ends or this process is stopped."""
    with Server(**server, echo=True) as running:
        say(f"\nComfyUI with LongTake: {running.url}   (results: {running.output}; Ctrl-C stops it)")
        while running.process.poll() is None:
            running.show_log()
            time.sleep(0.3)
        raise running.died("ended")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C
    command, job = sys.argv[1:]
    sys.exit(exit_code({"demo": demo, "serve": serve}[command], **json.loads(job)))
