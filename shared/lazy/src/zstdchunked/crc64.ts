/**
 * CRC-64 with the polynomial of ISO 3309, x⁶⁴ + x⁴ + x³ + x + 1, as Go's `hash/crc64` (table `ISO`) computes it: bits
 * reflected, all ones at the start and inverted at the end. tar-split has one of every file. The polynomial has so few
 * terms that 32 bits at a time need four shifts and no table.
 */
export class Crc64 {
  /** Coefficients of x³¹…x⁰ and x⁶³…x³², the highest power in the lowest bit. */
  #high = -1;
  #low = -1;

  update(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const whole = bytes.length - (bytes.length % 4);
    let high = this.#high;
    let low = this.#low;
    for (let at = 0; at < whole; at += 4) {
      const out = low ^ view.getInt32(at, true);
      low = high ^ (out << 31) ^ (out << 29) ^ (out << 28);
      high = out ^ (out >>> 1) ^ (out >>> 3) ^ (out >>> 4);
    }
    for (let at = whole; at < bytes.length; at += 1) {
      const out = (low ^ bytes[at]!) & 0xff;
      low = (low >>> 8) | (high << 24);
      high = (high >>> 8) ^ (out << 24) ^ (out << 23) ^ (out << 21) ^ (out << 20);
    }
    this.#high = high;
    this.#low = low;
  }

  /** Eight bytes, the highest first, of what was given so far. */
  digest(): Buffer {
    const sum = Buffer.alloc(8);
    sum.writeInt32BE(~this.#high, 0);
    sum.writeInt32BE(~this.#low, 4);
    return sum;
  }
}
