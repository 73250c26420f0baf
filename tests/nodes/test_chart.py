"""The window chart: its numbers are those of sampling, its route refuses what is no request. And the filmstrip."""

import asyncio
import base64
import io
import json
import random
from dataclasses import replace

import comfy.latent_formats
import numpy as np
import pytest
import torch
from aiohttp import ClientSession, web
from longtake.nodes import routes
from longtake.nodes.routes import windows as windows_route
from longtake.nodes.windows import LongTakeWindowScheduler, chart, chart_image, window_settings
from longtake.samplers.adapters import preview
from longtake.samplers.cost import run_cost
from longtake.samplers.glc.paths import GlobalPath, dilated_windows, gamma
from longtake.samplers.side_by_side import moments
from longtake.samplers.windows import WindowSettings, local_windows
from PIL import Image

SETTINGS = WindowSettings(13, 7, schedule="random_shift", extra_path=GlobalPath(every=2, until=0.5))
WIDGETS = {"window_length": 49, "overlap": 28, "length": 293, "schedule": "random_shift", "global_path": True}


def body(**values):
    return json.dumps({**WIDGETS, **values}).encode()


def test_chart_holds_the_windows_of_every_step():
    data = chart(SETTINGS, 293, steps=10)
    assert data["frames"] == 74 and data["pixel_frames"] == 293 and len(data["layouts"]) > 1
    for i, row in enumerate(data["steps"]):
        starts = [w.indices[0] for w in local_windows(SETTINGS, 74, i)]
        assert data["layouts"][row["layout"]] == starts
        active = i in (0, 2, 4)
        assert row["gamma"] == (gamma(1000 - 100 * i, 0.005, 5e-4) if active else 0)
    assert data["dilated"] == [{"windows": 6, "first": list(dilated_windows(74, 13)[0].indices)}]


@pytest.mark.parametrize("fuse", ["pyramid", "flat", "triangular", "sine", "overlap-linear"])
@pytest.mark.parametrize("step", [0, 3])
def test_weights_of_the_chosen_step_sum_to_one_on_every_frame(fuse, step):
    data = chart(WindowSettings(13, 5, schedule="random_shift", fuse=fuse), 293, steps=4, step=step)
    total = np.zeros(74)
    for start, weights in zip(data["layouts"][data["steps"][step]["layout"]], data["weights"], strict=True):
        total[start : start + len(weights)] += weights
    assert np.allclose(total, 1, atol=1e-3)


def test_cost_is_the_runs():
    data = chart(SETTINGS, 293, steps=10, branches=2)
    cost = run_cost(SETTINGS, 74, range(10), 2)
    assert data["cost"]["evaluations"] == cost.evaluations and data["cost"]["plain"] == cost.plain
    assert f"about {cost.evaluations / cost.plain:.2f}x plain windows: " in data["title"]
    assert "6 global" in data["title"] and "with CFG" in data["title"]
    assert "with CFG" not in chart(SETTINGS, 293, branches=1)["title"]


def test_a_video_no_longer_than_the_window_is_one_window():
    data = chart(SETTINGS, 49)
    assert data["layouts"] == [[0]] and data["weights"] == [[1.0] * 13] and data["cost"]["ratio"] == 1
    assert not any(row["gamma"] for row in data["steps"]) and any("one window" in note for note in data["notes"])


def test_a_global_path_alone_has_no_local_windows():
    data = chart(WindowSettings(13, 7, extra_path=GlobalPath(gamma0=1.0, beta=0.0)), 293)
    assert data["layouts"] == [] and data["weights"] == [] and all(row["layout"] is None for row in data["steps"])


