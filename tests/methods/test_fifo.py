"""FIFO-Diffusion in real sampling runs of tiny models of ComfyUI's classes."""

import logging
from dataclasses import replace

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_lt import LTXVScheduler
from longtake.samplers.adapters import fifo as adapter
from longtake.samplers.adapters.frame_levels import by_frame, levelled
from longtake.samplers.seeds import derived_seed, generator
from support import tiny_wan, windows, zoo
from support.compare import difference
from support.fifo_runs import FRAMES, SEED, WAN, WORKS, F, euler, fifo, guiders, run, run_graph, schedule

pytestmark = pytest.mark.usefixtures("one_thread")

@pytest.fixture(scope="module")
def plain():
    return run()


# ---- what it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["wan21_t2v", "hunyuan_video"])
def test_a_video_of_one_clip_is_euler(name):
    assert difference(run(fifo(name, length=FRAMES), name), run(euler(), name)) == 0.0


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("steps", [2 * F, 3])
def test_the_base_clip_is_euler_on_a_clip_of_its_own(name, steps, monkeypatch):
    bases = []

    def first_queue(settings, base, sigmas, noised):
        bases.append((base, sigmas))
        raise comfy.model_management.InterruptProcessingException

    monkeypatch.setattr(adapter, "first_queue", first_queue)
    model = zoo.patcher(name)
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        run(name=name, sigmas=schedule(model, steps))
    noise = comfy.sample.prepare_noise(zoo.zoo()[name].latent(FRAMES), SEED)[:, :, :F]
    base, sigmas = bases[0]
    assert len(sigmas) == 2 * F + 1
    expected = run(euler(), name, frames=F, noise=noise, sigmas=sigmas)
    assert difference(model.model.process_latent_out(base), expected) == 0.0


