// @ts-check
/**
 * Which frames a timeline shows: those of the last run of a sampler that it feeds. samplers/adapters/preview.py sends them.
 * They are kept while their workflow is open, for ComfyUI makes all nodes anew at each undo, and are never saved.
 */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { nodeById } from "./filmstrip_logic.js";
import { pictureOf } from "./reel_logic.js";
import { DOWN, reached } from "./timeline_graph.js";

/** @typedef {import("./reel_logic.js").Picture} Picture */
/** @typedef {{live: Picture | null, done: Picture | null}} Runs the run that goes on, and the last one that was done */

const MOST = 16; // timelines of a workflow

/** By workflow, then by node. @type {WeakMap<object, Map<string, Runs>>} */
const kept = new WeakMap();

/** The run that sends frames, and the workflow that was open at its start. @type {{id: string, owner: object | null}} */
let current = { id: "", owner: null };

const workflow = () => app.extensionManager?.workflow?.activeWorkflow ?? null;

/** @param {any} node */
const keyOf = (node) => `${node.graph?.id}:${node.id}`;

/** What a timeline shows now. @param {any} node @returns {Picture | null} */
export function shownFor(node) {
    const runs = kept.get(workflow() ?? node)?.get(keyOf(node));
    return runs?.live ?? runs?.done ?? null;
}

/** Take what a sampler sends. @param {any} detail of longtake.preview @param {string} type of the timelines */
export function take(detail, type) {
    if (detail.prompt_id !== current.id) current = { id: detail.prompt_id, owner: workflow() };
    if (current.owner !== workflow()) return; // in another workflow its id may mean another node
    const sampler = nodeById(app.rootGraph ?? app.graph, detail.node);
    for (const node of sampler?.graph?.nodes ?? sampler?.graph?._nodes ?? []) {
        if (node.comfyClass === type && node !== sampler && reached([node], "outputs", DOWN).includes(sampler)) add(node, detail);
    }
}

/** @param {any} node the timeline @param {any} detail */
function add(node, detail) {
    const owner = workflow() ?? node;
    if (!kept.has(owner)) kept.set(owner, new Map());
    const all = /** @type {Map<string, Runs>} */ (kept.get(owner));
    const runs = all.get(keyOf(node)) ?? { live: null, done: null };
    const { state } = detail;
    runs.live = state === "stopped" ? null : (pictureOf(detail) ?? runs.live);
    if (state === "done") Object.assign(runs, { done: runs.live ?? runs.done, live: null });
    all.delete(keyOf(node)); // the last one is the newest
    all.set(keyOf(node), runs);
    if (all.size > MOST) all.delete([...all.keys()][0]);
    node.longtakeTimeline.look();
}
