"""MEVG in real sampling runs of tiny models of ComfyUI's classes."""

import math
from dataclasses import replace

import comfy.model_management
import comfy.model_sampling
import comfy.sample
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_lt import LTXVScheduler
from longtake.samplers.adapters import mevg as adapter
from longtake.samplers.seeds import derived_seed, generator
from support import tiny_wan, zoo
from support.compare import difference
from support.fifo_runs import FRAMES, SEED, WAN, F, euler, guiders, run, run_graph, schedule
from support.mevg import autograd_sgs
from support.mevg_runs import PLAIN, WORKS, mevg
from support.tiny_cogvideox import load, model_folders, prompts

pytestmark = pytest.mark.usefixtures("one_thread")
FLOWS = [name for name in WORKS if name not in ("cosmos_predict2", "cogvideox", "cogvideox15")]
TOTAL = 4 * (FRAMES - 1) + 1  # pixel frames of the video
STEPS = 3


def made(sampler=None, name=WAN, **given):
    sampler = sampler or mevg(name)
    return run(sampler, name, **{"sigmas": schedule(given.get("model") or zoo.patcher(name), STEPS), **given})


def noise_of(name=WAN, frames=FRAMES):
    return comfy.sample.prepare_noise(zoo.zoo()[name].latent(frames), SEED)


@pytest.fixture(scope="module")
def plain():
    return made()


# ---- what it is ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("begin", ["renoise", "invert"])
def test_a_video_of_one_clip_is_euler(name, begin):
    ours = made(mevg(name, FRAMES, begin=begin), name)
    assert difference(ours, made(euler(), name)) == 0.0


@pytest.mark.parametrize("name", FLOWS)
def test_without_any_tie_clips_are_runs_of_their_own(name):
    """Each clip as KSampler's euler makes it of its part of the noise; the last one is cut off at the video's end."""
    frames, noise = 2 * F + 2, noise_of(name, 3 * F)
    noise[:, :, 2 * F + 2 :] = torch.cat([
        torch.randn(noise[:, :, :1].shape, generator=generator(derived_seed(SEED, f"mevg frame {i}")))
        for i in range(2 * F + 2, 3 * F)
    ], 2)  # fmt: skip
    ours = made(mevg(name, **PLAIN), name, frames=frames, noise=noise[:, :, :frames])
    for at in (0, F, 2 * F):
        alone = made(euler(), name, frames=F, noise=noise[:, :, at : at + F])
        # LTX-Video's first sigma is 1 - 6e-8, which leaves so much of the frame before
        whole = at == 0 or float(schedule(zoo.patcher(name), STEPS)[0]) == 1.0
        assert difference(ours[:, :, at : at + F], alone[:, :, : frames - at]) <= (0.0 if whole else 1e-5)


@pytest.mark.parametrize("name", WORKS)
@pytest.mark.parametrize("begin", ["renoise", "invert"])
def test_every_class_that_it_names(name, begin):
    video = made(mevg(name, begin=begin), name)
    assert video.shape == zoo.zoo()[name].latent(FRAMES).shape and video.isfinite().all()
    assert 0.1 < video.std() < 10
    first = made(euler(), name, frames=F, noise=noise_of(name)[:, :, :F])
    assert difference(video[:, :, :F], first) == 0.0  # the first clip is a plain one


def test_hunyuan_video_15_from_text_alone():
    kind = zoo.zoo()["hunyuan_video15"]
    text, options = kind.text(1)
    video = made(name="hunyuan_video15", positive=[[text, options]], cfg=1.0)
    assert video.isfinite().all() and video.shape == kind.latent(FRAMES).shape


@pytest.fixture(scope="module")
def cogvideox(tmp_path_factory):
    with model_folders(tmp_path_factory.mktemp("models"), ["CogVideoX-2b"]):
        yield load("CogVideoX-2b")[0]


def test_cogvideox_of_the_packs_loader(cogvideox):
    """Zero terminal SNR: what begins at the noisiest level knows nothing of the frame before it."""
    patcher, latent = cogvideox, torch.zeros(1, 16, FRAMES, 8, 12)
    noise, texts = comfy.sample.prepare_noise(latent, SEED), [[[text, {}]] for text in prompts()]

    def video(start, begin="renoise"):
        return comfy.sample.sample_custom(
            patcher, noise, 2.0, mevg(start_percent=start, begin=begin), schedule(patcher, STEPS), *texts, latent,
            disable_pbar=True, seed=SEED,
        )  # fmt: skip

    for start, begin in ((0.3, "renoise"), (0.3, "invert")):
        assert video(start, begin).isfinite().all()
    with pytest.raises(ValueError, match="begin .invert.: where clips begin .sigma 4.* holds 0.00022 of the picture"):
        video(0.0, "invert")


