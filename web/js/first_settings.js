// @ts-check
/** A list on the chart of the Global/Local Window Scheduler that sets its widgets to begin with, per model. */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { make } from "./dom.js";
import { chooses, choices, unsettable } from "./first_settings_logic.js";
import { t } from "./i18n.js";
import { canSet, nodesOf, OFF, settable, setValue, valueOf } from "./timeline_graph.js";

const STYLE = `
.longtake-first { flex: none; width: 92px; padding: 0 2px; border: 1px solid var(--border-color); border-radius: 4px;
  font: inherit; line-height: 16px; height: 20px; background: var(--comfy-menu-bg); color: var(--input-text); cursor: pointer; }
.longtake-first:focus-visible { outline: 2px solid var(--input-text); outline-offset: 1px; }
`;

/** Whether the graph has another scheduler, as for a model of two experts. @param {any} node */
const alike = (node) =>
  nodesOf(node.graph).some(
    (/** @type {any} */ one) => one !== node && one.comfyClass === node.comfyClass && !OFF.includes(one.mode),
  );

/**
 * @param {any} node @param {Element} parent
 * @param {(text: string) => void} say what belongs to a choice
 */
export function addFirstSettings(node, parent, say) {
  make("style", "", parent).textContent = STYLE;
  const list = make("select", "longtake-first", parent);
  list.setAttribute("aria-label", t("Settings to begin with"));
  list.append(new Option(t("Settings for\u2026"), "", true, true));
  for (const { model, kinds } of choices(t)) {
    const group = make("optgroup", "", list);
    group.label = model;
    for (const { name, also, values } of kinds) {
      const option = new Option(`${model}: ${name}`);
      option.title = also;
      option.value = JSON.stringify({ values, also });
      group.append(option);
    }
  }
  list.addEventListener("pointerdown", (event) => event.stopPropagation()); // no drag of the node
  list.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey) return; // undo
    event.stopPropagation(); // ComfyUI has commands on keys; Delete would delete the node
    if (!chooses(event)) return;
    event.preventDefault(); // a closed list would set the first choice at once
    list.showPicker?.();
  });
  list.addEventListener("change", () => {
    const { values, also } = JSON.parse(list.value);
    list.selectedIndex = 0;
    app.canvas?.emitBeforeChange?.();
    const left = unsettable(values, (name) => (canSet(node, name) ? settable(node, name).widget : undefined));
    for (const [name, value] of Object.entries(values)) if (!left.includes(name)) setValue(node, name, value, app.canvas);
    app.canvas?.emitAfterChange?.();
    const other = left.filter((name) => valueOf(node, name).unknown || valueOf(node, name).value !== values[name]);
    const notes = [
      other.length ? t("left as linked: {names}", { names: other.join(", ") }) : "",
      also,
      alike(node) ? t("the other Window Scheduler is left as it is") : "",
    ];
    say(notes.filter(Boolean).join("; "));
  });
}
