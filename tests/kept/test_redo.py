"""Redo Span and Continue Video: what is kept is kept bit for bit, windows see it, only what is needed is sampled."""

import pytest
import torch
from longtake.nodes.redo import LongTakeContinue, LongTakeRedoSpan
from longtake.samplers.adapters.engine import apply_windows
from longtake.samplers.prompts.follow import following
from longtake.samplers.prompts.timeline import Span
from longtake.samplers.redo import latent_span, mask_over_time
from longtake.samplers.windows import WindowSettings
from support.kept_runs import EVERY, SEED, cut_off, output, sample, wan  # noqa: F401
from support.tiny_wan import prompt, record, timeline
from support.windows import windowed

pytestmark = pytest.mark.usefixtures("one_thread")
FRAMES, C = 14, 4
TOTAL = C * (FRAMES - 1) + 1


@pytest.fixture(scope="module")
def model():
    return wan()


@pytest.fixture(scope="module")
def video(model):
    return sample(windowed(model), frames=FRAMES)


def redo(latent, **values):
    widgets = {"by": "frames", "event": 1, "start": 0.0, "end": 4.0, "fps": 16.0, "compression": C, "pull": 0.0}
    widgets |= values
    return LongTakeRedoSpan.execute({"samples": latent}, **widgets).args


def sampled(model, masked, **kwargs):
    return sample(model, start=masked["samples"], mask=masked["noise_mask"], **kwargs)


@pytest.mark.parametrize("sampler", ["euler", "dpmpp_2m", "uni_pc", "euler_ancestral", "ddim"])
def test_outside_of_the_span_nothing_changes_at_all(model, video, sampler):
    masked, report = redo(video, start=17.0, end=33.0)
    assert report == "pixel frames 17 to 32 of 53 are made (latent 5 to 8)"
    again = sampled(windowed(model, schedule="random_shift"), masked, sampler=sampler, seed=SEED + 1)
    kept = [i for i in range(FRAMES) if not 5 <= i < 9]
    assert torch.equal(again[:, :, kept], video[:, :, kept])
    assert all(not torch.allclose(again[:, :, i], video[:, :, i], atol=0.1) for i in range(5, 9))


def test_windows_over_the_border_see_what_is_kept_at_every_step(model, video):
    """Another video outside of the span makes another one inside."""
    masked, _ = redo(video, start=17.0, end=33.0)
    one = sampled(windowed(model), masked)
    other = {**masked, "samples": masked["samples"].clone()}
    other["samples"][:, :, 3] += 1
    assert (sampled(windowed(model), other) - one)[:, :, 5].abs().max() > 1e-4


def test_only_windows_that_touch_the_span_are_sampled(model, video):
    masked, _ = redo(video, start=17.0, end=33.0)
    starts = []
    for mask in (masked["noise_mask"], torch.ones_like(masked["noise_mask"])):
        recorded, calls = record(windowed(model, overlap=1))
        sampled(recorded, {**masked, "noise_mask": mask})
        starts.append(sorted({note["windows"][0][0] for _, note, _, _ in calls}))
    assert starts == [[4, 8], [0, 4, 8, 9]]


def test_the_windows_left_out_change_nothing(model, video, monkeypatch):
    from longtake.samplers.adapters import steps

    masked, _ = redo(video, start=17.0, end=33.0)
    one = sampled(windowed(model), masked)
    monkeypatch.setattr(steps, "made_frames", lambda mask: None)
    assert torch.equal(sampled(windowed(model), masked), one)


def test_a_redone_span_resumes_too(model, video, output):  # noqa: F811
    masked, _ = redo(video, start=17.0, end=33.0)
    how = {"start": masked["samples"], "mask": masked["noise_mask"]}
    whole = sample(windowed(model), "dpmpp_2m", **how)
    cut_off(windowed(model), "dpmpp_2m", 9, settings=EVERY, **how)
    assert torch.equal(sample(windowed(model), "dpmpp_2m", settings=EVERY, **how), whole)


def test_pull_leans_on_the_old_video_at_the_borders_and_outside_nothing_changes(model, video):
    hard, _ = redo(video, start=9.0, end=41.0)
    soft, _ = redo(video, start=9.0, end=41.0, pull=0.5)
    assert hard["noise_mask"][0, 0, :, 0, 0].tolist() == [0.0] * 3 + [1.0] * 8 + [0.0] * 3
    expected = torch.tensor([0.5, 0.9, 1.0, 1.0, 1.0, 1.0, 0.9, 0.5])
    assert torch.allclose(soft["noise_mask"][0, 0, 3:11, 0, 0], expected)
    one, other = (sampled(windowed(model), mask, seed=SEED + 1) for mask in (hard, soft))
    kept = [i for i in range(FRAMES) if not 3 <= i < 11]
    assert torch.equal(other[:, :, kept], video[:, :, kept])
    for i in (3, 10):  # nearer to what was there than without
        assert (other - video)[:, :, i].norm() < 0.5 * (one - video)[:, :, i].norm()


