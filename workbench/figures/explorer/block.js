// The block of bytes that Python packs: a header and typed arrays. See payload.py for its form.

const KINDS = { u1: Uint8Array, u2: Uint16Array, f4: Float32Array };

export function openBlock(bytes) {
  // A copy, so that every part starts at a multiple of four, wherever the bytes came from.
  const whole = new Uint8Array(bytes).slice();
  const length = new DataView(whole.buffer).getUint32(0, true);
  const header = JSON.parse(new TextDecoder().decode(whole.subarray(4, 4 + length)));
  const part = (name) => {
    const place = header.parts[name];
    if (place === undefined) return null;
    const count = place.shape.reduce((product, size) => product * size, 1);
    return new KINDS[place.type](whole.buffer, 4 + length + place.at, count);
  };
  return { header, part, bytes: whole.length };
}

export async function unzip(base64) {
  const packed = Uint8Array.from(atob(base64.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// A causal head is a triangle, as no query sees a later key; any other head is a square. These ask
// anything with `n` and `square`: how many weights it has, where a row begins, and its last key.
export const cells = ({ n, square }) => (square ? n * n : (n * (n + 1)) / 2);
export const rowAt = ({ n, square }, query) => (square ? n * query : (query * (query + 1)) / 2);
export const lastKey = ({ n, square }, query) => (square ? n - 1 : query);

// One head's weights from their levels and the scales of its rows.
export function weights(levels, scale, shape, first = 0, firstRow = 0) {
  const top = levels.BYTES_PER_ELEMENT === 2 ? 65535 : 255;
  const found = new Float32Array(cells(shape));
  for (let query = 0, at = 0; query < shape.n; query++) {
    const unit = scale[firstRow + query] / top;
    for (let key = 0; key <= lastKey(shape, query); key++, at++)
      found[at] = levels[first + at] * unit;
  }
  return found;
}
