// @ts-check
// The window chart without the page: what to ask the server, and the server's answer as SVG paths and text.
// Nothing here computes windows or weights: samplers/chart.py does.

/**
 * @typedef {{layout: number | null, gamma: number}} Step
 * @typedef {{
 *   frames: number, pixel_frames: number, compression: number, window: number, overlap: number, stride: number,
 *   layouts: number[][], ends: number[][], steps: Step[], step: number, weights: number[][],
 *   dilated: {windows: number, first: number[]}[], cost: {local: number, evaluations: number, plain: number},
 *   branches: number, about: boolean, known: boolean, report: string,
 * }} Chart
 * @typedef {{steps?: number, cfg?: number, length?: number, compression?: number}} Run
 * @typedef {(text: string, values?: Record<string, string | number>) => string} Translate i18n.js
 */

/** Width of the drawings in their own units; they are stretched to the node. */
export const WIDTH = 1000;
export const WEIGHTS = { height: 100, curve: 84, ticks: 90 };
export const ROW = 10;
const SEAM = 4; // between windows that touch

/** Widgets that say nothing about the schedule. */
const UNUSED = ["window_batch", "retain"];

/**
 * Body of a request to the server. A `length` of 0 takes the length of the run, where one was found.
 * @param {Record<string, any>} widgets values of the node's widgets
 * @param {Run} run
 * @param {number} step
 * @param {number} compression frames per latent frame; 0: not known before a run, then by the latent's node
 */
export function requestBody(widgets, run, step, compression) {
  const values = Object.fromEntries(Object.entries(widgets).filter(([name]) => !UNUSED.includes(name)));
  const steps = Math.min(Math.max(run.steps ?? 20, 1), 1000);
  values.length = values.length || run.length || 0;
  const frames = compression || run.compression || 4;
  return { ...values, steps, step: Math.min(step, steps - 1), branches: run.cfg === 1 ? 1 : 2, compression: frames };
}

/** @param {Chart} chart @param {number} step @returns {number[]} starts of a step's local windows */
export function startsOf(chart, step) {
  const layout = chart.steps[step]?.layout;
  return layout === null || layout === undefined ? [] : chart.layouts[layout];
}

/** @param {Chart} chart @param {number} step @returns {number[]} the frames behind the last ones of these windows */
export function endsOf(chart, step) {
  const layout = chart.steps[step]?.layout;
  return layout === null || layout === undefined ? [] : chart.ends[layout];
}

/** @param {number} value */
const n = (value) => String(Math.round(value * 10) / 10);

/** @param {number} x @param {number} y @param {number} w @param {number} h */
const box = (x, y, w, h) => `M${n(x)} ${n(y)}h${n(w)}v${n(h)}h${n(-w)}z`;

/**
 * Frames x step: every window over all of its frames, by turns in the upper and the lower half of its step's row, so that
 * overlaps show.
 * @param {Chart} chart
 * @returns {{even: string, odd: string, global: string, height: number}}
 */
export function stepPaths(chart) {
  const scale = WIDTH / chart.frames;
  const paths = ["", ""];
  let global = "";
  const gap = chart.steps.length > 40 ? 0 : 1;
  const half = (ROW - gap) / 2;
  chart.steps.forEach((row, i) => {
    const starts = startsOf(chart, i);
    const ends = endsOf(chart, i);
    starts.forEach((start, k) => {
      const high = starts.length > 1 ? half : ROW - gap;
      const next = starts[k + 2] ?? Infinity; // in the same half
      const width = next <= ends[k] ? Math.max((next - start) * scale - SEAM, 1) : (ends[k] - start) * scale;
      paths[k % 2] += box(start * scale, i * ROW + (k % 2) * half, width, high);
    });
    if (row.gamma > 0) global += box(0, i * ROW, 10, ROW - gap);
  });
  return { even: paths[0], odd: paths[1], global, height: chart.steps.length * ROW };
}

/**
 * Fuse weights of the chosen step's windows as curves, and the frames of one dilated window of each look as ticks.
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
    const high = (WEIGHTS.height - WEIGHTS.ticks) / chart.dilated.length;
    const gap = chart.dilated.length > 1 ? 1 : 0;
    chart.dilated.forEach(({ first }, k) => {
      for (const frame of first) ticks += box(frame * scale, WEIGHTS.ticks + k * high, Math.max(scale, 2), high - gap);
    });
  }
  return { even: paths[0], odd: paths[1], ticks };
}

/** Windows of each look of the global path. @param {Chart} chart */
const counts = (chart) => chart.dilated.map(({ windows }) => windows).join(" + ");

