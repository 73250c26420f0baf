// @ts-check
/** Puts the timeline widget on every Prompt Timeline node. Without it the node works the same, by its text. */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { addReport } from "./report.js";
// @ts-ignore
import { api } from "../../../scripts/api.js";
import { sourceOf } from "./timeline_graph.js";
import { ranIn, running } from "./timeline_linked.js";
import { take, watch } from "./timeline_runs.js";
import { TimelineWidget } from "./timeline_widget.js";

const NODE = "LongTakePromptTimeline";

app.registerExtension({
    name: "longtake.timeline",
    setup() {
        watch(api);
        api.addEventListener("longtake.preview", (/** @type {any} */ event) => take(event.detail, NODE));
        api.addEventListener("execution_success", async (/** @type {any} */ event) => {
            const nodes = running(app.rootGraph ?? app.graph, NODE).filter(([, node]) => sourceOf(node, "events"));
            for (const [id, node] of nodes) {
                const texts = await ranIn(api, event.detail.prompt_id, id);
                if (texts) node.longtakeTimeline.ran(texts);
            }
        });
    },
    /** @param {any} node */
    nodeCreated(node) {
        if (node.comfyClass !== NODE) return;
        node.longtakeTimeline = new TimelineWidget(node);
        node.longtakeTimeline.report = addReport(node);
    },
});
