// @ts-check
// The chart on the Global/Local Window Scheduler: what the schedule does, live. The server computes it.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";
import { make, passWheel, svg, takePlace } from "./dom.js";
import { addFirstSettings } from "./first_settings.js";
import { isOpen } from "./graph.js";
import { addReport } from "./report.js";
import { t } from "./i18n.js";
import { valueOf } from "./timeline_graph.js";
import {
  at, axis, findRun, headline, notes, readout, requestBody, ROW, stepForKey, stepPaths, WEIGHTS, weightPaths, WIDTH,
} from "./window_chart_logic.js";

const NODE = "LongTakeWindowScheduler";
const WIDGET = "longtake_chart";
const ROUTE = "/longtake/windows";
const HEIGHT = 236;
const MARGIN = 20; // that the canvas renderer leaves above and below a DOM widget
const LEFT = 12; // units before the first frame, for the marks of the global path
const DELAY = 120; // ms after the last change
const STYLE = `
.longtake-chart { display: flex; flex-direction: column; gap: 3px; box-sizing: border-box; width: 100%; height: 100%;
  min-height: ${HEIGHT}px; padding: 4px 6px; overflow: hidden; font: 11px/1.3 sans-serif; color: var(--input-text);
  background: var(--comfy-input-bg); border-radius: 6px; --even: #4a90d9; --odd: #d9923c; --global: #4caf66; }
.longtake-chart .head { flex: none; display: flex; gap: 6px; justify-content: space-between; align-items: flex-start; }
.longtake-chart .cost { font-weight: 600; }
.longtake-chart .note { color: var(--descrip-text); min-height: 1.3em; overflow-wrap: anywhere; }
.longtake-chart .error { color: var(--error-text, #e05252); }
.longtake-chart svg { display: block; width: 100%; background: color-mix(in srgb, var(--input-text) 7%, transparent); }
.longtake-chart .weights { height: 52px; flex: none; }
.longtake-chart .steps { flex: 1 1 80px; min-height: 60px; cursor: pointer; }
.longtake-chart .steps:focus-visible { outline: 2px solid var(--input-text); outline-offset: 1px; }
.longtake-chart path { fill: none; }
.longtake-chart .weights .even { stroke: var(--even); } .longtake-chart .weights .odd { stroke: var(--odd); }
.longtake-chart .weights path { stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.longtake-chart .steps .even { fill: var(--even); } .longtake-chart .steps .odd { fill: var(--odd); }
.longtake-chart[data-wrong] svg, .longtake-chart[data-wrong] .axis, .longtake-chart[data-wrong] .cost { opacity: 0.35; }
.longtake-chart .global { fill: var(--global); }
.longtake-chart .chosen { fill: none; stroke: var(--input-text); stroke-width: 1.5; vector-effect: non-scaling-stroke; }
.longtake-chart .axis { display: flex; justify-content: space-between; color: var(--descrip-text); }
.longtake-chart[data-empty] svg, .longtake-chart[data-empty] .axis { visibility: hidden; }
`;

/** Charts of the nodes that exist now. @type {Set<WindowChart>} */
const charts = new Set();

class WindowChart {
  /** @param {any} node */
  constructor(node) {
    this.node = node;
    this.step = 0;
    this.asked = "";
    /** @type {import("./window_chart_logic.js").Chart | null} */
    this.chart = null;
    /** @type {ReturnType<typeof addReport> | undefined} */
    this.report = undefined;
    /** @type {AbortController | null} */
    this.request = null;
    this.timer = 0;
    this.build();
    charts.add(this);
  }

