// @ts-check
/**
 * What the timeline widget looks like, and what the mouse and the keys do: one element with everything in it, its style
 * included. It knows events, not ComfyUI; timeline_widget.js gives it a state to draw and gets the changes.
 */

import { t } from "./i18n.js";
import { TimelineInput } from "./timeline_input.js";
import { TimelineMenu } from "./timeline_menu.js";
import { clamp, formatTime, hue, moveBorder, parseTime, setDuration, ticks } from "./timeline_model.js";
import { TimelineNotices } from "./timeline_notices.js";
import { TimelineReel } from "./timeline_reel.js";
import { TimelineRows } from "./timeline_rows.js";
import { make } from "./dom.js";
import { MIN_HEIGHT, percent, STYLE } from "./timeline_style.js";
import { TimelineTools } from "./timeline_tools.js";

/** @typedef {import("./timeline_model.js").Timeline} Timeline */

/**
 * @typedef {object} State what is drawn
 * @property {Timeline} line
 * @property {number} selected
 * @property {number} fps
 * @property {number} blend pixel frames
 * @property {string} globalPrompt
 * @property {boolean} editable
 * @property {import("./timeline_notices.js").Notice[]} notices
 * @property {import("./timeline_rows.js").Windows | null} windows
 * @property {number[]} unused events that no window uses
 * @property {number} step pixel frames per latent frame
 * @property {boolean} settable whether the length can be set
 */

/**
 * @typedef {object} Actions
 * @property {(line: Timeline, selected: number, how: "now" | "soon" | "typing") => void} change
 * @property {(selected: number) => void} select
 * @property {() => void} typed the prompt's field was left
 * @property {(frames: number) => void} setLength
 * @property {(selected: number) => void} redo
 * @property {(selected: number) => string} whyNotRedo empty: it can be
 * @property {() => void} resized what is below the timeline has another height
 */

const LONGEST_LABEL = 300;
const WIDEST = 30_000; // pixels of the zoomed track

const HELP =
    "Drag a border or a block. Keys: Left, Right move the border before the block (Alt: behind it; Shift: by a second), " +
    "Ctrl+Left, Ctrl+Right move the block, Up, Down select, Enter edits, Delete removes, S splits, D duplicates, T sets the " +
    "duration, E makes all equal, Insert adds. A right click, or the menu key, shows them all.";

export class TimelineView {
    /** @param {Actions} actions */
    constructor(actions) {
        this.actions = actions;
        /** @type {State} */
        this.state = {
            line: { events: [], length: 1, equal: true },
            selected: 0,
            fps: 1,
            blend: 0,
            globalPrompt: "",
            editable: false,
            notices: [],
            windows: null,
            unused: [],
            step: 4,
            settable: false,
        };
        this.zoom = 1;
        this.root = make("div", "longtake-timeline");
        make("style", "", this.root).textContent = STYLE;
        this.tools = new TimelineTools(this);
        this.scroller = make("div", "lt-view", this.root);
        this.sheet = make("div", "lt-sheet", this.scroller);
        this.ruler = make("div", "lt-ruler", this.sheet);
        this.globalLane = make("span", "", make("div", "lt-global", this.sheet));
        this.globalLane.dir = "auto";
        this.track = make("div", "lt-track", this.sheet);
        this.track.setAttribute("role", "listbox");
        this.track.setAttribute("aria-orientation", "horizontal");
        this.track.setAttribute("aria-label", `${t("Events")}. ${t(HELP)}`);
        this.drop = make("div", "lt-drop", this.track);
        this.drop.hidden = true;
        this.rows = new TimelineRows(this.sheet);
        this.tip = make("div", "lt-tip", this.sheet);
        this.tip.hidden = true;
        this.info = make("div", "lt-info", this.root);
        this.info.title = t(HELP);
        this.swatch = make("i", "", this.info);
        this.place = make("b", "", this.info);
        this.times = make("span", "", this.info);
        this.duration = make("input", "lt-field", this.info);
        this.duration.setAttribute("aria-label", t("Duration of the selected event"));
        this.duration.title = t("Duration (T): seconds, or frames with f");
        const bottom = make("div", "lt-bottom", this.root);
        this.reel = new TimelineReel(this, bottom);
        this.editor = make("textarea", "", bottom);
        this.editor.dir = "auto";
        this.editor.setAttribute("aria-label", t("Prompt of the selected event"));
        this.notices = new TimelineNotices(this.root);
        this.menu = new TimelineMenu(this);
        /** @type {{root: HTMLElement, text: HTMLElement, time: HTMLElement}[]} */
        this.blocks = [];
        /** @type {HTMLElement[]} */
        this.handles = [];
        /** @type {HTMLElement[]} */
        this.fades = [];
        /** @type {HTMLElement[]} */
        this.marks = [];
        this.input = new TimelineInput(this);
        this.observer = new ResizeObserver(() => this.draw());
    }

