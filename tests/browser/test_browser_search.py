"""The page's search finds the nodes by the words that people use, in a real Chromium on a real ComfyUI."""

import pytest

pytestmark = pytest.mark.browser

WINDOWS, TIMELINE = "Global/Local Window Scheduler", "Prompt Timeline"
WORDS = {
    "long video": WINDOWS, "sliding": WINDOWS, "loop": WINDOWS, "context window": WINDOWS, "GLC": WINDOWS,
    "prompt schedule": TIMELINE, "prompt travel": TIMELINE, "multi prompt": TIMELINE, "storyboard": TIMELINE,
    "scenes": TIMELINE, "freenoise": "Noise Reinit", "consistency": "SynCoS Coupled KSampler",
    "side by side": "Compare Videos", "contact sheet": "Compare Videos",
    "keyframes": "Event Keyframes", "first last frame": "Event Keyframes", "re-roll": "Redo Span",
    "extend video": "Continue Video", "resume": "Checkpoint (resume)", "recover": "Load Run", "OOM": "Decode to Video",
    "video to latent": "Encode Video", "FreeLong": WINDOWS, "seam score": "Video Metrics", "benchmark": "Video Metrics",
    "VBench": "Video Metrics", "statistics": "Compare Metrics", "CLIP score": "Load Metric Encoder",
}  # fmt: skip
EMPTY = {"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "groups": [], "version": 0.4}


def results(comfy, words):
    """What the search box lists for `words`, in its order."""
    page = comfy.page
    box = page.locator("input[role=combobox]:visible").first
    box.fill("")
    page.keyboard.type(words)
    page.wait_for_timeout(600)
    return [text for text in page.get_by_role("option").all_text_contents() if text.strip()]


def test_search_finds_our_nodes_by_the_words_of_the_trade(comfy, renderer):
    comfy.load(EMPTY)
    comfy.command("Workspace.SearchBox.Toggle")
    for words, node in WORDS.items():
        found = results(comfy, words)
        places = [i for i, text in enumerate(found) if text.startswith(node)]
        assert places and places[0] < 10, (words, found)
    assert results(comfy, "KSampler")[0].startswith("KSampler")  # core's own come first, as before
    assert not [text for text in results(comfy, "upscale") if "LongTake" in text]
    comfy.page.keyboard.press("Escape")


def test_one_try_from_the_search_to_the_node(comfy, renderer):
    """Someone who knows KSampler alone wants a video of 20 seconds with three scenes."""
    comfy.load(EMPTY)
    comfy.command("Workspace.SearchBox.Toggle")
    assert results(comfy, "scenes")[0].startswith(TIMELINE)
    comfy.page.keyboard.press("Enter")
    comfy.place()
    comfy.page.wait_for_function("() => window.app.graph._nodes.some((n) => n.type === 'LongTakePromptTimeline')")
    comfy.errors[:] = [error for error in comfy.errors if "onOptionSelect" not in error]  # the search box's own
