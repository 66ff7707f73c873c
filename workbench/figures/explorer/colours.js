// Colours of weights, in light and in dark, and the words of the theme that the canvases share.

import { lastKey } from "./block.js";

const LIGHT = [
  [0, "#ffffff"],
  [0.15, "#dbe9f6"],
  [0.35, "#a3cbe7"],
  [0.55, "#5ba3d3"],
  [0.78, "#1d6cb1"],
  [1, "#08306b"],
];
const DARK = [
  [0, "#161b22"],
  [0.15, "#19304a"],
  [0.35, "#1f5689"],
  [0.55, "#3a86c4"],
  [0.78, "#8cc4ee"],
  [1, "#f3faff"],
];
const LIGHT_SIGNED = [
  [0, "#8c1127"],
  [0.25, "#dd6a56"],
  [0.42, "#fbd5c3"],
  [0.5, "#ffffff"],
  [0.58, "#cfe3f0"],
  [0.75, "#5ba3d3"],
  [1, "#0b417e"],
];
const DARK_SIGNED = [
  [0, "#ffb3a6"],
  [0.25, "#d6604d"],
  [0.42, "#4a2326"],
  [0.5, "#161b22"],
  [0.58, "#19304a"],
  [0.75, "#3a86c4"],
  [1, "#d6ecff"],
];

// Colours of several heads laid over each other (after Okabe and Ito).
export const OVERLAYS = ["#2166ac", "#d55e00", "#00866a", "#a13d9b", "#b58900", "#c0263c"];
const OVERLAYS_DARK = ["#56a8f5", "#ff8a3c", "#2fc79e", "#e08bdb", "#e8c547", "#ff7285"];

export const bytesOf = (hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));

function table(stops) {
  const found = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const at = i / 255;
    let s = 0;
    while (s < stops.length - 2 && at > stops[s + 1][0]) s++;
    const share = (at - stops[s][0]) / (stops[s + 1][0] - stops[s][0]);
    const [a, b] = [bytesOf(stops[s][1]), bytesOf(stops[s + 1][1])];
    const [red, green, blue] = a.map((v, j) => Math.round(v + share * (b[j] - v)));
    found[i] = (255 << 24) | (blue << 16) | (green << 8) | red;
  }
  return found;
}

const TABLES = {
  light: table(LIGHT),
  dark: table(DARK),
  lightSigned: table(LIGHT_SIGNED),
  darkSigned: table(DARK_SIGNED),
};

// Dark where the page around is dark: by Streamlit's colours where there are some, else as the reader set it.
export function isDark(root) {
  const style = getComputedStyle(root);
  const ground = style.getPropertyValue("--st-background-color").trim();
  if (/^#[0-9a-f]{6}/i.test(ground)) return bytesOf(ground).reduce((sum, v) => sum + v, 0) < 384;
  return matchMedia("(prefers-color-scheme: dark)").matches;
}

export function themeOf(root) {
  const dark = isDark(root);
  root.dataset.theme = dark ? "dark" : "light";
  const style = getComputedStyle(root);
  const word = (name) => style.getPropertyValue(`--x-${name}`).trim();
  const theme = { dark, font: style.fontFamily, overlays: dark ? OVERLAYS_DARK : OVERLAYS };
  theme.hues = theme.overlays.map(bytesOf);
  for (const name of ["ink", "soft", "rule", "panel", "paper", "blank", "mark"])
    theme[name] = word(name);
  return theme;
}

// Attention grows in colour with its square root, so that weak patterns show beside strong ones.
export function shade(value, top, signed) {
  if (!signed)
    return Math.min(255, Math.max(0, Math.round(255 * Math.sqrt(Math.max(0, value) / top))));
  const share = Math.sign(value) * Math.sqrt(Math.min(1, Math.abs(value) / top));
  return Math.round(127.5 * (1 + share));
}

export const lookUp = (theme, signed) =>
  TABLES[(theme.dark ? "dark" : "light") + (signed ? "Signed" : "")];

export function cssOf(theme, value, top, signed) {
  const v = lookUp(theme, signed)[shade(value, top, signed)];
  return `rgb(${v & 255},${(v >> 8) & 255},${(v >> 16) & 255})`;
}

// One head into pixels; a weight below the threshold is drawn as none.
export function paint(pixels, width, x0, y0, matrix, { top, signed, least, theme }) {
  const colours = lookUp(theme, signed);
  const none = colours[signed ? 128 : 0];
  const { n, values } = matrix;
  for (let query = 0, at = 0; query < n; query++) {
    let to = (y0 + query) * width + x0;
    for (let key = 0; key <= lastKey(matrix, query); key++, at++, to++) {
      const value = values[at];
      pixels[to] = Math.abs(value) < least ? none : colours[shade(value, top, signed)];
    }
  }
}

// Shares of several heads as one colour: hues multiply on white paper, and add up on dark.
export function blend(theme, shares) {
  const colour = bytesOf(theme.dark ? "#161b22" : "#ffffff");
  shares.forEach((share, m) => {
    if (share <= 0) return;
    const strength = Math.sqrt(Math.min(1, share)),
      hue = theme.hues[m];
    for (let c = 0; c < 3; c++) {
      colour[c] = theme.dark
        ? Math.min(255, colour[c] + strength * hue[c])
        : colour[c] * (1 - strength * (1 - hue[c] / 255));
    }
  });
  return colour;
}

// Several heads in one picture.
export function paintOver(pixels, width, matrices, { tops, least, theme }) {
  const n = matrices[0].n;
  for (let query = 0, at = 0; query < n; query++) {
    for (let key = 0; key <= lastKey(matrices[0], query); key++, at++) {
      const shares = matrices.map(({ values }, m) =>
        values[at] < least ? 0 : values[at] / tops[m],
      );
      const [red, green, blue] = blend(theme, shares);
      pixels[query * width + key] = (255 << 24) | (blue << 16) | (green << 8) | red;
    }
  }
}

export function pixelsOf(hex) {
  const [red, green, blue] = bytesOf(hex);
  return ((255 << 24) | (blue << 16) | (green << 8) | red) >>> 0;
}
