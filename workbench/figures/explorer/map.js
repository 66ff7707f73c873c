// One head in full: queries (destinations) down, keys (sources) across, tokens on both sides.

import { lastKey } from "./block.js";
import { blockOf } from "./store.js";
import { paint, paintOver, pixelsOf } from "./colours.js";
import { sized } from "./atlas.js";
import { drawLegend } from "./legend.js";

const HEADER = 46,
  CROWDED = 13; // pixels above the map; pixels that a label needs

export class MapView {
  constructor(canvas, over) {
    Object.assign(this, { canvas, over, picture: document.createElement("canvas"), window: null });
  }

  // The names along an axis: tokens, or blocks of them where the map is pooled.
  labels(matrix, tokens) {
    if (!matrix.pooled) return tokens.map((token, i) => [short(token), i]);
    return Array.from({ length: matrix.n }, (_, i) => {
      const [first, last] = blockOf(i, matrix.n, tokens.length);
      return [short(tokens[first]), first === last ? first : `${first}–${last}`];
    });
  }

  layOut(width, highest, matrix, tokens, theme) {
    const context = this.canvas.getContext("2d");
    this.names = this.labels(matrix, tokens);
    this.font = matrix.n <= 30 ? 12 : 10.5;
    context.font = `${this.font}px ${theme.font}`;
    const widest = Math.max(
      ...this.names.slice(0, 400).map(([t, i]) => context.measureText(`${t} ${i}`).width),
    );
    const label = Math.min(width < 480 ? 74 : 112, widest + 8);
    this.left = label + 16;
    this.bottom = Math.min(92, label * 0.86 + 4) + 18;
    const right = 12 + Math.min(24, label * 0.2);
    this.side = Math.max(120, Math.min(width - this.left - right, highest - HEADER - this.bottom));
    this.side = Math.min(this.side, Math.max(240, matrix.n * 64)); // a few tokens need no wall of colour
    const room = width - this.left - right;
    this.x0 = this.left + Math.max(0, (room - this.side) / 2);
    this.y0 = HEADER;
    this.width = width;
    this.height = Math.ceil(HEADER + this.side + this.bottom);
    this.n = matrix.n;
    this.square = matrix.square;
    if (!this.window || this.window.of !== matrix.n || this.window.read !== matrix.read)
      this.window = this.whole(matrix);
  }

  // At first everything; of cross-attention only the rows that look and the columns looked at.
  whole({ n, read }) {
    const size = read ? Math.max(read, n - read) : n;
    return { of: n, read, query: read ? n - size : 0, key: 0, size };
  }

  get cell() {
    return this.side / this.window.size;
  }
  x(key) {
    return this.x0 + (key - this.window.key) * this.cell;
  }
  y(query) {
    return this.y0 + (query - this.window.query) * this.cell;
  }

  // The query and key under a point, or null.
  at(px, py) {
    const key = Math.floor((px - this.x0) / this.cell + this.window.key);
    const query = Math.floor((py - this.y0) / this.cell + this.window.query);
    const inside =
      px >= this.x0 && py >= this.y0 && px < this.x0 + this.side && py < this.y0 + this.side;
    const shape = { n: this.n, square: this.square };
    return inside && key >= 0 && query < this.n && key <= lastKey(shape, query)
      ? [query, key]
      : null;
  }

  get zoomed() {
    return this.window !== null && this.window.size < this.window.of;
  }

  zoom(factor, px = this.x0 + this.side / 2, py = this.y0 + this.side / 2) {
    const { window, n } = this;
    const size = Math.min(n, Math.max(Math.min(n, 8), window.size * factor));
    const [u, v] = [(px - this.x0) / this.side, (py - this.y0) / this.side];
    window.key += u * (window.size - size);
    window.query += v * (window.size - size);
    window.size = size;
    this.pan(0, 0);
  }

  pan(dx, dy) {
    const { window, n } = this;
    const within = (start) => Math.min(n - window.size, Math.max(0, start));
    window.key = within(window.key - dx / this.cell);
    window.query = within(window.query - dy / this.cell);
  }

  fill(matrices, { signed, least, theme, tops }) {
    const { n } = matrices[0];
    [this.picture.width, this.picture.height] = [n, n];
    const context = this.picture.getContext("2d");
    const image = context.createImageData(n, n);
    const pixels = new Uint32Array(image.data.buffer).fill(pixelsOf(theme.blank));
    if (matrices.length === 1)
      paint(pixels, n, 0, 0, matrices[0], { top: this.top, signed, least, theme });
    else paintOver(pixels, n, matrices, { tops, least, theme });
    context.putImageData(image, 0, 0);
  }

  draw(shown, ratio) {
    const { matrices, theme, tops } = shown;
    this.top = tops[tops.length - 1];
    this.fill(matrices, shown);
    const context = sized(this.canvas, this.width, this.height, ratio);
    const { x0, y0, side, window, cell } = this;
    context.save();
    context.beginPath();
    context.rect(x0, y0, side, side);
    context.clip();
    context.imageSmoothingEnabled = cell * ratio < 1;
    context.drawImage(
      this.picture,
      window.key,
      window.query,
      window.size,
      window.size,
      x0,
      y0,
      side,
      side,
    );
    if (cell >= 9) this.grid(context, theme);
    context.restore();
    context.strokeStyle = theme.rule;
    context.lineWidth = 1;
    context.strokeRect(x0 - 0.5, y0 - 0.5, side + 1, side + 1);
    this.axes(context, shown);
    drawLegend(context, this, shown);
  }

