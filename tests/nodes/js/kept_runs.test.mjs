import assert from "node:assert/strict";
import { test } from "node:test";
import { ago, line, size } from "../../../web/js/kept_runs_logic.js";

const t = (text, values = {}) => text.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));

test("a run's line says how far it came, when, and how much it takes", () => {
  const run = { name: "x", step: 17, total: 30, age: 7200, size: 1.24e9, broken: [] };
  assert.equal(line(run, t), "step 17 of 30, 2 h ago, 1.2 GB");
  assert.equal(line({ ...run, step: 0, total: 0 }, t), "unreadable, 2 h ago, 1.2 GB");
});

test("times and sizes are rounded to what a person reads", () => {
  assert.deepEqual([0, 89, 90, 5399, 5400, 172799, 172800].map((s) => ago(s, t)),
    ["0 s ago", "89 s ago", "2 min ago", "90 min ago", "2 h ago", "48 h ago", "2 days ago"]);
  assert.deepEqual([0, 1.5e6, 2.5e8, 3e9].map(size), ["0.0 MB", "1.5 MB", "250 MB", "3.0 GB"]);
});