/** One line on the chosen step. @param {Chart} chart @param {Translate} t */
export function readout(chart, t) {
  const windows = startsOf(chart, chart.step).filter((start) => start >= 0).length; // before 0: the rest of a loop's last one
  const gamma = chart.steps[chart.step].gamma;
  const text = t("Step {step} of {steps}: {windows} windows", { step: chart.step + 1, steps: chart.steps.length, windows });
  if (!(gamma > 0)) return text;
  return text + t(", {count} global with weight {weight}", { count: counts(chart), weight: gamma.toPrecision(2) });
}

/** The cost, as the report has it. @param {Chart} chart @param {Translate} t */
export function headline(chart, t) {
  const { local, evaluations, plain } = chart.cost;
  const values = { ratio: (evaluations / plain).toFixed(2), local, evaluations, steps: chart.steps.length };
  const about = chart.about ? t("about {ratio}x plain windows", values) : t("{ratio}x plain windows", values);
  const global = chart.dilated.length ? t(" + {count} global", { count: counts(chart) }) : "";
  const run = t(", {evaluations} window evaluations in {steps} steps", values);
  return `${about}: ${t("{local} windows per step", values)}${global}${run}${chart.branches === 2 ? t(" with CFG") : ""}`;
}

/** What else is to be said. @param {Chart} chart @param {boolean} seen the model's frames per latent frame are known @param {Translate} t */
export function notes(chart, seen, t) {
  const { frames, compression, window, overlap } = chart;
  const found = [];
  if (!chart.known) found.push(t("length is not known: drawn for {frames} frames", { frames: chart.pixel_frames }));
  else if (chart.layouts.length === 1 && chart.layouts[0].length === 1 && window >= frames) {
    found.push(t("not longer than the window: one window, as without this node"));
  }
  found.push(t("{frames} latent frames of {compression}, window {window}, overlap {overlap}", { frames, compression, window, overlap }));
  if (chart.examples ?? chart.layouts.length > 1) found.push(t("shifts are examples"));
  if (!seen) found.push(t("assuming {compression} frames per latent frame until the first run", { compression }));
  return found;
}

/**
 * What lies at a point of the drawings: the windows there, and with the chosen step's, their weights.
 * @param {Chart} chart @param {number} step @param {number} part 0..1 of the video @param {Translate} t
 */
export function at(chart, step, part, t) {
  const latent = Math.min(Math.max(Math.floor(part * chart.frames), 0), chart.frames - 1);
  const frame = latent ? (latent - 1) * chart.compression + 1 : 0;
  const ends = endsOf(chart, step);
  const here = startsOf(chart, step).flatMap((start, k) => {
    if (latent < start || latent >= ends[k]) return [];
    const weight = step === chart.step ? chart.weights[k]?.[latent - start] : undefined;
    return weight === undefined ? `${k + 1}` : `${k + 1} (${weight.toFixed(2)})`;
  });
  const values = { frame, latent, step: step + 1, windows: here.join(", ") };
  return t("Step {step}, frame {frame} (latent {latent}): window {windows}", values);
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
 * @param {(node: any, name: string) => any} [value] of a node's widget
 * @returns {Run}
 */
export function findRun(node, link, find, value = widgetValue) {
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
          const found = value(next, name);
          if (run[name] === undefined && typeof found === "number") run[name] = found;
        }
        // The sampler's steps are told by a node that need not have its model from here.
        run.steps ??= before(next, "SIGMAS", link, find, (/** @type {any} */ from) => numberOf(value(from, "steps")));
        const latent = before(next, "LATENT", link, find, (/** @type {any} */ from) => {
          const length = numberOf(value(from, "length") ?? value(from, "video_frames")); // the second of SVD
          return length === undefined ? undefined : { length, type: String(from.comfyClass ?? from.type) };
        });
        run.length ??= latent?.length;
        run.compression ??= latent && COMPRESSION.find(([type]) => type.test(latent.type))?.[1];
      }
    }
  }
  return run;
}

/** @param {any} node @param {string} name */
function widgetValue(node, name) {
  return node.widgets?.find((/** @type {any} */ w) => w.name === name)?.value;
}

/** Frames per latent frame of the models whose empty latents these are; 4 for all others that we know. @type {[RegExp, number][]} */
const COMPRESSION = [[/LTXV/, 8], [/Mochi/, 6], [/^EmptyCosmosLatent/, 8], [/^(SVD_img2vid|SV3D)_Conditioning/, 1]];

/** @param {any} value */
const numberOf = (value) => (typeof value === "number" ? value : undefined);

/**
 * What the nearest node before this one says, along links of a type.
 * @template T
 * @param {any} node @param {string} type @param {(id: any) => any} link @param {(id: any) => any} find
 * @param {(node: any) => T | undefined} tell
 * @returns {T | undefined}
 */
function before(node, type, link, find, tell) {
  for (let at = node, hops = 0; at && hops < 20; hops++) {
    const input = at.inputs?.find((/** @type {any} */ i) => i.type === type && i.link != null);
    at = input && find(link(input.link)?.origin_id);
    const told = at && tell(at);
    if (told !== undefined) return told;
  }
}
