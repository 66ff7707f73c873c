// What is drawn of the explorer's state, and when: all of it, the open head, or what follows the mouse.

import { rowAt } from "./block.js";
import { themeOf } from "./colours.js";
import { blockOf, largest } from "./store.js";
import { nameOf } from "./atlas.js";
import { follow } from "./path.js";
import { writeAddress } from "./address.js";
import { drawPairs, say } from "./words.js";

const HIGHEST = 720; // pixels that a picture may be high

export class Drawing {
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
    return new Set(
      word ? tokens.flatMap((token, i) => (token.toLowerCase().includes(word) ? [i] : [])) : [],
    );
  }

  refresh() {
    const { state, theme, ratio } = this;
    this.seeking = this.sought;
    this.controls.update(state);
    const wanted = [];
    const several = state.over.length > 1;
    const views = several
      ? state.over.map(([layer, head]) => ({ ...this.view, layer, head, mean: "", less: null }))
      : [this.view];
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
        else
          this.note.textContent = `${this.note.textContent} The whole map could not be fetched; reload the page.`;
      });
      return;
    }
    const { main } = this.store;
    if (main.whole || !main.url || this.state.mean) return;
    const { layer, head } = this.state;
    for (const [l, h] of [
      [layer, head + 1],
      [layer, head - 1],
      [layer + 1, head],
      [layer - 1, head],
    ]) {
      if (l >= 0 && h >= 0 && l < main.layers && h < main.heads) main.fetch(`${l}/${h}`);
    }
  }

  titles() {
    const { state, matrices, store } = this;
    const several = state.over.length > 1;
    const own =
      state.mean === "all"
        ? "All heads"
        : state.mean === "layer"
          ? `Layer ${state.layer}`
          : nameOf(state.layer, state.head);
    const less =
      state.less === "other"
        ? ` less ${own} of ${store.other.name}`
        : state.less
          ? ` less ${nameOf(...state.less)}`
          : "";
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
    const size = Number((n / this.matrix.n).toFixed(1));
    return `about ${size} × ${size} tokens`;
  }

  drawHead(ratio = this.ratio) {
    const { state, theme, store } = this;
    const width = this.one.parentElement.clientWidth;
    const { tokens } = store.main;
    const names = this.titles();
    const shown = {
      matrices: this.matrices,
      tops: this.tops,
      theme,
      signed: this.signed,
      least: state.least,
      sought: this.matrix.pooled ? new Set() : this.seeking,
      tokens,
      ...names,
      ticks: this.ticks.bind(this),
    };
    this.one.dataset.shown = state.shown;
    this.zooms.hidden = state.shown !== "map" || this.matrix.n < 9;
    this.note.textContent = "";
    if (state.shown === "path") this.drawPath(width, ratio);
    else if (state.shown === "lines" && !this.matrix.pooled) {
      this.lines.layOut(width, tokens.length, state.pinned);
      this.lines.draw(
        { ...shown, subtitle: names.subtitle.replace(" of each token (row) to each (column)", "") },
        ratio,
      );
    } else {
      this.map.layOut(width, HIGHEST, this.matrix, tokens, theme);
      this.map.draw(shown, ratio);
      this.one.classList.toggle("zoomed", this.map.zoomed);
      if (this.matrix.pooled) this.note.textContent = this.pooledNote();
    }
    if (this.picture === this.map)
      this.one.dataset.plot = [this.map.x0, this.map.y0, this.map.side, this.map.window.size].join(
        " ",
      );
    this.one.style.height = `${this.picture.height}px`;
  }

  get picture() {
    const { shown } = this.state;
    return shown === "path"
      ? this.path
      : shown === "lines" && !this.matrix.pooled
        ? this.lines
        : this.map;
  }

  pooledNote() {
    const fetching = this.store.main.url
      ? "The whole map is being fetched."
      : "This copy holds no more of it; to_html(path) writes every head in full.";
    return `Pooled: a dot is the attention of a block of tokens to all tokens of another, averaged over the queries. ${fetching}`;
  }

  drawPath(width, ratio) {
    const { state, store, theme } = this;
    const { main } = store;
    const start = state.pinned ?? main.n - 1;
    const missing = [];
    const how = { width: state.edges, skipFirst: state.skipFirst, by: state.by };
    const steps = follow(store, start, how, missing);
    this.path.layOut(width, main.layers, main.n);
    const what =
      state.by === "weighted" ? "attention × |v W_O|, as a share of its row" : "attention";
    const subtitle = `the strongest ${what} of each layer, followed back; dotted: own stream`;
    this.path.draw(
      {
        steps,
        start,
        tokens: main.tokens,
        theme,
        title: `Back from ${main.tokens[start]} (${start})`,
        subtitle,
      },
      ratio,
    );
    this.note.textContent = state.pinned === null ? "Click a token to start from it." : "";
    if (!missing.length) return;
    this.note.textContent = main.url
      ? "Following…"
      : "This copy holds too little to follow it further.";
    const asked = (this.following = Symbol("path"));
    Promise.all(missing.map((name) => main.fetch(name))).then((found) => {
      if (asked === this.following && state.shown === "path" && found.every(Boolean))
        this.drawHead();
    });
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
    this.tokens.colour({
      matrix,
      matrices: this.matrices,
      tops: this.tops,
      cursor,
      pinned,
      flip: state.flip,
      signed: this.signed,
      least: state.least,
      sought: this.seeking,
      theme,
    });
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
    for (
      let dot = Math.min(matrix.n - 1, Math.ceil((i * matrix.n) / store.main.n));
      dot >= 0;
      dot--
    ) {
      if (blockOf(dot, matrix.n, store.main.n)[0] <= i) return dot;
    }
    return 0;
  }

  weight(query, key, matrix = this.matrix) {
    const [q, k] = matrix.pooled ? [this.dotOf(query), this.dotOf(key)] : [query, key];
    return matrix.values[rowAt(matrix, q) + k];
  }
}
