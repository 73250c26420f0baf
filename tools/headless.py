"""A headless ComfyUI server with this pack: start it, queue API graphs, follow them.

Needs aiohttp, which ComfyUI brings. Every method waits for its answer; the client's event loop runs in a thread of its
own, so that they also work where another loop runs (Playwright's) and while queue() calls on_event.
"""

import asyncio
import contextlib
import json
import os
import shutil
import socket
import sys
import tempfile
import threading
import time
import uuid
from pathlib import Path

import aiohttp

from .environment import ROOT, StartError, spawn, stop, tail

PACK = "ComfyUI-LongTake"
NO_ANSWER = (aiohttp.ClientError, ConnectionError, asyncio.TimeoutError)


class GraphError(StartError):
    """ComfyUI refused a graph or failed in a node. `details` is what it sent."""

    def __init__(self, text, details):
        super().__init__(text)
        self.details = details


def describe(graph, node_id):
    node = graph.get(str(node_id), {})
    kind = node.get("class_type", "unknown node")
    title = node.get("_meta", {}).get("title", kind)
    return kind if title == kind else f'{kind} "{title}"'


def refusal(graph, reply):
    """GraphError from the body of a 400 answer to POST /prompt."""
    lines = [
        f"{describe(graph, node_id)}: {error['message']}: {error['details']}"
        for node_id, node in reply.get("node_errors", {}).items()
        for error in node["errors"]
    ]
    error = reply.get("error", {})
    lines = lines or [": ".join(filter(None, [error.get("message"), error.get("details")]))]
    return GraphError("ComfyUI refused the graph. " + "; ".join(lines), reply)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def link_pack(custom_nodes):
    """Make custom_nodes/ComfyUI-LongTake lead to this checkout."""
    link = custom_nodes / PACK
    custom_nodes.mkdir(parents=True, exist_ok=True)
    if link.exists() and os.path.samefile(link, ROOT):
        return
    if os.path.lexists(link):
        if link.is_symlink():
            link.unlink()
        else:
            link.rmdir()  # a Windows junction; never a folder with files
    if os.name == "nt":
        import _winapi

        _winapi.CreateJunction(str(ROOT), str(link))
    else:
        link.symlink_to(ROOT, target_is_directory=True)


