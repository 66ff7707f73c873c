// The numbers of a map's cell: the one under the mouse, else the one that was clicked. The map is a
// Plotly chart beside this panel; it tells its events here, and no script of the page runs.
// Text goes in by textContent only.

const LOOK = 250; // milliseconds between two looks whether the chart has been drawn anew
// By chart and cell, what the map was about when the cell was chosen: the page may put a new panel
// in the place of this one, and the address still names the cell of the map before.
const chosenFor = new Map();

export default function ({ data, parentElement }) {
  const root = parentElement.querySelector(".panel");
  root.reader ??= new Reader(root);
  root.reader.show(data);
}

class Reader {
  constructor(root) {
    this.root = root;
    this.chosen = null;
    this.frame = make("div", "");
    this.frame.style.cssText =
      "position:absolute;border:3px solid #d55e00;pointer-events:none;box-sizing:border-box;z-index:5";
    root.tabIndex = 0;
    root.setAttribute("role", "group");
    root.setAttribute("aria-label", "The chosen cell; the arrow keys move to others");
    root.onkeydown = (event) => this.move(event);
    const clock = setInterval(() => (root.isConnected ? this.listen() : clearInterval(clock)), LOOK);
  }

  show(data) {
    const other = this.data && this.data.about !== data.about;
    this.data = data;
    const asked = new URLSearchParams(location.search).get("cell");
    if (other || (!this.chosen && asked && this.stale(asked))) this.choose(null);
    else if (!this.chosen && asked) this.choose(asked.split(",").map(Number));
    if (!this.fits(this.chosen)) this.chosen = null;
    this.draw(this.chosen);
    this.listen();
  }

  fits(cell) {
    const { rows, columns } = this.data;
    return Boolean(cell) && cell[0] in rows && cell[1] in columns;
  }

  // Whether a cell was chosen on other maps only; one that nobody chose comes from a link.
  stale(cell) {
    const maps = chosenFor.get(`${this.data.chart} ${cell}`);
    return Boolean(maps) && !maps.has(this.data.about);
  }

  // -- the chart --

  listen() {
    const plot = document.querySelector(`.st-key-${this.data.chart} .js-plotly-plot`);
    if (!plot?.on || !plot._fullLayout?.xaxis) return;
    if (plot.cellReader !== this) {
      plot.cellReader = this;
      const heard = (name, what) => plot.on(name, (event) => plot.cellReader === this && what(event));
      heard("plotly_hover", (event) => this.draw(this.under(event) ?? this.chosen));
      heard("plotly_unhover", () => this.draw(this.chosen));
      heard("plotly_click", (event) => this.choose(this.under(event)));
      heard("plotly_afterplot", () => this.mark());
    }
    this.plot = plot;
    this.root.dataset.listens = "true";
    this.mark();
  }

  // The cell under the mouse. The points of a quick click are still those of the move before.
  under({ event }) {
    const at = event.changedTouches?.[0] ?? event;
    const { xaxis: x, yaxis: y } = this.plot._fullLayout;
    const box = this.plot.getBoundingClientRect();
    const column = Math.round(x.p2l(at.clientX - box.left - x._offset));
    const row = Math.round(y.p2l(at.clientY - box.top - y._offset));
    return this.fits([row, column]) ? [row, column] : null;
  }

  mark() {
    const layout = this.plot?._fullLayout;
    if (!layout || !this.chosen) return this.frame.remove();
    const [row, column] = this.chosen;
    const { xaxis: x, yaxis: y } = layout;
    const [left, right] = [x.l2p(column - 0.5), x.l2p(column + 0.5)];
    const [top, bottom] = [y.l2p(row - 0.5), y.l2p(row + 0.5)].sort((a, b) => a - b);
    Object.assign(this.frame.style, {
      left: `${x._offset + left}px`,
      top: `${y._offset + top}px`,
      width: `${right - left}px`,
      height: `${bottom - top}px`,
    });
    if (this.frame.parentElement !== this.plot) {
      this.plot.style.position = "relative";
      this.plot.append(this.frame);
    }
  }

  // -- choosing --

  choose(cell) {
    this.chosen = this.fits(cell) ? cell : null;
    const url = new URL(location.href);
    if (this.chosen) {
      const place = `${this.data.chart} ${this.chosen}`;
      if (!chosenFor.has(place)) chosenFor.set(place, new Set());
      chosenFor.get(place).add(this.data.about);
      url.searchParams.set("cell", this.chosen.join(","));
    } else url.searchParams.delete("cell");
    history.replaceState(history.state, "", url);
    this.draw(this.chosen);
    this.mark();
  }

  move(event) {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (!(event.key in step)) return;
    event.preventDefault();
    const [down, across] = step[event.key];
    const [row, column] = this.chosen ?? [0, -1];
    const next = [row + down, column + across];
    if (this.fits(next)) this.choose(next);
  }

  // -- the numbers --

  draw(cell) {
    const { data, root } = this;
    if (!this.fits(cell)) {
      root.replaceChildren(make("p", "hint", data.hint));
      return;
    }
    const [row, column] = cell;
    const parts = [make("p", "title", `${data.rows[row]}, ${data.columns[column]}`)];
    if (data.words[column]) parts.push(make("p", "words", data.words[column]));
    const numbers = make("dl", "numbers");
    for (const [name, table] of Object.entries(data.numbers)) {
      numbers.append(make("dt", "", name), make("dd", "", table[row][column] ?? "none"));
    }
    parts.push(numbers);
    if (data.samples) parts.push(this.strip(data.samples.map((table) => table[row][column])));
    const filled = (text) => text.replaceAll("{row}", row).replaceAll("{column}", column);
    for (const [name, address] of Object.entries(data.links)) {
      const link = make("a", "", filled(name));
      link.href = filled(address);
      parts.push(link);
    }
    if (data.python) {
      const code = make("details", "");
      code.append(make("summary", "", "This cell in Python"), make("pre", "", filled(data.python)));
      code.open = Boolean(root.querySelector("details")?.open);
      parts.push(code);
    }
    root.replaceChildren(...parts);
  }

  // The effect in every pair: a point each, and a line at their mean.
  strip(values) {
    const known = values.filter((value) => value !== null);
    const low = Math.min(0, ...known);
    const high = Math.max(1, ...known);
    const place = (value) => 4 + (192 * (value - low)) / (high - low);
    const svg = shape("svg", { viewBox: "0 0 200 46", class: "strip", role: "img" });
    svg.setAttribute("aria-label", `The effect in each of ${known.length} pairs`);
    svg.append(shape("line", { x1: 4, x2: 196, y1: 30, y2: 30, class: "axis" }));
    for (const tick of [0, 1]) {
      svg.append(shape("line", { x1: place(tick), x2: place(tick), y1: 27, y2: 33, class: "axis" }));
      const text = shape("text", { x: place(tick), y: 43, "text-anchor": "middle" });
      text.textContent = tick;
      svg.append(text);
    }
    known.forEach((value, i) => {
      svg.append(shape("circle", { cx: place(value), cy: 6 + ((i * 7) % 18), r: 2.6 }));
    });
    const mean = known.reduce((sum, value) => sum + value, 0) / known.length;
    svg.append(shape("line", { x1: place(mean), x2: place(mean), y1: 2, y2: 28, class: "mean" }));
    return svg;
  }
}

function make(tag, className, text = "") {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

function shape(tag, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  return made;
}