def by_hand(frames, lookahead, n, cfg):
    """The authors' loop with Wan's net itself: velocities at a timestep per frame, CFG and Euler by hand."""
    patcher = zoo.patcher(WAN)
    sigmas, steps = schedule(patcher, n * F), n * F
    base_sampling = patcher.model.model_sampling
    noise = comfy.sample.prepare_noise(zoo.zoo()[WAN].latent(frames), SEED)
    base = run(euler(), frames=F, noise=noise[:, :, :F], sigmas=sigmas, cfg=cfg)
    base = patcher.model.process_latent_in(base)
    up, front = sigmas.flip(0), F // 2 if lookahead else 0
    index = [0] * front + list(range(steps))

    def drawn(count, purpose):
        return torch.randn(1, 16, count, 8, 8, generator=generator(derived_seed(SEED, f"fifo {purpose}")))

    eps = drawn(front + steps, "queue")
    queue = [
        (1 - up[i + 1]) * base[:, :, 0 if k < front else max(0, i - steps + F)] + up[i + 1] * eps[:, :, k]
        for k, i in enumerate(index)
    ]

    def velocity(x, t, seed):
        text = zoo.zoo()[WAN].text(seed)[0]
        return patcher.model.diffusion_model(x, t, text, transformer_options={})

    video = []
    for out in range(frames + steps - F):
        for rank in reversed(range((1 + lookahead) * n)):
            at = rank * (F // 2 if lookahead else F)
            x = torch.stack(queue[at : at + F], 2)
            t = base_sampling.timestep(torch.stack([up[i + 1] for i in index[at : at + F]]))[None]
            v, u = velocity(x, t, 1), velocity(x, t, 2)
            v = u + cfg * (v - u)
            for j in range(F // 2 if lookahead else 0, F):
                k = index[at + j]
                queue[at + j] = queue[at + j] + (up[k] - up[k + 1]) * v[:, :, j]
        video.append(queue[front])
        new = noise[:, :, out + F] if out + F < frames else drawn(1, f"frame {out + F}")[:, :, 0]
        queue = [*queue[1:], new]
    return patcher.model.process_latent_out(torch.stack(video[steps - F :], 2))


@pytest.mark.parametrize("lookahead", [True, False])
@pytest.mark.parametrize("n", [1, 2])
@torch.inference_mode()
def test_a_run_is_the_authors_loop_over_the_net(lookahead, n):
    sampler = fifo(partitions=n, lookahead=lookahead, start="copies")
    ours = run(sampler, sigmas=schedule(zoo.patcher(WAN), n * F))
    assert difference(ours, by_hand(FRAMES, lookahead, n, 2.0)) < 1e-4
    clip = run(fifo(partitions=n, lookahead=lookahead), sigmas=schedule(zoo.patcher(WAN), n * F))
    alike = n == 1 and not lookahead  # nothing stands in front of the first frame
    assert (difference(ours, clip) == 0.0) if alike else difference(ours, clip) > 1e-2


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("lookahead", [True, False])
def test_every_class_that_it_names(name, lookahead):
    video = run(fifo(name, lookahead=lookahead), name)
    assert video.shape == zoo.zoo()[name].latent(FRAMES).shape and video.isfinite().all()
    assert 0.1 < video.std() < 10
    assert difference(video, run(euler(), name)) > 1e-2


def look_inside(monkeypatch, net, look):
    """look(x, timesteps) before each forward pass of the net, inside of all wrappers."""
    forward = net._forward

    def seen(x, timesteps, *args, **kwargs):
        look(x, timesteps)
        return forward(x, timesteps, *args, **kwargs)

    monkeypatch.setattr(net, "_forward", seen)


@pytest.mark.parametrize("name", WORKS)
def test_each_frame_has_its_own_timestep_in_the_net(name, monkeypatch):
    """In the frame of the net's tokens where it stands; the same for both CFG branches."""
    seen, model = [], zoo.patcher(name)

    def look(x, t):
        seen.append(t.reshape(len(t), F, -1) if t.numel() > len(t) else t)

    look_inside(monkeypatch, model.model.diffusion_model, look)
    run(fifo(name, partitions=1, lookahead=False), name)
    base, calls = seen[:F], seen[F:]  # those of the base clip, then one a round
    assert len(calls) == FRAMES and all(t.ndim == 1 for t in base)
    expected = model.model.model_sampling.timestep(schedule(model, 2 * F)[: 2 * F : 2].flip(0))
    for t in calls:
        assert len(t) == 2 and difference(t, expected.float().view(1, F, 1).expand_as(t)) < 1e-4 * expected.max()


# ---- a level for each frame ------------------------------------------------------------------------------------------


def applied(name, x, sigma, options):
    """x0 that core's model predicts for a prompt."""
    model = zoo.patcher(name).model
    text, extra = zoo.zoo()[name].text(1)
    kwargs = {"attention_mask": extra["attention_mask"]} if extra.get("attention_mask") is not None else {}
    concat = torch.zeros_like(x)[:, :1] if name == "cosmos_predict2" else None
    return model.apply_model(x, sigma, concat, text.expand(len(x), -1, -1), transformer_options=options, **kwargs)


@pytest.mark.parametrize("name", WORKS)
@torch.inference_mode()
def test_equal_levels_are_cores_one_level(name):
    x, level = zoo.randn(*zoo.zoo()[name].latent(F, 2).shape, seed=3), torch.tensor(0.7)
    one = applied(name, x, level.expand(2), {})
    same = applied(name, x, level.expand(2), levelled({}, level.expand(F)))
    assert difference(one, same) < 1e-4 * one.abs().max()
    other = applied(name, x, level.expand(2), levelled({}, torch.tensor([0.7, 0.7, 0.2, 0.7])))
    assert difference(one[:, :, 2], other[:, :, 2]) > 1e-2


@pytest.mark.parametrize("kind", ["EPS", "V_PREDICTION", "EDM", "CONST", "COSMOS_RFLOW"])
@torch.inference_mode()
def test_scaling_is_cores_frame_by_frame(kind):
    sampling = getattr(comfy.model_sampling, kind)()
    sampling.sigma_data = 1.0
    x, out = zoo.randn(2, 3, F, 2, 2, seed=1), zoo.randn(2, 3, F, 2, 2, seed=2)
    sigma = torch.tensor([0.9, 0.5, 0.2, 0.05])
    calls = [(sampling.calculate_input, (x,)), (sampling.calculate_denoised, (out, x)),
             (sampling.noise_scaling, (out, x))]  # fmt: skip
    for function, tensors in calls:
        ours = by_frame(function, sigma, *(t.clone() for t in tensors))
        for i in range(F):
            frame = function(sigma[i].expand(2), *(t[:, :, i : i + 1].clone() for t in tensors))
            assert difference(ours[:, :, i : i + 1], frame) < 1e-6


@pytest.mark.parametrize("kind", ["EPS", "V_PREDICTION"])
@torch.inference_mode()
def test_noise_and_v_models_too(kind):
    """x0 by the formulas of DDPM, from the net's own output; and a whole run."""

    class Sampling(comfy.model_sampling.ModelSamplingDiscrete, getattr(comfy.model_sampling, kind)):
        pass

    sampling, model = Sampling(), zoo.patcher(WAN).model
    x, sigma = 4 * zoo.randn(1, 16, F, 8, 8, seed=3), sampling.sigmas[[900, 600, 300, 0]]
    patched, own = zoo.patcher(WAN).clone(), model.model_sampling
    patched.add_object_patch("model_sampling", sampling)
    try:
        model.model_sampling = sampling
        ours = applied(WAN, x, sigma[:1], levelled({}, sigma))
    finally:
        model.model_sampling = own
    scale = (1 + sigma**2).sqrt().view(-1, 1, 1)
    timesteps = torch.tensor([[900.0, 600.0, 300.0, 0.0]])
    out = model.diffusion_model(x / scale, timesteps, zoo.zoo()[WAN].text(1)[0], transformer_options={})
    expected = x - sigma.view(-1, 1, 1) * out
    if kind == "V_PREDICTION":
        expected = x / scale**2 - sigma.view(-1, 1, 1) / scale * out
    assert difference(ours, expected) < 1e-4 * expected.abs().max()
    assert run(model=patched).isfinite().all()


# ---- what a run is told ----------------------------------------------------------------------------------------------


def test_the_same_seed_is_the_same_video(plain):
    assert difference(run(), plain) == 0.0
    assert difference(run(seed=6), plain) > 1e-2


def test_noise_of_a_frame_is_the_given_one(plain):
    """A frame begins as the NOISE made it: only those from there on see a change."""
    noise = comfy.sample.prepare_noise(zoo.zoo()[WAN].latent(FRAMES), SEED)
    noise[:, :, -1] += 1
    changed = run(noise=noise)
    assert difference(changed[:, :, -1], plain[:, :, -1]) > 1e-2
    assert difference(run(noise=noise.clone()), changed) == 0.0


def test_a_batch_is_made_and_any_guider_works(plain):
    both = run(latent=zoo.zoo()[WAN].latent(FRAMES, 2))
    assert both.shape[0] == 2 and both.isfinite().all() and difference(both[0], both[1]) > 1e-2
    model = zoo.patcher(WAN)
    videos = [run_graph(guider, fifo(), schedule(model)) for guider in guiders(model)]
    assert difference(videos[0], run(cfg=1.0)) == 0.0
    assert videos[1].isfinite().all() and difference(videos[1], plain) > 1e-2


def texts(monkeypatch, positive, **settings):
    """(numbers of a call's frames, those that make a step, the inputs of its positive prompt) of each call."""
    seen, places = [], []
    cut, args = adapter.ClipHandler.get_resized_cond, adapter._Run.args

    def place(self, numbers, made, sigma=None):
        places.append((numbers, numbers[made]))
        return args(self, numbers, made, sigma)

    def look(self, cond, x, window, device=None):
        entries = cut(self, cond, x, window, device)
        if entries is not None:
            seen.append((*places[-1], entries[0]["model_conds"]))
        return entries

    monkeypatch.setattr(adapter._Run, "args", place)
    monkeypatch.setattr(adapter.ClipHandler, "get_resized_cond", look)
    video = run(positive=positive, cfg=1.0, **settings)
    return seen, video


@pytest.mark.parametrize("start", ["clip", "copies"])
def test_an_events_prompt_is_that_of_the_frames_that_make_a_step(start, monkeypatch):
    """Pixel frames 0-12 the first event, then the second: by the middle of what is made, clamped to the video."""
    total = 4 * (FRAMES - 1) + 1
    seen, video = texts(monkeypatch, tiny_wan.timeline(total, [0, 13]), sampler=fifo(start=start))
    assert video.isfinite().all()
    events, other = [tiny_wan.rows(10 + i) for i in (0, 1)], 0
    for numbers, made, conds in seen:
        which = []
        for frames in (made, numbers):
            low, high = (min(max(i, 0), FRAMES - 1) for i in (min(frames), max(frames)))
            which.append(int(((4 * (low - 1) + 1 if low else 0) + 4 * high) / 2 >= 13))
        other += which[0] != which[1]
        assert torch.equal(conds["c_crossattn"].cond, events[which[0]])
    assert 0 < other < len(seen)  # by the middle of all of a call's frames it would be another event


def test_events_told_frame_by_frame_reach_their_frames(monkeypatch):
    total = 4 * (FRAMES - 1) + 1
    positive = tiny_wan.timeline(total, [0, 13])
    for _, entry in positive[1:]:
        entry["longtake_span"] = replace(entry["longtake_span"], timing="frame")
    seen, video = texts(monkeypatch, positive)
    assert video.isfinite().all()
    widths = {conds["c_crossattn"].cond.shape[1] for _, _, conds in seen}
    assert widths == {12, 24}  # clips of one event, and of both side by side


@pytest.mark.parametrize("temporal", [1.0, 0.4])
def test_a_prompt_acts_in_its_area_of_frames(plain, temporal):
    """Beside a prompt for the whole: alone it would leave frames without any."""
    text = zoo.zoo()[WAN].conditioning(1, FRAMES)
    area = ("percentage", temporal, 1.0, 1.0, 1.0 - temporal, 0.0, 0.0)  # as ConditioningSetAreaPercentageVideo's
    part = zoo.zoo()[WAN].conditioning(3, FRAMES, area=area)
    video = run(positive=text + part)
    assert video.isfinite().all() and difference(video, plain) > 1e-2
    if temporal == 1.0:
        assert difference(video, run(positive=text + zoo.zoo()[WAN].conditioning(3, FRAMES))) < 1e-4


def test_a_prompt_acts_in_its_part_of_the_picture(plain):
    text = zoo.zoo()[WAN].conditioning(1, FRAMES)
    for region in ({"area": (FRAMES, 4, 8, 0, 0, 0)}, {"mask": torch.ones(1, 8, 8)}):
        video = run(positive=text + zoo.zoo()[WAN].conditioning(3, FRAMES, **region))
        assert video.isfinite().all() and difference(video, plain) > 1e-2


def test_one_clip_takes_a_timeline_as_one_window_does(caplog):
    total = 4 * (FRAMES - 1) + 1
    window = windows.windowed(zoo.patcher(WAN), FRAMES)
    for timing in ("window", "frame"):
        positive = tiny_wan.timeline(total, [0, 13])
        for _, entry in positive[1:]:
            entry["longtake_span"] = replace(entry["longtake_span"], timing=timing)
        with caplog.at_level(logging.INFO):
            ours = run(fifo(length=FRAMES), positive=positive)
        assert difference(ours, run(euler(), model=window, positive=positive)) == 0.0
        assert (difference(ours, run(euler())) > 1e-2) == (timing == "frame")
    assert any("not longer than the window" in r.message for r in caplog.records)


def test_the_run_says_what_it_will_cost(caplog):
    model, calls = zoo.patcher(WAN).clone(), 0

    def wrapper(apply, args):
        nonlocal calls
        calls += args["input"].shape[0]
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(wrapper)
    with caplog.at_level(logging.INFO):
        run(model=model, sigmas=schedule(model, 3))
    (line,) = [r.message for r in caplog.records if r.message.startswith("FIFO:")]
    assert f"= {calls} window evaluations" in line and "3 steps given" in line


def test_a_timeline_of_another_length_is_said(caplog):
    run(positive=tiny_wan.timeline(4 * FRAMES + 5, [0, 13]))
    assert "made for 33 pixel frames, the video has 25: events after its end stay unused" in caplog.text


def test_ltxs_shift_by_the_whole_video_is_said(caplog):
    (sigmas,) = LTXVScheduler.execute(2 * F, 2.05, 0.95, True, 0.1, {"samples": zoo.zoo()["ltxv"].latent(FRAMES)}).args
    run(name="ltxv", sigmas=sigmas)
    assert "LTXVScheduler: latent: the whole video's" in caplog.text and "one window (25 frames)" in caplog.text


@pytest.mark.parametrize("steps", [3, 8, 40])
def test_progress_has_the_schedules_steps_and_shows_the_video(steps, plain):
    told = []
    video = run(
        sigmas=schedule(zoo.patcher(WAN), steps), callback=lambda i, x0, x, total: told.append((i, x0.clone(), total))
    )
    assert [i for i, _, _ in told] == sorted({i for i, _, _ in told}) and told[-1][0] == steps - 1
    assert {total for _, _, total in told} == {steps} and all(x0.shape == video.shape for _, x0, _ in told)
    assert difference(zoo.patcher(WAN).model.process_latent_out(told[-1][1]), video) == 0.0


def test_a_cancelled_run_leaves_the_model_as_it_was(plain):
    model, calls = zoo.patcher(WAN), 0
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    options = repr(model.model_options)

    def cancel(net, args):
        nonlocal calls
        calls += 1
        if calls == 2 * F + 3:
            comfy.model_management.interrupt_current_processing()

    with (
        model.model.diffusion_model.register_forward_pre_hook(cancel),
        pytest.raises(comfy.model_management.InterruptProcessingException),
    ):
        run()
    assert calls == 2 * F + 3  # the next one is not made
    assert repr(model.model_options) == options
    assert all(torch.equal(before[k], v) for k, v in model.model.state_dict().items())
    assert difference(run(), plain) == 0.0
