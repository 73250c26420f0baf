// @ts-check
/** What there is to say below the timeline, each with the buttons that mend it. */

import { make } from "./dom.js";

/**
 * @typedef {object} Way a button
 * @property {string} label
 * @property {string} [title]
 * @property {() => void} run
 *
 * @typedef {object} Notice
 * @property {string} text
 * @property {boolean} [bad] an error
 * @property {Way[]} [ways]
 */

export class TimelineNotices {
    /** @param {HTMLElement} parent */
    constructor(parent) {
        this.root = make("div", "lt-notices", parent);
        this.root.setAttribute("role", "status");
        this.shown = "";
        /** @type {Way[]} */
        this.ways = [];
        this.height = 0;
    }

    /** @param {Notice[]} notices @returns {boolean} whether the height is another one */
    draw(notices) {
        this.ways = notices.flatMap(({ ways }) => ways ?? []);
        const shown = JSON.stringify(notices); // without what the buttons do: a pressed one must not be made anew
        if (shown === this.shown) return false;
        this.shown = shown;
        let number = 0;
        this.root.replaceChildren(
            ...notices.map(({ text, bad, ways = [] }) => {
                const root = make("div", bad ? "lt-message lt-bad" : "lt-message");
                make("span", "", root).textContent = text;
                for (const { label, title } of ways) {
                    const button = make("button", "lt-way", root);
                    const at = number++;
                    button.type = "button";
                    button.textContent = label;
                    button.title = title ?? "";
                    button.addEventListener("click", () => this.ways[at]?.run());
                }
                return root;
            }),
        );
        this.root.hidden = !notices.length;
        const { height } = this;
        this.height = this.root.offsetHeight;
        return height !== this.height;
    }
}
