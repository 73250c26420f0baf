// @ts-check
/** The windows beneath the events, in the colours of the events whose prompts they get. */

import { t } from "./i18n.js";
import { hue } from "./timeline_model.js";
import { make, svg } from "./dom.js";
import { shapes, stack, windowAt } from "./timeline_windows.js";

/** @typedef {import("./timeline_windows.js").WindowPlace} WindowPlace */

/**
 * @typedef {object} Windows
 * @property {WindowPlace[]} windows
 * @property {boolean} shifted whether they lie elsewhere at the next step
 * @property {number} compression pixel frames per latent frame
 */

const ROW = 7; // pixels
const MOST = 30; // pixels of all rows

export class TimelineRows {
    /** @param {HTMLElement} parent */
    constructor(parent) {
        this.root = make("div", "lt-windows", parent);
        this.root.hidden = true;
        this.root.setAttribute("role", "img");
        this.svg = svg("svg", "", this.root);
        this.svg.setAttribute("preserveAspectRatio", "none");
        this.height = 0;
        /** @type {Windows | null} */
        this.shown = null;
        this.selected = -1;
        this.length = 1;
        this.width = 0;
        /** @type {{rows: number[], count: number}} */
        this.rows = { rows: [], count: 0 };
        this.root.addEventListener("pointermove", (event) => this.#point(event));
    }

    /**
     * @param {Windows | null} shown @param {number} selected @param {number} length of the video @param {number} width
     */
    draw(shown, selected, length, width) {
        const { windows } = shown ?? { windows: [] };
        this.root.hidden = !windows.length;
        if (shown !== this.shown) {
            this.rows = stack(windows);
            this.height = windows.length ? Math.min(this.rows.count * ROW, MOST) + 2 : 0;
            this.root.style.height = `${this.height}px`;
        } else if (selected === this.selected && length === this.length && width === this.width) return;
        Object.assign(this, { shown, selected, length, width });
        if (!windows.length) return;
        this.svg.setAttribute("viewBox", `0 0 ${length} ${this.rows.count}`);
        const pixel = length / Math.max(width, 1);
        const wide = windows[0].end - windows[0].start > 8 * pixel;
        const thick = this.rows.count * ROW <= MOST;
        const gap = /** @type {[number, number]} */ ([wide ? pixel : 0, thick ? 1 / ROW : 0]);
        const drawn = shapes(windows, this.rows.rows, selected, hue, gap).map((shape) => {
            const path = svg("path", "");
            path.setAttribute("d", shape.path);
            if (shape.hue === null) path.setAttribute("class", "lt-plain");
            else path.style.setProperty("--hue", String(shape.hue));
            if (shape.own) path.setAttribute("class", "lt-own");
            return path;
        });
        this.svg.replaceChildren(...drawn);
        this.root.setAttribute("aria-label", this.#summary());
    }

    #summary() {
        const { windows, shifted, compression } = /** @type {Windows} */ (this.shown);
        const parts = [t("{count} windows, each in the colour of its prompt", { count: windows.length })];
        if (shifted) parts.push(t("shifted anew at every step: the first one is shown"));
        parts.push(t("{compression} frames per latent frame", { compression }));
        return parts.join("; ");
    }

    /** @param {PointerEvent} event */
    #point(event) {
        if (!this.shown || event.buttons) return;
        const { windows } = this.shown;
        const box = this.root.getBoundingClientRect();
        const frame = ((event.clientX - box.left) / (box.width || 1)) * this.length;
        const row = Math.floor(((event.clientY - box.top) / (box.height || 1)) * this.rows.count);
        const found = windowAt(windows, this.rows.rows, row, frame);
        this.root.title = found < 0 ? this.#summary() : `${this.#describe(found)}\n${this.#summary()}`;
    }

    /** @param {number} i */
    #describe(i) {
        const { windows } = /** @type {Windows} */ (this.shown);
        const { start, end, events } = windows[i];
        const place = t("Window {i} of {count}: frames {start}\u2013{end}", {
            i: i + 1, count: windows.length, start, end: end - 1,
        });
        const prompts = events.map(([event, weight]) =>
            events.length > 1
                ? t("event {event} ({percent}%)", { event: event + 1, percent: Math.round(100 * weight) })
                : t("event {event}", { event: event + 1 }),
        );
        return [place, ...(prompts.length ? prompts : [t("global prompt")])].join(" \u00b7 ");
    }
}