def test_the_videos_own_ends_are_not_pulled(video):
    ends = {(0.0, 9.0): [1.0, 0.9, 0.5], (41.0, 53.0): [0.5, 0.9, 1.0], (0.0, 53.0): [1.0] * FRAMES}
    for (start, end), weights in ends.items():
        masked, _ = redo(video, start=start, end=end, pull=0.5)
        made = masked["noise_mask"][0, 0, :, 0, 0]
        assert torch.allclose(made[made > 0], torch.tensor(weights))


def test_an_arrival_is_made_behind_the_span_and_comes_back_to_the_old_video(model, video):
    masked, report = redo(video, start=9.0, end=25.0, pull=0.5, arrive=16)
    assert report == (
        "pixel frames 9 to 40 of 53 are made (latent 3 to 10); those from 25 on come back to the old video"
    )
    expected = [0.0] * 3 + [0.5, 0.9, 1.0, 1.0] + [1 - 0.65 / 2**n for n in (3, 2, 1, 0)] + [0.0] * 3
    assert torch.allclose(masked["noise_mask"][0, 0, :, 0, 0], torch.tensor(expected))
    hard = {**masked, "noise_mask": (masked["noise_mask"] > 0).float()}
    one, other = (sampled(windowed(model), mask, seed=SEED + 1) for mask in (hard, masked))
    kept = [i for i in range(FRAMES) if not 3 <= i < 11]
    assert torch.equal(other[:, :, kept], video[:, :, kept])
    far = [float((other - video)[:, :, i].norm() / (one - video)[:, :, i].norm()) for i in (7, 8, 9, 10)]
    assert far == sorted(far, reverse=True) and far[-1] < 0.5


@pytest.mark.parametrize(("arrive", "made"), [(0, "41 to 44"), (1, "41 to 48"), (4, "41 to 48"), (400, "41 to 48")])
def test_an_arrival_leaves_the_videos_last_frame_to_come_back_to(video, arrive, made):
    masked, report = redo(video, start=41.0, end=45.0, arrive=arrive)
    assert f"frames {made} of 53" in report
    made = masked["noise_mask"][0, 0, 11:, 0, 0]
    assert made.tolist() == [1, pytest.approx(0.35) if arrive else 0, 0]
    assert ("come back" in report) == bool(arrive)
    near, _ = redo(video, start=45.0, end=49.0, pull=0.5, arrive=400)  # no frame is left for it
    assert torch.equal(near["noise_mask"], redo(video, start=45.0, end=49.0, pull=0.5)[0]["noise_mask"])


@pytest.mark.parametrize("frames", range(1, 9))
def test_an_arrival_of_any_length_comes_back_step_by_step(frames):
    mask = mask_over_time(torch.zeros(1, 16, 20, 1, 1), range(5, 7), 0.5, frames).flatten()
    assert torch.allclose(mask[4:7], torch.tensor([0.0, 0.5, 0.9]))
    shares = 1 - mask[7 : 7 + frames]
    assert shares[-1] == pytest.approx(0.65) and (shares > 0.08).all() and mask[7 + frames] == 0
    assert (shares.diff() > 0).all()


def test_an_arrival_without_a_pull_and_a_span_that_ends_the_video(video):
    masked, _ = redo(video, start=41.0, end=53.0, pull=0.5, arrive=16)
    assert torch.equal(masked["noise_mask"], redo(video, start=41.0, end=53.0, pull=0.5)[0]["noise_mask"])
    masked, _ = redo(video, start=9.0, end=25.0, arrive=4)
    assert masked["noise_mask"][0, 0, 3:8, 0, 0].tolist() == [1, 1, 1, 1, pytest.approx(0.35)]


def test_a_pull_that_leaves_nothing_to_make_is_refused(video):
    words = r"Redo Span \(LongTakeRedoSpan\): pull \(1.0\): nothing is made of a span of 2"
    with pytest.raises(ValueError, match=words):
        redo(video, start=9.0, end=17.0, pull=1.0)
    with pytest.raises(ValueError, match="nothing is made of a span of 1"):
        redo(video, start=9.0, end=13.0, pull=1.0, arrive=16)
    masked, _ = redo(video, start=9.0, end=21.0, pull=1.0)
    assert masked["noise_mask"][0, 0, :, 0, 0].tolist() == [0.0] * 4 + [pytest.approx(0.8)] + [0.0] * 9


def test_an_event_is_the_timelines(video):
    positive = timeline(TOTAL, [0, 21, 37])
    masked, report = redo(video, by="event", event=2, positive=positive)
    assert report == "pixel frames 21 to 36 of 53 are made (latent 6 to 9)"
    assert masked["noise_mask"][0, 0, :, 0, 0].tolist() == [0.0] * 6 + [1.0] * 4 + [0.0] * 4
    assert redo(video, by="seconds", start=1.3, end=2.3)[1] == redo(video, start=20.8, end=36.8)[1]


