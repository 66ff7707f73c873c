// The attention explorer: all heads, one head in full, the tokens; each answers to the others, in the browser alone.

import { rowAt, unzip } from "./block.js";
import { themeOf } from "./colours.js";
import { Store, blockOf, largest } from "./store.js";
import { AtlasView, nameOf } from "./atlas.js";
import { MapView } from "./map.js";
import { LinesView } from "./lines.js";
import { PathView, follow } from "./path.js";
import { TextView, element } from "./text.js";
import { headOf, readAddress, writeAddress } from "./address.js";
import { Bar, press } from "./bar.js";
import { saveCsv, savePng } from "./save.js";
import { drawPairs, say } from "./words.js";
import { listen } from "./hands.js";

const HIGHEST = 720; // pixels that a picture may be high
const FRESH = { shown: "map", flip: false, by: "attention", mean: "", less: null, over: [], laying: false, least: 0, seek: "", edges: 1, skipFirst: true, pinned: null, first: false };

class Explorer {
  constructor(root) {
    this.root = root;
    this.state = null;
    this.focus = null;
    this.hovered = null;
    this.build();
    this.watch = new ResizeObserver(() => this.store && Math.abs(root.clientWidth - this.width) > 1 && this.redraw());
    this.watch.observe(root);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", () => this.store && this.redraw());
  }

  build() {
    const { root } = this;
    root.tabIndex = -1;
    this.bar = element("div", "bar");
    const panels = element("div", "panels");
    const atlas = element("figure", "atlas"), head = element("figure", "head");
    this.caption = element("figcaption");
    const stack = (name, label) => {
      const box = element("div", `stack ${name}`);
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", label);
      box.append(element("canvas", "under"), element("canvas", "over"));
      return box;
    };
    this.heads = stack("heads", "All heads. Arrow keys open the next head or layer.");
    this.one = stack("one", "The open head. Arrow keys open the next head or layer, plus and minus zoom, f turns the direction, Escape lets go.");
    this.zooms = element("div", "zooms");
    this.zooms.append(press("+", "Zoom in (plus)", () => this.zoom(0.7)), press("−", "Zoom out (minus)", () => this.zoom(1 / 0.7)), press("⤢", "The whole map (0)", () => this.zoom(Infinity)));
    this.note = element("div", "note");
    this.says = element("div", "says");
    this.says.setAttribute("aria-live", "polite");
    this.text = element("div", "text");
    this.text.dir = "auto";
    this.list = element("details", "pairs");
    this.list.append(element("summary", "", "Strongest pairs"), element("div", "table"));
    this.list.ontoggle = () => drawPairs(this);
    atlas.append(this.caption, this.heads);
    const holder = element("div", "holder");
    holder.append(this.one, this.zooms);
    head.append(holder, this.note);
    panels.append(atlas, head);
    root.replaceChildren(this.bar, panels, this.says, this.text, this.list);
    listen(this);
  }

  // Another payload: what the reader set stays while it means the same, the rest is chosen anew.
  load(bytes, address) {
    const before = this.store;
    this.store = new Store(bytes);
    const { main, other, header } = this.store;
    const state = this.state ?? { ...FRESH, layer: null, ...(address ? readAddress(main, Boolean(other)) : {}) };
    if (state.layer !== null && this.state === null) state.own = true;
    const there = state.layer !== null && state.layer < main.layers && state.head < main.heads;
    if (!there || !state.own) [state.layer, state.head] = header.chosen;
    const same = before && String(before.main.tokens) === String(main.tokens);
    if (before && !same) Object.assign(state, { pinned: null });
    state.over = state.over.filter(([layer, head]) => layer < main.layers && head < main.heads);
    if (state.less === "other" ? !other : state.less && (state.less[0] >= main.layers || state.less[1] >= main.heads)) state.less = null;
    if (other && (!before || !before.other || before.other.name !== other.name)) state.less = "other";
    if (!main.hasValues) state.by = "attention";
    if (state.over.length > 1) state.laying = true;
    this.state = state;
    this.address = address;
    this.focus = this.hovered = null;
    const [under, over] = this.heads.children;
    this.atlas = new AtlasView(under, over, this.store);
    const [map, marks] = this.one.children;
    this.map = new MapView(map, marks);
    this.lines = new LinesView(map, marks);
    this.path = new PathView(map, marks);
    this.tokens = new TextView(this.text, main, { onFocus: (i) => this.point(i), onPin: (i) => this.pin(i) });
    this.controls = new Bar(this.bar, this.store, this);
    const size = main.whole ? "" : ` Of a prompt this long each is pooled: a dot is about ${(main.n / main.side).toFixed(1)} tokens.`;
    this.caption.replaceChildren(element("b", "", `All ${main.layers * main.heads} heads`), `Click one, or use the arrow keys. Rows look at columns; darker is more.${size}`);
    this.root.dataset.id = header.id;
    this.redraw();
  }

