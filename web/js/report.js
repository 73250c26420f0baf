// @ts-check
// A node's report, folded, in the node itself; and a refusal of one of our nodes in words.
// ComfyUI runs what it can of a refused graph: a graph with another output then looks finished, without its video.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";
import { grow, make, passWheel, takePlace } from "./dom.js";
import { nodeById } from "./filmstrip_logic.js";
import { t } from "./i18n.js";
import { parts, refusals } from "./report_logic.js";

const WIDGET = "longtake_report";
// Nodes that get nothing of ours but their report.
const ALONE = [
  "LongTakeRedoSpan", "LongTakeContinue", "LongTakeEventKeyframes", "LongTakeVideoMetrics", "LongTakeCompareMetrics",
];
const FOLDED = 26; // px
const MARGIN = 20; // that the canvas renderer leaves around a DOM widget
const LOOKS_MS = [300, 1000, 3000, 10000]; // after a graph begins to be queued
const MOST = 220; // px; a longer report scrolls
const STYLE = `
.longtake-report { box-sizing: border-box; width: 100%; min-height: ${FOLDED}px; flex: none; overflow: hidden;
  padding: 4px 6px; font: 11px/1.35 sans-serif; color: var(--input-text); background: var(--comfy-input-bg);
  border-radius: 6px; }
.longtake-report summary { cursor: pointer; line-height: 18px; overflow: hidden; text-overflow: ellipsis;
  white-space: nowrap; }
.longtake-report summary:focus-visible { outline: 2px solid var(--input-text); }
.longtake-report .text { max-height: ${MOST}px; overflow: auto; overflow-wrap: anywhere; user-select: text; }
.longtake-report p { margin: 3px 0; }
.longtake-report .item { margin: 2px 0; padding-left: 10px; text-indent: -10px; }
.longtake-report .item::before { content: "\\2022\\00a0\\00a0"; }
.longtake-report table { border-collapse: collapse; margin: 3px 0; }
.longtake-report td { padding: 1px 8px 1px 0; vertical-align: top; }
.longtake-report tr > :not(:last-child) { white-space: nowrap; font-variant-numeric: tabular-nums; }
.longtake-report tr:first-child { color: var(--descrip-text); }
.longtake-report[data-of=LongTakeCompare] tr > * { white-space: normal; min-width: 60px; }
.longtake-report .refused { color: var(--error-text, #e05252); white-space: pre-wrap; }
`;

/** @type {WeakMap<any, Report>} */
const reports = new WeakMap();

class Report {
  /** @param {any} node @param {string} name what it is called @param {boolean} still see grow */
  constructor(node, name, still) {
    this.node = node;
    this.name = name;
    this.still = still;
    this.text = this.refused = "";
    const root = (this.root = make("details", "longtake-report"));
    root.dataset.of = node.comfyClass;
    make("style", "", root).textContent = STYLE;
    this.summary = make("summary", "", root);
    this.body = make("div", "text", root);
    root.addEventListener("toggle", () => this.fit());
    this.body.addEventListener("wheel", (event) => {
      if (this.body.scrollHeight > this.body.clientHeight && !event.ctrlKey) event.stopPropagation();
    });
    passWheel(root);
    const height = () => this.height();
    const options = { serialize: false, getValue: () => "", setValue: () => {}, getMinHeight: height, getMaxHeight: height };
    node.addDOMWidget(WIDGET, WIDGET, root, options).serialize = false;
    this.fitted = this.height();
    this.draw();
  }

  height() {
    return FOLDED + MARGIN + (this.root.open ? Math.min(this.body.scrollHeight, MOST) + 4 : 0);
  }

  /** The node grows and shrinks with its report. */
  fit() {
    const { node } = this;
    const by = this.height() - this.fitted;
    if (!by) return;
    this.fitted += by;
    grow(node, by, this.still);
  }

  draw() {
    takePlace(this.node, this.root);
    const { summary, body, text, refused } = this;
    summary.textContent = refused ? t("Refused: see below") : text ? this.name : t("{name}: none yet", { name: this.name });
    summary.classList.toggle("refused", Boolean(refused));
    body.replaceChildren();
    if (refused) make("p", "refused", body).textContent = refused;
    for (const part of parts(text)) {
      if (part.kind !== "table") make(part.kind === "li" ? "div" : "p", part.kind === "li" ? "item" : "", body).textContent = part.text;
      else {
        const table = make("table", "", body);
        for (const row of part.rows) {
          const line = make("tr", "", table);
          for (const cell of row) make("td", "", line).textContent = cell;
        }
      }
    }
    this.fit();
  }

  /** @param {Partial<{text: string, refused: string}>} values */
  show(values) {
    Object.assign(this, values);
    if (this.refused) this.root.open = true;
    this.draw();
  }
}

/** Give a node its report, beneath the widgets that it has now. @param {any} node @param {string} [name] @param {boolean} [still] */
export function addReport(node, name = t("Report"), still = false) {
  const report = new Report(node, name, still);
  reports.set(node, report);
  // Here, or ComfyUI does it when it draws the node: a step of undo of its own.
  node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
  const executed = node.onExecuted;
  node.onExecuted = function (/** @type {any} */ output) {
    executed?.apply(this, arguments);
    const text = output?.longtake_report?.[0];
    if (typeof text === "string") report.show({ text });
  };
  return report;
}

const graph = () => app.rootGraph ?? app.graph;

/** What the last refusal has shown, to be taken back. @type {(() => void)[]} */
let told = [];

/** What was told last. @type {unknown} */
let last;

/** After a graph was queued: say what ComfyUI refused of our nodes, and take back what it no longer refuses. */
function tell() {
  const errors = app.lastNodeErrors;
  if (errors === last) return;
  last = errors;
  told.forEach((takeBack) => takeBack());
  told = [];
  const { toast } = app.extensionManager ?? {};
  for (const { id, node: type, text } of refusals(errors)) {
    const node = nodeById(graph(), id);
    const report = node && reports.get(node);
    if (report) {
      report.show({ refused: text });
      told.push(() => report.show({ refused: "" }));
    }
    const summary = t("{node} (node {id}) was refused: nothing that needs it was run", { node: node?.title ?? type, id });
    const message = { severity: "error", summary, detail: text };
    toast?.add(message);
    told.push(() => toast?.remove(message));
  }
}

app.registerExtension({
  name: "longtake.report",

  setup() {
    // Newer versions dispatch nothing more where all of a graph was refused: a look, until its request is queued.
    /** @type {Map<unknown, number[]>} */
    const looks = new Map();
    api.addEventListener("promptQueueing", (/** @type {CustomEvent} */ { detail }) => {
      looks.set(detail?.requestId, LOOKS_MS.map((ms) => setTimeout(tell, ms)));
    });
    api.addEventListener("promptQueued", (/** @type {CustomEvent} */ { detail }) => {
      looks.get(detail?.requestId)?.forEach(clearTimeout);
      looks.delete(detail?.requestId);
      tell();
    });
  },

  /** @param {any} node */
  nodeCreated(node) {
    if (ALONE.includes(node.comfyClass)) addReport(node);
  },
});
