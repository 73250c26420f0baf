// @ts-check
/** Settings to begin with, per model: what README's tables say. In pixel frames. */

/** window_length and overlap of windows that move. @type {Record<string, [number, number]>} */
export const MODELS = {
  "Wan 2.1 and 2.2": [81, 24],
  "LTX-Video": [97, 32],
  "HunyuanVideo": [129, 40],
  "HunyuanVideo 1.5": [121, 40],
  "CogVideoX": [49, 16],
  "Stable Video Diffusion XT": [25, 8],
  "demo model": [49, 16],
};

/** What for, what goes with it, and the widgets in which it differs, for a model's window and overlap. */
export const KINDS = [
  {
    name: "balanced", also: "",
    widgets: (/** @type {number} */ window, /** @type {number} */ overlap) => ({ overlap, schedule: "random_shift" }),
  },
  {
    name: "fewest calls", also: "goes with Noise Reinit, mode shuffle; not with SynCoS or attention that windows share",
    widgets: () => ({ overlap: 0, schedule: "rolling_cut" }),
  },
  {
    name: "one prompt, steadiest", also: "goes with Anchor Attention (ABAM), anchor 0.3 until 0.3",
    widgets: (/** @type {number} */ window) => ({ overlap: Math.round(window / 6), schedule: "random_shift" }),
  },
];

/** What stands in the list, by model. @returns {{model: string, kinds: {name: string, also: string, values: Record<string, unknown>}[]}[]} */
export const choices = () =>
  Object.entries(MODELS).map(([model, [window, overlap]]) => ({
    model,
    kinds: KINDS.map(({ name, also, widgets }) => ({
      name, also, values: { window_length: window, ...widgets(window, overlap), overlap_end: -1, global_path: false },
    })),
  }));
