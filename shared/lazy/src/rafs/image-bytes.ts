import { invalid } from './format.ts';

/** Bytes of a bootstrap, read anywhere. What lies outside of it is named; nothing is read more often than it is long. */
export class ImageBytes {
  readonly #bytes: Buffer;
  #left: number;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
    this.#left = bytes.length;
  }

  get length(): number {
    return this.#bytes.length;
  }

  u8(at: number): number {
    return this.#within(at, 1).readUInt8(at);
  }

  u16(at: number): number {
    return this.#within(at, 2).readUInt16LE(at);
  }

  u32(at: number): number {
    return this.#within(at, 4).readUInt32LE(at);
  }

  /** @throws {CodedError} `LAYER_INVALID` for what 53 bits do not hold */
  u64(at: number): number {
    const value = this.u32(at) + this.u32(at + 4) * 2 ** 32;
    if (!Number.isSafeInteger(value)) throw invalid('a number is too large', at);
    return value;
  }

  i64(at: number): number {
    const value = Number(this.#within(at, 8).readBigInt64LE(at));
    if (!Number.isSafeInteger(value)) throw invalid('a number is too large', at);
    return value;
  }

  /** A view of what is there. */
  slice(at: number, length: number): Buffer {
    return this.#within(at, length).subarray(at, at + length);
  }

  /**
   * As {@link slice}, for what belongs to one inode alone: parts that lie over each other are more than the image holds, so
   * a small image cannot become a large tree.
   */
  own(at: number, length: number): Buffer {
    this.#left -= length;
    if (this.#left < 0) throw invalid('its inodes hold more than it is long', at);
    return this.slice(at, length);
  }

  /** True where all bytes are zero. */
  isZero(at: number, length: number): boolean {
    return this.slice(at, length).every((byte) => byte === 0);
  }

  #within(at: number, length: number): Buffer {
    if (at < 0 || length < 0 || at + length > this.#bytes.length)
      throw invalid(`it ends at ${this.#bytes.length}, but more is said to be there`, at);
    return this.#bytes;
  }
}
