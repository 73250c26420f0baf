"""SynCoS in real sampling runs of a tiny random Wan model, and its trajectory against an analytic denoiser."""

import functools
import logging
from dataclasses import replace

import comfy.model_management
import comfy.model_sampling
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import SamplerCustom
from comfy_extras.nodes_differential_diffusion import DifferentialDiffusion
from longtake.nodes.syncos import COUPLING, LongTakeSynCoSKSampler, LongTakeSynCoSSampler
from longtake.samplers.adapters import syncos as adapter
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.adapters.hooks import CHUNKS
from longtake.samplers.adapters.syncos import ChunkSettings, syncos_sampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.syncos import coupling
from longtake.samplers.syncos.coupling import PRESETS, SynCoSSettings
from longtake.samplers.windows import WindowSettings, static_starts
from support import zoo

FRAMES, LENGTH, OVERLAP, STEPS = 14, 5, 2, 4
NAME = "wan21_t2v"
COUPLED = SynCoSSettings(t_min=0.0, max_coupled=2, iters=3, chunks=3)


pytestmark = pytest.mark.usefixtures("one_thread")


def windowed(length=LENGTH, **kwargs):
    kwargs.setdefault("fuse", "flat")
    return apply_windows(zoo.patcher(NAME), WindowSettings(length, OVERLAP, **kwargs))


def sigmas(model, steps=STEPS):
    return comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "simple", steps)


def run(sampler, model=None, frames=FRAMES, *, cfg=3.0, seed=5, schedule=None, mask=None, latent=None, add_noise=True):
    model, text = model or windowed(), zoo.zoo()[NAME]
    latent = {"samples": text.latent(frames) if latent is None else latent}
    if mask is not None:
        latent["noise_mask"] = mask
    return SamplerCustom.execute(
        model, add_noise, seed, cfg, text.conditioning(1, frames), text.conditioning(2, frames), sampler,
        sigmas(model) if schedule is None else schedule, latent,
    ).args[0]["samples"]  # fmt: skip


euler, ddim = (functools.partial(comfy.samplers.sampler_object, name) for name in ("euler", "ddim"))


def counted(model):
    """A clone that notes rows per model call, and the coupled windows of each."""
    calls = []

    def wrapper(apply, args):
        options = args["c"]["transformer_options"]
        calls.append((args["input"].shape[0], CHUNKS in options, options["longtake"]["windows"]))
        return apply(args["input"], args["timestep"], **args["c"])

    model = model.clone()
    model.set_model_unet_function_wrapper(wrapper)
    return model, calls


@pytest.fixture(scope="module")
def coupled():
    return run(syncos_sampler(COUPLED))


@pytest.mark.parametrize("changes", [{"stages": "first"}, {"iters": 0}, {"t_min": 1.0}])
def test_without_stage_two_it_is_window_sampling(changes):
    ours = run(syncos_sampler(SynCoSSettings(**changes)))
    assert (ours - run(euler())).abs().max() == 0.0
    assert (ours - run(ddim())).abs().max() <= 1e-5


def test_one_chunk_without_iterations_is_ddim():
    ours = run(syncos_sampler(SynCoSSettings(iters=0), ChunkSettings(81, 24)), zoo.patcher(NAME))
    assert (ours - run(ddim(), zoo.patcher(NAME))).abs().max() <= 1e-5


def test_stage_two_changes_the_video_and_the_seed_fixes_it(coupled):
    assert (coupled - run(euler())).abs().max() > 1e-2
    assert torch.equal(coupled, run(syncos_sampler(COUPLED)))
    assert not torch.equal(coupled, run(syncos_sampler(COUPLED), seed=6))


@pytest.mark.parametrize("batch", [2, 3, 8])
def test_same_video_whatever_the_batching(coupled, batch):
    # AdamW divides by the gradient's own size: near zero, rounding decides the sign of a whole step.
    sgd = SynCoSSettings(**{**vars(COUPLED), "optimizer": "sgd", "lr": 1.0})
    one = run(syncos_sampler(sgd), windowed(window_batch=1))
    assert (run(syncos_sampler(sgd), windowed(window_batch=batch)) - one).abs().max() <= 2e-4
    adamw = run(syncos_sampler(COUPLED), windowed(window_batch=batch))
    assert (adamw - coupled).square().mean().sqrt() <= 1e-3 * coupled.square().mean().sqrt()


