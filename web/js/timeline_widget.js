// @ts-check
/**
 * The timeline widget of one Prompt Timeline node: keeps the picture and the node's `events` text the same.
 *
 * The text is the truth. It is read and rewritten by the server, so that there is one parser; a change is drawn at once
 * and the text follows. Whatever else changes the text (typing, undo, loading, another widget) wins over a change that
 * is not written yet.
 */

// @ts-ignore: served by ComfyUI
import { api } from "../../../scripts/api.js";
// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { takePlace } from "./dom.js";
import { isOpen } from "./graph.js";
import { redoEvent, whyNot } from "./redo_event.js";
import { t } from "./i18n.js";
import { canSet, findVideo, findWindows, sourceOf, valueOf, widgetOf } from "./timeline_graph.js";
import { linkedTexts } from "./timeline_linked.js";
import { fromAnswer, latentFrames, toEdit } from "./timeline_model.js";
import { TimelineEdits } from "./timeline_edits.js";
import { passOn } from "./timeline_page.js";
import { fitWays, notices } from "./timeline_remedies.js";
import { shownFor } from "./timeline_runs.js";
import { TimelineView } from "./timeline_view.js";

/** @typedef {import("./timeline_model.js").Timeline} Timeline */
/** @typedef {{text: string, length: number, fps: number, blend: number, timing: string}} Shown */

const UNKNOWN_LENGTH = 293; // pixel frames that are drawn where the video's are not known
const LOOK_MS = 300; // how often the node's values are compared: scripts and links change them without a callback
const WAIT_MS = { now: 0, soon: 150, typing: 300 };
const WINDOWS_MS = 150;

