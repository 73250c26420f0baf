// The pure part of the timeline widget (web/js/timeline_model.js). Run: node --test tests/nodes/js/timeline.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

// As a data: URL, because .js without a package.json is no module to older Nodes.
const source = await readFile(new URL("../../../web/js/timeline_model.js", import.meta.url), "utf8");
const model = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const make = (equal, ...ends) => ({
    length: ends.at(-1),
    equal,
    events: ends.map((end, i) => ({ text: "abcdefgh"[i], start: i ? ends[i - 1] : 0, end, origin: i })),
});
const brief = (line) => line.events.map((e) => [e.text, e.start, e.end]);
const timed = () => make(false, 32, 64, 96);
const equal = () => make(true, 32, 64, 96);

test("an answer becomes a timeline, and a timeline an edit", () => {
    const answer = { way: "equal", events: [{ text: "a", start: 0, end: 5 }] };
    const line = model.fromAnswer(answer, 5);
    assert.deepEqual(line, { length: 5, equal: true, events: [{ text: "a", start: 0, end: 5, origin: 0 }] });
    assert.deepEqual(model.toEdit(line), { equal: true, events: [{ text: "a", start: 0, origin: 0 }] });
    assert.equal(model.fromAnswer({ ...answer, way: "lines" }, 5).equal, false);
});

test("a border moves within its neighbours", () => {
    const line = timed();
    assert.deepEqual(brief(model.moveBorder(line, 1, 40.4)), [["a", 0, 40], ["b", 40, 64], ["c", 64, 96]]);
    assert.equal(model.moveBorder(line, 1, -50).events[1].start, 1);
    assert.equal(model.moveBorder(line, 1, 500).events[1].start, 63);
    assert.equal(model.moveBorder(line, 2, 500).events[2].start, 95);
    assert.equal(model.moveBorder(line, 1, 32), line);
    assert.equal(model.moveBorder(line, 0, 5), line);
    assert.equal(model.moveBorder(line, 3, 5), line);
    assert.equal(model.moveBorder(equal(), 1, 40).equal, false);
    assert.deepEqual(brief(line), brief(timed()), "the timeline given is not changed");
});

test("split", () => {
    const { line, selected } = model.splitEvent(timed(), 1);
    assert.deepEqual(brief(line), [["a", 0, 32], ["b", 32, 48], ["b", 48, 64], ["c", 64, 96]]);
    assert.equal(selected, 2);
    assert.deepEqual(line.events.map((e) => e.origin), [0, 1, null, 2]);
    assert.equal(model.splitEvent(timed(), 1, 40).line.events[2].start, 40);
    assert.equal(model.splitEvent(timed(), 1, 999).line.events[2].start, 63);
    assert.equal(model.splitEvent(make(true, 96), 0).line.equal, true);
    assert.equal(model.splitEvent(make(true, 97), 0, 3).line.equal, false);
    assert.equal(model.splitEvent(equal(), 0).line.equal, false);
    const tiny = make(false, 1, 2);
    assert.equal(model.splitEvent(tiny, 0).line, tiny);
});

test("add", () => {
    // Those up to the selected one keep their times, those behind it make room.
    assert.deepEqual(brief(model.addEvent(make(false, 32, 64, 97), 1, "x").line), [
        ["a", 0, 32], ["b", 32, 64], ["x", 64, 81], ["c", 81, 97],
    ]);
    assert.deepEqual(brief(model.addEvent(timed(), 2, "x").line), [["a", 0, 24], ["b", 24, 48], ["c", 48, 72], ["x", 72, 96]]);
    assert.deepEqual(brief(model.addEvent(make(false, 48, 95, 96), 1, "x").line).length, 4); // no room behind: all make it
    const { line, selected } = model.addEvent(equal(), 0, "x");
    assert.deepEqual(brief(line), [["a", 0, 24], ["x", 24, 48], ["b", 48, 72], ["c", 72, 96]]);
    assert.equal(selected, 1);
    assert.equal(line.equal, true);
    const empty = { events: [], length: 9, equal: true };
    assert.deepEqual(brief(model.addEvent(empty, 0, "x").line), [["x", 0, 9]]);
    const full = make(true, 1, 2);
    assert.equal(model.addEvent(full, 0, "x").line, full);
});

test("duplicate", () => {
    const { line, selected } = model.duplicateEvent(timed(), 1);
    assert.deepEqual(brief(line), [["a", 0, 32], ["b", 32, 64], ["b", 64, 80], ["c", 80, 96]]);
    assert.deepEqual([selected, line.events[2].origin], [2, null]);
});

test("set a duration", () => {
    assert.deepEqual(brief(model.setDuration(timed(), 1, 40).line), [["a", 0, 32], ["b", 32, 72], ["c", 72, 96]]);
    assert.deepEqual(brief(model.setDuration(timed(), 1, 10).line), [["a", 0, 32], ["b", 32, 42], ["c", 42, 96]]);
    assert.deepEqual(brief(model.setDuration(timed(), 2, 10).line), [["a", 0, 32], ["b", 32, 86], ["c", 86, 96]]);
    assert.deepEqual(brief(model.setDuration(timed(), 0, 80).line), [["a", 0, 80], ["b", 80, 81], ["c", 81, 96]]);
    assert.deepEqual(brief(model.setDuration(timed(), 1, 999).line), [["a", 0, 1], ["b", 1, 95], ["c", 95, 96]]);
    const same = timed();
    assert.equal(model.setDuration(same, 1, 32).line, same);
    assert.deepEqual(brief(model.setSpan(timed(), 1, [30, 70])), [["a", 0, 30], ["b", 30, 70], ["c", 70, 96]]);
});

