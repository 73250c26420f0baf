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
/** The run that goes on, the last one that was done, and who sends the frames.
 * @typedef {{live: Picture | null, done: Picture | null, from: string}} Runs */

const MOST = 16; // timelines of a workflow
const JOBS = 200; // queued jobs whose workflow is remembered

/** By workflow, then by node. @type {WeakMap<object, Map<string, Runs>>} */
const kept = new WeakMap();

/** The workflow that a job was queued from, by the job's id. @type {Map<string, object | null>} */
const owners = new Map();

const workflow = () => app.extensionManager?.workflow?.activeWorkflow ?? null;

/** @param {any} node */
const keyOf = (node) => `${node.graph?.id}:${node.id}`;

/** What a timeline shows now. @param {any} node @returns {Picture | null} */
export function shownFor(node) {
    const runs = kept.get(workflow() ?? node)?.get(keyOf(node));
    return runs?.live ?? runs?.done ?? null;
}

/** Note which workflow each job is queued from: another may be open when its frames come. @param {any} api */
export function watch(api) {
    const queuePrompt = api.queuePrompt;
    api.queuePrompt = async function (/** @type {any[]} */ ...args) {
        const owner = workflow();
        const answer = await queuePrompt.apply(this, args);
        if (answer?.prompt_id) owners.set(answer.prompt_id, owner);
        if (owners.size > JOBS) owners.delete([...owners.keys()][0]);
        return answer;
    };
}

/** Take what a sampler sends. @param {any} detail of longtake.preview @param {string} type of the timelines */
export function take(detail, type) {
    if (!owners.has(detail.prompt_id)) owners.set(detail.prompt_id, workflow()); // queued from elsewhere
    const owner = owners.get(detail.prompt_id) ?? null;
    if (owner !== workflow()) return finish(owner, detail); // in another workflow its ids may mean other nodes
    const sampler = nodeById(app.rootGraph ?? app.graph, detail.node);
    for (const node of sampler?.graph?.nodes ?? sampler?.graph?._nodes ?? []) {
        if (node.comfyClass === type && node !== sampler && reached([node], "outputs", DOWN).includes(sampler)) add(node, detail);
    }
}

/** The sender of frames. @param {any} detail */
const senderOf = (detail) => `${detail.prompt_id} ${detail.node}`;

/** The end of a run whose workflow is not open. @param {any} owner @param {any} detail */
function finish(owner, detail) {
    for (const runs of (owner && kept.get(owner)?.values()) ?? []) if (runs.from === senderOf(detail)) follow(runs, detail);
}

/** @param {Runs} runs @param {any} detail */
function follow(runs, detail) {
    runs.from = senderOf(detail);
    runs.live = detail.state === "stopped" ? null : (pictureOf(detail) ?? runs.live);
    if (detail.state === "done") Object.assign(runs, { done: runs.live ?? runs.done, live: null });
}

/** @param {any} node the timeline @param {any} detail */
function add(node, detail) {
    const owner = workflow() ?? node;
    if (!kept.has(owner)) kept.set(owner, new Map());
    const all = /** @type {Map<string, Runs>} */ (kept.get(owner));
    const runs = all.get(keyOf(node)) ?? { live: null, done: null, from: "" };
    follow(runs, detail);
    all.delete(keyOf(node)); // the last one is the newest
    all.set(keyOf(node), runs);
    if (all.size > MOST) all.delete([...all.keys()][0]);
    node.longtakeTimeline.look();
}
