"""The files of kept runs: killed at every moment of a write, a full disk, hostile files, two servers, limits."""

import errno
import itertools
import json
import logging
import os
import shutil
import signal
import struct
import sys
import time

import pytest
import torch
from longtake.samplers.adapters import run_files, run_folders
from longtake.samplers.adapters.checkpoint import CheckpointSettings
from safetensors.torch import save_file
from support import killed_runs
from support.children import DEADLINE, context, ended, error_of, started
from support.kept_runs import EVERY, STEPS, calls, counted, cut_off, output, sample, wan  # noqa: F401
from support.killed_runs import SAMPLER

pytestmark = pytest.mark.usefixtures("one_thread", "output")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL and no limit of a file's size")


@pytest.fixture(scope="module")
def model():
    return wan()


@pytest.fixture(scope="module")
def whole(model):
    return sample(model, SAMPLER)


@pytest.fixture
def run(model, output):  # noqa: F811
    """The folder of a run that ended in its fifth step, with states after three and four."""
    cut_off(model, SAMPLER, 4, settings=EVERY)
    (folder,) = (output / "longtake" / "runs").iterdir()
    assert run_files.step_files(folder) == ["step-00004.safetensors", "step-00003.safetensors"]
    return folder


def again(model, caplog):
    """(video, steps that were sampled, warnings) of the same graph, queued again."""
    caplog.clear()
    with caplog.at_level(logging.INFO):
        video, count = counted(model, SAMPLER, settings=EVERY)
    return video, count, [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@posix
@pytest.mark.parametrize("what", ["replace", "fsync", "unlink"])
def test_a_kill_at_any_moment_of_a_write_leaves_a_run_that_resumes(model, whole, output, what):  # noqa: F811
    """Killed before the 1st, 2nd, ... time that a file is flushed, renamed or deleted, until the run gets through."""
    for number in itertools.count():
        status = ended(started(killed_runs.killed_before, output, what, number * 3))
        if status == 0:
            break
        assert status == -signal.SIGKILL
        resumed, count = counted(model, SAMPLER, settings=EVERY)
        assert torch.equal(resumed, whole) and count <= STEPS
        assert not list(output.rglob("*.part"))
        shutil.rmtree(output / "longtake")
    assert number >= 4


@posix
def test_a_full_disk_ends_the_run_and_keeps_the_state_before(model, whole, run, output):  # noqa: F811
    states = run_files.step_files(run)
    error = error_of(killed_runs.on_a_full_disk, output)
    assert "Checkpoint (LongTakeCheckpoint" in error and str(run.parent) in error and "File too large" in error
    assert run_files.step_files(run) == states and not list(run.glob("*.part"))
    resumed, count = counted(model, SAMPLER, settings=EVERY)
    assert torch.equal(resumed, whole) and count == STEPS - 4


def rewrite(path, edit):
    """A state that is whole but says something else: edit(what it says)."""
    tensors, metadata = run_files.read(path.parent, path.name)
    known = json.loads(metadata["state"])
    edit(known)
    text = json.dumps(known)
    save_file(tensors, path, {"state": text, "sha256": run_files.state_digest(text, tensors)})


def cut(path):
    path.write_bytes(path.read_bytes()[:-7])


def changed(path):
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def linked(path):
    path.rename(path.parent.parent.parent / "elsewhere")
    path.symlink_to(path.parent.parent.parent / "elsewhere")


def other_tensors(path):
    save_file({"weights": torch.zeros(4)}, path)


def huge_header(path):
    path.write_bytes(struct.pack("<Q", 2**40) + path.read_bytes()[8:])


def long_header(path):
    header = json.dumps({"__metadata__": {"x": " " * 2**21}}).encode()
    path.write_bytes(struct.pack("<Q", len(header)) + header)


def pickled(path):
    path.write_bytes(b"\x80\x04cos\nsystem\n(S'touch /tmp/x'\ntR.")


@pytest.mark.parametrize("harm", [cut, changed, linked, other_tensors, huge_header, long_header, pickled, os.unlink])
@pytest.mark.parametrize("name", ["step-00004", "call-00003"])
def test_a_file_that_is_not_the_runs_own_is_refused_by_name(model, whole, run, caplog, harm, name):
    harm(run / f"{name}.safetensors")
    gone = (harm, name) == (os.unlink, "step-00004")
    video, count, warnings = again(model, caplog)
    assert torch.equal(video, whole)
    assert count == STEPS - 3  # the state before
    named = f"{run.name}: {name}.safetensors"
    assert gone or any(named in line and "is not used" in line for line in warnings), warnings


def test_a_state_that_was_renamed_or_names_files_outside_is_refused(model, whole, run, caplog):
    newest = run / "step-00004.safetensors"
    newest.rename(run / "step-00009.safetensors")
    secret = "../../../secret.safetensors"
    rewrite(run / "step-00003.safetensors", lambda known: known["answers"][0].__setitem__(1, secret))
    video, count, warnings = again(model, caplog)
    assert torch.equal(video, whole) and count == STEPS
    assert any("step-00009.safetensors belongs to step 4" in line for line in warnings)
    assert any("step-00003.safetensors is no state" in line and "secret" in line for line in warnings)


@pytest.mark.parametrize(("key", "value"), [
    ("calls", -1), ("calls", 1.5), ("step", "4"), ("answers", {"1": 2}), ("answers", [[99, "call-00003.safetensors"]]),
    ("parts", []), ("latent", None), ("batches", [["x", 1]]), ("format", 99), ("run", "../other"), ("calls", True),
])  # fmt: skip
def test_a_state_of_another_form_is_refused(run, key, value):
    rewrite(run / "step-00004.safetensors", lambda known: None)
    run_files.read_state(run, "step-00004.safetensors")
    rewrite(run / "step-00004.safetensors", lambda known: known.update({key: value}))
    with pytest.raises(run_files.Unreadable, match="^step-00004.safetensors"):
        run_files.read_state(run, "step-00004.safetensors")


@posix
def test_what_a_kill_leaves_of_a_file_is_tidied_up(model, run):
    """safetensors writes under a name of its own."""
    for attempt in range(4):
        begun = context.Event()
        child = started(killed_runs.writing, run, begun)
        assert begun.wait(DEADLINE)
        time.sleep(0.03 * attempt)
        child.kill()
        ended(child)
    (run / "my notes.tmp").write_text("mine")
    run_files.tidy(run)
    names = {"lock", "my notes.tmp", *run_files.step_files(run)}
    state = run_files.read_state(run, "step-00004.safetensors")
    assert {e for e in os.listdir(run) if not e.startswith(("call-", "latent-"))} == names
    assert state.latent.name in os.listdir(run)
    (run / "my notes.tmp").unlink()
    (run / ".tmpAb12Cd").write_bytes(b"0" * 9)
    assert run_folders.delete(run_folders.kept_run(run)) and not run.exists()


def test_folders_that_are_links_or_others_are_left_alone(model, run, output):  # noqa: F811
    outside = output / "outside"
    shutil.move(run, outside)
    run.symlink_to(outside, target_is_directory=True)
    (run.parent / "notes").mkdir()
    assert run_folders.kept_runs() == []
    before = sorted(os.listdir(outside))
    sample(model, SAMPLER, settings=CheckpointSettings(keep_gb=0.02, keep_days=0.01))
    assert sorted(os.listdir(outside)) == before and (run.parent / "notes").is_dir()


@posix
def test_two_servers_leave_each_others_runs_alone(model, whole, run, caplog):
    held, done = context.Event(), context.Event()
    child = started(killed_runs.holding, run, held, done)  # the other server, in the middle of this run
    assert held.wait(DEADLINE)
    files = sorted(os.listdir(run))
    video, count, _ = again(model, caplog)
    assert torch.equal(video, whole) and count == STEPS  # a run of its own
    assert len(list(run.parent.iterdir())) == 2
    (kept,) = [r for r in run_folders.kept_runs() if r.name == run.name]
    assert not run_folders.delete(kept) and run_folders.prune(0, 0, run) != [kept]
    assert sorted(os.listdir(run)) == files
    done.set()
    assert ended(child) == 0
    assert again(model, caplog)[1] == STEPS - 4  # the lock went with the process


def test_a_run_that_may_not_be_written_is_left_alone_and_stops_no_other(model, whole, run, caplog):
    """A backup with the rights of somebody else, say; but root may open everything except a folder."""
    sample(model, "euler", settings=EVERY)
    (run / "lock").unlink()
    (run / "lock").mkdir()
    files = sorted(os.listdir(run))
    assert len(run_folders.prune(0, 30)) == 1  # the other one
    video, count, _ = again(model, caplog)
    assert torch.equal(video, whole) and count == STEPS and sorted(os.listdir(run)) == files


@posix
def test_a_disk_that_knows_no_locks_is_named_and_nothing_is_left_on_it(model, output, monkeypatch):  # noqa: F811
    def flock(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(RuntimeError, match=r"Checkpoint .*: .*this disk does not lock files \(No locks available"):
        sample(model, SAMPLER, settings=EVERY)
    assert list((output / "longtake" / "runs").iterdir()) == []


def test_the_oldest_runs_go_by_age_and_size(model, output):  # noqa: F811
    folders = []
    for seed in range(3):
        sample(model, "euler", settings=EVERY, seed=seed)
        (new,) = set((output / "longtake" / "runs").iterdir()) - set(folders)
        folders.append(new)
        for path in (*new.iterdir(), new):
            os.utime(path, (time.time() - 86400 * (3 - seed),) * 2)
    kept = [r.name for r in run_folders.kept_runs()]
    assert kept == [f.name for f in reversed(folders)]
    assert [r.name for r in run_folders.prune(1e9, 2.5)] == [folders[0].name]
    size = sum(r.size for r in run_folders.kept_runs())
    assert [r.name for r in run_folders.prune(size - 1, 30)] == [folders[1].name]
    (folders[2] / "a note").write_text("mine")
    assert [r.name for r in run_folders.prune(0, 30)] == [folders[2].name]
    assert os.listdir(folders[2]) == ["a note"] and not folders[1].exists()


def test_what_a_run_keeps_stays_small(model, output, whole):  # noqa: F811
    sample(model, SAMPLER, settings=EVERY)
    (folder,) = (output / "longtake" / "runs").iterdir()
    names = sorted(os.listdir(folder))
    assert names == ["call-00003.safetensors", "call-00004.safetensors", "call-00005.safetensors",
                     "latent-00005.safetensors", "latent-00006.safetensors", "lock", "step-00005.safetensors",
                     "step-00006.safetensors"]  # fmt: skip


def test_a_run_that_cannot_fit_is_refused_before_it_begins(model):
    with pytest.raises(ValueError, match=r"keep_gb \(0.01\): this run alone needs about .*raise it"), calls(model) as n:
        big = torch.zeros(1, 16, 5, 64, 160)
        sample(model, SAMPLER, settings=CheckpointSettings(keep_gb=0.01), start=big)
    assert n == []