def mixed(eps, own, shared):
    later = []
    for j in range(1, F):
        kappa = shared * math.exp(-10 * (j - 1) / (F - 2))
        later.append((kappa * eps[:, :, j] + own[:, :, j]) / math.sqrt(1 + kappa**2))
    return torch.stack([eps[:, :, 0], *later], 2)


@torch.no_grad()
def by_hand(first_latent, begin, sgs, lfai):
    """MEVG with Wan's net itself: velocities, CFG, Euler, the way up and all pulls by hand; two events."""
    patcher, cfg, shared = zoo.patcher(WAN), 2.0, 0.8
    sigmas, noise = schedule(patcher, STEPS), noise_of()
    sampling = patcher.model.model_sampling
    at = int((sigmas > sampling.percent_to_sigma(0.3) * (1 + 1e-5)).sum())
    assert 0 < at < STEPS - 1
    layout = {"anchor": [(0, 0, 4), (3, 4, 7)], "as_is": [(0, 0, 4), (4, 4, 7)]}[first_latent]

    def velocity(x, sigma, seed):
        t = sampling.timestep(sigma)[None]
        return patcher.model.diffusion_model(x, t, tiny_wan.rows(seed), transformer_options={})

    def drawn(shape, purpose):
        return torch.randn(shape, generator=generator(derived_seed(SEED, f"mevg {purpose}")))

    longer = torch.cat([noise, drawn(noise[:, :, :1].shape, f"frame {FRAMES}")], 2)
    video, before = torch.zeros_like(noise), None
    for event, (start, new, end) in enumerate(layout):
        own = longer[:, :, start : start + F]
        x, first, lasts = own, 0, {}
        if event:
            first, frame = at, video[:, :, new - 1 : new].repeat(1, 1, F, 1, 1)
            if begin == "renoise":
                eps = mixed(own[:, :, :1].repeat(1, 1, F, 1, 1), own, shared)
                x = (1 - sigmas[at]) * frame + sigmas[at] * eps
            else:
                x = frame
                for i in range(STEPS - 1, at - 1, -1):
                    low, high = sigmas[i + 1], sigmas[i]
                    seen = x * (torch.hypot(1 - high, high) / torch.hypot(1 - low, low))
                    v = velocity(seen, high, 2)
                    eps = mixed(seen + (1 - high) * v, drawn(own.shape, f"inversion of {start}, {i}"), shared)
                    x0 = (x - low * eps) / (1 - low)
                    x0[:, :, :1] -= 2 * lfai / 4096 * (x0[:, :, :1] - before[i])
                    x = (1 - high) * x0 + high * eps
        for i in range(first, STEPS):
            now, following = sigmas[i], sigmas[i + 1]
            v, u = velocity(x, now, 10 + event), velocity(x, now, 2)
            v = u + cfg * (v - u)
            x0, eps = x - now * v, x + (1 - now) * v
            if event and sgs:
                x0 = autograd_sgs(x0, before[i], sgs * math.prod(x0[:, :, 0].shape) / 4096)  # as frames of theirs
            x = (1 - following) * x0 + following * eps
            lasts[i] = x0[:, :, end - start - 1 : end - start]
        video[:, :, new:end], before = x[:, :, new - start : end - start], lasts
    return patcher.model.process_latent_out(video)


@pytest.mark.parametrize("first_latent", ["anchor", "as_is"])
@pytest.mark.parametrize(("begin", "sgs", "lfai"), [
    ("renoise", 7.0, 1000.0), ("renoise", 0.0, 0.0), ("invert", 7.0, 1000.0), ("invert", 0.0, 0.0),
])  # fmt: skip
def test_a_run_is_the_method_over_the_net(first_latent, begin, sgs, lfai):
    """Two events of four and of three latent frames, one clip each."""
    sampler = mevg(first_latent=first_latent, begin=begin, sgs=sgs, lfai=lfai, shared_noise=0.8)
    ours = made(sampler, positive=tiny_wan.timeline(TOTAL, [0, 13]))
    assert difference(ours, by_hand(first_latent, begin, sgs, lfai)) < 2e-4
    assert difference(ours, made(mevg(**PLAIN | {"first_latent": first_latent}))) > 1e-2


