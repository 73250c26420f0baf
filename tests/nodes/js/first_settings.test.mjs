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

test("every choice says all that it sets", () => {
  for (const { model, kinds } of logic.choices((text) => text)) {
    for (const { values } of kinds) {
      assert.deepEqual(Object.keys(values).sort(), ["global_path", "overlap", "overlap_end", "schedule", "window_length"]);
      assert.equal(values.window_length, logic.MODELS[model][0]);
      assert.ok(values.overlap < values.window_length / 2);
    }
    assert.deepEqual(kinds.map(({ values }) => values.schedule), ["random_shift", "rolling_cut", "rolling_cut", "random_shift"]);
  }
});
