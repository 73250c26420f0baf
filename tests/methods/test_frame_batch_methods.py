"""SynCoS, VMCR, Noise Reinit and the whole of GLC-Diffusion on a U-Net whose batch is the video: core's SVD, tiny."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_video_model import VideoLinearCFGGuidance
from longtake.nodes.syncos import LongTakeSynCoSKSampler
from longtake.samplers.adapters.checkpoint import CheckpointSettings, keep
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.adapters.hooks import CHUNKS
from longtake.samplers.adapters.noise import ReinitNoise, apply_noise
from longtake.samplers.adapters.run_folders import kept_runs
from longtake.samplers.adapters.syncos import ChunkSettings, syncos_sampler
from longtake.samplers.adapters.vmcr import RefineSettings, refine_sampler
from longtake.samplers.glc.motion import MotionSettings, rescale_factor
from longtake.samplers.glc.noise import NoiseSettings
from longtake.samplers.glc.paths import GlobalPath
from longtake.samplers.syncos.coupling import SynCoSSettings
from longtake.samplers.windows import WindowSettings
from support import tiny_svd
from support.compare import difference
from support.kept_runs import Cut, calls, output  # noqa: F401
from support.motion import autograd
from support.tiny_svd import CLOSE, FRAMES, run
from support.windows import LENGTH, OVERLAP, windowed

pytestmark = pytest.mark.usefixtures("one_thread")
FEW = {"t_min": 0.0, "max_coupled": 1, "iters": 2, "chunks": 2, "optimizer": "sgd", "lr": 1.0}


@pytest.fixture(scope="module")
def model():
    return tiny_svd.patcher()


def syncos(own=None, **changes):
    return syncos_sampler(SynCoSSettings(**{**FEW, **changes}), own)


def test_syncos_without_its_second_stage_is_windows_and_one_chunk_a_plain_sampler(model):
    first = run(windowed(model, fuse="flat"), sampler=syncos(stages="first"))
    assert difference(first, run(windowed(model, fuse="flat"))) < CLOSE
    one = run(windowed(model), LENGTH, sampler=syncos(iters=0))
    assert difference(one, run(model, LENGTH)) < CLOSE


def test_syncos_couples_chunks_of_frames(model):
    """Each coupled call holds whole chunks, told their number of frames; the seed is the video, batched or not."""
    calls = []

    def wrapper(apply, args):
        options = args["c"]["transformer_options"]
        if CHUNKS in options:
            calls.append((len(args["input"]), options["longtake"]["windows"], args["c"]["num_video_frames"]))
        return apply(args["input"], args["timestep"], **args["c"])

    own = windowed(model)
    own.set_model_unet_function_wrapper(wrapper)
    out = run(own, sampler=syncos())
    assert out.shape == (FRAMES, 4, 8, 8) and out.isfinite().all()
    assert difference(out, run(windowed(model))) > 1e-2
    assert sum(rows for rows, *_ in calls) == LENGTH * 2 * 2 * 2  # iterations, chunks, CFG branches
    assert all(rows % (LENGTH * len(windows)) == 0 and length == LENGTH for rows, windows, length in calls)
    assert difference(run(windowed(model, window_batch=4), sampler=syncos()), out) < 0.05  # of values near 700
    assert difference(run(own, sampler=syncos(eta=1.0)), out) > 1e-2


def test_chunk_predictions_are_the_windows_own(model):
    """With one iteration, sgd and lr 1 of all chunks, and no kernel between them, x0' becomes what chunks say."""
    seen = {}

    def look(args):
        options = args["model_options"]["transformer_options"]
        if CHUNKS in options:
            seen["chunks"] = options[CHUNKS]
            seen["x0"], seen["sigma"] = args["denoised"].clone(), args["sigma"][0]
        return args["denoised"]

    own = windowed(model)
    own.set_model_sampler_post_cfg_function(look)
    run(own, sampler=syncos(iters=1, chunks=64), cfg=1.0)
    chunks, adm = seen["chunks"], model.model.encode_adm(**tiny_svd.prompt(1)[0][1])
    text, image = tiny_svd.prompt(1)[0][0], tiny_svd.prompt(1)[0][1]["concat_latent_image"]
    assert seen["x0"].shape[0] == LENGTH * len(chunks.windows)
    for window, part in zip(chunks.windows, seen["x0"].split(LENGTH), strict=True):
        x = chunks.x[0, :, list(window.indices)].movedim(0, 1)
        with torch.no_grad():
            expected = model.model.apply_model(
                x, seen["sigma"].expand(LENGTH), c_concat=image.expand(LENGTH, -1, -1, -1),
                c_crossattn=text.expand(LENGTH, -1, -1), y=adm.expand(LENGTH, -1), num_video_frames=LENGTH)
        assert difference(part, expected) < CLOSE


def test_syncos_has_chunks_of_its_own(model):
    chunks = ChunkSettings(LENGTH, LENGTH - OVERLAP)
    own = run(model, sampler=syncos(chunks), cfg=1.0)
    assert difference(own, run(windowed(model, fuse="flat", compression=1), sampler=syncos(), cfg=1.0)) < 0.05
    values = {i.id: getattr(i, "default", None) for i in LongTakeSynCoSKSampler.define_schema().inputs}
    values |= {"model": model, "positive": tiny_svd.prompt(1), "negative": tiny_svd.prompt(2), "steps": 1, "iters": 1,
               "latent_image": {"samples": tiny_svd.latent()}, "window_length": LENGTH, "stride": 3}  # fmt: skip
    made = LongTakeSynCoSKSampler.execute(**values).args[0]["samples"]
    assert made.shape == (FRAMES, 4, 8, 8) and made.isfinite().all()


