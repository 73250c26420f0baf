// The pure part of Compare Videos' player (web/js/compare_logic.js). Run: node --test tests/nodes/js/compare.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

const source = await readFile(new URL("../../../web/js/compare_logic.js", import.meta.url), "utf8");
const logic = await import(`data:text/javascript,${encodeURIComponent(source)}`);
const { above, beside, caption, clock, frameAt, frameForKey, pairOf, timeOf } = logic;
const t = (text, values = {}) => text.replace(/\{(\w+)\}/g, (_, name) => values[name]);
const video = (width, height, frames = 10) => ({ name: "a", box: [0, 32, width, height], frames });
const all = (frames, fps = 16) => ({ frames, fps, videos: [], file: {} });

test("videos beside each other fill the width at one height, each in its own shape", () => {
  const { height, boxes } = beside([video(64, 64), video(128, 64)], 604);
  assert.equal(height, 200);
  assert.deepEqual(boxes, [{ x: 0, y: 0, width: 200, height: 200 }, { x: 204, y: 0, width: 400, height: 200 }]);
});

test("too many for the width stand in rows that are as full as each other, and never apart from the node", () => {
  for (let count = 1; count < 7; count++)
    for (const width of [40, 200, 480, 900]) {
      const videos = Array.from({ length: count }, (_, i) => video(i % 2 ? 832 : 480, 480));
      const { height, boxes } = beside(videos, width);
      assert.equal(boxes.length, count);
      assert.equal(new Set(boxes.map((box) => box.height)).size, 1);
      for (const box of boxes) {
        assert.ok(box.x >= 0 && box.x + box.width <= width + 1e-6 && box.y + box.height <= height + 1e-6);
      }
    }
  const rows = (videos, width) => beside(videos, width).boxes.map((box) => box.y);
  assert.equal(new Set(rows(Array(4).fill(video(64, 64)), 480)).size, 2); // two and two, not three and one
});

test("two in one place: the second lies within the first, in its own shape", () => {
  assert.deepEqual(above([video(64, 64), video(128, 64)], 400).boxes, [
    { x: 0, y: 0, width: 400, height: 400 }, { x: 0, y: 100, width: 400, height: 200 },
  ]);
  assert.equal(above([video(64, 64), video(64, 64)], 4000).height, 480);
});

test("a frame is found again from the time that is sought for it, at every rate", () => {
  for (const fps of [8, 16, 23.976, 24, 29.97, 60])
    for (let frame = 0; frame < 1225; frame++) {
      assert.equal(frameAt(timeOf(frame, all(1225, fps)), all(1225, fps)), frame);
      assert.equal(frameAt(Math.round((frame / fps) * 1e6) / 1e6, all(1225, fps)), frame); // as a browser tells it
    }
  assert.equal(frameAt(-1, all(5)), 0);
  assert.equal(frameAt(99, all(5)), 4);
});

test("keys go by a frame and a second, not past the ends; others are not ours", () => {
  const go = (key, frame) => frameForKey(key, frame, all(40));
  assert.deepEqual([go("ArrowRight", 3), go("ArrowLeft", 3), go("PageDown", 3), go("PageUp", 3)], [4, 2, 19, 0]);
  assert.deepEqual([go("Home", 9), go("End", 9), go("ArrowRight", 39), go("ArrowLeft", 0)], [0, 39, 39, 0]);
  assert.deepEqual([go("a", 3), go("Enter", 3), go("toString", 3)], [null, null, null]);
});

test("what is written of a moment", () => {
  assert.equal(clock(24, all(97), t), "1.50 s, frame 24 of 97");
  assert.equal(caption(video(64, 64, 10), 9, t), "a");
  assert.equal(caption(video(64, 64, 10), 10, t), "a (over: its last frame)");
});

test("the two that are laid over each other are two that there are", () => {
  assert.deepEqual(pairOf(undefined, 3), [0, 1]);
  assert.deepEqual(pairOf([2, 0], 3), [2, 0]);
  for (const wrong of [[2, 2], [0, 3], [-1, 0], ["0", 1], [1], []]) assert.deepEqual(pairOf(wrong, 3), [0, 1]);
  assert.deepEqual(pairOf(undefined, 1), [0, 0]);
});
