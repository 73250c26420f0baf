// The pure part of the number widgets (web/js/numbers_logic.js). Run: node --test tests/nodes/js/numbers.test.mjs
import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";

// As a data: URL, because .js without a package.json is no module to older Nodes.
const source = await readFile(new URL("../../../web/js/numbers_logic.js", import.meta.url), "utf8");
const { decimals, MOST_DECIMALS } = await import(`data:text/javascript,${encodeURIComponent(source)}`);

test("decimals are as many as it takes to write the number", () => {
    for (const value of [0, 1, -3, 0.5, 0.0005, 2e-5, 1.25e-7, -1.25e-6, 100.125, 1e21, 12345.678]) {
        assert.equal(Number(value.toFixed(decimals(value))), value);
        if (decimals(value)) assert.notEqual(Number(value.toFixed(decimals(value) - 1)), value);
    }
    assert.equal(decimals(1e-30), MOST_DECIMALS);
    for (const none of [NaN, Infinity, "", null, undefined, "x"]) assert.equal(decimals(none), 0);
});
