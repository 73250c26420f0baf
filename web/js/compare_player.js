// @ts-check
// The player of Compare Videos: all videos are in one file, so that they cannot run apart. It is drawn from a <video>
// that is not in the page.

import { make } from "./dom.js";
import { above, beside, caption, clock, frameAt, frameForKey, MODES, pairOf, timeOf, within } from "./compare_logic.js";
import { t } from "./i18n.js";

const BRIGHTER = 2; // doublings of a difference
const PADDING = 8; // px, both sides together
const BAR = 29; // px of a row of controls
const NOTE = 40; // px of two lines
const STYLE = `
.longtake-compare { box-sizing: border-box; width: 100%; flex: none; overflow: hidden; font: 11px/1.35 sans-serif;
  color: var(--input-text); background: var(--comfy-input-bg); border-radius: 6px; padding: ${PADDING / 2}px; }
.longtake-compare .stage { position: relative; }
.longtake-compare canvas { display: block; cursor: pointer; }
.longtake-compare .name { position: absolute; max-width: 100%; box-sizing: border-box; padding: 1px 5px; overflow: hidden;
  text-overflow: ellipsis; white-space: nowrap; color: #fff; background: rgb(0 0 0 / 55%); pointer-events: none; }
.longtake-compare .line { position: absolute; top: 0; width: 1px; background: #fff; pointer-events: none; }
.longtake-compare .bar { display: flex; align-items: center; gap: 4px; height: ${BAR - 3}px; margin-top: 3px; }
.longtake-compare button, .longtake-compare select { border: 0; min-width: 0; padding: 2px 6px; font: inherit; cursor: pointer;
  color: var(--input-text); background: var(--comfy-menu-bg); border-radius: 4px; }
.longtake-compare button { min-width: 24px; }
.longtake-compare input { flex: 1 1 60px; min-width: 40px; margin: 0; cursor: pointer; }
.longtake-compare :focus-visible { outline: 2px solid var(--input-text); outline-offset: -2px; }
.longtake-compare .time { white-space: nowrap; font-variant-numeric: tabular-nums; color: var(--descrip-text); }
.longtake-compare .note { box-sizing: border-box; height: ${NOTE}px; padding: 4px; overflow: hidden; color: var(--descrip-text); }
.longtake-compare [hidden] { display: none; }
`;

export class Player {
  /**
   * @param {(file: {filename: string, subfolder: string, type: string}) => string} address of a file of ComfyUI's
   * @param {() => void} resized called when its height changes
   * @param {{mode?: string, pair?: number[]}} view what is kept of it with the graph
   */
  constructor(address, resized, view) {
    this.address = address;
    this.resized = resized;
    this.view = view;
    /** @type {import("./compare_logic.js").Comparison | null} */
    this.all = null;
    this.frame = 0;
    this.wiped = 0.5;
    this.wanted = -1; // the frame that is sought, until it is seen
    this.again = false; // another one was wanted while it was sought
    this.playing = false;
    this.root = make("div", "longtake-compare");
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", t("Videos side by side"));
    make("style", "", this.root).textContent = STYLE;
    this.note = make("div", "note", this.root);
    this.note.textContent = t("No videos yet: they play here after a run.");
    this.stage = make("div", "stage", this.root);
    this.canvas = make("canvas", "", this.stage);
    this.line = make("div", "line", this.stage);
    /** @type {HTMLElement[]} */
    this.names = [];
    this.build();
    this.stage.hidden = this.bar.hidden = this.choices.hidden = true;
    this.video = this.newVideo();
    this.sizes = new ResizeObserver(() => this.arrange());
    this.sizes.observe(this.root);
  }

