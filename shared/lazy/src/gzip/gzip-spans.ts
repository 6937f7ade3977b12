import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import { CodedError } from '@sepia/base/errors';
import { SPAN_BOUNDS, type SpanBounds } from '../span-bounds.ts';
import { memberHeaderLength } from './gzip-member.ts';
import { Inflater } from './inflater.ts';

/** A place where decompression can begin, and what comes out from there to the next one. */
export interface GzipSpan {
  /** Bit of the compressed blob where a deflate block begins; at a member's start, the first bit after its header. */
  readonly compressedBit: number;
  /** Where its bytes begin in the uncompressed layer. */
  readonly offset: number;
  readonly length: number;
  /** SHA-256 of its bytes. */
  readonly sha256: Buffer;
  /**
   * What was before it, at most 32 KiB; bytes that nothing refers to are zero. Empty at a member's start.
   */
  readonly window: Buffer;
}

/** Takes what comes of a gzip blob, as it is read. */
export interface GzipSink {
  /** Uncompressed bytes in order; a view that holds only during the call. */
  output(bytes: Uint8Array): void;
  /** A span is complete: all its bytes have been told. */
  span(span: GzipSpan): void;
}

interface OpenSpan {
  readonly compressedBit: number;
  readonly offset: number;
  readonly window: Buffer;
  readonly isUsed: Uint8Array;
}

/**
 * Cuts a gzip blob of one or more members into spans (RFC 1952). Checks each member's CRC and length as it goes.
 *
 * A window is thinned: of the 32 KiB before a span only the bytes stay to which the span's matches refer, so that it
 * compresses well.
 */
export class GzipSpans {
  readonly #sink: GzipSink;
  readonly #options: SpanBounds;
  readonly #inflater: Inflater;
  #state: 'header' | 'body' | 'trailer' = 'header';
  #members = 0;
  #memberStart = 0;
  #isMemberStart = false;
  #crc = 0;
  #open: OpenSpan | undefined;
  #hash = createHash('sha256');

  constructor(sink: GzipSink, options: SpanBounds = SPAN_BOUNDS) {
    this.#sink = sink;
    this.#options = options;
    this.#inflater = new Inflater({
      output: (bytes) => this.#output(bytes),
      block: (bit, output) => this.#block(bit, output),
      reach: (output, distance, length) => this.#reach(output - distance, length),
    });
  }

  /** @throws {CodedError} `LAYER_INVALID`, `LAYER_NOT_LAZY` */
  push(chunk: Uint8Array): void {
    this.#inflater.feed(chunk);
    this.#run(false);
  }

  /** @throws {CodedError} `LAYER_INVALID`, `LAYER_NOT_LAZY` */
  end(): void {
    this.#inflater.finish();
    this.#run(true);
    this.#close();
  }

  #run(isEnd: boolean): void {
    for (;;) {
      const unread = this.#inflater.unread();
      if (this.#state === 'header') {
        if (isEnd && unread.length === 0 && this.#members > 0) return;
        const length = memberHeaderLength(unread);
        if (length === undefined && isEnd) this.#invalid('a member is cut short');
        if (length === undefined) return;
        this.#beginMember(length);
      } else if (this.#state === 'body') {
        this.#inflater.run();
        if (!this.#inflater.ended) return;
        this.#state = 'trailer';
      } else {
        if (unread.length < 8 && isEnd) this.#invalid('a member is cut short');
        if (unread.length < 8) return;
        this.#endMember(Buffer.from(unread.buffer, unread.byteOffset, 8));
      }
    }
  }

  #beginMember(headerLength: number): void {
    this.#inflater.skip(headerLength);
    this.#inflater.restart();
    this.#state = 'body';
    this.#members += 1;
    this.#memberStart = this.#inflater.output;
    this.#isMemberStart = true;
    this.#crc = 0;
  }

  #endMember(trailer: Buffer): void {
    const length = this.#inflater.output - this.#memberStart;
    if (trailer.readUInt32LE(0) !== this.#crc) this.#invalid('checksum of a member');
    if (trailer.readUInt32LE(4) !== length % 2 ** 32) this.#invalid('length of a member');
    this.#inflater.skip(8);
    this.#state = 'header';
  }

  #output(bytes: Uint8Array): void {
    this.#crc = crc32(bytes, this.#crc);
    this.#hash.update(bytes);
    this.#sink.output(bytes);
    this.#checkLength(this.#inflater.output, 0);
  }

  #block(bit: number, output: number): void {
    const isMemberStart = this.#isMemberStart;
    this.#isMemberStart = false;
    this.#checkLength(output, bit);
    const { spanBytes } = this.#options;
    const since = output - (this.#open?.offset ?? 0);
    const isDue = isMemberStart ? since >= spanBytes / 2 : since >= spanBytes;
    if (this.#open !== undefined && !isDue) return;
    this.#close();
    const window = isMemberStart ? Buffer.alloc(0) : this.#inflater.window();
    this.#open = { compressedBit: bit, offset: output, window, isUsed: new Uint8Array(window.length) };
    this.#inflater.watch();
  }

  #reach(from: number, length: number): void {
    const open = this.#open!;
    const start = from - (open.offset - open.window.length);
    open.isUsed.fill(1, start, Math.min(start + length, open.window.length));
  }

  #checkLength(output: number, bit: number): void {
    const open = this.#open;
    if (open === undefined) return;
    const { maxSpanBytes } = this.#options;
    if (output - open.offset > maxSpanBytes || (bit - open.compressedBit) / 8 > maxSpanBytes)
      throw new CodedError('LAYER_NOT_LAZY', {
        message: 'compressed blocks of this layer are too long to begin inside it; it is pulled whole',
        detail: { reason: 'gzip-block-too-long', offset: open.offset },
      });
  }

  #close(): void {
    const open = this.#open;
    const length = this.#inflater.output - (open?.offset ?? 0);
    if (open === undefined || length === 0) return;
    const { window, isUsed, compressedBit, offset } = open;
    for (let index = 0; index < window.length; index++) if (isUsed[index] === 0) window[index] = 0;
    const first = isUsed.indexOf(1);
    const kept = first < 0 ? Buffer.alloc(0) : window.subarray(first);
    this.#sink.span({ compressedBit, offset, length, sha256: this.#hash.digest(), window: kept });
    this.#hash = createHash('sha256');
    this.#open = undefined;
  }

  #invalid(what: string): never {
    throw new CodedError('LAYER_INVALID', { message: `gzip data is not valid: ${what}`, detail: {} });
  }
}
