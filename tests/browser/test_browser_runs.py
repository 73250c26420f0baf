"""Load Run's list of kept runs, in a real Chromium on a real ComfyUI."""

import pytest
from support.browser import SMALL

pytestmark = pytest.mark.browser
LIST = ".longtake-runs"
KEPT = """async () => {
  const headers = { "Content-Type": "application/json" };
  return (await (await fetch("/longtake/runs", { method: "POST", body: "{}", headers })).json()).runs;
}"""


def load_run(comfy):
    comfy.load("resume")
    (node,) = comfy.page.evaluate("() => app.graph._nodes.filter((n) => n.type === 'LongTakeLoadRun').map((n) => n.id)")
    comfy.focus(node)
    return node


def test_a_run_is_listed_taken_and_deleted(comfy, renderer):
    node = load_run(comfy)
    comfy.set_all({**SMALL, "noise_seed": len(renderer)})
    comfy.queue()
    comfy.wait_idle()
    runs = comfy.page.evaluate(KEPT)
    name, count = runs[0]["name"], len(runs)  # the newest; until the list has it, its first row is an older run's
    comfy.page.wait_for_selector(f"{LIST} .run:first-child .take[title='{name}'] >> text=step 2 of 2")
    rows = comfy.page.locator(f"{LIST} .run")
    assert rows.count() == count
    row = rows.first
    row.locator(".take").click()
    assert comfy.widget(node, "run") == name
    comfy.page.wait_for_selector(f"{LIST} .run.taken")
    row.locator(".delete").click()
    assert rows.count() == count  # it asks first
    row.locator(".delete").click()
    comfy.page.wait_for_function("([s, n]) => document.querySelectorAll(s).length < n", arg=[f"{LIST} .run", count])
    if count == 1:
        comfy.page.wait_for_selector(f"{LIST} >> text=No run is kept")
