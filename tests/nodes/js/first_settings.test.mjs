// The pure part of the list of settings (web/js/first_settings_logic.js). Run: node --test tests/nodes/js/first_settings.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

const root = new URL("../../../", import.meta.url);
const source = await readFile(new URL("web/js/first_settings_logic.js", root), "utf8");
const logic = await import(`data:text/javascript,${encodeURIComponent(source)}`);

test("the list says what README's table of models says", async () => {
  const readme = await readFile(new URL("README.md", root), "utf8");
  const rows = [...readme.matchAll(/^\| ([^|]+?)(?:, \d+ fps)? \| (\d+) \| (\d+) \|/gm)];
  assert.equal(rows.length, 7);
  assert.deepEqual(Object.fromEntries(rows.map(([, model, window, overlap]) => [model, [+window, +overlap]])), logic.MODELS);
});

test("Stable Video Diffusion, a U-Net that reads no prompt, has what suits it", () => {
  for (const { model, kinds } of logic.choices((text) => text)) {
    assert.equal(kinds.length, model.startsWith("Stable Video") ? 2 : 4);
    assert.ok(!model.startsWith("Stable Video") || kinds.every(({ also }) => !also.includes("ABAM")));
  }
});

test("what no widget decides, or one for two values, is left alone", () => {
  const [a, b, shared] = [{}, {}, {}];
  const widgets = { window_length: a, overlap: undefined, schedule: b, overlap_end: shared, global_path: shared };
  const find = (name) => widgets[name];
  const values = { window_length: 49, overlap: 4, schedule: "rolling_cut", overlap_end: -1, global_path: false };
  assert.deepEqual(logic.unsettable(values, find), ["overlap", "overlap_end", "global_path"]);
  assert.deepEqual(logic.unsettable({ ...values, global_path: -1 }, find), ["overlap"]);
  assert.deepEqual(logic.unsettable({}, find), []);
});

test("keys that would choose unseen are told from those that open the list", () => {
  const chooses = (key, altKey = false) => logic.chooses({ key, altKey });
  assert.deepEqual(["ArrowDown", "ArrowUp", "w", "End", "Delete"].map((key) => chooses(key)), Array(5).fill(true));
  assert.deepEqual(["Enter", " ", "F4", "Tab", "Escape", "Shift"].map((key) => chooses(key)), Array(6).fill(false));
  assert.equal(chooses("ArrowDown", true), false);
});

test("every choice says all that it sets", () => {
  for (const { model, kinds } of logic.choices((text) => text)) {
    for (const { values } of kinds) {
      assert.deepEqual(Object.keys(values).sort(), ["global_path", "overlap", "overlap_end", "schedule", "window_length"]);
      assert.equal(values.window_length, logic.MODELS[model][0]);
      assert.ok(values.overlap < values.window_length / 2);
    }
    const schedules = ["random_shift", "rolling_cut", "rolling_cut", "random_shift"].slice(0, kinds.length);
    assert.deepEqual(kinds.map(({ values }) => values.schedule), schedules);
  }
});
