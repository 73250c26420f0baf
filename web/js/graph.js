// @ts-check
// What the pack's widgets ask about ComfyUI's graphs.

/**
 * Whether a node is in the page's graph or in one of its subgraphs. When ComfyUI closes a graph it does not call
 * onRemoved on the nodes inside its subgraphs.
 * @param {any} node
 * @param {any} root the page's graph
 */
export function isOpen(node, root) {
  const { graph } = node;
  return Boolean(graph) && (graph === root || root.subgraphs?.get(graph.id) === graph);
}
