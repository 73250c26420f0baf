// @ts-check
/** What the mouse and the keys do on the timeline's elements (timeline_view.js). */

import { COMMANDS, enabled } from "./timeline_commands.js";
import { clamp, dropPlace, eventAt, limitBorder, moveBorder, moveEvent, setText } from "./timeline_model.js";
import { percent } from "./timeline_style.js";

/** @typedef {import("./timeline_view.js").TimelineView} TimelineView */
/** @typedef {import("./timeline_model.js").Timeline} Timeline */

/** @typedef {{kind: "border" | "block", index: number, x: number, line: Timeline, moved: boolean, to: number}} Drag */

export class TimelineInput {
    /** @param {TimelineView} view */
    constructor(view) {
        this.view = view;
        /** The slowest answer to a pointer move of the last drag, in milliseconds. */
        this.slowest = 0;
        /** @type {Drag | null} */
        this.drag = null;
        this.scrubs = false; // whether the pointer moves the playhead
        this.#listen();
    }

    /** Give a drag up, without drawing. */
    stop() {
        this.drag = null;
        this.scrubs = false;
    }

    #listen() {
        const { root, sheet, editor, duration } = this.view;
        sheet.addEventListener("pointerdown", (event) => this.#pointerDown(event));
        sheet.addEventListener("mousedown", (event) => event.preventDefault()); // the focus goes where pointerDown sets it
        sheet.addEventListener("pointermove", (event) => this.#pointerMove(event));
        sheet.addEventListener("pointerup", () => this.#endDrag(true));
        sheet.addEventListener("pointercancel", () => this.#endDrag(false));
        sheet.addEventListener("lostpointercapture", () => this.#endDrag(false));
        sheet.addEventListener("dblclick", (event) => {
            if (!this.view.reel.takes(/** @type {Node} */ (event.target))) this.view.edit();
        });
        sheet.addEventListener("contextmenu", (event) => this.#menu(event));
        root.addEventListener("keydown", (event) => this.#keyDown(event));
        editor.addEventListener("input", () => {
            const { line, selected } = this.view.state;
            if (selected in line.events) this.view.actions.change(setText(line, selected, editor.value), selected, "typing");
        });
        editor.addEventListener("blur", () => this.view.actions.typed());
        duration.addEventListener("change", () => this.view.takeDuration());
        duration.addEventListener("blur", () => this.view.drawInfo());
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
        const box = this.view.sheet.getBoundingClientRect();
        return clamp((event.clientX - box.left) / (box.width || 1), 0, 1) * this.view.state.line.length;
    }

    /** @param {PointerEvent} event */
    #pointerDown(event) {
        const { line, editable } = this.view.state;
        if (event.button !== 0 || !line.events.length) return;
        const target = /** @type {HTMLElement} */ (event.target);
        const handle = /** @type {HTMLElement | null} */ (target.closest(".lt-handle"));
        const onBlock = target.closest(".lt-block");
        event.preventDefault(); // no text selection
        if (this.view.reel.takes(target)) {
            this.scrubs = true;
            this.view.sheet.setPointerCapture(event.pointerId);
            this.view.reel.lane.focus({ preventScroll: true });
            return this.#scrub(event);
        }
        const index = handle ? Number(handle.dataset.border) : eventAt(line, this.#frameAt(event));
        this.view.select(index); // of a border, the event behind it: the arrow keys then move this border
        this.view.focus();
        if (!editable || !(handle || onBlock)) return;
        this.slowest = 0;
        this.drag = { kind: handle ? "border" : "block", index, x: event.clientX, line, moved: false, to: index };
        handle?.classList.add("lt-active");
        this.view.sheet.setPointerCapture(event.pointerId);
        if (handle) this.view.drawTip(line.events[index].start);
    }

    /** @param {PointerEvent} event */
    #pointerMove(event) {
        const drag = this.drag;
        if (this.scrubs) this.#scrub(event);
        if (!drag) return;
        const began = performance.now();
        this.#scrollAtEdge(event);
        if (drag.kind === "border") this.#dragBorder(drag.index, this.#frameAt(event));
        else this.#dragBlock(event);
        this.slowest = Math.max(this.slowest, performance.now() - began);
    }

    /** @param {PointerEvent} event */
    #scrub(event) {
        this.#scrollAtEdge(event);
        this.view.reel.pause();
        this.view.reel.seek(Math.floor(this.#frameAt(event)));
    }

    /** @param {PointerEvent} event */
    #scrollAtEdge(event) {
        if (this.view.zoom <= 1) return;
        const box = this.view.scroller.getBoundingClientRect();
        if (event.clientX < box.left + 12) this.view.scroller.scrollLeft -= 16;
        if (event.clientX > box.right - 12) this.view.scroller.scrollLeft += 16;
    }

    /** @param {number} i @param {number} frame */
    #dragBorder(i, frame) {
        const { state } = this.view;
        if (!(i in state.line.events)) return;
        const border = limitBorder(state.line, i, frame);
        if (border === state.line.events[i].start) return;
        if (this.drag) this.drag.moved = true;
        state.line = moveBorder(state.line, i, border);
        const width = this.view.scroller.clientWidth * this.view.zoom;
        this.view.placeBlock(i - 1, width);
        this.view.placeBlock(i, width);
        this.view.drawHandle(i, width);
        if (this.view.fades[i - 1]) this.view.fades[i - 1].style.left = percent(border, state.line.length);
        this.view.drawTip(border);
        this.view.drawInfo();
    }

    /** @param {PointerEvent} event */
    #dragBlock(event) {
        const drag = /** @type {Drag} */ (this.drag);
        const box = this.view.sheet.getBoundingClientRect();
        const shift = event.clientX - drag.x;
        if (!drag.moved && Math.abs(shift) < 4) return;
        drag.moved = true;
        const { line } = this.view.state;
        if (!(drag.index in line.events)) return;
        const { root } = this.view.blocks[drag.index];
        drag.to = dropPlace(line, drag.index, this.#frameAt(event));
        root.classList.add("lt-lifted");
        root.style.transform = `translateX(${(shift * this.view.sheet.offsetWidth) / (box.width || 1)}px)`;
        this.view.drop.hidden = drag.to === drag.index;
        const target = line.events[drag.to];
        this.view.drop.style.left = percent(drag.to > drag.index ? target.end : target.start, line.length);
    }

    /** @param {boolean} keep */
    #endDrag(keep) {
        const drag = this.drag;
        this.scrubs = false;
        if (!drag) return;
        this.drag = null;
        const { line, selected } = this.view.state;
        this.view.state.line = drag.line;
        this.view.drawTip(null);
        this.view.drop.hidden = true;
        this.view.handles.forEach((handle) => handle.classList.remove("lt-active"));
        const block = this.view.blocks[drag.index]?.root;
        block?.classList.remove("lt-lifted");
        if (block) block.style.transform = "";
        if (keep && drag.moved) {
            this.view.apply(drag.kind === "border" ? { line, selected } : moveEvent(drag.line, drag.index, drag.to));
        }
        this.view.draw();
    }

    /** The menu of the event at the pointer; by a key, of the selected one. @param {MouseEvent} event */
    #menu(event) {
        event.preventDefault();
        event.stopPropagation(); // the node has a menu of its own
        const { line, selected } = this.view.state;
        const pointed = event.button === 2;
        if (pointed && line.events.length) this.view.select(eventAt(line, this.#frameAt(event)));
        const box = this.view.blocks[selected]?.root.getBoundingClientRect();
        if (pointed || !box) this.view.menu.open(event.clientX, event.clientY);
        else this.view.menu.open(box.left, box.bottom);
    }

    /** @param {KeyboardEvent} event */
    #keyDown(event) {
        const { line, selected, fps } = this.view.state;
        const last = line.events.length - 1;
        const { key } = event;
        const target = /** @type {HTMLElement} */ (event.target);
        /** @type {(() => void) | undefined} */
        let run;
        if (key === "Escape" && this.drag) run = () => this.#endDrag(false);
        else if (target === this.view.editor) {
            if (key === "Escape") run = () => this.view.focus();
        } else if (target === this.view.duration) {
            event.stopPropagation();
            if (key === "Enter") run = () => this.view.focus(); // leaving the field takes what it says
            if (key === "Escape") run = () => this.#leaveDuration();
        } else if (key === " " && this.view.reel.ready && target.tagName !== "BUTTON" && target.tagName !== "INPUT") {
            run = () => this.view.reel.toggle();
        } else if (target === this.view.reel.lane) run = this.view.reel.keys(key);
        else if (this.view.track.contains(target)) {
            const command = event.ctrlKey || event.metaKey;
            const side = { ArrowLeft: -1, ArrowRight: 1 }[key];
            const one = event.altKey ? undefined : COMMANDS.find(({ pressed }) => pressed(key, command));
            if (one) run = () => enabled(one, this.view) && one.run(this.view);
            else if (side && !command) {
                const border = event.altKey || selected === 0 ? selected + 1 : selected;
                run = () => this.view.nudge(border, side * (event.shiftKey ? Math.max(1, Math.round(fps)) : 1));
            } else if (!command && !event.altKey) {
                run = {
                    ArrowUp: () => this.#selectByKey(selected - 1),
                    ArrowDown: () => this.#selectByKey(selected + 1),
                    Home: () => this.#selectByKey(0),
                    End: () => this.#selectByKey(last),
                    "+": () => this.view.setZoom(this.view.zoom * 2),
                    "-": () => this.view.setZoom(this.view.zoom / 2),
                }[key];
            }
        }
        if (!run) return;
        event.preventDefault();
        event.stopPropagation(); // Delete would delete the node
        run();
    }

    #leaveDuration() {
        const { duration } = this.view;
        duration.value = ""; // no time: it says the event's own again
        this.view.focus();
    }

    /** @param {number} i */
    #selectByKey(i) {
        this.view.select(i);
        this.view.focus();
    }
}
