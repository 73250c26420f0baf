// @ts-check
// Our nodes' names in the page's language. ComfyUI merges a pack's texts before it loads its own for a language other than
// English, which then replace them: here they are merged once more, before the nodes are registered.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";

/** The page's vue-i18n, where it can be found. */
function messages() {
  const vue = /** @type {any} */ (document.getElementById("vue-app"))?.__vue_app__;
  const provided = vue?._context?.provides ?? {};
  return Object.getOwnPropertySymbols(provided).map((symbol) => provided[symbol]?.global).find((found) => found?.mergeLocaleMessage);
}

app.registerExtension({
  name: "longtake.locale",

  /** @param {Record<string, any>} defs of all nodes, by name */
  async addCustomNodeDefs(defs) {
    const language = app.extensionManager?.setting?.get("Comfy.Locale");
    if (!language || language === "en") return;
    const texts = (await api.getCustomNodesI18n?.())?.[language]?.nodeDefs ?? {};
    const ours = Object.fromEntries(Object.entries(texts).filter(([name]) => name.startsWith("LongTake") && defs[name]));
    messages()?.mergeLocaleMessage(language, { nodeDefs: ours });
    for (const [name, { display_name, description }] of Object.entries(ours)) {
      Object.assign(defs[name], { display_name, description });
    }
  },
});
