// @ts-check
// Elements of the pack's widgets.

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
