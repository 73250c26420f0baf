"""What a run is known by: the same in another process, another for all that decides the video, and named."""

import inspect
import json
import logging
import re
import subprocess
import sys
from collections import deque
from decimal import Decimal

import comfy.hooks
import comfy.model_sampling
import comfy.samplers
import pytest
import torch
from longtake.samplers.adapters import run_digest, run_folders
from longtake.samplers.adapters.attention import apply_anchor
from longtake.samplers.adapters.checkpoint import CheckpointSettings, apply_checkpoint
from longtake.samplers.adapters.noise import ReinitNoise, apply_noise
from longtake.samplers.adapters.syncos import syncos_sampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.glc.noise import NoiseSettings
from longtake.samplers.syncos.coupling import SynCoSSettings
from support.kept_runs import EVERY, cut_off, output, sample, wan  # noqa: F401
from support.paths import ROOT
from support.shared import ditctrl, infinity
from support.tiny_wan import prompt
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread", "output")
WEIGHT = "diffusion_model.blocks.0.self_attn.q.weight"


@pytest.fixture(scope="module")
def model():
    return wan()


def parts(model, sampler="euler", settings=EVERY, **kwargs):
    """The parts of a run that is about to begin."""
    with run_digest_only() as seen:
        sample(model, sampler, settings=settings, **kwargs)
    return seen[0]


class run_digest_only:
    """Ends each run where its digest is known."""

    class Known(Exception):
        pass

    def __enter__(self):
        from longtake.samplers.adapters import checkpoint

        self.real, self.module, seen = checkpoint.parts_of, checkpoint, []

        def parts_of(*args):
            seen.append(self.real(*args))
            raise self.Known

        checkpoint.parts_of = parts_of
        return seen

    def __exit__(self, kind, *_):
        self.module.parts_of = self.real
        return kind is self.Known


def lora(model, strength, seed=0, but=()):
    model = model.clone()
    shape = model.model.state_dict()[WEIGHT].shape
    patch = torch.randn(shape, generator=torch.manual_seed(seed))
    if but:
        patch[but] += 1
    model.add_patches({WEIGHT: ("diff", (patch,))}, strength)
    return model


def hooked(strength):
    """A prompt with a LoRA of its own, on half of the steps."""
    sides = {"A": torch.ones(4, 256), "B": torch.ones(256, 4)}
    weights = {f"diffusion_model.blocks.0.self_attn.q.lora_{side}.weight": 0.1 * t for side, t in sides.items()}
    hooks = comfy.hooks.create_hook_lora(weights, strength, 0.0)
    frames = comfy.hooks.HookKeyframeGroup()
    for share, start in ((1.0, 0.0), (0.5, 0.01), (0.0, 0.5)):  # core gives each one a step before it looks further
        frames.add(comfy.hooks.HookKeyframe(share, start_percent=start))
    hooks.set_keyframes_on_hooks(frames)
    return prompt(7, hooks=hooks)


def shift(model, value):
    class Flow(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    model, sampling = model.clone(), Flow(model.model.model_config)
    sampling.set_parameters(shift=value, multiplier=1000)
    model.add_object_patch("model_sampling", sampling)
    return model


def vmcr(omega):
    return refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings(omega=omega))


def noised(model, d_s):
    return apply_noise(model, ReinitNoise(1, NoiseSettings(d_s=d_s), 3, 2))


def other_weights(model, columns=slice(None)):
    """The parts of a run of a model of the same class."""
    weight = model.model.diffusion_model.blocks[0].self_attn.q.weight.data
    own = weight.clone()
    weight[:, columns] *= 1.001
    try:
        return parts(model)
    finally:
        weight.copy_(own)