  build() {
    this.bar = make("div", "bar", this.root);
    const button = (/** @type {string} */ sign, /** @type {string} */ title, /** @type {() => void} */ act) => {
      const made = make("button", "", this.bar);
      made.textContent = sign;
      made.title = title;
      made.setAttribute("aria-label", title);
      made.addEventListener("click", act);
      return made;
    };
    this.playButton = button("\u25b6", t("Play or pause (space)"), () => this.toggle());
    button("\u2039", t("One frame back"), () => this.step(-1));
    button("\u203a", t("One frame on"), () => this.step(1));
    this.slider = make("input", "", this.bar);
    this.slider.type = "range";
    this.slider.min = "0";
    this.slider.setAttribute("aria-label", t("Frame"));
    this.slider.addEventListener("input", () => this.seek(Number(this.slider.value)));
    this.time = make("span", "time", this.bar);
    this.choices = make("div", "bar", this.root);
    this.mode = make("select", "", this.choices);
    this.mode.title = t("How the videos are shown");
    const texts = [t("Side by side"), t("Wipe"), t("Difference, 4 times as bright")];
    MODES.forEach((mode, i) => this.mode.add(new Option(texts[i], mode)));
    this.mode.addEventListener("change", () => this.choose({ mode: this.mode.value }));
    this.pair = [t("First of the two"), t("Second of the two")].map((title, side) => {
      const select = make("select", "", this.choices);
      select.title = title;
      select.addEventListener("change", () => {
        const pair = this.two();
        if (pair[1 - side] === select.selectedIndex) pair[1 - side] = pair[side]; // they change places
        pair[side] = select.selectedIndex;
        this.choose({ pair });
      });
      return select;
    });
    this.canvas.addEventListener("click", () => this.toggle());
    this.canvas.addEventListener("pointermove", (event) => {
      this.wiped = Math.min(Math.max(event.offsetX / this.canvas.clientWidth, 0), 1);
      if (this.mode.value === "wipe" && !this.playing) this.draw();
    });
    this.root.addEventListener("keydown", (event) => this.key(event));
    for (const type of ["pointerdown", "pointerup", "dblclick"])
      this.root.addEventListener(type, (event) => { // no drag of the node, no search on the canvas
        if (/** @type {MouseEvent} */ (event).button !== 1) event.stopPropagation();
      });
  }

  newVideo() {
    const video = document.createElement("video");
    Object.assign(video, { muted: true, playsInline: true, preload: "auto" });
    const onEveryFrame = (/** @type {number} */ _, /** @type {any} */ found) => {
      if (this.video !== video) return;
      if (!this.root.isConnected) this.play(false);
      this.shown(found?.mediaTime ?? video.currentTime);
      ask();
    };
    const exact = "requestVideoFrameCallback" in video; // else the picture may lag behind the time
    const ask = () => {
      if (exact) video.requestVideoFrameCallback(onEveryFrame);
      else requestAnimationFrame((now) => onEveryFrame(now, null));
    };
    video.addEventListener("loadeddata", () => {
      this.note.hidden = true;
      ask();
      this.shown(video.currentTime);
      if (!matchMedia("(prefers-reduced-motion: reduce)").matches) this.play(true);
    });
    video.addEventListener("seeked", () => {
      this.shown(video.currentTime);
      if (this.again) this.seek(this.wanted);
    });
    video.addEventListener("ended", () => { // no loop of its own: that leaves the last frame also where it was paused
      if (this.video !== video || !this.playing) return;
      video.currentTime = 0;
      this.play(true);
    });
    video.addEventListener("error", () => {
      if (this.video !== video || !this.all) return;
      this.note.hidden = false;
      this.note.textContent = t("The videos cannot be played: their file is gone, or this browser plays no H.264. Run the graph again.");
      this.resized();
    });
    return video;
  }

  /** @param {import("./compare_logic.js").Comparison} all */
  show(all) {
    this.close();
    this.all = all;
    this.frame = 0;
    this.wanted = -1;
    this.again = false;
    this.names.forEach((name) => name.remove());
    this.names = all.videos.map(() => make("div", "name", this.stage));
    this.slider.max = String(all.frames - 1);
    for (const select of this.pair) select.replaceChildren(...all.videos.map(({ name }) => new Option(name)));
    this.stage.hidden = this.bar.hidden = false;
    this.note.hidden = true;
    this.video = this.newVideo();
    this.video.src = this.address(all.file);
    this.choose({});
  }

  close() {
    const { video } = this;
    this.video = document.createElement("video"); // what the old one still says is not for us
    this.all = null;
    this.play(false);
    video.pause();
    video.removeAttribute("src");
    video.load();
  }

  two() {
    return pairOf(this.view.pair, this.all?.videos.length ?? 2);
  }

  /** @param {{mode?: string, pair?: number[]}} view */
  choose(view) {
    Object.assign(this.view, view);
    const count = this.all?.videos.length ?? 0;
    const mode = count > 1 && this.view.mode && MODES.includes(this.view.mode) ? this.view.mode : MODES[0];
    this.mode.value = mode;
    this.choices.hidden = count < 2;
    this.pair.forEach((select, side) => {
      select.selectedIndex = this.two()[side];
      select.hidden = mode === MODES[0] || count < 3;
    });
    this.arrange();
  }

  height() {
    const bars = [this.bar, this.choices].filter((bar) => !bar.hidden).length * BAR;
    return PADDING + (this.stage.hidden ? 0 : (this.places?.height ?? 0)) + bars + (this.note.hidden ? 0 : NOTE);
  }

