// The pure part of the reports (web/js/report_logic.js). Run: node --test tests/nodes/js/report.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

const source = await readFile(new URL("../../../web/js/report_logic.js", import.meta.url), "utf8");
const { parts, refusals } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

test("a report's Markdown is taken apart", () => {
  const text = "2 events\n\n| event | prompt |\n|---|---|\n| 1 | a \\| b |\n| 2 |  |\n\n- first\n- second";
  assert.deepEqual(parts(text), [
    { kind: "p", text: "2 events" },
    { kind: "table", rows: [["event", "prompt"], ["1", "a | b"], ["2", ""]] },
    { kind: "li", text: "first" },
    { kind: "li", text: "second" },
  ]);
  assert.deepEqual(parts(""), []);
});

test("a refusal is our node's own words; other packs' nodes are theirs", () => {
  const errors = {
    "3:12": {
      class_type: "LongTakePromptTimeline",
      errors: [
        { message: "Custom validation failed for node", details: "events - Prompt Timeline: events: line 2\nis bad" },
        { message: "Required input is missing", details: "clip" },
      ],
    },
    4: { class_type: "KSampler", errors: [{ message: "m", details: "d" }] },
    5: { class_type: "LongTakeVMCR", errors: [] },
  };
  assert.deepEqual(refusals(errors), [{
    id: "3:12", node: "LongTakePromptTimeline",
    text: "Prompt Timeline: events: line 2\nis bad\nRequired input is missing: clip",
  }]);
  assert.deepEqual([refusals(null), refusals([]), refusals({ 1: {} })], [[], [], []]);
});
