// Attention followed back from one token through the layers: tokens across, layers upwards.

import { sized } from "./atlas.js";
import { short } from "./map.js";

export const LEAST = 0.05; // an edge below this is not followed: the token's own stream goes on

// The strongest edges of every layer, from the last one down, each followed on from its key.
// Returns one step a layer; where rows are not here yet it stops, and `missing` says which they are.
export function follow(store, start, { width, skipFirst, by }, missing = []) {
  const { main } = store;
  let frontier = new Map([[start, 1]]);
  const steps = [];
  for (let layer = main.layers - 1; layer >= 0; layer--) {
    const edges = [];
    const absent = [...frontier.keys()].filter((query) => store.rows(layer, query) === null);
    missing.push(...absent.map((query) => `row/${layer}/${query}`));
    if (absent.length) break;
    for (const [query, share] of frontier) {
      const rows = store.rows(layer, query);
      rows.forEach((row, head) => {
        const norms = by === "weighted" ? main.norms(layer, head) : null;
        let total = 1;
        if (norms) {
          total = row.reduce((sum, weight, key) => sum + weight * norms[key], 0) || 1;
        }
        for (let key = skipFirst ? 1 : 0; key < row.length; key++) {
          const weight = norms ? (row[key] * norms[key]) / total : row[key];
          if (weight >= LEAST && key !== query)
            edges.push({ layer, head, query, key, weight, share: share * weight });
        }
      });
    }
    edges.sort((a, b) => b.share - a.share || a.query - b.query);
    const best = edges.slice(0, width);
    const next = new Map();
    for (const { key, share } of best) next.set(key, Math.max(next.get(key) ?? 0, share));
    for (const [query, share] of frontier) {
      if (next.size < width && !best.some((edge) => edge.query === query))
        next.set(query, Math.max(next.get(query) ?? 0, share));
    }
    steps.push({ layer, edges: best, stays: [...frontier.keys()].filter((q) => next.has(q)) });
    frontier = next;
  }
  return steps;
}

export class PathView {
  constructor(canvas, over) {
    Object.assign(this, { canvas, over });
  }

  layOut(width, layers, n) {
    Object.assign(this, { width, n, layers, left: 34, right: 16, top: 52 });
    this.row = Math.max(16, Math.min(60, 480 / layers));
    this.step = (width - this.left - this.right) / n;
    this.height = Math.ceil(this.top + layers * this.row + 96);
  }

  x(i) {
    return this.left + (i + 0.5) * this.step;
  }
  y(level) {
    return this.top + (this.layers - level) * this.row;
  }

  at(px, py) {
    const i = Math.floor((px - this.left) / this.step);
    return i >= 0 && i < this.n ? [i, null] : null;
  }

  draw({ steps, start, tokens, theme, title, subtitle }, ratio) {
    const context = sized(this.canvas, this.width, this.height, ratio);
    context.font = `600 15px ${theme.font}`;
    context.fillStyle = theme.ink;
    context.fillText(title, 8, 16);
    context.font = `12px ${theme.font}`;
    context.fillStyle = theme.soft;
    context.fillText(subtitle, 8, 34);
    this.ground(context, theme);
    this.edges = [];
    this.named = [];
    const touched = new Set([start]);
    for (const { layer, edges, stays } of steps ?? []) {
      for (const at of stays) this.line(context, at, layer + 1, at, layer, theme.soft, 1.2, [2, 3]);
      for (const edge of edges) {
        touched.add(edge.key);
        this.edges.push(edge);
        context.globalAlpha = Math.min(1, 0.25 + edge.weight);
        this.line(
          context,
          edge.query,
          layer + 1,
          edge.key,
          layer,
          theme.overlays[0],
          1 + 4 * edge.weight,
          [],
        );
        context.globalAlpha = 1;
      }
    }
    for (const edge of this.edges) this.name(context, edge, theme);
    this.tokens(context, tokens, touched, start, theme);
  }

  ground(context, theme) {
    context.textAlign = "right";
    context.textBaseline = "middle";
    context.font = `10.5px ${theme.font}`;
    for (let level = 0; level <= this.layers; level++) {
      context.strokeStyle = theme.rule;
      context.lineWidth = 1;
      context.beginPath();
      context.moveTo(this.left, this.y(level));
      context.lineTo(this.width - this.right, this.y(level));
      context.stroke();
      context.fillStyle = theme.soft;
      if (level < this.layers) context.fillText(`L${level}`, this.left - 6, this.y(level + 0.5));
    }
    context.textBaseline = "alphabetic";
    context.textAlign = "left";
  }

  line(context, from, high, to, low, colour, width, dash) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.setLineDash(dash);
    context.beginPath();
    context.moveTo(this.x(from), this.y(high));
    const middle = (this.y(high) + this.y(low)) / 2;
    context.bezierCurveTo(this.x(from), middle, this.x(to), middle, this.x(to), this.y(low));
    context.stroke();
    context.setLineDash([]);
    context.fillStyle = colour;
    for (const [i, level] of [
      [from, high],
      [to, low],
    ]) {
      context.beginPath();
      context.arc(this.x(i), this.y(level), 2.6, 0, 7);
      context.fill();
    }
  }

  // A label where it meets no other: in the middle of its edge, or nearer to an end.
  name(context, { head, query, key, layer, weight }, theme) {
    const text = `H${head} ${weight.toFixed(2)}`;
    context.font = `10.5px ${theme.font}`;
    const across = context.measureText(text).width + 4;
    const places = [0.5, 0.22, 0.78].map((share) => {
      const x = this.x(query) + share * (this.x(key) - this.x(query));
      const level = layer + 1 - (share === 0.5 ? 0.5 : share < 0.5 ? 0.3 : 0.7);
      return [Math.min(this.width - across, Math.max(0, x - across / 2)), this.y(level)];
    });
    const free = ([x, y]) =>
      this.named.every(([u, v, w]) => x + across < u || u + w < x || Math.abs(y - v) > 12);
    const place = places.find(free);
    if (!place) return;
    const [x, y] = place;
    this.named.push([x, y, across]);
    context.fillStyle = theme.paper;
    context.globalAlpha = 0.85;
    context.fillRect(x, y - 7, across, 14);
    context.globalAlpha = 1;
    context.fillStyle = theme.ink;
    context.fillText(text, x + 2, y + 4);
  }

  tokens(context, tokens, touched, start, theme) {
    const every = Math.max(1, Math.ceil(13 / this.step));
    context.textAlign = "right";
    context.textBaseline = "middle";
    tokens.forEach((token, i) => {
      const near = [...touched].some((at) => at !== i && Math.abs(at - i) * this.step < 13);
      if (!touched.has(i) && (i % every || near)) return;
      context.save();
      context.translate(this.x(i) + 3, this.y(0) + 8);
      context.rotate(-Math.PI / 3);
      context.font = `${touched.has(i) ? 600 : 400} 11px ${theme.font}`;
      context.fillStyle = i === start ? theme.mark : touched.has(i) ? theme.ink : theme.soft;
      context.fillText(`${short(token)} ${i}`, 0, 0);
      context.restore();
    });
    context.textBaseline = "alphabetic";
    context.textAlign = "left";
  }

  mark({ focus, theme }, ratio) {
    const context = sized(this.over, this.width, this.height, ratio);
    if (!focus || focus[0] === null) return;
    context.fillStyle = theme.ink;
    context.globalAlpha = 0.06;
    context.fillRect(this.left + focus[0] * this.step, this.top, this.step, this.layers * this.row);
    context.globalAlpha = 1;
  }
}
