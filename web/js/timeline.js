// @ts-check
/** Puts the timeline widget on every Prompt Timeline node. Without it the node works the same, by its text. */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { addReport } from "./report.js";
import { TimelineWidget } from "./timeline_widget.js";

app.registerExtension({
    name: "longtake.timeline",
    /** @param {any} node */
    nodeCreated(node) {
        if (node.comfyClass !== "LongTakePromptTimeline") return;
        node.longtakeTimeline = new TimelineWidget(node);
        node.longtakeTimeline.report = addReport(node);
    },
});
