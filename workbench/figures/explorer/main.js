// The attention explorer: all heads, one head in full, the tokens; each answers to the others, in the browser alone.

import { unzip } from "./block.js";
import { Store } from "./store.js";
import { AtlasView } from "./atlas.js";
import { MapView } from "./map.js";
import { LinesView } from "./lines.js";
import { PathView } from "./path.js";
import { TextView, element } from "./text.js";
import { headOf, readAddress } from "./address.js";
import { Bar } from "./bar.js";
import { saveCsv, savePng, saveSvg } from "./save.js";
import { Drawing } from "./drawing.js";
import { build } from "./frame.js";

const FRESH = {
  shown: "map",
  flip: false,
  by: "attention",
  mean: "",
  less: null,
  over: [],
  laying: false,
  least: 0,
  seek: "",
  edges: 1,
  skipFirst: true,
  pinned: null,
  first: false,
};

// Where nothing was set yet: what the address says, the rest as the page chooses.
function fresh(asked) {
  return { ...FRESH, own: asked.layer !== undefined, ...asked };
}

// What was set, as far as it fits this model and this prompt.
function keep(state, { main, other, header }, before) {
  const there = ([layer, head]) => layer < main.layers && head < main.heads;
  if (!state.own || !there([state.layer, state.head])) [state.layer, state.head] = header.chosen;
  if (before && String(before.main.tokens) !== String(main.tokens)) state.pinned = null;
  state.over = state.over.filter(there);
  if (state.over.length > 1) state.laying = true;
  const fits = state.less === "other" ? other !== null : state.less === null || there(state.less);
  if (!fits) state.less = null;
  if (other && before?.other?.name !== other.name) state.less = "other"; // it was just asked for
  if (!main.hasValues) state.by = "attention";
  if (main.read && state.shown === "path") state.shown = "map";
}

class Explorer extends Drawing {
  constructor(root) {
    super();
    this.root = root;
    this.state = null;
    this.focus = null;
    this.hovered = null;
    build(this);
    this.watch = new ResizeObserver(
      () => this.store && Math.abs(root.clientWidth - this.width) > 1 && this.redraw(),
    );
    this.watch.observe(root);
    this.scheme = matchMedia("(prefers-color-scheme: dark)");
    this.scheme.addEventListener("change", () => this.store && this.redraw());
  }

  // Another payload: what the reader set stays while it means the same, the rest is chosen anew.
  load(bytes, address) {
    const before = this.store;
    this.store = new Store(bytes);
    const { main, other, header } = this.store;
    this.state ??= fresh(address ? readAddress(main, Boolean(other)) : {});
    keep(this.state, this.store, before);
    this.address = address;
    this.focus = this.hovered = null;
    const [under, over] = this.heads.children;
    this.atlas = new AtlasView(under, over, this.store);
    const [map, marks] = this.one.children;
    this.map = new MapView(map, marks);
    this.lines = new LinesView(map, marks);
    this.path = new PathView(map, marks);
    this.tokens = new TextView(this.text, main, {
      onFocus: (i) => this.point(i),
      onPin: (i) => this.pin(i),
    });
    this.controls = new Bar(this.bar, this.store, this);
    const size = main.whole
      ? ""
      : ` Of a prompt this long each is pooled: a dot is about ${(main.n / main.side).toFixed(1)} tokens.`;
    this.caption.replaceChildren(
      element("b", "", `All ${main.layers * main.heads} heads`),
      `Click one, or use the arrow keys. Rows look at columns; a stronger colour is more.${size}`,
    );
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
    const { state } = this;
    [state.layer, state.head] = found;
    state.own = true;
    if (state.mean === "all") state.mean = "";
    if (state.over.length) state.over[state.over.length - 1] = found; // the last one laid over moves
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
    const chosen = [state.layer, state.head];
    if (!state.over.length && String(chosen) !== String(at)) rest.push(chosen);
    if (rest.length === state.over.length || !state.over.length) rest.push(at);
    state.over = rest.slice(-6);
    state.laying = state.over.length > 0;
    if (state.over.length) [state.layer, state.head] = state.over[state.over.length - 1];
    Object.assign(state, { own: true, mean: "", less: null });
    this.refresh();
  }

  minus(value) {
    this.set({
      less: value === "other" ? "other" : headOf(value, this.store.main),
      over: [],
      laying: false,
    });
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

  png() {
    savePng(this);
  }
  svg() {
    saveSvg(this);
  }
  csv() {
    saveCsv(this);
  }

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
