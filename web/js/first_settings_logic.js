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

/**
 * What stands in the list, by model: what for, the widgets' values, and what goes with them.
 * @param {(text: string) => string} t translates
 */
export const choices = (t) =>
  Object.entries(MODELS).map(([model, [window, overlap]]) => ({
    model,
    kinds: [
      { name: t("balanced"), also: "", overlap, schedule: "random_shift" },
      { name: t("fewest calls"), overlap: 0, schedule: "rolling_cut",
        also: t("goes with Noise Reinit, mode shuffle; not with SynCoS or attention that windows share") },
      { name: t("several events, few calls"), overlap: Math.round(window / 12), schedule: "rolling_cut",
        also: t("goes with Noise Reinit, mode shuffle_and_mix; not with SynCoS or attention that windows share") },
      { name: t("one prompt, steadiest"), overlap: Math.round(window / 6), schedule: "random_shift",
        also: t("goes with Anchor Attention (ABAM), anchor 0.3 until 0.3") },
    ].map(({ name, also, ...widgets }) => ({
      name, also, values: { window_length: window, ...widgets, overlap_end: -1, global_path: false },
    })),
  }));
