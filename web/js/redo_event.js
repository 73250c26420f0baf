// @ts-check
/** "Redo this event": puts into the graph what one would wire by hand, as one step of undo. */

// @ts-ignore: served by ComfyUI
import { api } from "../../../scripts/api.js";
// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { t } from "./i18n.js";
import { freeTop, isRedo, lastRun, nextSeed, planRedo, REDO, sameRun, seedOf, users } from "./redo_plan.js";
import { CONTROL, linkOf, setValue, settable, sourceOf, valueOf, widgetOf } from "./timeline_graph.js";
import { running } from "./timeline_linked.js";

/** @typedef {import("./timeline_widget.js").TimelineWidget} TimelineWidget */

const RUNS = 100; // of the history
const ARRIVAL = 4; // latent frames behind the event
const APART = 60; // px between new nodes
const BELOW = 300; // px, for what ComfyUI shows in a sampler
const TOAST_MS = 15_000;

/** Why an event cannot be redone; empty: it can. @param {TimelineWidget} timeline @param {number} event from 0 */
export function whyNot({ node, view, linked }, event) {
    if (!view.state.editable && !linked) return t("the events do not fit the video");
    switch (planRedo(node, event + 1).why) {
        case "none": return t("no sampler gets its prompts");
        case "several": return t("several samplers get its prompts");
        case "subgraph": return t("its video leaves a subgraph");
    }
    return "";
}

/** @param {TimelineWidget} timeline @param {number} event from 0 */
export async function redoEvent(timeline, event) {
    const history = await api.fetchApi(`/history?max_items=${RUNS}`).then((/** @type {Response} */ answer) => answer.json()).catch(() => ({}));
    await timeline.flush(); // what was just typed goes into the copy
    const { node } = timeline;
    if (!node.graph || whyNot(timeline, event)) return; // meanwhile
    const plan = planRedo(node, event + 1);
    const { canvas } = app;
    const idOf = (/** @type {any} */ one) => running(app.rootGraph ?? app.graph, one.comfyClass).find(([, found]) => found === one)?.[0] ?? "";
    canvas.emitBeforeChange();
    try {
        if (plan.span) {
            take(plan.span, event + 1);
            return;
        }
        const end = plan.chain?.at(-1);
        const id = idOf(end);
        const ran = lastRun(history, id, end.comfyClass);
        const control = controlOf(seedOf(plan.sampler))?.value;
        for (const seed of plan.chain?.map(seedOf) ?? []) {
            if (seed) keepSeed(seed, ran?.[idOf(seed.node)]?.inputs[seed.name]);
        }
        show(add(timeline, plan, event + 1, control));
        tell(event + 1, ran, id);
    } finally {
        canvas.emitAfterChange();
    }
}

/** Have the Redo Span that is there redo the event. @param {any} span @param {number} event from 1 */
function take(span, event) {
    const was = widgetOf(span, "by")?.value === "event" ? valueOf(span, "event").value : null;
    setValue(span, "by", "event", app.canvas);
    setValue(span, "event", event, app.canvas);
    show(span);
    if (was === null || was === event || valueOf(span, "event").value !== event) return;
    say("info", t("Redo Span makes event {event} now", { event }), t("Event {was} is again as the first sampler made it.", { was }));
}

/** @param {ReturnType<typeof seedOf>} seed */
const controlOf = (seed) => (seed ? widgetOf(settable(seed.node, seed.name).node, CONTROL) : undefined);

/** The seed that made the video stays, where ComfyUI gives it another one after each run. @param {{node: any, name: string}} seed @param {unknown} ran */
function keepSeed(seed, ran) {
    const control = controlOf(seed);
    if (!control || control.value === "fixed") return;
    control.value = "fixed";
    if (typeof ran === "number") setValue(seed.node, seed.name, ran, app.canvas);
}

/**
 * Behind the finished video a Redo Span and a copy of its sampler, with another seed and a copy of the timeline.
 * @param {TimelineWidget} timeline @param {import("./redo_plan.js").Plan} plan @param {number} event from 1
 * @param {unknown} control what the copy's seed does after a run
 */
