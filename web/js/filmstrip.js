// @ts-check
// The whole long video while it is sampled, in the node that samples it, or where the strip would cover the next node, in
// one of ours with room. samplers/adapters/preview.py sends the pictures.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";
import { make, passWheel } from "./dom.js";
import { t } from "./i18n.js";
import { CELL, HEADER, LABEL, layout, nodeById, pictureUrl, placeFor, position, status } from "./filmstrip_logic.js";

const WIDGET = "longtake_filmstrip";
const LEAST = 20; // px of a frame's height
const NEED = 90; // px of room that a row of frames takes
const MARGIN = 20; // that the canvas renderer leaves around a DOM widget, both sides
const STYLE = `
.longtake-filmstrip { box-sizing: border-box; width: 100%; overflow: hidden; font: 11px/1.3 sans-serif;
  color: var(--input-text); }
.longtake-filmstrip .head { display: flex; align-items: center; gap: 6px; height: ${HEADER}px; }
.longtake-filmstrip .status { flex: 1; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.longtake-filmstrip button { border: 0; padding: 0 6px; font: inherit; line-height: 16px; cursor: pointer;
  color: var(--input-text); background: var(--comfy-input-bg); border-radius: 4px; }
.longtake-filmstrip button:focus-visible { outline: 2px solid var(--input-text); }
.longtake-filmstrip .frames { display: grid; gap: 0 1px; }
.longtake-filmstrip .picture { background-repeat: no-repeat; background-color: var(--comfy-input-bg); }
.longtake-filmstrip .label { height: ${LABEL}px; line-height: ${LABEL}px; font-size: 10px; color: var(--descrip-text); }
`;

class Filmstrip {
  /** @param {any} sampler */
  constructor(sampler) {
    this.sampler = sampler;
    const nodes = sampler.graph?._nodes ?? [];
    const { node, room } = placeFor(sampler, nodes, NEED);
    this.node = node;
    this.room = Math.max(room - MARGIN, HEADER + LABEL + LEAST);
    this.before = [...node.size];
    this.detail = "";
    this.aspect = 1;
    this.count = 0;
    /** @type {import("./filmstrip_logic.js").Preview | null} */
    this.preview = null;
    /** The picture that came last; most steps have none. @type {HTMLImageElement | null} */
    this.newest = null;
    const root = (this.root = document.createElement("div"));
    root.className = "longtake-filmstrip";
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", t("Frames of the whole video"));
    make("style", "", root).textContent = STYLE;
    const head = make("div", "head", root);
    this.status = make("div", "status", head);
    const hide = make("button", "", head);
    hide.textContent = t("hide");
    hide.title = t("Hide the filmstrip until the next run");
    hide.addEventListener("click", () => this.hide());
    this.frames = make("div", "frames", root);
    passWheel(root);
    const options = { serialize: false, getValue: () => "", setValue: () => {}, getMinHeight: () => this.height() };
    this.widget = node.addDOMWidget(WIDGET, WIDGET, root, { ...options, getMaxHeight: () => this.height() });
    this.widget.serialize = false;
    this.sizes = new ResizeObserver(() => this.arrange());
    this.sizes.observe(root);
    strips.set(sampler, this);
    for (const gone of new Set([sampler, node])) {
      const removed = gone.onRemoved;
      gone.onRemoved = (/** @type {any[]} */ ...values) => {
        if (gone === node) this.forget();
        else if (strips.get(sampler) === this) this.close();
        return removed?.apply(gone, values);
      };
    }
  }

  /** Some front-ends' Vue renderer does not notice a widget that comes later: then put the strip into the node. */
  attach() {
    const { LiteGraph } = /** @type {any} */ (window);
    if (this.root.isConnected || !LiteGraph.vueNodesMode || strips.get(this.sampler) !== this) return;
    if (this.node.graph !== app.canvas.graph) return; // another graph is in view, where the id may mean another node
    this.root.style.padding = "0 12px 8px";
    document.querySelector(`[data-node-id="${CSS.escape(String(this.node.id))}"]`)?.append(this.root);
  }

  arrange() {
    const { columns } = layout(this.root.clientWidth || this.width(), this.count, this.aspect, this.room);
    this.frames.style.gridTemplateColumns = `repeat(${columns}, 1fr)`;
  }

