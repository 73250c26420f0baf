// @ts-check
/** What the timeline changes beside its text: widgets of its own node and of others, and links. One step of undo each. */

// @ts-ignore: served by ComfyUI
import { app } from "../../../scripts/app.js";
import { canSet, findVideo, findWindowNode, setValue, sourceOf, TO_SAMPLER, valueOf } from "./timeline_graph.js";
import { cutLinks, running } from "./timeline_linked.js";

/** @typedef {import("./timeline_widget.js").TimelineWidget} TimelineWidget */

export class TimelineEdits {
    /** @param {TimelineWidget} timeline */
    constructor(timeline) {
        this.timeline = timeline;
    }

    /** @param {any} node @param {Record<string, unknown>} values by widget */
    #set(node, values) {
        for (const [name, value] of Object.entries(values)) setValue(node, name, value, app.canvas);
        this.timeline.mark();
        this.timeline.look();
    }

    /** @param {string} name */
    canSet(name) {
        return canSet(this.timeline.node, name);
    }

    /** @param {string} name @param {unknown} value */
    set(name, value) {
        this.#set(this.timeline.node, { [name]: value });
    }

    /**
     * The length of the video: of its latent, of the window schedulers that said the latent's for their charts and,
     * unless the latent is followed, of this node. A scheduler whose latent is in another graph keeps its length.
     * @param {number} frames
     */
    setLength(frames) {
        const { video, follows } = this.timeline;
        if (video) {
            const charts = running(app.rootGraph ?? app.graph, "LongTakeWindowScheduler").map(([, node]) => node);
            const alike = charts.filter(
                (node) => valueOf(node, "length").value === video.length && findVideo(node, TO_SAMPLER)?.node === video.node,
            );
            for (const node of [video.node, ...alike]) setValue(node, "length", frames, app.canvas);
        }
        this.#set(this.timeline.node, follows ? {} : { length: frames });
    }

    /** @param {string[]} names widgets of the node that makes the windows */
    canSetWindows(names) {
        const node = findWindowNode(this.timeline.node);
        return Boolean(node) && names.every((name) => canSet(node, name));
    }

    /** @param {Record<string, number>} values */
    setWindows(values) {
        this.#set(findWindowNode(this.timeline.node), values);
    }

    /** Cut the links of the texts, and keep what they brought. */
    takeLinked() {
        const { node, reply } = this.timeline;
        const texts = reply.texts ?? node.properties?.longtake_ran;
        if (!texts) return;
        const names = ["events", "global_prompt"].filter((name) => sourceOf(node, name));
        cutLinks(node, names);
        this.#set(node, Object.fromEntries(names.map((name) => [name, texts[name]])));
    }
}
