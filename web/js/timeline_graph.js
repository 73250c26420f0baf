// @ts-check
/**
 * What a Prompt Timeline node can learn from the graph around it: values of linked inputs, and the node that makes the
 * windows. Nodes are LiteGraph's; nothing here knows ComfyUI's page.
 */

/** Window nodes with the widgets that decide where windows lie; in this order where a sampler sees several of them. */
const WINDOW_NODES = {
    LongTakeWindowScheduler: ["window_length", "overlap", "schedule", "shift_seed", "overlap_end", "closed_loop"],
    LongTakeSynCoSKSampler: ["window_length", "stride"],
    LongTakeSynCoSSampler: ["window_length", "stride"],
};
export const DOWN = ["CONDITIONING", "GUIDER", "*"]; // outputs that lead from a prompt to its sampler
const UP = ["MODEL", "GUIDER", "SAMPLER", "*"]; // inputs that lead from a sampler to what makes its windows
export const TO_SAMPLER = ["MODEL", "GUIDER", "*"]; // outputs that lead from windows to their sampler
const LATENTS = ["LATENT", "*"]; // inputs that lead from a sampler to the node that makes its latent
const LONGER = "LongTakeContinue"; // makes a longer video of the latent that goes in
export const OFF = [2, 4]; // modes: muted, bypassed
export const CONTROL = "control_after_generate"; // a widget that goes with a value and is none
const ASIDE = [CONTROL, "control_filter_list"]; // all of its kind
const MOST_NODES = 1000; // that one search looks at

/** @param {any} node @param {any} id of a link, null for none */
export const linkOf = (node, id) => (id == null ? null : (node.graph?.links?.get?.(id) ?? node.graph?.links?.[id]));

/** @param {any} graph LiteGraph's, of any version; none has no nodes @returns {any[]} */
export const nodesOf = (graph) => graph?.nodes ?? graph?._nodes ?? [];

/** @param {any} node @param {string} name of an input or its widget */
const inputOf = (node, name) =>
    node.inputs?.find((/** @type {any} */ slot) => slot.widget?.name === name || slot.name === name);

/** The node an input's value comes from, if it is linked. @param {any} node @param {string} name */
export function sourceOf(node, name) {
    const input = inputOf(node, name);
    if (input?.link == null) return null;
    return { node: node.graph?.getNodeById?.(linkOf(node, input.link)?.origin_id) };
}

/** @param {any} node @param {string} name */
export const widgetOf = (node, name) => node.widgets?.find((/** @type {any} */ widget) => widget.name === name);

/**
 * Whose widget decides a value: the node's own, or that of the node that it is linked to, out of subgraphs as well.
 * Several widgets: that node makes its value of more than the first. None: not known before the run.
 * @param {any} node @param {string} name @returns {{node: any, widgets: any[]}}
 */
function decides(node, name) {
    const input = inputOf(node, name);
    const { graph } = node;
    const link = input && linkOf(node, input.link);
    if (!link) return { node, widgets: [widgetOf(node, name)] };
    if (link.origin_id !== graph.inputNode?.id) {
        const source = graph.getNodeById(link.origin_id);
        return { node: source, widgets: source?.widgets?.filter((/** @type {any} */ one) => !ASIDE.includes(one.name)) ?? [] };
    }
    const root = graph.rootGraph ?? graph;
    const around = [root, ...(root.subgraphs?.values() ?? [])].flatMap((each) => each.nodes).filter((each) => each.subgraph === graph);
    const outside = graph.inputs?.[link.origin_slot]?.name;
    return around.length === 1 ? decides(around[0], outside) : { node: undefined, widgets: [] };
}

/**
 * The value of a widget, or that of the first widget of the node it is linked to; unknown: that one has none of its kind.
 * @param {any} node @param {string} name
 */
export function valueOf(node, name) {
    const own = widgetOf(node, name)?.value;
    const decided = decides(node, name).widgets[0]?.value;
    const known = typeof decided === typeof own;
    return { value: known ? decided : own, unknown: !known };
}

/**
 * Nodes that can be reached from some nodes, these included, nearest first.
 * @param {any[]} from @param {"inputs" | "outputs"} side @param {string[]} types
 */
