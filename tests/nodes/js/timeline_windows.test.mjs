// The windows beneath the timeline (web/js/timeline_windows.js) and how they are found in the graph
// (web/js/timeline_graph.js). Run: node --test tests/nodes/js/timeline_windows.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

const load = async (name) => {
    const source = await readFile(new URL(`../../../web/js/${name}.js`, import.meta.url), "utf8");
    return import(`data:text/javascript,${encodeURIComponent(source)}`);
};
const { stack, shapes, windowAt } = await load("timeline_windows");
const { findVideo, findWindows, settable, valueOf } = await load("timeline_graph");

const windows = [
    { start: 0, end: 49, events: [[0, 1]] },
    { start: 25, end: 73, events: [[0, 0.75], [1, 0.25]] },
    { start: 49, end: 97, events: [[1, 1]] },
    { start: 50, end: 98, events: [] },
];

test("windows that overlap lie in different rows", () => {
    assert.deepEqual(stack(windows), { rows: [0, 1, 0, 2], count: 3 });
    assert.deepEqual(stack([]), { rows: [], count: 0 });
    const many = Array.from({ length: 2500 }, (_, i) => ({ start: 4 * i, end: 4 * i + 81, events: [] }));
    const { rows, count } = stack(many);
    assert.equal(count, 21);
    const last = [];
    many.forEach(({ start, end }, i) => {
        assert.ok(!(last[rows[i]] > start));
        last[rows[i]] = end;
    });
});

test("shapes: one path per colour; two events share a window by weight; the selected event's stand out", () => {
    const { rows } = stack(windows);
    const found = shapes(windows, rows, 1, (event) => [212, 158][event], [0, 0]);
    assert.deepEqual(found, [
        { hue: 212, own: false, path: "M0 0h49v1h-49zM25 1h48v0.75h-48z" },
        { hue: 158, own: true, path: "M25 1.75h48v0.25h-48zM49 0h48v1h-48z" },
        { hue: null, own: false, path: "M50 2h48v1h-48z" },
    ]);
    const apart = shapes(windows, rows, 1, () => 5, [1, 0.2]);
    assert.equal(apart[0].path, "M0 0h48v0.8h-48zM25 1h47v0.6h-47z");
    const alike = shapes(windows, rows, 0, () => 5, [0, 0]);
    assert.deepEqual(alike.map(({ hue, own }) => [hue, own]), [[5, true], [5, false], [null, false]]);
});

test("the window under the pointer", () => {
    const { rows } = stack(windows);
    assert.deepEqual([[0, 10], [1, 10], [0, 49], [2, 97], [2, 98], [9, 60]].map(([row, frame]) => windowAt(windows, rows, row, frame)),
        [0, -1, 2, 3, -1, -1]);
});

/** A graph like LiteGraph's: nodes as {id, type, widgets, in: {type: [from, slot type]}}. */
function graph(...nodes) {
    const links = new Map();
    const all = nodes.map(({ id, type, widgets = {}, from = [], ...rest }) => ({
        id, comfyClass: type, mode: 0, properties: {}, from, inputs: [], outputs: [], ...rest,
        widgets: Object.entries(widgets).map(([name, value]) => ({ name, value })),
    }));
    const made = { links, nodes: all, getNodeById: (id) => all.find((node) => node.id === id) };
    for (const node of all) {
        node.graph = made;
        for (const [kind, origin, widget] of node.from) {
            const id = links.size + 1;
            links.set(id, { origin_id: origin, target_id: node.id });
            node.inputs.push({ name: widget ?? kind, type: kind, link: id, widget: widget && { name: widget } });
            made.getNodeById(origin)?.outputs.push({ type: kind, links: [id] });
        }
    }
    return made;
}

const widgets = {
    window_length: 49, overlap: 24, schedule: "static", shift_seed: 3, fuse: "pyramid", overlap_end: -1, closed_loop: false,
};
const scheduler = (id, rest = {}) => ({ id, type: "LongTakeWindowScheduler", widgets, from: [["MODEL", 1]], ...rest });
const syncos = (id, type, from) => ({ id, type, widgets: { window_length: 81, stride: 24, iters: 2 }, from });
const found = (g) => findWindows(g.getNodeById(2));
const loader = { id: 1, type: "Loader" };
const timeline = { id: 2, type: "LongTakePromptTimeline" };
const ksampler = (id, model) => ({ id, type: "KSampler", from: [["MODEL", model], ["CONDITIONING", 2]] });

test("the windows of the sampler that the prompts go to", () => {
    const g = graph(scheduler(9, { from: [] }), loader, timeline, scheduler(3, { properties: { longtake_compression: 8 } }),
        { id: 4, type: "LoraLoader", from: [["MODEL", 3]] }, ksampler(5, 4));
    const values = { ...widgets };
    delete values.fuse;
    assert.deepEqual(found(g), { node: "LongTakeWindowScheduler", values, compression: 8 });
});

