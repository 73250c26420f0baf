"""From ComfyUI's page to a long video that plays, and what the list of templates and each first view show, in a real
Chromium on a real ComfyUI."""

import pytest
from longtake.tools.make_workflows import INDEX, file_name
from support.browser import FRAMES, SMALL
from support.graphs import NAMES

pytestmark = pytest.mark.browser

PACK = "ComfyUI-LongTake"
DEMO = file_name("timeline")


@pytest.fixture
def clicks(comfy, renderer):
    """Clicks on the page so far."""
    comfy.page.evaluate(
        """() => {
            const count = (event) => (window.clicks += event.isTrusted);
            if (window.clicks === undefined) window.addEventListener("click", count, true);
            window.clicks = 0;
        }"""
    )
    return lambda: comfy.page.evaluate("() => window.clicks")


def open_list(comfy):
    comfy.page.locator(".side-bar-button", has_text="Templates").click()
    comfy.page.get_by_text(PACK, exact=True).first.click()


def choose(comfy, title):
    comfy.page.evaluate("() => window.app.graph._nodes.forEach((n) => { n.was_there = true; })")
    comfy.page.locator("h3", has_text=title).click()
    comfy.page.locator(".p-dialog-mask").wait_for(state="detached")
    new = "(n) => n.type === 'LongTakePromptTimeline' && !n.was_there"
    comfy.page.wait_for_function(f"() => window.app.graph._nodes.some({new})")


def test_the_templates_are_listed_in_their_order_with_pictures(comfy, clicks):
    open_list(comfy)
    titles = comfy.page.locator("h3", has_text=" - ")
    titles.filter(has_text=file_name(INDEX["templates"][0]["name"])).wait_for()
    shown = [text for text in titles.all_text_contents() if text[:2].isdigit()]
    wanted = [file_name(entry["name"]) for entry in INDEX["templates"]]
    assert shown and [text.strip() for text in shown] == wanted[: len(shown)]
    comfy.page.wait_for_function("() => [...document.images].filter((e) => e.naturalWidth === 400).length > 3")
    choose(comfy, DEMO)


def test_a_playing_long_video_in_a_few_clicks(comfy, clicks):
    open_list(comfy)
    choose(comfy, DEMO)
    comfy.set_all(SMALL)  # no click: only for the time that the test takes
    comfy.page.get_by_test_id("queue-button").locator("xpath=descendant-or-self::button").first.click()
    assert comfy.wait_idle()["status"]["status_str"] == "success"
    video = comfy.page.locator("video").first
    video.wait_for(state="attached")
    comfy.page.wait_for_function("() => document.querySelector('video').duration > 0")
    assert video.evaluate("e => e.duration") == pytest.approx(FRAMES / SMALL["fps"], abs=0.5)
    assert 4 <= clicks() <= 6


@pytest.mark.parametrize("name", NAMES)
def test_the_first_view_shows_the_first_node_clear_of_the_menus(comfy, renderer, name):
    comfy.load(name)
    place = comfy.page.evaluate(
        """() => {
            const { graph, canvas } = window.app;
            const node = graph._nodes.find((n) => n.title === "Start here");
            const [x, y] = node.pos, { scale, offset } = canvas.ds;
            const box = canvas.canvas.getBoundingClientRect();
            const at = [[x + 40, y - 15], [x + node.size[0] - 40, y - 15], [x + 40, y + 60]];
            return at.map(([a, b]) => {
                const left = box.left + (a + offset[0]) * scale;
                const top = document.elementFromPoint(left, box.top + (b + offset[1]) * scale);
                return Boolean(top?.closest("canvas, .lg-node, .dom-widget, .comfy-markdown"));
            });
        }"""
    )
    assert place == [True, True, True]
