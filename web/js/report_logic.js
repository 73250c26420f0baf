// @ts-check
// The reports' Markdown as plain data, and what ComfyUI says of a refused graph. No page here.

/**
 * @typedef {{kind: "p" | "li", text: string} | {kind: "table", rows: string[][]}} Part
 * @typedef {{id: string, node: string, text: string}} Refusal
 */

/** Paragraphs, list items and tables; a report has nothing else. @param {string} text @returns {Part[]} */
export function parts(text) {
  /** @type {Part[]} */
  const found = [];
  for (const line of text.split("\n")) {
    if (/^\|[-|]+\|$/.test(line)) continue; // beneath a table's head
    if (line.startsWith("|")) {
      const row = line.slice(1).split(/(?<!\\)\|/).slice(0, -1).map((cell) => cell.trim().replaceAll("\\|", "|"));
      const last = found.at(-1);
      if (last?.kind === "table") last.rows.push(row);
      else found.push({ kind: "table", rows: [row] });
    } else if (line.startsWith("- ")) found.push({ kind: "li", text: line.slice(2) });
    else if (line.trim()) found.push({ kind: "p", text: line });
  }
  return found;
}

/**
 * What ComfyUI says of our nodes in a graph that it refused, wholly or in part.
 * @param {any} errors node_errors of its answer: {id: {class_type, errors: [{message, details}]}}
 * @returns {Refusal[]}
 */
export function refusals(errors) {
  return Object.entries(errors ?? {})
    .filter(([, error]) => error?.class_type?.startsWith("LongTake") && error.errors?.length)
    .map(([id, { class_type: node, errors: list }]) => ({ id, node, text: list.map(sentence).join("\n") }));
}

/** @param {{message?: string, details?: string}} error */
function sentence({ message, details }) {
  const named = /^\w+ - (.+: .+)$/s.exec(details ?? ""); // "events - Prompt Timeline: ...": our own words
  return named ? named[1] : [message, details].filter(Boolean).join(": ");
}
