// @ts-check
// The window chart without the page: what to ask the server, and the server's answer as SVG paths and text.
// Nothing here computes windows or weights: samplers/chart.py does.

/**
 * @typedef {{layout: number | null, gamma: number}} Step
 * @typedef {{
 *   frames: number, pixel_frames: number, compression: number, window: number, overlap: number, stride: number,
 *   layouts: number[][], steps: Step[], step: number, weights: number[][],
 *   dilated: {windows: number, first: number[]}, cost: {local: number, ratio: number}, title: string, notes: string[], report: string,
 * }} Chart
 * @typedef {{steps?: number, cfg?: number, length?: number}} Run
 */

/** Width of the drawings in their own units; they are stretched to the node. */
export const WIDTH = 1000;
export const WEIGHTS = { height: 100, curve: 84, ticks: 90 };
export const ROW = 10;

/** Widgets that say nothing about the schedule. */
const UNUSED = ["window_batch", "retain"];

/**
 * Body of a request to the server. A `length` of 0 takes the length of the run, where one was found.
 * @param {Record<string, any>} widgets values of the node's widgets
 * @param {Run} run
 * @param {number} step
 * @param {number} compression
 */
export function requestBody(widgets, run, step, compression) {
  const values = Object.fromEntries(Object.entries(widgets).filter(([name]) => !UNUSED.includes(name)));
  const steps = Math.min(Math.max(run.steps ?? 20, 1), 1000);
  values.length = values.length || run.length || 0;
  return { ...values, steps, step: Math.min(step, steps - 1), branches: run.cfg === 1 ? 1 : 2, compression };
}

/** @param {Chart} chart @param {number} step @returns {number[]} starts of a step's local windows */
export function startsOf(chart, step) {
  const layout = chart.steps[step]?.layout;
  return layout === null || layout === undefined ? [] : chart.layouts[layout];
}

/** @param {number} value */
const n = (value) => String(Math.round(value * 10) / 10);

/** @param {number} x @param {number} y @param {number} w @param {number} h */
const box = (x, y, w, h) => `M${n(x)} ${n(y)}h${n(w)}v${n(h)}h${n(-w)}z`;

/**
 * Frames x step: each window from the middle of one overlap to the middle of the next, in two colours by turns.
 * @param {Chart} chart
 * @returns {{even: string, odd: string, global: string, height: number}}
 */
export function stepPaths(chart) {
  const scale = WIDTH / chart.frames;
  const paths = ["", ""];
  let global = "";
  const gap = chart.steps.length > 40 ? 0 : 1;
  chart.steps.forEach((row, i) => {
    const starts = startsOf(chart, i);
    for (let k = 0; k < starts.length; k++) {
      const left = k === 0 ? 0 : (starts[k - 1] + chart.window + starts[k]) / 2;
      const right = k === starts.length - 1 ? chart.frames : (starts[k] + chart.window + starts[k + 1]) / 2;
      paths[k % 2] += box(left * scale, i * ROW, (right - left) * scale, ROW - gap);
    }
    if (row.gamma > 0) global += box(0, i * ROW, 10, ROW - gap);
  });
  return { even: paths[0], odd: paths[1], global, height: chart.steps.length * ROW };
}

/**
 * Fuse weights of the chosen step's windows as curves, and the frames of one dilated window as ticks.
 * @param {Chart} chart
 * @returns {{even: string, odd: string, ticks: string}}
 */
export function weightPaths(chart) {
  const scale = WIDTH / chart.frames;
  const paths = ["", ""];
  const starts = startsOf(chart, chart.step);
  chart.weights.forEach((weights, k) => {
    const y = weights.map((w) => n(2 + (WEIGHTS.curve - 2) * (1 - w)));
    let path = `M${n(starts[k] * scale)} ${y[0]}`;
    weights.forEach((_, i) => (path += `L${n((starts[k] + i + 0.5) * scale)} ${y[i]}`));
    paths[k % 2] += `${path}L${n((starts[k] + weights.length) * scale)} ${y[y.length - 1]}`;
  });
  let ticks = "";
  if (chart.steps[chart.step].gamma > 0) {
    for (const frame of chart.dilated.first) {
      ticks += box(frame * scale, WEIGHTS.ticks, Math.max(scale, 2), WEIGHTS.height - WEIGHTS.ticks);
    }
  }
  return { even: paths[0], odd: paths[1], ticks };
}

/** @param {Chart} chart one line on the chosen step */
export function readout(chart) {
  const windows = startsOf(chart, chart.step).length;
  const gamma = chart.steps[chart.step].gamma;
  let text = `Step ${chart.step + 1} of ${chart.steps.length}: ${windows} window${windows === 1 ? "" : "s"}`;
  if (gamma > 0) text += `, ${chart.dilated.windows} global with weight ${gamma.toPrecision(2)}`;
  return text;
}

/** @param {Chart} chart five places on the frame axis */
export function axis(chart) {
  return [0, 1, 2, 3, 4].map((i) => String(Math.round(((chart.pixel_frames - 1) * i) / 4)));
}

/**
 * The step that a key moves to; undefined for keys that the chart leaves alone.
 * @param {string} key @param {number} step @param {number} steps
 */
export function stepForKey(key, step, steps) {
  const to = { ArrowUp: step - 1, ArrowDown: step + 1, Home: 0, End: steps - 1 }[key];
  return to === undefined ? undefined : Math.min(Math.max(to, 0), steps - 1);
}

/**
 * What the graph behind a scheduler node says about the run: the sampler's steps and cfg, the latent's length.
 * @param {any} node the scheduler; its first output is the MODEL
 * @param {(id: any) => any} link a link by its id: {origin_id, target_id}
 * @param {(id: any) => any} find a node by its id
 * @returns {Run}
 */
export function findRun(node, link, find) {
  /** @type {Run} */
  const run = {};
  const seen = new Set([node]);
  const queue = [node];
  while (queue.length && seen.size < 500) {
    const at = queue.shift();
    for (const output of at.outputs ?? []) {
      if (!["MODEL", "GUIDER", "SIGMAS"].includes(output.type)) continue;
      for (const id of output.links ?? []) {
        const next = find(link(id)?.target_id);
        if (!next || seen.has(next)) continue;
        seen.add(next);
        queue.push(next);
        for (const name of /** @type {const} */ (["steps", "cfg"])) {
          const value = widgetValue(next, name);
          if (run[name] === undefined && typeof value === "number") run[name] = value;
        }
        run.length ??= latentLength(next, link, find);
      }
    }
  }
  return run;
}

/** @param {any} node @param {string} name */
function widgetValue(node, name) {
  return node.widgets?.find((/** @type {any} */ w) => w.name === name)?.value;
}

/** @param {any} node @param {(id: any) => any} link @param {(id: any) => any} find */
function latentLength(node, link, find) {
  for (let at = node, hops = 0; at && hops < 20; hops++) {
    const value = hops ? widgetValue(at, "length") : undefined;
    if (typeof value === "number") return value;
    const input = at.inputs?.find((/** @type {any} */ i) => i.type === "LATENT" && i.link != null);
    at = input && find(link(input.link)?.origin_id);
  }
}
