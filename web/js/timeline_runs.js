// @ts-check
/**
 * Which frames a timeline shows: those of the last run of a sampler that it feeds. samplers/adapters/preview.py sends them.
 * They are kept while their workflow is open, for ComfyUI makes all nodes anew at each undo, and are never saved.
 */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { nodeById } from "./filmstrip_logic.js";
import { pictureOf } from "./reel_logic.js";
import { DOWN, nodesOf, reached } from "./timeline_graph.js";

/** @typedef {import("./reel_logic.js").Picture} Picture */
/** The run that goes on, the last one that was done, and who sends the frames.
 * @typedef {{live: Picture | null, done: Picture | null, from: string}} Runs */

const MOST = 16; // timelines of a workflow
const JOBS = 200; // queued jobs whose workflow is remembered

/** By workflow, then by node. @type {WeakMap<object, Map<string, Runs>>} */
const kept = new WeakMap();

/**
 * What came for a workflow that was left before any timeline had a frame of the run, by sender.
 * @type {WeakMap<object, Map<string, {sampler: string, runs: Runs}>>}
 */
const early = new WeakMap();

/** The workflow that a job was queued from, by the job's id. @type {Map<string, object | null>} */
const owners = new Map();

/** @returns {Runs} */
const none = () => ({ live: null, done: null, from: "" });

const workflow = () => app.extensionManager?.workflow?.activeWorkflow ?? null;

/** @param {any} node */
const keyOf = (node) => `${node.graph?.id}:${node.id}`;

/** What a timeline shows now. @param {any} node @returns {Picture | null} */
export function shownFor(node) {
    giveEarly(node.comfyClass);
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
    if (owner !== workflow()) return elsewhere(owner, detail); // in another workflow its ids may mean other nodes
    for (const node of timelinesOf(detail.node, type)) {
        const runs = kept.get(owner ?? node)?.get(keyOf(node)) ?? none();
        follow(runs, detail);
        keep(owner ?? node, node, runs);
        node.longtakeTimeline.look();
    }
}

/** The timelines that feed a sampler. @param {string} id the sampler's @param {string} type @returns {any[]} */
function timelinesOf(id, type) {
    const sampler = nodeById(app.rootGraph ?? app.graph, id);
    const nodes = nodesOf(sampler?.graph);
    return nodes.filter((/** @type {any} */ node) =>
        node.comfyClass === type && node !== sampler && reached([node], "outputs", DOWN).includes(sampler));
}

/** The sender of frames. @param {any} detail */
const senderOf = (detail) => `${detail.prompt_id} ${detail.node}`;

/** A run goes on whose workflow is not open. @param {any} owner @param {any} detail */
function elsewhere(owner, detail) {
    if (!owner) return;
    const sender = senderOf(detail);
    const own = [...(kept.get(owner)?.values() ?? [])].filter((runs) => runs.from === sender);
    own.forEach((runs) => follow(runs, detail));
    if (own.length) return;
    if (!early.has(owner)) early.set(owner, new Map());
    const all = /** @type {Map<string, {sampler: string, runs: Runs}>} */ (early.get(owner));
    const { runs } = all.get(sender) ?? { runs: none() };
    follow(runs, detail);
    all.set(sender, { sampler: detail.node, runs });
    if (all.size > MOST) all.delete([...all.keys()][0]);
}

/** Give the open workflow's timelines what came before it was opened again. @param {string} type of the timelines */
function giveEarly(type) {
    const owner = workflow();
    for (const [sender, { sampler, runs }] of (owner && early.get(owner)) ?? []) {
        const nodes = timelinesOf(sampler, type);
        for (const node of nodes) {
            const before = kept.get(owner)?.get(keyOf(node));
            keep(owner, node, { ...runs, done: runs.done ?? before?.done ?? null });
        }
        if (nodes.length) early.get(owner)?.delete(sender); // else its nodes are still being made
    }
}

/** @param {Runs} runs @param {any} detail */
function follow(runs, detail) {
    runs.from = senderOf(detail);
    runs.live = detail.state === "stopped" ? null : (pictureOf(detail) ?? runs.live);
    if (detail.state === "done") Object.assign(runs, { done: runs.live ?? runs.done, live: null });
}

/** @param {any} owner the workflow @param {any} node the timeline @param {Runs} runs */
function keep(owner, node, runs) {
    if (!kept.has(owner)) kept.set(owner, new Map());
    const all = /** @type {Map<string, Runs>} */ (kept.get(owner));
    all.delete(keyOf(node)); // the last one is the newest
    all.set(keyOf(node), runs);
    if (all.size > MOST) all.delete([...all.keys()][0]);
}