    /** Follow the size of the element; stop() ends it. */
    start() {
        this.observer.observe(this.scroller);
        this.observer.observe(this.reel.bottom);
    }

    stop() {
        this.observer.disconnect();
        this.menu.close();
        this.input.stop();
        this.reel.close();
    }

    // Drawing. Elements are used again, so that a focused block keeps the focus.

    /** @param {Partial<State>} [values] */
    draw(values) {
        Object.assign(this.state, values);
        if (this.input.drag) return; // drawn by the drag, and again when it ends
        const { line, selected, editable, notices, windows, unused } = this.state;
        const { events, length } = line;
        this.zoom = clamp(this.zoom, 1, this.#mostZoom());
        this.sheet.style.width = `${100 * this.zoom}%`;
        const width = this.scroller.clientWidth * this.zoom;
        this.#fit(this.blocks, events.length, () => this.#makeBlock());
        this.#fit(this.handles, Math.max(0, events.length - 1), () => make("div", "lt-handle", this.track));
        this.#fit(this.fades, this.state.blend > 0 ? this.handles.length : 0, () => make("div", "lt-fade", this.track));
        events.forEach((_, i) => this.#drawBlock(i, width));
        this.handles.forEach((_, i) => this.drawHandle(i + 1, width));
        this.fades.forEach((fade, i) => {
            fade.style.left = percent(events[i + 1].start, length);
            fade.style.width = percent(this.state.blend, length);
        });
        this.#drawRuler(width);
        this.blocks.forEach(({ root }, i) => root.classList.toggle("lt-unused", unused.includes(i)));
        this.rows.draw(events.length ? windows : null, selected, length, width);
        this.root.style.setProperty("--rows", `${this.rows.height}px`);
        this.reel.draw(width);
        this.globalLane.style.maxWidth = `${100 / this.zoom}%`;
        this.globalLane.textContent = this.state.globalPrompt.trim().slice(0, LONGEST_LABEL) || t("no global prompt");
        this.globalLane.title = this.state.globalPrompt ? t("The global prompt holds for the whole video") : "";
        this.track.tabIndex = events.length ? -1 : 0;
        this.drawInfo();
        const text = events[selected]?.text ?? "";
        if (this.editor !== document.activeElement && this.editor.value !== text) this.editor.value = text;
        this.editor.disabled = !editable || !events.length;
        this.tools.draw(this.#mostZoom());
        if (this.notices.draw(notices)) this.actions.resized();
    }

    /** @template T @param {T[]} list @param {number} count @param {() => T} build */
    #fit(list, count, build) {
        while (list.length < count) list.push(build());
        for (const gone of list.splice(count)) {
            (gone instanceof HTMLElement ? gone : /** @type {any} */ (gone).root).remove();
        }
    }

    #makeBlock() {
        const root = make("div", "lt-block", this.track);
        root.setAttribute("role", "option");
        const text = make("div", "lt-text", root);
        text.dir = "auto";
        return { root, text, time: make("div", "lt-time", root) };
    }

    /** @param {number} i @param {number} width of the track in pixels */
    #drawBlock(i, width) {
        const { line, selected } = this.state;
        const block = this.blocks[i];
        const label = line.events[i].text.slice(0, LONGEST_LABEL).replace(/\s+/g, " ");
        const times = this.placeBlock(i, width);
        block.root.style.setProperty("--hue", String(hue(i)));
        block.root.classList.toggle("lt-selected", i === selected);
        block.text.textContent = label;
        block.root.title = `${label}\n${times}`;
        block.root.tabIndex = i === selected ? 0 : -1;
        block.root.setAttribute("aria-selected", String(i === selected));
        const name = t("Event {i} of {count}", { i: i + 1, count: line.events.length });
        block.root.setAttribute("aria-label", `${name}, ${times}: ${label}`);
    }

    /** @param {number} i @param {number} width @returns {string} the event's times */
    placeBlock(i, width) {
        const { line, fps } = this.state;
        const { start, end } = line.events[i];
        const { root, time } = this.blocks[i];
        root.style.left = percent(start, line.length);
        root.style.width = percent(end - start, line.length);
        root.classList.toggle("lt-narrow", (width * (end - start)) / line.length < 30);
        time.textContent = `${formatTime(start, fps)} \u2013 ${formatTime(end, fps)}`;
        return time.textContent;
    }

    /** @param {number} i border @param {number} width */
    drawHandle(i, width) {
        const { line, editable } = this.state;
        const { start, end } = line.events[i];
        const handle = this.handles[i - 1];
        const shortest = Math.min(end - start, start - line.events[i - 1].start);
        handle.style.left = percent(start, line.length);
        handle.classList.toggle("lt-thin", (width * shortest) / line.length < 14);
        handle.dataset.border = String(i);
        handle.hidden = !editable;
    }

