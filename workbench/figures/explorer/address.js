// The page's address says what is shown, without a word to the server: a link shows the same view.

const HEAD = /^L(\d+)H(\d+)$/;

export function headOf(text, { layers, heads }) {
  const found = HEAD.exec(text ?? "");
  if (!found) return null;
  const [layer, head] = [Number(found[1]), Number(found[2])];
  return layer < layers && head < heads ? [layer, head] : null;
}

const spell = ([layer, head]) => `L${layer}H${head}`;

// What the address asks for; what does not fit this model and prompt is left out.
export function readAddress(main, hasOther) {
  const query = new URLSearchParams(location.search);
  const found = {};
  const head = headOf(query.get("head"), main);
  if (head) [found.layer, found.head] = head;
  const pin = query.get("pin");
  if (/^\d+$/.test(pin ?? "") && Number(pin) < main.n) found.pinned = Number(pin);
  if (query.get("flip") === "1") found.flip = true;
  if (["lines", "path"].includes(query.get("shown"))) found.shown = query.get("shown");
  if (query.get("by") === "weighted" && main.hasValues) found.by = "weighted";
  if (["layer", "all"].includes(query.get("mean"))) found.mean = query.get("mean");
  const less = query.get("minus");
  if (less === "other" && hasOther) found.less = "other";
  else if (headOf(less, main)) found.less = headOf(less, main);
  const over = (query.get("over") ?? "")
    .split(" ")
    .map((name) => headOf(name, main))
    .filter(Boolean);
  if (over.length) found.over = over.slice(0, 6);
  const least = Number(query.get("least"));
  if (least > 0 && least < 1) found.least = least;
  if (query.get("seek")) found.seek = query.get("seek").slice(0, 60);
  return found;
}

export function writeAddress(state) {
  const url = new URL(location.href);
  const set = (name, value) =>
    value ? url.searchParams.set(name, value) : url.searchParams.delete(name);
  // Only a head that was chosen: one that the page chose is chosen anew for another model or prompt.
  set("head", state.own ? spell([state.layer, state.head]) : "");
  set("pin", state.pinned === null ? "" : String(state.pinned));
  set("flip", state.flip ? "1" : "");
  set("shown", state.shown === "map" ? "" : state.shown);
  set("by", state.by === "weighted" ? "weighted" : "");
  set("mean", state.mean);
  set("minus", state.less === "other" ? "other" : state.less ? spell(state.less) : "");
  set("over", state.over.map(spell).join(" "));
  set("least", state.least ? String(state.least) : "");
  set("seek", state.seek);
  if (url.href !== location.href) history.replaceState(history.state, "", url);
}
