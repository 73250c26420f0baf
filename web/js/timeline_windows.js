// @ts-check
/**
 * The windows beneath the timeline, without the page: rows, shapes and words. Where the windows lie and which prompts
 * they get comes from the server (nodes/routes/timeline.py).
 */

/**
 * @typedef {object} WindowPlace
 * @property {number} start first pixel frame
 * @property {number} end pixel frame behind the last
 * @property {[number, number][]} events index and weight of its events, in order of time; none: the global prompt
 */

/**
 * The row of each window, so that windows of one row do not overlap.
 * @param {WindowPlace[]} windows in order of their starts
 * @returns {{rows: number[], count: number}}
 */
export function stack(windows) {
    /** @type {number[]} */
    const ends = []; // of each row's last window
    const rows = windows.map(({ start, end }) => {
        const free = ends.findIndex((last) => last <= start);
        const row = free < 0 ? ends.length : free;
        ends[row] = end;
        return row;
    });
    return { rows, count: ends.length };
}

/** @param {number} value */
const n = (value) => String(Math.round(value * 1000) / 1000);

/**
 * Shapes of the windows, one SVG path per colour, in units of pixel frames and rows. A window with two events is cut
 * along its length, by their weights.
 * @param {WindowPlace[]} windows
 * @param {number[]} rows of stack()
 * @param {number} selected the event whose windows stand out
 * @param {(event: number) => number} hue
 * @param {[number, number]} gap behind a window in frames, and below a row in rows
 * @returns {{hue: number | null, own: boolean, path: string}[]} hue null: the global prompt; own: of the selected event
 */
export function shapes(windows, rows, selected, hue, [right, below]) {
    /** @type {Map<string, {hue: number | null, own: boolean, path: string}>} */
    const found = new Map();
    const add = (/** @type {number | null} */ colour, /** @type {boolean} */ own, /** @type {string} */ path) => {
        const key = `${colour} ${own}`;
        const shape = found.get(key) ?? { hue: colour, own, path: "" };
        shape.path += path;
        found.set(key, shape);
    };
    windows.forEach(({ start, end, events }, i) => {
        const width = end - start - right;
        const box = (/** @type {number} */ top, /** @type {number} */ height) =>
            `M${start} ${n(rows[i] + top * (1 - below))}h${n(width)}v${n(height * (1 - below))}h${n(-width)}z`;
        if (!events.length) add(null, false, box(0, 1));
        let top = 0;
        for (const [event, weight] of events) {
            add(hue(event), event === selected, box(top, weight));
            top += weight;
        }
    });
    return [...found.values()];
}

/**
 * The window in a row at a pixel frame, or -1.
 * @param {WindowPlace[]} windows @param {number[]} rows @param {number} row @param {number} frame
 */
export const windowAt = (windows, rows, row, frame) =>
    windows.findIndex(({ start, end }, i) => rows[i] === row && start <= frame && frame < end);
