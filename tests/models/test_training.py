"""Training of the demo model resumes where it was saved, and says why when it cannot."""

import itertools
from types import SimpleNamespace

import pytest
import torch
from longtake.backbone.demo.training import common


def new_run(folder, kind="test", minutes=60.0):
    torch.manual_seed(0)
    model = torch.nn.Linear(3, 2)
    args = SimpleNamespace(out=folder, minutes=minutes, device="cpu", seed=0)
    run = common.Run(args, model, [torch.optim.AdamW(model.parameters(), 0.01)], kind=kind, warmup=1e-4)
    run.clock = itertools.count().__next__  # a second each time it is looked at
    return run


def train(run, until, save_at=None):
    for step in run.steps():
        run.update(run.fast(torch.ones(4, 3).bfloat16()).square().mean())
        if step + 1 == save_at:
            run.save()
        if step + 1 == until:
            return run


def test_what_a_step_saves_has_that_step(tmp_path):
    """Its number, time and average, as its weights do: the run that resumes neither repeats nor loses one."""
    killed = train(new_run(tmp_path), until=8, save_at=5)
    resumed = new_run(tmp_path)
    resumed.load()
    assert resumed.step == 5 == int(resumed.ema.n_averaged)
    assert 5 <= resumed.spent < killed.spent
    train(resumed, until=8)
    assert resumed.step == killed.step == 8 == int(resumed.ema.n_averaged)
    for now, then in zip(resumed.ema.parameters(), killed.ema.parameters(), strict=True):
        assert torch.allclose(now, then, atol=1e-4)  # a step is 0.01


def test_a_run_ends_when_its_time_is_used_up_and_says_so(tmp_path, capsys):
    run = new_run(tmp_path, minutes=0.3)
    train(run, until=None)
    assert run.step > 0 and run.spent >= 18
    assert f"step {run.step}, " in capsys.readouterr().out
    steps = run.step
    train(run, until=None)
    assert run.step == steps and "done" in capsys.readouterr().out


def test_a_checkpoint_that_cannot_go_on_is_named(tmp_path):
    train(new_run(tmp_path), until=1, save_at=1)
    with pytest.raises(SystemExit, match=r"checkpoint.pt is of another training \(test, not other\)"):
        new_run(tmp_path, kind="other").load()
    data = (tmp_path / "checkpoint.pt").read_bytes()
    (tmp_path / "checkpoint.pt").write_bytes(data[: len(data) // 2])
    with pytest.raises(SystemExit, match=r"checkpoint.pt is damaged .* move it away to start anew"):
        new_run(tmp_path).load()