  build() {
    const root = (this.root = document.createElement("div"));
    root.className = "longtake-chart";
    root.dataset.empty = "";
    const style = document.createElement("style");
    style.textContent = STYLE;
    root.append(style);
    const head = make("div", "head", root);
    this.cost = make("div", "cost", head);
    this.cost.title = t("Plain windows are static ones of the same length and overlap, without other methods.");
    this.also = ""; // what goes with the settings that were chosen from the list
    addFirstSettings(this.node, head, (text) => {
      this.also = text;
      this.refresh();
      this.say();
    });
    this.weights = svg("svg", "weights", root);
    this.steps = svg("svg", "steps", root);
    for (const [picture, kinds] of /** @type {[Element, string[]][]} */ ([
      [this.weights, ["even", "odd", "global"]],
      [this.steps, ["even", "odd", "global"]],
    ])) {
      picture.setAttribute("preserveAspectRatio", "none");
      kinds.forEach((kind) => svg("path", kind, picture));
    }
    this.weights.setAttribute("viewBox", `0 0 ${WIDTH} ${WEIGHTS.height}`);
    this.weights.setAttribute("aria-hidden", "true");
    this.chosen = svg("rect", "chosen", this.steps);
    this.steps.setAttribute("tabindex", "0");
    this.steps.setAttribute("role", "slider");
    this.steps.setAttribute("aria-orientation", "vertical");
    this.steps.setAttribute("aria-valuemin", "1");
    this.axis = make("div", "axis", root);
    this.note = make("div", "note", root);
    this.steps.addEventListener("keydown", (event) => this.key(/** @type {KeyboardEvent} */ (event)));
    /** Where the pointer is, until a step is chosen. @type {{inside: boolean, clientX: number, clientY: number} | null} */
    this.pointed = null;
    this.steps.addEventListener("pointerdown", (event) => {
      this.pointed = null;
      this.point(/** @type {PointerEvent} */ (event));
    });
    this.steps.addEventListener("pointermove", (event) => {
      if (/** @type {PointerEvent} */ (event).buttons === 1) this.point(/** @type {PointerEvent} */ (event));
    });
    for (const picture of [this.weights, this.steps]) {
      picture.addEventListener("pointermove", (event) => this.hover(/** @type {PointerEvent} */ (event)));
      picture.addEventListener("pointerleave", () => {
        this.pointed = null;
        this.say();
      });
    }
    passWheel(root);
  }

  /** The step and the part of the video under the pointer. @param {{clientX: number, clientY: number}} event */
  under(event) {
    const count = this.chart?.steps.length ?? 1;
    const place = this.steps.getBoundingClientRect();
    const step = Math.min(Math.max(Math.floor(((event.clientY - place.top) / place.height) * count), 0), count - 1);
    const part = ((event.clientX - place.left) / place.width) * (WIDTH + LEFT) - LEFT; // as its viewBox
    return { step, part: part / WIDTH };
  }

  /** @param {PointerEvent} event */
  hover(event) {
    this.pointed = { inside: event.currentTarget === this.steps, clientX: event.clientX, clientY: event.clientY };
    this.say();
  }

  /** What is pointed at, or else the step that is chosen. */
  say() {
    const { chart, note, pointed } = this;
    if (!chart || "wrong" in this.root.dataset) return;
    if (pointed) {
      const place = this.weights.getBoundingClientRect();
      const part = (pointed.clientX - place.left) / place.width;
      const under = pointed.inside ? this.under(pointed) : { step: chart.step, part };
      note.textContent = at(chart, under.step, under.part, t);
      return;
    }
    const seen = Boolean(this.node.properties?.longtake_compression);
    note.textContent = [...(this.also ? [this.also] : []), readout(chart, t), ...notes(chart, seen, t)].join("; ");
  }

  /** @param {KeyboardEvent} event */
  key(event) {
    const step = this.chart && stepForKey(event.key, this.step, this.chart.steps.length);
    if (typeof step !== "number") return;
    event.preventDefault();
    event.stopPropagation(); // the canvas listens for arrow keys
    this.pointed = null;
    this.choose(step);
  }

  /** @param {PointerEvent} event */
  point(event) {
    if (!this.chart || event.button > 0) return;
    event.stopPropagation(); // no drag of the node
    this.choose(this.under(event).step);
  }

  /** @param {number} step */
  choose(step) {
    if (step === this.step) return;
    this.step = step;
    this.refresh(0);
  }

  /** Ask again, soon. Does nothing when nothing has changed. @param {number} delay ms */
  refresh(delay = DELAY) {
    clearTimeout(this.timer);
    this.timer = window.setTimeout(() => this.load(), delay);
  }

  body() {
    const { node } = this;
    const graph = node.graph;
    const value = (/** @type {any} */ of, /** @type {string} */ name) => valueOf(of, name).value;
    const names = node.widgets.map((/** @type {any} */ w) => w.name).filter((/** @type {string} */ name) => !name.startsWith("longtake_"));
    const widgets = Object.fromEntries(names.map((/** @type {string} */ name) => [name, value(node, name)]));
    const link = (/** @type {any} */ id) => graph.getLink?.(id) ?? graph.links[id];
    const run = findRun(node, link, (id) => graph.getNodeById(id), value);
    return JSON.stringify(requestBody(widgets, run, this.step, node.properties?.longtake_compression ?? 0));
  }