test("the video of a timeline is not the latent that Continue Video makes longer", () => {
    const empty = { id: 4, type: "EmptyLatent", widgets: { length: 293 } };
    const sampler = (id, prompt, latent) => ({ id, type: "KSampler", from: [["CONDITIONING", prompt], ["LATENT", latent]] });
    const made = graph({ id: 1, type: "LongTakePromptTimeline" }, timeline, { ...empty, outputs: [] }, sampler(5, 1, 4),
        { id: 6, type: "LongTakeContinue", from: [["LATENT", 5], ["CONDITIONING", 2]] }, sampler(7, 6, 6));
    assert.equal(findVideo(made.getNodeById(1)).length, 293);
    assert.equal(findVideo(made.getNodeById(2)), null);
    made.getNodeById(6).mode = 4;
    assert.equal(findVideo(made.getNodeById(2)).length, 293);
});

test("SynCoS makes its own windows where the model has none", () => {
    const own = { node: "LongTakeSynCoSKSampler", values: { window_length: 81, stride: 24 }, compression: 4 };
    const from = [["MODEL", 1], ["CONDITIONING", 2]];
    assert.deepEqual(found(graph(loader, timeline, syncos(5, "LongTakeSynCoSKSampler", from))), own);
    const g = graph(loader, timeline, { id: 4, type: "CFGGuider", from }, syncos(5, "LongTakeSynCoSSampler", []),
        { id: 6, type: "LongTakeVMCR", from: [["SAMPLER", 5]] },
        { id: 7, type: "SamplerCustomAdvanced", from: [["GUIDER", 4], ["SAMPLER", 6]] });
    assert.deepEqual(found(g), { ...own, node: "LongTakeSynCoSSampler" });
    const both = graph(loader, timeline, scheduler(3), syncos(5, "LongTakeSynCoSKSampler", [["MODEL", 3], ["CONDITIONING", 2]]));
    assert.equal(found(both).node, "LongTakeWindowScheduler");
});

test("not connected: any window node that is not switched off; none: no windows", () => {
    assert.equal(found(graph(loader, timeline, ksampler(5, 1))), null);
    assert.equal(found(graph(loader, timeline, scheduler(3))).values.overlap, 24);
    for (const mode of [2, 4]) assert.equal(found(graph(loader, timeline, scheduler(3, { mode }), ksampler(5, 3))), null);
    const inner = graph(loader, scheduler(3)).nodes[1];
    assert.equal(found(graph(loader, timeline, { ...ksampler(5, 1), subgraph: { nodes: [inner] } })).values.window_length, 49);
    const round = graph({ id: 1, type: "A", from: [["*", 4]] }, timeline, { id: 4, type: "B", from: [["*", 1]] }, ksampler(5, 4));
    assert.equal(found(round), null);
});

test("values that come from links", () => {
    const number = { id: 8, type: "PrimitiveInt", widgets: { value: 97 } };
    const text = { id: 7, type: "PrimitiveString", widgets: { value: "x" } };
    const g = graph(loader, timeline, number, text, scheduler(3, { from: [["MODEL", 1], ["INT", 8, "window_length"], ["INT", 7, "overlap"]] }));
    assert.equal(found(g).values.window_length, 97);
    const node = g.getNodeById(3);
    assert.deepEqual(valueOf(node, "window_length"), { value: 97, unknown: false });
    assert.deepEqual(valueOf(node, "overlap"), { value: 24, unknown: true });
    assert.deepEqual(valueOf(node, "fuse"), { value: "pyramid", unknown: false });
});

test("values that come from around a subgraph", () => {
    const number = { id: 8, type: "PrimitiveInt", widgets: { value: 97 } };
    const inner = graph(loader, scheduler(3, { from: [["MODEL", 1], ["INT", -10, "window_length"]] }));
    Object.assign(inner, { inputNode: { id: -10 }, inputs: [{ name: "frames" }] });
    const node = inner.getNodeById(3);
    [...inner.links.values()].find((link) => link.origin_id === -10).origin_slot = 0;
    const around = (...nodes) => {
        const root = graph(number, ...nodes.map((rest, i) => ({ id: 20 + i, type: "sub", subgraph: inner, widgets: { frames: 161 }, ...rest })));
        inner.rootGraph = Object.assign(root, { subgraphs: new Map([["a", inner]]) });
        return root;
    };
    const root = around({});
    assert.deepEqual(valueOf(node, "window_length"), { value: 161, unknown: false });
    assert.equal(settable(node, "window_length").node, root.getNodeById(20));
    around({ from: [["INT", 8, "frames"]] });
    assert.deepEqual(valueOf(node, "window_length"), { value: 97, unknown: false });
    around({}, {}); // two videos of one subgraph: neither's
    assert.deepEqual(valueOf(node, "window_length"), { value: 49, unknown: true });
    assert.equal(settable(node, "window_length").widget, undefined);
});