def test_cost_is_what_the_log_says(caplog):
    model, calls = counted(windowed(window_batch=1))
    with caplog.at_level(logging.INFO):
        run(syncos_sampler(COUPLED), model)
    windows = 4
    second = [c for c in calls if c[1]]
    rows = sum(c[0] for c in calls) // 2  # two CFG branches
    assert len(second) == 2 * 3 * 3 and rows == STEPS * windows + 2 * 3 * 3
    line = next(r.getMessage() for r in caplog.records if r.getMessage().startswith("SynCoS:"))
    assert "2 of 4 steps coupled, 3 iterations of 3 of 4 chunks" in line
    assert f"{rows} window predictions, {rows / 16:.2f}x" in line


def test_more_chunks_than_there_are_means_all():
    wanted = SynCoSSettings(**{**vars(COUPLED), "chunks": 64})
    model, calls = counted(windowed(window_batch=8))
    run(syncos_sampler(wanted), model)
    assert all(len(c[2]) == 4 for c in calls if c[1])


def test_without_cfg_the_coupled_iterations_cost_half_and_equal_cfg_1():
    settings = SynCoSSettings(**{**vars(COUPLED), "cond_only": True})
    model, calls = counted(windowed(window_batch=1))
    run(syncos_sampler(settings), model)
    assert {c[0] for c in calls if c[1]} == {1} and {c[0] for c in calls if not c[1]} == {2}
    alone = run(syncos_sampler(settings), cfg=1.0)
    assert torch.equal(alone, run(syncos_sampler(COUPLED), cfg=1.0))


def test_chunk_predictions_are_the_windows_own():
    """What a coupled call returns for a chunk is what the model says about that chunk alone, guidance included."""
    settings = SynCoSSettings(**{**vars(COUPLED), "iters": 1, "max_coupled": 1})
    seen = []

    def spy(args):
        seen.append((args["input"].clone(), args["sigma"].clone(), args["denoised"].clone()))
        return args["denoised"]

    model = windowed(window_batch=1)
    model.set_model_sampler_post_cfg_function(spy)
    run(syncos_sampler(settings), model)
    stacked = [s for s in seen if s[0].shape[2] == 15]
    assert len(stacked) == 1
    x, sigma, x0 = stacked[0]
    alone, text = zoo.patcher(NAME).clone(), zoo.zoo()[NAME]
    guider = comfy.samplers.CFGGuider(alone)
    guider.set_conds(text.conditioning(1, LENGTH), text.conditioning(2, LENGTH))
    guider.set_cfg(3.0)
    results = []

    class Once(comfy.samplers.Sampler):
        def sample(self, model_wrap, sigmas, extra_args, callback, noise, *args):
            options = {"model_options": extra_args["model_options"], "seed": 5}
            results.append(model_wrap(noise, sigma, **options))
            return noise

    for part, expected in zip(x.split(LENGTH, 2), x0.split(LENGTH, 2), strict=True):
        guider.sample(part, torch.zeros_like(part), Once(), sigmas(alone), seed=5)
        assert (results.pop() - expected).abs().max() <= 1e-5


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("changes", [{}, {"timestep": "free"}, {"noise": "fresh"}, {"stages": "second"}])
def test_every_preset_and_ablation_gives_a_video(preset, changes):
    settings = SynCoSSettings(**{**vars(PRESETS[preset]), "iters": 2, "max_coupled": 1, "t_min": 0.0, **changes})
    video = run(syncos_sampler(settings))
    assert torch.isfinite(video).all() and video.std() > 1e-2
    assert (video - run(euler())).abs().max() > 1e-3


