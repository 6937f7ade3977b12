import type { OutEntry } from '../estargz/arrange.ts';
import { joined } from '../joined.ts';
import { type ByteString, byteStringOf, bytesOf, textOf } from '../tar/byte-string.ts';
import { encodeHeader, zerosAfter } from '../tar/encode-header.ts';
import { Crc64 } from './crc64.ts';

/** Longest part of what follows the last entry that is one segment. */
const MAX_SEGMENT_BYTES = 1024 * 1024;

/**
 * Writes the tar-split of a tar as its bytes go by (vbatts/tar-split, `tar/storage`): lines of JSON that hold all of a tar
 * but the content of its files, so that the tar can be put together again from an unpacked tree. One segment per header,
 * with the padding before it, then one file with its CRC-64; what follows the last entry is segments again.
 */
export class TarSplitWriter {
  readonly #entries: Iterator<OutEntry>;
  readonly #emit: (line: string) => void;
  /** What the next segment begins with. */
  #segment: Uint8Array[] = [];
  #segmentBytes = 0;
  #state: 'header' | 'payload' | 'padding' | 'trailer' = 'padding';
  #left = 0;
  #entry: OutEntry['entry'] | undefined;
  #crc = new Crc64();
  #position = 0;

  /** @param entries of the tar, in its order */
  constructor(entries: readonly OutEntry[], emit: (line: string) => void) {
    this.#entries = entries[Symbol.iterator]();
    this.#emit = emit;
    this.#next();
  }

  push(raw: Uint8Array): void {
    for (let at = 0; at < raw.length; ) {
      const room = this.#state === 'trailer' ? MAX_SEGMENT_BYTES - this.#segmentBytes : this.#left;
      const taken = raw.subarray(at, at + room);
      at += taken.length;
      if (this.#state === 'payload') this.#crc.update(taken);
      else this.#keep(taken);
      if (this.#state === 'trailer') {
        if (this.#segmentBytes === MAX_SEGMENT_BYTES) this.#endSegment();
        continue;
      }
      this.#left -= taken.length;
      if (this.#left === 0) this.#next();
    }
  }

  end(): void {
    if (this.#segmentBytes > 0) this.#endSegment();
  }

  /** Goes on to what comes next that has bytes. */
  #next(): void {
    do {
      if (this.#state === 'header') this.#endHeader();
      else if (this.#state === 'payload') this.#endPayload();
      else if (!this.#beginHeader()) return;
    } while (this.#left === 0);
  }

  #beginHeader(): boolean {
    const { value, done } = this.#entries.next();
    if (done === true) {
      this.#state = 'trailer';
      return false;
    }
    this.#entry = value.entry;
    this.#state = 'header';
    this.#left = value.isRaw
      ? value.entry.payloadOffset - value.entry.headerOffset
      : encodeHeader(value.entry).length;
    return true;
  }

  #endHeader(): void {
    this.#endSegment();
    const { name, size } = this.#entry!;
    if (size === 0) this.#file(name, 0, null);
    this.#state = size === 0 ? 'padding' : 'payload';
    this.#left = size;
  }

  #endPayload(): void {
    const { name, size } = this.#entry!;
    this.#file(name, size, this.#crc.digest().toString('base64'));
    this.#crc = new Crc64();
    this.#state = 'padding';
    this.#left = zerosAfter(size).length;
  }

  #keep(bytes: Uint8Array): void {
    this.#segment.push(Uint8Array.from(bytes));
    this.#segmentBytes += bytes.length;
  }

  #endSegment(): void {
    const payload = Buffer.from(joined(this.#segment)).toString('base64');
    this.#line({ type: 2, payload });
    this.#segment = [];
    this.#segmentBytes = 0;
  }

  #file(name: ByteString, size: number, payload: string | null): void {
    const text = textOf(name);
    const named =
      byteStringOf(text) === name ? { name: text } : { name_raw: bytesOf(name).toString('base64') };
    this.#line({ type: 1, ...named, ...(size === 0 ? {} : { size }), payload });
  }

  #line(fields: object): void {
    this.#emit(`${JSON.stringify({ ...fields, position: this.#position })}\n`);
    this.#position += 1;
  }
}