  arrange() {
    if (!this.all) return;
    const width = this.root.clientWidth - PADDING;
    if (width < 20) return;
    const { videos } = this.all;
    const side = this.mode.value === MODES[0];
    this.places = side ? beside(videos, width) : above(this.two().map((i) => videos[i]), width);
    const wide = Math.max(...this.places.boxes.map(({ x, width: w }) => x + w));
    const height = `${this.places.height}px`;
    if (this.stage.style.height !== height || this.stage.style.width !== `${wide}px`) {
      Object.assign(this.stage.style, { height, width: `${wide}px` });
      Object.assign(this.canvas.style, { height, width: `${wide}px` });
      this.canvas.width = Math.round(wide * devicePixelRatio);
      this.canvas.height = Math.round(this.places.height * devicePixelRatio);
    }
    this.draw();
    this.resized();
  }

  /** @param {number} seconds */
  shown(seconds) {
    if (!this.all || this.video.readyState < 2) return; // no picture: while it seeks
    this.frame = frameAt(seconds, this.all);
    if (!this.video.seeking && !this.again) this.wanted = -1;
    this.draw();
  }

  /** The frame that a step begins at. */
  get at() {
    return this.wanted >= 0 ? this.wanted : this.frame;
  }

  draw() {
    const { all, places } = this;
    const picture = this.canvas.getContext("2d");
    if (!all || !places || !picture) return;
    if (this.video.readyState < 2 && this.video.seeking) return; // the picture of before stays
    const mode = this.mode.value;
    const order = mode === MODES[0] ? all.videos.map((_, i) => i) : this.two();
    const split = this.wiped * this.stage.clientWidth;
    picture.setTransform(devicePixelRatio, 0, 0, devicePixelRatio, 0, 0);
    picture.clearRect(0, 0, this.canvas.width, this.canvas.height);
    order.forEach((which, place) => {
      const { x, y, width, height } = places.boxes[place];
      picture.save();
      if (mode === "wipe" && place) {
        picture.beginPath();
        picture.rect(split, 0, this.stage.clientWidth - split, places.height);
        picture.clip();
      }
      if (mode === "difference" && place) picture.globalCompositeOperation = "difference";
      if (this.video.readyState > 1) picture.drawImage(this.video, ...all.videos[which].box, x, y, width, height);
      picture.restore();
    });
    if (mode === "difference") {
      picture.save();
      picture.setTransform(1, 0, 0, 1, 0, 0);
      picture.globalCompositeOperation = "lighter";
      for (let i = 0; i < BRIGHTER; i++) picture.drawImage(this.canvas, 0, 0);
      picture.restore();
    }
    this.write(order, mode, split);
  }

  /** @param {number[]} order @param {string} mode @param {number} split */
  write(order, mode, split) {
    const { all, places } = this;
    if (!all || !places) return;
    this.line.hidden = mode !== "wipe";
    Object.assign(this.line.style, { left: `${split}px`, height: `${places.height}px` });
    this.names.forEach((name, i) => {
      const place = order.indexOf(i);
      name.hidden = place < 0;
      if (name.hidden) return;
      name.textContent = caption(all.videos[i], this.frame, t);
      const { x, y, width } = places.boxes[place];
      const over = mode !== MODES[0] && place; // the second of two in one place: at its right
      Object.assign(name.style, { left: over ? "" : `${x}px`, right: over ? "0" : "", top: `${y}px` });
      name.style.maxWidth = `${mode === MODES[0] ? width : width / 2}px`;
    });
    this.slider.value = String(this.frame);
    this.time.textContent = clock(this.frame, all, t);
  }

  /** @param {boolean} playing */
  play(playing) {
    playing = playing && (this.all?.frames ?? 0) > 1;
    this.playing = playing;
    this.playButton.textContent = playing ? "\u2016" : "\u25b6";
    if (!playing) this.video.pause();
    else this.video.play().catch(() => {}); // a page may forbid it
  }

  toggle() {
    if (this.all) this.play(!this.playing);
  }

  /** @param {number} by */
  step(by) {
    this.play(false);
    this.seek(this.at + by);
  }

  /** @param {number} frame */
  seek(frame) {
    if (!this.all) return;
    this.wanted = within(frame, this.all);
    this.again = this.video.seeking;
    if (!this.again) this.video.currentTime = timeOf(this.wanted, this.all);
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    if (!this.all || event.ctrlKey || event.metaKey || event.altKey) return;
    const inChoice = event.target instanceof HTMLSelectElement;
    const frame = inChoice ? null : frameForKey(event.key, this.at, this.all);
    const space = event.key === " " && !inChoice && !(event.target instanceof HTMLButtonElement);
    if (frame === null && !space) {
      if (inChoice || event.key === "Delete" || event.key === "Backspace") event.stopPropagation(); // Delete would delete the node
      return;
    }
    event.preventDefault();
    event.stopPropagation(); // the canvas listens for arrow keys
    if (space) return this.toggle();
    this.play(false);
    this.seek(/** @type {number} */ (frame));
  }
}
