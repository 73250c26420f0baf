// @ts-check
// Which of our nodes a search means. No page here.

/** @typedef {{name: string, display_name: string, description: string}} NodeDef */

/**
 * A search's result with those of our nodes whose description has all of its words, or begins of words: behind what has
 * them in its name, and before what is only alike.
 * @param {string} query
 * @param {NodeDef[]} found by ComfyUI
 * @param {NodeDef[]} ours
 */
export function withDescribed(query, found, ours) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.join("").length < 2) return found;
  const begins = words.map((word) => new RegExp(`(^|[^a-z0-9])${word.replace(/[^\p{L}\p{N}]/gu, "\\$&")}`));
  const has = (/** @type {string} */ text) => begins.every((begin) => begin.test(text.toLowerCase()));
  const named = found.filter((node) => has(node.display_name));
  const described = ours.filter((node) => !named.includes(node) && has(`${node.display_name} ${node.description}`));
  const rest = found.filter((node) => !named.includes(node) && !described.includes(node));
  return described.length ? [...named, ...described, ...rest] : found;
}
