// @ts-check
/** Texts of the pack's own widgets in the language that ComfyUI is set to. English is the key, and the fallback. */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { ZH } from "./i18n_zh.js";

/** @type {Record<string, Record<string, string>>} */
const LANGUAGES = { zh: ZH };

/**
 * A text, its `{name}` replaced by values. ComfyUI loads the graph anew when its language changes.
 * @param {string} text @param {Record<string, string | number>} [values]
 */
export function t(text, values = {}) {
    const language = app.extensionManager?.setting?.get("Comfy.Locale");
    const found = LANGUAGES[language]?.[text] ?? text;
    return found.replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}