/** @param {object} body */
async function ask(body) {
    try {
        const options = { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
        const response = await api.fetchApi("/longtake/timeline", options);
        const answer = await response.json();
        return response.ok || answer.error ? answer : { error: t("The server answers {status}.", { status: response.status }) };
    } catch (error) {
        return { error: t("The server does not answer ({error}). The text above can still be edited.", { error: String(error) }) };
    }
}

export class TimelineWidget {
    /** @param {any} node */
    constructor(node) {
        this.node = node;
        /** @type {Shown} what the picture shows */
        this.shown = { text: "", length: 0, fps: 0, blend: 0, timing: "window" };
        /** @type {Shown | null} what it showed when the text fitted the video */
        this.good = null;
        /** @type {{text: string, bad: boolean, ways: import("./timeline_notices.js").Way[]}} of the text */
        this.said = { text: "", bad: false, ways: [] };
        /** @type {{note: string, bad: boolean, unused: import("./timeline_remedies.js").Unused | null}} of the windows */
        this.windows = { note: "", bad: false, unused: null };
        /** @type {import("./timeline_graph.js").Video | null} */
        this.video = null;
        this.follows = false; // whether its length is the video's
        this.note = "";
        this.linked = false;
        this.edits = new TimelineEdits(this);
        /** @type {{asked: string | null, texts: import("./timeline_linked.js").Texts | null}} */
        this.reply = { asked: null, texts: null }; // of the Structured Prompt that the events come from
        /** @type {{show: (values: {text: string}) => void} | undefined} */
        this.report = undefined;
        this.seen = ""; // the node's values at the last look
        this.version = 0; // of the picture; the text has `written`
        this.written = 0;
        this.readings = 0;
        /** @type {"now" | "soon" | "typing"} */
        this.how = "now";
        /** @type {ReturnType<typeof setTimeout> | undefined} */
        this.waiting = undefined;
        /** @type {Promise<void> | null} */
        this.writing = null;
        this.view = new TimelineView({
            change: (line, selected, how) => this.change(line, selected, how),
            select: (selected) => {
                if (selected === this.view.state.selected) return;
                this.flush();
                this.view.editor.blur();
                this.view.draw({ selected });
            },
            typed: () => this.typed(),
            setLength: (frames) => this.edits.setLength(frames),
            redo: (selected) => redoEvent(this, selected),
            whyNotRedo: (selected) => whyNot(this, selected),
            resized: () => this.node.setDirtyCanvas?.(true, true),
        });
        this.attach();
    }

    attach() {
        const { node, view } = this;
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => view.height };
        const widget = node.addDOMWidget("timeline", "longtake_timeline", view.root, options);
        widget.serialize = false; // values are saved by position; this one is none
        // Behind what runs now: loading sets one widget after the other.
        const look = () => queueMicrotask(() => this.look());
        for (const name of ["events", "length", "fps", "blend", "global_prompt"]) {
            chain(this.widget(name), "callback", look);
        }
        const events = this.widget("events");
        const serializeValue = events.serializeValue;
        events.serializeValue = async (/** @type {any[]} */ ...args) => {
            await this.flush(); // what was just typed is part of the run
            return serializeValue ? serializeValue.apply(events, args) : events.value;
        };
        chain(node, "onConfigure", look);
        chain(node, "onExecuted", (/** @type {any} */ output) => {
            if (output?.longtake_timeline) this.ran(output.longtake_timeline[0]);
        });
        chain(node, "onAdded", () => this.start());
        chain(node, "onRemoved", () => this.stop());
        passOn(view, app);
        if (node.graph) this.start();
    }

    start() {
        this.stop();
        this.timer = setInterval(() => {
            if (isOpen(this.node, app.rootGraph ?? app.graph)) this.look();
            else this.stop();
        }, LOOK_MS);
        this.view.start();
        this.look();
    }

    stop() {
        clearInterval(this.timer);
        clearTimeout(this.waiting);
        clearTimeout(this.windowsWait);
        this.view.stop();
    }

    /** @param {string} name */
    widget(name) {
        return widgetOf(this.node, name);
    }

    // From the text to the picture.

    look() {
        const { node, view } = this;
        if (!node.graph) return;
        takePlace(node, view.root);
        view.reel.show(shownFor(node));
        const numbers = ["length", "fps", "blend"].map((name) => valueOf(node, name));
        const linked = Boolean(sourceOf(node, "events"));
        const texts = this.linkedTexts(linked);
        const text = String((linked ? texts?.events : this.widget("events").value) ?? "");
        const global = sourceOf(node, "global_prompt") ? (texts?.global_prompt ?? t("(linked)")) : this.widget("global_prompt").value;
        const globalPrompt = String(global ?? "");
        const found = findWindows(node);
        const video = (this.video = findVideo(node));
        const timing = String(valueOf(node, "timing").value ?? "window");
        const settable = canSet(node, "length") && (Number(numbers[0].value) > 0 || Boolean(video && canSet(video.node, "length")));
        const seen = JSON.stringify([
            text, numbers, timing, globalPrompt, linked, texts, found, settable, video?.length, video?.step, video?.node.title,
        ]);
        if (seen === this.seen) return;
        this.seen = seen;
        this.askWindows(text ? found : null);
        view.draw({ globalPrompt, settable, step: found?.compression ?? video?.step ?? 4 });
        const [own, fps, blend] = numbers.map((number) => Number(number.value));
        this.follows = own === 0 && !numbers[0].unknown;
        const known = video && video.length >= 1;
        const followed = known ? (latentFrames(video.length, video.step) - 1) * video.step + 1 : UNKNOWN_LENGTH;
        const now = { text, length: this.follows ? followed : own, fps, blend, timing };
        const unknown = ["length", "fps", "blend"].filter((_, i) => numbers[i].unknown);
        let note = "";
        if (unknown.length) {
            note = t("Drawn with this node's own {names}: the linked value is not known before the run.", { names: unknown.join(", ") });
        } else if (this.follows && !known) {
            note = t("The video's length is not known before the run: drawn for {frames} frames.", { frames: UNKNOWN_LENGTH });
        }
        const changed = linked !== this.linked || note !== this.note || JSON.stringify(now) !== JSON.stringify(this.shown);
        Object.assign(this, { linked, note });
        if (changed) {
            this.shown = now;
            this.read();
        } else this.say();
    }

    /** What a run used. @param {import("./timeline_linked.js").Texts} texts */
    ran(texts) {
        const { node } = this;
        if (sourceOf(node, "events") || sourceOf(node, "global_prompt")) node.properties.longtake_ran = texts;
        else delete node.properties.longtake_ran;
        this.look();
    }

    /** What the links bring: of the answer in a Structured Prompt, else of the last run. @param {boolean} linked */
    linkedTexts(linked) {
        if (!linked) return null;
        const { reply, ran } = linkedTexts(this.node);
        if (reply !== this.reply.asked) {
            this.reply = { asked: reply, texts: null };
            if (reply) {
                ask({ reply }).then((answer) => {
                    if (reply !== this.reply.asked) return;
                    this.reply.texts = answer.error ? null : answer;
                    this.look();
                });
            }
        }
        return this.reply.texts ?? ran;
    }

    /** Write below the timeline what there is to say. @param {Partial<import("./timeline_view.js").State>} [values] */
    say(values = {}) {
        Object.assign(this.view.state, values); // notices are of what is drawn then
        this.view.draw({ notices: notices(this), unused: this.windows.unused?.events ?? [] });
    }

    /** Draw the windows, soon. @param {ReturnType<typeof findWindows>} found */
    askWindows(found) {
        clearTimeout(this.windowsWait);
        this.windowsWait = setTimeout(async () => {
            const { shown } = this;
            const asked = found && shown.text.trim() ? ask({ ...shown, edit: null, windows: found }) : null;
            const waiting = this.windowsWait;
            const answer = await asked;
            if (waiting !== this.windowsWait || shown !== this.shown) return; // a newer question goes
            const windows = answer && {
                windows: answer.windows ?? [],
                shifted: (found?.values.schedule ?? "static") !== "static",
                compression: found?.compression ?? 0,
            };
            this.windows = { note: answer?.error ?? "", bad: Boolean(answer?.error), unused: answer?.unused ?? null };
            this.say({ windows });
            this.node.setDirtyCanvas?.(true, true); // the widget's height may have changed
        }, WINDOWS_MS);
    }

    /** @param {string} text @param {boolean} bad @param {boolean} editable */
    empty(text, bad, editable) {
        const line = { events: [], length: Math.max(1, Math.round(this.shown.length) || 1), equal: true };
        this.version = this.written;
        this.said = { text, bad, ways: [] };
        this.say({ line, selected: 0, fps: this.shown.fps, blend: 0, editable });
    }

    async read() {
        clearTimeout(this.waiting);
        this.version = this.written; // a change that is not written yet is given up
        const { shown, linked } = this;
        const reading = ++this.readings;
        if (!shown.text.trim()) {
            const none = t("The events come from a link; they are read when the graph runs.");
            return linked ? this.empty(none, false, false) : this.empty(t("No events yet: add one with +, or write them above."), false, true);
        }
        const was = this.good?.text === shown.text ? { length: this.good.length, fps: this.good.fps } : null;
        const answer = await ask({ ...shown, edit: null, was, global_prompt: this.globalPrompt() });
        if (reading !== this.readings || shown !== this.shown) return;
        if (answer.error) return this.empty(answer.error, true, false);
        this.adopt(answer);
    }

    /** Undefined where a link brings it: then the report comes with the run alone. */
    globalPrompt() {
        return sourceOf(this.node, "global_prompt") ? undefined : String(this.widget("global_prompt").value ?? "");
    }

    /** @param {any} answer */
    adopt(answer) {
        if (answer.report) this.report?.show({ text: answer.report });
        const { length, fps, blend } = this.shown;
        const line = fromAnswer(answer, length);
        const selected = Math.min(this.view.state.selected, line.events.length - 1);
        if (!answer.fits) this.good = this.shown;
        this.said = { text: answer.warning ?? this.note, bad: Boolean(answer.warning), ways: [] };
        if (answer.fits && !this.linked) this.said.ways = fitWays(this, answer.fits);
        if (this.linked) {
            const text = this.reply.texts
                ? t("The events come from a link, as its node gives them.")
                : t("The events come from a link, as the last run used them.");
            const way = {
                label: t("Put into this timeline"),
                title: t("Cut the link and edit the events here"),
                run: () => this.edits.takeLinked(),
            };
            this.said = { ...this.said, text: [this.said.text, text].filter(Boolean).join("\n"), ways: [way] };
        }
        this.say({ line, selected, fps, blend, editable: !answer.fits && !this.linked });
    }

    // From the picture to the text.

    /** @param {Timeline} line @param {number} selected @param {"now" | "soon" | "typing"} how */
    change(line, selected, how) {
        this.version++;
        this.how = how;
        this.said = { text: "", bad: false, ways: [] };
        if (line.events.length !== this.view.state.line.events.length) this.windows = { ...this.windows, unused: null };
        this.say({ line, selected });
        clearTimeout(this.waiting);
        this.waiting = setTimeout(() => this.write(), WAIT_MS[how]);
    }

    /** Write a change that waits. */
    async flush() {
        clearTimeout(this.waiting);
        if (this.version !== this.written) await this.write();
    }

    /** The prompt's field was left: what could not be written is shown as it is in the text again. */
    async typed() {
        const typing = this.how === "typing";
        await this.flush();
        if (this.version !== this.written) await this.read();
        else if (typing) this.mark();
        this.view.draw();
    }

    write() {
        this.writing ??= this.writeAll().finally(() => {
            this.writing = null;
        });
        return this.writing;
    }

    async writeAll() {
        while (this.version !== this.written) {
            const { version, shown } = this;
            const answer = await ask({ ...shown, edit: toEdit(this.view.state.line), global_prompt: this.globalPrompt() });
            if (shown !== this.shown) return; // the text changed meanwhile
            if (version !== this.version) continue; // the picture did: once more, from the same text
            if (answer.error) {
                this.said = { text: answer.error, bad: true, ways: [] };
                return this.say();
            }
            this.written = version;
            this.put(answer.text);
            this.adopt(answer);
        }
    }

    /** @param {string} text */
    put(text) {
        const events = this.widget("events");
        this.shown = { ...this.shown, text };
        if (events.value === text) return;
        events.value = text;
        events.callback?.(text, app.canvas, this.node); // ComfyUI's own view of the widget
        this.node.setDirtyCanvas?.(true, true);
        if (this.how !== "typing") this.mark();
    }

    /** One step of ComfyUI's undo. */
    mark() {
        this.how = "now";
        app.canvas?.emitBeforeChange?.();
        app.canvas?.emitAfterChange?.();
    }
}

/** @param {any} owner @param {string} name @param {(...args: any[]) => void} run */
function chain(owner, name, run) {
    const before = owner[name];
    owner[name] = function (/** @type {any[]} */ ...args) {
        const result = before?.apply(this, args);
        run(...args);
        return result;
    };
}