  async load() {
    if (!this.node.graph) return;
    takePlace(this.node, this.root);
    const body = this.body();
    if (body === this.asked) return;
    this.asked = body;
    this.request?.abort();
    const request = (this.request = new AbortController());
    try {
      const headers = { "Content-Type": "application/json" };
      const response = await api.fetchApi(ROUTE, { method: "POST", body, headers, signal: request.signal });
      const answer = await response.json();
      if (response.ok) this.show(answer);
      else this.fail(answer.error);
    } catch (error) {
      if (request.signal.aborted) return;
      this.asked = ""; // the next change tries again
      this.fail(t("no chart: {error}", { error: String(error) }));
    }
  }

  /** The last picture stays, faint, beneath what is wrong now. @param {string} message */
  fail(message) {
    this.root.dataset.wrong = "";
    this.note.textContent = message;
    this.note.classList.add("error");
  }

  /** @param {import("./window_chart_logic.js").Chart} chart */
  show(chart) {
    this.chart = chart;
    this.node.longtakeCompression = chart.compression; // for the timeline's windows, before the first run
    this.step = chart.step;
    delete this.root.dataset.empty;
    delete this.root.dataset.wrong;
    const set = (/** @type {Element} */ picture, /** @type {Record<string, string>} */ paths) => {
      for (const [kind, path] of Object.entries(paths)) picture.querySelector(`.${kind}`)?.setAttribute("d", path);
    };
    const { even, odd, ticks } = weightPaths(chart);
    set(this.weights, { even, odd, global: ticks });
    const { height, ...rows } = stepPaths(chart);
    set(this.steps, rows);
    this.steps.setAttribute("viewBox", `${-LEFT} 0 ${WIDTH + LEFT} ${height}`);
    this.steps.querySelector(".global")?.setAttribute("transform", `translate(${-LEFT} 0)`);
    for (const [name, value] of Object.entries({ x: -LEFT, y: chart.step * ROW, width: WIDTH + LEFT, height: ROW })) {
      this.chosen.setAttribute(name, String(value));
    }
    this.steps.setAttribute("aria-label", t("windows of each step"));
    this.steps.setAttribute("aria-valuemax", String(chart.steps.length));
    this.steps.setAttribute("aria-valuenow", String(chart.step + 1));
    this.steps.setAttribute("aria-valuetext", readout(chart, t));
    this.cost.textContent = headline(chart, t);
    this.report?.show({ text: chart.report });
    this.axis.replaceChildren(...axis(chart).map((label) => Object.assign(document.createElement("span"), { textContent: label })));
    this.note.classList.remove("error");
    this.say();
  }

  remove() {
    charts.delete(this);
    clearTimeout(this.timer);
    this.request?.abort();
  }
}

/** Call `then` after a method of this node, whether or not it has one. @param {any} node @param {string} name @param {Function} then */
function after(node, name, then) {
  const before = node[name];
  node[name] = function (/** @type {any[]} */ ...values) {
    const result = before?.apply(this, values);
    then(...values);
    return result;
  };
}

app.registerExtension({
  name: "longtake.window_chart",

  setup() {
    // Links, undo and other nodes (steps, cfg, the latent's length) change the chart as well.
    const all = () => {
      const root = app.rootGraph ?? app.graph;
      charts.forEach((chart) => (isOpen(chart.node, root) ? chart.refresh() : chart.remove()));
    };
    api.addEventListener("graphChanged", all);
    app.canvas.canvas.addEventListener("litegraph:set-graph", all); // a subgraph is opened
  },

  /** @param {any} node */
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const chart = new WindowChart(node);
    for (const widget of node.widgets) {
      after(widget, "callback", () => {
        chart.also = "";
        chart.refresh();
      });
    }
    const options = { serialize: false, getValue: () => "", setValue: () => {}, getMinHeight: () => HEIGHT + MARGIN };
    node.addDOMWidget(WIDGET, WIDGET, chart.root, options).serialize = false;
    chart.report = addReport(node);
    after(node, "onConfigure", () => chart.refresh());
    after(node, "onAdded", () => {
      charts.add(chart);
      chart.refresh();
    });
    after(node, "onConnectionsChange", () => chart.refresh());
    after(node, "onExecuted", (/** @type {any} */ output) => {
      const compression = output?.longtake_compression?.[0];
      if (!compression || node.properties.longtake_compression === compression) return;
      node.properties.longtake_compression = compression;
      chart.asked = "";
      chart.refresh();
    });
    after(node, "onRemoved", () => chart.remove());
    chart.refresh();
  },
});
