// @ts-check
// SynCoS: the widgets that a preset does without are grey, until the preset is custom.

// @ts-ignore served by ComfyUI
import { app } from "../../../scripts/app.js";
import { sourceOf, widgetOf } from "./timeline_graph.js";

const NODES = ["LongTakeSynCoSSampler", "LongTakeSynCoSKSampler"];
const IGNORED = ["iters", "chunks", "lr", "optimizer", "t_min", "max_coupled", "decay_every", "decay_rate", "pick", "cond_only", "exchange",
    "beta1", "beta2", "weight_decay"];

/** @param {any} node */
function grey(node) {
  const free = widgetOf(node, "preset")?.value === "custom" || sourceOf(node, "preset"); // a link may bring any
  for (const name of IGNORED) {
    const widget = widgetOf(node, name);
    if (!widget) continue;
    widget.disabled = !free;
    widget.options.disabled = !free; // of ComfyUI's nodes of HTML, which read it when the list of widgets changes
  }
  node.widgets.push(node.widgets.pop());
  node.setDirtyCanvas?.(true, true);
}

app.registerExtension({
  name: "longtake.presets",

  /** @param {any} node */
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    for (const [owner, name] of [[widgetOf(node, "preset"), "callback"], [node, "onConfigure"], [node, "onConnectionsChange"]]) {
      const before = owner?.[name];
      if (!owner) continue;
      owner[name] = function () {
        const result = before?.apply(this, arguments);
        grey(node);
        return result;
      };
    }
    grey(node);
  },
});
