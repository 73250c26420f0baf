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

/** @param {Timeline} line */
export const canAdd = (line) => line.events.length < line.length;

/**
 * Lay events out one after the other from frame 0, in time with `durations`, each a frame or more.
 * @param {Timeline} line @param {TimelineEvent[]} events @param {number[]} durations @param {boolean} equal
 */
function laidOut(line, events, durations, equal) {
    const whole = durations.reduce((sum, duration) => sum + duration, 0);
    let time = 0;
    let start = 0;
    const laid = events.map((event, i) => {
        time += durations[i];
        const last = line.length - (events.length - 1 - i);
        const end = clamp(Math.round((time * line.length) / whole), start + 1, last);
        const moved = { ...event, start, end };
        start = end;
        return moved;
    });
    return withEvents(line, laid, equal);
}

/**
 * A new event behind event i. Those up to event i keep their times and those behind it make room; if there are none, all
 * do. Equal parts stay equal.
 * @param {Timeline} line @param {number} i @param {string} text @returns {Change}
 */
export function addEvent(line, i, text) {
    const fresh = { text, start: 0, end: line.length, origin: null };
    if (!line.events.length) return { line: withEvents(line, [fresh], true), selected: 0 };
    if (!canAdd(line)) return { line, selected: i };
    const events = [...line.events.slice(0, i + 1), fresh, ...line.events.slice(i + 1)];
    const behind = line.events.length - 1 - i;
    const durations = line.events.map(({ start, end }) => end - start);
    const from = behind && line.length - line.events[i].end > behind ? i + 1 : 0; // the first that makes room
    const room = line.length - line.events[from].start;
    const count = line.events.length - from;
    durations.splice(i + 1, 0, room / count); // as long as the others on average, then all are made shorter
    const shorter = durations.map((d, j) => (j < from ? d : (d * count) / (count + 1)));
    return { line: laidOut(line, events, shorter, line.equal), selected: i + 1 };
}

/** Event i once more, behind it; others make room as for a new one. @param {Timeline} line @param {number} i @returns {Change} */
export function duplicateEvent(line, i) {
    return i in line.events ? addEvent(line, i, line.events[i].text) : { line, selected: i };
}

/**
 * Give event i a duration. The event behind it takes or gives the difference, then those behind that one, then those
 * before; each keeps a frame.
 * @param {Timeline} line @param {number} i @param {number} frames @returns {Change}
 */
export function setDuration(line, i, frames) {
    const count = line.events.length;
    if (!(i in line.events) || count < 2) return { line, selected: i };
    const durations = line.events.map(({ start, end }) => end - start);
    let left = clamp(Math.round(frames), 1, line.length - (count - 1)) - durations[i];
    if (!left) return { line, selected: i };
    durations[i] += left;
    const order = [...durations.keys()].slice(i + 1).concat([...durations.keys()].slice(0, i).reverse());
    for (const j of order) {
        const given = Math.min(left, durations[j] - 1); // below 0: it takes what event i leaves
        durations[j] -= given;
        left -= given;
    }
    return { line: laidOut(line, line.events, durations, false), selected: i };
}

/**
 * Give event i these pixel frames; its neighbours keep a frame each.
 * @param {Timeline} line @param {number} i @param {[number, number]} span @returns {Timeline}
 */
export function setSpan(line, i, [start, end]) {
    return moveBorder(moveBorder(line, i, start), i + 1, end);
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

/**
 * The length that a model can make, step n + 1 pixel frames, nearest to a wished one.
 * @param {number} frames @param {number} step
 */
export const videoLength = (frames, step) => Math.max(0, Math.round((frames - 1) / step)) * step + 1;

/** Latent frames of a video. @param {number} frames pixel frames @param {number} step pixel frames per latent frame */
export const latentFrames = (frames, step) => Math.floor((Math.max(1, frames) - 1) / step) + 1;

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

/**
 * Pixel frames of a time as people type it: 6, 6.1 s, 1:06 are seconds, 98f frames. NaN: it is none.
 * @param {string} text @param {number} fps
 */
export function parseTime(text, fps) {
    const found = /^\s*(?:(\d+):)?(\d*\.?\d+|\d+\.)\s*(s|f)?[a-z]*\s*$/i.exec(text.replace(",", "."));
    if (!found) return NaN;
    const [, minutes, number, unit] = found;
    if (unit?.toLowerCase() === "f") return minutes ? NaN : Math.round(Number(number));
    return Math.round((60 * Number(minutes ?? 0) + Number(number)) * fps);
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
