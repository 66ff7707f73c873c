// Weights of heads: whole where they are known, pooled until then, and what is worked out from them.

import { cells, lastKey, openBlock, rowAt, weights } from "./block.js";

const KEPT = 48; // triangles kept unpacked; at 512 tokens half a megabyte each
const MOST_FETCHED = 300; // answers of the server kept: triangles, means, rows

class Source {
  constructor(block, header, prefix) {
    Object.assign(this, header);
    this.part = (name) => block.part(prefix + name);
    this.levels = this.part("levels");
    this.scale = this.part("scale");
    this.whole = this.side === this.n;
    this.square = !this.causal;
    this.tiled = {
      n: this.side,
      square: this.square,
      read: Math.floor((this.read * this.side) / this.n),
    };
    this.fetched = new Map();
    this.waiting = new Map();
    this.ready = new Map();
    const norms = this.part("norm_levels");
    this.hasValues = norms !== null;
  }

  tile(layer, head) {
    const place = layer * this.heads + head;
    return weights(
      this.levels,
      this.scale,
      this.tiled,
      place * cells(this.tiled),
      place * this.side,
    );
  }

  // The whole triangle or square, or null while it is not here.
  triangle(layer, head) {
    const name = `${layer}/${head}`;
    if (!this.ready.has(name)) {
      const found = this.whole ? this.tile(layer, head) : this.fetched.get(name);
      if (!found) return null;
      this.keep(name, found);
    }
    return this.ready.get(name);
  }

  keep(name, values) {
    this.ready.set(name, values);
    if (this.ready.size > KEPT) this.ready.delete(this.ready.keys().next().value);
  }

  takeChosen([layer, head]) {
    const levels = this.part("one_levels");
    if (levels)
      this.fetched.set(`${layer}/${head}`, weights(levels, this.part("one_scale"), this));
  }

  norms(layer, head) {
    const levels = this.part("norm_levels");
    if (!levels) return null;
    const place = layer * this.heads + head;
    const unit = this.part("norm_scale")[place] / (levels.BYTES_PER_ELEMENT === 2 ? 65535 : 255);
    return Float32Array.from(
      levels.subarray(place * this.n, (place + 1) * this.n),
      (v) => v * unit,
    );
  }

  triangleOf(buffer) {
    const scale = new Float32Array(buffer, 0, this.n);
    return weights(new Uint16Array(buffer, 4 * this.n), scale, this);
  }

  // One row of every head of a layer.
  rowsOf(buffer) {
    const scale = new Float32Array(buffer, 0, this.heads);
    const levels = new Uint16Array(buffer, 4 * this.heads);
    const length = levels.length / this.heads;
    return Array.from(scale, (unit, head) =>
      Float32Array.from(
        levels.subarray(head * length, (head + 1) * length),
        (v) => (v * unit) / 65535,
      ),
    );
  }

  // Asks the server for a triangle by HTTP; what is asked twice is fetched once.
  fetch(name) {
    if (this.fetched.has(name)) return Promise.resolve(true);
    if (!this.url) return Promise.resolve(false);
    if (!this.waiting.has(name)) {
      const asked = fetch(new URL(`${this.url}/${name}`, document.baseURI))
        .then((answer) =>
          answer.ok ? answer.arrayBuffer() : Promise.reject(new Error(answer.status)),
        )
        .then((buffer) => {
          this.fetched.set(
            name,
            name.startsWith("row/") ? this.rowsOf(buffer) : this.triangleOf(buffer),
          );
          if (this.fetched.size > MOST_FETCHED)
            this.fetched.delete(this.fetched.keys().next().value);
          return true;
        })
        .catch(() => false)
        .finally(() => this.waiting.delete(name));
      this.waiting.set(name, asked);
    }
    return this.waiting.get(name);
  }
}

export class Store {
  constructor(bytes) {
    const block = openBlock(bytes);
    this.header = block.header;
    this.bytes = block.bytes;
    this.main = new Source(block, block.header, "");
    this.main.takeChosen(block.header.chosen);
    this.other = block.header.other ? new Source(block, block.header.other, "other_") : null;
    if (this.other) this.other.takeChosen(block.header.chosen);
    this.made = new Map();
  }

