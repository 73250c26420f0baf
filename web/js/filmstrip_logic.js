// @ts-check
// The filmstrip without the page: layout, texts, and what of an event may be shown.

/**
 * @typedef {{
 *   node: string, prompt_id: string, state: "running" | "done" | "stopped", step: number, steps: number,
 *   elapsed: number, left: number | null, image?: string, frames?: number[],
 * }} Preview
 */

export const CELL = 64; // least width of a frame, in px
export const LABEL = 14;
export const HEADER = 22;

/**
 * Columns and height of the strip in a node of a given width.
 * @param {number} width px inside the node
 * @param {number} count frames
 * @param {number} aspect width / height of a frame
 */
export function layout(width, count, aspect) {
  const most = Math.max(Math.min(Math.floor(width / CELL), count), 1);
  const rows = Math.ceil(count / most);
  const columns = Math.ceil(count / Math.max(rows, 1)) || 1; // rows of nearly equal length
  const cell = Math.floor(width / columns);
  return { columns, rows, height: HEADER + rows * (Math.ceil(cell / aspect) + LABEL) };
}

/** @param {number} seconds m:ss, or h:mm:ss */
export function clock(seconds) {
  const s = Math.max(Math.round(seconds), 0);
  const parts = [Math.floor(s / 60) % 60, s % 60].map((v) => String(v).padStart(2, "0"));
  const hours = Math.floor(s / 3600);
  return hours ? `${hours}:${parts.join(":")}` : parts.join(":").replace(/^0/, "");
}

/**
 * The line above the frames. `detail` is what the sampler says it does now (window, inner iteration); it names the step.
 * @param {Preview} preview
 * @param {string} detail
 * @param {(text: string, values: Record<string, string | number>) => string} t translates (i18n.js)
 */
export function status(preview, detail, t) {
  const { state, step, steps, elapsed, left } = preview;
  if (state === "done") return t("{steps} steps in {time}", { steps, time: clock(elapsed) });
  if (state === "stopped") return t("stopped after {step} of {steps} steps", { step, steps });
  const what = detail || t("step {step}/{steps}", { step: Math.min(step + 1, steps), steps });
  return left === null ? what : t("{what}, {time} left", { what, time: clock(left) });
}

/** A data URL, or undefined when the event holds no picture or something else. @param {unknown} image */
export function pictureUrl(image) {
  return typeof image === "string" && /^[A-Za-z0-9+/]+=*$/.test(image) ? `data:image/jpeg;base64,${image}` : undefined;
}

/** Where a frame lies in the strip, as background-position. @param {number} i @param {number} count */
export function position(i, count) {
  return `${count > 1 ? (100 * i) / (count - 1) : 0}% 0`;
}

/**
 * The node of an execution id; nodes inside subgraphs have ids like "5:12".
 * @param {any} graph the root graph
 * @param {string} id
 */
export function nodeById(graph, id) {
  let node;
  for (const part of String(id).split(":")) {
    node = graph?.getNodeById(part) ?? graph?.getNodeById(Number(part));
    graph = node?.subgraph;
  }
  return node ?? undefined;
}
