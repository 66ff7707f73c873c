// The controls above the pictures. Each one says what it does to `act` and shows what the state is.

import { nameOf } from "./atlas.js";
import { element } from "./text.js";

function choice(label, options, onChange) {
  const box = element("label", "choice", "");
  const select = element("select");
  for (const [value, words] of options) {
    const option = element("option", "", words);
    option.value = value;
    select.append(option);
  }
  select.setAttribute("aria-label", label);
  select.onchange = () => onChange(select.value);
  box.append(element("span", "word", label), select);
  return [box, select];
}

function segments(label, options, onChange) {
  const group = element("span", "segments");
  group.setAttribute("role", "group");
  group.setAttribute("aria-label", label);
  const buttons = options.map(([value, words, hint]) => {
    const button = element("button", "", words);
    button.type = "button";
    button.title = hint ?? "";
    button.onclick = () => onChange(value);
    group.append(button);
    return button;
  });
  const show = (value) =>
    buttons.forEach((b, i) => b.setAttribute("aria-pressed", String(options[i][0] === value)));
  return [group, show];
}

export function press(words, hint, onClick, className = "") {
  const button = element("button", className, words);
  button.type = "button";
  button.title = hint;
  button.setAttribute("aria-label", hint);
  button.onclick = onClick;
  return button;
}

const allHeads = ({ layers, heads }) =>
  Array.from({ length: layers * heads }, (_, i) => nameOf(Math.floor(i / heads), i % heads)).map(
    (name) => [name, name],
  );

export class Bar {
  constructor(root, store, act) {
    const { main, other } = store;
    const names = allHeads(main);
    const [headBox, head] = choice("Head", names, (name) => act.open(name));
    const step = element("span", "step");
    step.append(
      press("‹", "The head before (left arrow)", () => act.step(0, -1)),
      headBox,
      press("›", "The next head (right arrow)", () => act.step(0, 1)),
    );
    const [shown, showShown] = segments(
      "Picture",
      [
        ["map", "Map", "Every query and key"],
        ["lines", "Lines", "Tokens on both sides"],
        // Cross-attention leads from one stack into the other, so there is no path through layers.
        ...(main.read ? [] : [["path", "Path", "Attention followed back through the layers"]]),
      ],
      (v) => act.set({ shown: v }),
    );
    const [flip, showFlip] = segments(
      "Direction",
      [
        [false, "looks at", "What a token looks at (f)"],
        [true, "is looked at by", "What looks at a token (f)"],
      ],
      (v) => act.set({ flip: v }),
    );
    const measures = [
      ["attention", "attention"],
      ...(main.hasValues ? [["weighted", "attention × |v W_O|"]] : []),
    ];
    const [byBox, by] = choice("Weight", measures, (value) => act.set({ by: value }));
    const [meanBox, mean] = choice(
      "Over",
      [
        ["", "this head"],
        ["layer", "mean of its layer"],
        ["all", "mean of all heads"],
      ],
      (value) => act.set({ mean: value, over: [], laying: false }),
    );
    const minus = [["", "nothing"], ...(other ? [["other", other.name]] : []), ...names];
    const [lessBox, less] = choice("Minus", minus, (value) => act.minus(value));
    const lay = press(
      "Lay over",
      "Choose several heads, each in a colour (or Shift and click)",
      () => act.set({ laying: !this.state.laying }),
    );
    const [leastBox, least] = this.slider(act);
    const [seekBox, seek] = this.search(act);
    const [widthBox, width] = choice(
      "Edges a layer",
      [
        ["1", "strongest"],
        ["2", "2"],
        ["3", "3"],
        ["5", "5"],
      ],
      (value) => act.set({ edges: Number(value) }),
    );
    const sink = element("label", "check");
    const box = element("input");
    box.type = "checkbox";
    box.onchange = () => act.set({ skipFirst: box.checked });
    sink.append(box, element("span", "", "without the first token"));
    const saves = element("span", "saves");
    saves.append(
      press("CSV", "Save the shown weights as a table", () => act.csv()),
      press("PNG", "Save the picture as pixels", () => act.png()),
      press("SVG", "Save the picture as shapes, for a paper", () => act.svg()),
    );
    Object.assign(this, {
      head,
      by,
      mean,
      less,
      lay,
      least,
      seek,
      width,
      box,
      showShown,
      showFlip,
      widthBox,
      sink,
      lessBox,
      meanBox,
    });
    const first = element("div", "line"),
      second = element("div", "line");
    first.append(step, shown, flip, lay, saves);
    second.append(byBox, meanBox, lessBox, widthBox, sink, leastBox, seekBox);
    root.replaceChildren(first, second);
  }

  slider(act) {
    const box = element("label", "choice");
    const input = element("input");
    Object.assign(input, { type: "range", min: "0", max: "0.5", step: "0.01" });
    input.setAttribute("aria-label", "Hide weights below");
    this.leastWords = element("span", "word");
    input.oninput = () => act.set({ least: Number(input.value) });
    box.append(this.leastWords, input);
    return [box, input];
  }

  search(act) {
    const box = element("label", "choice");
    const input = element("input", "seek");
    Object.assign(input, { type: "search", placeholder: "find a token", spellcheck: false });
    input.setAttribute("aria-label", "Find a token");
    input.oninput = () => act.set({ seek: input.value.trim() });
    input.onkeydown = (event) => event.key === "Enter" && act.nextFound();
    box.append(input);
    return [box, input];
  }

  update(state) {
    this.state = state;
    this.head.value = nameOf(state.layer, state.head);
    this.by.value = state.by;
    this.mean.value = state.mean;
    this.less.value = state.less === "other" ? "other" : state.less ? nameOf(...state.less) : "";
    this.least.value = String(state.least);
    this.leastWords.textContent = state.least ? `from ${state.least.toFixed(2)}` : "all weights";
    if (this.seek.value.trim() !== state.seek) this.seek.value = state.seek;
    this.width.value = String(state.edges);
    this.box.checked = state.skipFirst;
    this.lay.setAttribute("aria-pressed", String(state.laying));
    this.showShown(state.shown);
    this.showFlip(state.flip);
    const path = state.shown === "path";
    for (const box of [this.widthBox, this.sink]) box.hidden = !path;
    for (const box of [this.lessBox, this.meanBox]) box.hidden = path;
  }
}
