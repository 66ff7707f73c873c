// Mouse, finger and keys: what each does to the explorer.

import { blockOf } from "./store.js";

const STILL = 4; // pixels within which a press is no drag

export function listen(explorer) {
  listenAtlas(explorer, explorer.heads);
  listenHead(explorer, explorer.one);
  explorer.heads.onkeydown = explorer.one.onkeydown = (event) => key(explorer, event);
  explorer.root.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && explorer.state.pinned !== null) explorer.set({ pinned: null });
  });
}

function placeIn(box, event) {
  const { left, top } = box.getBoundingClientRect();
  return [event.clientX - left, event.clientY - top];
}

function listenAtlas(explorer, box) {
  const at = (event) => explorer.atlas.at(...placeIn(box, event));
  const hover = (found) => {
    if (String(found) === String(explorer.hovered)) return;
    explorer.hovered = found;
    box.style.cursor = found ? "pointer" : "";
    explorer.point(null);
  };
  box.onpointermove = (event) => event.pointerType !== "touch" && hover(at(event));
  box.onpointerleave = () => explorer.store && hover(null);
  box.onclick = (event) => {
    const found = at(event);
    if (!found) return;
    if (event.shiftKey || event.ctrlKey || event.metaKey || explorer.state.laying)
      explorer.lay(found);
    else explorer.open(found);
  };
}

function listenHead(explorer, box) {
  const points = new Map();
  let moved = 0,
    spread = 0;
  box.onpointerdown = (event) => {
    points.set(event.pointerId, placeIn(box, event));
    [moved, spread] = [0, 0];
  };
  box.onpointermove = (event) => {
    const now = placeIn(box, event),
      before = points.get(event.pointerId);
    if (before && explorer.state.shown === "map") {
      moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
      points.set(event.pointerId, now);
      if (points.size === 2) {
        spread = pinch(explorer, [...points.values()], spread);
        return;
      }
      if (explorer.map.zoomed && moved > STILL) {
        box.setPointerCapture(event.pointerId);
        explorer.pan(now[0] - before[0], now[1] - before[1]);
        return;
      }
    }
    if (event.pointerType !== "touch") hover(explorer, now);
  };
  box.onpointerup = box.onpointercancel = (event) => points.delete(event.pointerId);
  box.onpointerleave = (event) => {
    points.delete(event.pointerId);
    if (event.pointerType !== "touch") hover(explorer, null);
  };
  box.onclick = (event) => moved <= STILL && tap(explorer, placeIn(box, event));
  box.ondblclick = () => explorer.zoom(Infinity);
  const wheel = (event) => {
    if (!(event.ctrlKey || event.metaKey) || explorer.state.shown !== "map") return;
    event.preventDefault();
    explorer.zoom(Math.exp(event.deltaY * 0.004), ...placeIn(box, event));
  };
  box.addEventListener("wheel", wheel, { passive: false });
}

function pinch(explorer, [a, b], before) {
  const spread = Math.hypot(a[0] - b[0], a[1] - b[1]);
  if (before) explorer.zoom(before / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
  return spread;
}

// The tokens under a point of the picture, whichever picture it is.
function under(explorer, point) {
  const found = point && explorer.picture.at(...point);
  if (!found || !explorer.matrix.pooled || explorer.picture !== explorer.map) return found || null;
  return found.map((dot) => blockOf(dot, explorer.matrix.n, explorer.store.main.n)[0]);
}

function hover(explorer, point) {
  const found = under(explorer, point);
  if (String(found) === String(explorer.focus)) return;
  explorer.focus = found;
  explorer.mark();
}

function tap(explorer, point) {
  const found = under(explorer, point),
    { state } = explorer;
  if (!found) return;
  explorer.focus = found;
  if (state.shown === "lines") state.flip = found[0] === null;
  explorer.pin(state.flip ? (found[1] ?? found[0]) : (found[0] ?? found[1]));
}

function key(explorer, event) {
  if (event.altKey || event.ctrlKey || event.metaKey) return;
  const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
  if (steps[event.key]) explorer.step(...steps[event.key]);
  else if (event.key === "f") explorer.set({ flip: !explorer.state.flip });
  else if (event.key === "+" || event.key === "=") explorer.zoom(0.7);
  else if (event.key === "-") explorer.zoom(1 / 0.7);
  else if (event.key === "0") explorer.zoom(Infinity);
  else return;
  event.preventDefault();
}