def test_windows_that_are_cut_are_drawn_as_they_are():
    data = chart(WindowSettings(13, 0, "rolling_cut"), 293)
    for starts, ends in zip(data["layouts"], data["ends"], strict=True):
        assert ends[:-1] == starts[1:] and (starts[0], ends[-1]) == (0, 74)
    assert len(data["layouts"]) > 5 and data["cost"]["ratio"] == pytest.approx(74 / 13 / 6, abs=5e-3)
    picture, rolling = (chart_image(WindowSettings(13, 0, s), 293)[0] for s in ("rolling_cut", "rolling"))
    assert not torch.equal(picture, rolling)


def test_a_closed_loop_is_drawn_around_the_end():
    """Windows around the end twice; on every frame the weights that lie in the video sum to 1."""
    settings = WindowSettings(13, 7, fuse="overlap-linear", closed_loop=True)
    data = chart(settings, 157)  # 40 latent frames
    (starts,) = data["layouts"]
    around = [s for s in starts if s + 13 > 40]
    assert [s for s in starts if s < 0] == [s - 40 for s in around] and len(around) == 2
    assert data["cost"]["local"] == len(starts) - 2 == 7
    sums = [0.0] * 40
    for start, weights in zip(starts, data["weights"], strict=True):
        for i, weight in enumerate(weights, start):
            if 0 <= i < 40:
                sums[i] += weight
            else:
                assert weight == 0.0
    assert all(abs(total - 1) < 1e-3 for total in sums)
    picture, open_ended = (chart_image(s, 157)[0, 60:500] for s in (settings, replace(settings, closed_loop=False)))
    assert not torch.equal(picture, open_ended)
    assert torch.equal(picture[:, :59], open_ended[:, :59]) and torch.equal(picture[:, 938:], open_ended[:, 938:])


def test_the_chart_of_a_moving_overlap_is_no_example():
    rolling = chart(WindowSettings(13, 7, "rolling", overlap_end=0), 293)
    assert not rolling["examples"] and chart(SETTINGS, 293)["examples"] == (SETTINGS.schedule == "random_shift")
    counts = [len(rolling["layouts"][row["layout"]]) for row in rolling["steps"]]
    assert counts[0] > 1.5 * counts[-1]


def test_an_unknown_length_is_said():
    assert "length is not known: drawn for 205 frames" in chart(SETTINGS, 0)["notes"]


def test_too_many_windows_to_draw_are_refused():
    with pytest.raises(ValueError, match="LongTakeWindowScheduler.*too many to draw"):
        chart(WindowSettings(13, 12), 1_000_000)
    data = chart(SETTINGS, 10_001)
    assert data["frames"] == 2501 and data["layouts"]
    assert chart_image(WindowSettings(13, 7), 100_001).shape == (1, 540, 960, 3)  # a window is less than a pixel


def test_picture_shows_the_schedule():
    static = chart_image(WindowSettings(13, 7), 293)
    assert static.shape == (1, 540, 960, 3) and static.dtype == torch.float32
    assert static.min() >= 0 and static.max() <= 1
    moved, whole = chart_image(SETTINGS, 293), chart_image(SETTINGS, 49)
    assert not torch.equal(static, moved) and not torch.equal(static, whole)
    rows = static[0, 240:480, 60:936]  # the windows of a static schedule are the same at every step
    assert torch.equal(rows[4], rows[100]) and len(torch.unique(rows[4], dim=0)) <= 3  # one colour, and its gaps
    assert not torch.equal(moved[0, 244], moved[0, 340])


def test_picture_of_what_is_too_large_says_so():
    assert chart_image(WindowSettings(13, 12), 1_000_000).shape == (1, 540, 960, 3)


def test_node_gives_the_chart(comfy_server):
    inputs = {i.id: i.default for i in LongTakeWindowScheduler.define_schema().inputs if hasattr(i, "default")}
    graph = {
        "1": {"class_type": "LongTakeDemoBackbone", "inputs": {}},
        "2": {"class_type": "LongTakeWindowScheduler", "inputs": {**inputs, **WIDGETS, "model": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 3], "filename_prefix": "chart"}},
    }
    entry = comfy_server.queue(graph)
    (path,) = comfy_server.files(entry)
    assert Image.open(path).size == (960, 540)
    assert entry["outputs"]["2"] == {"longtake_compression": [4]}