  // ---- what can be done

  set(change) {
    Object.assign(this.state, change);
    if (change.laying === false) this.state.over = [];
    if (change.laying) this.state.over = [[this.state.layer, this.state.head]];
    this.refresh();
  }

  open(name) {
    const found = Array.isArray(name) ? name : headOf(name, this.store.main);
    if (!found) return;
    [this.state.layer, this.state.head] = found;
    Object.assign(this.state, { own: true, mean: this.state.mean === "all" ? "" : this.state.mean });
    this.refresh();
  }

  step(down, right) {
    const { layers, heads } = this.store.main;
    const { layer, head } = this.state;
    this.open([(layer + down + layers) % layers, (head + right + heads) % heads]);
  }

  lay(at) {
    const { state } = this;
    const rest = state.over.filter(([l, h]) => l !== at[0] || h !== at[1]);
    if (!state.over.length && !state.laying) rest.push([state.layer, state.head]);
    if (rest.length === state.over.length || !state.over.length) rest.push(at);
    state.over = rest.slice(-6);
    state.laying = state.over.length > 0;
    if (state.over.length) [state.layer, state.head] = state.over[state.over.length - 1];
    Object.assign(state, { own: true, mean: "", less: null });
    this.refresh();
  }

  minus(value) {
    this.set({ less: value === "other" ? "other" : headOf(value, this.store.main), over: [], laying: false });
  }

  pin(i) {
    this.set({ pinned: this.state.pinned === i ? null : i });
  }

  point(i) {
    this.focus = i === null ? null : this.state.flip ? [null, i] : [i, null];
    this.fromText = i !== null;
    this.mark();
  }

  zoom(factor, x, y) {
    if (this.state.shown !== "map") return;
    this.map.zoom(factor, x, y);
    this.drawHead();
    this.mark();
  }

  pan(dx, dy) {
    this.map.pan(dx, dy);
    this.drawHead();
    this.mark();
  }

  nextFound() {
    const found = [...this.sought];
    if (!found.length) return;
    const next = found.find((i) => i > (this.state.pinned ?? -1)) ?? found[0];
    this.set({ pinned: next });
  }

  // ---- drawing

  redraw() {
    this.theme = themeOf(this.root);
    this.ratio = Math.min(3, window.devicePixelRatio || 1);
    this.width = this.root.clientWidth;
    this.atlas.layOut(this.heads.parentElement.clientWidth, this.width < 640 ? 1.5 : 1.02);
    this.heads.dataset.plot = [...this.atlas.place(0, 0), this.atlas.cell].join(" ");
    this.refresh();
  }

  get view() {
    const { layer, head, by, mean, less } = this.state;
    return { layer, head, by, mean, less };
  }

  get sought() {
    const word = this.state.seek.toLowerCase();
    const { tokens } = this.store.main;
    return new Set(word ? tokens.flatMap((token, i) => (token.toLowerCase().includes(word) ? [i] : [])) : []);
  }

