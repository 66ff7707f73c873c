// Text, token by token: coloured by a head's attention from (or to) the token under the cursor, or by a number that each
// token has, and then a click on one is told to the page. Text goes in by textContent only.

const KEPT = new WeakMap(); // what the reader chose survives another head: direction and held token

function read(base64) {
  const bytes = Uint8Array.from(atob(base64), (c) => c.charCodeAt(0));
  return new Uint16Array(bytes.buffer);
}

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".view");
  if (data.pattern === undefined) coloured(root, data, setTriggerValue);
  else attentive(root, data);
}

function coloured(root, { tokens, shown, colours, dark, titles, chosen }, setTriggerValue) {
  const text = element("div", "running", "");
  text.dir = "auto";
  const spans = tokens.map((token, i) => {
    const span = element("span", "piece" + (i === chosen ? " chosen" : ""), shown[i]);
    span.tabIndex = 0;
    span.setAttribute("role", "button");
    span.style.backgroundColor = colours[i] ?? "";
    span.style.color = dark[i] ? "white" : "";
    span.title = titles[i];
    span.onclick = () => {
      spans.forEach((other) => other.classList.toggle("chosen", other === span));
      setTriggerValue("picked", i);
    };
    span.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); span.click(); }
      if (event.key === "ArrowRight") spans[Math.min(tokens.length - 1, i + 1)].focus();
      if (event.key === "ArrowLeft") spans[Math.max(0, i - 1)].focus();
    };
    return span;
  });
  text.append(...spans);
  root.replaceChildren(text);
}

function attentive(root, data) {
  const { tokens, name } = data;
  const n = tokens.length;
  const levels = read(data.pattern);
  const breaks = new Set(data.breaks);
  const state = KEPT.get(root) ?? { from: true, held: null };
  if (state.held !== null && state.held >= n) state.held = null;
  KEPT.set(root, state);
  const attention = (query, key) => (key > query ? null : levels[query * n + key] / 65535);
  const seen = (token, other) => (state.from ? attention(token, other) : attention(other, token));

  const bar = element("div", "bar", "");
  const buttons = element("span", "buttons", "");
  const from = element("button", "", "what a token looks at");
  const to = element("button", "", "what looks at a token");
  buttons.append(from, to);
  bar.append(buttons, element("span", "", "Hover over a token; click to hold it, click again to let go."));
  const text = element("div", "text", "");
  text.dir = "auto";
  const says = element("div", "says", "");
  says.setAttribute("aria-live", "polite");
  const spans = tokens.map((token, i) => {
    const span = element("span", "token", token);
    span.tabIndex = 0;
    span.onmouseenter = span.onfocus = () => state.held === null && show(i);
    span.onclick = () => hold(i);
    span.onkeydown = (event) => {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); hold(i); }
      if (event.key === "ArrowRight") spans[Math.min(n - 1, i + 1)].focus();
      if (event.key === "ArrowLeft") spans[Math.max(0, i - 1)].focus();
    };
    return span;
  });
  spans.forEach((span, i) => {
    text.append(span);
    if (breaks.has(i)) text.append(document.createElement("br"));
  });
  root.replaceChildren(bar, text, says);

  function hold(i) {
    state.held = state.held === i ? null : i;
    show(i);
  }

  function turn(direction) {
    state.from = direction;
    show(state.shown ?? n - 1);
  }
  from.onclick = () => turn(true);
  to.onclick = () => turn(false);

  function show(i) {
    state.shown = i;
    from.setAttribute("aria-pressed", state.from);
    to.setAttribute("aria-pressed", !state.from);
    spans.forEach((span, j) => {
      const value = seen(i, j);
      const strength = value === null ? 0 : Math.sqrt(value); // the colour scale of the maps
      span.className = "token" + (j === i ? " cursor" : "") + (j === state.held ? " held" : "") + (value === null ? " off" : "");
      span.style.backgroundColor = value === null ? "" : `rgba(33, 102, 172, ${(0.85 * strength).toFixed(3)})`;
      span.style.color = strength > 0.62 ? "white" : "";
      span.title = value === null ? `${tokens[j]} (${j}): after it, so not seen` : `${tokens[j]} (${j}): ${value.toFixed(3)}`;
    });
    summarise(i);
  }

  function summarise(i) {
    const most = tokens.map((_, j) => [seen(i, j), j]).filter(([v]) => v !== null).sort((a, b) => b[0] - a[0]).slice(0, 5);
    says.replaceChildren();
    says.append(`${name}: `, element("b", "", tokens[i]), ` (${i}) `, state.from ? "looks most at  " : "is looked at most by  ");
    for (const [value, j] of most) {
      says.append(element("b", "", tokens[j]), ` (${j}) `, element("span", "value", value.toFixed(3)));
    }
  }

  show(Math.min(state.held ?? state.shown ?? n - 1, n - 1));
}
