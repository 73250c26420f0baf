// @ts-check
/** The timeline's buttons, and the length of the video beside them. */

import { t } from "./i18n.js";
import { COMMANDS, enabled } from "./timeline_commands.js";
import { make, svg } from "./dom.js";
import { TimelineLength } from "./timeline_length.js";
import { ICONS } from "./timeline_style.js";

/** @typedef {import("./timeline_view.js").TimelineView} TimelineView */

const SHOWN = COMMANDS.filter(({ id }) => id in ICONS);

export class TimelineTools {
    /** @param {TimelineView} view */
    constructor(view) {
        this.view = view;
        this.root = make("div", "lt-tools", view.root);
        this.root.setAttribute("role", "toolbar");
        this.buttons = SHOWN.map((one) => this.#button(one.id, `${one.label()} (${one.keys()})`, () => one.run(view)));
        make("div", "lt-gap", this.root);
        this.zooms = {
            out: this.#button("out", `${t("Zoom out")} (-)`, () => view.setZoom(view.zoom / 2)),
            in: this.#button("in", `${t("Zoom in on the selected event")} (+)`, () => view.setZoom(view.zoom * 2)),
        };
        this.length = new TimelineLength(view, this.root);
    }

    /** @param {string} icon @param {string} label @param {() => void} run */
    #button(icon, label, run) {
        const element = make("button", `lt-${icon}`, this.root);
        element.type = "button";
        element.title = label;
        element.setAttribute("aria-label", label);
        const picture = svg("svg", "", element);
        picture.setAttribute("viewBox", "0 0 16 16");
        svg("path", "", picture).setAttribute("d", ICONS[/** @type {keyof typeof ICONS} */ (icon)]);
        element.addEventListener("click", run);
        return element;
    }

    /** @param {number} mostZoom */
    draw(mostZoom) {
        this.length.draw();
        this.buttons.forEach((button, i) => {
            button.disabled = !enabled(SHOWN[i], this.view);
        });
        this.zooms.out.disabled = this.view.zoom <= 1;
        this.zooms.in.disabled = this.view.zoom >= mostZoom;
    }
}
