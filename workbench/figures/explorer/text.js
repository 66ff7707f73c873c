// The prompt itself, token by token, coloured by what the focused token looks at; and the strongest pairs.

import { lastKey, rowAt } from "./block.js";
import { blend, cssOf, shade } from "./colours.js";
import { blockOf } from "./store.js";

export function element(tag, className = "", text = "") {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (text) made.textContent = text;
  return made;
}

export class TextView {
  constructor(root, { tokens, breaks }, { onFocus, onPin }) {
    this.root = root;
    this.current = null;
    const broken = new Set(breaks);
    this.spans = tokens.map((token, i) => {
      const span = element("span", "token", token);
      span.tabIndex = i === tokens.length - 1 ? 0 : -1;
      span.setAttribute("role", "button");
      span.setAttribute("aria-pressed", "false");
      span.dataset.place = i;
      return span;
    });
    const parts = this.spans.flatMap((span, i) => (broken.has(i) ? [span, element("br")] : [span]));
    root.replaceChildren(...parts);
    const spot = (event) => event.target.dataset?.place;
    root.onpointerover = (event) =>
      event.pointerType !== "touch" && spot(event) !== undefined && onFocus(Number(spot(event)));
    root.onpointerleave = () => onFocus(null);
    root.onfocusin = (event) =>
      spot(event) !== undefined &&
      event.target.matches(":focus-visible") &&
      onFocus(Number(spot(event)));
    root.onfocusout = () => onFocus(null);
    root.onclick = (event) => spot(event) !== undefined && onPin(Number(spot(event)));
    root.onkeydown = (event) => this.key(event, onPin);
  }

  key(event, onPin) {
    const at = Number(event.target.dataset?.place);
    if (Number.isNaN(at)) return;
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, Home: 0, End: this.spans.length - 1 }[
      event.key
    ];
    if (event.key === "Enter" || event.key === " ") onPin(at);
    else if (to === undefined || !this.spans[to]) return;
    else this.reach(to).focus();
    event.preventDefault();
  }

  // One stop for the tabulator, then arrows: a thousand tokens would be a thousand stops.
  reach(i) {
    for (const span of this.spans) if (span.tabIndex === 0) span.tabIndex = -1;
    this.spans[i].tabIndex = 0;
    return this.spans[i];
  }

  colour(shown) {
    const { matrix, cursor, pinned, flip, sought } = shown;
    const cell = placesOf(matrix, this.spans.length);
    this.spans.forEach((span, i) => {
      const at = place(matrix, cell, flip ? i : cursor, flip ? cursor : i);
      const [ground, strong] = at === null ? ["transparent", false] : groundOf(shown, at);
      const words = ["token"];
      if (i === cursor) words.push("cursor");
      if (i === pinned) words.push("held");
      if (at === null) words.push("off");
      if (sought.has(i)) words.push("sought");
      if (strong) words.push("strong");
      const className = words.join(" ");
      if (span.className !== className) span.className = className;
      if (span.kept !== ground) span.style.backgroundColor = span.kept = ground;
      const held = String(i === pinned);
      if (span.getAttribute("aria-pressed") !== held) span.setAttribute("aria-pressed", held);
    });
  }
}

// A token's background, and whether it asks for letters of the other kind.
function groundOf({ matrices, tops, signed, least, theme }, at) {
  if (matrices.length > 1) {
    const shares = matrices.map(({ values }, m) => (values[at] < least ? 0 : values[at] / tops[m]));
    const colour = blend(theme, shares).map(Math.round);
    const sum = colour[0] + colour[1] + colour[2];
    return [`rgb(${colour})`, theme.dark ? sum > 380 : sum < 380];
  }
  const value = matrices[0].values[at];
  if (Math.abs(value) < least) return ["transparent", false];
  const level = shade(value, tops[0], signed);
  const strong = signed ? Math.abs(level - 127.5) > 75 : level > (theme.dark ? 190 : 150);
  return [cssOf(theme, value, tops[0], signed), strong];
}

// The dot of every token: its own place, or its block's where the matrix is pooled.
function placesOf(matrix, n) {
  if (!matrix.pooled) return null;
  const found = new Int32Array(n);
  for (let i = 0; i < matrix.n; i++) {
    const [first, last] = blockOf(i, matrix.n, n);
    found.fill(i, first, last + 1);
  }
  return found;
}

function place(matrix, cell, query, key) {
  if (!matrix.square && key > query) return null;
  return cell ? rowAt(matrix, cell[query]) + cell[key] : rowAt(matrix, query) + key;
}

export function strongest(matrix, cursor, flip, count) {
  const found = [];
  for (let i = 0; i < matrix.n; i++) {
    const [query, key] = flip ? [i, cursor] : [cursor, i];
    if (key <= lastKey(matrix, query))
      found.push([matrix.values[rowAt(matrix, query) + key], i]);
  }
  return found.sort((a, b) => Math.abs(b[0]) - Math.abs(a[0]) || a[1] - b[1]).slice(0, count);
}

// The pairs with the most weight of a whole head, as [value, query, key].
export function pairs(matrix, { first, least, count }) {
  const found = [];
  for (let query = 0, at = 0; query < matrix.n; query++) {
    for (let key = 0; key <= lastKey(matrix, query); key++, at++) {
      const size = Math.abs(matrix.values[at]);
      if (size > 0 && size >= least && (first || key > 0))
        found.push([matrix.values[at], query, key]);
    }
  }
  return found.sort((a, b) => Math.abs(b[0]) - Math.abs(a[0])).slice(0, count);
}