export function reached(from, side, types) {
    const found = new Set(from);
    for (const node of found) {
        if (found.size > MOST_NODES) break;
        for (const slot of node[side] ?? []) {
            if (!types.includes(slot.type)) continue;
            for (const id of slot.links ?? [slot.link]) {
                const link = linkOf(node, id);
                const next = link && node.graph.getNodeById(side === "inputs" ? link.origin_id : link.target_id);
                if (next) found.add(next);
            }
        }
    }
    return [...found];
}

/** The first window node of a list, also inside subgraphs. @param {any[]} nodes @returns {any} */
function pick(nodes) {
    const all = nodes.flatMap((node) => (OFF.includes(node.mode) ? [] : [node, ...(node.subgraph?.nodes ?? [])]));
    for (const type of Object.keys(WINDOW_NODES)) {
        const found = all.find((node) => node.comfyClass === type && !OFF.includes(node.mode));
        if (found) return found;
    }
}

/** Where a widget's value can be set: its own node, or the node of one value that it is linked to. @param {any} node @param {string} name */
export function settable(node, name) {
    const { node: owner, widgets } = decides(node, name);
    return { node: owner, widget: widgets.length === 1 ? widgets[0] : undefined };
}

/** @param {any} node @param {string} name */
export function canSet(node, name) {
    const { widget } = settable(node, name);
    return Boolean(widget) && typeof widget.value === typeof widgetOf(node, name)?.value;
}

/** Set a widget as a user's edit does. @param {any} node @param {string} name @param {unknown} value @param {any} canvas */
export function setValue(node, name, value, canvas) {
    if (!canSet(node, name)) return;
    const { node: owner, widget } = settable(node, name);
    if (widget.value === value) return;
    widget.value = value;
    widget.callback?.(value, canvas, owner);
    owner.setDirtyCanvas?.(true, true);
}

/**
 * @typedef {object} Video the latent that a timeline's prompts are sampled with
 * @property {any} node its node
 * @property {number} length pixel frames that its widget says, NaN: not known before the run
 * @property {number} step pixel frames per latent frame, as the node's widget counts
 */

/**
 * The latent of the sampler that a timeline's prompts, or a window node's model, go to; where none is found, the only one
 * of the graph. Null: there is none, or it becomes longer on its way.
 * @param {any} from the node @param {string[]} [down] outputs that lead to the sampler @returns {Video | null}
 */
export function findVideo(from, down = DOWN) {
    const makes = (/** @type {any} */ node) =>
        !OFF.includes(node.mode) && widgetOf(node, "length") && node.outputs?.some((/** @type {any} */ o) => o.type === "LATENT");
    const nodes = nodesOf(from.graph);
    const longer = (/** @type {any} */ node) => node.comfyClass === LONGER && !OFF.includes(node.mode);
    const near = reached(reached([from], "outputs", down), "inputs", LATENTS).find((node) => makes(node) || longer(node));
    if (near && longer(near)) return null;
    const all = nodes.filter(makes);
    const node = near ?? (all.length === 1 ? all[0] : null);
    if (!node) return null;
    const { value, unknown } = valueOf(node, "length");
    const step = Number(widgetOf(node, "length").options?.step2);
    return { node, length: unknown ? NaN : Number(value), step: step > 1 ? step : 4 };
}

/** The window node of a timeline's sampler, or any of the graph. @param {any} timeline the node */
export function findWindowNode(timeline) {
    const samplers = reached([timeline], "outputs", DOWN);
    return pick(reached(samplers, "inputs", UP)) ?? pick(nodesOf(timeline.graph));
}

/**
 * What to ask the server for the windows of the sampler that a timeline's prompts go to; where none is found, for those
 * of any window node of the graph. Null: there are no windows.
 * @param {any} timeline the node
 * @returns {{node: string, values: Record<string, any>, compression: number} | null}
 */
export function findWindows(timeline) {
    const node = findWindowNode(timeline);
    if (!node) return null;
    const type = /** @type {keyof typeof WINDOW_NODES} */ (node.comfyClass);
    const values = Object.fromEntries(WINDOW_NODES[type].map((name) => [name, valueOf(node, name).value]));
    const compression = node.properties?.longtake_compression ?? findVideo(timeline)?.step ?? node.longtakeCompression ?? 4;
    return { node: type, values, compression };
}
