"""README's moving picture: events edited on the timeline, the run with its filmstrip, and the video.

    python3 start.py serve                                  # in another terminal; it makes previews
    python3 -m tools.moving_picture [http://127.0.0.1:8188]

From the repository's root. Needs Playwright with Chromium (LONGTAKE_CHROMIUM: its path), and Pillow, which ComfyUI
brings. It runs the template "three events", so the server's output folder gets a video.
"""

import io
import sys

from PIL import Image

from .help_pictures import DOCS, load, opened, queue

SIZE, QUALITY = {"width": 1260, "height": 730}, 55  # pixels; WebP's
CLIP = {"x": 60, "y": 47, "width": 1200, "height": 683}  # without the page's tabs and side bar
RUN, PLAY = 16, 16  # pictures
VIEW = ["LongTakePromptTimeline", "LongTakeWindowScheduler", "KSampler", "SaveVideo"]  # what the page shows
SHOW = """([kinds, corner]) => {
    const { graph, canvas } = window.app;
    const nodes = graph._nodes.filter((node) => kinds.includes(node.type));
    const left = Math.min(...nodes.map((node) => node.pos[0])) - 20;
    const right = Math.max(...nodes.map((node) => node.pos[0] + node.size[0])) + 20;
    const scale = (window.innerWidth - corner) / (right - left);
    canvas.ds.scale = scale;
    canvas.ds.offset = [corner / scale - left, 140 / scale - Math.min(...nodes.map((node) => node.pos[1]))];
    canvas.setDirty(true, true);
}"""


class Film:
    """Pictures of a page, and how long each is seen, in milliseconds."""

    def __init__(self, page):
        self.page, self.frames, self.times = page, [], []

    def take(self, milliseconds):
        self.frames.append(Image.open(io.BytesIO(self.page.screenshot(clip=CLIP))).convert("RGB"))
        self.times.append(milliseconds)

    def save(self, path):
        self.frames[0].save(path, save_all=True, append_images=self.frames[1:], duration=self.times, loop=0,
                            quality=QUALITY, method=6)


def edit(film, page):
    """A border is dragged, and the last event told anew."""
    film.take(1200)
    handle = page.locator(".longtake-timeline .lt-handle").first.bounding_box()
    x, y = handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for i in range(1, 9):
        page.mouse.move(x + 3 * i, y)
        page.wait_for_timeout(100)
        film.take(120)
    page.mouse.up()
    page.locator(".longtake-timeline .lt-block").last.click()
    page.wait_for_timeout(300)
    film.take(500)
    text = page.locator(".longtake-timeline textarea").first
    text.fill("")
    film.take(400)
    for i in range(0, 7, 2):
        text.press_sequentially("pulsing"[i:i + 2])
        page.wait_for_timeout(150)
        film.take(150)
    text.press("Escape")
    page.wait_for_timeout(300)
    film.times[-1] = 700


def run(film, page):
    """The run, some pictures of it."""
    began = len(film.frames)
    queue(page, lambda: film.take(250))
    taken = film.frames[began:]
    film.frames[began:] = [taken[round(i * (len(taken) - 1) / (RUN - 1))] for i in range(RUN)]
    film.times[began:] = [250] * RUN
    film.take(1200)


def play(film, page):
    """The video in its node, a part of all frames."""
    video = page.locator("video").first
    video.wait_for(timeout=20_000)
    seconds = video.evaluate("(video) => video.duration")
    for i in range(PLAY):
        video.evaluate("""(video, at) => new Promise((done) => {
            video.pause();
            video.onseeked = () => requestAnimationFrame(() => requestAnimationFrame(done));
            video.currentTime = at;
        })""", (i + 0.5) * seconds / PLAY)
        film.take(160)


def main(url="http://127.0.0.1:8188"):
    with opened(url, SIZE) as page:
        load(page, "timeline")
        if (banner := page.get_by_text("Introducing Nodes 2.0")).count():
            banner.evaluate("(e) => { while (e.parentElement.clientHeight < 60) e = e.parentElement; e.remove(); }")
        page.evaluate(SHOW, [VIEW, CLIP["x"]])
        page.wait_for_timeout(2000)
        film = Film(page)
        edit(film, page)
        run(film, page)
        play(film, page)
        film.save(DOCS / "longtake.webp")


if __name__ == "__main__":
    main(*sys.argv[1:])
