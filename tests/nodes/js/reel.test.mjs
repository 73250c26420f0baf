// The last run's frames beneath the timeline's ruler (web/js/reel_logic.js). Run: node --test tests/nodes/js/reel.test.mjs
import assert from "node:assert/strict";
import test from "node:test";
import { cells, latentStep, nearest, pictureOf, played } from "../../../web/js/reel_logic.js";

const FRAMES = Array.from({ length: 25 }, (_, i) => 4 * i); // of 97 pixel frames

test("only a picture with its places is shown, and the end of a run brings more frames", () => {
    const good = { image: "AAAA", frames: [0, 4, 8] };
    assert.deepEqual(pictureOf({ ...good, step: 3 }), good);
    assert.deepEqual(pictureOf({ ...good, reel: "BBBB", reel_frames: [0, 4] }), { image: "BBBB", frames: [0, 4] });
    for (const frames of [[], undefined, "0", [0, 0], [4, 0], [-1, 3], [0, NaN], [0, "4"], [0, Infinity]]) {
        assert.equal(pictureOf({ image: "AAAA", frames }), null);
    }
    for (const image of ["", undefined, 'a")', "data:text/html,x"]) assert.equal(pictureOf({ image, frames: [0] }), null);
});

test("a pixel frame is shown by its own latent frame", () => {
    assert.deepEqual([0, 1, 4, 5, 8, 9, 96, 500].map((frame) => nearest(FRAMES, frame, 4)), [0, 1, 1, 2, 2, 3, 24, 24]);
    assert.deepEqual([0, 1, 8, 9].map((frame) => nearest([0, 8], frame, 8)), [0, 1, 1, 1]);
    assert.equal(nearest([0, 48, 96], 30, 4), 1);
});

test("cells lie in the timeline's time", () => {
    const { count, shown } = cells(FRAMES, 1, 97, 4, 340);
    assert.equal(count, 10);
    assert.equal(shown.length, 10);
    shown.forEach((thumb, i) => assert.ok(Math.abs(FRAMES[thumb] - 1.5 - ((i + 0.5) * 97) / 10) <= 3));
    assert.deepEqual(cells(FRAMES, 1, 97, 4, 5), { count: 1, shown: [12] });
    const longer = cells(FRAMES, 1, 194, 4, 340); // the video was made longer since: nothing behind its end
    assert.equal(longer.count, 10);
    assert.equal(longer.shown.length, 5);
    assert.equal(cells(FRAMES, 1, 49, 4, 340).shown.at(-1), 12); // shorter: what lies in it
    assert.equal(cells(FRAMES, 1, 97, 4, 30_000).count, 200); // however far it is zoomed in
});

test("the keys go from latent frame to latent frame, and stay in the video", () => {
    assert.deepEqual([0, 1, 4, 95, 96].map((frame) => latentStep(frame, 1, 4, 97)), [4, 4, 8, 96, 96]);
    assert.deepEqual([0, 1, 4, 96].map((frame) => latentStep(frame, -1, 4, 97)), [0, 0, 0, 92]);
});

test("playing goes with the clock and ends at the last frame", () => {
    assert.deepEqual([0, 62, 63, 1000, 1e6].map((ms) => played(10, ms, 16, 97)), [10, 10, 11, 26, 96]);
});
