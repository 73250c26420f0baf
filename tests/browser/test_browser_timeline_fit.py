"""One length, events that fit the video, that are used, that come from a link: in a real Chromium on a real ComfyUI."""

import json

import av
import numpy as np
import pytest
from longtake.samplers.prompts.timeline import parse_timeline
from support.browser import run_small
from support.timeline_page import Timeline

pytestmark = pytest.mark.browser

LONG = "0s: a\n6s: b\n12s: c"
SHORT_EVENT = "0s: a\n4s: b\n4.5s: c\n12s: d"
STATIC = (81, 40, "static")
HAVE_LENGTH = """([ids, n]) => ids.every((id) =>
    window.app.graph.getNodeById(id).widgets.find((w) => w.name === "length").value === n)"""


def notice(t, words):
    """The line below the timeline with these words."""
    found = t[".lt-message"].filter(has_text=words)
    found.wait_for(timeout=10_000)
    return found


def gone(t, words):
    t[".lt-message"].filter(has_text=words).wait_for(state="detached", timeout=10_000)


def width(t):
    return t[".lt-total .lt-field"].input_value()


def test_one_length(comfy, renderer):
    """The latent's length is seen live; where the timeline differs a button sets it, or makes it follow."""
    t = Timeline(comfy, events=LONG, length=321, latent=161)
    line = notice(t, "The video has 161 frames (Latent), this timeline 321.")
    line.get_by_text("Set to 161").click()
    t.page.wait_for_function(HAVE_LENGTH, arg=[[1], 161])
    gone(t, "The video has")
    comfy.widget(8, "length", 241)  # the latent's
    line = notice(t, "The video has 241 frames")
    line.get_by_text("Follow the video").click()
    gone(t, "The video has")
    assert comfy.widget(1, "length") == 0
    t.page.wait_for_function("() => document.querySelector('.lt-total span').textContent === '241 frames'")
    assert [b[0] for b in t.shown()] == ["a", "b", "c"]
    comfy.widget(8, "length", 321)
    t.page.wait_for_function("() => document.querySelector('.lt-total span').textContent === '321 frames'")
    assert width(t) == "20.06 s"


@pytest.mark.parametrize(("kind", "step"), [("EmptyHunyuanLatentVideo", 4), ("EmptyLTXVLatentVideo", 8)])
def test_lengths_of_the_model_are_offered_in_seconds_and_frames(comfy, renderer, kind, step):
    t = Timeline(comfy, events="a | b", length=161, latent=161, latent_kind=kind)
    t.settle()
    field = t[".lt-total .lt-field"]
    frames = t[".lt-total datalist option"].evaluate_all("options => options.map((o) => parseInt(o.value))")
    assert len(frames) > 10 and all(n % step == 1 for n in frames)
    assert t[".lt-total datalist option"].nth(4).get_attribute("label") == "81 frames, 5.06 s"
    for typed, wanted in (("5", 81), ("100f", 101 if step == 4 else 97), ("6.1 s", 97)):
        field.fill(typed)
        field.press("Enter")
        t.page.wait_for_function(HAVE_LENGTH, arg=[[1, 8], wanted])
        t.settle()
    field.press("ArrowUp")
    t.page.wait_for_function(HAVE_LENGTH, arg=[[8], 97 + step])
    field.fill("long")
    field.press("Enter")
    assert width(t) == t.page.evaluate("fps => `${Math.round(100 * window.app.graph.getNodeById(1).widgets.find("
                                       "(w) => w.name === 'length').value / fps) / 100} s`", 16)  # fmt: skip


@pytest.mark.parametrize(("way", "expected"), [("Cut off", "0s: a\n6s: b"), ("Scale", "0s: a\n3s: b\n6s: c")])
def test_a_shorter_video_loses_no_event(comfy, renderer, way, expected):
    t = Timeline(comfy, events=LONG, length=321)
    t.settle()
    comfy.widget(1, "length", 161)
    line = notice(t, "past the end")
    assert [text for text, *_ in t.shown()] == ["a", "b"] and t.text() == LONG  # shown, and nothing lost
    comfy.widget(1, "length", 321)  # and back
    t.settle()
    comfy.widget(1, "length", 161)
    line.get_by_text(way).click()
    t.wait_for(expected)
    t.settle()
    t.page.evaluate("() => window.app.canvas.canvas.focus()")
    t.comfy.undo()
    t.wait_for(LONG)
    notice(t, "past the end").get_by_text("Cut off").wait_for()