test("times as people type them", () => {
    const read = (text) => model.parseTime(text, 16);
    assert.deepEqual(["6", "6.1 s", "6,5s", "1:06", "98f", "98 frames", "2 seconds"].map(read), [96, 98, 104, 1056, 98, 98, 32]);
    for (const text of ["", "x", "-3", "1:2f", "3 4", "1e3"]) assert.ok(Number.isNaN(read(text)), text);
    for (const frames of [1, 16, 98, 1056, 2008]) assert.equal(read(model.formatTime(frames, 16)), frames);
});

test("delete", () => {
    assert.deepEqual(brief(model.removeEvent(timed(), 1).line), [["a", 0, 64], ["c", 64, 96]]);
    assert.deepEqual(brief(model.removeEvent(timed(), 0).line), [["b", 0, 64], ["c", 64, 96]]);
    assert.deepEqual(brief(model.removeEvent(equal(), 0).line), [["b", 0, 48], ["c", 48, 96]]);
    assert.equal(model.removeEvent(timed(), 2).selected, 1);
    const one = make(false, 9);
    assert.equal(model.removeEvent(one, 0).line, one);
});

test("reorder keeps durations", () => {
    const line = make(false, 10, 40, 96);
    assert.deepEqual(brief(model.moveEvent(line, 0, 2).line), [["b", 0, 30], ["c", 30, 86], ["a", 86, 96]]);
    assert.deepEqual(brief(model.moveEvent(line, 2, 0).line), [["c", 0, 56], ["a", 56, 66], ["b", 66, 96]]);
    assert.equal(model.moveEvent(line, 1, 1).line, line);
    assert.equal(model.moveEvent(line, 1, 99).selected, 2);
    assert.deepEqual(brief(model.moveEvent(equal(), 0, 1).line), [["b", 0, 32], ["a", 32, 64], ["c", 64, 96]]);
});

test("spread evenly", () => {
    const line = model.spreadEvenly(make(false, 10, 40, 97));
    assert.deepEqual(brief(line), [["a", 0, 32], ["b", 32, 65], ["c", 65, 97]]);
    assert.equal(line.equal, true);
});

test("any sequence of changes keeps the timeline whole", () => {
    let seed = 1;
    const random = (n) => (seed = (seed * 48271) % 2147483647) % n;
    for (const start of [timed(), equal(), make(true, 7), make(false, 1, 2, 3)]) {
        let line = start;
        for (let k = 0; k < 400; k++) {
            const i = random(line.events.length);
            line = [
                () => model.moveBorder(line, i, random(line.length + 20) - 10),
                () => model.splitEvent(line, i).line,
                () => model.addEvent(line, i, "x").line,
                () => model.removeEvent(line, i).line,
                () => model.duplicateEvent(line, i).line,
                () => model.setDuration(line, i, random(line.length + 20)).line,
                () => model.moveEvent(line, i, random(line.events.length)).line,
                () => (random(10) ? line : model.spreadEvenly(line)),
            ][random(8)]();
            const { events } = line;
            assert.equal(events[0].start, 0);
            assert.equal(events.at(-1).end, line.length);
            events.forEach((e, j) => assert.ok(e.end > e.start && (!j || events[j - 1].end === e.start)));
        }
    }
});

test("find the event at a frame, and the place of a drop", () => {
    const line = make(false, 10, 40, 96);
    assert.deepEqual([-5, 0, 9, 10, 39.5, 40, 200].map((f) => model.eventAt(line, f)), [0, 0, 0, 1, 1, 2, 2]);
    assert.deepEqual([5, 20, 30, 50, 90, 999].map((f) => model.dropPlace(line, 0, f)), [0, 0, 1, 1, 2, 2]);
    assert.deepEqual([-9, 2, 8, 20, 30, 60].map((f) => model.dropPlace(line, 2, f)), [0, 0, 1, 1, 2, 2]);
});

test("times and ruler", () => {
    assert.equal(model.formatTime(98, 16), "6.13 s");
    assert.equal(model.formatTime(0, 16), "0 s");
    assert.equal(model.formatTime(16 * 66, 16), "1:06");
    assert.equal(model.formatTime(16 * 125.5, 16), "2:05.5");
    for (const [length, fps] of [[293, 16], [10_000, 24], [1, 1000], [1_000_000, 0.01], [49, 16]]) {
        for (const width of [50, 300, 1000, 20_000]) {
            const marks = model.ticks(length, fps, width);
            assert.ok(marks.length >= 1 && marks.length <= width / 56 + 1);
            assert.ok(marks.every((mark) => mark.frame < length));
        }
    }
    assert.deepEqual(model.ticks(293, 16, 0), []);
    assert.deepEqual(model.ticks(160, 16, 400).map((t) => t.label), ["0 s", "2 s", "4 s", "6 s", "8 s"]);
});

test("neighbours differ in colour", () => {
    for (let i = 0; i < 200; i++) {
        const d = Math.abs(model.hue(i) - model.hue(i + 1));
        assert.ok(Math.min(d, 360 - d) >= 50);
    }
});
