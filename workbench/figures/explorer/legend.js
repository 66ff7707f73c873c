// The heading of a map and the bar of its colours, or the names of several heads.

import { cssOf } from "./colours.js";

const BUTTONS = 104; // pixels at the right that the zoom buttons take

// What the map shows, in words, and the bar of its colours; both are part of a saved picture.
export function drawLegend(context, map, { theme, title, subtitle, signed, ticks, heads }) {
  context.textAlign = "left";
  context.textBaseline = "alphabetic";
  context.font = `600 15px ${theme.font}`;
  context.fillStyle = theme.ink;
  context.fillText(title, map.x0, 16);
  context.font = `12px ${theme.font}`;
  context.fillStyle = theme.soft;
  const narrow = context.measureText(subtitle).width > map.width - map.x0 - BUTTONS;
  context.fillText(narrow ? "rows look at columns" : subtitle, map.x0, 34);
  if (map.n < 4) return;
  const length = Math.min(190, map.side * 0.34),
    thick = 9;
  const x = map.x0 + map.side - length - 14,
    y = map.y0 + 18;
  if (map.zoomed) return;
  if (heads.length > 1) {
    keys(context, map, heads, theme);
    return;
  }
  const slices = 96;
  for (let i = 0; i < slices; i++) {
    const at = i / (slices - 1);
    const value = signed ? (2 * at - 1) * Math.abs(2 * at - 1) : at * at;
    context.fillStyle = cssOf(theme, value, 1, signed);
    context.fillRect(x + (i * length) / slices, y, length / slices + 0.6, thick);
  }
  context.strokeStyle = theme.rule;
  context.strokeRect(x - 0.5, y - 0.5, length + 1, thick + 1);
  context.font = `10.5px ${theme.font}`;
  context.fillStyle = theme.soft;
  context.textAlign = "center";
  for (const value of ticks(map.top)) {
    const share = signed
      ? (1 + Math.sign(value) * Math.sqrt(Math.abs(value) / map.top)) / 2
      : Math.sqrt(value / map.top);
    context.fillText(tick(value), x + share * length, y + thick + 12);
  }
}

function keys(context, map, heads, theme) {
  context.font = `600 12px ${theme.font}`;
  context.textAlign = "right";
  heads.forEach((name, i) => {
    const y = map.y0 + 22 + 18 * i;
    context.fillStyle = theme.ink;
    context.fillText(name, map.x0 + map.side - 30, y);
    context.fillStyle = theme.overlays[i];
    context.fillRect(map.x0 + map.side - 24, y - 10, 12, 12);
  });
}

const tick = (value) => (value === 0 ? "0" : String(Number(value.toPrecision(2))));
