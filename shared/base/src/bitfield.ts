/** A set of piece indexes 0 … size−1, one bit each, first piece in the highest bit of the first byte (BEP 3). */
export class Bitfield {
  readonly size: number;
  readonly bytes: Uint8Array;
  #count: number;

  /** `bytes` is copied; spare bits at the end are cleared. */
  constructor(size: number, bytes?: Uint8Array) {
    this.size = size;
    this.bytes = new Uint8Array(Math.ceil(size / 8));
    this.#count = 0;
    if (bytes === undefined) return;
    this.bytes.set(bytes.subarray(0, this.bytes.length));
    const spare = this.bytes.length * 8 - size;
    if (spare > 0) this.bytes[this.bytes.length - 1]! &= 0xff << spare;
    for (const byte of this.bytes) this.#count += popcount(byte);
  }

  static full(size: number): Bitfield {
    return new Bitfield(size, new Uint8Array(Math.ceil(size / 8)).fill(0xff));
  }

  get count(): number {
    return this.#count;
  }

  get complete(): boolean {
    return this.#count === this.size;
  }

  has(index: number): boolean {
    return index >= 0 && index < this.size && (this.bytes[index >> 3]! & (0x80 >> (index & 7))) !== 0;
  }

  /** Returns true if the bit was not set before. @throws {TypeError} when out of range */
  add(index: number): boolean {
    if (!Number.isInteger(index) || index < 0 || index >= this.size)
      throw new TypeError(`bit ${index} of ${this.size}`);
    if (this.has(index)) return false;
    this.bytes[index >> 3]! |= 0x80 >> (index & 7);
    this.#count += 1;
    return true;
  }

  /** Sets whatever is set in another of the same size. */
  addAll(other: Bitfield): void {
    for (const index of other) this.add(index);
  }

  delete(index: number): boolean {
    if (!this.has(index)) return false;
    this.bytes[index >> 3]! &= ~(0x80 >> (index & 7));
    this.#count -= 1;
    return true;
  }

  /** First index ≥ `from` that is not set, or −1. */
  nextMissing(from: number): number {
    for (let index = Math.max(0, from); index < this.size; index++) if (!this.has(index)) return index;
    return -1;
  }

  /** Whether both, of the same size, have an index that `but` has not. */
  meets(other: Bitfield, but?: Bitfield): boolean {
    const [ours, theirs, spared] = [this.bytes, other.bytes, but?.bytes];
    for (let at = 0; at < ours.length; at++)
      if ((ours[at]! & theirs[at]! & (spared === undefined ? 0xff : ~spared[at]!)) !== 0) return true;
    return false;
  }

  clone(): Bitfield {
    return new Bitfield(this.size, this.bytes);
  }

  *[Symbol.iterator](): Generator<number> {
    for (let index = 0; index < this.size; index++) if (this.has(index)) yield index;
  }

  /** Visits whatever is set, in order: as iterating does, many times as fast. */
  forEach(visit: (index: number) => void): void {
    for (let index = 0; index < this.size; index++) if (this.has(index)) visit(index);
  }
}

function popcount(byte: number): number {
  let count = 0;
  for (let rest = byte; rest !== 0; rest &= rest - 1) count += 1;
  return count;
}
