/** Shortest repetition; lengths of repetitions count from it. */
const LEAST_MATCH = 4;
/** A half of a token that says that more bytes of its length follow. */
const MORE = 15;

/**
 * Exactly `sizeBytes` of an LZ4 block (no frame), or what is wrong with it. Nothing is written behind them, whatever the
 * block says. Source: lz4/lz4, `doc/lz4_Block_format.md`.
 */
export function inflateLz4(packed: Uint8Array, sizeBytes: number): Buffer | string {
  const raw = Buffer.alloc(sizeBytes);
  let [at, end] = [0, 0];
  const lengthOf = (half: number): number => {
    let length = half;
    for (let byte = half === MORE ? 255 : 0; byte === 255; length += byte) byte = packed[at++] ?? Number.NaN;
    return length;
  };
  while (at < packed.length) {
    const token = packed[at++]!;
    const literals = lengthOf(token >> 4);
    // A length that was cut off is no number, and fits nowhere.
    if (!(at + literals <= packed.length && end + literals <= sizeBytes)) return 'is no LZ4 block';
    raw.set(packed.subarray(at, at + literals), end);
    at += literals;
    end += literals;
    if (at === packed.length) return end === sizeBytes ? raw : `has ${end} bytes, ${sizeBytes} are said`;
    const distance = packed[at]! | ((packed[at + 1] ?? 0) << 8);
    at += 2;
    const length = lengthOf(token & MORE) + LEAST_MATCH;
    if (distance === 0 || distance > end || !(end + length <= sizeBytes)) return 'is no LZ4 block';
    // What is repeated may reach into what it makes.
    const start = end - distance;
    for (let left = length; left > 0; ) {
      const step = Math.min(end - start, left);
      raw.copyWithin(end, start, start + step);
      end += step;
      left -= step;
    }
  }
  return 'is no LZ4 block';
}