    /** @param {number} width */
    #drawRuler(width) {
        const { line, fps } = this.state;
        const marks = line.events.length ? ticks(line.length, fps, width) : [];
        this.#fit(this.marks, marks.length, () => make("div", "lt-tick", this.ruler));
        marks.forEach((mark, i) => {
            this.marks[i].style.left = percent(mark.frame, line.length);
            this.marks[i].textContent = mark.label;
        });
    }

    drawInfo() {
        const { line, selected, fps, editable } = this.state;
        const event = line.events[selected];
        this.info.hidden = !event;
        if (!event) return;
        const { start, end } = event;
        this.swatch.style.setProperty("--hue", String(hue(selected)));
        this.place.textContent = `${selected + 1} / ${line.events.length}`;
        this.times.textContent =
            `${formatTime(start, fps)} \u2013 ${formatTime(end, fps)} \u00b7 ${t("frames {start}\u2013{end}", { start, end: end - 1 })}`;
        if (this.input.drag) return; // a field takes long to lay out
        this.duration.disabled = !editable || line.events.length < 2;
        if (document.activeElement !== this.duration) this.duration.value = formatTime(end - start, fps);
    }

    /** @param {number | null} frame */
    drawTip(frame) {
        this.tip.hidden = frame === null;
        if (frame === null) return;
        const part = frame / this.state.line.length;
        this.tip.textContent = `${formatTime(frame, this.state.fps)} \u00b7 ${t("frame {frame}", { frame })}`;
        this.tip.style.left = `${100 * part}%`;
        this.tip.classList.toggle("lt-start", part < 0.2);
        this.tip.classList.toggle("lt-end", part > 0.8);
    }

    // Zoom.

    #mostZoom() {
        const width = this.scroller.clientWidth || 1;
        return Math.max(1, Math.min((this.state.line.length * 16) / width, WIDEST / width));
    }

    /** @param {number} zoom */
    setZoom(zoom) {
        this.zoom = zoom;
        this.draw();
        this.#scrollToSelected(true);
    }

    /** @param {boolean} centre */
    #scrollToSelected(centre = false) {
        const { line, selected } = this.state;
        const event = line.events[selected];
        if (!event || this.zoom <= 1) return;
        const width = this.scroller.clientWidth;
        const x = (/** @type {number} */ frame) => (frame / line.length) * width * this.zoom;
        const left = this.scroller.scrollLeft;
        if (centre || x(event.start) < left || x(event.end) > left + width) {
            this.scroller.scrollLeft = (x(event.start) + x(event.end) - width) / 2;
        }
    }

    // What buttons and keys do.

    /** @param {{line: Timeline, selected: number}} change @param {"now" | "soon"} [how] */
    apply({ line, selected }, how = "now") {
        if (line === this.state.line || !this.state.editable) return;
        const focused = this.track.contains(document.activeElement);
        this.actions.change(line, selected, how);
        this.#scrollToSelected();
        if (focused) this.focus();
    }

    focus() {
        const block = this.blocks[this.state.selected];
        (block?.root ?? this.track).focus({ preventScroll: true });
    }

    /** @param {number} i */
    select(i) {
        const { events } = this.state.line;
        if (!events.length) return;
        this.actions.select(clamp(i, 0, events.length - 1));
        this.#scrollToSelected();
    }

    /** Where a split cuts: at the playhead, where it is in the event; undefined: in the middle. */
    get cut() {
        const { line, selected } = this.state;
        const { ready, frame } = this.reel;
        return ready && line.events[selected]?.start < frame && frame < line.events[selected].end ? frame : undefined;
    }

    /** Pixels that it needs. */
    get height() {
        return MIN_HEIGHT + this.rows.height + this.notices.height + this.reel.height;
    }

    newPrompt() {
        return t("new prompt");
    }

    editDuration() {
        this.duration.focus({ preventScroll: true });
        this.duration.select();
    }

    /** Give the selected event the duration in the field. */
    takeDuration() {
        const { line, selected, fps } = this.state;
        const frames = parseTime(this.duration.value, fps);
        if (frames > 0) this.apply(setDuration(line, selected, frames));
        this.drawInfo();
    }

    /** @param {number} border @param {number} by pixel frames */
    nudge(border, by) {
        const { line, selected } = this.state;
        if (!(border in line.events) || border < 1) return;
        this.apply({ line: moveBorder(line, border, line.events[border].start + by), selected }, "soon");
    }

    edit() {
        if (this.editor.disabled) return;
        this.editor.focus({ preventScroll: true });
        this.editor.select();
    }
}
