"""The window chart and the filmstrip in a real Chromium on a real ComfyUI, in both of its node renderers."""

import base64
import io

import pytest
from PIL import Image
from support.browser import RENDERERS, open_page
from support.graphs import api_graph, ui_graph

SCHEDULER, SAMPLER = "LongTakeWindowScheduler", "KSampler"
SMALL = {"length": 97, "steps": 3}  # a video of three windows


@pytest.fixture(scope="module")
def comfy(preview_server):
    with open_page(preview_server) as page:
        yield page


def small_graph(name="glc_windows"):
    """One of the pack's graphs with a shorter video, nodes far enough apart for any height; {type: id}."""
    graph = ui_graph(name)
    ids = {node["type"]: node["id"] for node in graph["nodes"]}
    for i, node in enumerate(graph["nodes"]):
        node["pos"] = [i % 4 * 600, i // 4 * 1200]
        if node["type"] == "EmptyHunyuanLatentVideo":
            node["widgets_values"][2] = SMALL["length"]
        if node["type"] == SCHEDULER:
            node["widgets_values"][12] = SMALL["length"]
        if node["type"] == SAMPLER:
            node["widgets_values"][2] = SMALL["steps"]
    graph["groups"] = []
    return graph, ids


def cost(comfy):
    return comfy.page.locator(".longtake-chart .cost")


def wait_for_text(locator, text, timeout=30_000):
    locator.filter(has_text=text).wait_for(timeout=timeout)


@pytest.fixture
def loaded(comfy, renderer):
    graph, ids = small_graph()
    comfy.load(graph)
    comfy.focus(ids[SCHEDULER], 0.85)  # all of the node is in the view
    wait_for_text(cost(comfy), "3 steps with CFG")  # the sampler's steps
    return ids


@pytest.mark.browser
def test_chart_follows_the_widgets(comfy, loaded):
    scheduler, page = loaded[SCHEDULER], comfy.page
    assert cost(comfy).count() == 1 and "+ 2 global" in cost(comfy).text_content()
    rows = page.locator(".longtake-chart .steps .even")
    before = rows.get_attribute("d")
    comfy.widget(scheduler, "global_path", False)
    wait_for_text(cost(comfy), "windows per step,")
    comfy.widget(scheduler, "schedule", "static")
    wait_for_text(cost(comfy), "1.00x plain windows: 3 windows")
    page.wait_for_function(
        "d => document.querySelector('.longtake-chart .steps .even').getAttribute('d') !== d", arg=before
    )
    drawn = rows.get_attribute("d")
    comfy.widget(scheduler, "overlap", 49)
    error = page.locator(".longtake-chart .error")
    wait_for_text(error, "overlap (49) must be at least 0 and smaller than window_length (49)")
    assert rows.get_attribute("d") == drawn and rows.is_visible()  # the last picture stays, faint
    assert float(page.locator(".longtake-chart .steps").evaluate("e => getComputedStyle(e).opacity")) < 0.5
    comfy.widget(scheduler, "overlap", 40)
    wait_for_text(cost(comfy), "1.00x plain windows: 5 windows")
    assert error.count() == 0
    (refused,) = comfy.errors  # the browser's own line on a 400
    assert "400" in refused and "/longtake/windows" in refused
    comfy.errors.clear()


@pytest.mark.browser
def test_chart_follows_the_graph(comfy, loaded):
    comfy.widget(loaded[SAMPLER], "steps", 7)
    comfy.widget(loaded[SAMPLER], "cfg", 1.0)
    comfy.page.evaluate("() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()")
    wait_for_text(cost(comfy), "in 7 steps")
    assert "with CFG" not in cost(comfy).text_content()


@pytest.mark.browser
def test_chart_is_used_by_keyboard_and_mouse(comfy, loaded):
    steps = comfy.page.locator(".longtake-chart .steps")
    note = comfy.page.locator(".longtake-chart .note")
    steps.focus()
    for key, text in (("ArrowDown", "Step 2 of 3"), ("End", "Step 3 of 3"), ("Home", "Step 1 of 3")):
        comfy.page.keyboard.press(key)
        wait_for_text(note, text)
    assert steps.get_attribute("aria-valuenow") == "1" and "Step 1" in steps.get_attribute("aria-valuetext")
    place = "() => window.app.graph._nodes.map((n) => [n.id, ...n.pos]).sort((a, b) => a[0] - b[0])"
    before, box, mouse = comfy.page.evaluate(place), steps.bounding_box(), comfy.page.mouse
    mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    mouse.down()
    wait_for_text(note, "Step 2 of 3")
    mouse.move(box["x"] + box["width"] / 2 + 40, box["y"] + box["height"] - 3, steps=5)
    wait_for_text(note, "Step 3, frame ")  # what is under the pointer
    mouse.up()
    assert comfy.page.evaluate(place) == before  # a drag over the steps does not drag the node


@pytest.mark.browser
def test_chart_tells_what_is_under_the_pointer_and_leaves_the_wheel_to_the_canvas(comfy, loaded):
    box = comfy.page.locator(".longtake-chart .weights").bounding_box()
    note = comfy.page.locator(".longtake-chart .note")
    comfy.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    wait_for_text(note, "Step 1, frame 45 (latent 12): window 1 (")
    comfy.page.mouse.move(box["x"] - 40, box["y"])
    wait_for_text(note, "Step 1 of 3: ")
    scale = "() => window.app.canvas.ds.scale"
    before = comfy.page.evaluate(scale)
    comfy.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    comfy.page.mouse.wheel(0, 300)
    comfy.page.wait_for_function(f"before => ({scale})() < before", arg=before)


@pytest.mark.browser
def test_chart_of_an_ltx_graph_knows_its_latent_frames_before_a_run(comfy, renderer):
    graph = ui_graph("ltxv_timeline")
    comfy.load(graph)
    wait_for_text(comfy.page.locator(".longtake-chart .note"), "37 latent frames of 8, window 13, overlap 4")


@pytest.mark.browser
def test_chart_is_not_saved_and_fits_its_node(comfy, loaded):
    (saved,) = [n for n in comfy.serialized()["nodes"] if n["type"] == SCHEDULER]
    (original,) = [n for n in small_graph()[0]["nodes"] if n["type"] == SCHEDULER]
    assert saved["widgets_values"] == original["widgets_values"]
    prompt = comfy.page.evaluate("async () => (await window.app.graphToPrompt()).output")
    assert "longtake_chart" not in prompt[str(loaded[SCHEDULER])]["inputs"]
    inside = comfy.page.evaluate(
        """() => {
            const root = document.querySelector('.longtake-chart'), box = root.getBoundingClientRect();
            return [...root.querySelectorAll('div, svg')].every((e) => {
                const b = e.getBoundingClientRect();
                return b.left >= box.left - 1 && b.right <= box.right + 1 && b.bottom <= box.bottom + 1;
            }) && root.scrollHeight <= root.clientHeight + 1;
        }"""
    )
    assert inside


@pytest.mark.browser
def test_nothing_is_left_of_a_removed_node(comfy, loaded):
    copies = "() => document.querySelectorAll('.longtake-chart').length"
    comfy.remove(loaded[SCHEDULER])
    comfy.page.wait_for_function("() => !document.querySelector('.longtake-chart')")
    requests = []
    comfy.page.on("request", lambda request: "/longtake/windows" in request.url and requests.append(request))
    comfy.page.evaluate("() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()")
    comfy.page.wait_for_timeout(500)
    assert comfy.page.evaluate(copies) == 0 and requests == []


@pytest.mark.browser
def test_chart_survives_a_switch_of_renderers(comfy, loaded, renderer):
    other = next(name for name in RENDERERS if name != renderer)
    for name in (other, renderer):
        comfy.renderer(name)
        comfy.focus(loaded[SCHEDULER])
        comfy.page.locator(".longtake-chart .steps").wait_for()
        assert comfy.page.locator(".longtake-chart").count() == 1
    comfy.widget(loaded[SCHEDULER], "global_path", False)
    wait_for_text(cost(comfy), "windows per step,")


@pytest.mark.browser
def test_filmstrip_appears_while_a_run_goes(comfy, renderer):
    graph, ids = small_graph()
    (sampler,) = [n for n in graph["nodes"] if n["id"] == ids[SAMPLER]]
    sampler["widgets_values"][0] = list(RENDERERS).index(renderer)  # a new seed: a run, not a result from the cache
    comfy.load(graph)
    comfy.focus(ids[SAMPLER])
    comfy.queue()
    strip = comfy.page.locator(".longtake-filmstrip")
    strip.wait_for(timeout=120_000)
    pictures = strip.locator(".picture")
    pictures.first.wait_for(timeout=120_000)
    assert pictures.count() == 16  # of 25 latent frames
    assert [strip.locator(".label").nth(i).text_content() for i in (0, 15)] == ["0", "96"]
    assert pictures.first.evaluate("e => e.style.backgroundImage").startswith('url("data:image/jpeg;base64,')
    entry = comfy.wait_idle()
    assert entry["status"]["status_str"] == "success"
    wait_for_text(strip.locator(".status"), "3 steps in ")

    (saved,) = [n for n in comfy.serialized()["nodes"] if n["id"] == ids[SAMPLER]]
    values = sampler["widgets_values"]  # core adds its line of text to what it saves, the filmstrip nothing
    assert saved["widgets_values"][: len(values)] == values and "filmstrip" not in str(saved)
    button = strip.locator("button")
    button.focus()
    comfy.page.keyboard.press("Enter")
    strip.wait_for(state="detached")
    widgets = f"() => window.app.graph.getNodeById({ids[SAMPLER]}).widgets.map((w) => w.name)"
    assert "longtake_filmstrip" not in comfy.page.evaluate(widgets)


COVERED = """() => {
    const strip = document.querySelector('.longtake-filmstrip').getBoundingClientRect();
    const { graph, canvas } = window.app, { scale, offset } = canvas.ds;
    const page = canvas.canvas.getBoundingClientRect();
    const host = graph._nodes.find((n) => n.widgets?.some((w) => w.name === 'longtake_filmstrip'));
    return graph._nodes.filter((n) => n !== host).filter((n) => {
        const x = page.left + (n.pos[0] + offset[0]) * scale, y = page.top + (n.pos[1] - 30 + offset[1]) * scale;
        const right = x + n.size[0] * scale, bottom = y + (n.size[1] + 30) * scale;
        return strip.left < right - 1 && strip.right > x + 1 && strip.top < bottom - 1 && strip.bottom > y + 1;
    }).map((n) => n.type);
}"""


@pytest.mark.browser
@pytest.mark.parametrize("name", ["timeline", "syncos_two", "compare"])
def test_filmstrip_covers_no_node_of_a_template_and_goes_when_the_run_is_cancelled(comfy, renderer, name):
    graph = ui_graph(name)
    comfy.load(graph)
    seed = list(RENDERERS).index(renderer) + 31
    comfy.set_all({"length": 97, "steps": 400, "preset": "fast", "fps": 4, "seed": seed})
    samplers = ("KSampler", "LongTakeSynCoSKSampler")
    comfy.focus(next(node["id"] for node in graph["nodes"] if node["type"] in samplers), 0.6)
    widgets = "() => window.app.graph._nodes.map((n) => [n.id, (n.widgets ?? []).map((w) => w.name)])"
    before = comfy.page.evaluate(widgets)
    comfy.queue()
    strip = comfy.page.locator(".longtake-filmstrip")
    strip.locator(".picture").first.wait_for(timeout=120_000)
    comfy.page.wait_for_timeout(500)
    assert comfy.page.evaluate(COVERED) == []
    comfy.server.interrupt()
    comfy.wait_idle()
    strip.wait_for(state="detached")
    comfy.page.wait_for_timeout(500)
    after = comfy.page.evaluate(widgets)  # ComfyUI's own preview stays, as always
    assert [[i, [name for name in names if name != "$$canvas-image-preview"]] for i, names in after] == before
    comfy.page.keyboard.press("Escape")


@pytest.mark.browser
def test_nothing_is_left_of_a_removed_filmstrip(comfy, renderer):
    graph, ids = small_graph()
    comfy.load(graph)
    comfy.focus(ids[SAMPLER])
    show = """([id, image]) => window.comfyAPI.api.api.dispatchCustomEvent("longtake.preview",
        {node: String(id), prompt_id: "p", state: "running", step: 1, steps: 3, elapsed: 1, left: 2, image,
         frames: [0, 4]})"""
    picture = io.BytesIO()
    Image.new("RGB", (20, 10), "red").save(picture, "JPEG")
    image = base64.b64encode(picture.getvalue()).decode()
    comfy.page.evaluate(f"([id, image]) => {{ for (const one of [image, undefined]) ({show})([id, one]) }}",
                        [ids[SAMPLER], image])  # a step without a picture, before that of the last one is decoded
    comfy.page.locator(".longtake-filmstrip .picture").first.wait_for()
    comfy.page.evaluate(show, [ids[SAMPLER], "not a picture"])  # keeps the one before
    assert comfy.page.locator(".longtake-filmstrip .picture").count() == 2
    comfy.remove(ids[SAMPLER])
    comfy.page.wait_for_function("() => !document.querySelector('.longtake-filmstrip')")
    comfy.page.evaluate(show, [ids[SAMPLER], image])  # late news of a node that is gone
    comfy.page.wait_for_timeout(300)
    assert comfy.page.locator(".longtake-filmstrip").count() == 0


# ---- what the server sends, without a browser -------------------------------------------------------------------


def small_run(server, graph=None):
    if graph is None:
        graph = api_graph("glc_windows")
        graph["6"]["inputs"]["seed"] = 1234
    for node in graph.values():
        for key, value in SMALL.items():
            if key in node["inputs"]:
                node["inputs"][key] = value
    events = []
    server.queue(graph, lambda event, data: event == "longtake.preview" and events.append(data))
    return events


def test_a_run_sends_filmstrips(preview_server):
    events = small_run(preview_server)
    assert [(e["state"], e["step"]) for e in events] == [
        ("running", 0), ("running", 1), ("running", 2), ("running", 3), ("done", 3),
    ]  # fmt: skip
    pictures = [e for e in events if "image" in e]
    assert pictures and pictures[0]["step"] == 1
    image = Image.open(io.BytesIO(base64.b64decode(pictures[0]["image"])))
    assert image.format == "JPEG" and image.size == (16 * 48, 48) and len(pictures[0]["frames"]) == 16
    assert events[0]["left"] is None and events[2]["left"] > 0 and events[-1]["left"] == 0
    assert [e["state"] for e in events if "reel" in e] == ["done"]
    assert events[-1]["reel_frames"] == list(range(0, 97, 4))


@pytest.mark.parametrize("windows", ["of the model", "of the sampler"])
def test_syncos_sends_one_filmstrip_whatever_makes_its_windows(preview_server, windows):
    graph = api_graph("syncos_three")
    types = {node["class_type"]: key for key, node in graph.items()}
    graph[types["LongTakeSynCoSSampler"]]["inputs"]["preset"] = "fast"
    graph[types["LongTakePromptTimeline"]]["inputs"]["events"] = "bouncing | circling"
    if windows == "of the sampler":
        scheduler = graph.pop(types[SCHEDULER])
        for node in graph.values():
            for name, value in node["inputs"].items():
                if value == [types[SCHEDULER], 0]:
                    node["inputs"][name] = scheduler["inputs"]["model"]
    events = small_run(preview_server, graph)
    assert [(e["state"], e["step"]) for e in events] == [
        ("running", 0), ("running", 1), ("running", 2), ("running", 3), ("done", 3),
    ]  # fmt: skip
    assert {e["node"] for e in events} == {types["SamplerCustomAdvanced"]}
    assert "image" in events[1] and events[1]["frames"][-1] == 96


def test_a_user_without_previews_gets_none(comfy_server):
    assert small_run(comfy_server) == []


@pytest.mark.browser
def test_settings_to_begin_with(comfy, loaded):
    """The list on the chart sets the widgets, says what goes with them, and an undo takes them back."""
    scheduler, page = loaded[SCHEDULER], comfy.page
    names = ("window_length", "overlap", "schedule")
    values = (
        f"() => {{ const of = window.app.graph.getNodeById({scheduler}).widgets; "
        f"return {list(names)}.map((name) => of.find((w) => w.name === name).value) }}"
    )
    page.evaluate("() => window.app.extensionManager.workflow.activeWorkflow.changeTracker.checkState()")
    before = page.evaluate(values)
    choose = page.locator(".longtake-first")
    choose.select_option(label="Wan 2.1 and 2.2: balanced")
    assert page.evaluate(values) == [81, 24, "random_shift"]
    choose.select_option(label="demo model: fewest calls")
    assert page.evaluate(values) == [49, 0, "rolling_cut"] and choose.input_value() == ""
    note = page.locator(".longtake-chart .note")
    wait_for_text(note, "goes with Noise Reinit, mode shuffle")
    wait_for_text(cost(comfy), "windows per step")
    comfy.widget(scheduler, "overlap", 8)
    page.wait_for_function("e => !e.textContent.includes('goes with')", arg=note.element_handle())
    for key in ("ArrowDown", "w", "End", "Delete"):  # no choice is made unseen, no command of ComfyUI's is given
        choose.focus()
        page.keyboard.press(key)
        page.keyboard.press("Escape")
        page.wait_for_timeout(100)
    assert page.evaluate(values) == [49, 8, "rolling_cut"]
    for _ in range(3):
        page.keyboard.press("Control+z")
        page.wait_for_timeout(300)
    assert page.evaluate(values) == before


@pytest.mark.browser
def test_settings_to_begin_with_say_what_they_leave(comfy, loaded):
    """An input whose value another node makes, and a second scheduler, as for a model of two experts."""
    scheduler, page = loaded[SCHEDULER], comfy.page
    page.evaluate("""(id) => {
        const graph = window.app.canvas.graph, [length, other] = ["StringLength", "LongTakeWindowScheduler"].map(
            (type) => window.LiteGraph.createNode(type));
        for (const node of [length, other]) graph.add(node);
        const to = graph.getNodeById(id);
        length.connect(0, to, to.inputs.findIndex((input) => input.name === "overlap"));
    }""", scheduler)  # fmt: skip
    page.locator(".longtake-first").first.select_option(label="LTX-Video: fewest calls")
    note = page.locator(".longtake-chart .note").first
    for text in ("left as linked: overlap", "goes with Noise Reinit", "the other Window Scheduler is left as it is"):
        wait_for_text(note, text)
    assert comfy.prompt()[str(scheduler)]["inputs"]["window_length"] == 97
