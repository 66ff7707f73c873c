// What is shown, taken home: the picture as PNG or SVG, the numbers as CSV.

import { lastKey } from "./block.js";
import { blockOf } from "./store.js";
import { SvgSheet } from "./svg.js";
import { element } from "./text.js";

export function savePng(explorer) {
  const { canvas } = explorer.picture;
  const whole = document.createElement("canvas");
  [whole.width, whole.height] = [canvas.width, canvas.height];
  const context = whole.getContext("2d");
  context.fillStyle = explorer.theme.paper;
  context.fillRect(0, 0, whole.width, whole.height);
  context.drawImage(canvas, 0, 0);
  whole.toBlob((blob) => save(explorer, blob, "png"));
}

// The picture is drawn once more, on a sheet in place of its canvas.
export function saveSvg(explorer) {
  const { picture, theme } = explorer;
  const { canvas } = picture;
  const sheet = new SvgSheet(theme.paper);
  picture.canvas = sheet;
  try {
    explorer.drawHead(1);
  } finally {
    picture.canvas = canvas;
  }
  save(explorer, new Blob([sheet.text()], { type: "image/svg+xml" }), "svg");
}

export function saveCsv(explorer) {
  const { matrix, store } = explorer;
  const { tokens } = store.main;
  const quoted = (text) => `"${text.replaceAll('"', '""')}"`;
  const lines = ["query,key,query_token,key_token,weight"];
  for (let query = 0, at = 0; query < matrix.n; query++) {
    for (let key = 0; key <= lastKey(matrix, query); key++, at++) {
      const [q, k] = matrix.pooled
        ? [query, key].map((dot) => blockOf(dot, matrix.n, tokens.length)[0])
        : [query, key];
      lines.push(
        `${q},${k},${quoted(tokens[q])},${quoted(tokens[k])},${Number(matrix.values[at].toPrecision(6))}`,
      );
    }
  }
  save(explorer, new Blob([`${lines.join("\n")}\n`], { type: "text/csv" }), "csv");
}

function save(explorer, blob, ending) {
  const link = element("a");
  const name = `attention-${explorer.store.main.name}-${explorer.titles().title}`;
  link.href = URL.createObjectURL(blob);
  link.download = `${name.replace(/[^\w.-]+/g, "-")}.${ending}`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