  // What a view shows: { n, values, pooled }. `wanted` collects what would have to be fetched for it.
  matrix(view, wanted = []) {
    const name = JSON.stringify([view.layer, view.head, view.by, view.mean, view.less]);
    if (this.made.has(name)) return this.made.get(name);
    const before = wanted.length;
    let shown = this.plain(this.main, view, wanted);
    if (view.less) {
      const less =
        view.less === "other"
          ? { ...view, source: this.other }
          : { ...view, mean: "", layer: view.less[0], head: view.less[1] };
      let taken = this.plain(less.source ?? this.main, less, wanted);
      if (taken.pooled !== shown.pooled) {
        shown = this.plain(this.main, view, [], true);
        taken = this.plain(less.source ?? this.main, less, [], true);
      }
      shown = {
        ...shown,
        values: shown.values.map((value, i) => value - taken.values[i]),
        signed: true,
      };
    }
    if (wanted.length === before) {
      this.made.set(name, shown);
      if (this.made.size > KEPT) this.made.delete(this.made.keys().next().value);
    }
    return shown;
  }

  plain(source, { layer, head, by, mean }, wanted, pooled = false) {
    if (mean) return this.mean(source, { layer, by, mean }, wanted, pooled);
    const values = pooled ? null : source.triangle(layer, head);
    if (values)
      return this.weighted(source, layer, head, by, { ...shapeOf(source), values, pooled: false });
    if (!pooled && source.url) wanted.push([source, `${layer}/${head}`]);
    return this.weighted(source, layer, head, by, {
      ...source.tiled,
      values: source.tile(layer, head),
      pooled: !source.whole,
    });
  }

  mean(source, { layer, by, mean }, wanted, pooled) {
    const name = mean === "all" ? `mean/all/${by}` : `mean/${layer}/${by}`;
    const known = pooled ? null : source.fetched.get(name);
    if (known) return { ...shapeOf(source), values: known, pooled: false };
    if (!source.whole && source.url && !pooled) wanted.push([source, name]);
    const layers = mean === "all" ? [...Array(source.layers).keys()] : [layer];
    const sum = new Float32Array(cells(source.tiled));
    for (const l of layers) {
      for (let head = 0; head < source.heads; head++) {
        const tile = { ...source.tiled, values: source.tile(l, head), pooled: !source.whole };
        const { values } = this.weighted(source, l, head, by, tile);
        for (let i = 0; i < sum.length; i++) sum[i] += values[i];
      }
    }
    const count = layers.length * source.heads;
    const values = sum.map((v) => v / count);
    const found = { ...source.tiled, values, pooled: !source.whole };
    if (source.whole) source.fetched.set(name, found.values);
    return found;
  }

  weighted(source, layer, head, by, matrix) {
    if (by !== "weighted") return matrix;
    const norms = source.norms(layer, head);
    if (!norms) return matrix;
    const { n, values } = matrix;
    const lengths = n === source.n ? norms : blocks(norms, n);
    const found = new Float32Array(values.length);
    for (let query = 0, at = 0; query < n; query++) {
      for (let key = 0; key <= lastKey(matrix, query); key++, at++)
        found[at] = values[at] * lengths[key];
    }
    return { ...matrix, values: found };
  }

  // What all heads of a layer give from one query: a row a head, or null where that has to be fetched.
  rows(layer, query) {
    const { main } = this;
    if (!main.whole) return main.fetched.get(`row/${layer}/${query}`) ?? null;
    return Array.from({ length: main.heads }, (_, head) =>
      main
        .triangle(layer, head)
        .subarray(rowAt(main, query), rowAt(main, query) + lastKey(main, query) + 1),
    );
  }
}

const shapeOf = ({ n, square, read }) => ({ n, square, read });

const blockStart = (i, side, n) => Math.floor((i * n) / side);

function blocks(numbers, side) {
  return Float32Array.from({ length: side }, (_, i) => {
    const part = numbers.subarray(
      blockStart(i, side, numbers.length),
      blockStart(i + 1, side, numbers.length),
    );
    return part.reduce((sum, v) => sum + v, 0) / part.length;
  });
}

// The tokens of a dot of a pooled map: first and last position.
export function blockOf(i, side, n) {
  return [blockStart(i, side, n), blockStart(i + 1, side, n) - 1];
}

export function largest(matrix) {
  let top = 0;
  for (const value of matrix.values) top = Math.max(top, Math.abs(value));
  return top || 1;
}
