// @ts-check
/** The last run's frames beneath the ruler, with a playhead and a small monitor. Without frames there is none of it. */

import { make, svg } from "./dom.js";
import { position } from "./filmstrip_logic.js";
import { t } from "./i18n.js";
import { cells, LANE, latentStep, nearest, played } from "./reel_logic.js";
import { clamp, eventAt, formatTime } from "./timeline_model.js";
import { percent } from "./timeline_style.js";

/** @typedef {import("./timeline_view.js").TimelineView} TimelineView */
/** @typedef {import("./reel_logic.js").Picture} Picture */

const MONITOR = 42; // px that the monitor needs, more than the prompt's field alone
const BAR = 23; // px of the bar below it
const SHAPES = { play: "M5 3l8 5-8 5z", pause: "M5 3v10M11 3v10" };

export class TimelineReel {
    /** @param {TimelineView} view @param {HTMLElement} bottom where the monitor goes */
    constructor(view, bottom) {
        this.view = view;
        this.bottom = bottom;
        /** @type {Picture | null} */
        this.picture = null;
        /** @type {Picture | null} what is to be shown, as soon as it can be read */
        this.asked = null;
        this.ready = false; // whether it can be seen
        this.url = "";
        this.aspect = 1;
        this.frame = 0;
        this.here = -1; // the event of the playhead
        this.drawn = "";
        this.playing = 0; // id of the next animation frame
        this.lane = make("div", "lt-reel", view.sheet);
        this.lane.tabIndex = 0;
        this.lane.setAttribute("role", "slider");
        this.lane.setAttribute("aria-label", t("Playhead over the last run's frames"));
        this.head = make("div", "lt-playhead", view.sheet);
        this.monitor = make("div", "lt-monitor", bottom);
        this.screen = make("div", "lt-screen", this.monitor);
        const bar = make("div", "lt-bar", this.monitor);
        this.button = make("button", "", bar);
        this.button.type = "button";
        const icon = svg("svg", "", this.button);
        icon.setAttribute("viewBox", "0 0 16 16");
        this.icon = svg("path", "", icon);
        this.button.addEventListener("click", () => this.toggle());
        this.time = make("span", "", bar);
        this.#hide(true);
        this.#drawButton();
    }

    get height() {
        return this.ready ? LANE + MONITOR : 0;
    }

    /** Whether a place on the sheet moves the playhead. @param {Node} target */
    takes(target) {
        return this.ready && (this.lane.contains(target) || this.view.ruler.contains(target));
    }

    /** Show frames, or nothing. @param {Picture | null} picture */
    async show(picture) {
        if (picture === this.asked) return;
        this.asked = picture;
        if (!picture) {
            this.close();
            this.view.draw();
            this.view.actions.resized();
            return;
        }
        const url = URL.createObjectURL(new Blob([Uint8Array.from(atob(picture.image), (sign) => sign.charCodeAt(0))], { type: "image/jpeg" }));
        const image = new Image();
        image.src = url;
        await image.decode().catch(() => {}); // what cannot be read has no size
        if (this.asked !== picture || !image.naturalWidth) {
            URL.revokeObjectURL(url); // a newer one has come, or it is no picture: the one before stays
            return;
        }
        this.picture = picture;
        this.aspect = image.naturalWidth / picture.frames.length / image.naturalHeight;
        this.#take(url);
        const first = !this.ready;
        this.#hide(false);
        this.drawn = "";
        this.view.draw();
        if (first) this.view.actions.resized();
    }

