"""The headless server of start.py and of these tests: its websocket, the link to the pack, and how it fails."""

import base64
import hashlib
import os
import re
import socket
import struct
import sys
import threading
from pathlib import Path

import pytest
from longtake.tools import headless
from longtake.tools.environment import StartError

ROOT = Path(__file__).resolve().parents[2]


def websocket_server(frames, answers, accept=None):
    """A server on a free port that shakes hands, sends the raw `frames`, then stores what the client sent."""
    listener = socket.create_server(("127.0.0.1", 0))

    def run():
        connection, _ = listener.accept()
        with connection:
            request = b""
            while not request.endswith(b"\r\n\r\n"):
                request += connection.recv(4096)
            key = re.search(rb"Sec-WebSocket-Key: (\S+)", request).group(1)
            digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
            head = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            head += f"Sec-WebSocket-Accept: {accept or base64.b64encode(digest).decode()}\r\n\r\n"
            connection.sendall(head.encode() + frames)  # in one piece: the client must not lose what follows the head
            connection.settimeout(5)
            while True:
                data = connection.recv(4096)
                if not data:
                    break
                answers.append(data)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return listener.getsockname()[1], thread


def unmask(frame):
    mask, data = frame[2:6], frame[6:]
    return frame[0] & 15, bytes(b ^ mask[i % 4] for i, b in enumerate(data))


def test_websocket_reads_every_kind_of_frame():
    medium, large = b"m" * 300, b"l" * 70000
    frames = b"".join(
        [
            b"\x81\x02hi",
            b"\x01\x03one\x89\x04beat\x80\x04 two",  # a message in two parts, a ping between them
            b"\x81\x7e" + struct.pack(">H", 300) + medium,
            b"\x82\x7f" + struct.pack(">Q", 70000) + large,
            b"\x88\x02\x03\xe8",
        ]
    )
    answers = []
    port, thread = websocket_server(frames, answers)
    client = headless.WebSocket(port, "/ws")
    assert client.receive() == "hi"
    assert client.receive() == "one two"
    assert client.receive() == medium.decode()
    assert client.receive() == large
    with pytest.raises(ConnectionError, match="closed"):
        client.receive()
    client.socket.close()
    thread.join(5)
    sent = b"".join(answers)
    assert unmask(sent[:10]) == (10, b"beat"), "a ping is answered with its own data, masked"
    assert unmask(sent[10:]) == (8, b"\x03\xe8")


def test_websocket_refuses_a_server_that_does_not_shake_hands():
    port, _ = websocket_server(b"", [], accept="wrong")
    with pytest.raises(ConnectionError, match="no websocket"):
        headless.WebSocket(port, "/ws")


def test_the_pack_link_is_renewed_and_never_deletes_files(tmp_path):
    link = tmp_path / "nodes" / headless.PACK
    headless.link_pack(link.parent)
    assert os.path.samefile(link, ROOT)
    link.unlink()
    link.symlink_to(tmp_path, target_is_directory=True)
    headless.link_pack(link.parent)
    assert os.path.samefile(link, ROOT)
    link.unlink()
    link.mkdir()
    (link / "mine").touch()
    with pytest.raises(OSError):
        headless.link_pack(link.parent)
    assert (link / "mine").exists()


def test_a_server_that_dies_at_start_shows_its_last_words(tmp_path):
    (tmp_path / "main.py").write_text("import sys; print('no such flag'); sys.exit(3)")
    server = headless.Server(tmp_path, Path(sys.executable), tmp_path, tmp_path / "out")
    with pytest.raises(StartError, match="(?s)did not start.*no such flag.*whole log: .*server.log"), server:
        pass
