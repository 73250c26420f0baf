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
import { isOpen } from "./graph.js";
import { t } from "./i18n.js";
import { findWindows, sourceOf, valueOf, widgetOf } from "./timeline_graph.js";
import { fromAnswer, toEdit } from "./timeline_model.js";
import { MIN_HEIGHT } from "./timeline_style.js";
import { TimelineView } from "./timeline_view.js";

/** @typedef {import("./timeline_model.js").Timeline} Timeline */

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
        /** @type {{text: string, length: number, fps: number, blend: number, timing: string}} what the picture shows */
        this.shown = { text: "", length: 0, fps: 0, blend: 0, timing: "window" };
        this.note = "";
        this.linked = false;
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
        });
        this.attach();
    }

    attach() {
        const { node, view } = this;
        const options = { serialize: false, hideOnZoom: false, getMinHeight: () => MIN_HEIGHT + view.rows.height };
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
        chain(node, "onAdded", () => this.start());
        chain(node, "onRemoved", () => this.stop());
        view.root.addEventListener("wheel", (event) => this.wheel(event), { passive: false });
        for (const [type, method] of [["pointerdown", "processMouseDown"], ["pointerup", "processMouseUp"]]) {
            view.root.addEventListener(type, (/** @type {any} */ event) => {
                if (event.button === 1 && this.onCanvas()) app.canvas[method](event); // the middle button pans
            });
        }
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
        this.takePlace();
        const text = String(this.widget("events").value ?? "");
        const numbers = ["length", "fps", "blend"].map((name) => valueOf(node, name));
        const globalPrompt = sourceOf(node, "global_prompt") ? t("(linked)") : String(this.widget("global_prompt").value ?? "");
        const linked = Boolean(sourceOf(node, "events"));
        const found = findWindows(node);
        const timing = String(valueOf(node, "timing").value ?? "window");
        const seen = JSON.stringify([text, numbers, timing, globalPrompt, linked, found]);
        if (seen === this.seen) return;
        this.seen = seen;
        this.askWindows(linked ? null : found);
        if (globalPrompt !== view.state.globalPrompt) view.draw({ globalPrompt });
        const [length, fps, blend] = numbers.map((number) => Number(number.value));
        const now = { text, length, fps, blend, timing };
        const unknown = ["length", "fps", "blend"].filter((_, i) => numbers[i].unknown);
        const note = unknown.length
            ? t("Drawn with this node's own {names}: the linked value is not known before the run.", { names: unknown.join(", ") })
            : "";
        if (linked) {
            this.shown = { ...now, text: "" };
            this.linked = true;
            this.readings++;
            this.empty(t("The events come from a link; they are read when the graph runs."), false, false);
        } else if (this.linked || note !== this.note || JSON.stringify(now) !== JSON.stringify(this.shown)) {
            this.linked = false;
            this.note = note;
            this.shown = now;
            this.read();
        }
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
                shifted: found?.values.schedule === "random_shift",
                compression: found?.compression ?? 0,
                note: answer.error ?? "",
            };
            this.view.draw({ windows });
            this.node.setDirtyCanvas?.(true, true); // the widget's height may have changed
        }, WINDOWS_MS);
    }

    /** @param {string} message @param {boolean} bad @param {boolean} editable */
    empty(message, bad, editable) {
        const line = { events: [], length: Math.max(1, Math.round(this.shown.length) || 1), equal: true };
        this.version = this.written;
        this.view.draw({ line, selected: 0, fps: this.shown.fps, blend: 0, message, bad, editable });
    }

    async read() {
        clearTimeout(this.waiting);
        this.version = this.written; // a change that is not written yet is given up
        const { shown } = this;
        const reading = ++this.readings;
        if (!shown.text.trim()) return this.empty(t("No events yet: add one with +, or write them above."), false, true);
        const answer = await ask({ ...shown, edit: null, global_prompt: this.globalPrompt() });
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
        const message = answer.warning ?? this.note;
        this.view.draw({ line, selected, fps, blend, message, bad: Boolean(answer.warning), editable: true });
    }

    // From the picture to the text.

    /** @param {Timeline} line @param {number} selected @param {"now" | "soon" | "typing"} how */
    change(line, selected, how) {
        this.version++;
        this.how = how;
        this.view.draw({ line, selected, message: "", bad: false });
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
                this.view.draw({ message: answer.error, bad: true });
                return;
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

    // ComfyUI's two renderers.

    /** Whether the element lies over the canvas, beside ComfyUI's own nodes of HTML. */
    onCanvas() {
        return Boolean(this.view.root.closest(".dom-widget"));
    }

    /**
     * After an undo ComfyUI makes the nodes anew, but may keep their HTML, and in it the element of the node before:
     * take its place.
     */
    takePlace() {
        const { root } = this.view;
        if (root.isConnected || this.node.graph !== app.canvas?.graph) return;
        const old = document.querySelector(`[data-node-id="${CSS.escape(String(this.node.id))}"] .longtake-timeline`);
        old?.replaceWith(root);
    }

    /** @param {WheelEvent} event */
    wheel(event) {
        const { scroller, editor } = this.view;
        const target = /** @type {Node} */ (event.target);
        const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
        const scrolls =
            (target === editor && editor.scrollHeight > editor.clientHeight) ||
            (scroller.contains(target) && sideways && scroller.scrollWidth > scroller.clientWidth);
        if (scrolls && !event.ctrlKey) {
            event.stopPropagation();
        } else if (this.onCanvas()) {
            event.preventDefault();
            app.canvas.processMouseWheel(event);
        }
    }
}

/** @param {any} owner @param {string} name @param {() => void} run */
function chain(owner, name, run) {
    const before = owner[name];
    owner[name] = function (/** @type {any[]} */ ...args) {
        const result = before?.apply(this, args);
        run();
        return result;
    };
}
