"""Areas and masks of a prompt under windows: each window has its own frames of them, with the weight that they have
without windows."""

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_video_model import ConditioningSetAreaPercentageVideo
from longtake.samplers.adapters.regions import window_regions
from longtake.samplers.adapters.window import ContextWindow, window_frames
from longtake.samplers.glc.paths import GlobalPath, dilated_windows
from longtake.samplers.windows import Window, WindowSettings, local_windows
from support import tiny_wan, zoo
from support.tiny_wan import run
from support.windows import LENGTH, OVERLAP, coupled, windowed

pytestmark = pytest.mark.usefixtures("one_thread")

F, H, W = 14, 9, 11
VIDEO = torch.zeros(1, 16, F, H, W)


def entry(**region):
    return {"model_conds": {}, "uuid": "u", **region}


def weight(cond, x):
    """What core multiplies a prompt's prediction with, over all of x; 0 where it does not act."""
    whole = torch.zeros_like(x)
    part = comfy.samplers.get_area_and_mult(cond, x, torch.ones(1))
    if part is None:
        return whole
    place = (slice(None), slice(None))
    if part.area is not None:
        sizes, starts = part.area[:3], part.area[3:]
        place += tuple(slice(s, s + n) for n, s in zip(sizes, starts, strict=True))
    whole[place] = part.mult
    return whole


def in_window(cond, frames):
    x = VIDEO[:, :, frames]
    (cut,) = window_regions([cond], frames, VIDEO) or [None]
    return torch.zeros_like(x) if cut is None else weight(cut, x)


WINDOWS = [
    *(list(w.indices) for w in local_windows(WindowSettings(5, 2), F, 0)), [0, *range(3, 8)],
    *(list(w.indices[: w.real]) for w in dilated_windows(F, 5)),
    [*range(8, 14), *range(6)], [13, *range(9)],  # of a closed loop: around its end, and the end in front
]  # fmt: skip
RAMPS = torch.rand(1, F, H, W, generator=torch.Generator().manual_seed(1))
REGIONS = {
    "all of it": {"area": (F, H, W, 0, 0, 0)},
    "second half": {"area": (7, H, W, 7, 0, 0)},
    "a short event": {"area": (3, H, W, 4, 0, 0)},
    "one frame": {"area": (1, H, W, 5, 0, 0)},
    "time and place": {"area": (8, 5, 6, 3, 2, 4), "strength": 0.7},
    "past the end": {"area": (20, H, W, 9, 0, 0)},
    "place alone": {"area": (5, 6, 2, 4)},
    "a mask per frame": {"mask": RAMPS, "mask_strength": 0.5},
    "a still mask": {"mask": RAMPS[:, :1]},
    "a mask and an area in time": {"mask": RAMPS, "area": (6, H, W, 5, 0, 0)},
    "nothing": {"strength": 0.3},
}


@pytest.mark.parametrize("frames", WINDOWS, ids=str)
@pytest.mark.parametrize("name", REGIONS)
def test_a_window_has_its_frames_of_the_whole_videos_weight(name, frames):
    """Against core's own weight of the whole video, cut."""
    cond = entry(**REGIONS[name])
    torch.testing.assert_close(in_window(cond, frames), weight(cond, VIDEO)[:, :, frames])


def test_a_still_mask_as_high_as_the_video_is_long():
    square = torch.zeros(1, 16, 9, 9, 11)
    mask = torch.rand(1, 1, 9, 11)
    model = windowed(tiny_wan.patcher())
    window = ContextWindow(Window(range(2, 7), 5), frames=9, overlap=2)
    (cut,) = model.model_options["context_handler"].get_resized_cond([entry(mask=mask)], square, window)
    assert torch.equal(cut["mask"], mask) and window_frames(window) == list(range(2, 7))


def test_raw_tensors_are_not_cut_along():
    (cut,) = window_regions([entry(concat_latent_image=VIDEO, pooled_output=VIDEO, guidance=3.0)], [1, 2], VIDEO)
    assert "concat_latent_image" not in cut and cut["guidance"] == 3.0


def area_in_time(temporal, z):
    node = ConditioningSetAreaPercentageVideo()
    return node.append(tiny_wan.prompt(3), 1.0, 1.0, temporal, 0.0, 0.0, z, 1.0)[0]


@pytest.mark.parametrize("sampler", [None, "syncos"])
@pytest.mark.parametrize(
    "settings", [{}, {"window_batch": 4}, {"extra_path": GlobalPath(0.3)}, {"first_latent": "anchor"}]
)
@pytest.mark.parametrize("kind", ["time", "mask", "still mask"])
def test_runs_of_every_kind(kind, settings, sampler):
    """A prompt in part of the video changes that part's windows, and those that see none of it not at all."""
    if sampler and "extra_path" in settings:
        return
    mask = torch.zeros(tiny_wan.FRAMES, 4, 4)
    mask[9:] = 1
    extra = {
        "time": lambda: area_in_time(5 / 14, 9 / 14),
        "mask": lambda: tiny_wan.prompt(3, mask=mask, mask_strength=1.0),
        "still mask": lambda: tiny_wan.prompt(3, mask=torch.ones(1, 4, 4), mask_strength=1.0),
    }[kind]()
    model = windowed(tiny_wan.patcher(), **settings)
    how = {"sampler": coupled()} if sampler else {"steps": 1}
    got, plain = (run(model, positive=text, **how) for text in (tiny_wan.prompt(1) + extra, tiny_wan.prompt(1)))
    assert got.isfinite().all() and (got - plain)[:, :, 10:].abs().max() > 1e-3
    if sampler is None and "extra_path" not in settings and kind != "still mask":
        reach = min(s for s in (0, 3, 6, 9) if s + LENGTH > 9)  # the first window that sees frame 9
        assert (got - plain)[:, :, :reach].abs().max() < 1e-5


def test_an_area_over_the_whole_time_is_the_prompt_everywhere():
    model = windowed(tiny_wan.patcher())
    everywhere = run(model, positive=tiny_wan.prompt(1) + tiny_wan.prompt(3), steps=1)
    whole_time = run(model, positive=tiny_wan.prompt(1) + area_in_time(1.0, 0.0), steps=1)
    assert torch.allclose(whole_time, everywhere, atol=1e-5)


def test_the_timelines_events_keep_their_area():
    """A timeline with an area in time on all of its entries."""
    model = windowed(tiny_wan.patcher())
    node = ConditioningSetAreaPercentageVideo()
    timeline = tiny_wan.timeline(tiny_wan.TOTAL, [0, 30])
    part = node.append(timeline, 1.0, 1.0, 0.5, 0.0, 0.0, 0.5, 1.0)[0]
    got = run(model, positive=tiny_wan.prompt(1) + part, steps=1)
    assert got.isfinite().all()
    assert (got - run(model, positive=tiny_wan.prompt(1), steps=1))[:, :, 8:].abs().max() > 1e-3


def test_zoo_still_mask_on_ltx():
    model = zoo.zoo()["ltxv"]
    latent = torch.zeros(1, 128, 6, 6, 4)
    text, options = model.text(3)
    mask = torch.zeros(1, 6, 4)
    mask[:, :, :2] = 1
    positive = model.conditioning(1, 6) + [[text, {**options, "mask": mask, "mask_strength": 1.0}]]
    out = comfy.sample.sample(
        windowed(zoo.patcher("ltxv"), 4, OVERLAP, compression=8), comfy.sample.prepare_noise(latent, 1), 1, 2.0,
        "euler", "simple", positive, model.conditioning(2, 6), latent, disable_pbar=True, seed=1,
    )  # fmt: skip
    assert out.isfinite().all()
