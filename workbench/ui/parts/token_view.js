// Text, token by token, coloured by a number that each token has; a click on one is told to the page.
// Text goes in by textContent only.

function element(tag, className, text) {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  return made;
}

export default function ({ data, parentElement, setTriggerValue }) {
  const root = parentElement.querySelector(".view");
  coloured(root, data, setTriggerValue);
}

function coloured(root, { tokens, shown, colours, titles, chosen }, setTriggerValue) {
  const text = element("div", "running", "");
  text.dir = "auto";
  const spans = tokens.map((token, i) => {
    const span = element("span", "piece" + (i === chosen ? " chosen" : ""), shown[i]);
    span.tabIndex = 0;
    span.setAttribute("role", "button");
    span.style.backgroundColor = colours[i] ?? "";
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