class Server:
    """A headless ComfyUI with this pack, its own base folder and nothing of the user's. A context manager.

    base: folder for models, input, user data and the link to the pack. output: where results go.
    """

    def __init__(self, comfyui, python, base, output, port=None, cpu=True, echo=False, extra=()):
        self.comfyui, self.python, self.base, self.output = Path(comfyui), python, Path(base), Path(output)
        self.port = port or free_port()
        self.cpu, self.echo, self.extra = cpu, echo, list(extra)
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        link_pack(self.base / "custom_nodes")
        example = self.comfyui / "input" / "example.png"  # which Load Image shows at first
        if example.exists() and not (self.base / "input" / "example.png").exists():
            (self.base / "input").mkdir(parents=True, exist_ok=True)
            shutil.copy(example, self.base / "input")
        self.work = Path(tempfile.mkdtemp(prefix="run-", dir=self.base))  # two runs do not share temp or database
        self.log = self.work / "server.log"
        args = [self.comfyui / "main.py", "--port", self.port, "--disable-auto-launch", "--disable-api-nodes"]
        args += ["--base-directory", self.base, "--output-directory", self.output, "--temp-directory", self.work]
        args += ["--database-url", "sqlite:///" + (self.work / "comfyui.db").as_posix()]
        args += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK]
        args += (["--cpu"] if self.cpu else []) + self.extra
        env = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
        with contextlib.ExitStack() as undo:
            undo.push(self._tidy)
            with open(self.log, "wb") as log:
                self.process = spawn(self.python, args, log, cwd=str(self.comfyui), env=env)
            undo.callback(stop, self.process)
            self.shown = 0
            undo.enter_context(self._connected())
            self._wait_until_ready()
            self.leave = undo.pop_all()
        return self

    def __exit__(self, *raised):
        self.leave.__exit__(*raised)

    def _tidy(self, kind, *_):
        if not kind or issubclass(kind, KeyboardInterrupt):  # after an error the log stays
            shutil.rmtree(self.work, ignore_errors=True)

    @contextlib.contextmanager
    def _connected(self):
        """Holds an aiohttp client in `self.client`, on an event loop in a thread."""

        async def connect():
            return aiohttp.ClientSession(self.url, timeout=aiohttp.ClientTimeout(total=60))

        self.loop = asyncio.new_event_loop()
        thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        thread.start()
        self.client = self._wait(connect())
        try:
            yield
        finally:
            self._wait(self.client.close())
            self.loop.call_soon_threadsafe(self.loop.stop)
            thread.join()
            self.loop.close()

    def _wait(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def _wait_until_ready(self, seconds=300):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.show_log()
            if self.process.poll() is not None:
                raise self.died("did not start")
            with contextlib.suppress(*NO_ANSWER):
                if self.request("/system_stats")[0] == 200:
                    return
            time.sleep(0.2)
        raise self.died(f"did not answer within {seconds} s")

    def died(self, what):
        return StartError(f"the ComfyUI server {what}. Its last lines:\n{tail(self.log)}\n    whole log: {self.log}")

    def show_log(self):
        if self.echo:
            with open(self.log, "rb") as log:
                log.seek(self.shown)
                new = log.read()
            self.shown += len(new)
            sys.stdout.write(new.decode("utf-8", errors="replace"))
            sys.stdout.flush()

    def request(self, path, body=None):
        """GET, or POST where `body` is given. Returns (status, parsed JSON or None)."""

        async def ask():
            async with self.client.request("GET" if body is None else "POST", path, json=body) as response:
                text = await response.read()
                return response.status, json.loads(text) if text and "json" in response.content_type else None

        return self._wait(ask())

    def interrupt(self):
        self.request("/interrupt", {})

    def queue(self, graph, on_event=lambda event, data: None):
        """Run an API graph and return its history entry. on_event(type, data) gets the websocket's messages, and
        ("binary", bytes) for previews and texts."""
        client, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
        try:
            ws = self._wait(self.client.ws_connect("/ws?clientId=" + client, max_msg_size=0))
            try:
                status, reply = self.request("/prompt", {"prompt": graph, "client_id": client, "prompt_id": prompt_id})
                if status != 200:
                    raise refusal(graph, reply or {})
                self._follow(ws, graph, prompt_id, on_event)
            finally:
                self._wait(ws.close())
            while True:  # the entry is written just after the last message
                history = self.request("/history/" + prompt_id)[1]
                if history:
                    return history[prompt_id]
                time.sleep(0.05)
        except NO_ANSWER as error:
            time.sleep(0.5)
            if self.process.poll() is None:
                raise self.died("closed the connection") from error
            raise self.died("ended in the middle of the run (out of memory?)") from error

    def _follow(self, ws, graph, prompt_id, on_event):
        """Pass on the websocket's messages until the prompt has succeeded."""
        while True:
            message = self._wait(ws.receive())
            if message.type == aiohttp.WSMsgType.BINARY:
                on_event("binary", message.data)
                continue
            if message.type != aiohttp.WSMsgType.TEXT:
                raise ConnectionError(f"the websocket ended: {message}")
            event, data = (message.json()[key] for key in ("type", "data"))
            on_event(event, data)
            if data.get("prompt_id") != prompt_id:
                continue
            if event == "execution_error":
                where = describe(graph, data["node_id"])
                reason = f"{data['exception_type']}: {data['exception_message']}".strip()
                raise GraphError(f"{where} failed. {reason}", data)
            if event == "execution_interrupted":
                raise GraphError("the run was interrupted", data)
            if event == "execution_success":
                return

    def files(self, entry):
        """The files in the output folder that a history entry names, in the graph's order."""
        saved = [f for out in entry["outputs"].values() for files in out.values() for f in files]
        saved = [f for f in saved if isinstance(f, dict) and f.get("type") == "output"]
        return [self.output / f["subfolder"] / f["filename"] for f in saved]
