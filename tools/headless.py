"""A headless ComfyUI server with this pack: start it, queue API graphs, follow them. Standard library only."""

import base64
import contextlib
import hashlib
import http.client
import json
import os
import select
import shutil
import socket
import sys
import tempfile
import time
import uuid
from pathlib import Path

from .environment import ROOT, StartError, spawn, stop, tail

PACK = "ComfyUI-LongTake"


class WebSocket:
    """The client side of RFC 6455, as much as ComfyUI's /ws needs."""

    def __init__(self, port, path, host="127.0.0.1"):
        self.buffer = b""
        self.socket = socket.create_connection((host, port), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        while b"\r\n\r\n" not in self.buffer:
            self._receive()
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        accept = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
        if b" 101 " not in head.split(b"\r\n")[0] or base64.b64encode(accept) not in head:
            raise ConnectionError(f"no websocket at {path}: {head.decode(errors='replace').splitlines()[0]}")

    def _receive(self):
        # select, not a blocking recv: Windows delivers Ctrl-C only between calls
        while not select.select([self.socket], [], [], 0.5)[0]:
            pass
        chunk = self.socket.recv(65536)
        if not chunk:
            raise ConnectionError("the server closed the connection")
        self.buffer += chunk

    def _take(self, count):
        while len(self.buffer) < count:
            self._receive()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def _send(self, opcode, data):
        """Send a control frame (data under 126 bytes), masked as clients must."""
        mask = os.urandom(4)
        masked = bytes(byte ^ mask[i % 4] for i, byte in enumerate(data))
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(data)]) + mask + masked)

    def receive(self):
        """The next message: str for text, bytes for binary. ConnectionError when the server has closed."""
        kind, parts = None, []
        while True:
            first, length = self._take(2)
            if length >= 126:
                length = int.from_bytes(self._take(2 if length == 126 else 8), "big")
            data = self._take(length)
            opcode = first & 15
            if opcode == 8:
                self._send(8, data[:2])
                raise ConnectionError("the server closed the connection")
            if opcode == 9:
                self._send(10, data)
            elif opcode < 8:
                kind = opcode or kind  # 0 continues the message before
                parts.append(data)
                if first & 0x80:
                    return b"".join(parts).decode() if kind == 1 else b"".join(parts)

    def close(self):
        with contextlib.suppress(OSError):
            self._send(8, (1000).to_bytes(2, "big"))
        self.socket.close()


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


def check_port(port):
    with socket.socket() as probe:
        if os.name != "nt":  # there it would let two programs share a port
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError) as error:
            raise StartError(f"port {port} is taken or not allowed: choose another with --port N.") from error


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
        self.comfyui, self.python, self.base, self.output = comfyui, python, Path(base), Path(output)
        self.port = port or free_port()
        self.cpu, self.echo, self.extra = cpu, echo, list(extra)
        self.url = f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        link_pack(self.base / "custom_nodes")
        self.work = Path(tempfile.mkdtemp(prefix="run-", dir=self.base))  # two runs do not share temp or database
        self.log = self.work / "server.log"
        args = [self.comfyui / "main.py", "--port", self.port, "--disable-auto-launch", "--disable-api-nodes"]
        args += ["--base-directory", self.base, "--output-directory", self.output, "--temp-directory", self.work]
        args += ["--database-url", "sqlite:///" + (self.work / "comfyui.db").as_posix()]
        args += ["--disable-all-custom-nodes", "--whitelist-custom-nodes", PACK]
        args += (["--cpu"] if self.cpu else []) + self.extra
        env = dict(os.environ, PYTHONUNBUFFERED="1", PYTHONIOENCODING="utf-8")
        if self.python != Path(sys.executable):
            env = {k: v for k, v in env.items() if k not in ("PYTHONPATH", "PYTHONHOME")}
        with open(self.log, "wb") as log:
            self.process = spawn(self.python, args, log, cwd=str(self.comfyui), env=env)
        self.shown = 0
        try:
            self._wait_until_ready()
        except BaseException:
            stop(self.process)
            raise
        return self

    def __exit__(self, kind, *_):
        stop(self.process)
        if not kind or issubclass(kind, KeyboardInterrupt):  # after an error the log stays
            shutil.rmtree(self.work, ignore_errors=True)

    def _wait_until_ready(self, seconds=300):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.show_log()
            if self.process.poll() is not None:
                raise self.died("did not start")
            with contextlib.suppress(OSError, http.client.HTTPException):
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
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)  # urllib would heed proxies
        try:
            data = None if body is None else json.dumps(body)
            connection.request("GET" if body is None else "POST", path, data, {"Content-Type": "application/json"})
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        is_json = "json" in response.getheader("Content-Type", "")
        return response.status, json.loads(text) if is_json and text else None

    def interrupt(self):
        self.request("/interrupt", {})

    def queue(self, graph, on_event=None):
        """Run an API graph and return its history entry. on_event(type, data) gets the websocket's messages, and
        ("binary", bytes) for previews and texts."""
        client, prompt_id = uuid.uuid4().hex, str(uuid.uuid4())
        web_socket = WebSocket(self.port, "/ws?clientId=" + client)
        try:
            body = {"prompt": graph, "client_id": client, "prompt_id": prompt_id}
            status, reply = self.request("/prompt", body)
            if status != 200:
                raise refusal(graph, reply or {})
            while True:
                text = web_socket.receive()
                if isinstance(text, bytes):  # previews and texts
                    if on_event:
                        on_event("binary", text)
                    continue
                message = json.loads(text)
                event, data = message["type"], message["data"]
                if on_event:
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
                    break
            while True:  # the entry is written just after the message
                history = self.request("/history/" + prompt_id)[1]
                if history:
                    return history[prompt_id]
                time.sleep(0.05)
        except (ConnectionError, http.client.HTTPException) as error:
            time.sleep(0.5)
            if self.process.poll() is None:
                raise
            raise self.died("ended in the middle of the run (out of memory?)") from error
        finally:
            web_socket.close()

    def files(self, entry):
        """The files in the output folder that a history entry names, in the graph's order."""
        saved = [f for out in entry["outputs"].values() for files in out.values() for f in files]
        saved = [f for f in saved if isinstance(f, dict) and f.get("type") == "output"]
        return [self.output / f["subfolder"] / f["filename"] for f in saved]
