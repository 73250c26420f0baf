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
    model: model === "demo model" ? t("demo model") : model,
    // Stable Video Diffusion reads no prompt, and is a U-Net, which Anchor Attention does not know: the first two.
    kinds: [
      { name: t("balanced"), also: "", overlap, schedule: "random_shift" },
      { name: t("fewest calls"), overlap: 0, schedule: "rolling_cut",
        also: t("goes with Noise Reinit, mode shuffle; not with SynCoS or attention that windows share") },
      { name: t("several events, few calls"), overlap: Math.round(window / 12), schedule: "rolling_cut",
        also: t("goes with Noise Reinit, mode shuffle_and_mix; not with SynCoS or attention that windows share") },
      { name: t("one prompt, steadiest"), overlap: Math.round(window / 6), schedule: "random_shift",
        also: t("goes with Anchor Attention (ABAM), anchor 0.3 until 0.3") },
    ].slice(0, model.startsWith("Stable Video") ? 2 : 4).map(({ name, also, ...widgets }) => ({
      name, also, values: { window_length: window, ...widgets, overlap_end: -1, global_path: false },
    })),
  }));

/**
 * The names whose value cannot be set: no widget decides it, or one that another name asks for another value.
 * @param {Record<string, unknown>} values @param {(name: string) => object | undefined} widgetFor what decides a name's value
 */
export function unsettable(values, widgetFor) {
  const asked = Object.entries(values).map(([name, value]) => ({ name, value, widget: widgetFor(name) }));
  return asked
    .filter(({ value, widget }) => !widget || asked.some((other) => other.widget === widget && other.value !== value))
    .map(({ name }) => name);
}

/** Keys that a closed list is left to: it opens on them, or goes to the next field. */
const PLAIN = ["Enter", " ", "F4", "Tab", "Escape", "Shift", "Control", "Alt", "Meta"];

/** Whether a key would choose from the closed list unseen. @param {{key: string, altKey: boolean}} event */
export const chooses = ({ key, altKey }) => !PLAIN.includes(key) && !(altKey && key.startsWith("Arrow"));