  refresh() {
    const { state, theme, ratio } = this;
    this.seeking = this.sought;
    this.controls.update(state);
    const wanted = [];
    const several = state.over.length > 1;
    const views = several ? state.over.map(([layer, head]) => ({ ...this.view, layer, head, mean: "", less: null })) : [this.view];
    let matrices = views.map((view) => this.store.matrix(view, wanted));
    if (new Set(matrices.map((m) => m.n)).size > 1) matrices = matrices.filter((m) => m.pooled);
    this.matrices = matrices;
    this.matrix = matrices[matrices.length - 1];
    this.signed = Boolean(this.matrix.signed);
    this.absolute = state.by === "attention" && !this.signed;
    this.tops = matrices.map((matrix) => (this.absolute ? 1 : largest(matrix)));
    this.atlas.draw({ by: state.by, less: state.less, least: 0 }, theme, ratio);
    this.drawHead();
    this.mark();
    say(this);
    drawPairs(this);
    if (this.address) writeAddress(state);
    this.fetch(wanted);
  }

  // Whole triangles that are not here yet: those in view first, then the neighbours.
  fetch(wanted) {
    const ask = ++this.asked || (this.asked = 1);
    const view = JSON.stringify(this.view);
    this.root.dataset.whole = String(!this.matrix.pooled);
    if (wanted.length) {
      Promise.all(wanted.map(([source, name]) => source.fetch(name))).then((found) => {
        if (ask !== this.asked || view !== JSON.stringify(this.view)) return;
        if (found.every(Boolean)) this.refresh();
        else this.note.textContent = `${this.note.textContent} The whole map could not be fetched; reload the page.`;
      });
      return;
    }
    const { main } = this.store;
    if (main.whole || !main.url || this.state.mean) return;
    const { layer, head } = this.state;
    for (const [l, h] of [[layer, head + 1], [layer, head - 1], [layer + 1, head], [layer - 1, head]]) {
      if (l >= 0 && h >= 0 && l < main.layers && h < main.heads) main.fetch(`${l}/${h}`);
    }
  }

  titles() {
    const { state, matrices, store } = this;
    const several = state.over.length > 1;
    const own = state.mean === "all" ? "All heads" : state.mean === "layer" ? `Layer ${state.layer}` : nameOf(state.layer, state.head);
    const less = state.less === "other" ? ` less ${own} of ${store.other.name}` : state.less ? ` less ${nameOf(...state.less)}` : "";
    const what = state.by === "weighted" ? "attention × |v W_O|" : "attention";
    const pooled = matrices[0].pooled ? `; a dot is ${this.blockWords()}` : "";
    const mean = state.mean ? "mean " : "";
    return {
      title: several ? "Several heads" : own + less,
      subtitle: `${mean}${what} of each token (row) to each (column)${pooled}`,
      heads: several ? state.over.map(([l, h]) => nameOf(l, h)) : [],
    };
  }

  blockWords() {
    const { n } = this.store.main;
    const size = n / this.matrix.n;
    return `about ${Number(size.toFixed(1))} × ${Number(size.toFixed(1))} tokens`;
  }

  drawHead() {
    const { state, theme, ratio, store } = this;
    const width = this.one.parentElement.clientWidth;
    const { tokens } = store.main;
    const names = this.titles();
    const shown = { matrices: this.matrices, tops: this.tops, theme, signed: this.signed, least: state.least, sought: this.matrix.pooled ? new Set() : this.seeking, tokens, ...names, ticks: this.ticks.bind(this) };
    this.one.dataset.shown = state.shown;
    this.zooms.hidden = state.shown !== "map" || this.matrix.n < 9;
    this.note.textContent = "";
    if (state.shown === "path") this.drawPath(width);
    else if (state.shown === "lines" && !this.matrix.pooled) {
      this.lines.layOut(width, tokens.length, state.pinned);
      this.lines.draw({ ...shown, subtitle: names.subtitle.replace(" of each token (row) to each (column)", "") }, ratio);
    } else {
      this.map.layOut(width, HIGHEST, this.matrix, tokens, theme);
      this.map.draw(shown, ratio);
      this.one.classList.toggle("zoomed", this.map.zoomed);
      if (this.matrix.pooled) this.note.textContent = this.pooledNote();
    }
    if (this.picture === this.map) this.one.dataset.plot = [this.map.x0, this.map.y0, this.map.side, this.map.window.size].join(" ");
    this.one.style.height = `${this.picture.height}px`;
  }

  get picture() {
    const { shown } = this.state;
    return shown === "path" ? this.path : shown === "lines" && !this.matrix.pooled ? this.lines : this.map;
  }

