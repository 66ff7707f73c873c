// The numbers in words: what is under the mouse, what a token looks at, and a head's strongest pairs.

import { blockOf } from "./store.js";
import { nameOf } from "./atlas.js";
import { element, pairs, strongest } from "./text.js";

const format = (value) => value.toFixed(Math.abs(value) >= 10 ? 2 : 4);

export function say(explorer) {
  const { state, focus, hovered, says } = explorer;
  says.replaceChildren();
  if (hovered) sayHead(explorer, hovered);
  else if (focus && focus[0] !== null && focus[1] !== null && state.shown !== "path")
    sayPair(explorer);
  else sayToken(explorer);
}

// A token and its place; the block that it stands in, where the map is pooled.
function token(explorer, i) {
  const { matrix, store, says } = explorer;
  const { tokens, n } = store.main;
  const [first, last] = matrix.pooled ? blockOf(explorer.dotOf(i), matrix.n, n) : [i, i];
  const more = first === last ? `${first}` : `${first}–${last}`;
  says.append(element("b", "", tokens[first]), ` (${more}) `);
}

const value = (explorer, v) => explorer.says.append(element("span", "value", format(v)), " ");

// The name of what is shown; of several heads each has its own, in its colour.
function name(explorer, i = 0) {
  const { heads, title } = explorer.titles();
  const made = element("span", "name", heads.length ? heads[i] : title);
  if (heads.length) made.style.color = explorer.theme.overlays[i];
  explorer.says.append(made, " ");
}

function sayHead(explorer, [layer, head]) {
  explorer.says.append(element("span", "name", nameOf(layer, head)), " on this prompt: ");
  for (const [word, table] of Object.entries(explorer.store.main.scores)) {
    explorer.says.append(`${word} `);
    value(explorer, table[layer][head]);
  }
}

function sayPair(explorer) {
  const { focus, matrices, says, matrix } = explorer;
  if (matrices.length === 1) name(explorer);
  token(explorer, focus[0]);
  says.append("looks at ");
  token(explorer, focus[1]);
  matrices.forEach((one, i) => {
    if (matrices.length > 1) name(explorer, i);
    value(explorer, explorer.weight(...focus, one));
  });
  if (matrix.pooled) says.append(" (pooled)");
}

function sayToken(explorer) {
  const { state, matrices, matrix, store, says } = explorer;
  const cursor = explorer.cursor();
  const at = matrix.pooled ? explorer.dotOf(cursor) : cursor;
  if (matrices.length === 1) name(explorer);
  token(explorer, cursor);
  says.append(state.flip ? "is looked at most by " : "looks most at ");
  matrices.forEach((one, m) => {
    if (matrices.length > 1) name(explorer, m);
    for (const [v, i] of strongest(one, at, state.flip, matrices.length > 1 ? 2 : 5)) {
      token(explorer, one.pooled ? blockOf(i, one.n, store.main.n)[0] : i);
      value(explorer, v);
    }
  });
}

export function drawPairs(explorer) {
  const { list, matrix, state, store } = explorer;
  list.hidden = matrix.pooled;
  if (!list.open || matrix.pooled) return;
  const { tokens } = store.main;
  const table = element("table"),
    body = element("tbody"),
    top = element("tr");
  for (const word of ["query", "", "key", "", "weight"]) top.append(element("th", "", word));
  for (const [v, query, key] of pairs(matrix, {
    first: state.first,
    least: state.least,
    count: 50,
  })) {
    const row = element("tr");
    row.append(
      element("td", "", tokens[query]),
      element("td", "place", String(query)),
      element("td", "", tokens[key]),
    );
    row.append(element("td", "place", String(key)), element("td", "value", format(v)));
    row.onclick = () => explorer.set({ pinned: state.flip ? key : query });
    body.append(row);
  }
  const head = element("thead");
  head.append(top);
  table.append(head, body);
  const sink = element("label", "check"),
    box = element("input");
  Object.assign(box, { type: "checkbox", checked: state.first });
  box.onchange = () => explorer.set({ first: box.checked });
  sink.append(box, element("span", "", "with the first token, where many heads park attention"));
  list.lastChild.replaceChildren(sink, table);
}
