// The pure part of the search (web/js/search_logic.js). Run: node --test tests/nodes/js/search.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

const source = await readFile(new URL("../../../web/js/search_logic.js", import.meta.url), "utf8");
const { withDescribed } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

const node = (name, description = "") => ({ name, display_name: name, description });
const ours = [node("LongTakeA", "Windows. Also: long video, loop."), node("LongTakeB", "Also: storyboard.")];
const [load, long] = [node("Load Video"), node("Save long video")];

test("our nodes come behind what is named so, and before what is alike", () => {
  assert.deepEqual(withDescribed("long video", [load, long], ours), [long, ours[0], load]);
  assert.deepEqual(withDescribed("Storyboard ", [], ours), [ours[1]]);
  assert.deepEqual(withDescribed("loo", [load], ours), [ours[0], load]); // while one types
  const chinese = [node("LongTakeC", "另称：长视频、循环。")];
  assert.deepEqual(withDescribed("循环", [], chinese), chinese);
});

test("a search that means none of them stays as it is", () => {
  const found = [load];
  for (const query of ["", "l", "upscale", "storyboard loop", "oop", "(", "a|b"]) assert.equal(withDescribed(query, found, ours), found);
  assert.deepEqual(withDescribed("loop", [ours[0]], ours), [ours[0]]); // not twice
});
