// The pure part of the window chart (web/js/window_chart_logic.js). Run: node --test tests/nodes/js/window_chart.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

// As a data: URL, because .js without a package.json is no module to older Nodes.
const source = await readFile(new URL("../../../web/js/window_chart_logic.js", import.meta.url), "utf8");
const logic = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const t = (text, values = {}) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]); // as i18n.js does, in English
const chart = (changes = {}) => ({
  frames: 20, pixel_frames: 77, compression: 4, window: 10, overlap: 5, stride: 5,
  layouts: [[0, 5, 10], [0, 3, 8, 10]], ends: [[10, 15, 20], [10, 13, 18, 20]],
  steps: [{ layout: 0, gamma: 0 }, { layout: 1, gamma: 0.00812 }, { layout: null, gamma: 1 }],
  step: 0, weights: [[1, 0.5], [0.5, 1], [1, 1]],
  dilated: [{ windows: 2, first: [0, 2, 4] }], cost: { local: 4, evaluations: 36, plain: 24 }, branches: 2, about: true,
  known: true,
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
  const guessed = [[0, 8], [0, undefined], [4, 8]].map(([known, latent]) => logic.requestBody({}, { compression: latent }, 0, known).compression);
  assert.deepEqual(guessed, [8, 4, 4]); // the latent's node, then 4, and after a run the model
});

test("rows show every window over all of its frames, so that overlaps show", () => {
  const { even, odd, global, height } = logic.stepPaths(chart());
  assert.equal(height, 30);
  assert.deepEqual(even.match(/M[\d.]+ 0h[\d.]+/g), ["M0 0h496", "M500 0h500"]);
  assert.deepEqual(odd.match(/M[\d.]+ 4.5h[\d.]+v4.5/g), ["M250 4.5h500v4.5"], "in the lower half");
  assert.equal(even.match(/ 20h/g), null, "no local windows in the last step");
  assert.deepEqual(global.match(/M0 \d+/g), ["M0 10", "M0 20"]);
});

test("windows that are cut off end where they are cut", () => {
  const cut = chart({ layouts: [[0, 6, 16]], ends: [[6, 16, 20]], steps: [{ layout: 0, gamma: 0 }], weights: [[1], [1], [1]] });
  const { even, odd } = logic.stepPaths(cut);
  assert.deepEqual([even.match(/M[\d.]+ 0h[\d.]+/g), odd.match(/M[\d.]+ 4.5h[\d.]+/g)], [["M0 0h300", "M800 0h200"], ["M300 4.5h500"]]);
  assert.equal(logic.at(cut, 0, 0.32, t), "Step 1, frame 21 (latent 6): window 2 (1.00)");
});

test("the headline is the report's cost, and notes say what is assumed", () => {
  assert.equal(logic.headline(chart(), t), "about 1.50x plain windows: 4 windows per step + 2 global, 36 window evaluations in 3 steps with CFG");
  const plain = chart({ about: false, branches: 1, dilated: [] });
  assert.equal(logic.headline(plain, t), "1.50x plain windows: 4 windows per step, 36 window evaluations in 3 steps");
  assert.deepEqual(logic.notes(chart(), true, t), ["20 latent frames of 4, window 10, overlap 5", "shifts are examples"]);
  const one = chart({ layouts: [[0]], ends: [[20]], window: 20, frames: 20 });
  assert.match(logic.notes(one, false, t).join("; "), /^not longer than the window.*; assuming 4 frames per latent/);
  assert.match(logic.notes(chart({ known: false }), true, t)[0], /^length is not known: drawn for 77 frames/);
});

test("a point has its windows and, in the chosen step, their weights", () => {
  assert.equal(logic.at(chart(), 0, 0.3, t), "Step 1, frame 21 (latent 6): window 1, 2 (1.00)");
  assert.equal(logic.at(chart(), 1, 0, t), "Step 2, frame 0 (latent 0): window 1");
  assert.equal(logic.at(chart(), 1, 9, t), "Step 2, frame 73 (latent 19): window 4");
});

