// @ts-check
/**
 * What the timeline widget looks like, and what the mouse and the keys do: one element with everything in it, its style
 * included. It knows events, not ComfyUI; timeline_widget.js gives it a state to draw and gets the changes.
 */

import {
    addEvent,
    canSplit,
    clamp,
    dropPlace,
    eventAt,
    formatTime,
    hue,
    limitBorder,
    moveBorder,
    moveEvent,
    removeEvent,
    setText,
    splitEvent,
    spreadEvenly,
    ticks,
} from "./timeline_model.js";

import { ICONS, STYLE } from "./timeline_style.js";

/** @typedef {import("./timeline_model.js").Timeline} Timeline */

/**
 * @typedef {object} State what is drawn
 * @property {Timeline} line
 * @property {number} selected
 * @property {number} fps
 * @property {number} blend pixel frames
 * @property {string} globalPrompt
 * @property {boolean} editable
 * @property {string} message
 * @property {boolean} bad the message is an error
 */

/**
 * @typedef {object} Actions
 * @property {(line: Timeline, selected: number, how: "now" | "soon" | "typing") => void} change
 * @property {(selected: number) => void} select
 * @property {() => void} typed the prompt's field was left
 */

const NEW_PROMPT = "new prompt";
const LONGEST_LABEL = 300;
const WIDEST = 30_000; // pixels of the zoomed track

const HELP =
    "Drag a border or a block. Keys: Left, Right move the border before the block (Alt: behind it; Shift: by a second), " +
    "Ctrl+Left, Ctrl+Right move the block, Up, Down select, Enter edits, Delete removes, S splits, Insert adds.";

/**
 * @template {keyof HTMLElementTagNameMap} K
 * @param {K} tag @param {string} name class @param {HTMLElement} [parent]
 * @returns {HTMLElementTagNameMap[K]}
 */
function make(tag, name, parent) {
    const element = document.createElement(tag);
    if (name) element.className = name;
    parent?.append(element);
    return element;
}

