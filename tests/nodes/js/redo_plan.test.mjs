// "Redo this event" without the page (web/js/redo_plan.js). Run: node --test tests/nodes/js/redo_plan.test.mjs
import assert from "node:assert/strict";
import test from "node:test";
import { freeTop, isRedo, lastRun, nextSeed, planRedo, sameRun, seedOf } from "../../../web/js/redo_plan.js";

const TIMELINE = { kind: "LongTakePromptTimeline", out: ["CONDITIONING", "STRING"] };
const KSAMPLER = { kind: "KSampler", out: ["LATENT"], widgets: { seed: 5 } };
const DECODE = { kind: "VAEDecode", out: ["IMAGE"] };
const span = (event, by = "event") => ({ kind: "LongTakeRedoSpan", out: ["LATENT", "STRING"], widgets: { by, event } });

/** Nodes by id: [what, {input: [id, slot] or its type alone}]. */
function graph(nodes) {
    const links = new Map();
    const made = { links, nodes: [], getNodeById: (id) => made.nodes.find((node) => node.id === Number(id)) };
    for (const [id, [{ kind, out = [], widgets = {}, ...rest }]] of Object.entries(nodes)) {
        const outputs = out.map((type) => ({ type, links: [] }));
        const list = Object.entries(widgets).map(([name, value]) => ({ name, value }));
        made.nodes.push({ id: Number(id), comfyClass: kind, mode: 0, inputs: [], outputs, widgets: list, graph: made, ...rest });
    }
    for (const [id, [, from = {}]] of Object.entries(nodes)) {
        const node = made.getNodeById(id);
        for (const [name, [origin, slot]] of Object.entries(from)) {
            const output = made.getNodeById(origin).outputs[slot];
            const link = links.size + 1;
            links.set(link, { origin_id: origin, origin_slot: slot, target_id: node.id, target_slot: node.inputs.length });
            node.inputs.push({ name, type: output.type, link });
            output.links.push(link);
        }
    }
    return made;
}

const LATENT = { kind: "EmptyLatent", out: ["LATENT"] };
const plain = (more = {}) =>
    graph({ 1: [TIMELINE], 2: [LATENT], 3: [KSAMPLER, { positive: [1, 0], latent_image: [2, 0] }], 4: [DECODE, { samples: [3, 0] }], ...more });
const plan = (g, event, id = 1) => {
    const found = planRedo(g.getNodeById(id), event);
    const ids = ({ span, sampler, chain, path, why }) => ({ span: span?.id, sampler: sampler?.id, chain: chain?.map((n) => n.id), path: path?.map((n) => n.id), why });
    return JSON.parse(JSON.stringify(ids(found)));
};

test("behind the one sampler of a timeline", () => {
    assert.deepEqual(plan(plain(), 2), { sampler: 3, chain: [3], path: [] });
});

test("a guider between the timeline and its sampler is copied, too; its seed is its noise's", () => {
    const g = graph({
        1: [TIMELINE], 2: [LATENT], 5: [{ kind: "CFGGuider", out: ["GUIDER"] }, { positive: [1, 0] }],
        6: [{ kind: "RandomNoise", out: ["NOISE"], widgets: { noise_seed: 7 } }], 8: [{ kind: "PreviewAny" }, { source: [1, 0] }],
        7: [{ kind: "SamplerCustomAdvanced", out: ["LATENT", "LATENT"] }, { guider: [5, 0], noise: [6, 0], latent_image: [2, 0] }],
    });
    assert.deepEqual(plan(g, 1), { sampler: 7, chain: [7], path: [5] });
    assert.deepEqual([seedOf(g.getNodeById(7)).node.id, seedOf(g.getNodeById(7)).name], [6, "noise_seed"]);
    assert.equal(seedOf(plain().getNodeById(3)).name, "seed");
    assert.equal(seedOf(g.getNodeById(2)), null);
});

