// All heads at a glance: layers down, heads across, deep models continued in further blocks of columns.

import { cells, lastKey, rowAt } from "./block.js";
import { blockOf, largest } from "./store.js";
import { paint, paintOver, pixelsOf } from "./colours.js";

const MOST_SIDE = 96; // dots along a thumbnail's picture; more than that are pooled for it
const APART = 3; // dots between two pictures, lest one bleeds into the next where it is scaled

export const nameOf = (layer, head) => `L${layer}H${head}`;

// As many dots as a thumbnail shows: the sum over keys, the mean over queries.
export function shrink(matrix, side) {
  const { n, values } = matrix;
  const small = { n: side, square: matrix.square };
  if (n <= side) return matrix;
  const at = new Int32Array(n);
  for (let i = 0; i < side; i++) {
    const [first, last] = blockOf(i, side, n);
    at.fill(i, first, last + 1);
  }
  const found = new Float32Array(cells(small));
  for (let query = 0, from = 0; query < n; query++) {
    const [first, last] = blockOf(at[query], side, n);
    const row = rowAt(small, at[query]);
    const share = 1 / (last - first + 1);
    for (let key = 0; key <= lastKey(matrix, query); key++, from++)
      found[row + at[key]] += values[from] * share;
  }
  return { ...matrix, n: side, values: found };
}

// Dots along a side of what is worth drawing: of cross-attention the longer of its two texts.
const lookedAt = ({ n, read }) => (read ? Math.max(read, n - read) : n);

// Of cross-attention the rows that look and the columns looked at, as a square.
function crossed(matrix) {
  const { n, read, values } = matrix;
  if (!read) return matrix;
  const size = lookedAt(matrix);
  const found = new Float32Array(size * size);
  for (let query = n - size; query < n; query++) {
    const from = rowAt(matrix, query);
    const last = Math.min(size - 1, lastKey(matrix, query));
    for (let key = 0; key <= last; key++) found[(query - n + size) * size + key] = values[from + key];
  }
  return { ...matrix, n: size, square: true, read: 0, values: found };
}

export class AtlasView {
  constructor(canvas, over, store) {
    Object.assign(this, { canvas, over, store });
    this.sheet = document.createElement("canvas");
    this.side = Math.min(lookedAt(store.main.tiled), MOST_SIDE);
  }

  // Blocks so that the whole comes as near to the wished height as whole layers allow.
  layOut(width, aspect) {
    const { layers, heads } = this.store.main;
    const edge = 26,
      gap = 14,
      top = 18;
    let best = null;
    for (let blocks = 1; blocks <= layers; blocks++) {
      const rows = Math.ceil(layers / blocks);
      if (Math.ceil(layers / rows) !== blocks) continue;
      const cell = Math.min(96, (width - blocks * edge - (blocks - 1) * gap) / (blocks * heads));
      if (cell < 4) break;
      const miss = Math.abs(Math.log((rows * cell + top) / (width * aspect)));
      if (best === null || miss < best.miss) best = { blocks, rows, cell, miss };
    }
    best ??= { blocks: 1, rows: layers, cell: Math.max(2, (width - edge) / heads) };
    Object.assign(this, best, { edge, gap, top, width });
    this.height = Math.ceil(top + best.rows * best.cell + 2);
  }

  place(layer, head) {
    const block = Math.floor(layer / this.rows);
    const x =
      this.edge +
      block * (this.edge + this.gap + this.store.main.heads * this.cell) +
      head * this.cell;
    return [x, this.top + (layer % this.rows) * this.cell];
  }

  // The head at a point of the canvas, or null.
  at(x, y) {
    const { layers, heads } = this.store.main;
    const step = this.edge + this.gap + heads * this.cell;
    const block = Math.floor(x / step);
    const head = Math.floor((x - block * step - this.edge) / this.cell);
    const row = Math.floor((y - this.top) / this.cell);
    const layer = block * this.rows + row;
    const inside =
      head >= 0 && head < heads && row >= 0 && row < this.rows && layer >= 0 && layer < layers;
    return inside ? [layer, head] : null;
  }