  grid(context, theme) {
    const { window, side, x0, y0 } = this;
    context.fillStyle = theme.blank;
    for (let i = Math.ceil(window.key); i <= window.key + window.size; i++)
      context.fillRect(this.x(i) - 0.5, y0, 1, side);
    for (let i = Math.ceil(window.query); i <= window.query + window.size; i++)
      context.fillRect(x0, this.y(i) - 0.5, side, 1);
  }

  axes(context, { theme, sought }) {
    const { window } = this;
    const step = Math.max(1, Math.ceil(CROWDED / this.cell));
    const shown = (start) => {
      const first = Math.ceil(start - 0.49),
        last = Math.min(this.n - 1, Math.floor(start + window.size - 0.51));
      const found = [];
      for (let i = first; i <= last; i++) if (i % step === 0 || sought.has(i)) found.push(i);
      return found;
    };
    for (const i of shown(window.query))
      this.label(context, "query", i, sought.has(i) ? theme.mark : theme.ink, theme, sought.has(i));
    for (const i of shown(window.key))
      this.label(context, "key", i, sought.has(i) ? theme.mark : theme.ink, theme, sought.has(i));
    context.fillStyle = theme.soft;
    context.font = `11px ${theme.font}`;
    context.textAlign = "center";
    context.textBaseline = "bottom";
    context.fillText("key: the token looked at", this.x0 + this.side / 2, this.height - 1);
    context.save();
    context.translate(this.x0 - this.left + 11, this.y0 + this.side / 2);
    context.rotate(-Math.PI / 2);
    context.fillText("query: the token that looks", 0, 0);
    context.restore();
  }

  label(context, axis, i, colour, theme, bold = false, ground = null) {
    const [text, place] = this.names[i];
    context.save();
    if (axis === "query") context.translate(this.x0 - 5, this.y(i) + this.cell / 2);
    else {
      context.translate(this.x(i) + this.cell / 2 + 3, this.y0 + this.side + 6);
      context.rotate(-Math.PI / 3);
    }
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.font = `${bold ? 600 : 400} ${this.font}px ${theme.font}`;
    const small = `400 ${this.font * 0.78}px ${theme.font}`;
    const whole = context.measureText(text).width;
    context.font = small;
    const number = ` ${place}`,
      across = context.measureText(number).width;
    if (ground) {
      context.fillStyle = ground;
      context.fillRect(
        -whole - across - 3,
        -this.font * 0.68,
        whole + across + 6,
        this.font * 1.36,
      );
    }
    context.fillStyle = bold ? colour : theme.soft;
    context.fillText(number, 0, this.font * 0.14);
    context.font = `${bold ? 600 : 400} ${this.font}px ${theme.font}`;
    context.fillStyle = colour;
    context.fillText(text, -across, 0);
    context.restore();
  }

  // Row and column under the mouse, and of the pinned token.
  mark({ focus, pinned, flip, theme }, ratio) {
    const context = sized(this.over, this.width, this.height, ratio);
    const { x0, y0, side } = this;
    const row = (i, colour, fill) =>
      this.band(context, x0, this.y(i), side, this.cell, colour, fill, true);
    const column = (i, colour, fill) =>
      this.band(context, this.x(i), y0, this.cell, side, colour, fill, false);
    context.save();
    context.beginPath();
    context.rect(x0, y0, side, side);
    context.clip();
    if (pinned !== null) (flip ? column : row)(pinned, theme.mark, true);
    if (focus) {
      if (focus[0] !== null) row(focus[0], theme.ink, false);
      if (focus[1] !== null) column(focus[1], theme.ink, false);
    }
    context.restore();
    const inside = (i, start) => i >= start - 0.5 && i < start + this.window.size;
    const name = (axis, i, colour) => {
      const start = axis === "query" ? this.window.query : this.window.key;
      if (i !== null && i < this.n && inside(i, start))
        this.label(context, axis, i, colour, theme, true, theme.paper);
    };
    if (pinned !== null) name(flip ? "key" : "query", pinned, theme.mark);
    if (focus) {
      name("query", focus[0], theme.ink);
      name("key", focus[1], theme.ink);
    }
  }

  band(context, x, y, width, height, colour, fill, flat) {
    context.strokeStyle = colour;
    context.lineWidth = this.cell < 4 ? 0.6 : 1.2;
    context.globalAlpha = 0.85;
    context.beginPath();
    if (flat) {
      context.moveTo(x, y);
      context.lineTo(x + width, y);
      context.moveTo(x, y + height);
      context.lineTo(x + width, y + height);
    } else {
      context.moveTo(x, y);
      context.lineTo(x, y + height);
      context.moveTo(x + width, y);
      context.lineTo(x + width, y + height);
    }
    context.stroke();
    if (fill) {
      context.globalAlpha = 0.1;
      context.fillStyle = colour;
      context.fillRect(x, y, width, height);
    }
    context.globalAlpha = 1;
  }
}

export function short(text, longest = 14) {
  const letters = [...text];
  return letters.length <= longest ? text : `${letters.slice(0, longest - 1).join("")}…`;
}