test("where it cannot be", () => {
    assert.deepEqual(plan(graph({ 1: [TIMELINE] }), 1), { why: "none" });
    for (const mode of [2, 4]) {
        assert.deepEqual(plan(graph({ 1: [TIMELINE], 2: [LATENT], 3: [{ ...KSAMPLER, mode }, { positive: [1, 0], latent_image: [2, 0] }] }), 1), { why: "none" });
    }
    assert.deepEqual(plan(plain({ 9: [KSAMPLER, { positive: [1, 0], latent_image: [3, 0] }] }), 1), { why: "several" });
    const inside = plain();
    inside.links.set(99, { origin_id: 3, origin_slot: 0, target_id: -20, target_slot: 0 });
    inside.getNodeById(3).outputs[0].links.push(99);
    assert.deepEqual(plan(inside, 1), { why: "subgraph" });
    const guide = { kind: "LTXVAddGuide", out: ["CONDITIONING", "CONDITIONING", "LATENT"] };
    assert.deepEqual(plan(graph({ 1: [TIMELINE], 2: [LATENT], 3: [guide, { positive: [1, 0], latent: [2, 0] }] }), 1), { why: "none" });
});

const again = (event) => plain({
    10: [TIMELINE], 11: [span(event), { samples: [3, 0], positive: [10, 0] }],
    12: [KSAMPLER, { positive: [10, 0], latent_image: [11, 0] }], 13: [DECODE, { samples: [12, 0] }],
});

test("a Redo Span that is there: of this timeline, or of the same event behind its sampler", () => {
    assert.deepEqual(plan(again(2), 2), { span: 11 });
    assert.deepEqual(plan(again(2), 3, 10), { span: 11 }); // takes the event
    assert.deepEqual(plan(again(2), 3), { sampler: 3, chain: [3, 12], path: [] }); // behind it: event 2 stays made anew
    const seconds = again(2);
    seconds.getNodeById(11).widgets[0].value = "seconds";
    assert.deepEqual(plan(seconds, 2).chain, [3, 12]);
    const off = again(2);
    off.getNodeById(11).mode = 4;
    assert.deepEqual(plan(off, 2).chain, [3]);
    assert.deepEqual([again(2), off].map((g) => isRedo(g.getNodeById(11))), [true, false]);
    const round = plain({ 5: [span(1), { samples: [3, 0] }] });
    round.links.set(99, { origin_id: 5, origin_slot: 0, target_id: 3, target_slot: 1 });
    round.getNodeById(5).outputs[0].links.push(99);
    assert.deepEqual(plan(round, 2).chain, [3]);
});

test("the next seed is another number", () => {
    assert.deepEqual([0, 41, 2 ** 53 - 2, 2 ** 64, NaN].map(nextSeed), [1, 42, 2 ** 53 - 1, 1, 1]);
});

test("the last run of a node, and whether it would run again", () => {
    const api = (seed, text) => ({
        1: { class_type: "Text", inputs: { text } },
        3: { class_type: "KSampler", inputs: { seed, positive: ["1", 0], negative: ["1", 0], sizes: [1, 2] } },
        4: { class_type: "VAEDecode", inputs: { samples: ["3", 0] } },
    });
    const run = (graph, status = "success") => ({ prompt: [0, "id", graph], status: { status_str: status } });
    const history = { a: run(api(1, "x")), b: run(api(2, "x")), c: run(api(3, "x"), "error"), d: run({ 3: { class_type: "Other", inputs: {} } }) };
    const ran = lastRun(history, "3", "KSampler");
    assert.equal(ran[3].inputs.seed, 2);
    assert.equal(lastRun(history, "9", "KSampler"), undefined);
    assert.equal(lastRun({}, "3", "KSampler"), undefined);
    assert.ok(sameRun(api(2, "x"), ran, "3"));
    assert.ok(!sameRun(api(3, "x"), ran, "3") && !sameRun(api(2, "y"), ran, "3") && !sameRun({}, ran, "3"));
    assert.ok(sameRun({ ...api(2, "x"), 4: { class_type: "VAEDecode", inputs: {} } }, ran, "3")); // what is behind it does not matter
});

test("new nodes lie where none is", () => {
    const node = (x, y, w, h) => ({ pos: [x, y], size: [w, h] });
    const box = [500, 300];
    assert.equal(freeTop([], 0, 100, box), 100);
    assert.equal(freeTop([node(900, 0, 100, 5000)], 0, 100, box), 100); // beside it
    assert.equal(freeTop([node(0, 0, 300, 400)], 0, 100, box), 490);
    assert.equal(freeTop([node(200, 600, 300, 400), node(0, 0, 300, 400)], 0, 100, box), 1090);
    assert.equal(freeTop([node(0, 0, 300, 400), node(0, 2000, 300, 400)], 0, 450, box), 490);
});
