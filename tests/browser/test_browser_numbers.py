"""Number widgets in a real Chromium on a real ComfyUI: what they show is their value, and a look changes nothing."""

import pytest

pytestmark = pytest.mark.browser

# Values of FLOAT widgets that keep what is typed; no multiple of the widget's step, and more than three decimals.
ODD = {"omega": 1.25e-7, "lambda_f": 0.12345, "lambda_mse": 0.00012345, "lambda_phase": 1.2345, "beta": -1.25e-6,
       "gamma0": 0.00123456, "lr": 0.00325, "exchange": 0.0375}  # fmt: skip
TYPES = """() => Object.keys(window.LiteGraph.registered_node_types).filter((type) => type.startsWith("LongTake"))"""
# One node at a time: a field outside the view would be scrolled to. With an id of its own: newer ComfyUI keeps widgets'
# values by the node's id, and clear() leaves them there.
ADD = """([type, values]) => {
    const { graph } = window.app, last = graph.last_node_id;
    graph.clear();
    graph.last_node_id = last;
    const node = window.LiteGraph.createNode(type);
    for (const widget of node.widgets ?? []) if (widget.name in values) widget.value = values[widget.name];
    const preset = node.widgets?.find((widget) => widget.name === "preset"); // others leave widgets out, which are grey
    if (preset) preset.callback((preset.value = "custom"));
    graph.add(node);
    return node.id;
}"""
NUMBERS = """() => window.app.graph._nodes.flatMap((node) => (node.widgets ?? [])
    .filter((widget) => widget.type === "number" && !widget.hidden)
    .map((widget) => [node.id, widget.name, widget.value]))"""


def saved(comfy):
    return {node["id"]: node.get("widgets_values") for node in comfy.serialized()["nodes"]}


def is_seen(page, node_id, name, value):
    """In Nodes 2.0: the field shows the value, is clicked, and left."""
    field = page.locator(f'[data-node-id="{node_id}"] input[role=spinbutton][aria-label="{name}"], '
                         f'[data-node-id="{node_id}"] [aria-label="{name}"] input[role=spinbutton]').first  # fmt: skip
    assert float(field.input_value()) == value, f"{name} shows {field.input_value()}, is {value}"
    field.click(force=True)
    field.blur()


def middle(page, node_id, name):
    """Where a widget is on the canvas."""
    return page.evaluate(
        """([id, name]) => {
            const node = window.app.graph.getNodeById(id), widget = node.widgets.find((w) => w.name === name);
            const { ds } = window.app.canvas;
            return [node.pos[0] + node.size[0] / 2, node.pos[1] + widget.last_y + 10]
                .map((at, i) => (at + ds.offset[i]) * ds.scale);
        }""",
        [node_id, name],
    )


def is_asked(page, node_id, name, value):
    """On the canvas: a click opens the field with the value, Enter takes it."""
    page.mouse.click(*middle(page, node_id, name))
    field = page.locator(".graphdialog input.value")
    field.wait_for()
    assert float(field.input_value()) == value, f"{name} shows {field.input_value()}, is {value}"
    page.keyboard.press("Enter")
    field.wait_for(state="detached")


def add(comfy, kind, values):
    node_id = comfy.page.evaluate(ADD, [kind, values])
    comfy.page.wait_for_timeout(200)
    comfy.focus(node_id, 0.75)
    return node_id


def test_a_look_at_every_number_changes_nothing(comfy, renderer):
    look = is_seen if renderer == "vue" else is_asked
    looked = []
    for kind in comfy.page.evaluate(TYPES):
        add(comfy, kind, ODD)
        before = saved(comfy)
        for node_id, name, value in comfy.page.evaluate(NUMBERS):
            look(comfy.page, node_id, name, value)
            looked.append(name)
        assert saved(comfy) == before, kind
    assert len(looked) > 50 and ODD.keys() <= set(looked)


def test_what_is_typed_is_kept(comfy, renderer):
    """Between two steps of the widget, too."""
    page = comfy.page
    node_id = add(comfy, "LongTakeVMCR", {})
    if renderer == "vue":
        page.locator(f'[data-node-id="{node_id}"] input[role=spinbutton]').first.click(force=True)
        page.keyboard.press("Control+a")
        page.keyboard.type("0.0000375")
        page.keyboard.press("Tab")
    else:
        page.mouse.click(*middle(page, node_id, "omega"))
        page.locator(".graphdialog input.value").fill("3.75e-5")
        page.keyboard.press("Enter")
    page.wait_for_function("id => window.app.graph.getNodeById(id).widgets[0].value === 3.75e-5", arg=node_id)
