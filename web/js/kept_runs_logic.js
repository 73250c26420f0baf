// @ts-check
// What the list of kept runs says.

/** @typedef {{name: string, step: number, total: number, age: number, size: number, broken: string[]}} Run */
/** @typedef {(text: string, values?: Record<string, string | number>) => string} Translate */

/** @param {number} seconds @param {Translate} t */
export function ago(seconds, t) {
  if (seconds < 90) return t("{n} s ago", { n: Math.round(seconds) });
  if (seconds < 5400) return t("{n} min ago", { n: Math.round(seconds / 60) });
  if (seconds < 172800) return t("{n} h ago", { n: Math.round(seconds / 3600) });
  return t("{n} days ago", { n: Math.round(seconds / 86400) });
}

/** @param {number} bytes */
export function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return bytes >= 1e8 ? `${Math.round(bytes / 1e6)} MB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** @param {Run} run @param {Translate} t */
export function line(run, t) {
  const { step, total } = run;
  const done = total ? t("step {step} of {total}", { step, total }) : t("unreadable");
  return `${done}, ${ago(run.age, t)}, ${size(run.size)}`;
}
