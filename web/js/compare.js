// @ts-check
// Compare Videos: the player and the settings that differ, in the node.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";
import { Player } from "./compare_player.js";
import { grow, passWheel, takePlace } from "./dom.js";
import { addReport } from "./report.js";
import { t } from "./i18n.js";

const NODE = "LongTakeCompare";
const WIDGET = "longtake_compare";
const WIDTH = 480; // px of a new node
const MARGIN = 20; // that the canvas renderer leaves around a DOM widget
const PAINT_MS = 300; // until ComfyUI has put its nodes into the page, and the last runs' outputs where they belong

/** @param {{filename: string, subfolder: string, type: string}} file */
const address = (file) => api.apiURL(`/view?${new URLSearchParams(file)}`);

/** @param {any} node */
function addPlayer(node) {
  node.properties ??= {};
  const view = { ...node.properties.longtake_view };
  const player = new Player(address, () => fit(), view);
  const { root } = player;
  passWheel(root);
  const height = () => player.height() + MARGIN;
  const options = { serialize: false, getValue: () => "", setValue: () => {}, getMinHeight: height, getMaxHeight: height };
  node.addDOMWidget(WIDGET, WIDGET, root, options).serialize = false;
  let fitted = height();

  function fit() {
    if (view.mode || view.pair) node.properties.longtake_view = { ...view };
    const by = height() - fitted;
    if (!by || !root.isConnected) return;
    fitted += by;
    grow(node, by, true);
  }
  return player;
}

app.registerExtension({
  name: "longtake.compare",

  /** @param {any} node */
  nodeCreated(node) {
    if (node.comfyClass !== NODE) return;
    const player = addPlayer(node);
    const report = addReport(node, t("Settings that differ"), true);
    report.root.open = true;
    node.setSize([Math.max(node.size[0], WIDTH), node.computeSize()[1]]);
    setTimeout(() => takePlace(node, player.root), PAINT_MS);
    const { onExecuted, onConfigure, onRemoved } = node;
    node.onExecuted = function (/** @type {any} */ output) {
      onExecuted?.apply(this, arguments);
      const all = output?.longtake_compare?.[0];
      if (!all) return;
      takePlace(node, player.root);
      player.show(all);
    };
    node.onConfigure = function () {
      Object.assign(player.view, node.properties?.longtake_view);
      setTimeout(restore, PAINT_MS);
      return onConfigure?.apply(this, arguments);
    };
    /** After an undo, or back from another graph: what its last run has made. */
    const restore = () => {
      const output = app.nodeOutputs?.[node.id];
      if (output?.longtake_compare && !player.all && node.graph === app.graph) node.onExecuted(output);
    };
    node.onRemoved = function () {
      player.close();
      return onRemoved?.apply(this, arguments);
    };
  },
});
