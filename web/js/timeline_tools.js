// @ts-check
/** The timeline's buttons. */

import { t } from "./i18n.js";
import { canSplit, formatTime } from "./timeline_model.js";
import { make, svg } from "./dom.js";
import { ICONS } from "./timeline_style.js";

/** @typedef {import("./timeline_view.js").TimelineView} TimelineView */

export class TimelineTools {
    /** @param {TimelineView} view */
    constructor(view) {
        this.view = view;
        this.root = make("div", "lt-tools", view.root);
        this.root.setAttribute("role", "toolbar");
        this.buttons = {
            add: this.#button("add", t("Add an event (Insert)"), () => view.add()),
            split: this.#button("split", t("Split the event (S)"), () => view.split()),
            remove: this.#button("remove", t("Delete the event (Delete)"), () => view.remove()),
            earlier: this.#button("earlier", t("Move the event earlier (Ctrl+Left)"), () => view.reorder(-1)),
            later: this.#button("later", t("Move the event later (Ctrl+Right)"), () => view.reorder(1)),
            even: this.#button("even", t("Give all events the same duration"), () => view.even()),
        };
        make("div", "lt-gap", this.root);
        this.zooms = {
            out: this.#button("out", t("Zoom out"), () => view.setZoom(view.zoom / 2)),
            in: this.#button("in", t("Zoom in on the selected event"), () => view.setZoom(view.zoom * 2)),
        };
        this.total = make("div", "lt-total", this.root);
    }

    /** @param {keyof typeof ICONS} icon @param {string} label @param {() => void} run */
    #button(icon, label, run) {
        const element = make("button", `lt-${icon}`, this.root);
        element.type = "button";
        element.title = label;
        element.setAttribute("aria-label", label);
        const picture = svg("svg", "", element);
        picture.setAttribute("viewBox", "0 0 16 16");
        svg("path", "", picture).setAttribute("d", ICONS[icon]);
        element.addEventListener("click", run);
        return element;
    }

    /** @param {number} mostZoom */
    draw(mostZoom) {
        const { line, selected, fps, editable } = this.view.state;
        const { events, length } = line;
        this.total.textContent = events.length ? formatTime(length, fps) : "";
        this.total.title = t("The whole video: {length} frames at {fps} per second", { length, fps });
        const { add, split, remove, earlier, later, even } = this.buttons;
        add.disabled = !editable || events.length >= length;
        split.disabled = !editable || !canSplit(line, selected);
        remove.disabled = !editable || events.length < 2;
        earlier.disabled = !editable || selected < 1;
        later.disabled = !editable || selected >= events.length - 1;
        even.disabled = !editable || events.length < 2;
        this.zooms.out.disabled = this.view.zoom <= 1;
        this.zooms.in.disabled = this.view.zoom >= mostZoom;
    }
}