# ---- the route --------------------------------------------------------------------------------------------------


def answer(raw):
    return routes.respond(windows_route.answer, windows_route.MOST_BYTES, raw)


def test_route_answers_with_the_chart():
    status, data = answer(body(steps=24, step=5, branches=1, compression=4))
    settings = window_settings(49, 28, 4, schedule="random_shift", global_path=True)
    text = data.pop("report")
    assert status == 200 and data == json.loads(json.dumps(chart(settings, 293, 24, 1, 5)))
    assert f"cost of 74 latent frames: {data['title']}" in text  # one cost everywhere


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"window_length": 0}, "window_length (0) must be between 1 and 16384"),
        ({"window_length": 49.5}, "window_length must be a whole number, not 49.5"),
        ({"window_length": True}, "window_length must be a whole number, not true"),
        ({"overlap": 49}, "overlap (49) must be at least 0 and smaller than window_length (49)"),
        ({"overlap": None}, "overlap must be a whole number, not null"),
        ({"schedule": "sideways"}, 'schedule (sideways) must be one of static, random_shift'),
        ({"fuse": ["flat"]}, 'fuse (["flat"]) must be one of pyramid'),
        ({"global_path": 1}, "global_path must be true or false, not 1"),
        ({"gamma0": "0.1"}, 'gamma0 must be a number, not "0.1"'),
        ({"beta": 1e308}, "beta (1e+308) must be between -0.01 and 0.01"),
        ({"shift_seed": 2**64}, "shift_seed (18446744073709551616) must be between 0 and"),
        ({"length": 10**7}, "length (10000000) must be between 0 and 1000000"),
        ({"length": 10**6}, "too many to draw"),
        ({"steps": 0}, "steps (0) must be between 1 and 1000"),
        ({"step": 20}, "step (20) must be smaller than steps (20)"),
        ({"branches": 3}, "branches (3) must be between 1 and 2"),
        ({"compression": 65}, "compression (65) must be between 1 and 64"),
        ({"script": "x" * 100}, 'unknown: ["script"]'),
    ],
)
def test_route_names_what_is_wrong(values, message):
    status, data = answer(body(**values))
    assert status == 400 and message in data["error"]


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"null", b"[]", b"1", b'"x"', b"{", b"\xff\xfe", b"{}}", b'{"overlap": NaN}', b'{"overlap": Infinity}',
        b'{"overlap": 1e999}', b'{"overlap": ' + b"9" * 4000 + b"}", b'{"fuse": ' + b"[" * 2000 + b"]" * 2000 + b"}",
        b"[" * 4000, b'{"fuse": "\\ud800"}', b'{"\\ud800": 1}', b" " * 5000, b'{"overlap": 1' + b" " * 5000 + b"}",
    ],
)  # fmt: skip
def test_route_refuses_what_is_no_request(raw):
    status, data = answer(raw)
    assert status == 400 and data["error"] and len(data["error"]) < 500
    json.dumps(data)


def hostile(draw: random.Random) -> bytes:
    """A request with some values replaced, or its bytes damaged."""
    odd = [
        None, True, False, -1, 0, 1, 13, 49, 10**6, 2**63, -(2**70), 1e308, -0.0, 1e-320, "", "49", "\0", "\ud800", [],
        [[]], {}, {"a": {}}, "random_shift", "__proto__", "flat", "x" * 300, 0.5, 16384, 64, 2,
    ]  # fmt: skip
    names = [*LIMITED, "model", "window_batch", "constructor", ""]
    values = dict(WIDGETS)
    for _ in range(draw.randrange(5)):
        values[draw.choice(names)] = draw.choice(odd)
    for name in draw.sample(["window_length", "overlap", "length", "shift_seed"], draw.randrange(3)):
        values[name] = draw.choice([draw.randrange(-2, 400), draw.randrange(10**6)])
    raw = bytearray(json.dumps(values).encode())
    if draw.random() < 0.4:
        for _ in range(draw.randrange(1, 8)):
            at = draw.randrange(len(raw))
            kind = draw.randrange(3)
            if kind == 0:
                raw[at] = draw.randrange(256)
            elif kind == 1:
                del raw[at : at + draw.randrange(20)]
            else:
                raw[at:at] = draw.choice([b"[", b"{", b'"', b"\\u0000", b"1e400", b"NaN", b"\xf0\x9f"])
            if not raw:
                break
    return bytes(raw)