def test_other_fps_lose_no_event(comfy, renderer):
    t = Timeline(comfy, events="[0-6s] a\n[6-12s] b\n[12-20s] c", length=321)
    t.settle()
    comfy.widget(1, "fps", 24)
    line = notice(t, "past the end")
    assert [text for text, *_ in t.shown()] == ["a", "b", "c"]
    line.get_by_text("Scale").click()
    t.wait_for("[0-4s] a\n[4-8s] b\n[8-13.33s] c")
    t.settle()
    comfy.errors[:] = [e for e in comfy.errors if "400 (Bad Request)" not in e]


def used(t):
    """Whether every event has a window, by the page."""
    t.page.wait_for_function("() => !document.querySelector('.lt-unused')", timeout=10_000)
    gone(t, "unused")


@pytest.mark.parametrize("way", ["Time by frame", "Shorter windows", "Lengthen event 2"])
def test_unused_events_are_hatched_and_a_button_helps(comfy, renderer, way):
    t = Timeline(comfy, events=SHORT_EVENT, length=321, windows=STATIC)
    line = notice(t, "No window has its centre in event 2: unused.")
    hatched = "() => [...document.querySelectorAll('.lt-block')].map((b) => b.classList.contains('lt-unused'))"
    assert t.page.evaluate(hatched) == [False, True, False, False]
    assert "repeating-linear-gradient" in t.block(1).evaluate("e => getComputedStyle(e).backgroundImage")
    assert line.locator("button").count() == 3
    line.get_by_text(way).click()
    used(t)
    if way == "Time by frame":
        assert comfy.widget(1, "timing") == "frame"
    elif way == "Shorter windows":
        assert 40 < comfy.widget(9, "window_length") < 81 and comfy.widget(9, "overlap") < 40
    else:
        event = parse_timeline(t.text(), 321, 16)[1]
        assert event.end - event.start > 8 and comfy.widget(9, "window_length") == 81
    t.settle()


def test_a_moving_window_hatches_nothing(comfy, renderer):
    t = Timeline(comfy, events=SHORT_EVENT, length=321, windows=(81, 40, "random_shift"))
    t.page.wait_for_selector(".lt-windows[aria-label*='shifted anew']")
    assert t[".lt-unused"].count() == 0


STORY = ["bouncing on a navy background", "circling on a navy background", "circling on a pink background",
         "pulsing on a pink background"]  # fmt: skip


def ids(comfy):
    return comfy.page.evaluate("() => Object.fromEntries(window.app.graph._nodes.map((n) => [n.type, n.id]))")


def blocks(comfy, wanted):
    comfy.page.wait_for_function(
        "wanted => JSON.stringify([...document.querySelectorAll('.lt-block .lt-text')].map((e) => e.textContent)) === "
        "JSON.stringify(wanted)", arg=wanted, timeout=10_000,
    )  # fmt: skip


def test_a_structured_prompt_is_shown_and_can_be_taken(comfy, renderer):
    """Before any run: what its answer will give. The button cuts the links and keeps the texts."""
    comfy.load("syncos_four")
    timeline = ids(comfy)["LongTakePromptTimeline"]
    comfy.focus(timeline)
    blocks(comfy, STORY)
    page = comfy.page
    assert page.locator(".lt-global").inner_text() == "a green circle" and page.locator("button.lt-add").is_disabled()
    reply = "Global: a red ring\n1. spinning\n2. still"
    comfy.widget(ids(comfy)["LongTakeStructuredPrompt"], "reply", reply)
    blocks(comfy, ["spinning", "still"])
    page.locator(".lt-message", has_text="as its node gives them").get_by_text("Put into this timeline").click()
    page.wait_for_selector(".lt-message", state="detached")
    assert page.locator("button.lt-add").is_enabled()
    inputs = comfy.prompt()[str(timeline)]["inputs"]
    assert inputs["global_prompt"] == "a red ring"
    assert json.loads(inputs["events"]) == {"0%": "spinning", "50%": "still"}


