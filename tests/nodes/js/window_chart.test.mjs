// The pure part of the window chart (web/js/window_chart_logic.js). Run: node --test tests/nodes/js/window_chart.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

// As a data: URL, because .js without a package.json is no module to older Nodes.
const source = await readFile(new URL("../../../web/js/window_chart_logic.js", import.meta.url), "utf8");
const logic = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const chart = (changes = {}) => ({
  frames: 20, pixel_frames: 77, compression: 4, window: 10, overlap: 5, stride: 5,
  layouts: [[0, 5, 10], [0, 3, 8, 10]],
  steps: [{ layout: 0, gamma: 0 }, { layout: 1, gamma: 0.00812 }, { layout: null, gamma: 1 }],
  step: 0, weights: [[1, 0.5], [0.5, 1], [1, 1]],
  dilated: { windows: 2, first: [0, 2, 4] }, cost: { local: 4, ratio: 1.5 }, title: "t", notes: [],
  ...changes,
});

test("a request holds the widgets and what the graph says about the run", () => {
  const widgets = { overlap: 24, length: 293, window_batch: 3, retain: "0" };
  assert.deepEqual(logic.requestBody(widgets, { steps: 30, cfg: 1, length: 49 }, 3, 8), {
    overlap: 24, length: 293, steps: 30, step: 3, branches: 1, compression: 8,
  });
  assert.deepEqual(logic.requestBody({ length: 0 }, { length: 161 }, 99, 4), {
    length: 161, steps: 20, step: 19, branches: 2, compression: 4,
  });
  assert.equal(logic.requestBody({ length: 0 }, { steps: 1e6 }, 0, 4).steps, 1000);
  assert.equal(logic.requestBody({}, {}, 0, 4).length, 0);
});

test("rows meet in the middle of the overlaps and fill the video", () => {
  const { even, odd, global, height } = logic.stepPaths(chart());
  assert.equal(height, 30);
  assert.deepEqual(even.match(/M[\d.]+ 0h[\d.]+/g), ["M0 0h375", "M625 0h375"]);
  assert.deepEqual(odd.match(/M[\d.]+ 0h[\d.]+/g), ["M375 0h250"]);
  assert.equal(even.match(/ 20h/g), null, "no local windows in the last step");
  assert.deepEqual(global.match(/M0 \d+/g), ["M0 10", "M0 20"]);
});

test("a single window is the whole row", () => {
  const { even, odd } = logic.stepPaths(chart({ layouts: [[0]], steps: [{ layout: 0, gamma: 0 }] }));
  assert.match(even, /^M0 0h1000/);
  assert.equal(odd, "");
});

test("weights are curves over their frames; ticks only where the global path runs", () => {
  const { even, odd, ticks } = logic.weightPaths(chart());
  assert.match(even, /^M0 2L25 2L75 43L100 43M500 2/);
  assert.match(odd, /^M250 43L275 43L325 2L350 2$/);
  assert.equal(ticks, "");
  assert.equal(logic.weightPaths(chart({ step: 1, weights: [] })).ticks.match(/M/g).length, 3);
});

test("the line on a step counts its windows", () => {
  assert.equal(logic.readout(chart()), "Step 1 of 3: 3 windows");
  assert.equal(logic.readout(chart({ step: 1 })), "Step 2 of 3: 4 windows, 2 global with weight 0.0081");
  assert.equal(logic.readout(chart({ step: 2 })), "Step 3 of 3: 0 windows, 2 global with weight 1.0");
  assert.equal(logic.readout(chart({ layouts: [[0]], steps: [{ layout: 0, gamma: 0 }] })), "Step 1 of 1: 1 window");
});

test("the axis ends with the video", () => assert.deepEqual(logic.axis(chart()), ["0", "19", "38", "57", "76"]));

test("arrows, Home and End choose a step", () => {
  const go = (key, step) => logic.stepForKey(key, step, 20);
  assert.deepEqual([go("ArrowDown", 0), go("ArrowUp", 0), go("End", 3), go("Home", 3), go("ArrowDown", 19)], [1, 0, 19, 0, 19]);
  assert.equal(go("a", 3), undefined);
});

function graph(nodes, links) {
  const byId = new Map(nodes.map((node) => [node.id, node]));
  return [(id) => links[id], (id) => byId.get(id)];
}

test("steps, cfg and length come from the nodes behind the model", () => {
  const scheduler = { id: 1, outputs: [{ type: "MODEL", links: [1] }, { type: "STRING", links: [9] }] };
  const lora = { id: 2, outputs: [{ type: "MODEL", links: [2, 3] }] };
  const guider = { id: 3, widgets: [{ name: "cfg", value: 1 }], outputs: [{ type: "GUIDER", links: [4] }] };
  const sigmas = { id: 4, widgets: [{ name: "steps", value: 12 }], outputs: [{ type: "SIGMAS", links: [5] }] };
  const sampler = { id: 5, inputs: [{ type: "GUIDER", link: 4 }, { type: "LATENT", link: 6 }], outputs: [{ type: "LATENT", links: [8] }] };
  const latent = { id: 6, widgets: [{ name: "length", value: 161 }], outputs: [{ type: "LATENT", links: [6] }] };
  const other = { id: 7, widgets: [{ name: "steps", value: 99 }] };
  const links = {
    1: { origin_id: 1, target_id: 2 }, 2: { origin_id: 2, target_id: 3 }, 3: { origin_id: 2, target_id: 4 },
    4: { origin_id: 3, target_id: 5 }, 5: { origin_id: 4, target_id: 5 }, 6: { origin_id: 6, target_id: 5 },
    8: { origin_id: 5, target_id: 7 }, 9: { origin_id: 1, target_id: 7 },
  };
  const found = logic.findRun(scheduler, ...graph([scheduler, lora, guider, sigmas, sampler, latent, other], links));
  assert.deepEqual(found, { steps: 12, cfg: 1, length: 161 });
});

test("loops, missing nodes and an unconnected scheduler are no trouble", () => {
  const a = { id: 1, outputs: [{ type: "MODEL", links: [1, 2, 3] }] };
  const b = { id: 2, outputs: [{ type: "MODEL", links: [4] }], inputs: [{ type: "LATENT", link: 5 }] };
  const links = { 1: { target_id: 2 }, 2: { target_id: 77 }, 4: { target_id: 1 }, 5: { origin_id: 2 } };
  assert.deepEqual(logic.findRun(a, ...graph([a, b], links)), { length: undefined });
  assert.deepEqual(logic.findRun({ id: 1 }, ...graph([], {})), {});
});

test("2,500 latent frames in 20 steps become paths quickly", () => {
  const starts = Array.from({ length: 417 }, (_, i) => Math.min(i * 6, 2487));
  const large = chart({ frames: 2500, window: 13, layouts: [starts], steps: Array(20).fill({ layout: 0, gamma: 0 }), weights: starts.map(() => Array(13).fill(0.5)) });
  const begun = performance.now();
  logic.stepPaths(large);
  logic.weightPaths(large);
  assert.ok(performance.now() - begun < 500);
});
