// @ts-check
/** A list on the chart of the Global/Local Window Scheduler that sets its widgets to begin with, per model. */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { make } from "./dom.js";
import { choices } from "./first_settings_logic.js";
import { t } from "./i18n.js";
import { setValue } from "./timeline_graph.js";

const STYLE = `
.longtake-first { flex: none; width: 92px; padding: 0 2px; border: 1px solid var(--border-color); border-radius: 4px;
  font: inherit; line-height: 16px; height: 20px; background: var(--comfy-menu-bg); color: var(--input-text); cursor: pointer; }
.longtake-first:focus-visible { outline: 2px solid var(--input-text); outline-offset: 1px; }
`;

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
  list.addEventListener("change", () => {
    const { values, also } = JSON.parse(list.value);
    list.selectedIndex = 0;
    app.canvas?.emitBeforeChange?.();
    for (const [name, value] of Object.entries(values)) setValue(node, name, value, app.canvas);
    app.canvas?.emitAfterChange?.();
    say(also);
  });
}