  forget() {
    strips.delete(this.sampler);
    this.sizes.disconnect();
    this.root.remove();
  }

  width() {
    return Math.max(this.node.size[0] - MARGIN, CELL);
  }

  height() {
    return layout(this.width(), this.count, this.aspect, this.room).height + MARGIN;
  }

  /** @param {import("./filmstrip_logic.js").Preview} preview */
  async show(preview) {
    this.preview = preview;
    this.write();
    await new Promise((done) => setTimeout(done)); // the renderer's turn
    this.attach();
    const url = pictureUrl(preview.image);
    if (!url || !preview.frames?.length) return;
    const picture = (this.newest = new Image());
    picture.src = url;
    await picture.decode().catch(() => {}); // a picture that cannot be read has no size
    if (!picture.naturalWidth || this.newest !== picture) return; // or a newer one has come
    const count = preview.frames.length;
    const aspect = picture.naturalWidth / count / picture.naturalHeight;
    const changed = count !== this.count || aspect !== this.aspect;
    Object.assign(this, { count, aspect });
    this.arrange();
    this.frames.replaceChildren(...preview.frames.map((frame, i) => this.cell(url, frame, i)));
    if (changed) this.fit();
  }

  /** @param {string} url @param {number} frame @param {number} i */
  cell(url, frame, i) {
    const cell = document.createElement("div");
    const picture = make("div", "picture", cell);
    Object.assign(picture.style, {
      aspectRatio: String(this.aspect),
      backgroundImage: `url("${url}")`,
      backgroundSize: `${this.count * 100}% 100%`,
      backgroundPosition: position(i, this.count),
    });
    make("div", "label", cell).textContent = String(frame);
    return cell;
  }

  write() {
    if (this.preview) this.status.textContent = this.status.title = status(this.preview, this.detail, t);
  }

  /** Make the node tall enough. */
  fit() {
    const { node } = this;
    node.setSize([node.size[0], Math.max(node.size[1], node.computeSize()[1])]);
    this.fitted = node.size[1];
    app.graph.setDirtyCanvas(true, true);
  }

  hide() {
    hidden.set(this.sampler, this.preview?.prompt_id ?? "");
    this.close();
  }

  /** Leave the node as it was. */
  close() {
    const { node } = this;
    this.forget();
    node.widgets.splice(node.widgets.indexOf(this.widget), 1);
    this.widget.onRemove?.();
    const height = node.size[1] === this.fitted ? this.before[1] : node.size[1]; // resized by hand: stays
    node.setSize([node.size[0], Math.max(height, node.computeSize()[1])]);
    app.graph.setDirtyCanvas(true, true);
  }
}

/** @type {WeakMap<any, Filmstrip>} */
const strips = new WeakMap();
/** Runs whose filmstrip the user has hidden. @type {WeakMap<any, string>} */
const hidden = new WeakMap();

/** ComfyUI keeps the line of text of a run's last step on the node. @param {any} node */
function dropText(node) {
  const place = node.widgets?.findIndex((/** @type {any} */ widget) => widget.name === "$$node-text-preview") ?? -1;
  if (place >= 0) node.widgets.splice(place, 1)[0].onRemove?.();
}

/** @param {string} id */
const find = (id) => nodeById(app.rootGraph ?? app.graph, id);

app.registerExtension({
  name: "longtake.filmstrip",

  setup() {
    api.addEventListener("longtake.preview", (/** @type {CustomEvent} */ event) => {
      const node = find(event.detail.node);
      if (!node || hidden.get(node) === event.detail.prompt_id) return;
      if (event.detail.state === "stopped") { // cancelled, or failed
        dropText(node);
        return strips.get(node)?.close();
      }
      const strip = strips.get(node) ?? new Filmstrip(node);
      if (event.detail.step === 0) strip.detail = "";
      strip.show(event.detail);
    });
    api.addEventListener("progress_text", (/** @type {CustomEvent} */ event) => {
      const strip = strips.get(find(event.detail.nodeId));
      if (!strip) return;
      strip.detail = event.detail.text;
      strip.write();
    });
  },
});
