// @ts-check
// The list of kept runs in Load Run: a click takes one, a button deletes one. nodes/routes/runs.py answers.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";
import { make, takePlace } from "./dom.js";
import { t } from "./i18n.js";
import { line } from "./kept_runs_logic.js";

const NODE = "LongTakeLoadRun";
const WIDGET = "longtake_kept_runs";
const HEIGHT = 132;
const PAINT_MS = 300; // until ComfyUI has put its nodes into the page
const STYLE = `
.longtake-runs { box-sizing: border-box; width: 100%; height: ${HEIGHT}px; overflow: auto; font: 11px/1.4 sans-serif;
  color: var(--input-text); background: var(--comfy-input-bg); border-radius: 4px; }
.longtake-runs .run { display: flex; gap: 4px; padding: 2px 4px; }
.longtake-runs .run.taken { outline: 1px solid var(--descrip-text); outline-offset: -1px; }
.longtake-runs button { border: 0; padding: 2px 6px; font: inherit; cursor: pointer; text-align: left; border-radius: 4px;
  color: var(--input-text); background: transparent; }
.longtake-runs button:hover, .longtake-runs button:focus-visible { background: var(--comfy-menu-bg); }
.longtake-runs .take { flex: 1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.longtake-runs .note { padding: 6px; color: var(--descrip-text); }
.longtake-runs .bad { color: var(--error-text); }
`;

class KeptRuns {
  /** @param {any} node */
  constructor(node) {
    this.node = node;
    this.widget = node.widgets.find((/** @type {any} */ w) => w.name === "run");
    this.asked = "";
    this.root = document.createElement("div");
    this.root.className = "longtake-runs";
    this.root.setAttribute("role", "list");
    this.root.setAttribute("aria-label", t("Kept runs"));
    make("style", "", this.root).textContent = STYLE;
    this.rows = make("div", "", this.root);
  }

  /** @param {object} [request] */
  async ask(request = {}) {
    try {
      const headers = { "Content-Type": "application/json" };
      const response = await api.fetchApi("/longtake/runs", { method: "POST", body: JSON.stringify(request), headers });
      const answer = await response.json();
      if (response.ok) this.show(answer.runs);
      else this.say(answer.error, "bad");
    } catch (error) {
      this.say(String(error), "bad");
    }
    setTimeout(() => takePlace(this.node, this.root), PAINT_MS);
  }

  /** @param {string} text @param {string} [kind] */
  say(text, kind = "") {
    this.rows.replaceChildren();
    make("div", `note ${kind}`, this.rows).textContent = text;
  }

  /** @param {import("./kept_runs_logic.js").Run[]} runs */
  show(runs) {
    if (!runs.length) return this.say(t("No run is kept. Sample with a Checkpoint."));
    this.rows.replaceChildren();
    for (const run of runs) {
      const row = make("div", run.name === this.widget.value ? "run taken" : "run", this.rows);
      row.setAttribute("role", "listitem");
      const take = make("button", run.total ? "take" : "take bad", row);
      take.textContent = line(run, t);
      take.title = [run.name, ...run.broken].join("\n");
      take.addEventListener("click", () => this.take(run.name, runs));
      const remove = make("button", "delete", row);
      remove.textContent = this.asked === run.name ? t("really delete?") : t("delete");
      remove.addEventListener("click", () => this.remove(run.name, runs));
    }
  }

  /** @param {string} name @param {import("./kept_runs_logic.js").Run[]} runs */
  take(name, runs) {
    const values = this.widget.options?.values;
    if (Array.isArray(values) && !values.includes(name)) values.push(name);
    this.widget.value = name;
    this.widget.callback?.(name);
    app.graph.setDirtyCanvas(true, true);
    this.show(runs);
  }

  /** The first click asks, the second deletes. @param {string} name @param {import("./kept_runs_logic.js").Run[]} runs */
  remove(name, runs) {
    const sure = this.asked === name;
    this.asked = sure ? "" : name;
    if (sure) this.ask({ delete: name });
    else this.show(runs);
  }
}

/** @type {Set<KeptRuns>} */
const lists = new Set();

app.registerExtension({
  name: "longtake.kept_runs",

  setup() {
    for (const event of ["execution_success", "execution_interrupted", "execution_error"])
      api.addEventListener(event, () => lists.forEach((list) => list.ask()));
  },

  /** @param {any} node */
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const list = new KeptRuns(node);
    const options = { serialize: false, getValue: () => "", setValue: () => {}, getMinHeight: () => HEIGHT + 8 };
    node.addDOMWidget(WIDGET, WIDGET, list.root, options).serialize = false;
    const { onAdded, onRemoved } = node;
    node.onAdded = (/** @type {any[]} */ ...values) => {
      lists.add(list);
      return onAdded?.apply(node, values);
    };
    node.onRemoved = (/** @type {any[]} */ ...values) => {
      lists.delete(list);
      return onRemoved?.apply(node, values);
    };
    list.ask();
  },
});
