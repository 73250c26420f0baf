// @ts-check
// Where the videos of Compare Videos are drawn, and what a moment of their common time is. No page here.

/**
 * One of the videos in the file: its box there, and its length in frames of the file.
 * @typedef {{name: string, box: [number, number, number, number], frames: number, own_frames: number, own_fps: number}} Video
 * @typedef {{fps: number, frames: number, videos: Video[], file: {filename: string, subfolder: string, type: string}}} Comparison
 * @typedef {{x: number, y: number, width: number, height: number}} Box
 */

export const MODES = ["side", "wipe", "difference"];
const GAP = 4; // px between videos
const LEAST = 150; // px of a video's width, before the next one goes into another row
const MOST = 480; // px of a video's height

/** @param {Video} video */
const aspect = ({ box: [, , width, height] }) => width / height;

/**
 * Videos beside each other, as large as a width lets them be at one height.
 * @param {Video[]} videos @param {number} width @returns {{height: number, boxes: Box[]}}
 */
export function beside(videos, width) {
  const most = Math.max(1, Math.min(videos.length, Math.floor((width + GAP) / (LEAST + GAP))));
  const columns = Math.ceil(videos.length / Math.ceil(videos.length / most)); // rows as full as each other
  const rows = [];
  for (let i = 0; i < videos.length; i += columns) rows.push(videos.slice(i, i + columns));
  const heights = rows.map((row) => (width - GAP * (row.length - 1)) / row.reduce((sum, video) => sum + aspect(video), 0));
  const height = Math.max(1, Math.floor(Math.min(...heights, MOST)));
  const boxes = rows.flatMap((row, i) => {
    let x = 0;
    return row.map((video) => {
      const box = { x, y: i * (height + GAP), width: height * aspect(video), height };
      x += box.width + GAP;
      return box;
    });
  });
  return { height: rows.length * (height + GAP) - GAP, boxes };
}

/**
 * Two videos in one place: the first fills it, the second lies within it.
 * @param {Video[]} pair @param {number} width @returns {{height: number, boxes: Box[]}}
 */
export function above(pair, width) {
  const height = Math.max(1, Math.floor(Math.min(width / aspect(pair[0]), MOST)));
  const whole = height * aspect(pair[0]);
  const boxes = pair.map((video) => {
    const tall = Math.min(height, whole / aspect(video));
    const wide = tall * aspect(video);
    return { x: (whole - wide) / 2, y: (height - tall) / 2, width: wide, height: tall };
  });
  return { height, boxes };
}

/** The frame that a player shows at a time. @param {number} seconds @param {Comparison} all */
export function frameAt(seconds, { fps, frames }) {
  return Math.min(Math.max(Math.floor(seconds * fps + 1e-3), 0), frames - 1);
}

/** Where to seek for a frame: its middle, which no rounding takes to its neighbour. @param {number} frame @param {Comparison} all */
export const timeOf = (frame, { fps }) => (frame + 0.5) / fps;

/** A frame in the video, from one beyond its ends. @param {number} frame @param {Comparison} all */
export const within = (frame, { frames }) => Math.min(Math.max(frame, 0), frames - 1);

/** The frame that a key goes to; null where it is none of ours. @param {string} key @param {number} frame @param {Comparison} all */
export function frameForKey(key, frame, all) {
  const second = Math.max(1, Math.round(all.fps));
  /** @type {Record<string, number>} */
  const to = {
    ArrowLeft: frame - 1, ArrowRight: frame + 1, PageUp: frame - second, PageDown: frame + second, Home: 0, End: all.frames - 1,
  };
  return Object.hasOwn(to, key) ? within(to[key], all) : null;
}

/** @param {number} frame @param {Comparison} all @param {(text: string, values?: Record<string, string | number>) => string} t */
export function clock(frame, all, t) {
  return t("{seconds} s, frame {frame} of {frames}", { seconds: (frame / all.fps).toFixed(2), frame, frames: all.frames });
}

/** A video's name, with what is to be known of it at a frame. @param {Video} video @param {number} frame @param {(text: string) => string} t */
export function caption(video, frame, t) {
  return frame < video.frames ? video.name : `${video.name} ${t("(over: its last frame)")}`;
}

/** Which two are laid over each other: two different ones that there are. @param {number[] | undefined} wanted @param {number} count */
export function pairOf(wanted, count) {
  const [a, b] = wanted ?? [0, 1];
  const good = [a, b].every((i) => Number.isInteger(i) && i >= 0 && i < count) && a !== b;
  return good ? [a, b] : [0, Math.min(1, count - 1)];
}