  pooledNote() {
    const fetching = this.store.main.url ? "The whole map is being fetched." : "This copy holds no more of it; to_html(path) writes every head in full.";
    return `Pooled: a dot is the attention of a block of tokens to all tokens of another, averaged over the queries. ${fetching}`;
  }

  drawPath(width) {
    const { state, store, theme, ratio } = this;
    const { main } = store;
    const start = state.pinned ?? main.n - 1;
    const steps = main.whole ? follow(store, start, { width: state.edges, skipFirst: state.skipFirst, by: state.by }) : null;
    this.path.layOut(width, main.layers, main.n);
    const what = state.by === "weighted" ? "attention × |v W_O|, as a share of its row" : "attention";
    const subtitle = `the strongest ${what} of each layer, of all heads, followed back; dotted: the token's own stream`;
    this.path.draw({ steps, start, tokens: main.tokens, theme, title: `Back from ${main.tokens[start]} (${start})`, subtitle }, ratio);
    if (!steps) this.note.textContent = "A path needs every head in full; this prompt is too long for that here.";
    else this.note.textContent = state.pinned === null ? "Click a token to start from it." : "";
  }

  ticks(top) {
    if (this.signed) return [-top, 0, top];
    return this.absolute ? [0, 0.1, 0.5, 1] : [0, top / 4, top];
  }

  // What follows the mouse: frames, crosshair, colours of the tokens, and the numbers in words.
  mark() {
    const { state, theme, ratio, matrix } = this;
    const chosen = state.mean === "all" ? null : [state.layer, state.head];
    this.atlas.frame({ chosen, over: state.over, hovered: this.hovered }, theme, ratio);
    const [pinned, focus] = [state.pinned, this.focus];
    const onMap = matrix.pooled ? this.pool(pinned, focus) : { pinned, focus };
    this.picture.mark({ ...onMap, flip: state.flip, theme }, ratio);
    const cursor = this.cursor();
    this.tokens.colour({ matrix, matrices: this.matrices, tops: this.tops, cursor, pinned, flip: state.flip, signed: this.signed, least: state.least, sought: this.seeking, theme });
    say(this);
  }

  cursor() {
    const { focus, state, store } = this;
    const own = focus ? (state.flip ? focus[1] : focus[0]) : null;
    return own ?? state.pinned ?? store.main.n - 1;
  }

  // Token places as places of a pooled map; what the mouse is over there already is one.
  pool(pinned, focus) {
    const of = (i) => (i === null ? null : this.dotOf(i));
    return { pinned: of(pinned), focus: focus ? focus.map(of) : null };
  }

  dotOf(i) {
    const { matrix, store } = this;
    for (let dot = Math.min(matrix.n - 1, Math.ceil((i * matrix.n) / store.main.n)); dot >= 0; dot--) {
      if (blockOf(dot, matrix.n, store.main.n)[0] <= i) return dot;
    }
    return 0;
  }

  weight(query, key, matrix = this.matrix) {
    const [q, k] = matrix.pooled ? [this.dotOf(query), this.dotOf(key)] : [query, key];
    return matrix.values[rowAt(q) + k];
  }

  png() { savePng(this); }
  csv() { saveCsv(this); }

  destroy() {
    this.watch.disconnect();
  }
}

const KNOWN = new WeakMap(); // one explorer an element: Streamlit calls again at every rerun of the page

export default function mount({ data, parentElement }) {
  const root = parentElement.querySelector(".explorer");
  const known = KNOWN.get(root);
  const explorer = known ?? new Explorer(root);
  KNOWN.set(root, explorer);
  const store = explorer.store;
  const bytes = new Uint8Array(data);
  if (!store || !sameBytes(explorer.given, bytes)) {
    explorer.given = bytes;
    explorer.load(bytes, true);
  } else explorer.redraw();
  return () => setTimeout(() => root.isConnected || explorer.destroy(), 1000);
}

function sameBytes(a, b) {
  return a === b || (a.length === b.length && a.every((v, i) => v === b[i]));
}

// A page of its own, or a frame in a notebook.
async function openPage(root, packed) {
  const explorer = new Explorer(root);
  explorer.load(await unzip(packed), location.protocol !== "about:");
}
