"""The windows beneath the timeline, and the widgets' language, in a real Chromium on a real ComfyUI."""

import re

import pytest
from support.timeline_page import LENGTH, Timeline

pytestmark = pytest.mark.browser

STATIC = (49, 24, "static")


def shown(t, count):
    """Wait until `count` windows are shown; their total area by hue, in frames x rows."""
    t.page.wait_for_selector(f".lt-windows[aria-label^='{count} windows']", timeout=10_000)
    areas = {}
    for path, hue in t.page.evaluate(
        "() => [...document.querySelectorAll('.lt-windows path')].map((p) => "
        "[p.getAttribute('d'), p.style.getPropertyValue('--hue')])"
    ):
        boxes = re.findall(r"h([\d.]+)v([\d.]+)h-", path)
        areas[hue] = areas.get(hue, 0) + sum(float(w) * float(h) for w, h in boxes)
    return areas


def test_windows_follow_everything(comfy, renderer):
    """The events, their borders, the scheduler's widgets; no question to the server while something is dragged."""
    t = Timeline(comfy, windows=STATIC)
    areas = shown(t, 10)
    assert len(areas) == 3 and t[".lt-windows"].bounding_box()["height"] > 10
    label = t[".lt-windows"].get_attribute("aria-label")
    assert "4 frames per latent frame" in label and "shifted" not in label
    t.page.evaluate("() => { window.asked = 0; const f = window.fetch; window.fetch = (...a) => { "
                    "if (String(a[0]).includes('longtake/timeline')) window.asked++; return f(...a); }; }")  # fmt: skip
    width = t[".lt-sheet"].bounding_box()["width"]
    t.drag(t[".lt-handle"].nth(0), width * 80 / LENGTH, drop=False)
    t.page.wait_for_timeout(500)
    assert t.page.evaluate("() => window.asked") == 0
    t.page.mouse.up()
    t.until("!text.includes('\\n6s:')")
    for _ in range(50):
        moved = shown(t, 10)
        if moved != areas:
            break
        t.page.wait_for_timeout(100)
    assert moved["212"] > areas["212"] + 90 and moved["158"] < areas["158"] - 90  # two windows or more changed sides
    assert t.page.evaluate("() => window.asked") >= 2  # the text, then the windows

    t.comfy.widget(9, "overlap", 0)
    shown(t, 6)
    t.comfy.widget(9, "schedule", "random_shift")
    t.page.wait_for_selector(".lt-windows[aria-label*='shifted anew']")
    t.comfy.widget(9, "schedule", "static")
    t.comfy.widget(1, "events", "0s: a\n4s: b\n4.1s: c\n9s: d")
    t.page.wait_for_selector(".lt-message:not(.lt-bad) >> text=No window has its centre in event 2")
    t.comfy.widget(1, "events", "a | b")
    t.page.wait_for_selector(".lt-message", state="hidden")
    t.comfy.widget(9, "window_length", 400)
    t.page.wait_for_selector(".lt-message >> text=only the global prompt acts")
    assert t.page.locator(".lt-windows path.lt-plain").count() == 1
    t.comfy.widget(9, "window_length", 49)
    shown(t, 6)
    t.comfy.remove(9)
    t.page.wait_for_selector(".lt-windows", state="hidden")
    assert t[".lt-sheet"].bounding_box()["height"] == pytest.approx(92 * t.comfy.page.evaluate(
        "() => window.app.canvas.ds.scale"), abs=2)  # fmt: skip


def test_a_window_tells_its_prompt(comfy):
    comfy.renderer("canvas")
    t = Timeline(comfy, events="a | b", blend=40, windows=STATIC)
    shown(t, 10)
    box = t[".lt-windows"].bounding_box()
    titles = set()
    for part in (0.05, 0.5, 0.95):
        for row in range(3):
            t.page.mouse.move(box["x"] + part * box["width"], box["y"] + (row + 0.4) * box["height"] / 3)
            titles.add(t[".lt-windows"].get_attribute("title").split("\n")[0])
    assert "Window 1 of 10: frames 0\u201348 \u00b7 event 1" in titles
    assert "Window 5 of 10: frames 109\u2013160 \u00b7 event 1 (81%) \u00b7 event 2 (19%)" in titles


def test_the_language_is_that_of_comfyui(comfy):
    comfy.renderer("canvas")
    t = Timeline(comfy, windows=STATIC)
    try:
        comfy.setting("Comfy.Locale", "zh")
        chinese = "\u5728\u6b64\u4e8b\u4ef6\u540e\u6dfb\u52a0\u4e8b\u4ef6 (Insert)"
        comfy.page.wait_for_selector(f".longtake-timeline .lt-add[title='{chinese}']")
        comfy.page.wait_for_selector(".lt-windows[aria-label^='10 \u4e2a\u7a97\u53e3']")
        comfy.setting("Comfy.Locale", "fr")  # no translation: English
        comfy.page.wait_for_selector(".longtake-timeline .lt-add[title='Add an event after this one (Insert)']")
    finally:
        comfy.setting("Comfy.Locale", "en")
        t.page.wait_for_timeout(1000)
