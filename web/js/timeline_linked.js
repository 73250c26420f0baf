// @ts-check
/**
 * Events that come from a link: what the last run used, or what a Structured Prompt will give, so that they can be seen,
 * and taken into the timeline's own text.
 */

import { nodesOf, sourceOf, widgetOf } from "./timeline_graph.js";

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

/**
 * Nodes of a type in a graph and its subgraphs, with the ids that they run under.
 * @param {any} graph @param {string} type @param {string} [within] @returns {[string, any][]}
 */
export function running(graph, type, within = "") {
    return nodesOf(graph).flatMap((/** @type {any} */ node) => {
        const id = `${within}${node.id}`;
        return node.comfyClass === type ? [[id, node]] : node.subgraph ? running(node.subgraph, type, `${id}:`) : [];
    });
}

const TRIES = 20;
const PAUSE_MS = 250;
const RUNS = 100; // of the history

/**
 * What a run used for a timeline, from the server's history: of a node that did not run again, because nothing of it
 * changed, no event tells. Then the run counts in which it did. The history has a run a moment after its end.
 * @param {any} api ComfyUI's @param {string} prompt id of the run @param {string} id of the node @returns {Promise<Texts | null>}
 */
export async function ranIn(api, prompt, id) {
    for (let i = 0; i < TRIES; i++) {
        const history = await api.fetchApi(`/history?max_items=${RUNS}`).then((/** @type {Response} */ response) => response.json());
        if (history[prompt]) {
            const graphs = Object.values(history).reverse(); // the newest first
            const asked = JSON.stringify(history[prompt].prompt[2][id]);
            const run = graphs.find((one) => one.outputs?.[id]?.longtake_timeline && JSON.stringify(one.prompt[2][id]) === asked);
            return run?.outputs[id].longtake_timeline[0] ?? null;
        }
        await new Promise((done) => setTimeout(done, PAUSE_MS));
    }
    return null;
}
