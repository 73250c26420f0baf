// @ts-check
/**
 * The timeline widget's pure part: events in pixel frames and what can be done to them. No DOM, no ComfyUI.
 *
 * The text is read and written by the server (samplers/prompts/); here are only the events that it sends, so that a
 * change can be drawn before the text is written.
 */

/**
 * @typedef {object} TimelineEvent
 * @property {string} text the prompt
 * @property {number} start first pixel frame
 * @property {number} end pixel frame behind the last
 * @property {number|null} origin index in the text as the server last read it; null: new
 */

/**
 * A timeline: events that touch and cover [0, length). `equal` while the text has no times (`a | b | c`): adding and
 * deleting then spreads the events evenly.
 * @typedef {object} Timeline
 * @property {TimelineEvent[]} events
 * @property {number} length
 * @property {boolean} equal
 */

/** What a change returns: the new timeline and the event to select. @typedef {{line: Timeline, selected: number}} Change */

/** @param {number} value @param {number} low @param {number} high */
export const clamp = (value, low, high) => Math.min(high, Math.max(low, value));

/**
 * From the server's answer.
 * @param {{events: {text: string, start: number, end: number}[], way: string}} answer
 * @param {number} length
 * @returns {Timeline}
 */
export function fromAnswer(answer, length) {
    const events = answer.events.map((event, origin) => ({ ...event, origin }));
    return { events, length, equal: answer.way === "equal" };
}

/**
 * For the server's `edit`.
 * @param {Timeline} line
 */
export function toEdit(line) {
    const events = line.events.map(({ text, start, origin }) => ({ text, start, origin }));
    return { events, equal: line.equal };
}

/**
 * @param {Timeline} line
 * @param {TimelineEvent[]} events in order; starts and ends are set anew where the timeline is equal
 * @param {boolean} equal
 * @returns {Timeline}
 */
function withEvents(line, events, equal) {
    if (equal) {
        const border = (/** @type {number} */ i) => Math.floor((i * line.length) / events.length + 0.5);
        events = events.map((event, i) => ({ ...event, start: border(i), end: border(i + 1) }));
    }
    return { events, length: line.length, equal };
}

/** @param {Timeline} line @param {number} i @param {Partial<TimelineEvent>} values */
function withOne(line, i, values) {
    return line.events.map((event, j) => (j === i ? { ...event, ...values } : event));
}

/**
 * Where border i (between events i - 1 and i) ends up when it is moved to `frame`: each event keeps a frame.
 * @param {Timeline} line @param {number} i @param {number} frame
 */
export function limitBorder(line, i, frame) {
    return clamp(Math.round(frame), line.events[i - 1].start + 1, line.events[i].end - 1);
}

/**
 * Move the border between events i - 1 and i.
 * @param {Timeline} line @param {number} i @param {number} frame @returns {Timeline}
 */
export function moveBorder(line, i, frame) {
    if (i < 1 || i >= line.events.length) return line;
    const border = limitBorder(line, i, frame);
    if (border === line.events[i].start) return line;
    const events = withOne(line, i, { start: border });
    events[i - 1] = { ...events[i - 1], end: border };
    return withEvents(line, events, false);
}

/** @param {Timeline} line @param {number} i @param {string} text @returns {Timeline} */
export function setText(line, i, text) {
    return { ...line, events: withOne(line, i, { text }) };
}

/** @param {Timeline} line @param {number} i */
export const canSplit = (line, i) => i in line.events && line.events[i].end - line.events[i].start > 1;

/**
 * Cut event i in two with the same prompt, at `frame` or in the middle.
 * @param {Timeline} line @param {number} i @param {number} [frame] @returns {Change}
 */
export function splitEvent(line, i, frame) {
    if (!canSplit(line, i)) return { line, selected: i };
    const event = line.events[i];
    const cut = clamp(Math.round(frame ?? (event.start + event.end) / 2), event.start + 1, event.end - 1);
    const parts = [{ ...event, end: cut }, { ...event, start: cut, origin: null }];
    const events = [...line.events.slice(0, i), ...parts, ...line.events.slice(i + 1)];
    // Half of one part out of one is still equal parts.
    const equal = line.equal && line.events.length === 1 && cut === Math.floor(line.length / 2 + 0.5);
    return { line: withEvents(line, events, equal), selected: i + 1 };
}

/**
 * A new event behind event i: in its second half, or (equal parts) as one more part.
 * @param {Timeline} line @param {number} i @param {string} text @returns {Change}
 */
