// @ts-check
// Names over the text boxes of our nodes, which ComfyUI 0.3 shows as hints of empty boxes only. As style alone, for the boxes
// are ComfyUI's: it makes them anew when the renderer changes.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
import { make } from "./dom.js";

const NODES = ["LongTakePromptTimeline", "LongTakeStructuredPrompt"];
const HEIGHT = 16; // px
const COLOUR = "%238b93a1"; // grey enough for light and dark themes: a picture does not know them

/** @type {Map<string, string>} selector: label */
const labels = new Map();
/** @type {HTMLStyleElement | undefined} */
let sheet;

/** @param {string} text */
const escape = (text) => text.replace(/[&<>#%"']/g, (sign) => encodeURIComponent(`&#${sign.charCodeAt(0)};`));

/** @param {string} selector @param {string} text */
function rule(selector, text) {
  const picture =
    `<svg xmlns='http://www.w3.org/2000/svg' width='400' height='${HEIGHT}'>` +
    `<text x='6' y='12' font-family='sans-serif' font-size='11' fill='${COLOUR}'>${escape(text)}</text></svg>`;
  return (
    `${selector} { border-top: ${HEIGHT}px solid transparent !important; background-origin: border-box !important; ` +
    `background-repeat: no-repeat !important; background-image: url("data:image/svg+xml,${picture}") !important; }`
  );
}

/** The box of a widget in ComfyUI's renderers: on the canvas it has our hint, in nodes of HTML the widget's name for one. @param {any} widget */
function selectors(widget) {
  const hint = widget.element?.placeholder?.split("\n")[0].slice(0, 24);
  const names = new Set([widget.name, widget.label ?? widget.name]);
  return [
    ...(hint && !names.has(hint) ? [`textarea.comfy-multiline-input[placeholder^=${JSON.stringify(hint)}]`] : []),
    ...[...names].map((name) => `.lg-node textarea[placeholder=${JSON.stringify(name)}]`),
  ];
}

app.registerExtension({
  name: "longtake.labels",

  /** @param {any} node */
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const known = labels.size;
    for (const widget of node.widgets ?? []) {
      if (!(widget.element instanceof HTMLTextAreaElement)) continue;
      widget.element.setAttribute("aria-label", widget.label ?? widget.name);
      for (const selector of selectors(widget)) labels.set(selector, widget.label ?? widget.name);
    }
    if (labels.size === known) return;
    sheet ??= make("style", "", document.body);
    sheet.textContent = [...labels].map(([selector, text]) => rule(selector, text)).join("\n");
  },
});