def test_other_links_show_what_the_last_run_used(comfy, renderer):
    comfy.load("timeline")
    timeline = ids(comfy)["LongTakePromptTimeline"]
    comfy.page.evaluate(
        """id => {
            const { graph } = window.app, node = window.LiteGraph.createNode("StringConcatenate");
            graph.add(node);
            ["bouncing", "circling", " | "].forEach((value, i) => { node.widgets[i].value = value; });
            const timeline = graph.getNodeById(id);
            node.connect(0, timeline, timeline.inputs.findIndex((input) => input.name === "events"));
        }""",
        timeline,
    )
    comfy.focus(timeline)
    comfy.page.wait_for_selector(".lt-message >> text=read when the graph runs")
    run_small(comfy, seed=40 + (renderer == "vue"))
    blocks(comfy, ["bouncing", "circling"])
    comfy.page.locator(".lt-message", has_text="as the last run used them").wait_for()
    saved = comfy.serialized()
    comfy.load(saved)  # kept with the graph
    blocks(comfy, ["bouncing", "circling"])
    (node,) = [node for node in saved["nodes"] if str(node["id"]) == str(timeline)]  # texts in newer pages
    del node["properties"]["longtake_ran"]
    comfy.load(saved)
    comfy.focus(timeline)
    comfy.page.wait_for_selector(".lt-message >> text=read when the graph runs")
    run_small(comfy, seed=42 + (renderer == "vue"))  # the timeline does not run again: nothing of it changed
    blocks(comfy, ["bouncing", "circling"])
    comfy.focus(timeline)
    comfy.page.get_by_text("Put into this timeline").click()
    comfy.page.wait_for_selector(".lt-message", state="detached")
    assert comfy.prompt()[str(timeline)]["inputs"]["events"] == "bouncing | circling"


def test_length_0_runs_over_the_sampled_video(comfy, renderer):
    """In a graph: the same video, bit for bit, as with its length; and the page shows it before."""
    def video(length):
        comfy.load("timeline")
        node = ids(comfy)["LongTakePromptTimeline"]
        run = {"seed": 50, "steps": 2, "fps": 4, "events": "bouncing | circling | pulsing"}
        comfy.set_all({**run, "length": 97})
        comfy.widget(node, "length", length)
        comfy.focus(node)
        comfy.page.wait_for_function("() => document.querySelector('.lt-total span').textContent === '97 frames'")
        comfy.queue()
        entry = comfy.wait_idle()
        assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
        (path,) = comfy.server.files(entry)
        with av.open(path) as container:
            return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])

    follows, own = video(0), video(97)
    assert follows.shape == own.shape and len(own) == 97
    assert np.array_equal(follows, own)


def test_the_scheduler_tells_another_length(comfy, renderer):
    comfy.load("timeline")
    scheduler, latent = (ids(comfy)[name] for name in ("LongTakeWindowScheduler", "EmptyHunyuanLatentVideo"))
    changed = "() => window.comfyAPI.api.api.dispatchCustomEvent('graphChanged', window.app.graph.serialize())"
    line = comfy.page.locator(".longtake-length")
    comfy.widget(latent, "length", 161)
    comfy.widget(scheduler, "length", 97)
    comfy.focus(scheduler)
    line.wait_for()
    assert "161 frames" in line.inner_text() and "length says 97" in line.inner_text()
    line.get_by_text("Set to 161").click()
    line.wait_for(state="detached")
    assert comfy.widget(scheduler, "length") == 161
    comfy.widget(latent, "length", 97)
    comfy.page.evaluate(changed)
    line.wait_for()
    comfy.widget(scheduler, "length", 0)  # the chart takes the video's
    line.wait_for(state="detached")


def test_the_timelines_length_is_the_schedulers(comfy, renderer):
    """A scheduler that said the video's length for its chart goes on with it; one that said another keeps its own."""
    comfy.load("timeline")
    found = ids(comfy)
    timeline, scheduler, latent = all_three = [
        found[name] for name in ("LongTakePromptTimeline", "LongTakeWindowScheduler", "EmptyHunyuanLatentVideo")
    ]
    comfy.focus(timeline)
    field = comfy.page.locator(".lt-total .lt-field")
    field.fill("10")
    field.press("Enter")
    comfy.page.wait_for_function(HAVE_LENGTH, arg=[all_three, 161])
    comfy.page.wait_for_timeout(500)
    comfy.command("Comfy.Undo")  # one step
    comfy.page.wait_for_function(HAVE_LENGTH, arg=[all_three, 293])
    for own in (145, 0):
        comfy.widget(scheduler, "length", own)
        field.fill("20")
        field.press("Enter")
        comfy.page.wait_for_function(HAVE_LENGTH, arg=[[latent], 321])
        assert comfy.widget(scheduler, "length") == own
        field.fill("10")
        field.press("Enter")
        comfy.page.wait_for_function(HAVE_LENGTH, arg=[[latent], 161])
        assert comfy.widget(scheduler, "length") == own
