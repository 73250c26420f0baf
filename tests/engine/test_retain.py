"""Window scheduler's `retain`: frames of the conditioning that every window keeps, as core's cond_retain_index_list."""

import comfy.sample
import pytest
import torch
from longtake.nodes.windows import LongTakeWindowScheduler
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.adapters.window import NEW_CORE
from longtake.samplers.windows import WindowSettings
from support import zoo
from support.compare import difference
from support.refusals import refusal
from support.window_inputs import FRAMES, LENGTH, OVERLAP, STARTS, patcher, run, seen_by, windowed
from support.windows import core_windowed, coupled

pytestmark = pytest.mark.usefixtures("one_thread")


def by_core(name, retain, anchor):
    return core_windowed(
        patcher(name), length=LENGTH, overlap=OVERLAP, cond_retain_index_list=retain, causal_window_fix=anchor
    )


if NEW_CORE:

    @pytest.mark.parametrize("name", ["wan21_i2v", "wan21_vace", "wan21_camera", "hunyuan_video15", "cogvideox_i2v"])
    @pytest.mark.parametrize("retain", ["0", "0,-1"])
    @pytest.mark.parametrize("anchor", [False, True])
    def test_retained_frames_equal_cores(name, retain, anchor):
        kept = tuple(map(int, retain.split(",")))
        model = windowed(name, retain=kept, first_latent="anchor" if anchor else "as_is", window_batch=1)
        ours, theirs = seen_by(name, model, steps=1), seen_by(name, by_core(name, retain, anchor), steps=1)
        ours.sort(key=lambda call: call[0]["frames"])
        assert len(ours) == len(theirs) == len(STARTS)
        for (_, part, own), (_, x, inputs) in zip(ours, theirs, strict=True):
            assert torch.equal(part, x) and own.keys() == inputs.keys()
            assert all(torch.equal(own[key], value) for key, value in inputs.items())
        models = model, by_core(name, retain, anchor)
        assert difference(*(run(name, m, denoise=0.6) for m in models)) < 1e-5


@pytest.mark.parametrize("batch", [1, 0])
@pytest.mark.parametrize(("retain", "cut"), [
    ((0, 1), {"length": LENGTH, "schedule": "rolling_cut"}), ((3, -1), {"length": LENGTH, "schedule": "rolling_cut"}),
    ((-5, -2), {"length": LENGTH, "schedule": "rolling_cut"}), ((0, 9, -12), {"length": 12, "closed_loop": True}),
])  # fmt: skip
def test_a_window_with_fewer_frames_keeps_the_places_that_it_has(retain, cut, batch):
    """A piece at the video's end, or the only window of a loop that is shorter."""
    settings = WindowSettings(overlap=0, retain=retain, window_batch=batch, **cut)
    (_, whole, _), *_ = seen_by("wan21_i2v", patcher("wan21_i2v"), steps=1)
    seen = seen_by("wan21_i2v", apply_windows(patcher("wan21_i2v"), settings), steps=4)
    assert min(len(note["frames"]) for note, _, _ in seen) < settings.length
    for note, part, _ in seen:
        shown = list(note["frames"])
        for place in retain:
            if -len(shown) <= place < len(shown):
                shown[place] = place % FRAMES
        assert torch.equal(part[:, 16:], whole[:, 16:, shown])  # behind the noise the image and its mask


def test_one_chunk_of_the_whole_video_retains_nothing():
    """Its frames are in their places, even where the window would have more of them."""
    settings = {"overlap": 4, "window_batch": 1}
    whole, kept = (
        run("wan21_i2v", apply_windows(patcher("wan21_i2v"), WindowSettings(12, retain=retain, **settings)),
            sampler=coupled())
        for retain in ((), (0, 9, -12))
    )  # fmt: skip
    assert difference(whole, kept) == 0.0


@pytest.mark.parametrize(("name", "extra", "mask"), [
    ("wan22_5b", {}, True), ("ltxv", {}, True), ("hunyuan_video", {"guiding_frame_index": 0}, False),
])  # fmt: skip
def test_frames_given_in_the_latent_are_not_retained(name, extra, mask):
    case = zoo.zoo()[name]
    latent = case.latent(FRAMES)
    given = torch.ones_like(latent[:, :1])
    given[:, :, 0] = 0.0
    conds = [case.conditioning(i, FRAMES, **extra) for i in (1, 2)]

    def sample(retain):
        model = apply_windows(zoo.patcher(name), WindowSettings(LENGTH, OVERLAP, retain=retain))
        noise = comfy.sample.prepare_noise(latent, 5)
        return comfy.sample.sample(
            model, noise, 1, 1.0, "euler", "simple", *conds, latent, noise_mask=given if mask else None
        )

    assert sample(()).isfinite().all()
    with pytest.raises(ValueError, match=r"LongTakeWindowScheduler.*retain \(0\).*in the latent.*leave retain empty"):
        sample((0,))


def scheduler(**changes):
    """The node's outputs; without changes, as graphs from before `retain` call it."""
    inputs = LongTakeWindowScheduler.define_schema().inputs[1:]
    widgets = {i.id: i.default for i in inputs if i.id not in ("retain", "latent")}
    widgets |= {"window_length": 17, "overlap": 8} | changes
    return LongTakeWindowScheduler.execute(patcher("wan21_i2v"), **widgets).result


def test_the_nodes_retain_list():
    assert scheduler()[1].retain == scheduler(retain=" ")[1].retain == ()
    assert scheduler(retain="0")[1].retain == (0,) and scheduler(retain="0, 1,-1")[1].retain == (0, 1, -1)
    assert "latent frames 0, -1" in scheduler(retain="0,-1")[2] and "latent frames 0" not in scheduler()[2]


@pytest.mark.parametrize("text", ["first", "0;1", "0.5", "0,", "0 1"])
def test_a_retain_list_that_is_none_is_refused_by_name(text):
    with pytest.raises(ValueError) as refused:
        scheduler(retain=text)
    said = str(refused.value)
    assert "LongTakeWindowScheduler" in said and f"retain ({text})" in said and "e.g. 0" in said
    assert refusal("LongTakeWindowScheduler", retain=text)["details"].endswith(said)


@pytest.mark.parametrize("text", ["5", "0,-6"])
def test_places_that_a_window_does_not_have_are_refused_by_name(text):
    with pytest.raises(ValueError, match=r"LongTakeWindowScheduler.*retain \((5|-6)\).*window of 5 latent.*0 to 4"):
        scheduler(retain=text)
