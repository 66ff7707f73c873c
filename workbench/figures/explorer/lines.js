// One head, or several in colours, as lines from the tokens that look (left) to the tokens looked at (right).

import { lastKey, rowAt } from "./block.js";
import { sized } from "./atlas.js";
import { short } from "./map.js";

const MOST = 72,
  FAINT = 0.02; // tokens side by side; weights that are not drawn

export class LinesView {
  constructor(canvas, over) {
    Object.assign(this, { canvas, over, first: 0 });
  }

  layOut(width, n, around) {
    const count = Math.min(n, MOST);
    this.first = n <= MOST ? 0 : Math.max(0, Math.min(n - count, (around ?? n - 1) - count + 8));
    this.last = this.first + count;
    this.row = count <= 24 ? 22 : count <= 48 ? 17 : 14;
    this.width = width;
    this.top = 62;
    this.height = this.top + count * this.row + 8;
    this.left = width * 0.3;
    this.right = width * 0.7;
  }

  y(i) {
    return this.top + (i - this.first + 0.5) * this.row;
  }

  // The token under a point, and on which side.
  at(px, py) {
    const i = this.first + Math.floor((py - this.top) / this.row);
    if (i < this.first || i >= this.last || py < this.top) return null;
    return px < this.width / 2 ? [i, null] : [null, i];
  }

  draw(shown, ratio) {
    this.shown = shown;
    this.tops = shown.tops;
    const context = sized(this.canvas, this.width, this.height, ratio);
    const { theme, title, subtitle } = shown;
    context.fillStyle = theme.ink;
    context.font = `600 15px ${theme.font}`;
    context.fillText(title, 8, 16);
    context.font = `12px ${theme.font}`;
    context.fillStyle = theme.soft;
    const part =
      this.last - this.first < shown.tokens.length
        ? `; tokens ${this.first} to ${this.last - 1} of ${shown.tokens.length}`
        : "";
    context.fillText(subtitle + part, 8, 34);
    this.keys(context, shown);
    context.textAlign = "right";
    context.fillText("looks", this.left - 8, 54);
    context.textAlign = "left";
    context.fillText("is looked at", this.right + 8, 54);
    this.lines(context, null, 0.55);
    this.words(context, null);
  }

  keys(context, { heads, theme }) {
    context.font = `600 12px ${theme.font}`;
    context.textAlign = "right";
    let x = this.width - 8;
    heads.toReversed().forEach((name, i) => {
      context.fillStyle = theme.overlays[heads.length - 1 - i];
      context.fillText(name, x, 16);
      x -= context.measureText(name).width + 14;
    });
    context.font = `12px ${theme.font}`;
    context.fillStyle = theme.soft;
  }

  lines(context, focus, strength) {
    const { matrices, theme, least, signed } = this.shown;
    const last = (matrix, query) => Math.min(this.last - 1, lastKey(matrix, query));
    matrices.forEach((matrix, m) => {
      for (let query = this.first; query < this.last; query++) {
        if (focus && focus[0] !== null && focus[0] !== query) continue;
        for (let key = this.first; key <= last(matrix, query); key++) {
          if (focus && focus[1] !== null && focus[1] !== key) continue;
          const value = matrix.values[rowAt(matrix, query) + key];
          const share = Math.min(1, Math.abs(value) / this.tops[m]);
          if (share < FAINT || Math.abs(value) < least) continue;
          context.strokeStyle =
            signed && value < 0 ? theme.overlays[1] : theme.overlays[matrices.length > 1 ? m : 0];
          context.globalAlpha = strength * Math.min(1, 0.06 + share);
          context.lineWidth = 0.8 + 2.4 * share;
          context.beginPath();
          const middle = (this.left + this.right) / 2;
          context.moveTo(this.left, this.y(query));
          context.bezierCurveTo(
            middle,
            this.y(query),
            middle,
            this.y(key),
            this.right,
            this.y(key),
          );
          context.stroke();
        }
      }
    });
    context.globalAlpha = 1;
  }

  words(context, focus) {
    const { tokens, theme, matrices, sought } = this.shown;
    context.font = `${Math.min(13, this.row - 3)}px ${theme.font}`;
    context.textBaseline = "middle";
    for (let i = this.first; i < this.last; i++) {
      for (const side of [0, 1]) {
        const own = focus && focus[side] === i;
        context.globalAlpha = 1;
        context.textAlign = side ? "left" : "right";
        const x = side ? this.right + 8 : this.left - 8;
        if (focus && focus[1 - side] !== null && !own)
          this.bars(context, focus, side, i, x, matrices, theme);
        context.globalAlpha = 1;
        context.fillStyle = own || sought.has(i) ? theme.mark : theme.ink;
        context.fillText(`${short(tokens[i], 18)}`, x, this.y(i));
      }
    }
    context.textBaseline = "alphabetic";
  }

  // Behind a token: how much of the focused token's attention it has, a stripe a head.
  bars(context, focus, side, i, x, matrices, theme) {
    const [query, key] = side ? [focus[0], i] : [i, focus[1]];
    if (key > lastKey(matrices[0], query)) return;
    const height = (this.row - 2) / matrices.length;
    matrices.forEach((matrix, m) => {
      const share = Math.min(1, Math.abs(matrix.values[rowAt(matrix, query) + key]) / this.tops[m]);
      context.globalAlpha = 0.3;
      context.fillStyle = theme.overlays[m];
      const across = share * (this.width * 0.26);
      context.fillRect(
        side ? x - 3 : x + 3 - across,
        this.y(i) - this.row / 2 + 1 + m * height,
        across,
        height,
      );
    });
  }

  // The focused token's lines alone, over the faded rest.
  mark({ focus, pinned, flip, theme }, ratio) {
    const context = sized(this.over, this.width, this.height, ratio);
    const held = pinned === null ? null : flip ? [null, pinned] : [pinned, null];
    const of = focus && (focus[0] !== null || focus[1] !== null) ? focus : held;
    if (!of || !this.shown) return;
    context.fillStyle = theme.paper;
    context.globalAlpha = 0.88;
    context.fillRect(0, this.top - 4, this.width, this.height);
    context.globalAlpha = 1;
    this.lines(context, of, 0.95);
    this.words(context, of);
  }
}