    /** @param {string} url of the picture; the one before is given back */
    #take(url) {
        if (this.url) URL.revokeObjectURL(this.url);
        this.url = url;
        this.view.root.style.setProperty("--picture", url ? `url("${url}")` : "none");
    }

    /** @param {boolean} hidden */
    #hide(hidden) {
        this.ready = !hidden;
        for (const element of [this.lane, this.head, this.monitor]) element.hidden = hidden;
        this.view.root.style.setProperty("--reel", hidden ? "0px" : `${LANE}px`);
        this.view.root.style.setProperty("--monitor", hidden ? "0px" : `${MONITOR}px`);
        if (hidden) this.#mark(-1);
    }

    /** Of a node that is gone. */
    close() {
        this.pause();
        this.#take("");
        this.#hide(true);
        this.picture = this.asked = null;
    }

    /** @param {number} width px of the track */
    draw(width) {
        const { picture, view, aspect } = this;
        if (!this.ready || !picture) return;
        const { line, step } = view.state;
        const wanted = `${width} ${line.length} ${step} ${aspect} ${picture.frames}`;
        if (wanted !== this.drawn) {
            this.drawn = wanted;
            const { count, shown } = cells(picture.frames, aspect, line.length, step, width);
            while (this.lane.children.length > shown.length) this.lane.lastChild?.remove();
            while (this.lane.children.length < shown.length) make("i", "", this.lane);
            shown.forEach((thumb, i) => {
                const { style } = /** @type {HTMLElement} */ (this.lane.children[i]);
                style.left = percent(i, count);
                style.width = percent(1, count);
                this.#picture(style, thumb);
            });
        }
        const { clientWidth, clientHeight } = this.bottom;
        const wide = Math.min((clientHeight - BAR) * aspect, clientWidth / 2);
        Object.assign(this.screen.style, { width: `${wide}px`, height: `${wide / aspect}px` });
        this.here = -1; // blocks may be others
        this.seek(this.frame);
    }

    /** One frame of the picture, as high as its element. @param {CSSStyleDeclaration} style @param {number} thumb */
    #picture(style, thumb) {
        const { frames } = /** @type {Picture} */ (this.picture);
        style.setProperty("--count", String(frames.length));
        style.backgroundPosition = position(thumb, frames.length);
    }

    /** Move the playhead. @param {number} frame */
    seek(frame) {
        const { view, picture } = this;
        const { line, fps, step } = view.state;
        if (!this.ready || !picture) return;
        this.frame = clamp(Math.round(frame), 0, line.length - 1);
        this.head.style.left = percent(this.frame, line.length);
        this.#picture(this.screen.style, nearest(picture.frames, this.frame, step));
        this.#mark(line.events.length ? eventAt(line, this.frame) : -1);
        const time = formatTime(this.frame, fps);
        this.time.textContent = time;
        const parts = [time, t("frame {frame}", { frame: this.frame })];
        if (this.here >= 0) parts.push(t("Event {i} of {count}", { i: this.here + 1, count: line.events.length }));
        this.screen.title = parts.join(" \u00b7 ");
        for (const [name, value] of Object.entries({ min: 0, max: line.length - 1, now: this.frame, text: this.screen.title })) {
            this.lane.setAttribute(`aria-value${name}`, String(value));
        }
    }

    /** @param {number} event that the playhead is in */
    #mark(event) {
        if (event === this.here) return;
        this.here = event;
        this.view.blocks?.forEach(({ root }, i) => root.classList.toggle("lt-here", i === event));
    }

    /** Keep the playhead in view. */
    #follow() {
        const { scroller, zoom, state } = this.view;
        if (zoom <= 1) return;
        const width = scroller.clientWidth;
        const x = (this.frame / state.line.length) * width * zoom;
        if (x < scroller.scrollLeft || x > scroller.scrollLeft + width) scroller.scrollLeft = x - width / 4;
    }

    /** Seek as a key does. @param {number} frame */
    go(frame) {
        this.pause();
        this.seek(frame);
        this.#follow();
    }

    // Playing, in the timeline's time.

    toggle() {
        if (this.playing) this.pause();
        else this.play();
    }

    play() {
        if (!this.ready) return;
        if (this.frame >= this.view.state.line.length - 1) this.seek(0);
        const from = this.frame;
        const began = performance.now();
        const next = (/** @type {number} */ now) => {
            const { line, fps } = this.view.state;
            this.seek(played(from, Math.max(0, now - began), fps, line.length));
            this.#follow();
            if (this.frame >= line.length - 1) this.pause();
            else this.playing = requestAnimationFrame(next);
        };
        this.playing = requestAnimationFrame(next);
        this.#drawButton();
    }

    pause() {
        cancelAnimationFrame(this.playing);
        this.playing = 0;
        this.#drawButton();
    }

    #drawButton() {
        const label = `${this.playing ? t("Pause") : t("Play")} (${t("Space")})`;
        this.icon.setAttribute("d", this.playing ? SHAPES.pause : SHAPES.play);
        this.button.title = label;
        this.button.setAttribute("aria-label", label);
    }

    /** What a key does on the frames. @param {string} key @returns {(() => void) | undefined} */
    keys(key) {
        const { line, step } = this.view.state;
        const by = (/** @type {1 | -1} */ side) => () => this.go(latentStep(this.frame, side, step, line.length));
        return { ArrowLeft: by(-1), ArrowRight: by(1), Home: () => this.go(0), End: () => this.go(line.length - 1) }[key];
    }
}
