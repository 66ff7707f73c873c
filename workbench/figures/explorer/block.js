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

export const cells = (n) => (n * (n + 1)) / 2;
export const rowAt = (query) => (query * (query + 1)) / 2;

// One triangle of weights from its levels and the scales of its rows.
export function weights(levels, scale, n, first = 0, firstRow = 0) {
  const top = levels.BYTES_PER_ELEMENT === 2 ? 65535 : 255;
  const found = new Float32Array(cells(n));
  for (let query = 0, at = 0; query < n; query++) {
    const unit = scale[firstRow + query] / top;
    for (let key = 0; key <= query; key++, at++) found[at] = levels[first + at] * unit;
  }
  return found;
}
