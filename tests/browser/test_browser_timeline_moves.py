"""The daily moves in the timeline, by button, menu and key, in a real Chromium on a real ComfyUI."""

import pytest
from longtake.samplers.prompts.timeline import parse_timeline
from support.timeline_page import FPS, LENGTH, LINES, Timeline

pytestmark = pytest.mark.browser


def brief(t):
    return [(e.text, e.start, e.end) for e in parse_timeline(t.text(), LENGTH, FPS)]


def starts(t, wanted):
    """Wait for the first frames of the events."""
    for _ in range(60):
        if [start for _, start, _ in brief(t)] == wanted:
            return
        t.page.wait_for_timeout(100)
    assert [start for _, start, _ in brief(t)] == wanted


def test_add_appends_behind_the_selected_event(comfy, renderer):
    """The events before it keep their times, those behind make room; nothing is halved."""
    t = Timeline(comfy)
    t.settle()
    t.block(1).click()
    t["button.lt-add"].click()
    t.until("text.includes('new prompt')")
    t.settle()
    assert brief(t) == [("a lighthouse at dawn", 0, 96), ("storm clouds gather", 96, 192), ("new prompt", 192, 243),
                        ("sunset", 243, 293)]  # fmt: skip
    assert t["textarea"].input_value() == "new prompt"
    t.block(3).click()
    t["button.lt-duplicate"].click()
    t.until("text.split('sunset').length === 3")
    t.settle()
    assert [text for text, *_ in brief(t)][-2:] == ["sunset", "sunset"]
    assert min(end - start for _, start, end in brief(t)) > 30  # the last one makes room with all before it


def test_duration(comfy, renderer):
    t = Timeline(comfy)
    t.settle()
    t.block(1).click()
    field = t[".lt-info .lt-field"]
    assert field.input_value() == "6 s"
    field.fill("3")
    field.press("Enter")
    starts(t, [0, 96, 144])
    t.settle()
    t.page.keyboard.press("t")  # the block has the focus again
    t.page.keyboard.type("40f")
    t.page.keyboard.press("Tab")
    starts(t, [0, 96, 136])
    t.settle()
    field.fill("nonsense")
    field.press("Enter")
    assert field.input_value() == "2.5 s"
    field.fill("9")
    field.press("Escape")
    t.page.wait_for_timeout(300)
    assert field.input_value() == "2.5 s" and [s for _, s, _ in brief(t)] == [0, 96, 136]
    t.block(2).click()
    field.fill("1:40")  # longer than the video: all others keep a frame
    field.press("Enter")
    starts(t, [0, 1, 2])


def test_menu(comfy, renderer):
    """A right click on an event, or a key: everything, with its key; what can do nothing is disabled."""
    t = Timeline(comfy)
    t.settle()
    t.block(2).click(button="right")
    menu = t.page.locator(".longtake-menu")
    menu.wait_for()
    rows = menu.locator("button").evaluate_all("items => items.map((i) => [i.innerText.split('\\n'), i.disabled])")
    assert [[text.strip() for text in row] for row, _ in rows] == [
        ["Add an event after this one", "Insert"], ["Duplicate the event", "D"], ["Split the event", "S"],
        ["Set the duration", "T"], ["Edit the prompt", "Enter"], ["Delete the event", "Delete"],
        ["Move the event earlier", "Ctrl+Left"], ["Move the event later", "Ctrl+Right"],
        ["Give all events the same duration", "E"], ["Redo this event", "no sampler gets its prompts"],
    ]  # fmt: skip
    assert [row[0].strip() for row, off in rows if off] == ["Move the event later", "Redo this event"]
    menu.locator(".lt-duplicate").click()
    menu.wait_for(state="detached")
    t.until("text.split('sunset').length === 3")
    t.settle()
    t.page.keyboard.press("Shift+F10")
    menu.wait_for()
    for key in ("End", "ArrowUp", "Escape"):
        t.page.keyboard.press(key)
    menu.wait_for(state="detached")
    t.page.keyboard.press("Shift+F10")
    menu.wait_for()
    t.page.keyboard.press("ArrowDown")
    t.page.keyboard.press("ArrowDown")
    t.page.keyboard.press("Enter")  # split
    t.until("text.split('sunset').length === 4")
    t.settle()
    t.block(0).click(button="right")
    menu.wait_for()
    t.page.mouse.click(5, 500)
    menu.wait_for(state="detached")
    assert t.page.evaluate("() => window.app.graph._nodes.length") == 1


def test_keys(comfy, renderer):
    t = Timeline(comfy)
    t.settle()
    press = t.page.keyboard.press
    t.block(0).click()
    press("d")
    t.until("text.split('lighthouse').length === 3")
    t.settle()
    press("e")
    starts(t, [0, 73, 147, 220])
    t.settle()
    zoom = t["button.lt-out"]
    assert zoom.is_disabled()
    press("+")
    assert zoom.is_enabled()
    press("-")
    assert zoom.is_disabled()


def test_buttons_are_off_where_they_do_nothing(comfy, renderer):
    def off(t):
        names = ("add", "duplicate", "split", "remove", "earlier", "later", "even")
        return [name for name in names if t[f"button.lt-{name}"].is_disabled()]

    t = Timeline(comfy, events="a")
    t.settle()
    assert off(t) == ["remove", "earlier", "later", "even"] and t[".lt-info .lt-field"].is_disabled()
    t.comfy.widget(1, "events", "a | b")
    t.settle()
    t.page.wait_for_timeout(300)
    assert off(t) == ["earlier", "even"]  # they are equal, and the first is selected
    t.comfy.widget(1, "events", LINES)
    t.settle()
    t.block(2).click()
    assert off(t) == ["later"]
    t.comfy.widget(1, "length", 3)
    t.comfy.widget(1, "events", "0: a\n1f: b\n2f: c")
    t.page.wait_for_function("() => document.querySelector('.lt-info b').textContent.endsWith('/ 3')")
    t.page.wait_for_timeout(400)
    assert {"add", "duplicate", "split"} <= set(off(t))
