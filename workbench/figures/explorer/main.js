// The attention explorer: all heads, one head in full, the tokens; each answers to the others, in the browser alone.

import { unzip, rowAt } from "./block.js";
import { themeOf } from "./colours.js";
import { Store, blockOf, largest } from "./store.js";
import { AtlasView, nameOf } from "./atlas.js";
import { MapView } from "./map.js";
import { LinesView } from "./lines.js";
import { PathView, follow } from "./path.js";
import { TextView, element, pairs, strongest } from "./text.js";
import { headOf, readAddress, writeAddress } from "./address.js";
import { Bar, press } from "./bar.js";

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
    this.chips = element("div", "chips");
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
    this.list.ontoggle = () => this.drawPairs();
    atlas.append(this.caption, this.heads);
    const holder = element("div", "holder");
    holder.append(this.one, this.zooms);
    head.append(holder, this.note);
    panels.append(atlas, head);
    root.replaceChildren(this.bar, this.chips, panels, this.says, this.text, this.list);
    this.listen();
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
    this.top = this.absolute ? 1 : largest(this.matrix);
    this.atlas.draw({ by: state.by, less: state.less, least: 0 }, theme, ratio);
    this.drawHead();
    this.mark();
    this.words();
    this.drawPairs();
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
    const shown = { matrices: this.matrices, theme, signed: this.signed, absolute: this.absolute, least: state.least, sought: this.matrix.pooled ? new Set() : this.seeking, tokens, ...names, ticks: this.ticks.bind(this) };
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
    this.tokens.colour({ matrix, cursor, pinned, flip: state.flip, top: this.top, signed: this.signed, least: state.least, sought: this.seeking, theme });
    this.words();
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

  weight(query, key) {
    const { matrix } = this;
    const [q, k] = matrix.pooled ? [this.dotOf(query), this.dotOf(key)] : [query, key];
    return matrix.values[rowAt(q) + k];
  }

  words() {
    const { state, focus, matrix, store, says } = this;
    const { tokens } = store.main;
    const name = this.titles().title;
    says.replaceChildren();
    const token = (i) => says.append(element("b", "", tokens[i]), ` (${i}) `);
    const value = (v) => says.append(element("span", "value", format(v)));
    if (this.hovered) { this.sayHead(this.hovered); return; }
    says.append(element("span", "name", name), " ");
    if (focus && focus[0] !== null && focus[1] !== null && state.shown !== "path") {
      token(focus[0]);
      says.append("looks at ");
      token(focus[1]);
      value(this.weight(...focus));
      if (matrix.pooled) says.append(" (pooled)");
      return;
    }
    const cursor = this.cursor();
    token(cursor);
    says.append(state.flip ? "is looked at most by " : "looks most at ");
    const at = matrix.pooled ? this.dotOf(cursor) : cursor;
    for (const [v, i] of strongest(matrix, at, state.flip, 5)) {
      token(matrix.pooled ? blockOf(i, matrix.n, tokens.length)[0] : i);
      value(v);
    }
  }

  sayHead([layer, head]) {
    const { says, store } = this;
    says.append(element("span", "name", nameOf(layer, head)), " on this prompt: ");
    for (const [word, table] of Object.entries(store.main.scores)) {
      says.append(`${word} `, element("span", "value", format(table[layer][head])));
    }
  }

  drawPairs() {
    if (!this.list.open || this.matrix.pooled) { this.list.hidden = this.matrix.pooled; return; }
    this.list.hidden = false;
    const { tokens } = this.store.main;
    const table = element("table");
    table.innerHTML = "<thead><tr><th>query</th><th></th><th>key</th><th></th><th>weight</th></tr></thead>";
    const body = element("tbody");
    for (const [value, query, key] of pairs(this.matrix, { first: this.state.first, least: this.state.least, count: 50 })) {
      const row = element("tr");
      row.append(element("td", "", tokens[query]), element("td", "place", String(query)), element("td", "", tokens[key]), element("td", "place", String(key)), element("td", "value", format(value)));
      row.onclick = () => this.set({ pinned: this.state.flip ? key : query });
      body.append(row);
    }
    table.append(body);
    const sink = element("label", "check"), box = element("input");
    Object.assign(box, { type: "checkbox", checked: this.state.first });
    box.onchange = () => this.set({ first: box.checked });
    sink.append(box, element("span", "", "with the first token, where many heads park attention"));
    this.list.lastChild.replaceChildren(sink, table);
  }

  // ---- mouse, finger, keys

  listen() {
    this.listenAtlas();
    this.listenHead();
    const keys = (event) => this.key(event);
    this.heads.onkeydown = this.one.onkeydown = keys;
    this.root.addEventListener("keydown", (event) => {
      if (event.key === "Escape" && this.state?.pinned !== null) this.set({ pinned: null });
    });
  }

  listenAtlas() {
    const at = (event) => {
      const box = this.heads.getBoundingClientRect();
      return this.atlas.at(event.clientX - box.left, event.clientY - box.top);
    };
    this.heads.onpointermove = (event) => {
      if (event.pointerType === "touch") return;
      const found = at(event);
      if (String(found) === String(this.hovered)) return;
      this.hovered = found;
      this.heads.style.cursor = found ? "pointer" : "";
      this.mark();
    };
    this.heads.onpointerleave = () => { this.hovered = null; if (this.store) this.mark(); };
    this.heads.onclick = (event) => {
      const found = at(event);
      if (!found) return;
      if (event.shiftKey || event.ctrlKey || event.metaKey || this.state.laying) this.lay(found);
      else this.open(found);
    };
  }

  listenHead() {
    const box = this.one, points = new Map();
    let moved = 0, spread = 0;
    const place = (event) => {
      const { left, top } = box.getBoundingClientRect();
      return [event.clientX - left, event.clientY - top];
    };
    box.onpointerdown = (event) => {
      points.set(event.pointerId, place(event));
      moved = 0;
      spread = 0;
    };
    box.onpointermove = (event) => {
      const now = place(event), before = points.get(event.pointerId);
      if (before && this.state.shown === "map") {
        moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
        points.set(event.pointerId, now);
        if (points.size === 2) return void (spread = this.pinch([...points.values()], spread));
        if (this.map.zoomed && moved > 4) {
          box.setPointerCapture(event.pointerId);
          this.map.pan(now[0] - before[0], now[1] - before[1]);
          this.drawHead();
          return void this.mark();
        }
      }
      if (event.pointerType !== "touch") this.hover(now);
    };
    const up = (event) => points.delete(event.pointerId);
    box.onpointerup = box.onpointercancel = up;
    box.onpointerleave = (event) => { up(event); if (event.pointerType !== "touch") this.hover(null); };
    box.onclick = (event) => { if (moved <= 4) this.tap(place(event), event); };
    box.ondblclick = () => this.zoom(Infinity);
    box.addEventListener("wheel", (event) => {
      if (!(event.ctrlKey || event.metaKey) || this.state.shown !== "map") return;
      event.preventDefault();
      this.zoom(Math.exp(event.deltaY * 0.004), ...place(event));
    }, { passive: false });
  }

  pinch([a, b], before) {
    const spread = Math.hypot(a[0] - b[0], a[1] - b[1]);
    if (before) this.zoom(before / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
    return spread;
  }

  // The tokens under a point of the picture, whichever it is.
  under(point) {
    const found = point && this.picture.at(...point);
    if (!found || !this.matrix.pooled || this.picture !== this.map) return found || null;
    return found.map((dot) => blockOf(dot, this.matrix.n, this.store.main.n)[0]);
  }

  hover(point) {
    const found = this.under(point);
    if (String(found) === String(this.focus)) return;
    this.focus = found;
    this.mark();
  }

  tap(point, event) {
    const found = this.under(point);
    if (!found) return;
    this.focus = found;
    const i = this.state.shown === "lines" ? found[0] ?? found[1] : this.state.flip ? found[1] ?? found[0] : found[0];
    if (this.state.shown === "lines") this.state.flip = found[0] === null;
    this.pin(i);
    if (event.pointerType === "touch") this.mark();
  }

  key(event) {
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    if (steps[event.key]) this.step(...steps[event.key]);
    else if (event.key === "f") this.set({ flip: !this.state.flip });
    else if (event.key === "+" || event.key === "=") this.zoom(0.7);
    else if (event.key === "-") this.zoom(1 / 0.7);
    else if (event.key === "0") this.zoom(Infinity);
    else return;
    event.preventDefault();
  }

  // ---- taking it home

  png() {
    const { canvas } = this.picture;
    const whole = document.createElement("canvas");
    [whole.width, whole.height] = [canvas.width, canvas.height];
    const context = whole.getContext("2d");
    context.fillStyle = this.theme.paper;
    context.fillRect(0, 0, whole.width, whole.height);
    context.drawImage(canvas, 0, 0);
    whole.toBlob((blob) => this.save(blob, "png"));
  }

  csv() {
    const { matrix, store } = this;
    const { tokens } = store.main;
    const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
    const lines = ["query,key,query_token,key_token,weight"];
    for (let query = 0, at = 0; query < matrix.n; query++) {
      for (let key = 0; key <= query; key++, at++) {
        const [q, k] = matrix.pooled ? [query, key].map((dot) => blockOf(dot, matrix.n, tokens.length)[0]) : [query, key];
        lines.push(`${q},${k},${quoted(tokens[q])},${quoted(tokens[k])},${Number(matrix.values[at].toPrecision(6))}`);
      }
    }
    this.save(new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }), "csv");
  }

  save(blob, ending) {
    const link = element("a");
    link.href = URL.createObjectURL(blob);
    link.download = `attention-${this.store.main.name}-${this.titles().title}.${ending}`.replace(/[^\w.-]+/g, "-");
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
  }

  destroy() {
    this.watch.disconnect();
  }
}

const format = (value) => value.toFixed(Math.abs(value) >= 10 ? 2 : 4);

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