def test_masked_part_stays_as_it_was():
    latent = torch.randn(1, 16, FRAMES, 8, 8, generator=torch.Generator().manual_seed(1))
    mask = torch.ones(1, 1, FRAMES, 8, 8)
    mask[:, :, :4] = 0
    out = run(syncos_sampler(COUPLED), latent=latent, mask=mask)
    assert (out[:, :, :4] - latent[:, :, :4]).abs().max() <= 1e-4
    assert (out[:, :, 4:] - latent[:, :, 4:]).abs().max() > 0.1


def test_a_wrapped_sampler_one_step_at_a_time_is_the_same(coupled):
    """VMCR runs a sampler step by step: the plan, the noise and the chunks follow the schedule, not the call."""
    sampler = refine_sampler(syncos_sampler(COUPLED), RefineSettings(omega=1e-30))
    assert torch.equal(run(sampler), coupled)


def test_a_continued_run_draws_the_same(coupled):
    schedule = sigmas(windowed())
    settings = SynCoSSettings(**{**vars(COUPLED), "max_coupled": 0, "t_min": 0.5})
    whole = run(syncos_sampler(settings))
    model = windowed()
    half = run(syncos_sampler(settings), model, schedule=schedule[:2])
    rest = run(syncos_sampler(settings), model, schedule=schedule[1:], latent=half, add_noise=False)
    assert (rest - whole).abs().max() <= 1e-4


def test_cancel_inside_an_iteration_leaves_everything_clean(coupled):
    model = windowed()
    options = repr(model.model_options)
    weights = {k: v.clone() for k, v in model.model.state_dict().items()}
    broken, calls = model.clone(), []

    def wrapper(apply, args):
        calls.append(CHUNKS in args["c"]["transformer_options"])
        if sum(calls) == 2:
            comfy.model_management.interrupt_current_processing()
        return apply(args["input"], args["timestep"], **args["c"])

    broken.set_model_unet_function_wrapper(wrapper)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(syncos_sampler(COUPLED), broken)
    assert sum(calls) < 2 * 3 * 3
    assert repr(model.model_options) == options
    assert all(torch.equal(v, weights[k]) for k, v in model.model.state_dict().items())
    assert torch.equal(run(syncos_sampler(COUPLED), model), coupled)


@pytest.mark.parametrize("coupled_call", [False, True])
def test_nan_stops_the_run_with_step_and_chunks(coupled_call):
    model = windowed()

    def wrapper(apply, args):
        out = apply(args["input"], args["timestep"], **args["c"])
        return out * float("nan") if (CHUNKS in args["c"]["transformer_options"]) == coupled_call else out

    model.set_model_unet_function_wrapper(wrapper)
    with pytest.raises(ValueError) as error:
        run(syncos_sampler(COUPLED), model)
    words = "step 1 of 4, coupled iteration 1 of 3, chunks " if coupled_call else "step 1 of 4: "
    assert words in str(error.value) and "fp16" in str(error.value) and "LongTakeSynCoS" in str(error.value)


def test_errors_name_the_node_and_the_way_out():
    model = zoo.patcher(NAME)
    with pytest.raises(ValueError, match="has no windows; put the Global/Local Window Scheduler"):
        run(syncos_sampler(COUPLED), model)
    other = model.clone()
    other.model_options["context_handler"] = object.__new__(comfy.context_windows.IndexListContextHandler)
    for refused, words in ((other, "IndexListContextHandler"), (windowed(closed_loop=True), "closed_loop.*turn")):
        with pytest.raises(ValueError, match=words):
            run(syncos_sampler(COUPLED), refused)
    alone = replace(COUPLED, stages="second")
    with pytest.raises(ValueError, match="one step at a time"):
        run(refine_sampler(syncos_sampler(alone), RefineSettings(omega=1e-30)))


WIDGETS = dict(
    window_length=17, stride=12, iters=3, chunks=3, lr=0.5, optimizer="adamw", t_min=0.0, max_coupled=2, decay_every=20,
    decay_rate=0.9, pick="random", cond_only=False, timestep="grounded", noise="baseline", stages="both",
)  # fmt: skip


