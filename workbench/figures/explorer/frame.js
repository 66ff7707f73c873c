// The element's own elements: controls, the two pictures, the line of numbers, the text, the list of pairs.

import { element } from "./text.js";
import { press } from "./bar.js";
import { drawPairs } from "./words.js";
import { listen } from "./hands.js";

export function build(explorer) {
  const { root } = explorer;
  root.tabIndex = -1;
  explorer.bar = element("div", "bar");
  const panels = element("div", "panels");
  const atlas = element("figure", "atlas"),
    head = element("figure", "head");
  explorer.caption = element("figcaption");
  const stack = (name, label) => {
    const box = element("div", `stack ${name}`);
    box.tabIndex = 0;
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", label);
    box.append(element("canvas", "under"), element("canvas", "over"));
    return box;
  };
  explorer.heads = stack("heads", "All heads. Arrow keys open the next head or layer.");
  explorer.one = stack(
    "one",
    "The open head. Arrow keys open the next head or layer, plus and minus zoom, f turns the direction, Escape lets go.",
  );
  explorer.zooms = element("div", "zooms");
  explorer.zooms.append(
    press("+", "Zoom in (plus)", () => explorer.zoom(0.7)),
    press("−", "Zoom out (minus)", () => explorer.zoom(1 / 0.7)),
    press("⤢", "The whole map (0)", () => explorer.zoom(Infinity)),
  );
  explorer.note = element("div", "note");
  explorer.says = element("div", "says");
  explorer.says.setAttribute("aria-live", "polite");
  explorer.text = element("div", "text");
  explorer.text.dir = "auto";
  explorer.list = element("details", "pairs");
  explorer.list.append(element("summary", "", "Strongest pairs"), element("div", "table"));
  explorer.list.ontoggle = () => drawPairs(explorer);
  atlas.append(explorer.caption, explorer.heads);
  const holder = element("div", "holder");
  holder.append(explorer.one, explorer.zooms);
  head.append(holder, explorer.note);
  panels.append(atlas, head);
  root.replaceChildren(explorer.bar, panels, explorer.says, explorer.text, explorer.list);
  listen(explorer);
}