export function addEvent(line, i, text) {
    const fresh = { text, start: 0, end: line.length, origin: null };
    if (!line.events.length) return { line: withEvents(line, [fresh], true), selected: 0 };
    if (line.equal) {
        if (line.events.length >= line.length) return { line, selected: i };
        const events = [...line.events.slice(0, i + 1), fresh, ...line.events.slice(i + 1)];
        return { line: withEvents(line, events, true), selected: i + 1 };
    }
    const split = splitEvent(line, i);
    if (split.line === line) return split;
    return { line: setText(split.line, i + 1, text), selected: i + 1 };
}

/**
 * Delete event i; the one before it (or else the one behind) takes its time. The last event stays.
 * @param {Timeline} line @param {number} i @returns {Change}
 */
export function removeEvent(line, i) {
    if (line.events.length < 2 || !(i in line.events)) return { line, selected: i };
    const { start, end } = line.events[i];
    const events = withOne(line, i > 0 ? i - 1 : 1, i > 0 ? { end } : { start });
    events.splice(i, 1);
    return { line: withEvents(line, events, line.equal), selected: Math.max(0, i - 1) };
}

/**
 * Move event `from` to place `to`; each event keeps its duration.
 * @param {Timeline} line @param {number} from @param {number} to @returns {Change}
 */
export function moveEvent(line, from, to) {
    to = clamp(to, 0, line.events.length - 1);
    if (from === to || !(from in line.events)) return { line, selected: from };
    const events = [...line.events];
    events.splice(to, 0, ...events.splice(from, 1));
    let start = 0;
    const laid = events.map((event) => {
        const end = start + event.end - event.start;
        const moved = { ...event, start, end };
        start = end;
        return moved;
    });
    return { line: withEvents(line, laid, line.equal), selected: to };
}

/**
 * All events of the same duration.
 * @param {Timeline} line @returns {Timeline}
 */
export function spreadEvenly(line) {
    // `equal` asks the server for equal parts, also where the text has times.
    return withEvents(line, line.events, true);
}

/** The event at a pixel frame. @param {Timeline} line @param {number} frame */
export function eventAt(line, frame) {
    let low = 0;
    let high = line.events.length - 1;
    while (low < high) {
        const middle = (low + high + 1) >> 1;
        if (line.events[middle].start <= frame) low = middle;
        else high = middle - 1;
    }
    return low;
}

/**
 * Where a dragged event would go when its pointer is at `frame`: the place of the event there.
 * @param {Timeline} line @param {number} from @param {number} frame
 */
export function dropPlace(line, from, frame) {
    const over = eventAt(line, clamp(frame, 0, line.length - 1));
    const { start, end } = line.events[over];
    const late = frame > (start + end) / 2;
    if (over > from) return late ? over : over - 1;
    if (over < from) return late ? over + 1 : over;
    return from;
}

/** Seconds as people write them: 6.1 s, 1:06.1 from a minute on. @param {number} frames @param {number} fps */
export function formatTime(frames, fps) {
    const seconds = Math.round((frames / fps) * 100) / 100;
    if (seconds < 60) return `${seconds} s`;
    const rest = Math.round((seconds % 60) * 100) / 100;
    return `${Math.floor(seconds / 60)}:${rest < 10 ? "0" : ""}${rest}`;
}

const STEPS = [0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600];

/**
 * Marks for a ruler: pixel frame and label (empty where it would be cut off), `gap` screen pixels apart or more.
 * @param {number} length pixel frames @param {number} fps @param {number} width screen pixels @param {number} gap
 * @returns {{frame: number, label: string}[]}
 */
export function ticks(length, fps, width, gap = 56) {
    if (!(width > 0)) return [];
    const seconds = length / fps;
    const wanted = (gap * seconds) / width;
    const step = STEPS.find((s) => s >= wanted) ?? Math.ceil(wanted / 3600) * 3600;
    const out = [];
    for (let k = 0; k * step * fps < length; k++) {
        const frame = k * step * fps;
        const room = ((length - frame) * width) / length;
        out.push({ frame, label: room < 34 ? "" : formatTime(frame, fps) });
    }
    return out;
}

/**
 * Hue of event i: neighbours differ clearly, also across the end of the list of hues.
 * @param {number} i
 */
export const hue = (i) => [212, 158, 38, 280, 190, 340, 95, 250, 18][i % 9];