@pytest.mark.parametrize(("values", "words"), [
    ({"by": "event"}, "by (event): needs a Prompt Timeline"),
    ({"by": "event", "event": 4, "positive": timeline(TOTAL, [0, 21])}, "event (4): the timeline at positive has 2"),
    ({"by": "event", "positive": timeline(97, [0, 21])}, "the latent has 53 pixel frames, the timeline at positive 97"),
    ({"start": 60.0, "end": 70.0}, "from pixel frame 60 to 53 is not within a video of 53"),
    ({"start": 9.0, "end": 9.0}, "from pixel frame 9 to 9 is not within"),
    ({"start": float("nan")}, "start"), ({"arrive": 2000}, "arrive (2000)"),
    ({"compression": 0}, "compression (0)"),
])  # fmt: skip
def test_a_span_that_is_none_is_refused_by_name(video, values, words):
    with pytest.raises(ValueError, match="^Redo Span") as caught:
        redo(video, **values)
    assert words in str(caught.value)


def test_a_span_has_the_frames_whose_middle_lies_in_it():
    assert latent_span(0, 1, FRAMES, C) == range(0, 1)
    assert latent_span(0, 3, FRAMES, C) == range(0, 2)
    assert latent_span(1, 2, FRAMES, C) == range(1, 2)  # none lies in it: the nearest
    assert latent_span(0, TOTAL, FRAMES, C) == range(0, FRAMES)
    assert latent_span(52, 1e6, FRAMES, C) == range(13, 14)


def test_continued_twice_the_first_part_is_the_first_part(model, video):
    windows, parts = windowed(model), [video]
    for seed in (21, 22):
        masked, _, report = LongTakeContinue.execute({"samples": parts[-1]}, 20, C).args
        assert masked["samples"].shape[2] == parts[-1].shape[2] + 5
        parts.append(sampled(windows, masked, seed=seed))
    assert report == "pixel frames 73 to 92 of 93 are made (latent 19 to 23)"
    assert torch.equal(parts[2][:, :, :14], video) and torch.equal(parts[2][:, :, :19], parts[1])
    assert all(parts[2][:, :, i].std() > 0.1 for i in range(14, 24))  # no frame was left empty


def test_a_timeline_of_the_new_part_is_moved_behind_the_old_one(video):
    masked, moved, _ = LongTakeContinue.execute({"samples": video}, 20, C, timeline(21, [0, 9])).args
    spans = [entry[1]["longtake_span"] for entry in moved]
    assert spans == [None, Span(0, 0, 62, 0.0, 73), Span(1, 62, 73, 0.0, 73)]
    whole = timeline(73, [0, 9])
    assert LongTakeContinue.execute({"samples": video}, 20, C, whole).args[1] is whole
    plain = prompt(3)
    assert LongTakeContinue.execute({"samples": video}, 20, C, plain).args[1] is plain


def test_a_timeline_of_length_0_is_laid_out_over_the_video(video):
    entries = prompt(1, longtake_span=None)
    for span in following("0f: a\n21f: b\n37f: c", 16.0, 0, "window", "linear")[1]:
        entries += prompt(10 + span.index, longtake_span=span)
    assert redo(video, by="event", event=2, positive=entries)[1].startswith("pixel frames 21 to 36 of 53")
    assert redo(video, by="event", event=3, positive=entries)[1].startswith("pixel frames 37 to 52 of 53")
    assert LongTakeContinue.execute({"samples": video}, 20, C, entries).args[1] is entries


@pytest.mark.parametrize(("values", "words"), [
    ({"frames": 3}, "frames (3): is less than one latent frame; at least 4"),
    ({"frames": 20, "positive": timeline(97, [0, 9])},
     "the timeline has 97 pixel frames; give it the length of the new part (20) or of the whole video (73)"),
    ({"frames": 0}, "frames (0)"),
])  # fmt: skip
def test_a_video_that_cannot_be_continued_is_refused_by_name(video, values, words):
    with pytest.raises(ValueError, match="^Continue Video") as caught:
        LongTakeContinue.execute({"samples": video}, **{"compression": C, **values})
    assert words in str(caught.value)
    with pytest.raises(ValueError, match=r"Redo Span.*samples: is \(1, 4, 8, 8\)"):
        redo(torch.zeros(1, 4, 8, 8))


def test_a_mask_that_keeps_nothing_or_everything_leaves_the_windows(model, video):
    start = {"samples": video, "noise_mask": torch.zeros(1, 1, FRAMES, 4, 4)}
    assert torch.equal(sampled(windowed(model), start), video)
    start["noise_mask"] += 1
    assert torch.isfinite(sampled(apply_windows(model, WindowSettings(5, 2)), start)).all()
