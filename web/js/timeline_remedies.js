// @ts-check
/** What the timeline says of itself: mistakes, a video of another length, unused events; each with buttons that mend it. */

import { t } from "./i18n.js";
import { formatTime, latentFrames, setSpan } from "./timeline_model.js";

/** @typedef {import("./timeline_notices.js").Notice} Notice */
/** @typedef {import("./timeline_widget.js").TimelineWidget} TimelineWidget */

const NAMED = 5; // most events that a text counts one by one

/** @param {number[]} events indices */
const named = (events) =>
    events.slice(0, NAMED).map((event) => event + 1).join(", ") + (events.length > NAMED ? " \u2026" : "");

/** All notices of a timeline, the most pressing first. @param {TimelineWidget} timeline @returns {Notice[]} */
export function notices(timeline) {
    const { said, windows, video, shown } = timeline;
    return [
        ...(said.text ? [{ text: said.text, bad: said.bad, ways: said.ways }] : []),
        ...otherLength(timeline, video, shown.length),
        ...(windows.note && windows.note !== said.text ? [{ text: windows.note, bad: windows.bad }] : []),
        ...(windows.unused ? [unusedEvents(timeline, windows.unused)] : []),
    ];
}

/**
 * @param {TimelineWidget} timeline @param {import("./timeline_graph.js").Video | null} video @param {number} length
 * @returns {Notice[]}
 */
function otherLength(timeline, video, length) {
    if (!video || timeline.follows || !(video.length >= 1) || !(length >= 1)) return [];
    if (latentFrames(video.length, video.step) === latentFrames(length, video.step)) return [];
    const name = video.node.title ?? video.node.type;
    const text = t("The video has {frames} frames ({node}), this timeline {length}.", { frames: video.length, node: name, length });
    const ways = [
        {
            label: t("Set to {frames}", { frames: video.length }),
            title: t("Give this timeline the length of the video"),
            run: () => timeline.edits.set("length", video.length),
        },
        {
            label: t("Follow the video"),
            title: t("Length 0: the timeline is laid out over whatever video is sampled"),
            run: () => timeline.edits.set("length", 0),
        },
    ];
    return [{ text, bad: true, ways: timeline.edits.canSet("length") ? ways : [] }];
}

/** A text that runs past the end. @param {TimelineWidget} timeline @param {{clip: string, scale: string}} fits */
export function fitWays(timeline, fits) {
    const { length, fps } = timeline.shown;
    const values = { time: formatTime(length, fps) };
    return [
        {
            label: t("Cut off at {time}", values),
            title: t("Keep all times; what lies past the end is left out"),
            run: () => timeline.edits.set("events", fits.clip),
        },
        {
            label: t("Scale to {time}", values),
            title: t("Keep all events; each gets its share of the video"),
            run: () => timeline.edits.set("events", fits.scale),
        },
    ];
}

/**
 * @typedef {object} Unused from the server (nodes/routes/unused.py)
 * @property {number[]} events
 * @property {Record<string, [number, number]>} lengthen pixel frames by event
 * @property {Record<string, number> | null} shorter widgets of the window node
 */

/** @param {TimelineWidget} timeline @param {Unused} unused @returns {Notice} */
function unusedEvents(timeline, { events, lengthen, shorter }) {
    const { state } = timeline.view;
    const byFrame = timeline.shown.timing === "frame";
    const every = !byFrame && events.length === state.line.events.length;
    const text = every
        ? t("The video fits into one window: only the global prompt acts.")
        : byFrame
          ? t("Event {named} is shorter than a latent frame: unused.", { named: named(events) })
          : t("No window has its centre in event {named}: unused.", { named: named(events) });
    const ways = [];
    if (!byFrame && state.line.events.length > 1 && timeline.edits.canSet("timing")) {
        ways.push({
            label: t("Time by frame"),
            title: t("timing: frame. Each frame sees its own event's prompt (Wan, LTX-Video, Cosmos Predict2)"),
            run: () => timeline.edits.set("timing", "frame"),
        });
    }
    if (shorter && timeline.edits.canSetWindows(Object.keys(shorter))) {
        const length = shorter.window_length;
        ways.push({
            label: t("Shorter windows ({length})", { length }),
            title: t("The longest windows that use every event: {values}", {
                values: Object.entries(shorter).map(([name, value]) => `${name} ${value}`).join(", "),
            }),
            run: () => timeline.edits.setWindows(shorter),
        });
    }
    const event = events.includes(state.selected) && state.selected in lengthen ? state.selected : events.find((i) => i in lengthen);
    if (event !== undefined && state.editable) {
        const [start, end] = lengthen[event];
        ways.push({
            label: t("Lengthen event {event}", { event: event + 1 }),
            title: t("To {time}, taken from its neighbour", { time: formatTime(end - start, state.fps) }),
            run: () => timeline.view.apply({ line: setSpan(state.line, event, lengthen[event]), selected: event }),
        });
    }
    return { text, ways };
}