/** @param {number} part @param {number} whole */
const percent = (part, whole) => `${(100 * part) / whole}%`;

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
            message: "",
            bad: false,
        };
        this.zoom = 1;
        /** The slowest answer to a pointer move of the last drag, in milliseconds. */
        this.slowest = 0;
        /** @type {null | {kind: "border" | "block", index: number, x: number, line: Timeline, moved: boolean, to: number}} */
        this.drag = null;
        this.root = make("div", "longtake-timeline");
        make("style", "", this.root).textContent = STYLE;
        this.#build();
        this.#listen();
        this.observer = new ResizeObserver(() => this.draw());
    }

    /** Follow the size of the element; stop() ends it. */
    start() {
        this.observer.observe(this.view);
    }

    stop() {
        this.observer.disconnect();
        this.drag = null;
    }

    #build() {
        const tools = make("div", "lt-tools", this.root);
        tools.setAttribute("role", "toolbar");
        const button = (/** @type {keyof typeof ICONS} */ icon, /** @type {string} */ label, /** @type {() => void} */ run) => {
            const element = make("button", `lt-${icon}`, tools);
            element.type = "button";
            element.title = label;
            element.setAttribute("aria-label", label);
            const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
            svg.setAttribute("viewBox", "0 0 16 16");
            const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
            path.setAttribute("d", ICONS[icon]);
            svg.append(path);
            element.append(svg);
            element.addEventListener("click", run);
            return element;
        };
        this.buttons = {
            add: button("add", "Add an event (Insert)", () => this.add()),
            split: button("split", "Split the event (S)", () => this.split()),
            remove: button("remove", "Delete the event (Delete)", () => this.remove()),
            earlier: button("earlier", "Move the event earlier (Ctrl+Left)", () => this.reorder(-1)),
            later: button("later", "Move the event later (Ctrl+Right)", () => this.reorder(1)),
            even: button("even", "Give all events the same duration", () => this.even()),
        };
        make("div", "lt-gap", tools);
        this.zooms = {
            out: button("out", "Zoom out", () => this.setZoom(this.zoom / 2)),
            in: button("in", "Zoom in on the selected event", () => this.setZoom(this.zoom * 2)),
        };
        this.total = make("div", "lt-total", tools);
        this.view = make("div", "lt-view", this.root);
        this.sheet = make("div", "lt-sheet", this.view);
        this.ruler = make("div", "lt-ruler", this.sheet);
        this.globalLane = make("span", "", make("div", "lt-global", this.sheet));
        this.globalLane.dir = "auto";
        this.track = make("div", "lt-track", this.sheet);
        this.track.setAttribute("role", "listbox");
        this.track.setAttribute("aria-orientation", "horizontal");
        this.track.setAttribute("aria-label", `Events. ${HELP}`);
        this.drop = make("div", "lt-drop", this.track);
        this.drop.hidden = true;
        this.tip = make("div", "lt-tip", this.sheet);
        this.tip.hidden = true;
        this.info = make("div", "lt-info", this.root);
        this.info.title = HELP;
        this.swatch = make("i", "", this.info);
        this.place = make("b", "", this.info);
        this.times = make("span", "", this.info);
        this.editor = make("textarea", "", this.root);
        this.editor.dir = "auto";
        this.editor.setAttribute("aria-label", "Prompt of the selected event");
        this.message = make("div", "lt-message", this.root);
        this.message.setAttribute("role", "status");
        /** @type {{root: HTMLElement, text: HTMLElement, time: HTMLElement}[]} */
        this.blocks = [];
        /** @type {HTMLElement[]} */
        this.handles = [];
        /** @type {HTMLElement[]} */
        this.fades = [];
        /** @type {HTMLElement[]} */
        this.marks = [];
    }

    // Drawing. Elements are used again, so that a focused block keeps the focus.

    /** @param {Partial<State>} [values] */
    draw(values) {
        Object.assign(this.state, values);
        if (this.drag) return; // drawn by the drag, and again when it ends
        const { line, selected, fps, editable, message, bad } = this.state;
        const { events, length } = line;
        this.zoom = clamp(this.zoom, 1, this.#mostZoom());
        this.sheet.style.width = `${100 * this.zoom}%`;
        const width = this.view.clientWidth * this.zoom;
        this.#fit(this.blocks, events.length, () => this.#makeBlock());
        this.#fit(this.handles, Math.max(0, events.length - 1), () => make("div", "lt-handle", this.track));
        this.#fit(this.fades, this.state.blend > 0 ? this.handles.length : 0, () => make("div", "lt-fade", this.track));
        events.forEach((event, i) => this.#drawBlock(i, width));
        this.handles.forEach((handle, i) => this.#drawHandle(i + 1, width));
        this.fades.forEach((fade, i) => {
            fade.style.left = percent(events[i + 1].start, length);
            fade.style.width = percent(this.state.blend, length);
        });
        this.#drawRuler(width);
        this.globalLane.style.maxWidth = `${100 / this.zoom}%`;
        this.globalLane.textContent = this.state.globalPrompt.trim().slice(0, LONGEST_LABEL) || "no global prompt";
        this.globalLane.title = this.state.globalPrompt ? "The global prompt holds for the whole video" : "";
        this.track.tabIndex = events.length ? -1 : 0;
        this.total.textContent = events.length ? formatTime(length, fps) : "";
        this.total.title = `The whole video: ${length} frames at ${fps} per second`;
        this.#drawInfo();
        const text = events[selected]?.text ?? "";
        if (this.editor !== document.activeElement && this.editor.value !== text) this.editor.value = text;
        this.editor.disabled = !editable || !events.length;
        this.message.textContent = message;
        this.message.hidden = !message;
        this.message.classList.toggle("lt-bad", bad);
        const { add, split, remove, earlier, later, even } = this.buttons;
        add.disabled = !editable || events.length >= length;
        split.disabled = !editable || !canSplit(line, selected);
        remove.disabled = !editable || events.length < 2;
        earlier.disabled = !editable || selected < 1;
        later.disabled = !editable || selected >= events.length - 1;
        even.disabled = !editable || events.length < 2;
        this.zooms.out.disabled = this.zoom <= 1;
        this.zooms.in.disabled = this.zoom >= this.#mostZoom();
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
        const times = this.#placeBlock(i, width);
        block.root.style.setProperty("--hue", String(hue(i)));
        block.root.classList.toggle("lt-selected", i === selected);
        block.text.textContent = label;
        block.root.title = `${label}\n${times}`;
        block.root.tabIndex = i === selected ? 0 : -1;
        block.root.setAttribute("aria-selected", String(i === selected));
        block.root.setAttribute("aria-label", `Event ${i + 1} of ${line.events.length}, ${times}: ${label}`);
    }

    /** @param {number} i @param {number} width @returns {string} the event's times */
    #placeBlock(i, width) {
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
    #drawHandle(i, width) {
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

    #drawInfo() {
        const { line, selected, fps } = this.state;
        const event = line.events[selected];
        this.info.hidden = !event;
        if (!event) return;
        const { start, end } = event;
        this.swatch.style.setProperty("--hue", String(hue(selected)));
        this.place.textContent = `${selected + 1} / ${line.events.length}`;
        this.times.textContent =
            `${formatTime(start, fps)} \u2013 ${formatTime(end, fps)} \u00b7 frames ${start}\u2013${end - 1}` +
            ` \u00b7 ${formatTime(end - start, fps)} long`;
    }

    /** @param {number | null} frame @param {string} [text] */
    #drawTip(frame, text) {
        this.tip.hidden = frame === null;
        if (frame === null) return;
        const part = frame / this.state.line.length;
        this.tip.textContent = text ?? `${formatTime(frame, this.state.fps)} \u00b7 frame ${frame}`;
        this.tip.style.left = `${100 * part}%`;
        this.tip.classList.toggle("lt-start", part < 0.2);
        this.tip.classList.toggle("lt-end", part > 0.8);
    }

    // Zoom.

    #mostZoom() {
        const width = this.view.clientWidth || 1;
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
        const width = this.view.clientWidth;
        const x = (frame) => (frame / line.length) * width * this.zoom;
        const left = this.view.scrollLeft;
        if (centre || x(event.start) < left || x(event.end) > left + width) {
            this.view.scrollLeft = (x(event.start) + x(event.end) - width) / 2;
        }
    }

    // What buttons and keys do.

    /** @param {{line: Timeline, selected: number}} change @param {"now" | "soon"} [how] */
    #apply({ line, selected }, how = "now") {
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

    add() {
        const { line, selected } = this.state;
        this.#apply(addEvent(line, selected, NEW_PROMPT));
    }

    split() {
        this.#apply(splitEvent(this.state.line, this.state.selected));
    }

    remove() {
        this.#apply(removeEvent(this.state.line, this.state.selected));
    }

    /** @param {number} by */
    reorder(by) {
        this.#apply(moveEvent(this.state.line, this.state.selected, this.state.selected + by));
    }

    even() {
        this.#apply({ line: spreadEvenly(this.state.line), selected: this.state.selected });
    }

    /** @param {number} border @param {number} by pixel frames */
    nudge(border, by) {
        const { line, selected } = this.state;
        if (!(border in line.events) || border < 1) return;
        this.#apply({ line: moveBorder(line, border, line.events[border].start + by), selected }, "soon");
    }

    edit() {
        if (this.editor.disabled) return;
        this.editor.focus({ preventScroll: true });
        this.editor.select();
    }

    #listen() {
        const { root, sheet, editor } = this;
        sheet.addEventListener("pointerdown", (event) => this.#pointerDown(event));
        sheet.addEventListener("mousedown", (event) => event.preventDefault()); // the focus goes where pointerDown sets it
        sheet.addEventListener("pointermove", (event) => this.#pointerMove(event));
        sheet.addEventListener("pointerup", () => this.#endDrag(true));
        sheet.addEventListener("pointercancel", () => this.#endDrag(false));
        sheet.addEventListener("lostpointercapture", () => this.#endDrag(false));
        sheet.addEventListener("dblclick", () => this.edit());
        root.addEventListener("keydown", (event) => this.#keyDown(event));
        editor.addEventListener("input", () => {
            const { line, selected } = this.state;
            if (selected in line.events) this.actions.change(setText(line, selected, editor.value), selected, "typing");
        });
        editor.addEventListener("blur", () => this.actions.typed());
        // The canvas and ComfyUI's node would drag the node.
        for (const type of ["pointerdown", "pointermove", "pointerup", "dblclick"]) {
            root.addEventListener(type, (event) => {
                if (/** @type {MouseEvent} */ (event).button !== 1) event.stopPropagation();
            });
        }
    }

    // Dragging: only what moves is drawn, and the text is written when the button is released.

    /** @param {PointerEvent} event */
    #frameAt(event) {
        const box = this.sheet.getBoundingClientRect();
        return clamp((event.clientX - box.left) / (box.width || 1), 0, 1) * this.state.line.length;
    }

    /** @param {PointerEvent} event */
    #pointerDown(event) {
        const { line, editable } = this.state;
        if (event.button !== 0 || !line.events.length) return;
        const target = /** @type {HTMLElement} */ (event.target);
        const handle = /** @type {HTMLElement | null} */ (target.closest(".lt-handle"));
        const onBlock = target.closest(".lt-block");
        event.preventDefault(); // no text selection
        const index = handle ? Number(handle.dataset.border) : eventAt(line, this.#frameAt(event));
        this.select(index); // of a border, the event behind it: the arrow keys then move this border
        this.focus();
        if (!editable || !(handle || onBlock)) return;
        this.slowest = 0;
        this.drag = { kind: handle ? "border" : "block", index, x: event.clientX, line, moved: false, to: index };
        handle?.classList.add("lt-active");
        this.sheet.setPointerCapture(event.pointerId);
        if (handle) this.#drawTip(line.events[index].start);
    }

    /** @param {PointerEvent} event */
    #pointerMove(event) {
        const drag = this.drag;
        if (!drag) return;
        const began = performance.now();
        this.#scrollAtEdge(event);
        if (drag.kind === "border") this.#dragBorder(drag.index, this.#frameAt(event));
        else this.#dragBlock(event);
        this.slowest = Math.max(this.slowest, performance.now() - began);
    }

    /** @param {PointerEvent} event */
    #scrollAtEdge(event) {
        if (this.zoom <= 1) return;
        const box = this.view.getBoundingClientRect();
        if (event.clientX < box.left + 12) this.view.scrollLeft -= 16;
        if (event.clientX > box.right - 12) this.view.scrollLeft += 16;
    }

    /** @param {number} i @param {number} frame */
    #dragBorder(i, frame) {
        const { state } = this;
        if (!(i in state.line.events)) return;
        const border = limitBorder(state.line, i, frame);
        if (border === state.line.events[i].start) return;
        if (this.drag) this.drag.moved = true;
        state.line = moveBorder(state.line, i, border);
        const width = this.view.clientWidth * this.zoom;
        this.#placeBlock(i - 1, width);
        this.#placeBlock(i, width);
        this.#drawHandle(i, width);
        if (this.fades[i - 1]) this.fades[i - 1].style.left = percent(border, state.line.length);
        this.#drawTip(border);
        this.#drawInfo();
    }

    /** @param {PointerEvent} event */
    #dragBlock(event) {
        const drag = /** @type {NonNullable<TimelineView["drag"]>} */ (this.drag);
        const box = this.sheet.getBoundingClientRect();
        const shift = event.clientX - drag.x;
        if (!drag.moved && Math.abs(shift) < 4) return;
        drag.moved = true;
        const { line } = this.state;
        if (!(drag.index in line.events)) return;
        const { root } = this.blocks[drag.index];
        drag.to = dropPlace(line, drag.index, this.#frameAt(event));
        root.classList.add("lt-lifted");
        root.style.transform = `translateX(${(shift * this.sheet.offsetWidth) / (box.width || 1)}px)`;
        this.drop.hidden = drag.to === drag.index;
        const target = line.events[drag.to];
        this.drop.style.left = percent(drag.to > drag.index ? target.end : target.start, line.length);
    }

    /** @param {boolean} keep */
    #endDrag(keep) {
        const drag = this.drag;
        if (!drag) return;
        this.drag = null;
        const { line, selected } = this.state;
        this.state.line = drag.line;
        this.#drawTip(null);
        this.drop.hidden = true;
        this.handles.forEach((handle) => handle.classList.remove("lt-active"));
        const block = this.blocks[drag.index]?.root;
        block?.classList.remove("lt-lifted");
        if (block) block.style.transform = "";
        if (keep && drag.moved) {
            this.#apply(drag.kind === "border" ? { line, selected } : moveEvent(drag.line, drag.index, drag.to));
        }
        this.draw();
    }

    /** @param {KeyboardEvent} event */
    #keyDown(event) {
        const { line, selected, fps } = this.state;
        const last = line.events.length - 1;
        const { key } = event;
        const target = /** @type {HTMLElement} */ (event.target);
        /** @type {(() => void) | undefined} */
        let run;
        if (key === "Escape" && this.drag) run = () => this.#endDrag(false);
        else if (target === this.editor) {
            if (key === "Escape") run = () => this.focus();
        } else if (this.track.contains(target)) {
            const command = event.ctrlKey || event.metaKey;
            const side = { ArrowLeft: -1, ArrowRight: 1 }[key];
            if (side && command) run = () => this.reorder(side);
            else if (side) {
                const border = event.altKey || selected === 0 ? selected + 1 : selected;
                run = () => this.nudge(border, side * (event.shiftKey ? Math.max(1, Math.round(fps)) : 1));
            } else if (!command && !event.altKey) {
                run = {
                    ArrowUp: () => this.#selectByKey(selected - 1),
                    ArrowDown: () => this.#selectByKey(selected + 1),
                    Home: () => this.#selectByKey(0),
                    End: () => this.#selectByKey(last),
                    Enter: () => this.edit(),
                    F2: () => this.edit(),
                    Delete: () => this.remove(),
                    Backspace: () => this.remove(),
                    Insert: () => this.add(),
                    s: () => this.split(),
                }[key];
            }
        }
        if (!run) return;
        event.preventDefault();
        event.stopPropagation(); // Delete would delete the node
        run();
    }

    /** @param {number} i */
    #selectByKey(i) {
        this.select(i);
        this.focus();
    }
}
