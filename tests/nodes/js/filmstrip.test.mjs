// The pure part of the filmstrip (web/js/filmstrip_logic.js). Run: node --test tests/nodes/js/filmstrip.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

const source = await readFile(new URL("../../../web/js/filmstrip_logic.js", import.meta.url), "utf8");
const logic = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const t = (text, values) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]); // as i18n.js does, in English
const preview = (changes = {}) => ({ state: "running", step: 4, steps: 24, elapsed: 20, left: 100, ...changes });

test("frames go into rows of nearly equal length", () => {
  assert.deepEqual(logic.layout(320, 16, 1), { columns: 4, rows: 4, height: 22 + 4 * (80 + 14) });
  assert.deepEqual(logic.layout(1100, 16, 1), { columns: 16, rows: 1, height: 22 + 68 + 14 });
  assert.equal(logic.layout(300, 5, 16 / 9).columns, 3);
  assert.equal(logic.layout(10, 16, 1).columns, 1);
  assert.ok(Number.isFinite(logic.layout(300, 0, 1).height));
});

test("the line tells step, what goes on now, and the time left", () => {
  assert.equal(logic.status(preview(), "", t), "step 5/24, 1:40 left");
  assert.equal(logic.status(preview(), "step 5/24, local window 3/11", t), "step 5/24, local window 3/11, 1:40 left");
  assert.equal(logic.status(preview({ step: 0, left: null }), "", t), "step 1/24");
  assert.equal(logic.status(preview({ step: 24, state: "done", elapsed: 3700 }), "x", t), "24 steps in 1:01:40");
});

test("times", () => assert.deepEqual([0, 9.6, 60, 3599, 36000].map(logic.clock), ["0:00", "0:10", "1:00", "59:59", "10:00:00"]));

test("only base64 becomes a picture", () => {
  assert.equal(logic.pictureUrl("AAA+/9=="), "data:image/jpeg;base64,AAA+/9==");
  for (const bad of [undefined, null, 3, "", 'a");background:url(x', "data:text/html,x", ["AAAA"]]) {
    assert.equal(logic.pictureUrl(bad), undefined);
  }
});

test("positions of the frames in the strip", () => {
  assert.deepEqual([0, 1, 2].map((i) => logic.position(i, 3)), ["0% 0", "50% 0", "100% 0"]);
  assert.equal(logic.position(0, 1), "0% 0");
});

test("nodes are found by number or text, and inside subgraphs", () => {
  const inner = { id: 12 };
  const graph = { getNodeById: (id) => (id === 5 ? { subgraph: { getNodeById: (i) => (i === 12 ? inner : null) } } : id === "7" ? "seven" : null) };
  assert.equal(logic.nodeById(graph, "5:12"), inner);
  assert.equal(logic.nodeById(graph, "7"), "seven");
  assert.equal(logic.nodeById(graph, "9:9"), undefined);
  assert.equal(logic.nodeById(undefined, "1"), undefined);
});

test("with little room there are more and smaller frames to a row", () => {
  const free = logic.layout(320, 16, 1);
  const tight = logic.layout(320, 16, 1, 120);
  assert.ok(free.height > 120 && tight.height <= 120 && tight.columns > free.columns);
  assert.equal(logic.layout(320, 16, 1, 10).rows, 1); // less than one row is no strip
});

test("the strip goes where it covers no node", () => {
  const node = (type, x, y, height) => ({ comfyClass: type, pos: [x, y], size: [300, height] });
  const sampler = node("KSampler", 0, 0, 200);
  const scheduler = node("LongTakeWindowScheduler", 400, 0, 500);
  const below = node("VAEDecode", 0, 250, 50);
  assert.equal(logic.roomBelow(sampler, [sampler, scheduler, below]), 20); // 30: the title of the node below
  assert.equal(logic.roomBelow(sampler, [sampler, scheduler]), Infinity);
  assert.equal(logic.placeFor(sampler, [sampler, scheduler, below], 90).node, scheduler);
  assert.equal(logic.placeFor(sampler, [sampler, scheduler], 90).node, sampler);
  assert.deepEqual(logic.placeFor(sampler, [sampler, below], 90), { node: sampler, room: 20 }); // there is no better one
});