def ksampler(model, preset="custom", denoise=1.0, latent=None, **changes):
    text = zoo.zoo()[NAME]
    return LongTakeSynCoSKSampler.execute(
        model, 5, STEPS, 3.0, "simple", text.conditioning(1, FRAMES), text.conditioning(2, FRAMES),
        {"samples": text.latent(FRAMES) if latent is None else latent}, denoise, preset, **{**WIDGETS, **changes},
    ).args[0]["samples"]  # fmt: skip


def test_nodes_agree_with_each_other_and_with_the_scheduler(coupled):
    assert torch.equal(ksampler(zoo.patcher(NAME)), coupled)  # its own windows
    assert torch.equal(ksampler(windowed(), window_length=81, stride=81), coupled)  # the scheduler's come first
    (sampler,) = LongTakeSynCoSSampler.execute("custom", **WIDGETS).args
    assert torch.equal(run(sampler, zoo.patcher(NAME)), coupled)


def prepared(model, used=1.0):
    """A clone, the shapes of the latents that core makes room for, and the bytes of weights loaded at each model call.

    used: the part of the weights that core's first loading leaves on the device, as where room is scarce."""
    model, shapes, loaded = model.clone(), [], []

    def prepare(executor, patcher, shape, *args, **kwargs):
        shapes.append(list(shape))
        out = executor(patcher, shape, *args, **kwargs)
        if len(shapes) == 1 and used < 1:
            patcher.partially_unload(patcher.offload_device, (1 - used) * patcher.model_size())
            assert 0 < patcher.loaded_size() < patcher.model_size()
        return out

    def noted(apply, args):
        loaded.append(model.loaded_size())
        return apply(args["input"], args["timestep"], **args["c"])

    model.add_wrapper_with_key(comfy.patcher_extension.WrappersMP.PREPARE_SAMPLING, "test", prepare)
    model.set_model_unet_function_wrapper(noted)
    return model, shapes, loaded


def test_memory_is_budgeted_for_a_chunk(coupled):
    """Core makes room for the whole video before a SAMPLER can tell it of its windows: the rest is loaded then."""
    sampler = syncos_sampler(COUPLED, ChunkSettings(17, 12))
    model, shapes, loaded = prepared(zoo.patcher(NAME), used=0.5)
    size = model.model_size()
    assert torch.equal(run(sampler, model), coupled)
    assert shapes == [[1, 16, FRAMES, 8, 8], [1, 16, LENGTH, 8, 8]]
    assert set(loaded) == {size}
    model, shapes, loaded = prepared(zoo.patcher(NAME), used=0.5)
    assert torch.equal(run(refine_sampler(sampler, RefineSettings(omega=1e-30)), model), coupled)
    assert len(shapes) == 2 and set(loaded) == {size}  # once for a run, however it is cut


def test_memory_is_budgeted_once_where_all_weights_fit_and_for_a_scheduler():
    sampler = syncos_sampler(COUPLED, ChunkSettings(17, 12))
    model, shapes, _ = prepared(zoo.patcher(NAME))
    run(sampler, model)
    assert len(shapes) == 1
    model, shapes, loaded = prepared(windowed(), used=0.5)
    run(sampler, model)
    assert len(shapes) == 1 and max(loaded) < model.model_size()
    model, shapes, _ = prepared(zoo.patcher(NAME), used=0.5)
    run(sampler, model, frames=LENGTH)  # the whole video is one chunk
    assert len(shapes) == 1


def test_presets_ignore_the_coupling_widgets():
    for name, preset in PRESETS.items():
        (sampler,) = LongTakeSynCoSSampler.execute(name, **WIDGETS).args
        assert sampler.extra_options["settings"] == preset
    (sampler,) = LongTakeSynCoSSampler.execute("fast", **{**WIDGETS, "noise": "fresh"}).args
    assert sampler.extra_options["settings"].noise == "fresh"
    assert set(WIDGETS) - set(COUPLING) == {"window_length", "stride", "timestep", "noise", "stages"}


