// @ts-check
/** The length of the whole video: a field that takes seconds or frames, and offers lengths that the model can make. */

import { make } from "./dom.js";
import { t } from "./i18n.js";
import { formatTime, parseTime, videoLength } from "./timeline_model.js";

/** @typedef {import("./timeline_view.js").TimelineView} TimelineView */

const OFFERED = [1, 2, 3, 4, 5, 6, 8, 10, 12, 15, 20, 30, 45, 60, 90, 120]; // seconds
let lists = 0;

export class TimelineLength {
    /** @param {TimelineView} view @param {HTMLElement} parent */
    constructor(view, parent) {
        this.view = view;
        this.root = make("div", "lt-total", parent);
        this.frames = make("span", "", this.root);
        this.input = make("input", "lt-field", this.root);
        this.list = make("datalist", "", this.root);
        this.list.id = `longtake-lengths-${++lists}`;
        this.input.setAttribute("list", this.list.id);
        this.offered = "";
        this.input.addEventListener("change", () => this.#take());
        this.input.addEventListener("keydown", (event) => this.#key(event));
        this.input.addEventListener("focus", () => this.#offer());
        this.input.addEventListener("click", () => this.#offer());
        this.input.addEventListener("blur", () => this.draw());
    }

    draw() {
        const { line, fps, step, settable } = this.view.state;
        const { length } = line;
        const label = t("The whole video: {length} frames at {fps} per second", { length, fps });
        const how = t("Seconds, or frames with f. Of the model's lengths, {step} n + 1 frames, the nearest is taken.", { step });
        this.input.title = settable ? `${label}. ${how}` : label;
        this.input.setAttribute("aria-label", label);
        this.root.hidden = !line.events.length && !settable;
        this.input.disabled = !settable;
        this.frames.textContent = t("{frames} frames", { frames: length });
        const offered = `${step} ${fps}`;
        if (offered !== this.offered) {
            this.offered = offered;
            const options = OFFERED.map((seconds) => {
                const option = make("option", "");
                const frames = videoLength(seconds * fps, step);
                option.value = `${frames}f`;
                option.label = `${t("{frames} frames", { frames })}, ${formatTime(frames, fps)}`;
                return option;
            });
            this.list.replaceChildren(...options);
        }
        if (document.activeElement !== this.input) this.input.value = formatTime(length, fps);
    }

    /** An empty field shows all that is offered. */
    #offer() {
        if (this.input.value !== formatTime(this.view.state.line.length, this.view.state.fps)) return;
        this.input.placeholder = this.input.value;
        this.input.value = "";
        try {
            this.input.showPicker();
        } catch {
            // a browser that shows lists only when it is asked by hand
        }
    }

    #take() {
        const { fps, step, line } = this.view.state;
        const frames = parseTime(this.input.value, fps);
        if (Number.isFinite(frames) && frames > 0) this.#set(videoLength(frames, step));
        else this.input.value = formatTime(line.length, fps);
    }

    /** @param {number} frames */
    #set(frames) {
        const { line, fps } = this.view.state;
        this.input.value = formatTime(frames, fps);
        if (frames !== line.length) this.view.actions.setLength(frames);
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        const { line, step } = this.view.state;
        event.stopPropagation(); // Delete would delete the node
        const by = { ArrowUp: step, ArrowDown: -step }[event.key];
        if (by) this.#set(videoLength(Math.max(1, line.length + by), step));
        else if (event.key === "Enter") this.#take();
        else if (event.key === "Escape") this.view.focus();
        else return;
        event.preventDefault();
    }
}