test("a single window is the whole row", () => {
  const { even, odd } = logic.stepPaths(chart({ window: 20, layouts: [[0]], ends: [[20]], steps: [{ layout: 0, gamma: 0 }] }));
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
  assert.equal(logic.readout(chart(), t), "Step 1 of 3: 3 windows");
  assert.equal(logic.readout(chart({ step: 1 }), t), "Step 2 of 3: 4 windows, 2 global with weight 0.0081");
  assert.equal(logic.readout(chart({ step: 2 }), t), "Step 3 of 3: 0 windows, 2 global with weight 1.0");
  const looks = chart({ step: 2, dilated: [{ windows: 6, first: [0, 3, 6] }, { windows: 5, first: [0, 6, 12] }] });
  assert.equal(logic.readout(looks, t), "Step 3 of 3: 0 windows, 6 + 5 global with weight 1.0");
  assert.match(logic.headline(looks, t), / 4 windows per step \+ 6 \+ 5 global, /);
  const rows = [...logic.weightPaths(looks).ticks.matchAll(/M([\d.]+) ([\d.]+)h[\d.]+v([\d.]+)/g)].map((m) => m.slice(1).map(Number));
  assert.deepEqual(rows.map(([x]) => x), [0, 150, 300, 0, 300, 600], "one row of ticks for each look");
  assert.ok(rows[0][1] + rows[0][2] < rows[3][1] && rows[3][1] + rows[3][2] <= logic.WEIGHTS.height, "none over another");
  assert.equal(logic.readout(chart({ layouts: [[0]], steps: [{ layout: 0, gamma: 0 }] }), t), "Step 1 of 1: 1 windows");
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
  assert.deepEqual(found, { steps: 12, cfg: 1, length: 161, compression: undefined });
  latent.type = "EmptyLTXVLatentVideo";
  assert.equal(logic.findRun(scheduler, ...graph([scheduler, lora, guider, sigmas, sampler, latent, other], links)).compression, 8);
  const svd = { ...latent, type: "SVD_img2vid_Conditioning", widgets: [{ name: "video_frames", value: 50 }] };
  const ofUNet = logic.findRun(scheduler, ...graph([scheduler, lora, guider, sigmas, sampler, svd, other], links));
  assert.deepEqual(ofUNet, { steps: 12, cfg: 1, length: 50, compression: 1 });
});

test("steps come from the sampler's sigmas, too, where their model is not the scheduler's", () => {
  const scheduler = { id: 1, outputs: [{ type: "MODEL", links: [1] }] };
  const guider = { id: 2, widgets: [{ name: "cfg", value: 4 }], outputs: [{ type: "GUIDER", links: [2] }] };
  const sampler = { id: 3, inputs: [{ type: "GUIDER", link: 2 }, { type: "SIGMAS", link: 3 }] };
  const split = { id: 4, inputs: [{ type: "SIGMAS", link: 4 }], widgets: [{ name: "step", value: 5 }] };
  const sigmas = { id: 5, widgets: [{ name: "steps", value: 24 }] };
  const links = { 1: { target_id: 2 }, 2: { target_id: 3 }, 3: { origin_id: 4 }, 4: { origin_id: 5 } };
  const run = () => logic.findRun(scheduler, ...graph([scheduler, guider, sampler, split, sigmas], links));
  assert.equal(run().steps, 24);
  sigmas.widgets[0].value = "24"; // linked or not a number: not known
  assert.equal(run().steps, undefined);
  sigmas.inputs = [{ type: "SIGMAS", link: 3 }]; // a loop ends
  assert.equal(run().cfg, 4);
});

test("loops, missing nodes and an unconnected scheduler are no trouble", () => {
  const a = { id: 1, outputs: [{ type: "MODEL", links: [1, 2, 3] }] };
  const b = { id: 2, outputs: [{ type: "MODEL", links: [4] }], inputs: [{ type: "LATENT", link: 5 }] };
  const links = { 1: { target_id: 2 }, 2: { target_id: 77 }, 4: { target_id: 1 }, 5: { origin_id: 2 } };
  assert.deepEqual(logic.findRun(a, ...graph([a, b], links)), { steps: undefined, length: undefined, compression: undefined });
  assert.deepEqual(logic.findRun({ id: 1 }, ...graph([], {})), {});
});

test("2,500 latent frames in 20 steps become paths quickly", () => {
  const starts = Array.from({ length: 417 }, (_, i) => Math.min(i * 6, 2487));
  const large = chart({ frames: 2500, window: 13, layouts: [starts], ends: [starts.map((start) => start + 13)], steps: Array(20).fill({ layout: 0, gamma: 0 }), weights: starts.map(() => Array(13).fill(0.5)) });
  const begun = performance.now();
  logic.stepPaths(large);
  logic.weightPaths(large);
  assert.ok(performance.now() - begun < 500);
});
