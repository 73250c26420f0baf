"""Video inputs made once for all prompts of a run: how many tensors there are, at what results, and what stays."""

import gc
import itertools
import weakref

import comfy.conds
import comfy.model_management
import comfy.sample
import pytest
import torch
from comfy.patcher_extension import WrappersMP
from longtake.samplers.adapters.shared_conds import KEY, same_inputs, share_video, shareable
from longtake.samplers.prompts.timeline import Span
from support import windows, zoo

pytestmark = pytest.mark.usefixtures("one_thread")

FRAMES, EVENTS = 14, 10
TOTAL = 4 * (FRAMES - 1) + 1  # pixel frames
VIDEO = {"wan21_i2v": "c_concat", "wan21_vace": "vace_context"}
both = pytest.mark.parametrize("name", list(VIDEO))


def text(seed):
    return zoo.randn(1, 12, 4096, seed=seed)


def prompts(name, **changes):
    """A timeline's conditioning and a negative prompt, as an image node behind both writes them: the same objects in
    all entries. changes: what event 3 has of its own."""
    video = zoo.zoo()[name].video(FRAMES, 8)
    positive = [[text(1), {**video, "longtake_span": None}]]
    for i in range(EVENTS):
        span = Span(i, TOTAL * i // EVENTS, TOTAL * (i + 1) // EVENTS, 4, TOTAL)
        own = changes if i == 3 else {}
        event = {"start_percent": 1.0, "end_percent": 0.0, "longtake_span": span}
        positive.append([text(10 + i), {**video, **event, **own}])
    return positive, [[text(2), dict(video)]]


def windowed(name, shares=True):
    model = windows.windowed(zoo.patcher(name), window_batch=2)
    share_video(model)
    if not shares:
        model.remove_wrappers_with_key(WrappersMP.PREPARE_SAMPLING, KEY)
    return model


def run(model, positive, negative, look=None, callback=None):
    """The latents; look(conds) sees what core has made of the prompts."""
    model = model.clone()
    if look is not None:

        def spy(executor, guider, *args, **kwargs):
            look(guider.conds)
            return executor(guider, *args, **kwargs)

        model.add_wrapper_with_key(WrappersMP.SAMPLER_SAMPLE, "test", spy)
    latent = torch.zeros(1, 16, FRAMES, 8, 8)
    return comfy.sample.sample(
        model, comfy.sample.prepare_noise(latent, 5), 2, 2.0, "euler", "simple", positive, negative, latent,
        disable_pbar=True, seed=5, callback=callback,
    )  # fmt: skip


def tensors(conds, name):
    return [e["model_conds"][VIDEO[name]].cond for entries in conds.values() for e in entries]


def counted(name, shares, **changes):
    """(latents, different whole-video tensors)."""
    found = []

    def look(conds):
        found.append(len({t.untyped_storage().data_ptr() for t in tensors(conds, name)}))

    latents = run(windowed(name, shares), *prompts(name, **changes), look)
    return latents, found[0]


@both
def test_a_timeline_has_one_video_tensor(name):
    before, many = counted(name, False)
    after, one = counted(name, True)
    assert (many, one) == (EVENTS + 2, 1)
    assert torch.equal(before, after)


@both
def test_while_they_are_made_one_more_lives(name):
    """The peak, not only what is left: counted each time that the model has made an entry's inputs."""
    model, made, most = windowed(name), [], []
    original = model.model.extra_conds

    def spy(**kwargs):
        out = original(**kwargs)
        made.append(weakref.ref(out[VIDEO[name]].cond))
        most.append(sum(ref() is not None for ref in made))
        return out

    model.add_object_patch("extra_conds", spy)
    gc.disable()
    try:
        run(model, *prompts(name))
    finally:
        gc.enable()
        model.unpatch_model()
        del model.model.extra_conds
    assert len(most) == EVENTS + 2 and max(most) == 2


def new_objects(name, frames=FRAMES):
    """The same video inputs, in other objects."""
    return {k: v for k, v in zoo.zoo()[name].video(frames, 8).items() if k != "clip_vision_output"}


def other_video(name):
    if name == "wan21_vace":
        return {"vace_frames": [zoo.randn(1, 32, FRAMES, 8, 8, seed=99)]}
    return {"concat_latent_image": zoo.randn(1, 16, FRAMES, 8, 8, seed=99)}


@both
def test_an_event_with_a_video_of_its_own_keeps_it(name):
    (before, many), (after, two) = (counted(name, shares, **other_video(name)) for shares in (False, True))
    assert (many, two) == (EVENTS + 2, 2) and torch.equal(before, after)
    assert not torch.equal(after, counted(name, True)[0])


@both
def test_equal_values_in_other_objects_are_not_compared(name):
    (before, _), (after, two) = (counted(name, shares, **new_objects(name)) for shares in (False, True))
    assert two == 2 and torch.equal(before, after)


@pytest.mark.parametrize("changes", [
    {"area": (8, 4, 0, 4)}, {"mask": torch.ones(1, 8, 8).tril()}, {"strength": 0.5}, {"concat_mask_index": 16},
])  # fmt: skip
def test_entries_that_differ_in_more_than_text(changes):
    (before, _), (after, count) = (counted("wan21_i2v", shares, **changes) for shares in (False, True))
    assert count == 2 and torch.equal(before, after)


def test_lists_are_the_same_if_what_they_hold_is():
    """Nodes that append to a prompt's list make a new list for each entry."""
    frames, mask = torch.zeros(1, 32, 5, 8, 8), torch.zeros(1, 64, 5, 8, 8)
    entry = {"vace_frames": [frames], "vace_mask": [mask], "vace_strength": [0.8], "cross_attn": 1}
    assert same_inputs(entry, {"vace_frames": [frames], "vace_mask": [mask], "vace_strength": [0.8], "cross_attn": 2})
    for change in (
        {"vace_frames": [frames.clone()]}, {"vace_frames": [frames, frames]}, {"vace_frames": (frames,)},
        {"vace_strength": [0.5]}, {"vace_strength": [float("nan")]}, {"width": 8},
    ):  # fmt: skip
        assert not same_inputs(entry, {**entry, **change})
    assert not same_inputs(entry, {k: v for k, v in entry.items() if k != "vace_mask"})
    assert not same_inputs({**entry, "flag": 1}, {**entry, "flag": True})


def test_what_is_not_video_is_left_to_each_entry():
    """Text, constants, and video of another shape, type or kind; and all that is set after core has been there."""
    image = object()
    raw = {"positive": [{"model_conds": {"old": 1}, "image": image, "cross_attn": i} for i in range(2)]}
    first, second = (entry["model_conds"].copy() for entry in shareable(raw)["positive"])
    assert first == {"old": 1} and raw["positive"][0]["model_conds"] == {"old": 1}

    first, second = (entry["model_conds"] for entry in shareable(raw)["positive"])
    values = [
        ("text", comfy.conds.CONDRegular, (1, 12, 4096)), ("layers", comfy.conds.CONDRegular, (1, 2, 12, 8)),
        ("video", comfy.conds.CONDNoiseShape, (1, 4, 5, 8, 8)),
        ("context", comfy.conds.CONDRegular, (1, 1, 4, 5, 8, 8)),
    ]  # fmt: skip
    first = first.copy()
    for key, kind, shape in values:
        first[key] = kind(torch.zeros(shape))
    first["number"], first["list"] = comfy.conds.CONDConstant(3), comfy.conds.CONDList([torch.zeros(1, 4, 5, 8, 8)])
    second = second.copy()
    for key, kind, shape in values:
        second[key] = kind(torch.ones(shape))
    second["list"] = comfy.conds.CONDList([torch.ones(1, 4, 5, 8, 8)])
    assert [k for k in second if k != "old" and second[k].cond is first[k].cond] == ["video", "context", "list"]
    second["video"] = late = comfy.conds.CONDNoiseShape(torch.ones(1, 4, 5, 8, 8))
    first["more"] = comfy.conds.CONDNoiseShape(torch.ones(1, 4, 5, 8, 8))
    assert second["video"] is late and type(second.copy()) is dict

    for other in (
        comfy.conds.CONDNoiseShape(torch.ones(1, 4, 6, 8, 8)), comfy.conds.CONDRegular(torch.ones(1, 4, 5, 8, 8)),
        comfy.conds.CONDNoiseShape(torch.ones(1, 4, 5, 8, 8, dtype=torch.half)),
    ):  # fmt: skip
        first, second = (entry["model_conds"] for entry in shareable(raw)["positive"])
        first = first.copy()
        first["video"] = comfy.conds.CONDNoiseShape(torch.zeros(1, 4, 5, 8, 8))
        second = second.copy()
        second["video"] = other
        assert second["video"] is other and first["video"].cond is not other.cond


@both
@pytest.mark.parametrize("fails", [False, True])
def test_nothing_is_left_of_a_run(name, fails):
    """Neither in the MODEL nor in memory, whatever Python's collector does."""
    model = windowed(name)
    before, attributes = run(model, *prompts(name)), set(vars(model.model))
    options = {k: dict(v) for k, v in model.wrappers.items()}
    left, (positive, negative) = [], prompts(name)
    raw = [dict(entry[1]) for entry in itertools.chain(positive, negative)]

    def cancel(step, x0, x, total):
        if fails:
            raise comfy.model_management.InterruptProcessingException()

    def sample():
        try:
            run(model, positive, negative, lambda conds: left.extend(map(weakref.ref, tensors(conds, name))), cancel)
        except comfy.model_management.InterruptProcessingException:
            assert fails

    gc.collect()
    gc.disable()
    try:
        sample()
        assert left and all(ref() is None for ref in left)
    finally:
        gc.enable()
    assert set(vars(model.model)) == attributes and {k: dict(v) for k, v in model.wrappers.items()} == options
    assert all(a.keys() == b[1].keys() for a, b in zip(raw, itertools.chain(positive, negative), strict=True))
    assert torch.equal(run(model, positive, negative), before)
