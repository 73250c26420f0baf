// @ts-check
/** Says on the Global/Local Window Scheduler where its length is not the video's, with a button that sets it. */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";
import { make } from "./dom.js";
import { t } from "./i18n.js";
import { canSet, findVideo, setValue, sourceOf, TO_SAMPLER, valueOf, widgetOf } from "./timeline_graph.js";
import { running } from "./timeline_linked.js";
import { latentFrames } from "./timeline_model.js";

const NODE = "LongTakeWindowScheduler";
const STYLE = `
.longtake-length { flex: none; display: flex; gap: 6px; align-items: baseline; color: var(--error-text, #e05252); }
.longtake-length button { flex: none; padding: 0 8px; border: 1px solid var(--border-color); border-radius: 4px; font: inherit;
  line-height: 16px; background: var(--comfy-menu-bg); color: var(--input-text); cursor: pointer; }
`;

/** @param {any} node */
function look(node) {
    const chart = widgetOf(node, "longtake_chart")?.element;
    if (!node.graph || !chart) return;
    const own = valueOf(node, "length");
    const video = findVideo(node, TO_SAMPLER);
    const length = Number(own.value);
    const same = !video || !(video.length >= 1) || latentFrames(video.length, video.step) === latentFrames(length, video.step);
    const quiet = same || length === 0 || own.unknown || Boolean(sourceOf(node, "latent")); // 0: the chart takes the video's
    let line = chart.querySelector(".longtake-length");
    if (quiet) return line?.remove();
    if (!line) {
        line = make("div", "longtake-length");
        make("style", "", line).textContent = STYLE;
        make("span", "", line);
        const button = make("button", "", line);
        button.type = "button";
        button.addEventListener("click", () => {
            const now = findVideo(node, TO_SAMPLER);
            if (now) setValue(node, "length", now.length, app.canvas);
            app.canvas?.emitBeforeChange?.();
            app.canvas?.emitAfterChange?.();
            look(node);
        });
        chart.prepend(line);
    }
    const { frames, name } = { frames: video.length, name: video.node.title ?? video.node.type };
    line.querySelector("span").textContent = t("The video has {frames} frames ({node}), length says {length}.", { frames, node: name, length });
    line.querySelector("button").textContent = t("Set to {frames}", { frames });
    line.querySelector("button").hidden = !canSet(node, "length");
}

app.registerExtension({
    name: "longtake.window_length",
    setup() {
        const all = () => running(app.rootGraph ?? app.graph, NODE).forEach(([, node]) => look(node));
        for (const change of ["graphChanged", "execution_start"]) api.addEventListener(change, all);
    },
    /** @param {any} node */
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        const soon = () => queueMicrotask(() => look(node));
        const { onConnectionsChange } = node;
        node.onConnectionsChange = function (/** @type {any[]} */ ...values) {
            soon();
            return onConnectionsChange?.apply(this, values);
        };
        const widget = widgetOf(node, "length");
        const { callback } = widget;
        widget.callback = function (/** @type {any[]} */ ...values) {
            soon();
            return callback?.apply(this, values);
        };
    },
});
