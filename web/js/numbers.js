// @ts-check
/**
 * Number widgets that show and keep all of their digits. ComfyUI's node renderers round what they show to three decimals,
 * or to those of the widget's step, and write that back when the field is left: 2e-5 became 0.
 */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { decimals, MOST_DECIMALS } from "./numbers_logic.js";

/** @param {any} widget @param {any} spec the node's own words for the input */
function keepDigits(widget, spec) {
    const { options } = widget;
    const { precision } = options;
    if (spec.round === false) delete options.round; // what was typed stays, also between two steps
    options.maxFractionDigits = MOST_DECIMALS; // ComfyUI's renderer of HTML, first version
    // The canvas, and newer renderers of HTML: as many as the step has, or more where the value has more.
    Object.defineProperty(options, "precision", {
        configurable: true,
        enumerable: true,
        get: () => Math.max(precision ?? 0, decimals(widget.value)),
    });
}

app.registerExtension({
    name: "longtake.numbers",
    /** @param {any} node */
    nodeCreated(node) {
        const { nodeData } = node.constructor;
        if (!node.comfyClass?.startsWith("LongTake")) return;
        const specs = { ...nodeData?.input?.required, ...nodeData?.input?.optional };
        for (const widget of node.widgets ?? []) {
            const [type, spec] = specs[widget.name] ?? [];
            if (type === "FLOAT") keepDigits(widget, spec ?? {});
        }
    },
});
