// @ts-check
/**
 * Events that come from a link: what the last run used, or what a Structured Prompt will give, so that they can be seen,
 * and taken into the timeline's own text.
 */

import { sourceOf, widgetOf } from "./timeline_graph.js";

const STRUCTURED = "LongTakeStructuredPrompt";

/** @typedef {{global_prompt: string, events: string}} Texts */

/**
 * What the links of a timeline bring, as far as the page can know it.
 * @param {any} node the timeline
 * @returns {{reply: string | null, ran: Texts | null}} reply: of the Structured Prompt that it is linked to
 */
export function linkedTexts(node) {
    const source = sourceOf(node, "events");
    const reply = source?.node?.comfyClass === STRUCTURED && !sourceOf(source.node, "reply") ? widgetOf(source.node, "reply") : null;
    const text = String(reply?.value ?? "");
    return { reply: text.trim() ? text : null, ran: node.properties?.longtake_ran ?? null };
}

/** Cut a node's links to these inputs. @param {any} node @param {string[]} names */
export function cutLinks(node, names) {
    for (const name of names) {
        const at = node.inputs?.findIndex((/** @type {any} */ slot) => slot.widget?.name === name || slot.name === name) ?? -1;
        if (at >= 0 && node.inputs[at].link != null) node.disconnectInput(at);
    }
}
