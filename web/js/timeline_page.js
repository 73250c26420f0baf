// @ts-check
/** The timeline in ComfyUI's two renderers: over the canvas, or in a node of HTML. */

/** @typedef {import("./timeline_view.js").TimelineView} TimelineView */

/** Whether an element lies over the canvas, beside ComfyUI's own nodes of HTML. @param {Element} root */
const onCanvas = (root) => Boolean(root.closest(".dom-widget"));

/** Hand on to the canvas what is the canvas': its wheel, and the middle button, which pans. @param {TimelineView} view @param {any} app */
export function passOn(view, app) {
    const { root } = view;
    root.addEventListener("wheel", (event) => wheel(event, view, app), { passive: false });
    for (const [type, method] of [["pointerdown", "processMouseDown"], ["pointerup", "processMouseUp"]]) {
        root.addEventListener(type, (/** @type {any} */ event) => {
            if (event.button === 1 && onCanvas(root)) app.canvas[method](event);
        });
    }
}

/** @param {WheelEvent} event @param {TimelineView} view @param {any} app */
function wheel(event, { root, scroller, editor }, app) {
    const target = /** @type {Node} */ (event.target);
    const sideways = event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY);
    const scrolls =
        (target === editor && editor.scrollHeight > editor.clientHeight) ||
        (scroller.contains(target) && sideways && scroller.scrollWidth > scroller.clientWidth);
    if (scrolls && !event.ctrlKey) {
        event.stopPropagation();
    } else if (onCanvas(root)) {
        event.preventDefault();
        app.canvas.processMouseWheel(event);
    }
}