@pytest.mark.parametrize("setting", [{"start_percent": 0.6}, {"shared_noise": 0.0}, {"sgs": 0.0}, {"sgs": 20.0},
                                     {"first_latent": "as_is"}, {"begin": "invert"}])  # fmt: skip
def test_every_setting_acts(plain, setting):
    assert difference(made(mevg(**setting)), plain) > 1e-3


def test_lfai_acts_where_there_is_inversion(plain):
    assert difference(made(mevg(lfai=0.0)), plain) == 0.0
    assert difference(made(mevg(begin="invert", lfai=0.0)), made(mevg(begin="invert"))) > 1e-3


@pytest.mark.parametrize("kind", ["EPS", "V_PREDICTION"])
def test_noise_and_v_models_are_inverted_from_the_noisiest_level(kind):
    """LVDM's kind, where the paper's inversion has something to hand on."""

    class Sampling(comfy.model_sampling.ModelSamplingDiscrete, getattr(comfy.model_sampling, kind)):
        pass

    patched = zoo.patcher(WAN).clone()
    patched.add_object_patch("model_sampling", Sampling())
    both = [made(mevg(begin="invert", start_percent=0.0, lfai=lfai), model=patched) for lfai in (0.0, 1000.0)]
    assert all(video.isfinite().all() for video in both) and difference(*both) > 1e-3


# ---- what a run is told ----------------------------------------------------------------------------------------------


def texts(monkeypatch, positive, sampler=None, **given):
    """(frames of the call, the inputs of its positive prompt) of each call, and the video."""
    seen, places = [], []
    cut, of_call = adapter.ClipHandler.get_resized_cond, adapter._Run.of_call

    def place(self, numbers, made):
        places.append(numbers)
        return of_call(self, numbers, made)

    def look(self, cond, x, window, device=None):
        entries = cut(self, cond, x, window, device)
        if entries is not None:
            seen.append((places[-1], entries[0]["model_conds"]))
        return entries

    monkeypatch.setattr(adapter._Run, "of_call", place)
    monkeypatch.setattr(adapter.ClipHandler, "get_resized_cond", look)
    video = made(sampler or mevg(), positive=positive, cfg=1.0, **given)
    return seen, video


@pytest.mark.parametrize("timing", ["window", "frame"])
@pytest.mark.parametrize("border", [5, 13, 17])
def test_each_clip_reads_its_own_event(timing, border, monkeypatch):
    positive = tiny_wan.timeline(TOTAL, [0, border])
    for _, entry in positive[1:]:
        entry["longtake_span"] = replace(entry["longtake_span"], timing=timing)
    seen, video = texts(monkeypatch, positive)
    assert video.isfinite().all()
    later = (border - 1) // 4 + 1  # the first latent frame of the second event
    counted = {0: 0, 1: 0}
    for numbers, conds in seen:
        event = int(numbers[0] >= later)
        assert {number >= later for number in numbers} == {bool(event)}
        assert torch.equal(conds["c_crossattn"].cond, tiny_wan.rows(10 + event))
        counted[event] += 1
    assert min(counted.values()) > 0


def test_events_shorter_than_a_clip_have_clips_of_their_own(monkeypatch):
    seen, video = texts(monkeypatch, tiny_wan.timeline(TOTAL, [0, 9, 17]), mevg(length=FRAMES))
    assert {tuple(numbers) for numbers, _ in seen} == {
        (0, 1, 2, 2, 2, 2, 2), (3, 3, 4, 4, 4, 4, 4), (5, 5, 6, 6, 6, 6, 6),
    }  # fmt: skip
    assert video.isfinite().all()


def test_a_single_event_in_a_single_clip_is_its_prompt():
    ours = made(mevg(length=FRAMES), positive=tiny_wan.timeline(TOTAL, [0]))
    assert difference(ours, made(euler(), positive=tiny_wan.prompt(10))) == 0.0


def test_the_same_seed_is_the_same_video(plain):
    assert difference(made(), plain) == 0.0
    for drawing in (mevg(first_latent="as_is"), mevg(begin="invert")):  # a frame behind the video's end; on the way up
        video = made(drawing)
        assert difference(made(drawing), video) == 0.0
        assert difference(made(drawing, seed=SEED + 1, noise=noise_of()), video) > 1e-4


def test_noise_of_a_frame_is_the_given_one(plain):
    noise = noise_of()
    noise[:, :, -1] += 1
    changed = made(noise=noise)
    assert difference(changed[:, :, :F], plain[:, :, :F]) == 0.0
    assert difference(changed[:, :, -1], plain[:, :, -1]) > 1e-2