def test_exchange_is_optional():
    """Graphs saved before it had a widget keep their videos."""
    (old,), (new,), (other,) = (
        LongTakeSynCoSSampler.execute("custom", **WIDGETS, **extra).args
        for extra in ({}, {"exchange": 0.0}, {"exchange": 1.0})
    )
    assert old.extra_options["settings"] == new.extra_options["settings"]
    assert not torch.equal(run(other, zoo.patcher(NAME)), run(new, zoo.patcher(NAME)))


def test_video_to_video():
    latent = torch.randn(1, 16, FRAMES, 8, 8, generator=torch.Generator().manual_seed(1))
    near, far = (ksampler(zoo.patcher(NAME), denoise=d, latent=latent) for d in (0.2, 1.0))
    assert (near - latent).square().mean() < (far - latent).square().mean()
    assert torch.equal(ksampler(zoo.patcher(NAME), denoise=0.0, latent=latent), latent)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"stride": 18}, "stride (18) must not be longer than window_length (17)"), ({"lr": -1.0}, "lr (-1.0)"),
        ({"t_min": 1.5}, "t_min (1.5)"), ({"preset": "quick"}, "preset (quick)"), ({"pick": "first"}, "pick (first)"),
    ],
)  # fmt: skip
def test_bad_widgets(changes, words):
    preset = changes.pop("preset", "custom")
    with pytest.raises(ValueError) as error:
        LongTakeSynCoSSampler.execute(preset, **{**WIDGETS, **changes})
    assert words in str(error.value) and "LongTakeSynCoSSampler" in str(error.value)


def test_with_exchange_all_chunks_move_along(monkeypatch):
    seen, add = [], coupling.add_direction

    def noted(g, x0, predicted, chunks, scored, count):
        seen.append((len(chunks.windows), predicted.shape[2] // LENGTH, len(scored)))
        add(g, x0, predicted, chunks, scored, count)

    monkeypatch.setattr(coupling, "add_direction", noted)
    for exchange in (0.0, 0.5):
        run(syncos_sampler(replace(COUPLED, max_coupled=1, iters=1, chunks=2, exchange=exchange)))
    assert seen == [(2, 2, 2), (len(static_starts(FRAMES, LENGTH, LENGTH - OVERLAP)), 2, 2)]


@pytest.mark.parametrize("stages", ["both", "second"])
def test_what_a_mask_keeps_is_kept(stages):
    model = zoo.zoo()[NAME]
    given = torch.full_like(model.latent(FRAMES), 0.7)
    mask = torch.ones(1, 1, *given.shape[2:])
    mask[:, :, :4] = 0
    settings = SynCoSSettings(t_min=0.0, max_coupled=2, iters=2, chunks=2, optimizer="sgd", lr=1, stages=stages)
    out = run(syncos_sampler(settings), latent=given, mask=mask)
    assert (out - given)[:, :, :4].abs().max() < 1e-5
    assert (out - given)[:, :, 5:].abs().max() > 1e-2


def test_differential_diffusion_masks_coupled_steps_too():
    """A soft mask, which lets go of a frame once the noise is low enough: coupled steps see what stage 1 sees."""
    (model,) = DifferentialDiffusion.execute(windowed(), 1.0).args
    shape = zoo.zoo()[NAME].latent(FRAMES).shape
    soft = torch.linspace(0.05, 0.95, FRAMES).view(1, 1, -1, 1, 1).expand(1, 1, *shape[2:])
    masks, step = [], adapter._Step.__init__

    def init(self, *args):
        step(self, *args)
        masks.append(self.mask)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(adapter._Step, "__init__", init)
        settings = SynCoSSettings(t_min=0.0, max_coupled=2, iters=2, chunks=2, optimizer="sgd", lr=1)
        out = run(syncos_sampler(settings), model, mask=soft)
    assert out.isfinite().all()
    assert all(set(mask.unique().tolist()) <= {0.0, 1.0} for mask in masks)  # never the soft values
    assert masks[-1].sum() > masks[0].sum()
