// @ts-check
/** The last run's frames beneath the timeline's ruler, without the page: which frame is shown where and when. */

import { pictureUrl } from "./filmstrip_logic.js";
import { clamp } from "./timeline_model.js";

export const LANE = 34; // px of the frames' height
const MOST_CELLS = 200;

/**
 * @typedef {object} Picture frames of a run in one picture
 * @property {string} image JPEG in base64, its frames side by side
 * @property {number[]} frames their places in pixel frames
 */

/**
 * What an event brings of it; the end of a run has more frames than its steps. Null: nothing that can be shown.
 * @param {any} detail of longtake.preview @returns {Picture | null}
 */
export function pictureOf({ image, frames, reel, reel_frames }) {
    const found = reel ? { image: reel, frames: reel_frames } : { image, frames };
    const rising = (/** @type {unknown} */ frame, /** @type {number} */ i, /** @type {number[]} */ all) =>
        Number.isFinite(frame) && Number(frame) >= 0 && !(i && Number(frame) <= all[i - 1]);
    const good = pictureUrl(found.image) && Array.isArray(found.frames) && found.frames.length > 0 && found.frames.every(rising);
    return good ? found : null;
}

/**
 * The one of some frames that shows a pixel frame, or is nearest. Latent frame i holds the pixel frames up to step i.
 * @param {number[]} frames @param {number} frame @param {number} step
 */
export function nearest(frames, frame, step) {
    let best = 0;
    const latent = (/** @type {number} */ pixel) => Math.ceil(pixel / step);
    const distance = (/** @type {number} */ i) => Math.abs(latent(frame) - latent(frames[i]));
    for (let i = 1; i < frames.length; i++) {
        if (distance(i) < distance(best)) best = i;
    }
    return best;
}

/**
 * Cells beneath the ruler, of equal width, each with the frame of its middle; none where the run made no frames.
 * @param {number[]} frames @param {number} aspect width / height of a frame @param {number} length of the timeline
 * @param {number} step @param {number} width px of the track
 * @returns {{count: number, shown: number[]}} cells in the whole track, and which frame is in each of the first of them
 */
export function cells(frames, aspect, length, step, width) {
    const count = clamp(Math.floor(width / (LANE * aspect)), 1, MOST_CELLS);
    const end = /** @type {number} */ (frames.at(-1)) + 1;
    const shown = [];
    for (let i = 0; i < count && (i * length) / count < end; i++) shown.push(nearest(frames, ((i + 0.5) * length) / count - 0.5, step));
    return { count, shown };
}

/**
 * The next latent frame's place from a pixel frame, within the video.
 * @param {number} frame @param {1 | -1} by @param {number} step @param {number} length
 */
export function latentStep(frame, by, step, length) {
    const next = by > 0 ? Math.floor(frame / step) + 1 : Math.ceil(frame / step) - 1;
    return clamp(next * step, 0, length - 1);
}

/**
 * The frame at a time of playing. @param {number} from frame @param {number} ms since then @param {number} fps
 * @param {number} length
 */
export const played = (from, ms, fps, length) => Math.min(length - 1, Math.floor(from + (ms * fps) / 1000));
