// @ts-check
/**
 * "Redo this event" without the page: which nodes of a graph it needs, or why it cannot be. Nodes are LiteGraph's.
 */

import { DOWN, linkOf, OFF, reached, sourceOf, widgetOf } from "./timeline_graph.js";

export const REDO = "LongTakeRedoSpan";
const SEEDS = ["seed", "noise_seed"];
const TITLE = 30; // pixels of a node's title
const GAP = 60;

/**
 * @typedef {object} Plan one of these
 * @property {"none" | "several" | "subgraph"} [why] it cannot be: no sampler, several of them, or a subgraph that it leaves
 * @property {any} [span] the Redo Span that is there already
 * @property {any} [sampler] what made the video, whose copy is to make the event
 * @property {any[]} [chain] this one, and those behind it behind Redo Spans; the last one has the finished video
 * @property {any[]} [path] nodes between the timeline and its sampler
 */

/** @param {any} node @param {"inputs" | "outputs"} side @param {string[]} types */
const has = (node, side, ...types) => Boolean(node[side]?.some((/** @type {any} */ slot) => types.includes(slot.type)));

/** A Redo Span that is on. @param {any} node */
export const isRedo = (node) => node.comfyClass === REDO && !OFF.includes(node.mode);

/** Whether a node samples: a latent goes in and comes out, and no prompt does. @param {any} node */
const samples = (node) =>
    node.comfyClass !== REDO && !node.subgraph && !OFF.includes(node.mode) &&
    has(node, "inputs", "LATENT") && has(node, "outputs", "LATENT") && !has(node, "outputs", ...DOWN);

/**
 * Where a node's latents go.
 * @param {any} node
 * @returns {{from: number, node: any, input: number}[]} node: undefined where it is a subgraph's output
 */
export const users = (node) =>
    (node.outputs ?? []).flatMap((/** @type {any} */ output, /** @type {number} */ from) =>
        (output.type === "LATENT" ? (output.links ?? []) : []).map((/** @type {any} */ id) => {
            const link = linkOf(node, id);
            return { from, node: node.graph.getNodeById(link?.target_id) ?? undefined, input: link?.target_slot };
        }),
    );

/** The nodes that a node's latents go to. @param {any} node @returns {any[]} */
const behind = (node) => users(node).flatMap((use) => use.node ?? []);

/** @param {any} span @param {number} event from 1 */
const redoes = (span, event) => widgetOf(span, "by")?.value === "event" && Number(widgetOf(span, "event")?.value) === event;

/**
 * How to redo an event of a timeline: with the Redo Span that this timeline feeds, or the one of that event behind its
 * sampler; else with a new one behind the finished video.
 * @param {any} timeline the node @param {number} event from 1 @returns {Plan}
 */
export function planRedo(timeline, event) {
    const near = reached([timeline], "outputs", DOWN);
    const own = near.filter(isRedo);
    if (own.length) return { span: own.find((span) => redoes(span, event)) ?? own.at(-1) };
    const [sampler, ...others] = near.filter(samples);
    if (!sampler) return { why: "none" };
    if (others.length) return { why: "several" };
    const chain = new Set([sampler]);
    for (const one of chain) {
        const spans = behind(one).filter(isRedo);
        const found = spans.find((span) => redoes(span, event));
        if (found) return { span: found };
        const next = spans.flatMap(behind).find(samples);
        if (next) chain.add(next);
        else if (users(one).some(({ node }) => !node)) return { why: "subgraph" };
    }
    const back = reached([sampler], "inputs", DOWN);
    return { sampler, chain: [...chain], path: near.filter((node) => back.includes(node) && ![timeline, sampler].includes(node)) };
}

/** The node and the widget of a sampler's seed: its own, or that of its noise. @param {any} sampler */
export function seedOf(sampler) {
    for (const node of [sampler, sourceOf(sampler, "noise")?.node]) {
        const name = node && SEEDS.find((one) => widgetOf(node, one));
        if (name) return { node, name };
    }
    return null;
}

/** Another seed; numbers of JavaScript end at 2 ** 53. @param {number} seed */
export const nextSeed = (seed) => (Number.isSafeInteger(seed + 1) ? seed + 1 : 1);

/**
 * The newest run of a server's history that made a node's output.
 * @param {Record<string, any>} history oldest first @param {string} id the node's @param {string} kind its type
 * @returns {Record<string, any> | undefined} the graph that ran
 */
export function lastRun(history, id, kind) {
    const runs = Object.values(history ?? {}).filter((run) => run.status?.status_str === "success");
    return runs.map((run) => run.prompt?.[2]).findLast((graph) => graph?.[id]?.class_type === kind);
}

/**
 * Whether a node would be what it was in another run, so that ComfyUI has it already.
 * @param {Record<string, any>} now @param {Record<string, any>} then graphs as they are queued @param {string} id
 * @param {Set<string>} [seen] nodes that were compared
 * @returns {boolean}
 */
export function sameRun(now, then, id, seen = new Set()) {
    if (seen.has(id)) return true;
    seen.add(id);
    const [one, other] = [now[id], then[id]];
    if (!one || !other || one.class_type !== other.class_type) return false;
    const names = new Set([...Object.keys(one.inputs), ...Object.keys(other.inputs)]);
    return [...names].every((name) => {
        const [a, b] = [one.inputs[name], other.inputs[name]];
        if (JSON.stringify(a) !== JSON.stringify(b)) return false;
        const linked = Array.isArray(a) && a.length === 2 && a[0] in now;
        return !linked || sameRun(now, then, a[0], seen);
    });
}

/**
 * The first place for a box, downwards, where no node is.
 * @param {any[]} nodes @param {number} left @param {number} top @param {[number, number]} size
 */
export function freeTop(nodes, left, top, [width, height]) {
    const boxes = nodes.map(({ pos, size }) => ({ left: pos[0], right: pos[0] + size[0], top: pos[1] - TITLE, bottom: pos[1] + size[1] }));
    const near = boxes.filter((box) => box.left < left + width + GAP && box.right > left - GAP).sort((a, b) => a.top - b.top);
    for (const box of near) {
        if (box.top < top + height + GAP && box.bottom > top - TITLE - GAP) top = box.bottom + TITLE + GAP;
    }
    return top;
}