CHANGES = {
    "seed": (lambda m: parts(m, seed=1), lambda m: parts(m, seed=2), {"seed", "noise"}),
    "steps": (lambda m: parts(m, steps=4), lambda m: parts(m, steps=5), {"steps and scheduler"}),
    "scheduler": (parts, lambda m: parts(m, scheduler="beta"), {"steps and scheduler"}),
    "sampler": (parts, lambda m: parts(m, "heun"), {"sampler"}),
    "inpaint noise": (parts, lambda m: parts(m, "ddim"), {"sampler"}),
    "cfg": (parts, lambda m: parts(m, cfg=4.0), {"cfg"}),
    "prompt": (parts, lambda m: parts(m, positive=prompt(7)), {"positive prompt"}),
    "latent": (parts, lambda m: parts(m, start=torch.ones(1, 16, 5, 4, 4)), {"latent_image"}),
    "mask": (parts, lambda m: parts(m, mask=torch.ones(1, 1, 5, 4, 4)), {"mask"}),
    "LoRA": (parts, lambda m: parts(lora(m, 1.0)), {"LoRA"}),
    "LoRA's strength": (lambda m: parts(lora(m, 1.0)), lambda m: parts(lora(m, 0.9)), {"LoRA"}),
    "another part of a LoRA": (lambda m: parts(lora(m, 1.0)), lambda m: parts(lora(m, 1.0, but=(3, 5))), {"LoRA"}),
    "another LoRA": (lambda m: parts(lora(m, 1.0)), lambda m: parts(lora(m, 1.0, seed=1)), {"LoRA"}),
    "an event's LoRA": (lambda m: parts(m, positive=hooked(1.0)), lambda m: parts(m, positive=hooked(0.5)),
                        {"positive prompt"}),
    "shift": (lambda m: parts(shift(m, 3.0)), lambda m: parts(shift(m, 5.0)),
              {"model settings (shift and others)", "steps and scheduler"}),
    "weights": (parts, other_weights, {"model"}),
    "columns of weights": (parts, lambda m: other_weights(m, slice(1, None)), {"model"}),
    "windows": (lambda m: parts(windowed(m)), lambda m: parts(windowed(m, overlap=3)), {"windows"}),
    "shift seed": (lambda m: parts(windowed(m, schedule="random_shift", shift_seed=1)),
                   lambda m: parts(windowed(m, schedule="random_shift", shift_seed=2)), {"windows"}),
    "anchor": (lambda m: parts(apply_anchor(windowed(m), 0.3, 0, -1, 0, 1, "gpu")),
               lambda m: parts(apply_anchor(windowed(m), 0.2, 0, -1, 0, 1, "gpu")), {"attention between windows"}),
    "spread frames": (lambda m: parts(infinity(windowed(m), 3)), lambda m: parts(infinity(windowed(m), 4)),
                      {"attention between windows"}),
    "shared layers": (lambda m: parts(ditctrl(windowed(m), -1)), lambda m: parts(ditctrl(windowed(m), -2)),
                      {"attention between windows"}),
    "omega": (lambda m: parts(m, vmcr(1e-4)), lambda m: parts(m, vmcr(2e-4)), {"sampler"}),
    "coupling": (lambda m: parts(windowed(m), syncos_sampler(SynCoSSettings(iters=3))),
                 lambda m: parts(windowed(m), syncos_sampler(SynCoSSettings(iters=4))), {"sampler"}),
    "noise": (lambda m: parts(noised(m, 0.2)), lambda m: parts(noised(m, 0.3)), {"noise", "model wrappers"}),
}  # fmt: skip


@pytest.mark.parametrize("what", CHANGES)
def test_what_decides_the_video_decides_the_digest_and_is_named(model, what):
    one, other, names = CHANGES[what]
    first = one(model)
    assert run_digest.differing(first, one(model)) == []
    differing = run_digest.differing(first, other(model))
    assert set(differing) >= names, differing
    assert len(differing) <= len(names) + 1, differing  # the wrapper that holds another noise


def test_what_decides_nothing_changes_nothing(model):
    patched = parts(apply_checkpoint(model, CheckpointSettings(every=3)), settings=None)
    assert run_digest.differing(parts(model), patched) == []


def sampling(kind):
    """A model_sampling as core's ModelSamplingDiscrete makes it, whose class has one name for all kinds."""

    class ModelSamplingAdvanced(comfy.model_sampling.ModelSamplingDiscrete, kind):
        pass

    return ModelSamplingAdvanced()


def wrapper(doubled):
    if doubled:
        return lambda x: 2 * x
    return lambda x: x + 1