def test_a_batch_is_made_and_any_guider_works(plain):
    both = made(latent=zoo.zoo()[WAN].latent(FRAMES, 2))
    assert both.shape[0] == 2 and both.isfinite().all() and difference(both[0], both[1]) > 1e-2
    model = zoo.patcher(WAN)
    videos = [run_graph(guider, mevg(), schedule(model, STEPS)) for guider in guiders(model)]
    assert difference(videos[0], made(cfg=1.0)) == 0.0
    assert videos[1].isfinite().all() and difference(videos[1], plain) > 1e-2
    for guider in guiders(model):
        with pytest.raises(ValueError, match=r"begin \(invert\): the way back goes by the negative prompt"):
            run_graph(guider, mevg(begin="invert"), schedule(model, STEPS))


def test_a_prompt_acts_in_its_part_of_the_picture_and_of_the_frames(plain):
    text = zoo.zoo()[WAN].conditioning(1, FRAMES)
    area = ("percentage", 0.4, 1.0, 1.0, 0.6, 0.0, 0.0)  # as ConditioningSetAreaPercentageVideo's
    for region in ({"area": (FRAMES, 4, 8, 0, 0, 0)}, {"mask": torch.ones(1, 8, 8)}, {"area": area}):
        video = made(positive=text + zoo.zoo()[WAN].conditioning(3, FRAMES, **region))
        assert video.isfinite().all() and difference(video, plain) > 1e-2


@pytest.mark.parametrize("begin", ["renoise", "invert"])
def test_the_run_says_what_it_will_cost(begin, caplog):
    model, rows = zoo.patcher(WAN).clone(), 0

    def wrapper(apply, args):
        nonlocal rows
        rows += args["input"].shape[0]
        return apply(args["input"], args["timestep"], **args["c"])

    model.set_model_unet_function_wrapper(wrapper)
    with caplog.at_level("INFO"):
        made(mevg(begin=begin), model=model)
    (line,) = [r.message for r in caplog.records if r.message.startswith("MEVG:")]
    assert f"= {rows} window evaluations" in line and "in 2 clips of 4" in line
    assert ("with the empty text" in line) == (begin == "invert")


def test_timelines_that_do_not_fit_are_said(caplog):
    made(positive=tiny_wan.timeline(TOTAL + 8, [0, 13]))
    assert "made for 33 pixel frames, the video has 25: events after its end stay unused" in caplog.text
    caplog.clear()
    made(positive=tiny_wan.timeline(TOTAL, [0, 13, 14]))
    assert "no latent frame has event 2 of 3: one is 4 pixel frames" in caplog.text


def test_ltxs_shift_by_the_whole_video_is_said(caplog):
    latent = {"samples": zoo.zoo()["ltxv"].latent(FRAMES)}
    (sigmas,) = LTXVScheduler.execute(2 * F, 2.05, 0.95, True, 0.1, latent).args
    run(mevg("ltxv"), "ltxv", sigmas=sigmas)
    assert "LTXVScheduler: latent: the whole video's" in caplog.text and "one window (25 frames)" in caplog.text


@pytest.mark.parametrize("begin", ["renoise", "invert"])
def test_progress_has_the_schedules_steps_and_shows_the_video(begin):
    told = []

    def callback(i, x0, x, total):
        told.append((i, x0.clone(), total))

    video = made(mevg(begin=begin), callback=callback)
    assert [i for i, _, _ in told] == list(range(STEPS)) and {total for _, _, total in told} == {STEPS}
    last = zoo.patcher(WAN).model.process_latent_out(told[-1][1])
    assert difference(last, video) < 1e-4  # the last x0, before the last step's rounding


@pytest.mark.parametrize("begin", ["renoise", "invert"])
def test_a_cancelled_run_leaves_the_model_as_it_was(begin):
    model, count, whole = zoo.patcher(WAN), 0, made(mevg(begin=begin))
    before = {k: v.clone() for k, v in model.model.state_dict().items()}
    options = repr(model.model_options)

    def cancel(net, args):
        nonlocal count
        count += 1
        if count == STEPS + 2:
            comfy.model_management.interrupt_current_processing()

    with (
        model.model.diffusion_model.register_forward_pre_hook(cancel),
        pytest.raises(comfy.model_management.InterruptProcessingException),
    ):
        made(mevg(begin=begin))
    assert count == STEPS + 2 and repr(model.model_options) == options  # the next call is not made
    assert all(torch.equal(before[k], v) for k, v in model.model.state_dict().items())
    assert difference(made(mevg(begin=begin)), whole) == 0.0