function add({ node, view }, { sampler, chain = [], path = [] }, event, control) {
    const { LiteGraph } = /** @type {any} */ (window);
    const seed = seedOf(sampler);
    const end = chain.at(-1);
    const last = seedOf(end);
    const columns = [[node, ...path], seed && seed.node !== sampler ? [seed.node] : [], [sampler]];
    const copies = new Map(columns.flat().map((one) => [one, one.clone()]));
    const span = LiteGraph.createNode(REDO);
    const made = columns.map((column) => column.map((one) => copies.get(one)));
    made[1].unshift(span);
    place(made, sampler);
    const [own, again] = [copies.get(node), copies.get(sampler)];
    own.title = t("{title}, event {event} again", { title: node.title, event });
    again.title = t("Event {event} again", { event });
    again.setSize([again.size[0], again.computeSize()[1]]); // without the original's pictures
    own.longtakeTimeline.view.state.selected = event - 1;
    for (const [from, copy] of copies) {
        const other = (/** @type {any} */ input) => (from === sampler && input.type === "LATENT") || (from === seed?.node && input.name === seed.name);
        rewire(from, copy, copies, other);
    }
    const uses = users(end).filter((use) => !isRedo(use.node));
    const slot = (/** @type {any} */ one) => one.outputs.findIndex((/** @type {any} */ output) => output.type === "LATENT");
    end.connect(uses[0]?.from ?? slot(end), span, span.findInputSlot("samples"));
    own.connect(0, span, span.findInputSlot("positive"));
    span.connect(0, again, again.inputs.findIndex((/** @type {any} */ input) => input.type === "LATENT"));
    for (const use of uses) again.connect(again.outputs[use.from]?.type === "LATENT" ? use.from : slot(again), use.node, use.input);
    const { step } = view.state;
    const values = { by: "event", event, fps: valueOf(node, "fps").value, compression: step, arrive: ARRIVAL * step };
    for (const [name, value] of Object.entries(values)) setValue(span, name, value, app.canvas);
    if (seed && last) {
        const copy = copies.get(seed.node);
        setValue(copy, seed.name, nextSeed(Number(valueOf(last.node, last.name).value)), app.canvas);
        const widget = widgetOf(copy, CONTROL);
        if (widget) widget.value = control ?? "fixed";
    }
    return span;
}

/**
 * Give a copy the links of its original, from copies where there are.
 * @param {any} from @param {any} copy @param {Map<any, any>} copies @param {(input: any) => boolean} other which inputs get others
 */
function rewire(from, copy, copies, other) {
    for (const input of from.inputs ?? []) {
        const link = linkOf(from, input.link);
        if (!link || other(input)) continue;
        const source = sourceOf(from, input.name)?.node;
        if (source) (copies.get(source) ?? source).connect(link.origin_slot, copy, copy.findInputSlot(input.name));
    }
}

/** Columns of new nodes, side by side below the sampler, and into the graph. @param {any[][]} columns @param {any} sampler */
function place(columns, sampler) {
    const { graph } = sampler;
    const heights = columns.map((column) => column.reduce((sum, { size }) => sum + size[1] + APART, 0));
    const widths = columns.map((column) => Math.max(0, ...column.map(({ size }) => size[0])));
    const width = widths.reduce((sum, one) => sum + one + APART, 0);
    let [left, bottom] = [sampler.pos[0], sampler.pos[1] + sampler.size[1]];
    const top = freeTop(graph.nodes ?? graph._nodes, left, bottom + BELOW, [width, Math.max(...heights)]);
    columns.forEach((column, i) => {
        let y = top;
        for (const node of column) {
            node.pos = [left, y];
            node.id = -1; // a copy's is "undefined" in newer front-ends
            graph.add(node);
            y += node.size[1] + APART;
        }
        left += widths[i] + APART;
    });
}

/** @param {any} node */
function show(node) {
    const { canvas } = app;
    canvas.deselectAll?.();
    canvas.selectItems([node]);
    canvas.centerOnNode(node);
    canvas.setDirty(true, true);
}

/** @param {"info" | "warn"} severity @param {string} summary @param {string} detail */
function say(severity, summary, detail) {
    app.extensionManager?.toast?.add({ severity, summary, detail, life: TOAST_MS });
}

/** What was added, and whether a run makes the video once more. @param {number} event @param {Record<string, any> | undefined} ran @param {string} id */
async function tell(event, ran, id) {
    const summary = t("Run makes event {event} again", { event });
    const added = t("Added: Redo Span, with copies of the timeline, where this event's prompt can be changed, and of the sampler, with the next seed. Ctrl+Z takes them out.");
    const { output } = await app.graphToPrompt();
    if (ran && sameRun(output, ran, id)) return say("info", summary, added);
    const first = ran
        ? t("The graph has changed since this video was made: the run makes the video once more first.")
        : t("This video has not been made yet: the run makes it first.");
    say("warn", summary, `${first}\n${added}`);
}