def test_syncos_keeps_what_a_mask_keeps(model):
    mask = torch.zeros(FRAMES, 1, 8, 8)
    mask[4:7] = 1
    start = run(model)
    made = run(windowed(model), sampler=syncos(), start=start, mask=mask, seed=8)
    kept = [i for i in range(FRAMES) if not 4 <= i < 7]
    assert torch.equal(made[kept], start[kept]) and difference(made, start) > 1e-2


def test_syncos_refuses_guidance_by_frame(model):
    (guided,) = VideoLinearCFGGuidance().patch(model, 1.0)
    with pytest.raises(ValueError, match="SynCoS.*VideoLinearCFGGuidance guides each frame by its place.*bypass"):
        run(windowed(guided), sampler=syncos())
    assert run(windowed(guided), sampler=syncos(stages="first")).isfinite().all()


@pytest.mark.parametrize("more", [{}, {"iterations": 2}, {"prediction": "next"}])
def test_vmcr_equals_a_loop_with_autograd(model, more):
    """Over the frames of the batch."""
    states, predictions, calls = [], [], []

    def look(args):
        calls.append((float(args["sigma"][0]), args["denoised"].clone()))
        return args["denoised"]

    looked = windowed(model)
    looked.set_model_sampler_post_cfg_function(look)
    sampler = refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings(0.05, **more))

    def callback(step, x0, x, total):
        states.append(x.clone())
        predictions.append(x0.clone())

    result = run(looked, sampler=sampler, callback=callback)
    states.append(model.model.process_latent_in(result))
    sigmas = comfy.samplers.calculate_sigmas(model.get_model_object("model_sampling"), "karras", tiny_svd.STEPS)
    omega = 0.05 * rescale_factor(8, 8)
    for i in range(tiny_svd.STEPS):
        x, x0 = states[i].clone(), predictions[i].clone()
        x = x + (x - x0) / sigmas[i] * (sigmas[i + 1] - sigmas[i])
        for _ in range(more.get("iterations", 1)):
            if "prediction" in more:
                last = i + 1 == tiny_svd.STEPS
                x0 = x if last else next(x0 for s, x0 in calls if abs(s - float(sigmas[i + 1])) < 1e-6).clone()
            video = x0.clone().movedim(0, 1)[None].contiguous()
            moved = omega * autograd(video, MotionSettings())[0].movedim(0, 1)
            x, x0 = x - moved, x0 - moved
        torch.testing.assert_close(states[i + 1].clone(), x, rtol=1e-4, atol=CLOSE)
    assert difference(result, run(windowed(model))) > 1e-2


@pytest.mark.parametrize("mode", ["shuffle", "shuffle_and_mix", "mix"])
def test_noise_is_reinitialised_along_the_batch(model, mode):
    noise = ReinitNoise(5, NoiseSettings(mode=mode), LENGTH, LENGTH - OVERLAP)
    drawn = noise.generate_noise({"samples": tiny_svd.latent()})
    by_model = run(apply_noise(windowed(model), noise))
    assert difference(by_model, run(windowed(model), noise=drawn)) == 0.0
    assert difference(by_model, run(windowed(model))) > 1e-2
    if mode == "shuffle":  # every frame behind the unit is one of its frames
        unit = drawn[:LENGTH]
        assert all(any(torch.equal(frame, own) for own in unit) for frame in drawn[LENGTH:])


def test_all_of_glc_runs_on_it(model):
    """But anchor attention, which is refused by name."""
    path = GlobalPath(0.3, every=2, until=0.8)
    whole = windowed(model, schedule="random_shift", shift_seed=3, extra_path=path)
    noise = ReinitNoise(5, NoiseSettings(), LENGTH, LENGTH - OVERLAP)
    sampler = refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings(1e-3))
    out = run(apply_noise(whole, noise), sampler=sampler)
    assert out.isfinite().all() and difference(out, run(apply_noise(whole, noise))) > 1e-3
    assert torch.equal(out, run(apply_noise(whole, noise), sampler=sampler))


@pytest.mark.parametrize("sampler", ["heun", "syncos", "vmcr"])
def test_a_run_resumes_bit_for_bit(model, output, sampler):  # noqa: F811
    inner = {
        "heun": lambda: comfy.samplers.sampler_object("heun"), "syncos": lambda: syncos(eta=0.5),
        "vmcr": lambda: refine_sampler(comfy.samplers.sampler_object("euler"), RefineSettings(1e-3, prediction="next")),
    }[sampler]()  # fmt: skip
    own = windowed(model, window_batch=0, schedule="random_shift")
    with calls(own) as noted:
        whole = run(own, sampler=inner, steps=3)
    with pytest.raises(Cut), calls(own, len(noted) - 2):
        run(own, sampler=keep(inner, CheckpointSettings()), steps=3)
    (kept,) = kept_runs()
    assert 0 < kept.state.step < 3
    with calls(own) as again:
        assert torch.equal(run(own, sampler=keep(inner, CheckpointSettings()), steps=3), whole)
    assert 0 < len(again) < len(noted)


def test_a_seed_is_a_video_in_windows_of_any_settings(model):
    settings = WindowSettings(LENGTH, OVERLAP, "random_shift", 7, compression=1)
    one, two = (run(apply_windows(model, settings)) for _ in range(2))
    assert torch.equal(one, two)
