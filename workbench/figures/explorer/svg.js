// A sheet that is drawn on like a canvas and gives an SVG file: the part of the interface that the
// pictures use.

const CELLS = 128; // a picture of more cells across is embedded as pixels
const ANCHORS = { left: "start", center: "middle", right: "end" };
const LIFTS = { alphabetic: 0, middle: 0.35, bottom: -0.22 }; // of the letters' height
const START = {
  fillStyle: "#000",
  strokeStyle: "#000",
  lineWidth: 1,
  globalAlpha: 1,
  font: "10px sans-serif",
  textAlign: "left",
  textBaseline: "alphabetic",
  dash: "",
  clipped: "",
};

export class SvgSheet {
  constructor(paper) {
    Object.assign(this, START, { paper, style: {}, parts: [], kept: [], path: "", clips: 0 });
    this.turn = new DOMMatrix();
    this.ruler = document.createElement("canvas").getContext("2d");
  }

  // What a canvas and its context have; the sheet is both.
  getContext() {
    return this;
  }
  setTransform() {}
  clearRect() {}

  save() {
    const state = Object.fromEntries(Object.keys(START).map((name) => [name, this[name]]));
    this.kept.push({ ...state, turn: DOMMatrix.fromMatrix(this.turn) });
  }
  restore() {
    Object.assign(this, this.kept.pop());
  }
  translate(x, y) {
    this.turn.translateSelf(x, y);
  }
  rotate(angle) {
    this.turn.rotateSelf((angle * 180) / Math.PI);
  }
  setLineDash(lengths) {
    this.dash = lengths.join(" ");
  }
  measureText(text) {
    this.ruler.font = this.font;
    return this.ruler.measureText(text);
  }

  beginPath() {
    this.path = "";
  }
  moveTo(x, y) {
    this.path += `M${round(x)} ${round(y)}`;
  }
  lineTo(x, y) {
    this.path += `L${round(x)} ${round(y)}`;
  }
  bezierCurveTo(...points) {
    this.path += `C${points.map(round).join(" ")}`;
  }
  rect(x, y, width, height) {
    this.path += `M${round(x)} ${round(y)}h${round(width)}v${round(height)}h${round(-width)}z`;
  }
  // Whole circles only.
  arc(x, y, r) {
    const half = `a${round(r)} ${round(r)} 0 0 0`;
    this.path += `M${round(x - r)} ${round(y)}${half} ${round(2 * r)} 0${half} ${round(-2 * r)} 0z`;
  }
  clip() {
    const name = `clip${this.clips++}`;
    this.parts.push(`<clipPath id="${name}"><path d="${this.path}"/></clipPath>`);
    this.clipped = ` clip-path="url(#${name})"`;
  }
  fill() {
    this.add(`<path d="${this.path}" fill="${this.fillStyle}"/>`);
  }
  stroke() {
    this.add(`<path d="${this.path}" ${this.pen()}/>`);
  }
  fillRect(x, y, width, height) {
    this.add(`<rect ${box(x, y, width, height)} fill="${this.fillStyle}"/>`);
  }
  strokeRect(x, y, width, height) {
    this.add(`<rect ${box(x, y, width, height)} ${this.pen()}/>`);
  }

  fillText(text, x, y) {
    const size = parseFloat(/([\d.]+)px/.exec(this.font)[1]);
    const down = round(y + LIFTS[this.textBaseline] * size);
    this.add(
      `<text x="${round(x)}" y="${down}" fill="${this.fillStyle}" ` +
        `text-anchor="${ANCHORS[this.textAlign]}" ` +
        `style="font:${escaped(this.font)};white-space:pre">${escaped(text)}</text>`,
    );
  }

  // A picture of few cells becomes rectangles, which stay sharp in any program.
  drawImage(source, sx, sy, sw, sh, x, y, width, height) {
    const inside = `${box(x, y, width, height)} viewBox="${[sx, sy, sw, sh].join(" ")}"`;
    const cells =
      source.width <= CELLS
        ? cellsOf(source)
        : `<image width="${source.width}" height="${source.height}" ` +
          `style="image-rendering:pixelated" href="${source.toDataURL("image/png")}"/>`;
    this.add(`<svg ${inside} preserveAspectRatio="none">${cells}</svg>`);
  }

  pen() {
    const dash = this.dash && ` stroke-dasharray="${this.dash}"`;
    return `fill="none" stroke="${this.strokeStyle}" stroke-width="${this.lineWidth}"${dash}`;
  }

  add(part) {
    const { a, b, c, d, e, f } = this.turn;
    const turned = this.turn.isIdentity
      ? ""
      : ` transform="matrix(${[a, b, c, d, e, f].map((x) => x.toFixed(5)).join(" ")})"`;
    const faint = this.globalAlpha === 1 ? "" : ` opacity="${this.globalAlpha}"`;
    const inner = turned || faint ? `<g${turned}${faint}>${part}</g>` : part;
    this.parts.push(this.clipped ? `<g${this.clipped}>${inner}</g>` : inner);
  }

  text() {
    const size = `width="${this.width}" height="${this.height}"`;
    return (
      `<svg xmlns="http://www.w3.org/2000/svg" ${size} ` +
      `viewBox="0 0 ${this.width} ${this.height}"><rect ${size} fill="${this.paper}"/>` +
      `${this.parts.join("\n")}</svg>`
    );
  }
}

// Rectangles of one colour, each as long as its colour goes on in a row.
function cellsOf(source) {
  const { width, height } = source;
  const { data } = source.getContext("2d").getImageData(0, 0, width, height);
  const pixels = new Uint32Array(data.buffer);
  const parts = [];
  for (let row = 0; row < height; row++) {
    for (let from = 0, to; from < width; from = to) {
      const at = row * width + from;
      for (to = from + 1; to < width && pixels[row * width + to] === pixels[at]; to++);
      const [red, green, blue] = data.subarray(4 * at, 4 * at + 3);
      parts.push(`<rect ${box(from, row, to - from, 1)} fill="rgb(${red},${green},${blue})"/>`);
    }
  }
  return parts.join("");
}

const round = (x) => Number(x.toFixed(2));
const box = (x, y, width, height) =>
  `x="${round(x)}" y="${round(y)}" width="${round(width)}" height="${round(height)}"`;
const escaped = (text) =>
  text.replace(/[&<>"]/g, (letter) => `&#${letter.charCodeAt(0)};`);
