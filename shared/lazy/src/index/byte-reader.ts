import { CodedError } from '@sepia/base/errors';
import type { ByteString } from '../tar/byte-string.ts';

/** Reads what a `ByteWriter` wrote. Every read is checked: bytes that end early or numbers that are too large are refused. */
export class ByteReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  get left(): number {
    return this.#bytes.length - this.#at;
  }

  byte(): number {
    if (this.left < 1) invalidIndex('it ends early');
    return this.#bytes[this.#at++]!;
  }

  /** @throws {CodedError} `INDEX_INVALID`, also for more than `max` */
  varint(max = Number.MAX_SAFE_INTEGER): number {
    let value = 0;
    for (let scale = 1; ; scale *= 128) {
      const byte = this.byte();
      value += (byte & 127) * scale;
      if (value > max) invalidIndex('a number is too large');
      if (byte < 128) return value;
      if (scale > 2 ** 49) invalidIndex('a number is too long');
    }
  }

  signed(): number {
    const value = this.varint();
    return value % 2 === 0 ? value / 2 : -(value + 1) / 2;
  }

  /** The next bytes, as a view. */
  raw(count: number): Buffer {
    if (count > this.left) invalidIndex('it ends early');
    this.#at += count;
    return this.#bytes.subarray(this.#at - count, this.#at);
  }

  /** The next bytes, as a byte string. */
  text(count: number): ByteString {
    if (count > this.left) invalidIndex('it ends early');
    this.#at += count;
    return this.#bytes.toString('latin1', this.#at - count, this.#at) as ByteString;
  }

  /** @throws {CodedError} `INDEX_INVALID` where bytes are left */
  end(): void {
    if (this.left !== 0) invalidIndex('bytes are left');
  }
}

/** Says what is wrong with an index. @throws {CodedError} `INDEX_INVALID`, always */
export function invalidIndex(what: string): never {
  throw new CodedError('INDEX_INVALID', {
    message: `layer index is not valid: ${what}; make it again`,
    detail: { found: what },
  });
}