LIMITED = [*(i.id for i in LongTakeWindowScheduler.define_schema().inputs), *windows_route.LIMITS]


def test_route_survives_10000_hostile_requests():
    draw = random.Random(0)
    count = {200: 0, 400: 0}
    for _ in range(10_000):
        raw = hostile(draw)
        status, data = answer(raw)
        count[status] += 1
        assert status == 200 or (isinstance(data["error"], str) and data["error"]), raw
        json.dumps(data, allow_nan=False)
    assert min(count.values()) > 500, count  # both kinds were among them


def test_route_survives_hostile_requests_over_http():
    async def run():
        app = web.Application()
        app.router.add_post(windows_route.PATH, windows_route.handle)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        url, draw, seen = f"http://127.0.0.1:{port}{windows_route.PATH}", random.Random(1), set()

        async def endless():
            for _ in range(20):
                yield b" " * 65536

        try:
            async with ClientSession() as session:
                for _ in range(150):
                    async with session.post(url, data=hostile(draw)) as reply:
                        assert reply.status in (200, 400)
                        seen.add(reply.status)
                        assert ("error" in await reply.json()) == (reply.status == 400)
                for large in (b"x" * 5000, b"x" * 1_000_000):
                    async with session.post(url, data=large) as reply:
                        assert reply.status == 400 and "longer than" in (await reply.json())["error"]
                async with session.post(url, data=endless()) as reply:  # no length announced
                    assert reply.status == 400
        finally:
            await runner.cleanup()
        return seen

    assert asyncio.run(run()) == {200, 400}


def test_server_has_the_route(comfy_server):
    status, data = comfy_server.request(windows_route.PATH, WIDGETS)
    assert status == 200 and data["cost"]["ratio"] > 1
    status, data = comfy_server.request(windows_route.PATH, {**WIDGETS, "overlap": -1})
    assert status == 400 and "overlap (-1)" in data["error"]


# ---- the filmstrip ----------------------------------------------------------------------------------------------


def test_strip_frames_span_the_video():
    assert moments(1, preview.FRAMES) == [0] and moments(3, preview.FRAMES) == [0, 1, 2]
    indices = moments(74, preview.FRAMES)
    assert len(indices) == 16 and indices[0] == 0 and indices[-1] == 73 and indices == sorted(set(indices))


@pytest.fixture
def previewer(monkeypatch):
    monkeypatch.setattr(preview.args, "preview_method", preview.LatentPreviewMethod.Latent2RGB)
    return preview.previewer_for(comfy.latent_formats.Wan21())


def test_no_previews_means_none(monkeypatch):
    monkeypatch.setattr(preview.args, "preview_method", preview.LatentPreviewMethod.NoPreviews)
    assert preview.previewer_for(comfy.latent_formats.Wan21()) is None


@pytest.mark.parametrize(("height", "shown"), [(8, 48), (60, 60), (200, 96)])
def test_strip_holds_the_frames_side_by_side(previewer, height, shown):
    x0 = torch.randn(2, 16, 20, height, height, generator=torch.Generator().manual_seed(0))
    image = preview.strip_image(previewer, x0, [0, 7, 19])
    assert image.height == shown and abs(image.width - 3 * shown) <= 3
    if height == 60:
        for i, frame in enumerate((0, 7, 19)):
            alone = np.asarray(previewer.decode_latent_to_preview(x0[:1, :, frame : frame + 1]))
            assert np.array_equal(np.asarray(image)[:, 60 * i : 60 * (i + 1)], alone)


