// @ts-check
/** How many decimals a number has. No page, no ComfyUI. */

export const MOST_DECIMALS = 12;

/**
 * Decimals that are needed to write a number as it is, up to MOST_DECIMALS.
 * @param {unknown} value
 */
export function decimals(value) {
    const [, fraction = "", exponent = "0"] = /^-?\d+(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(value)) ?? [];
    return Math.min(MOST_DECIMALS, Math.max(0, fraction.length - Number(exponent)));
}
