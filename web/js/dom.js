// @ts-check
// Elements of the pack's widgets.

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {string} name class @param {Element} [parent]
 * @returns {HTMLElementTagNameMap[K]}
 */
export function make(tag, name, parent) {
  const element = document.createElement(tag);
  if (name) element.className = name;
  parent?.append(element);
  return element;
}

/**
 * @template {keyof SVGElementTagNameMap} K
 * @param {K} tag @param {string} name class @param {Element} [parent]
 * @returns {SVGElementTagNameMap[K]}
 */
export function svg(tag, name, parent) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  if (name) element.setAttribute("class", name);
  parent?.append(element);
  return element;
}

/** The wheel zooms the canvas over an element that lies on it; ComfyUI's nodes of HTML pass it on themselves. @param {HTMLElement} root */
export function passWheel(root) {
  root.addEventListener("wheel", (event) => {
    if (event.defaultPrevented || !root.closest(".dom-widget")) return;
    event.preventDefault();
    app.canvas.processMouseWheel(event);
  }, { passive: false });
}

/**
 * After an undo ComfyUI makes the nodes anew, but may keep their HTML, and in it the widget of the node before: take its
 * place.
 * @param {any} node @param {HTMLElement} root the widget's own element, told by its first class
 */
export function takePlace(node, root) {
  if (root.isConnected || node.graph !== app.canvas?.graph) return;
  document.querySelector(`[data-node-id="${CSS.escape(String(node.id))}"] .${root.classList[0]}`)?.replaceWith(root);
}

const TIGHT = 8; // px of spare height that nobody has made on purpose

/**
 * A node grows and shrinks with what is in it.
 * @param {any} node @param {number} by px that what is in it has become taller
 * @param {boolean} [still] spare height is filled first; else its text boxes keep it
 */
export function grow(node, by, still = false) {
  const need = node.computeSize()[1];
  const spare = node.size[1] - (need - by) > TIGHT;
  node.setSize([node.size[0], Math.max(need, still ? (spare ? node.size[1] : need) : node.size[1] + by)]);
  app.canvas?.setDirty(true, true);
}