class Clock:
    """Seconds that pass only when told to."""

    now = 0.0

    def __call__(self):
        return self.now


@pytest.mark.parametrize(("step", "cost", "shown"), [(10.0, 0.05, 20), (1.0, 0.05, 4), (0.1, 0.05, 1)])
def test_strips_take_less_than_one_percent(previewer, monkeypatch, step, cost, shown):
    clock, events = Clock(), []

    def slow(image):
        clock.now += cost
        return "AAAA"

    monkeypatch.setattr(preview, "jpeg", slow)
    strip = preview.Filmstrip(previewer, 4, 20, events.append, clock=clock)
    for i in range(20):
        clock.now += step
        strip.callback(None)(i, torch.zeros(1, 16, 74, 8, 8), None, 20)
    pictures = [event for event in events if "image" in event]
    assert len(pictures) == shown and len(events) == 20
    assert strip.spent <= max(preview.SHARE * clock.now, cost) + 1e-9
    assert pictures[0]["frames"][-1] == 292 and events[-1]["step"] == 20
    assert events[9]["left"] == pytest.approx(10 * step, rel=0.1, abs=cost * 2)


def test_the_time_left_counts_the_steps_that_were_sampled_now(previewer):
    """A resumed run: 17 of 20 steps are from before."""
    clock, events = Clock(), []
    strip = preview.Filmstrip(previewer, 4, 20, events.append, clock=clock)
    for i in (16, 17, 18):
        strip.callback(None)(i, torch.zeros(1, 16, 5, 8, 8), None, 20)
        clock.now += 10
    assert [event["left"] for event in events] == [None, 20, 10]


def test_strip_is_a_jpeg_and_the_callback_of_core_comes_first(previewer):
    order = []
    strip = preview.Filmstrip(previewer, 4, 5, lambda event: order.append(event))
    strip.callback(lambda *values: order.append(values))(0, torch.zeros(1, 16, 5, 8, 8), "x", 5)
    assert order[0][0] == 0 and order[0][2:] == ("x", 5)
    image = Image.open(io.BytesIO(base64.b64decode(order[1]["image"])))
    assert image.format == "JPEG" and image.size == (5 * 48, 48) and order[1]["frames"] == [0, 4, 8, 12, 16]


def test_the_last_step_leaves_a_picture_of_more_frames(previewer):
    strip = preview.Filmstrip(previewer, 4, 2, lambda event: None)
    callback = strip.callback(None)
    callback(0, torch.zeros(1, 16, 74, 8, 8), None, 2)
    assert strip.reel == {}
    callback(1, torch.zeros(1, 16, 74, 8, 8), None, 2)
    assert strip.reel["reel_frames"] == [4 * i for i in range(74)]
    assert Image.open(io.BytesIO(base64.b64decode(strip.reel["reel"]))).size == (74 * 48, 48)
    callback(1, torch.zeros(1, 16, 307, 8, 8), None, 2)
    assert len(strip.reel["reel_frames"]) == preview.REEL and strip.reel["reel_frames"][-1] == 1224
    callback(1, torch.zeros(1, 16, 8, 8), None, 2)  # an image
    assert strip.reel == {}


def test_a_latent_that_cannot_be_shown_ends_no_run(previewer, caplog):
    events = []
    strip = preview.Filmstrip(previewer, 4, 5, events.append)
    strip.callback(None)(0, torch.zeros(1, 3, 5, 8, 8), None, 5)  # 3 channels in a format of 16
    assert "no filmstrip for step 1" in caplog.text
    strip.callback(None)(1, torch.zeros(1, 16, 8, 8), None, 5)  # an image
    assert [e["step"] for e in events] == [2] and "image" not in events[0]
