// @ts-check
/** Style, icons and making of elements of the timeline widget. Colours are ComfyUI's variables, so that they follow its themes. */

/** Pixels that the widget needs. */
export const MIN_HEIGHT = 276;

export const STYLE = `
.longtake-timeline { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; min-width: 0;
    min-height: calc(${MIN_HEIGHT - 20}px + var(--rows, 0px) + var(--reel, 0px) + var(--monitor, 0px)); padding: 6px; box-sizing: border-box; overflow: hidden; contain: inline-size; border-radius: 8px;
    background: var(--comfy-menu-bg, #353535); color: var(--input-text, #ddd); font: 12px/1.3 Inter, Arial, sans-serif;
    --back: var(--comfy-input-bg, #222); --line: var(--border-color, #4e4e4e); --dim: var(--descrip-text, #999);
    --accent: var(--p-primary-color, #3b82f6); user-select: none; cursor: default; }
.lg-node .longtake-timeline { --back: var(--component-node-widget-background, var(--comfy-input-bg)); padding: 4px 0;
    background: transparent; } /* among ComfyUI's nodes of HTML */
.longtake-timeline *, .longtake-timeline *::before { box-sizing: border-box; }
.longtake-timeline .lt-tools { display: flex; flex-wrap: wrap; align-items: center; gap: 2px; flex: none; min-width: 0; }
.longtake-timeline .lt-tools button { flex: none; width: 24px; height: 24px; padding: 4px; border: 0; border-radius: 5px;
    background: transparent; color: inherit; cursor: pointer; }
.longtake-timeline .lt-tools button:hover:not(:disabled) { background: var(--back); }
.longtake-timeline .lt-tools button:disabled { opacity: 0.35; cursor: default; }
.longtake-timeline .lt-tools svg { display: block; width: 16px; height: 16px; fill: none; stroke: currentColor;
    stroke-width: 1.5; stroke-linecap: round; stroke-linejoin: round; }
.longtake-timeline .lt-gap { flex: none; width: 1px; height: 14px; margin: 0 3px; background: var(--line); }
.longtake-timeline .lt-total { flex: 1 1 130px; display: flex; align-items: center; justify-content: flex-end; gap: 6px; min-width: 0;
    padding-left: 6px; color: var(--dim); font-size: 11px; overflow: hidden; white-space: nowrap; }
.longtake-timeline .lt-total span { min-width: 0; overflow: hidden; text-overflow: ellipsis; }
.longtake-timeline .lt-field { flex: none; width: 62px; height: 18px; padding: 0 5px; border: 1px solid var(--line); border-radius: 4px;
    background: var(--back); color: inherit; font: inherit; font-size: 11px; text-align: right; outline: none; user-select: text; }
.longtake-timeline .lt-field:focus { border-color: var(--accent); color: var(--input-text, #ddd); }
.longtake-timeline .lt-field:disabled { border-color: transparent; background: none; }
.longtake-timeline .lt-field::-webkit-calendar-picker-indicator { display: none !important; }
.longtake-timeline .lt-view { flex: none; overflow-x: auto; overflow-y: hidden; border-radius: 5px;
    background: var(--back); border: 1px solid var(--line); scrollbar-width: thin; }
.longtake-timeline .lt-sheet { position: relative; contain: layout; height: calc(92px + var(--rows, 0px) + var(--reel, 0px)); min-width: 100%; overflow: clip; }
.longtake-timeline .lt-ruler { position: absolute; inset: 0 0 auto 0; height: 18px; color: var(--dim); font-size: 10px;
    border-bottom: 1px solid var(--line); overflow: hidden; cursor: pointer; }
.longtake-timeline .lt-tick { position: absolute; top: 0; bottom: 0; padding: 2px 0 0 4px; border-left: 1px solid
    var(--line); white-space: nowrap; font-variant-numeric: tabular-nums; pointer-events: none; }
.longtake-timeline .lt-global { position: absolute; inset: calc(22px + var(--reel, 0px)) 2px auto 2px; height: 18px; border-radius: 4px;
    line-height: 18px; font-size: 11px; color: var(--dim); overflow: clip;
    background: color-mix(in srgb, var(--dim) 16%, transparent); }
.longtake-timeline .lt-global span { position: sticky; left: 0; display: inline-block; padding: 0 6px; overflow: hidden;
    text-overflow: ellipsis; white-space: nowrap; }
.longtake-timeline .lt-track { position: absolute; inset: calc(44px + var(--reel, 0px)) 0 calc(2px + var(--rows, 0px)) 0;
    touch-action: none; }
.longtake-timeline .lt-reel { position: absolute; inset: 19px 0 auto 0; height: calc(var(--reel, 0px) - 1px); contain: strict; cursor: pointer;
    outline: none; touch-action: none; }
.longtake-timeline .lt-reel:focus-visible { box-shadow: inset 0 0 0 2px var(--accent); }
.longtake-timeline .lt-reel i { position: absolute; top: 0; bottom: 0; z-index: -1; border-right: 1px solid var(--back); }
.longtake-timeline .lt-reel i, .longtake-timeline .lt-screen { background: var(--picture) no-repeat 0 0 / calc(100% * var(--count)) 100%; }
.longtake-timeline .lt-playhead { position: absolute; top: 0; bottom: 0; width: 1px; z-index: 5; pointer-events: none;
    background: var(--input-text, #ddd); }
.longtake-timeline .lt-playhead::before { content: ""; position: absolute; left: -4px; top: 9px; border: 4.5px solid transparent;
    border-top: 7px solid var(--input-text, #ddd); border-bottom: 0; }
.longtake-timeline .lt-block.lt-here::before { content: ""; position: absolute; inset: 0 0 auto 0; height: 3px; background: var(--input-text, #ddd); }
.longtake-timeline .lt-bottom { flex: 1 1 48px; display: flex; gap: 6px; min-height: calc(48px + var(--monitor, 0px)); min-width: 0; }
.longtake-timeline .lt-monitor { flex: none; display: flex; flex-direction: column; gap: 3px; min-width: 72px; max-width: 50%; }
.longtake-timeline .lt-screen { flex: none; align-self: center; border-radius: 4px; background-color: #000; }
.longtake-timeline .lt-bar { flex: none; display: flex; align-items: center; gap: 4px; height: 20px; font-size: 11px; color: var(--dim);
    white-space: nowrap; font-variant-numeric: tabular-nums; }
.longtake-timeline .lt-bar button { flex: none; width: 22px; height: 20px; padding: 2px; border: 0; border-radius: 4px; background: var(--back);
    color: var(--input-text, #ddd); cursor: pointer; }
.longtake-timeline .lt-bar svg { display: block; width: 16px; height: 16px; fill: currentColor; stroke: currentColor; stroke-width: 2; }
.longtake-timeline .lt-windows { position: absolute; inset: auto 0 1px 0; contain: strict; }
.longtake-timeline .lt-windows svg { display: block; width: 100%; height: 100%; }
.longtake-timeline .lt-windows path { fill: color-mix(in srgb, hsl(var(--hue) 55% 50%) 55%, var(--back)); }
.longtake-timeline .lt-windows .lt-own { fill: hsl(var(--hue) 65% 55%); }
.longtake-timeline .lt-windows .lt-plain { fill: color-mix(in srgb, var(--dim) 40%, var(--back)); }
.longtake-timeline .lt-block { position: absolute; contain: strict; top: 0; bottom: 0; min-width: 1px; padding: 0; border-radius: 5px;
    border: 1px solid color-mix(in srgb, hsl(var(--hue) 55% 50%) 80%, var(--back)); overflow: hidden; outline: none;
    background: color-mix(in srgb, hsl(var(--hue) 55% 50%) 36%, var(--back)); cursor: grab; }
.longtake-timeline .lt-block:hover { background: color-mix(in srgb, hsl(var(--hue) 55% 50%) 46%, var(--back)); }
.longtake-timeline .lt-block.lt-selected { background: color-mix(in srgb, hsl(var(--hue) 60% 50%) 62%, var(--back));
    border-color: var(--input-text, #ddd); }
.longtake-timeline .lt-block:focus-visible { box-shadow: inset 0 0 0 2px var(--accent); border-color: var(--accent); }
.longtake-timeline .lt-block.lt-unused { background-image: repeating-linear-gradient(135deg, transparent 0 5px,
    color-mix(in srgb, var(--back) 75%, transparent) 5px 10px); border-style: dashed; }
.longtake-timeline .lt-block.lt-narrow { border-radius: 1px; border-width: 0 0 0 1px; }
.longtake-timeline .lt-block.lt-narrow > * { display: none; }
.longtake-timeline .lt-block.lt-lifted { opacity: 0.7; cursor: grabbing; z-index: 3; }
.longtake-timeline .lt-text { margin: 5px 8px 0 8px; font-weight: 600; line-height: 16px; unicode-bidi: plaintext; }
.longtake-timeline .lt-time { margin: 1px 8px 0 8px; font-size: 10px; opacity: 0.75; font-variant-numeric: tabular-nums; }
.longtake-timeline .lt-text, .longtake-timeline .lt-time { overflow: hidden; text-overflow: ellipsis;
    white-space: nowrap; pointer-events: none; }
.longtake-timeline .lt-fade { position: absolute; top: 0; bottom: 0; transform: translateX(-50%); pointer-events: none;
    opacity: 0.3; background: linear-gradient(90deg, transparent, var(--input-text, #ddd) 50%, transparent); }
.longtake-timeline .lt-handle { position: absolute; top: 0; bottom: 0; width: 11px; margin-left: -5.5px; z-index: 2;
    cursor: ew-resize; }
.longtake-timeline .lt-handle::before { content: ""; position: absolute; left: 4px; top: 12px; bottom: 12px; width: 3px;
    border-radius: 2px; background: var(--input-text, #ddd); opacity: 0.55; }
.longtake-timeline .lt-handle:hover::before, .longtake-timeline .lt-handle.lt-active::before { opacity: 1; top: 3px;
    bottom: 3px; background: var(--accent); }
.longtake-timeline .lt-handle.lt-thin { width: 3px; margin-left: -1.5px; }
.longtake-timeline .lt-handle.lt-thin::before { opacity: 0; left: 0; }
.longtake-timeline .lt-drop { position: absolute; top: -2px; bottom: -2px; width: 3px; margin-left: -1.5px; z-index: 4;
    background: var(--accent); border-radius: 2px; pointer-events: none; }
.longtake-timeline .lt-tip { position: absolute; top: 0; z-index: 5; padding: 1px 6px; border-radius: 4px; font-size: 11px;
    background: var(--accent); color: #fff; white-space: nowrap; pointer-events: none; transform: translateX(-50%);
    font-variant-numeric: tabular-nums; }
.longtake-timeline .lt-tip.lt-start { transform: none; }
.longtake-timeline .lt-tip.lt-end { transform: translateX(-100%); }
.longtake-timeline .lt-info { flex: none; display: flex; gap: 8px; height: 18px; contain: strict; color: var(--dim); font-size: 11px; line-height: 16px;
    white-space: nowrap; overflow: hidden; font-variant-numeric: tabular-nums; }
.longtake-timeline .lt-info span { flex: 1; overflow: hidden; text-overflow: ellipsis; }
.longtake-timeline .lt-info b { color: var(--input-text, #ddd); flex: none; }
.longtake-timeline .lt-info i { flex: none; width: 10px; height: 10px; margin-top: 3px; border-radius: 3px;
    background: hsl(var(--hue) 55% 50%); }
.longtake-timeline textarea { flex: 1 1 0; min-width: 0; margin: 0; padding: 5px 7px; resize: none;
    border: 1px solid var(--line); border-radius: 5px; background: var(--back); color: inherit; font: inherit;
    line-height: 1.4; outline: none; user-select: text; unicode-bidi: plaintext; }
.longtake-timeline textarea:focus { border-color: var(--accent); }
.longtake-timeline textarea:disabled { opacity: 0.5; }
.longtake-timeline .lt-notices { flex: none; display: flex; flex-direction: column; gap: 3px; max-height: 110px; overflow-y: auto; }
.longtake-timeline .lt-message { display: flex; flex-wrap: wrap; gap: 3px 6px; align-items: baseline; font-size: 11px; color: var(--dim); }
.longtake-timeline .lt-message span { overflow-wrap: anywhere; white-space: pre-wrap; min-width: 0; }
.longtake-timeline .lt-message.lt-bad { color: var(--error-text, #ff4444); }
.longtake-timeline .lt-way { flex: none; max-width: 100%; padding: 1px 8px; border: 1px solid var(--line); border-radius: 4px;
    background: var(--back); color: var(--input-text, #ddd); font: inherit; line-height: 16px; cursor: pointer; overflow: hidden;
    text-overflow: ellipsis; white-space: nowrap; }
.longtake-timeline .lt-way:hover, .longtake-timeline .lt-way:focus-visible { border-color: var(--accent); outline: none; }
.longtake-timeline [hidden] { display: none; }
`;

/** @param {number} part @param {number} whole */
export const percent = (part, whole) => `${(100 * part) / whole}%`;

/** Paths in a box of 16 x 16. */
export const ICONS = {
    add: "M8 3v10M3 8h10",
    duplicate: "M5.5 5.5h8v8h-8zM2.5 10.5v-8h8",
    split: "M8 2v12M5 5 2 8l3 3M11 5l3 3-3 3",
    remove: "M3 4.5h10M6 4.5V3h4v1.5M4.5 4.5l.6 8.5h5.8l.6-8.5",
    earlier: "M13 8H3M7 4 3 8l4 4",
    later: "M3 8h10M9 4l4 4-4 4",
    even: "M2 3v10M6 5v6M10 5v6M14 3v10",
    out: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M10.5 10.5 14 14M5 7h4",
    in: "M7 2.5a4.5 4.5 0 1 0 0 9 4.5 4.5 0 0 0 0-9M10.5 10.5 14 14M5 7h4M7 5v4",
};
