// @ts-check
/** The menu of an event: everything that can be done with it, at the pointer or below the event. */

import { make } from "./dom.js";
import { COMMANDS, enabled } from "./timeline_commands.js";

/** @typedef {import("./timeline_view.js").TimelineView} TimelineView */

const STYLE = `
.longtake-menu { position: fixed; z-index: 10000; min-width: 220px; padding: 4px; border-radius: 8px; box-shadow: 0 4px 16px #0006;
    background: var(--comfy-menu-bg, #353535); color: var(--input-text, #ddd); border: 1px solid var(--border-color, #4e4e4e);
    font: 13px/1.3 Inter, Arial, sans-serif; }
.longtake-menu button { display: flex; gap: 24px; width: 100%; padding: 5px 8px; border: 0; border-radius: 5px; background: none;
    color: inherit; font: inherit; text-align: left; cursor: pointer; }
.longtake-menu button span:last-child { margin-left: auto; opacity: 0.6; }
.longtake-menu button:focus { outline: none; background: var(--comfy-input-bg, #222); }
.longtake-menu button:disabled { opacity: 0.35; cursor: default; }
`;

export class TimelineMenu {
    /** @param {TimelineView} view */
    constructor(view) {
        this.view = view;
        /** @type {HTMLElement | null} */
        this.root = null;
        this.away = (/** @type {Event} */ event) => {
            if (!(event.target instanceof Node && this.root?.contains(event.target))) this.close();
        };
    }

    /** @param {number} x of the page @param {number} y */
    open(x, y) {
        this.close();
        const root = (this.root = make("div", "longtake-menu", document.body));
        root.setAttribute("role", "menu");
        make("style", "", root).textContent = STYLE;
        for (const one of COMMANDS) {
            const item = make("button", `lt-${one.id}`, root);
            item.type = "button";
            item.setAttribute("role", "menuitem");
            item.disabled = !enabled(one, this.view);
            make("span", "", item).textContent = one.label();
            make("span", "", item).textContent = (item.disabled && one.why?.(this.view)) || one.keys();
            item.addEventListener("pointermove", () => item.focus());
            item.addEventListener("click", () => {
                this.close();
                this.view.focus();
                one.run(this.view);
            });
        }
        root.addEventListener("keydown", (event) => this.#key(event));
        root.addEventListener("contextmenu", (event) => event.preventDefault());
        root.style.left = `${Math.max(0, Math.min(x, window.innerWidth - root.offsetWidth - 4))}px`;
        root.style.top = `${Math.max(0, Math.min(y, window.innerHeight - root.offsetHeight - 4))}px`;
        this.#items()[0]?.focus();
        for (const type of ["pointerdown", "wheel", "blur"]) window.addEventListener(type, this.away, true);
    }

    close() {
        for (const type of ["pointerdown", "wheel", "blur"]) window.removeEventListener(type, this.away, true);
        this.root?.remove();
        this.root = null;
    }

    #items() {
        return /** @type {HTMLButtonElement[]} */ ([...(this.root?.querySelectorAll("button:not(:disabled)") ?? [])]);
    }

    /** @param {KeyboardEvent} event */
    #key(event) {
        event.stopPropagation();
        const items = this.#items();
        const at = items.indexOf(/** @type {HTMLButtonElement} */ (document.activeElement));
        const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: -1 }[event.key];
        if (event.key === "Escape" || event.key === "Tab") {
            this.close();
            this.view.focus();
        } else if (to !== undefined) items.at(to % items.length)?.focus();
        else return;
        event.preventDefault();
    }
}
