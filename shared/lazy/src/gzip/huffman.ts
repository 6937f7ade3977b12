/** Bits that the first look-up takes; longer codes go on in a second table. */
export const PRIMARY_BITS = 10;
const MAX_BITS = 15;
/** Marks an entry of the first table that leads to a second one. */
export const LINK = 0x8000_0000;

/**
 * Look-up tables of a canonical Huffman code (RFC 1951, 3.2.2), reused from block to block. An entry is
 * `symbol << 4 | length` of the code that the next bits begin with (least significant bit first), 0 where they begin
 * none; or {@link LINK} `| start << 4 | bits` of the second table.
 */
export class HuffmanTable {
  readonly entries: Int32Array;
  readonly #counts = new Uint16Array(MAX_BITS + 1);
  readonly #next = new Uint16Array(MAX_BITS + 2);

  constructor(maxSymbols: number) {
    // Second tables: each needs a code longer than the first look-up; no more than this can be there at once.
    this.entries = new Int32Array((1 << PRIMARY_BITS) + maxSymbols * (1 << (MAX_BITS - PRIMARY_BITS)));
  }

  /**
   * Builds the tables of the code lengths `lengths[from…from+count)`.
   * @param mayBeIncomplete a single code of one bit, or none, is accepted (distances, and literals as zlib does)
   * @returns false where the lengths make no prefix code
   */
  build(lengths: Uint8Array, from: number, count: number, mayBeIncomplete: boolean): boolean {
    const counts = this.#counts.fill(0);
    for (let symbol = 0; symbol < count; symbol++) counts[lengths[from + symbol]!]! += 1;
    counts[0] = 0;
    let left = 1;
    let longest = 0;
    for (let bits = 1; bits <= MAX_BITS; bits++) {
      left = (left << 1) - counts[bits]!;
      if (left < 0) return false;
      if (counts[bits]! > 0) longest = bits;
    }
    if (left > 0 && !(mayBeIncomplete && longest <= 1)) return false;
    let code = 0;
    for (let bits = 1; bits <= MAX_BITS; bits++) {
      code = (code + counts[bits - 1]!) << 1;
      this.#next[bits] = code;
    }
    this.entries.fill(0, 0, 1 << PRIMARY_BITS);
    this.#fill(lengths, from, count, longest);
    return true;
  }

  #fill(lengths: Uint8Array, from: number, count: number, longest: number): void {
    const entries = this.entries;
    const subBits = Math.max(0, longest - PRIMARY_BITS);
    let free = 1 << PRIMARY_BITS;
    for (let symbol = 0; symbol < count; symbol++) {
      const bits = lengths[from + symbol]!;
      if (bits === 0) continue;
      const code = reversed(this.#next[bits]!, bits);
      this.#next[bits]! += 1;
      const entry = (symbol << 4) | bits;
      if (bits <= PRIMARY_BITS) {
        for (let at = code; at < 1 << PRIMARY_BITS; at += 1 << bits) entries[at] = entry;
        continue;
      }
      const primary = code & ((1 << PRIMARY_BITS) - 1);
      if (entries[primary] === 0) {
        entries.fill(0, free, free + (1 << subBits));
        entries[primary] = LINK | (free << 4) | subBits;
        free += 1 << subBits;
      }
      const start = (entries[primary]! & ~LINK) >>> 4;
      for (let at = code >>> PRIMARY_BITS; at < 1 << subBits; at += 1 << (bits - PRIMARY_BITS))
        entries[start + at] = entry;
    }
  }
}

function reversed(code: number, bits: number): number {
  let result = 0;
  for (let index = 0; index < bits; index++) result |= ((code >>> index) & 1) << (bits - 1 - index);
  return result;
}