@pytest.mark.parametrize("make, one, other", [
    (sampling, comfy.model_sampling.EPS, comfy.model_sampling.V_PREDICTION), (wrapper, True, False),
    (range, 3, 5), (lambda n: (lambda x: x + n), 1, 2), (lambda n: {0: n}.get, 1, 2), (lambda n: deque([n]), 1, 2),
    (lambda n: torch.Generator().manual_seed(n), 1, 2), (Decimal, 1, 2), (re.compile, "a", "b"),
], ids=["sampling", "lambda", "range", "closure", "get", "deque", "generator", "Decimal", "Pattern"])  # fmt: skip
def test_what_hides_under_one_name_is_told_apart(make, one, other):
    def digest(value):
        return run_digest.Digest().of(make(value))

    assert digest(one) == digest(one)
    assert digest(one) != digest(other)


def test_a_pack_may_be_moved_to_another_folder():
    def digest(folder):
        class Setting:
            __module__ = f"{folder}.nodes"

        def function():
            pass

        function.__module__ = Setting.__module__
        return run_digest.Digest().of([Setting, Setting(), function])

    here = digest("/a/ComfyUI/custom_nodes/Pack")
    assert digest("/b_x_c/custom_nodes/Pack") == here == digest("D:\\ComfyUI\\custom_nodes\\Pack")
    assert digest("/a/ComfyUI/custom_nodes/Other") != here


def averaging(model, momentum):
    """Guidance with a memory of earlier steps, as core's APG has it."""
    average = 0

    def pre_cfg_function(args):
        nonlocal average
        average = momentum * average + args["conds_out"][0]
        return [average, *args["conds_out"][1:]]

    model = model.clone()
    model.set_model_sampler_pre_cfg_function(pre_cfg_function)
    return model


def test_a_memory_of_earlier_steps_is_no_setting_but_is_said_to_be_lost(model, caplog):
    patched = averaging(model, 0.0)
    whole = sample(patched, "euler")
    cut_off(patched, "euler", 3, settings=EVERY)
    with caplog.at_level(logging.INFO):
        assert torch.equal(sample(patched, "euler", settings=EVERY), whole)
    lines = [r.getMessage() for r in caplog.records if "LongTake checkpoint" in r.getMessage()]
    assert any("resumes after step 3 of 6; what averaging held is lost" in line for line in lines), lines
    (name,) = run_digest.differing(parts(patched), parts(averaging(model, 0.5)))
    assert name == "model option sampler_pre_cfg_function"


CHILD = """
import json, sys
sys.path.insert(0, {tests!r})
import conftest
sys.path.append({tests!r})
import torch
torch.set_num_threads(1)
from importlib import util
spec = util.spec_from_file_location("digests", {path!r})
module = util.module_from_spec(spec)
spec.loader.exec_module(module)
model = module.wan()
print(json.dumps({{what: one(model) for what, (one, _, _) in module.CHANGES.items()}}))
"""


def test_a_prompt_with_a_lora_is_the_same_after_a_run_with_it(model):
    """Hooks hold counters of the run that they are in."""
    positive = hooked(1.0)
    before = parts(model, positive=positive)
    whole = sample(model, "dpmpp_2m", positive=positive)
    assert run_digest.differing(before, parts(model, positive=positive)) == []
    cut_off(model, "dpmpp_2m", 5, positive=positive, settings=EVERY)
    assert run_digest.differing(before, parts(model, positive=positive)) == []
    assert torch.equal(sample(model, "dpmpp_2m", positive=hooked(1.0), settings=EVERY), whole)
    assert not torch.equal(sample(model, "dpmpp_2m", positive=prompt(7)), whole)


def test_another_process_comes_to_the_same(model):
    tests = str(ROOT / "tests")
    code = CHILD.format(tests=tests, path=inspect.getfile(run_digest_only))
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tests)
    there = json.loads(out.stdout.splitlines()[-1])
    for what, (one, _, _) in CHANGES.items():
        assert run_digest.differing(one(model), there[what]) == [], what


def test_a_new_run_says_in_what_it_differs_from_the_one_kept(model, caplog):
    cut_off(model, "euler", 3, settings=EVERY)
    with caplog.at_level(logging.INFO):
        sample(model, "euler", settings=EVERY, cfg=4.0)
    (line,) = [r.getMessage() for r in caplog.records if "LongTake checkpoint" in r.getMessage()]
    (kept,) = [run for run in run_folders.kept_runs() if run.state.step == 3]
    assert f"begins at step 1; differs from the kept run {kept.name} (step 3 of 6, " in line
    assert ") in: cfg (" in line