  // The pictures of all heads, drawn once for a measure and a theme; a chosen head changes nothing here.
  fill(view, theme) {
    const { layers, heads } = this.store.main;
    const key = JSON.stringify([view.by, view.less, view.least, theme.dark]);
    if (this.filled === key) return;
    this.filled = key;
    const { side, sheet } = this,
      pitch = side + APART;
    [sheet.width, sheet.height] = [heads * pitch, layers * pitch];
    const context = sheet.getContext("2d");
    const image = context.createImageData(sheet.width, sheet.height);
    const pixels = new Uint32Array(image.data.buffer).fill(pixelsOf(theme.blank));
    const found = [];
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < heads; head++) found.push(this.tile(view, layer, head));
    }
    const top = view.by === "weighted" || view.less ? Math.max(...found.map(largest)) : 1;
    found.forEach((matrix, i) => {
      const [x, y] = [(i % heads) * pitch, Math.floor(i / heads) * pitch];
      paint(pixels, sheet.width, x, y, matrix, {
        top,
        signed: Boolean(view.less),
        least: 0,
        theme,
      });
    });
    context.putImageData(image, 0, 0);
    this.times = 0;
  }

  // The same pictures a whole number of times as large: then scaled down smoothly, dots stay sharp and even.
  enlarge(times) {
    if (this.times === times) return;
    const { sheet } = this;
    this.large ??= document.createElement("canvas");
    [this.large.width, this.large.height] = [sheet.width * times, sheet.height * times];
    const context = this.large.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(sheet, 0, 0, this.large.width, this.large.height);
    this.times = times;
  }

  tile(view, layer, head) {
    const { main, other } = this.store;
    const one = (source, l, h) => {
      const tile = { ...source.tiled, values: source.tile(l, h) };
      return shrink(crossed(this.store.weighted(source, l, h, view.by, tile)), this.side);
    };
    const shown = one(main, layer, head);
    if (!view.less) return shown;
    const less = view.less === "other" ? one(other, layer, head) : one(main, ...view.less);
    if (less.n !== shown.n) return shown;
    return { ...shown, values: shown.values.map((value, i) => value - less.values[i]) };
  }

  draw(view, theme, ratio) {
    this.fill(view, theme);
    const key = JSON.stringify([this.filled, this.width, this.cell, ratio]);
    if (this.drawn === key) return;
    this.drawn = key;
    const { canvas, side, cell } = this;
    const context = sized(canvas, this.width, this.height, ratio);
    this.words(context, theme);
    const times = Math.max(1, Math.min(6, Math.ceil((cell * ratio) / side)));
    this.enlarge(times);
    context.imageSmoothingQuality = "high";
    const from = side * times,
      pitch = (side + APART) * times;
    const inner = cell - Math.max(1, cell * 0.06);
    const { layers, heads } = this.store.main;
    for (let layer = 0; layer < layers; layer++) {
      for (let head = 0; head < heads; head++) {
        const [x, y] = this.place(layer, head);
        context.drawImage(this.large, head * pitch, layer * pitch, from, from, x, y, inner, inner);
      }
    }
  }

  words(context, theme) {
    const { layers, heads } = this.store.main;
    context.font = `10.5px ${theme.font}`;
    context.fillStyle = theme.soft;
    const every = Math.max(1, Math.ceil((heads > 9 ? 22 : 17) / this.cell));
    const down = Math.max(1, Math.ceil(12 / this.cell));
    for (let layer = 0; layer < layers; layer++) {
      const [x, y] = this.place(layer, 0);
      context.textAlign = "right";
      context.textBaseline = "middle";
      if ((layer % this.rows) % down === 0) context.fillText(`L${layer}`, x - 4, y + this.cell / 2);
      if (layer % this.rows) continue;
      context.textAlign = "center";
      context.textBaseline = "bottom";
      for (let head = 0; head < heads; head += every) {
        context.fillText(`H${head}`, this.place(layer, head)[0] + this.cell / 2, this.top - 3);
      }
    }
  }

  // Frames: the head in view, those laid over it, and the one under the mouse.
  frame({ chosen, over, hovered }, theme, ratio) {
    const context = sized(this.over, this.width, this.height, ratio);
    const inner = this.cell - Math.max(1, this.cell * 0.06);
    const box = ([layer, head], colour, line) => {
      const [x, y] = this.place(layer, head);
      context.strokeStyle = colour;
      context.lineWidth = line;
      context.strokeRect(x - line / 2, y - line / 2, inner + line, inner + line);
    };
    if (hovered) box(hovered, theme.soft, 1.5);
    over.forEach((head, i) => box(head, theme.overlays[i], 2.5));
    if (chosen && !over.length) box(chosen, theme.mark, 2.5);
  }
}

// A canvas of so many CSS pixels at the screen's own resolution, cleared.
export function sized(canvas, width, height, ratio) {
  const [across, down] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== across || canvas.height !== down) {
    [canvas.width, canvas.height] = [across, down];
    canvas.style.width = `${width}px`;
    canvas.style.height = `${height}px`;
  }
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  context.clearRect(0, 0, width, height);
  return context;
}
