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
const TITLE = 30; // of the node below
const HOSTS = ["LongTakePromptTimeline", "LongTakeWindowScheduler"];

/**
 * Columns and height of the strip in a node of a given width.
 * @param {number} width px inside the node
 * @param {number} count frames
 * @param {number} aspect width / height of a frame
 * @param {number} most px of height that there are; frames get smaller, down to one row, so as not to need more
 */
export function layout(width, count, aspect, most = Infinity) {
  let found;
  for (let fit = Math.max(Math.min(Math.floor(width / CELL), count), 1); fit <= Math.max(count, 1); fit++) {
    const rows = Math.ceil(count / fit);
    const columns = Math.ceil(count / Math.max(rows, 1)) || 1; // rows of nearly equal length
    const cell = Math.floor(width / columns);
    found = { columns, rows, height: HEADER + rows * (Math.ceil(cell / aspect) + LABEL) };
    if (found.height <= most) break;
  }
  return /** @type {{columns: number, rows: number, height: number}} */ (found);
}

/**
 * Free px beneath a node, to the next one below it.
 * @param {any} node @param {any[]} nodes of its graph
 */
export function roomBelow(node, nodes) {
  const bottom = node.pos[1] + node.size[1];
  const [left, right] = [node.pos[0], node.pos[0] + node.size[0]];
  let room = Infinity;
  for (const other of nodes) {
    const top = other.pos[1] - TITLE;
    const beside = other.pos[0] >= right || other.pos[0] + other.size[0] <= left;
    if (other !== node && !beside && other.pos[1] > node.pos[1]) room = Math.min(room, top - bottom);
  }
  return Math.max(room, 0);
}

/**
 * The node that shows the strip of a sampler: itself, or where it would cover the next one, one of ours with room.
 * @param {any} sampler @param {any[]} nodes of its graph @param {number} need px
 */
export function placeFor(sampler, nodes, need) {
  const ours = nodes.filter((node) => node !== sampler && HOSTS.includes(node.comfyClass ?? node.type));
  const places = [sampler, ...ours].map((node) => ({ node, room: roomBelow(node, nodes) }));
  return places.find(({ room }) => room >= need) ?? places.sort((a, b) => b.room - a.room)[0];
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
